//! The transitions of a saga as server-sent events, as they happen.
//!
//! An event is one entry of the log; its id is the entry's number, and whoever comes back with
//! `Last-Event-ID` is told what came after it. The last one is called `end`: the saga has ended, or waits
//! for somebody.

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
    let next = last.map_or(0, |last| last + 1);
    let (sender, receiver) = mpsc::channel(BUFFERED);
    let runner = sagas.runner.clone();
    let begun = sagas.run(async move {
        let names = steps(&runner, &id).await?;
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
    let mut look = tokio::time::interval(LOOK);
    let mut told = Instant::now();
    loop {
        look.tick().await;
        // The state first: what it says is on the log then.
        let found = runner.store().find(&id).await;
        let Ok(log) = runner.store().log(&id).await else {
            if sender.is_closed() {
                return;
            }
            continue;
        };
        let mut text = String::new();
        for record in log.iter().filter(|record| record.seq >= next) {
            let data = view::record(record, &names);
            text.push_str(&format!("id: {}\ndata: {data}\n\n", record.seq));
        }
        next = next.max(log.len() as u64);
        let state = found.ok().flatten().map(|listed| listed.state);
        let rests = state.is_none_or(|state| state != At::Open);
        if rests {
            let data = json!({ "state": state.map(At::name) });
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

/// Sooner than anybody who watches can tell, and seldom enough for many to watch.
const LOOK: Duration = Duration::from_millis(100);
/// Proxies close what is silent for a minute.
const QUIET: Duration = Duration::from_secs(15);
const BUFFERED: usize = 4;
