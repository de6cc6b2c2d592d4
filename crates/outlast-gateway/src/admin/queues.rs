//! What operators do with queues: look, and help dead letters.
//!
//! All of it needs the token, if there is one: requests are business of the caller's, and none of
//! everybody's.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use outlast_saga::Stamp;
use outlast_saga::queue::store::Store;
use outlast_saga::queue::{Hand, HandError, Kept, Note, State as At};
use outlast_saga::store::StoreError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{refuse, time};
use crate::State;
use crate::attempt::wall;
use crate::queues::{Came, Line, Queues};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/queues", get(all))
        .route("/queues/{name}", get(list))
        .route("/queues/{name}/{id}", get(show))
        .route("/queues/{name}/{id}/retry", post(retry))
        .route("/queues/{name}/{id}/discard", post(discard))
}

async fn all(Extract(state): Extract<Arc<State>>) -> Response {
    let lines = state.shared.queues.iter().flat_map(|queues| &queues.lines);
    let told: Vec<_> = lines.map(|line| of_line(line, &state)).collect();
    Json(json!({ "queues": told })).into_response()
}

/// How a queue is doing.
fn of_line(line: &Line, state: &State) -> Value {
    let stats = line.queue.stats();
    let table = state.tables.borrow();
    let upstream = line.plan.upstream.as_deref();
    let known = upstream.and_then(|name| table.upstream_named(name));
    let state = match known {
        None => "no_upstream",
        Some(upstream) if upstream.policies.is_settled() => "open",
        Some(upstream) if upstream.policies.is_willing() => "trial",
        Some(_) => "closed",
    };
    let attempts = Came::ALL.into_iter().zip(line.counts.attempts());
    let attempts = attempts.map(|(came, count)| (came.name().to_owned(), json!(count)));
    json!({
        "queue": line.plan.name,
        "upstream": upstream,
        "gate": state,
        "waiting": stats.waiting,
        "busy": stats.busy,
        "dead": stats.dead,
        "bytes": stats.bytes,
        "oldest": stats.oldest.map(time),
        "oldest_seconds": stats.oldest.map(age),
        "pace": stats.pace,
        "pushed": stats.totals.pushed,
        "delivered": stats.totals.delivered,
        "died": stats.totals.died,
        "attempts": Value::Object(attempts.collect()),
    })
}

/// How many seconds ago that was.
pub(crate) fn age(stamp: Stamp) -> f64 {
    let now = wall().duration_since(std::time::UNIX_EPOCH);
    let then = std::time::Duration::from_millis(stamp.0);
    now.unwrap_or_default().saturating_sub(then).as_secs_f64()
}

/// What is behind the `?` of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    state: Option<String>,
    #[serde(default)]
    after: i64,
    limit: Option<usize>,
}

async fn list(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Response {
    let filter = match query {
        Ok(Query(filter)) => filter,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let all = [At::Waiting, At::Dead, At::Delivered, At::Dropped];
    let named = |name: &String| all.into_iter().find(|state| state.name() == name);
    let wanted = filter.state.as_ref().map(named);
    if wanted == Some(None) {
        let detail = "`state` is `waiting`, `dead`, `delivered` or `dropped`";
        return refuse(StatusCode::BAD_REQUEST, detail);
    }
    let limit = filter.limit.unwrap_or(100);
    if !(1..=MOST_LISTED).contains(&limit) {
        let detail = format!("`limit` lies between 1 and {MOST_LISTED}");
        return refuse(StatusCode::BAD_REQUEST, &detail);
    }
    with(&state, &name, move |line| async move {
        let found = line.queue.messages(wanted.flatten(), filter.after, limit);
        let found = found.await.map_err(HandError::Store)?;
        let next = found.last().filter(|_| found.len() == limit);
        let next = next.map(|kept| kept.place);
        let told: Vec<_> = found.iter().map(of_kept).collect();
        Ok(json!({ "queue": line.plan.name, "messages": told, "next": next }))
    })
    .await
}

async fn show(
    Extract(state): Extract<Arc<State>>,
    Path((name, id)): Path<(String, String)>,
) -> Response {
    with(&state, &name, move |line| async move {
        let kept = line.queue.find(&id).await.map_err(HandError::Store)?;
        let kept = kept.ok_or(HandError::NoMessage)?;
        let read = line.queue.store().read(kept.place).await;
        let payload = read.map_err(HandError::Store)?.map(|(_, payload)| payload);
        let mut told = of_kept(&kept);
        told["queue"] = json!(line.plan.name);
        told["upstream"] = json!(line.plan.upstream);
        told["request"] = json!(payload.as_deref().and_then(request_line));
        told["notes"] = kept.notes.iter().map(of_note).collect();
        Ok(told)
    })
    .await
}

/// Method and path of a request as it is kept; `None` if it is not any more.
fn request_line(payload: &[u8]) -> Option<String> {
    let kept = crate::queues::keep::Kept::read(payload)?;
    Some(format!("{} {}", kept.method, kept.path))
}

fn of_kept(kept: &Kept) -> Value {
    let due = (kept.state == At::Waiting).then(|| time(kept.due));
    json!({
        "id": kept.id,
        "place": kept.place,
        "key": kept.key,
        "status": kept.state.name(),
        "bytes": kept.size,
        "queued": time(kept.pushed),
        "expires": time(kept.expires),
        "attempts": kept.attempts,
        "due": due,
        "error": kept.error,
        "ended": kept.ended.map(time),
    })
}

fn of_note(note: &Note) -> Value {
    let how = match note.how {
        Hand::Retry => "retry",
        Hand::Drop => "discard",
    };
    json!({ "at": time(note.at), "how": how, "by": note.by, "reason": note.reason })
}

/// Who does something about a dead letter, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct By {
    by: String,
    reason: String,
}

async fn retry(state: Extract<Arc<State>>, place: Path<(String, String)>, body: Bytes) -> Response {
    handle(state, place, body, Hand::Retry).await
}

async fn discard(
    state: Extract<Arc<State>>,
    place: Path<(String, String)>,
    body: Bytes,
) -> Response {
    handle(state, place, body, Hand::Drop).await
}

async fn handle(
    Extract(state): Extract<Arc<State>>,
    Path((name, id)): Path<(String, String)>,
    body: Bytes,
    how: Hand,
) -> Response {
    let by: By = match serde_json::from_slice(&body) {
        Ok(by) => by,
        Err(error) => {
            let detail = format!("{error}; send {{\"by\": WHO, \"reason\": WHY}}");
            return refuse(StatusCode::BAD_REQUEST, &detail);
        }
    };
    with(&state, &name, move |line| async move {
        match how {
            Hand::Retry => line.queue.retry(&id, &by.by, &by.reason).await?,
            Hand::Drop => line.queue.discard(&id, &by.by, &by.reason).await?,
        }
        Ok(json!({ "queue": line.plan.name, "id": id }))
    })
    .await
}

/// Answers with what is found out where queues are delivered.
async fn with<F>(state: &State, name: &str, work: impl FnOnce(Arc<Line>) -> F) -> Response
where
    F: Future<Output = Result<Value, HandError>> + Send + 'static,
{
    let Some(queues) = &state.shared.queues else {
        return refuse(StatusCode::NOT_FOUND, "the policy file has no `queues`");
    };
    let Some(line) = queues.named(name) else {
        return refuse(StatusCode::NOT_FOUND, &unknown(queues, name));
    };
    match queues.run_there(work(Arc::clone(line))).await {
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway stops"),
        Some(Ok(found)) => Json(found).into_response(),
        Some(Err(error)) => refuse(status_of(&error), &error.to_string()),
    }
}

fn unknown(queues: &Queues, name: &str) -> String {
    let names: Vec<_> = queues
        .lines
        .iter()
        .map(|line| line.plan.name.as_str())
        .collect();
    format!(
        "there is no queue `{name}`; there are: {}",
        names.join(", ")
    )
}

fn status_of(error: &HandError) -> StatusCode {
    match error {
        HandError::NoMessage => StatusCode::NOT_FOUND,
        HandError::NotDead(_) => StatusCode::CONFLICT,
        HandError::Note => StatusCode::BAD_REQUEST,
        HandError::Store(StoreError::Full(_)) => StatusCode::INSUFFICIENT_STORAGE,
        HandError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const MOST_LISTED: usize = 1000;
