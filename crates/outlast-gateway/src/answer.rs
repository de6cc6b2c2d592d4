//! Answers on their way to the client, and what their end teaches.
//!
//! The outcome of an attempt is known when its answer is complete: a connection that breaks within
//! a body is a failure, and gRPC says in its trailers how a call went. So the attempt stays open,
//! with its seat in the bulkhead, until the last frame has passed; then it is recorded, once:
//!
//! | the answer | outcome |
//! |---|---|
//! | ends | that of its head, or of its `grpc-status` |
//! | breaks off, or ends without a `grpc-status` | transient |
//! | is cut by the route's deadline | transient |
//! | is cut by the client's own deadline, or the client left | ignored |
//!
//! A frame is passed on when the client can take it, so a slow client slows its upstream and fills
//! nothing.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use outlast::OpenAnswer;
use outlast::outcome::Outcome;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::attempt::Lease;
use crate::exchange::Exchange;
use crate::forward;
use crate::refusal::{
    DEADLINE_EXCEEDED, Dialect, GRPC_PUSHBACK, GRPC_STATUS, UNAVAILABLE, status_fields,
};
use crate::stale::Recording;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// The gateway's own, with the exchange that ends with it.
    Own(Option<Bytes>, Option<Box<Exchange>>),
    /// An upstream's.
    Streamed(Box<Answer>),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Body::Own(Some(bytes).filter(|bytes| !bytes.is_empty()), None)
    }
}

impl Body {
    /// The exchange that ends when this body does.
    pub(crate) fn ending(self, exchange: Box<Exchange>) -> Body {
        match self {
            Body::Empty => Body::Own(None, Some(exchange)),
            Body::Own(bytes, _) => Body::Own(bytes, Some(exchange)),
            Body::Streamed(mut answer) => {
                answer.exchange = Some(exchange);
                Body::Streamed(answer)
            }
        }
    }
}

/// An upstream's answer while it streams.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What of the body came with its head.
    pub(crate) first: Option<Frame<Bytes>>,
    pub(crate) incoming: Incoming,
    pub(crate) lease: Option<Lease>,
    /// `None` if the attempt has been settled at the head of its answer.
    pub(crate) open: Option<OpenAnswer>,
    /// What its head says; its end may say otherwise.
    pub(crate) outcome: Outcome,
    pub(crate) deadline: Option<Instant>,
    /// Whether that is the client's own, and not the route's.
    pub(crate) deadline_is_clients: bool,
    pub(crate) dialect: Dialect,
    /// Whether a gRPC status has been seen.
    pub(crate) has_status: bool,
    pub(crate) recording: Option<Recording>,
    pub(crate) exchange: Option<Box<Exchange>>,
    pub(crate) timer: Option<Pin<Box<Sleep>>>,
    pub(crate) over: bool,
}

impl Answer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Some(frame) = self.first.take() {
            return Poll::Ready(Some(Ok(self.pass(frame))));
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => self.poll_deadline(cx),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.pass(frame)))),
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(self.breaks(Outcome::Transient, UNAVAILABLE, Cut::Broken(error)))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(self.missing_status())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref);
        let first = first.map_or(0, |data| data.len() as u64);
        let rest = self.incoming.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let frame = match frame.into_data() {
            Ok(chunk) => {
                if let Some(recording) = &mut self.recording
                    && !recording.add(&chunk)
                {
                    self.recording = None;
                }
                Frame::data(chunk)
            }
            Err(frame) => match frame.into_trailers() {
                Ok(mut trailers) => {
                    forward::trailers(&mut trailers);
                    self.read_status(&trailers);
                    self.end();
                    return Frame::trailers(trailers);
                }
                Err(other) => other,
            },
        };
        let more = self.dialect == Dialect::Grpc && !self.has_status;
        if self.incoming.is_end_stream() && !more {
            self.end();
        }
        frame
    }

    /// The outcome that a gRPC status stands for.
    fn read_status(&mut self, trailers: &HeaderMap) {
        if self.dialect == Dialect::Grpc
            && let Some(code) = grpc_code(trailers)
        {
            self.has_status = true;
            self.outcome = outlast::http::grpc_outcome(code, trailers.get(&GRPC_PUSHBACK));
        }
    }

    /// It is complete.
    fn end(&mut self) {
        self.over = true;
        let lacks_status = self.dialect == Dialect::Grpc && !self.has_status;
        if lacks_status {
            self.outcome = Outcome::Transient;
        }
        if let Some(open) = self.open.take() {
            open.record(self.outcome);
        }
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        if let Some(recording) = self.recording.take() {
            recording.keep();
        }
        if let Some(mut exchange) = self.exchange.take() {
            exchange.judged(self.outcome);
            exchange.complete();
        }
    }

    /// A gRPC client waits for a status, whatever became of the upstream.
    fn missing_status(&mut self) -> Option<Result<Frame<Bytes>, Cut>> {
        if self.dialect == Dialect::Http || self.has_status {
            return None;
        }
        self.has_status = true;
        Some(Ok(status(
            UNAVAILABLE,
            "the upstream ended without a status",
        )))
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        std::task::ready!(timer.as_mut().poll(cx));
        let outcome = if self.deadline_is_clients {
            Outcome::Ignored
        } else {
            Outcome::Transient
        };
        Poll::Ready(self.breaks(outcome, DEADLINE_EXCEEDED, Cut::Deadline))
    }

    /// It ends here, incomplete: HTTP clients see the connection or the stream break, gRPC clients
    /// a status.
    fn breaks(
        &mut self,
        outcome: Outcome,
        code: u32,
        cut: Cut,
    ) -> Option<Result<Frame<Bytes>, Cut>> {
        self.over = true;
        self.lease = None;
        self.recording = None;
        if let Some(open) = self.open.take() {
            open.record(outcome);
        }
        if let Some(mut exchange) = self.exchange.take() {
            exchange.judged(outcome);
            exchange.cut(&cut);
        }
        match self.dialect {
            Dialect::Grpc if !self.has_status => {
                self.has_status = true;
                Some(Ok(status(code, &cut.to_string())))
            }
            Dialect::Grpc => None,
            Dialect::Http => Some(Err(cut)),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Hyper does not ask for the frames of a body that has none.
        if !self.over && self.first.is_none() && self.incoming.is_end_stream() {
            self.end();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Body::Empty => Poll::Ready(None),
            Body::Own(bytes, exchange) => {
                if let Some(mut exchange) = exchange.take() {
                    exchange.complete();
                }
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            Body::Streamed(answer) => answer.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Own(bytes, _) => bytes.is_none(),
            Body::Streamed(answer) => {
                let awaits_status = answer.dialect == Dialect::Grpc && !answer.has_status;
                let ended = answer.first.is_none() && answer.incoming.is_end_stream();
                !awaits_status && (answer.over || ended)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Own(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Body::Streamed(answer) => answer.size_hint(),
        }
    }
}

/// Why an answer ends before it is complete.
#[derive(Debug)]
pub(crate) enum Cut {
    /// The deadline came.
    Deadline,
    /// The upstream's connection or stream broke.
    Broken(hyper::Error),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cut::Deadline => f.write_str("the deadline came before the answer was complete"),
            Cut::Broken(error) => write!(f, "the answer broke off: {error}"),
        }
    }
}

impl Error for Cut {}

/// The `grpc-status` of a head or of trailers.
pub(crate) fn grpc_code(headers: &HeaderMap) -> Option<u32> {
    headers.get(&GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

fn status(code: u32, message: &str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    status_fields(&mut trailers, code, message);
    Frame::trailers(trailers)
}
