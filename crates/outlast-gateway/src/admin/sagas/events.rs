//! The transitions of a saga as server-sent events, as they happen.
//!
//! An event is one entry of the log; its id is the entry's number, and whoever comes back with
//! `Last-Event-ID` is told what came after it. The last one is called `end`: the saga has ended, or waits
//! for somebody. The runner says when there is something new, and only that is read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State as Extract};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use outlast_saga::store::{State as At, Store};
use outlast_saga::{ControlError, Runner};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{none, not_done, steps, stopped, view};
use crate::State;
use crate::store::Chosen;

pub(super) async fn stream(
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(sagas) = &state.sagas else {
        return none();
    };
    let last = headers.get("last-event-id");
    let last = last.and_then(|last| last.to_str().ok()?.parse::<u64>().ok());
    let next = last.map_or(0, |last| last.saturating_add(1));
    let (sender, receiver) = mpsc::channel(BUFFERED);
    let runner = sagas.runner.clone();
    let begun = sagas.run(async move {
        // Of one without its log, only the end is told.
        let names = steps(&runner, &id).await?.unwrap_or_default();
        begin(runner, id, names, next, sender);
        Ok::<_, ControlError>(())
    });
    match begun.await {
        None => stopped(),
        Some(Err(error)) => not_done(&error),
        Some(Ok(())) => {
            let fields = [
                (header::CONTENT_TYPE, "text/event-stream"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (fields, Body::new(Events(receiver))).into_response()
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "who watches a saga is told beside everything else"
)]
fn begin(
    runner: Runner<Chosen>,
    id: String,
    names: Vec<String>,
    next: u64,
    sender: mpsc::Sender<Bytes>,
) {
    tokio::spawn(tell(runner, id, names, next, sender));
}

/// Tells until it has ended, or nobody listens any more.
async fn tell(
    runner: Runner<Chosen>,
    id: String,
    names: Vec<String>,
    mut next: u64,
    sender: mpsc::Sender<Bytes>,
) {
    let mut told = Instant::now();
    let mut watched = watch(&runner, &id).await;
    loop {
        // The state first: what it says is on the log then.
        let found = runner.store().find(&id).await;
        let log = match found {
            Ok(_) => runner.store().log_from(&id, next, MOST_AT_ONCE).await,
            Err(_) => Ok(Vec::new()),
        };
        let log = log.unwrap_or_default();
        let mut text = String::new();
        for record in &log {
            let data = view::record(record, &names);
            text.push_str(&format!("id: {}\ndata: {data}\n\n", record.seq));
            next = record.seq + 1;
        }
        let is_all = log.len() < MOST_AT_ONCE;
        let at = found.as_ref().ok().and_then(Option::as_ref);
        let has_log = at.is_none_or(|listed| listed.has_log);
        // A store that fails says nothing of where it is.
        let state = found.map(|listed| listed.map(|listed| listed.state));
        let rests = is_all && state.as_ref().is_ok_and(|state| *state != Some(At::Open));
        if rests {
            let mut data = json!({ "state": state.ok().flatten().map(At::name) });
            if !has_log {
                data["log_dropped"] = json!(true);
                data["note"] = json!(view::NO_LOG);
            }
            text.push_str(&format!("event: end\ndata: {data}\n\n"));
        } else if text.is_empty() && told.elapsed() >= QUIET {
            text.push_str(": it goes on\n\n");
        }
        if !text.is_empty() {
            told = Instant::now();
            if sender.send(text.into()).await.is_err() {
                return;
            }
        }
        if rests || sender.is_closed() {
            return;
        }
        if is_all {
            let turn = wait(&mut watched, told + QUIET);
            tokio::select! {
                () = turn => {}
                () = sender.closed() => return,
            }
            if watched.is_none() {
                watched = watch(&runner, &id).await;
            }
        }
    }
}

/// What tells of new records; `None` if nobody here does, or not in time.
async fn watch(runner: &Runner<Chosen>, id: &str) -> Option<mpsc::Receiver<()>> {
    let watched = tokio::time::timeout(LOOK, runner.watch(id)).await;
    watched.ok().flatten()
}

/// Until there may be something new, or something has to be said.
#[expect(
    clippy::disallowed_methods,
    reason = "one that goes on elsewhere is looked at from time to time"
)]
async fn wait(watched: &mut Option<mpsc::Receiver<()>>, until: Instant) {
    let Some(tells) = watched else {
        return tokio::time::sleep(LOOK).await;
    };
    let told = tokio::time::timeout_at(until, tells.recv()).await;
    if told == Ok(None) {
        *watched = None;
    }
}

/// What is told, as a body.
struct Events(mpsc::Receiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = self.0.poll_recv(cx);
        polled.map(|text| text.map(|text| Ok(Frame::data(text))))
    }
}

/// One that goes on elsewhere, or nowhere, is looked at so often.
const LOOK: Duration = Duration::from_secs(1);
/// Records that are read at once.
const MOST_AT_ONCE: usize = 256;
/// Proxies close what is silent for a minute.
const QUIET: Duration = Duration::from_secs(15);
const BUFFERED: usize = 4;
