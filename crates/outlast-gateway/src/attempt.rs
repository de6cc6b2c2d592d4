//! One attempt: a connection, a request made for it, and the head of the answer.
//!
//! What may be told apart here is what was sent. A connection that could not be made has sent
//! nothing, nor has one that hands the request back; both are repaired or reported as unsent, so
//! that even a POST may try elsewhere. An idle connection that the endpoint closed just as the
//! request went out is tried anew at once, if the request may be made twice.
//!
//! An answer whose connection has broken right behind its head is no answer: nothing of it has been
//! passed on, so another attempt may replace it.

use std::cell::{OnceCell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, Response, Version};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use outlast::outcome::Outcome;
use outlast::time::Time;
use outlast::{Attempt, Clock, headers};
use outlast_config::plan::Meaning;

use crate::answer::grpc_code;
use crate::connect::ConnectError;
use crate::dialect::meaning_of;
use crate::hold::Hold;
use crate::journal::Refused;
use crate::members::Endpoint;
use crate::metrics::EndpointShard;
use crate::peers::Peer;
use crate::pool::{Connection, Stream2};
use crate::refusal::{Dialect, GRPC_PUSHBACK};
use crate::replay::{Copy, Fault, Source};
use crate::table::Upstream;
use crate::worker::LocalUpstream;

/// A client's request, from which the requests of attempts are made.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) method: Method,
    pub(crate) path_and_query: PathAndQuery,
    pub(crate) authority: HeaderValue,
    pub(crate) dialect: Dialect,
    pub(crate) body: Source,
    /// Whether it may be made twice.
    pub(crate) repeatable: bool,
    /// Whether its headers are needed again, so that attempts get copies.
    pub(crate) keeps_headers: bool,
    /// Whether it gets an idempotency key that it came without.
    pub(crate) makes_key: bool,
    pub(crate) headers: RefCell<HeaderMap>,
    pub(crate) key: OnceCell<HeaderValue>,
}

/// The head of an answer, and what its body comes from.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) response: Response<Incoming>,
    /// What of the body came with it.
    pub(crate) first: Option<Frame<Bytes>>,
    pub(crate) lease: Lease,
    /// The endpoint that it came from.
    pub(crate) peer: Rc<Peer>,
}

impl Head {
    /// Whether another parser might see another end of the answer (RFC 9112, 6.3).
    fn is_ambiguous(&self) -> bool {
        let headers = self.response.headers();
        headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH)
    }

    /// Takes what has come of the body already, without waiting for it.
    async fn begin(mut self) -> Result<Head, hyper::Error> {
        if self.response.body().is_end_stream() {
            return Ok(self);
        }
        let body = self.response.body_mut();
        let now = poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.transpose()),
            Poll::Pending => Poll::Ready(Ok(None)),
        });
        self.first = now.await?;
        Ok(self)
    }
}

/// A connection that goes back to its pool when the answer has been read.
#[derive(Debug)]
pub(crate) enum Lease {
    Http1 {
        peer: Rc<Peer>,
        sender: http1::SendRequest<Copy>,
        born: Time,
        body: Source,
    },
    Http2 {
        _stream: Stream2,
    },
}

impl Lease {
    /// The answer has been read to its end.
    pub(crate) fn give_back(self) {
        if let Lease::Http1 {
            peer,
            sender,
            born,
            body,
        } = self
            && body.has_ended()
        {
            peer.pool.give_back(sender, born);
        }
    }
}

/// Why an attempt has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The endpoint left too long ago.
    Gone,
    /// There was no connection.
    Unconnected(ConnectError),
    /// The endpoint said that it did not look at the request.
    Unprocessed(hyper::Error),
    /// The connection broke, or what came back was no HTTP.
    Broken(hyper::Error),
    /// What came back could be read in two ways: a length and chunks.
    Ambiguous,
    /// The client did something wrong with its body.
    Client(Fault),
    /// The start of the body is gone, so that this attempt was not made.
    Spent,
    /// Another provider may have done it, or that could not be ruled out for the next time.
    Withheld(Refused),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Gone => f.write_str("the endpoint is none of the upstream's any more"),
            Failure::Unconnected(error) => error.fmt(f),
            Failure::Unprocessed(error) => write!(f, "the request was refused: {error}"),
            Failure::Broken(error) => match error.source() {
                Some(source) => write!(f, "{error}: {source}"),
                None => error.fmt(f),
            },
            Failure::Ambiguous => f.write_str("the answer has both a length and chunks"),
            Failure::Client(fault) => fault.fmt(f),
            Failure::Spent => f.write_str("the request body cannot be sent again"),
            Failure::Withheld(refused) => refused.fmt(f),
        }
    }
}

impl Error for Failure {}

/// Makes one attempt.
pub(crate) async fn make(
    upstream: Rc<LocalUpstream>,
    worker: usize,
    template: Rc<Template>,
    attempt: Attempt,
    hold: Option<Rc<Hold>>,
) -> Result<Head, Failure> {
    let made = match hold {
        None => make_at(&upstream, worker, &template, &attempt).await,
        Some(hold) => make_held(&upstream, worker, &template, &attempt, &hold).await,
    };
    match &made {
        Ok(_) | Err(Failure::Client(_) | Failure::Spent) => {}
        Err(failure) => note(&upstream.upstream, attempt.endpoint(), failure),
    }
    made
}

/// Makes an attempt that no other provider may make.
async fn make_held(
    upstream: &LocalUpstream,
    worker: usize,
    template: &Template,
    attempt: &Attempt,
    hold: &Hold,
) -> Result<Head, Failure> {
    let claimed = hold.claim(&upstream.upstream, template, attempt).await;
    let claim = claimed.map_err(Failure::Withheld)?;
    let made = make_at(upstream, worker, template, attempt).await;
    hold.settle(claim, &upstream.upstream, template, &made)
        .await;
    made
}

async fn make_at(
    upstream: &LocalUpstream,
    worker: usize,
    template: &Template,
    attempt: &Attempt,
) -> Result<Head, Failure> {
    let peer = upstream.peers.peer(attempt.endpoint_index());
    let peer = peer.ok_or(Failure::Gone)?;
    let shard = peer.endpoint.metrics.shard(worker);
    let running = Running::new(shard);
    let made = send(&upstream.upstream, shard, template, attempt, &peer).await;
    running.has_ended();
    made
}

/// An attempt until its answer begins, or it fails. Who drops it before has cut it off: its timeout,
/// a quicker one, a client that left.
struct Running<'a> {
    shard: &'a EndpointShard,
    began: Time,
    ended: bool,
}

impl Running<'_> {
    fn new(shard: &EndpointShard) -> Running<'_> {
        Running {
            shard,
            began: Clock::Precise.now(),
            ended: false,
        }
    }

    fn has_ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let ran = Clock::Precise.now().since(self.began);
            self.shard.cut.record(ran);
        }
    }
}

async fn send(
    upstream: &Upstream,
    shard: &EndpointShard,
    template: &Template,
    attempt: &Attempt,
    peer: &Rc<Peer>,
) -> Result<Head, Failure> {
    // What became of a request that was sent and got no answer.
    let mut broken = None;
    for stale in 0.. {
        if template.body.has_lost_its_start() {
            return Err(Failure::Spent);
        }
        let connection = peer.pool.connection(stale >= STALE_BEFORE_FRESH).await;
        let connection = connection.map_err(|error| {
            shard.unconnected.fetch_add(1, Ordering::Relaxed);
            // What was sent before stays sent.
            let broken = broken.take().map(Failure::Broken);
            broken.unwrap_or(Failure::Unconnected(error))
        })?;
        let reused = connection.is_reused();
        if !reused {
            shard.connected.fetch_add(1, Ordering::Relaxed);
        }
        let version = connection.version();
        let request = template.request(upstream, &peer.endpoint, attempt, version);
        let lost = match connection.send(request, peer, &template.body).await {
            Ok(head) if head.is_ambiguous() => return Err(Failure::Ambiguous),
            Ok(head) => return head.begin().await.map_err(Failure::Broken),
            Err(lost) => lost,
        };
        if let Some(fault) = template.body.fault() {
            return Err(Failure::Client(fault));
        }
        let unsent = lost.returned.is_some() || is_unprocessed(&lost.error);
        if let Some(request) = lost.returned {
            template.take_back(request);
        }
        let again = unsent || (template.repeatable && !template.is_spent());
        if !(reused && again) {
            return Err(match broken {
                Some(before) if unsent => Failure::Broken(before),
                None if unsent => Failure::Unprocessed(lost.error),
                _ => Failure::Broken(lost.error),
            });
        }
        if !unsent {
            broken = Some(lost.error);
        }
        shard.stale.fetch_add(1, Ordering::Relaxed);
    }
    unreachable!("a fresh connection is not reused")
}

/// A request that got no answer.
#[derive(Debug)]
pub(crate) struct Lost {
    error: hyper::Error,
    /// The request, if nothing of it was sent.
    returned: Option<Request<Copy>>,
}

impl Connection {
    fn is_reused(&self) -> bool {
        match self {
            Connection::Http1 { reused, .. } => *reused,
            Connection::Http2 { .. } => true,
        }
    }

    pub(crate) fn version(&self) -> Version {
        match self {
            Connection::Http1 { .. } => Version::HTTP_11,
            Connection::Http2 { .. } => Version::HTTP_2,
        }
    }

    pub(crate) async fn send(
        self,
        request: Request<Copy>,
        peer: &Rc<Peer>,
        body: &Source,
    ) -> Result<Head, Lost> {
        let lost = |mut error: hyper::client::conn::TrySendError<Request<Copy>>| Lost {
            returned: error.take_message(),
            error: error.into_error(),
        };
        match self {
            Connection::Http1 {
                mut sender, born, ..
            } => {
                let response = sender.try_send_request(request).await.map_err(lost)?;
                let lease = Lease::Http1 {
                    peer: Rc::clone(peer),
                    sender,
                    born,
                    body: body.clone(),
                };
                Ok(Head {
                    response,
                    first: None,
                    lease,
                    peer: Rc::clone(peer),
                })
            }
            Connection::Http2 { mut sender, stream } => {
                let response = sender.try_send_request(request).await.map_err(lost)?;
                let lease = Lease::Http2 { _stream: stream };
                Ok(Head {
                    response,
                    first: None,
                    lease,
                    peer: Rc::clone(peer),
                })
            }
        }
    }
}

/// Whether the other end of an HTTP/2 connection said that it did not process the stream
/// (RFC 9113, 8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

impl Template {
    /// The request for one attempt.
    fn request(
        &self,
        upstream: &Upstream,
        endpoint: &Endpoint,
        attempt: &Attempt,
        version: Version,
    ) -> Request<Copy> {
        let mut request = Request::new(self.body.copy());
        *request.method_mut() = self.method.clone();
        *request.version_mut() = version;
        *request.uri_mut() = self.uri(endpoint, version);
        *request.headers_mut() = if self.keeps_headers {
            self.headers.borrow().clone()
        } else {
            self.headers.take()
        };
        let fields = request.headers_mut();
        endpoint.dialect.apply(fields);
        if version == Version::HTTP_11 {
            fields.insert(HOST, endpoint.dialect.host(&self.authority).clone());
        }
        if self.makes_key {
            fields.insert(&upstream.idempotency_key, self.made_key(attempt).clone());
        }
        if let Some(remaining) = attempt.remaining() {
            headers::write_deadline(fields, remaining, wall());
            if self.dialect == Dialect::Grpc {
                headers::write_grpc_timeout(fields, remaining);
            }
        }
        if self.dialect == Dialect::Grpc && attempt.number() > 1 {
            fields.insert(&GRPC_ATTEMPTS, (attempt.number() - 1).into());
        }
        request
    }

    /// The key of a request that came without one.
    pub(crate) fn made_key(&self, attempt: &Attempt) -> &HeaderValue {
        self.key.get_or_init(|| {
            let key = attempt.idempotency_key();
            HeaderValue::from_str(&key.to_string()).expect("a key is hex digits")
        })
    }

    fn uri(&self, endpoint: &Endpoint, version: Version) -> Uri {
        let known = endpoint.dialect.rewritten(&self.path_and_query);
        let path_and_query = known.unwrap_or_else(|| self.path_and_query.clone());
        let path_and_query = if endpoint.plan.prefix.is_empty() {
            path_and_query
        } else {
            let joined = format!("{}{path_and_query}", endpoint.plan.prefix);
            PathAndQuery::try_from(joined).expect("a path before a path is a path")
        };
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(path_and_query);
        if version == Version::HTTP_2 {
            let authority = endpoint.dialect.host(&self.authority).as_bytes();
            parts.authority = http::uri::Authority::try_from(authority).ok();
            parts.scheme = parts.authority.as_ref().map(|_| endpoint.scheme());
        }
        Uri::from_parts(parts).expect("a path, with both or neither of the others, is a URI")
    }

    /// A request comes back unsent: its headers may be needed for the next attempt.
    fn take_back(&self, request: Request<Copy>) {
        if !self.keeps_headers {
            self.headers.replace(request.into_parts().0.headers);
        }
    }

    /// Whether its body can no longer be sent from the start.
    pub(crate) fn is_spent(&self) -> bool {
        let spent = self.body.spent();
        spent.is_some_and(|spent| spent.load(Ordering::Relaxed))
    }
}

/// What an attempt's result means.
pub(crate) fn judge(
    upstream: &Upstream,
    dialect: Dialect,
    result: &Result<Head, Failure>,
) -> Outcome {
    match result {
        Err(Failure::Gone | Failure::Unconnected(_) | Failure::Unprocessed(_)) => Outcome::Unsent,
        Err(Failure::Broken(_) | Failure::Ambiguous) => Outcome::Transient,
        Err(Failure::Client(_) | Failure::Spent | Failure::Withheld(_)) => Outcome::Ignored,
        Ok(head) => judge_head(upstream, dialect, head),
    }
}

fn judge_head(upstream: &Upstream, dialect: Dialect, head: &Head) -> Outcome {
    let (status, fields) = (head.response.status(), head.response.headers());
    let ruled = head.peer.endpoint.dialect.means(status);
    let ruled = ruled.or_else(|| meaning_of(&upstream.plan.outcomes, status));
    if let Some(means) = ruled {
        return meaning(means, || headers::retry_after(fields, wall()));
    }
    if dialect == Dialect::Grpc
        && let Some(code) = grpc_code(fields)
    {
        return outlast::http::grpc_outcome(code, fields.get(&GRPC_PUSHBACK));
    }
    if status.is_success() {
        return Outcome::Success;
    }
    outlast::http::outcome(status, fields, wall())
}

fn meaning(means: Meaning, retry_after: impl FnOnce() -> Option<Duration>) -> Outcome {
    match means {
        Meaning::Success => Outcome::Success,
        Meaning::Transient => Outcome::Transient,
        Meaning::Permanent => Outcome::Permanent,
        Meaning::Overload => Outcome::Overload {
            retry_after: retry_after(),
        },
        Meaning::Ignored => Outcome::Ignored,
    }
}

fn note(upstream: &Upstream, endpoint: &str, failure: &Failure) {
    tracing::debug!(upstream = upstream.plan.name, endpoint, error = %failure, "an attempt failed");
    upstream.errors.note(endpoint, failure.to_string(), wall());
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge where headers meet the clock"
)]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

static GRPC_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
/// After so many idle connections that turned out to be closed, a new one is made.
const STALE_BEFORE_FRESH: u32 = 2;
