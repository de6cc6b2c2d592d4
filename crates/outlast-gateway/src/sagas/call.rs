//! A call of a saga on a worker: through the upstream's policies, and to the end of the answer.
//!
//! A call may make several attempts, and one that got no answer may have done the work, whatever a later
//! one says. So they are counted: those that began and of which it is not known that they were not sent,
//! or were answered.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use http_body::Body;
use outlast::fallback::Why;
use outlast::outcome::Outcome;
use outlast::{Opened, headers};
use outlast_config::plan::{SagaMeaning, SagaStatus};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::attempt::{self, Failure, Head, Template, wall};
use crate::hold::Hold;
use crate::proxy::Key;
use crate::refusal::Dialect;
use crate::replay::Source;
use crate::table::Counts;
use crate::worker::{LocalUpstream, Worker};

/// A request to make.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) to: Arc<To>,
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The same at every attempt; `None` if it is among the fields already.
    pub(crate) key: Option<HeaderValue>,
    pub(crate) deadline: Instant,
}

/// Who is asked, and how the answer is read.
#[derive(Debug)]
pub(crate) struct To {
    pub(crate) upstream: String,
    /// What statuses mean.
    pub(crate) outcomes: Vec<SagaStatus>,
    /// How large an answer may be.
    pub(crate) bytes: usize,
}

/// A call, and who waits for what comes of it.
pub(crate) type Asked = (Call, oneshot::Sender<Answered>);

/// What came of it.
#[derive(Debug)]
pub(crate) enum Answered {
    /// Nobody has got it.
    Unsent {
        error: String,
        after: Option<Duration>,
        /// Whether somebody was tried, and no policy turned it away before.
        tried: bool,
    },
    /// Somebody may have been, and nobody has answered.
    Lost(String),
    /// An answer.
    Head(Answer),
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// When to come back.
    pub(crate) after: Option<Duration>,
    /// All of it, or why not.
    pub(crate) body: Result<Bytes, String>,
    /// Whether another attempt of this call got no answer.
    pub(crate) lost: bool,
}

/// Makes a call, unless nobody waits for it any more.
pub(crate) async fn serve(worker: Rc<Worker>, (call, mut answer): Asked) {
    tokio::select! {
        answered = make(&worker, call) => {
            let _ = answer.send(answered);
        }
        () = answer.closed() => {}
    }
    worker.has_called();
}

async fn make(worker: &Worker, mut call: Call) -> Answered {
    let local = worker.local();
    let named = |local: &&Rc<LocalUpstream>| local.upstream.plan.name == call.to.upstream;
    let Some(local) = local.upstreams.iter().find(named).cloned() else {
        let error = "the policy file has it no more".to_owned();
        return Answered::Unsent {
            error,
            after: None,
            tried: false,
        };
    };
    let upstream = &local.upstream;
    if let Some(key) = call.key.clone() {
        call.headers.insert(upstream.idempotency_key.clone(), key);
    }
    let call = Rc::new(call);
    let lost = Rc::new(Cell::new(0_u32));
    let opened = ask(&local, worker.index, &call, &lost).await;
    let is_lost = || lost.get() > 0;
    let Opened {
        result,
        open,
        why,
        attempts,
        ..
    } = opened;
    let head = match result {
        Ok(head) => head,
        Err(error) if is_lost() => return Answered::Lost(error.to_string()),
        Err(error) => {
            let after = error.rejection().and_then(|stop| stop.retry_after);
            let error = error.to_string();
            return Answered::Unsent {
                error,
                after,
                tried: attempts > 0,
            };
        }
    };
    let status = head.response.status();
    let after = headers::retry_after(head.response.headers(), wall());
    let body = tokio::time::timeout_at(call.deadline, read(head, call.to.bytes)).await;
    let body = body.unwrap_or_else(|_| Err("its answer did not end in time".to_owned()));
    if let Some(open) = open {
        open.record(match (why, &body) {
            (Some(Why::Failed(outcome)), _) => outcome,
            (_, Ok(_)) => Outcome::Success,
            (_, Err(_)) => Outcome::Transient,
        });
    }
    Answered::Head(Answer {
        status,
        after,
        body,
        lost: is_lost(),
    })
}

/// Calls an upstream through its policies.
async fn ask(
    local: &Rc<LocalUpstream>,
    worker: usize,
    call: &Rc<Call>,
    lost: &Rc<Cell<u32>>,
) -> Opened<Head, Failure> {
    let upstream = &local.upstream;
    let hold = Hold::of(upstream, &template(call, HeaderValue::from_static(""))).map(Rc::new);
    let mut caller = upstream
        .policies
        .caller()
        .repeatable(true)
        .deadline(call.deadline.into_std())
        .classify(move |result: &Result<Head, Failure>| {
            attempt::judge(upstream, Dialect::Http, result)
        });
    match key(call, &upstream.affinity) {
        Key::All | Key::Header(None) => {}
        key => caller = caller.affinity(key),
    }
    if upstream.limits_rate {
        caller = caller.rate_key(key(call, &upstream.rate_key));
    }
    if let Some(hold) = &hold {
        caller = caller.bound_by(hold.binding());
    }
    let opened = caller.open(|attempt| {
        let (local, call, lost) = (Rc::clone(local), Rc::clone(call), Rc::clone(lost));
        let hold = hold.clone();
        async move {
            let authority = authority(&local, attempt.endpoint_index(), &call);
            let template = Rc::new(template(&call, authority));
            // It is counted for as long as it may be cut off.
            lost.set(lost.get() + 1);
            let made = attempt::make(local, worker, template, attempt, hold).await;
            if is_known(&call, &made) {
                lost.set(lost.get() - 1);
            }
            made
        }
    });
    opened.await
}

/// What tells it apart from others: sagas are one client.
fn key(call: &Call, counts: &Counts) -> Key {
    match counts {
        Counts::Together => Key::All,
        Counts::ByClient => Key::Client(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Counts::ByHeader(name) => Key::Header(call.headers.get(name).cloned()),
    }
}

/// The host that is asked for: the step's own, or the endpoint's.
fn authority(local: &LocalUpstream, endpoint: usize, call: &Call) -> HeaderValue {
    let own = call.headers.get(HOST).cloned();
    let peer = || local.peers.peer(endpoint);
    let endpoints = || HeaderValue::try_from(peer()?.endpoint.authority()).ok();
    own.or_else(endpoints)
        .unwrap_or(HeaderValue::from_static("outlast"))
}

fn template(call: &Call, authority: HeaderValue) -> Template {
    Template {
        method: call.method.clone(),
        path_and_query: call.path.clone(),
        authority,
        dialect: Dialect::Http,
        body: Source::whole(call.body.clone()),
        repeatable: true,
        keeps_headers: true,
        makes_key: false,
        headers: RefCell::new(call.headers.clone()),
        key: OnceCell::new(),
    }
}

/// Whether it is known that an attempt did its work, or did not.
fn is_known(call: &Call, made: &Result<Head, Failure>) -> bool {
    match made {
        Ok(head) => {
            let status = head.response.status().as_u16();
            SagaMeaning::of(&call.to.outcomes, status) != SagaMeaning::Unknown
        }
        Err(
            Failure::Gone
            | Failure::Unconnected(_)
            | Failure::Unprocessed(_)
            | Failure::Client(_)
            | Failure::Spent
            | Failure::Withheld(_),
        ) => true,
        Err(Failure::Broken(_) | Failure::Ambiguous) => false,
    }
}

/// Reads an answer to its end.
async fn read(mut head: Head, most: usize) -> Result<Bytes, String> {
    let mut whole = BytesMut::new();
    let mut first = head.first.take();
    let body = head.response.body_mut();
    loop {
        let frame = match first.take() {
            Some(frame) => frame,
            None => match std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
                None => break,
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(format!("its answer broke off: {error}")),
            },
        };
        if let Some(data) = frame.data_ref() {
            whole.extend_from_slice(data);
        }
        if whole.len() > most {
            return Err(format!("its answer has more than {most} bytes"));
        }
    }
    head.lease.give_back();
    Ok(whole.freeze())
}
