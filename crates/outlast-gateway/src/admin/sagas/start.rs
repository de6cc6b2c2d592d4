//! Starting a saga: once for one id, however often it is asked for.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use outlast_saga::store::{State as At, Store};
use outlast_saga::{StartError, Started};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{none, of_store, stopped, unread, view};
use crate::State;
use crate::admin::refuse;
use crate::worker::Phase;

/// What is behind the `?` of a start.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    id: Option<String>,
    wait: Option<String>,
}

pub(super) async fn start(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
    query: Result<Query<Start>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Some(sagas) = &state.sagas else {
        return none();
    };
    let (start, body) = match (query, body) {
        (Ok(Query(start)), Ok(body)) => (start, body),
        (Err(error), _) => return refuse(StatusCode::BAD_REQUEST, &error.body_text()),
        (_, Err(error)) => {
            let (status, detail) = unread(&error);
            return refuse(status, &detail);
        }
    };
    if *state.phases.borrow() != Phase::Serving {
        let detail = "the gateway drains: start it at another one, or again in a moment";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, detail);
    }
    let read = read(&start, &headers, &body);
    let (id, wait, input) = match read {
        Ok(read) => read,
        Err(detail) => return refuse(StatusCode::BAD_REQUEST, &detail),
    };
    let (runner, own) = (sagas.runner.clone(), id.clone());
    let started = sagas.run(async move {
        let started = runner.start(&name, &own, input).await?;
        if let Some(wait) = wait {
            // Whoever waits for less than it takes is told that it goes on.
            let _ = tokio::time::timeout(wait, runner.rests(&own)).await;
        }
        let at = runner.store().find(&own).await.map_err(StartError::Store)?;
        Ok((started, at.map_or(At::Open, |listed| listed.state)))
    });
    let Some(started) = started.await else {
        return stopped();
    };
    let (started, at) = match started {
        Ok(started) => started,
        Err(error) => return not_started(&error),
    };
    let location = format!("/sagas/{id}");
    let ended = matches!(at, At::Completed | At::Compensated);
    let status = if ended {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let body = json!({
        "id": id,
        "state": at.name(),
        "new": started == Started::New,
    });
    (status, [(header::LOCATION, location)], Json(body)).into_response()
}

/// Id, wait and input of a start; an error says what to send.
fn read(
    start: &Start,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(String, Option<Duration>, Value), String> {
    let key = headers.get("idempotency-key");
    let key = key.map(|key| key.to_str().map_err(|_| ID.to_owned()));
    let id = match (&start.id, key.transpose()?) {
        (Some(id), Some(key)) if id != key => {
            return Err(
                "`id` and Idempotency-Key are two names for one thing: send one".to_owned(),
            );
        }
        (Some(id), _) => id.clone(),
        (None, Some(key)) => key.to_owned(),
        (None, None) => view::new_id(),
    };
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let is_dots = id.bytes().all(|byte| byte == b'.');
    if id.is_empty() || id.len() > 200 || !id.bytes().all(fine) || is_dots {
        return Err(ID.to_owned());
    }
    if id == "definitions" {
        return Err("no saga is called `definitions`: its path leads elsewhere".to_owned());
    }
    let wait = start.wait.as_deref().map(outlast_config::duration);
    let wait = wait.transpose().map_err(|mend| format!("wait: {mend}"))?;
    if wait.is_some_and(|wait| wait > LONGEST_WAIT) {
        return Err("`wait` is at most `60s`; look at it with GET after that".to_owned());
    }
    if body.is_empty() {
        return Ok((id, wait, Value::Null));
    }
    let input = serde_json::from_slice(body);
    let input = input.map_err(|error| format!("the input is no JSON: {error}"))?;
    Ok((id, wait, input))
}

fn not_started(error: &StartError) -> Response {
    let status = match error {
        StartError::NoFlow { .. } => StatusCode::NOT_FOUND,
        StartError::Busy => StatusCode::TOO_MANY_REQUESTS,
        StartError::Input(_) => StatusCode::BAD_REQUEST,
        StartError::Other => StatusCode::CONFLICT,
        StartError::Store(error) => of_store(error),
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut refused = refuse(status, &error.to_string());
    if status == StatusCode::TOO_MANY_REQUESTS {
        let soon = header::HeaderValue::from_static("1");
        refused.headers_mut().insert(header::RETRY_AFTER, soon);
    }
    refused
}

const ID: &str =
    "an id has 1 to 200 letters, digits, `-`, `_`, `.` and `:`: it is part of keys and paths";
/// Connections of callers are not held for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
