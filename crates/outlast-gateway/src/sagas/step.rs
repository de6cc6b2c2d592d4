//! One attempt of a step: its request from what the saga knows, and what the answer means.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use outlast_config::plan::{SagaFound, SagaMeaning, SagaQuery, SagaRequest};
use outlast_config::template::Known;
use outlast_saga::{Attempt, StepError, Was};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::call::{Answer, Answered, Asked, Call, To};
use crate::worker::Phase;

/// The request of a step, of what undoes it, or of what asks about it.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) to: Arc<To>,
    pub(super) request: SagaRequest,
    pub(super) step: String,
    /// All steps of the saga.
    pub(super) steps: Arc<[String]>,
}

/// The workers, which make the calls in turn.
#[derive(Debug)]
pub(crate) struct Callers {
    workers: Vec<mpsc::Sender<Asked>>,
    next: AtomicUsize,
    phase: watch::Receiver<Phase>,
}

impl Callers {
    pub(crate) fn new(workers: Vec<mpsc::Sender<Asked>>, phase: watch::Receiver<Phase>) -> Callers {
        Callers {
            workers,
            next: AtomicUsize::new(0),
            phase,
        }
    }

    /// Has a worker make a call. When the gateway stops it does not return: what came of the attempt is
    /// for the next process to find out. While it drains only those are made that `may_drain`.
    pub(crate) async fn call(&self, call: Call, may_drain: bool) -> Answered {
        let may_begin = match *self.phase.borrow() {
            Phase::Serving => true,
            Phase::Draining => may_drain,
            Phase::Stopped => false,
        };
        if may_begin {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.workers.len();
            let (answer, answered) = oneshot::channel();
            if self.workers[turn].send((call, answer)).await.is_ok()
                && let Ok(answered) = answered.await
            {
                return answered;
            }
        }
        std::future::pending().await
    }
}

/// Makes an attempt.
pub(super) async fn make(
    made: Arc<Made>,
    callers: Arc<Callers>,
    attempt: Attempt,
) -> Result<Value, StepError> {
    let upstream = &made.to.upstream;
    let answer = send(&made, &callers, &attempt).await?;
    let meaning = made.request.means(answer.status.as_u16());
    if meaning == SagaMeaning::Success {
        let body = answer
            .body
            .map_err(|error| StepError::unknown(format!("{upstream} has done it, but {error}")))?;
        return Ok(output(&body));
    }
    let (lost, after) = (answer.lost, answer.after);
    let error = words(upstream, answer);
    Err(match meaning {
        // An attempt before this one, within the same call, got no answer.
        _ if lost => StepError::unknown(error),
        SagaMeaning::Transient => transient(error, after),
        SagaMeaning::Permanent => StepError::permanent(error),
        SagaMeaning::Unknown | SagaMeaning::Success => StepError::unknown(error),
    })
}

/// Asks whether a step was done. Whatever does not tell leaves the question open.
pub(super) async fn ask(
    query: Arc<SagaQuery>,
    made: Arc<Made>,
    callers: Arc<Callers>,
    attempt: Attempt,
) -> Result<Was<Value>, StepError> {
    let upstream = &made.to.upstream;
    let answer = send(&made, &callers, &attempt).await?;
    match query.finds(answer.status.as_u16()) {
        SagaFound::Done => {
            let body = answer.body.map_err(|error| {
                StepError::unknown(format!("{upstream} knows that it is done, but {error}"))
            })?;
            Ok(Was::Done(output(&body)))
        }
        SagaFound::NotDone => Ok(Was::NotDone),
        SagaFound::Unknown => {
            let after = answer.after;
            Err(transient(words(upstream, answer), after))
        }
    }
}

/// Sends a request; an error if there was no answer.
async fn send(made: &Arc<Made>, callers: &Callers, attempt: &Attempt) -> Result<Answer, StepError> {
    let (request, upstream) = (&made.request, &made.to.upstream);
    let (path, headers, body) = parts(made, attempt).map_err(StepError::permanent)?;
    let key = HeaderValue::from_str(&attempt.key())
        .map_err(|_| StepError::permanent("the saga's id cannot be part of a key"))?;
    let call = Call {
        to: Arc::clone(&made.to),
        method: Method::from_bytes(request.method.as_bytes()).unwrap_or_default(),
        path,
        headers,
        body,
        key: Some(key),
        deadline: Instant::now() + request.timeout,
    };
    // What is undone has all the time of the next process.
    let answered = callers.call(call, !attempt.undoes());
    match answered.await {
        Answered::Unsent { error, after, .. } => {
            let error = format!("{upstream} was not asked: {error}");
            Err(transient(error, after))
        }
        Answered::Lost(error) => Err(StepError::unknown(format!("{upstream}: {error}"))),
        Answered::Head(answer) => Ok(answer),
    }
}

fn words(upstream: &str, answer: Answer) -> String {
    let said = excerpt(&answer.body.unwrap_or_default());
    format!("{upstream} answered {}{said}", answer.status)
}

/// The beginning of an answer, behind a colon.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let said = String::from_utf8_lossy(body);
    let said: String = said.trim().chars().take(EXCERPT).collect();
    let colon = if said.is_empty() { "" } else { ": " };
    format!("{colon}{said}")
}

fn transient(error: String, after: Option<Duration>) -> StepError {
    match after {
        Some(after) => StepError::transient_after(error, after.min(LONGEST_PAUSE)),
        None => StepError::transient(error),
    }
}

/// What of a request depends on the saga; an error names what cannot be.
fn parts(made: &Made, attempt: &Attempt) -> Result<(PathAndQuery, HeaderMap, Bytes), String> {
    let known = known(made, attempt).map_err(|_| "what it knows cannot be read".to_owned())?;
    let request = &made.request;
    let path = request.path.fill(&known, encode);
    let path = path.map_err(|error| format!("its path: {error}"))?;
    let mut segments = path
        .split('?')
        .next()
        .unwrap_or_default()
        .split('/')
        .skip(1);
    // What is written so in the file is meant; what was put there is not.
    if !request.path.is_fixed() && segments.any(|segment| ["", ".", ".."].contains(&segment)) {
        return Err(format!(
            "its path would be {path:?}: a value in it is empty or leads elsewhere"
        ));
    }
    let path = PathAndQuery::try_from(path).map_err(|error| format!("its path: {error}"))?;
    let mut headers = HeaderMap::new();
    for (name, text) in &request.headers {
        let value = text.fill(&known, str::to_owned);
        let value = value.map_err(|error| format!("its header {name}: {error}"))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|_| format!("its header {name} would be {value:?}"))?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
        headers.append(name, value);
    }
    let id = HeaderValue::from_str(attempt.saga()).map_err(|error| error.to_string())?;
    headers.insert(&SAGA_ID, id);
    let step = HeaderValue::from_str(&made.step).map_err(|error| error.to_string())?;
    headers.insert(&SAGA_STEP, step);
    let Some(body) = &request.body else {
        return Ok((path, headers, Bytes::new()));
    };
    let body = body.fill(&known);
    let body = body.map_err(|error| format!("its body: {error}"))?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((path, headers, body.to_string().into()))
}

fn known(made: &Made, attempt: &Attempt) -> Result<Known, StepError> {
    let mut known = Known {
        saga: attempt.saga().to_owned(),
        input: attempt.input()?,
        ..Known::default()
    };
    for step in &*made.steps {
        if let Some(output) = attempt.output(step)? {
            known.outputs.insert(step.clone(), output);
        }
    }
    Ok(known)
}

/// Percent-encodes all but what RFC 3986 leaves unreserved, so that a value is one segment.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// An answer as JSON; as a text if it is none, and nothing if it is empty.
fn output(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

static SAGA_ID: HeaderName = HeaderName::from_static("outlast-saga-id");
static SAGA_STEP: HeaderName = HeaderName::from_static("outlast-saga-step");
/// Enough of an answer to tell what was wrong, and too little to fill a log.
const EXCERPT: usize = 200;
/// Whoever asks for a longer pause is asked again all the same: a wrong header must not park a saga.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(300);
