//! Requests that are queued, because their upstream did not do them.
//!
//! A request is queued if it changes something, is no gRPC, and is known not to have been done or may be
//! made twice. It is on the disk before the client is told so. What should be there and cannot be is
//! refused, and nothing else answers in its place: a fixed answer would say that it was taken.
//!
//! Behind one that waits, others of its key wait, too, though the upstream may take them: they would
//! overtake it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use outlast::Clock;
use outlast::fallback::Why;
use outlast::outcome::Outcome;
use outlast::reject::Reason;
use outlast_config::plan::{QueueKey, SagaMeaning};
use outlast_saga::queue::{Message, PushError, Pushed};
use outlast_saga::store::StoreError;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Made, Prepared, degraded, fell_back};
use crate::admin::{new_id, time};
use crate::answer::Body;
use crate::exchange::Exchange;
use crate::queues::keep::{Kept, WITHIN};
use crate::queues::{Line, Queues, Refused};
use crate::refusal::{Dialect, Refusal};
use crate::table::Upstream;

/// Queues a request that failed; `None` if another answer has to do.
pub(super) async fn instead(
    exchange: &mut Exchange,
    prepared: &Prepared,
    failed: &[Made],
) -> Option<Response<Body>> {
    let queues = queues(exchange)?;
    let is_heard = !prepared.deadline_is_clients || Clock::Precise.now() < prepared.deadline;
    if !may_wait(prepared) || !is_heard || prepared.template.body.fault().is_some() {
        return None;
    }
    let table = Arc::clone(&exchange.local().table);
    let upstream = |made: &Made| &table.upstreams[made.upstream].upstream;
    let line = failed.iter().enumerate().find_map(|(number, made)| {
        let (name, is_fallback) = line_of(upstream(made), made)?;
        let others = number + usize::from(is_fallback);
        Some((made, queues.named(name)?, &failed[..others]))
    });
    let (made, line, answered) = line?;
    let is_safe = |made: &Made| may_be_done_later(prepared, made, upstream(made), line);
    if !failed.iter().all(is_safe) {
        line.counts.refused(Refused::InDoubt);
        return None;
    }
    let answer = push(exchange, prepared, upstream(made), line).await?;
    // What there is no room for is refused, and nothing has answered.
    if answer.status() == StatusCode::ACCEPTED {
        fell_back(exchange, answered);
    }
    Some(answer)
}

/// Queues a request behind those of its key that wait; `None` if there are none.
pub(super) async fn behind(exchange: &mut Exchange, prepared: &Prepared) -> Option<Response<Body>> {
    let queues = queues(exchange)?;
    let table = Arc::clone(&exchange.local().table);
    let upstream = &table.upstreams[prepared.upstream].upstream;
    let fallback = &upstream.plan.fallback;
    let queue = fallback.queue.iter().filter(|_| !fallback.shadow);
    let mut lines = upstream.plan.hold.iter().chain(queue);
    let line = lines.find_map(|name| {
        let line = queues.named(name)?;
        let is_awaited = !line.queue.is_idle() && may_wait(prepared) && {
            let order = order(exchange, prepared, line);
            order.is_some_and(|order| line.queue.has(&order))
        };
        is_awaited.then_some(line)
    });
    push(exchange, prepared, upstream, line?).await
}

/// What became of a request, if that is what a client asks for; `None` if it asks for something else.
pub(super) async fn status(
    exchange: &Exchange,
    method: &Method,
    path: &str,
) -> Option<Response<Body>> {
    if *method != Method::GET && *method != Method::HEAD {
        return None;
    }
    let queues = queues(exchange)?;
    let (line, id) = queues.lines.iter().find_map(|line| {
        let rest = path.strip_prefix(line.plan.status_path.as_deref()?)?;
        Some((line, rest.strip_prefix('/')?))
    })?;
    let kept = match line.queue.find(id).await {
        Ok(Some(kept)) => kept,
        Ok(None) => return Some(Refusal::NotQueued.answer(Dialect::Http)),
        Err(error) => {
            tracing::error!(queue = line.plan.name, %error, "a request could not be looked up");
            let queue = line.plan.name.clone();
            return Some(Refusal::QueueUnread { queue }.answer(Dialect::Http));
        }
    };
    let told = json!({
        "id": kept.id,
        "queue": line.plan.name,
        "status": kept.state.name(),
        "attempts": kept.attempts,
        "queued": time(kept.pushed),
        "ended": kept.ended.map(time),
    });
    let mut answer = document(StatusCode::OK, &told);
    let fields = answer.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(answer)
}

fn queues(exchange: &Exchange) -> Option<Arc<Queues>> {
    exchange.client().worker.shared.queues.clone()
}

/// Whether it is a request that can be made later, and by somebody else.
fn may_wait(prepared: &Prepared) -> bool {
    let template = &prepared.template;
    template.dialect == Dialect::Http && !template.method.is_safe() && !prepared.may_switch
}

/// The queue for a call that ended like this, and whether that is its upstream's fallback.
fn line_of<'a>(upstream: &'a Upstream, made: &Made) -> Option<(&'a str, bool)> {
    let why = made.opened.why?;
    match why {
        Why::Rejected(_)
        | Why::Failed(Outcome::Transient | Outcome::Unsent | Outcome::Overload { .. }) => {}
        // It would be the same the next time.
        Why::Failed(Outcome::Permanent | Outcome::Success | Outcome::Ignored) => return None,
    }
    let hold = upstream.plan.hold.as_deref();
    if hold.is_some() && was_declined(why, made.opened.attempts) {
        return hold.map(|hold| (hold, false));
    }
    let queue = upstream.plan.fallback.queue.as_deref()?;
    made.is_covered(upstream).then_some((queue, true))
}

/// Whether it was the endpoints that did not take a call, and not the gateway that turned it away.
fn was_declined(why: Why, attempts: u32) -> bool {
    let Why::Rejected(rejection) = why else {
        return true;
    };
    match rejection.reason {
        Reason::Open
        | Reason::Unhealthy
        | Reason::Overload
        | Reason::Timeout
        | Reason::Budget
        | Reason::Attempts
        | Reason::NotIdempotent
        | Reason::Fault
        | Reason::Throttled => true,
        Reason::Deadline => attempts > 0,
        Reason::Full | Reason::QueueTimeout | Reason::Rate | Reason::Shed => false,
        // A reason that is not known here is none to keep a request.
        _ => false,
    }
}

/// Whether it is not done twice if it is made once more.
fn may_be_done_later(prepared: &Prepared, made: &Made, upstream: &Upstream, line: &Line) -> bool {
    let (template, opened) = (&prepared.template, &made.opened);
    let is_held = made.hold.as_ref().is_some_and(|hold| hold.is_held());
    if is_held && key_of(prepared, upstream).is_none() {
        // Without its key another provider could be asked.
        return false;
    }
    let answered = opened.result.as_ref().ok();
    let status = answered.map(|head| head.response.status().as_u16());
    let told = status.and_then(|status| SagaMeaning::told(&line.plan.outcomes, status));
    let is_definite = opened.attempts == 0
        || opened.why == Some(Why::Failed(Outcome::Unsent))
        || told == Some(SagaMeaning::Transient);
    is_definite || template.repeatable
}

/// Puts a request on the disk, and says so; `None` if it is larger than its queue takes.
async fn push(
    exchange: &mut Exchange,
    prepared: &Prepared,
    upstream: &Upstream,
    line: &Line,
) -> Option<Response<Body>> {
    let template = &prepared.template;
    let collected = tokio::time::timeout(COLLECTING, template.body.collect()).await;
    let Ok(Some(body)) = collected else {
        line.counts.refused(Refused::TooLarge);
        return None;
    };
    let (id, kept) = kept(prepared, upstream, line, body);
    let payload = kept.write();
    if payload.len() > line.plan.message_bytes {
        line.counts.refused(Refused::TooLarge);
        return None;
    }
    let mut message = Message::new(&id).bytes(payload).same_by(&kept.identity());
    if let Some(order) = order(exchange, prepared, line) {
        message = message.key(order);
    }
    if let Some(within) = within(&template.headers.borrow()).ok().flatten() {
        message = message.within(within);
    }
    let pushed = tokio::time::timeout(PUSHING, line.queue.push(message)).await;
    let refused = match pushed {
        Ok(Ok(Pushed::New)) => return Some(accepted(exchange, line, &id, "waiting")),
        Ok(Ok(Pushed::Same)) => {
            let found = line.queue.find(&id).await.ok().flatten();
            let state = found.map_or("waiting", |kept| kept.state.name());
            return Some(accepted(exchange, line, &id, state));
        }
        Ok(Err(PushError::Full { .. })) => Refused::Full,
        Ok(Err(PushError::Store(StoreError::Full(_)))) => Refused::DiskFull,
        Ok(Err(PushError::Other)) => Refused::KeyReused,
        Ok(Err(error)) => {
            tracing::error!(queue = line.plan.name, %error, "a request could not be queued");
            Refused::Unwritten
        }
        Err(_) => Refused::Unwritten,
    };
    line.counts.refused(refused);
    exchange.because(refused.name());
    Some(unqueued(line, refused))
}

/// What is kept of a request, and the id that it gets: its key, if it has one.
fn kept(prepared: &Prepared, upstream: &Upstream, line: &Line, body: Bytes) -> (String, Kept) {
    let template = &prepared.template;
    let (id, key) = match key_of(prepared, upstream) {
        Some(key) => (named_by(key.as_bytes()), key),
        None => {
            let id = new_id();
            let key = HeaderValue::try_from(id.as_str());
            (id, key.expect("digits are a header value"))
        }
    };
    let kept = Kept::of(
        &line.plan,
        (&template.method, &template.path_and_query),
        &template.headers.borrow(),
        &template.authority,
        (&upstream.idempotency_key, key),
        body,
    );
    (id, kept)
}

/// The key that the client gave, or that earlier attempts had.
fn key_of(prepared: &Prepared, upstream: &Upstream) -> Option<HeaderValue> {
    let template = &prepared.template;
    let headers = template.headers.borrow();
    let given = headers.get(&upstream.idempotency_key);
    // One that was not sent is known to nobody else.
    let made = template.key.get().filter(|_| template.makes_key);
    given.or(made).cloned()
}

/// A key as an id, which is a part of paths: as it is, or if that cannot be, its hash.
fn named_by(key: &[u8]) -> String {
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    let is_dots = key.iter().all(|byte| *byte == b'.');
    match std::str::from_utf8(key) {
        Ok(text) if key.len() <= MOST_ID && !is_dots && key.iter().all(fine) => text.to_owned(),
        _ => format!("key-{}", hash(key)),
    }
}

/// What it is delivered in order by.
fn order(exchange: &Exchange, prepared: &Prepared, line: &Line) -> Option<String> {
    let template = &prepared.template;
    let headers = template.headers.borrow();
    let order = match &line.plan.key {
        QueueKey::None => return None,
        QueueKey::Client => {
            let trusted = &exchange.local().table.gateway.trusted_proxies;
            let origin = &exchange.client().origin;
            origin.client(&headers, trusted).to_string().into_bytes()
        }
        QueueKey::Path => {
            let host = template.authority.as_bytes().to_ascii_lowercase();
            [&host[..], template.path_and_query.path().as_bytes()].concat()
        }
        QueueKey::Header(name) => headers.get(name)?.as_bytes().to_vec(),
    };
    Some(match String::from_utf8(order) {
        Ok(text) if text.len() <= MOST_ID => text,
        Ok(text) => hash(text.as_bytes()),
        Err(other) => hash(other.as_bytes()),
    })
}

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// How long a client wants its request to wait at most; an error is a sentence.
pub(super) fn within(headers: &HeaderMap) -> Result<Option<Duration>, &'static str> {
    let Some(value) = headers.get(WITHIN) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| NO_DURATION)?;
    let within = outlast_config::duration(text).map_err(|_| NO_DURATION)?;
    Ok(Some(within))
}

fn accepted(exchange: &mut Exchange, line: &Line, id: &str, state: &str) -> Response<Body> {
    exchange.because("queued");
    let told = json!({ "id": id, "queue": line.plan.name, "status": state });
    let mut answer = document(StatusCode::ACCEPTED, &told);
    let fields = answer.headers_mut();
    if let Some(path) = &line.plan.status_path {
        let location = HeaderValue::try_from(format!("{path}/{id}"));
        fields.insert(header::LOCATION, location.expect("both are parts of paths"));
    }
    degraded(fields, "queue");
    answer
}

fn unqueued(line: &Line, refused: Refused) -> Response<Body> {
    let queue = line.plan.name.clone();
    Refusal::Unqueued { queue, refused }.answer(Dialect::Http)
}

fn document(status: StatusCode, told: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(told.to_string())));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

const NO_DURATION: &str = "Outlast-Queue-Within is no duration such as `10m`";
/// As long as ids and keys of queues are.
const MOST_ID: usize = 200;
/// A client that has not sent its body by then is told that it failed.
const COLLECTING: Duration = Duration::from_secs(10);
/// A disk that needs longer than this may have taken it, and the client had better ask again.
const PUSHING: Duration = Duration::from_secs(5);
