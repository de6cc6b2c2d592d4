//! What callers and operators do with sagas: start, look, and help.
//!
//! All of it needs the token, if there is one: inputs are business of the caller's, and none of everybody's.

mod definitions;
mod events;
mod start;
mod view;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use outlast_saga::store::{State as At, Store, StoreError};
use outlast_saga::{ControlError, Hand, Runner};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use self::view::{new_id, time};
use super::refuse;
use crate::State;
use crate::store::Chosen;

pub(super) fn routes(state: &State) -> Router<Arc<State>> {
    let most = state.sagas.as_ref().map_or(0, |sagas| sagas.plan().bytes);
    Router::new()
        .route("/sagas", get(list))
        .route("/sagas/{name}", post(start::start).get(show))
        .route("/sagas/definitions", get(definitions::list))
        .route("/sagas/definitions/{name}/pause", post(definitions::pause))
        .route(
            "/sagas/definitions/{name}/resume",
            post(definitions::resume),
        )
        .route("/sagas/{id}/log", get(log))
        .route("/sagas/{id}/events", get(events::stream))
        .route("/sagas/{id}/cancel", post(cancel))
        .route("/sagas/{id}/retry", post(retry))
        .route("/sagas/{id}/skip", post(skip))
        .route("/sagas/{id}/resolve", post(resolve))
        .layer(DefaultBodyLimit::max(most))
}

fn of_store(error: &StoreError) -> StatusCode {
    match error {
        StoreError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn not_done(error: &ControlError) -> Response {
    let status = match error {
        ControlError::NoSaga | ControlError::NoStep | ControlError::NoDefinition { .. } => {
            StatusCode::NOT_FOUND
        }
        ControlError::Blocked
        | ControlError::Elsewhere { .. }
        | ControlError::LogDropped
        | ControlError::Illegal(_) => StatusCode::CONFLICT,
        ControlError::Slow { store } => match store {
            Some(error) => of_store(error),
            None => StatusCode::SERVICE_UNAVAILABLE,
        },
        ControlError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        ControlError::Store(error) => of_store(error),
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refuse(status, &error.to_string())
}

async fn show(Extract(state): Extract<Arc<State>>, Path(id): Path<String>) -> Response {
    with(&state, |runner| async move {
        let log = runner.store().log(&id).await.map_err(ControlError::Store)?;
        match runner.look(&id).await {
            Ok((listed, saga)) => Ok(view::saga(&listed, &saga, &log)),
            Err(why @ (ControlError::Blocked | ControlError::LogDropped)) => {
                let listed = runner.store().find(&id).await;
                let listed = listed.map_err(ControlError::Store)?;
                let listed = listed.ok_or(ControlError::NoSaga)?;
                Ok(match why {
                    ControlError::LogDropped => view::without_log(&listed),
                    _ => view::blocked(&listed),
                })
            }
            Err(error) => Err(error),
        }
    })
    .await
}

async fn log(Extract(state): Extract<Arc<State>>, Path(id): Path<String>) -> Response {
    with(&state, |runner| async move {
        let log = runner.store().log(&id).await.map_err(ControlError::Store)?;
        let Some(steps) = steps(&runner, &id).await? else {
            let told =
                json!({ "id": id, "records": [], "log_dropped": true, "note": view::NO_LOG });
            return Ok(told);
        };
        let records: Vec<_> = log
            .iter()
            .map(|record| view::record(record, &steps))
            .collect();
        Ok(json!({ "id": id, "records": records }))
    })
    .await
}

/// The names of a saga's steps, which are empty if its definition is not there; `None` if its log is not.
async fn steps<S: Store>(
    runner: &Runner<S>,
    id: &str,
) -> Result<Option<Vec<String>>, ControlError> {
    match runner.look(id).await {
        Ok((_, saga)) => {
            let names = saga.definition().steps();
            Ok(Some(names.map(|step| step.name().to_owned()).collect()))
        }
        Err(ControlError::Blocked) => Ok(Some(Vec::new())),
        Err(ControlError::LogDropped) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is behind the `?` of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    state: Option<String>,
    definition: Option<String>,
    #[serde(default)]
    after: i64,
    limit: Option<usize>,
}

async fn list(
    Extract(state): Extract<Arc<State>>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Response {
    let filter = match query {
        Ok(Query(filter)) => filter,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let all = [At::Open, At::Waiting, At::Completed, At::Compensated];
    let named = |name: &String| all.into_iter().find(|state| state.name() == name);
    let wanted = filter.state.as_ref().map(named);
    if wanted == Some(None) {
        let detail = "`state` is `open`, `waiting`, `completed` or `compensated`";
        return refuse(StatusCode::BAD_REQUEST, detail);
    }
    let limit = filter.limit.unwrap_or(100);
    if !(1..=MOST_LISTED).contains(&limit) {
        let detail = format!("`limit` lies between 1 and {MOST_LISTED}");
        return refuse(StatusCode::BAD_REQUEST, &detail);
    }
    with(&state, move |runner| async move {
        let (mut after, mut found, mut looked) = (filter.after, Vec::new(), 0);
        let mut next = None;
        loop {
            let page = runner.store().list(wanted.flatten(), after, PAGE).await;
            let page = page.map_err(ControlError::Store)?;
            let is_last = page.len() < PAGE;
            looked += page.len();
            for listed in page {
                after = listed.place;
                let is_it = |name: &String| *name == listed.definition;
                if filter.definition.as_ref().is_none_or(is_it) {
                    found.push(view::listed(&listed));
                }
                if found.len() == limit {
                    next = Some(after);
                    break;
                }
            }
            if next.is_some() || is_last {
                break;
            }
            if looked >= MOST_LOOKED_AT {
                next = Some(after);
                break;
            }
        }
        Ok(json!({ "sagas": found, "next": next }))
    })
    .await
}

/// Who does something about a saga, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct By {
    by: String,
    reason: String,
    step: Option<String>,
    /// What the step gave, if it is skipped or resolved.
    output: Option<Value>,
}

async fn cancel(
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    body: Sent,
) -> Response {
    let by = match by(body, None) {
        Ok(by) => by,
        Err((status, detail)) => return refuse(status, &detail),
    };
    with(&state, |runner| async move {
        runner.cancel(&id, &by.by, &by.reason).await?;
        Ok(json!({ "id": id }))
    })
    .await
}

async fn retry(state: Extract<Arc<State>>, id: Path<String>, body: Sent) -> Response {
    handle(state, id, body, Hand::Retry).await
}

async fn skip(state: Extract<Arc<State>>, id: Path<String>, body: Sent) -> Response {
    handle(state, id, body, Hand::Skip).await
}

async fn resolve(state: Extract<Arc<State>>, id: Path<String>, body: Sent) -> Response {
    handle(state, id, body, Hand::Resolve).await
}

async fn handle(
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    body: Sent,
    how: Hand,
) -> Response {
    let by = match by(body, Some(how)) {
        Ok(by) => by,
        Err((status, detail)) => return refuse(status, &detail),
    };
    with(&state, move |runner| async move {
        let step = by.step.unwrap_or_default();
        let handled = runner.handle_giving(&id, &step, how, by.output, &by.by, &by.reason);
        handled.await?;
        Ok(json!({ "id": id, "step": step }))
    })
    .await
}

/// A body, or why there is none.
type Sent = Result<Bytes, BytesRejection>;

/// Why there is no body, and what to do about it.
fn unread(error: &BytesRejection) -> (StatusCode, String) {
    let status = error.status();
    let detail = match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            "more than `sagas.bytes` of the policy file: send where it is kept, or raise it"
                .to_owned()
        }
        _ => error.body_text(),
    };
    (status, detail)
}

/// What is sent with a hand, or with a cancel; an error says what to send.
fn by(body: Sent, how: Option<Hand>) -> Result<By, (StatusCode, String)> {
    let body = body.map_err(|error| unread(&error))?;
    let (has_step, gives) = (how.is_some(), how.is_some_and(|how| how != Hand::Retry));
    let step = if has_step { ", \"step\": NAME" } else { "" };
    let wrong = |what: &str| {
        let detail = format!("{what}; send {{\"by\": WHO, \"reason\": WHY{step}}}");
        (StatusCode::BAD_REQUEST, detail)
    };
    let by: By = serde_json::from_slice(&body).map_err(|error| wrong(&error.to_string()))?;
    if by.by.trim().is_empty() || by.reason.trim().is_empty() {
        return Err(wrong("who does it and why stays on the log"));
    }
    if by.step.is_some() != has_step {
        return Err(wrong("a step is named, or none is"));
    }
    if by.output.is_some() && !gives {
        return Err(wrong("an output goes with skip and resolve"));
    }
    Ok(by)
}

fn none() -> Response {
    refuse(StatusCode::NOT_FOUND, "the policy file has no `sagas`")
}

fn stopped() -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway stops")
}

/// Answers with what is found out where sagas go on.
async fn with<F>(state: &State, work: impl FnOnce(Runner<Chosen>) -> F) -> Response
where
    F: Future<Output = Result<Value, ControlError>> + Send + 'static,
{
    let Some(sagas) = &state.sagas else {
        return none();
    };
    match sagas.run(work(sagas.runner.clone())).await {
        None => stopped(),
        Some(Ok(found)) => Json(found).into_response(),
        Some(Err(error)) => not_done(&error),
    }
}

const PAGE: usize = 500;
const MOST_LISTED: usize = 1000;
/// A list that few sagas fit is given in parts, so that nobody waits for it.
const MOST_LOOKED_AT: usize = 20_000;
