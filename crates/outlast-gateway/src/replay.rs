//! A request's body, so that a second attempt can send it again.
//!
//! Chunks go to the upstream as they come from the client, and are kept up to a limit on their way.
//! A later attempt is sent what was kept and then goes on with what still comes, so nothing waits
//! for a body to be complete. A body that outgrows the limit is forwarded all the same; only then
//! there is no second attempt, and the call is told so.
//!
//! An attempt that reads ahead of the others pulls from the client; those that hedge beside it find
//! its chunks among those kept. What the client did wrong is remembered, so that it is never blamed
//! on the upstream.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::forward;
use crate::times::Times;

/// How much of a body may be kept, and how much there may be at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) replay: usize,
    /// How much of it may be kept for a queue, though no further attempt is made.
    pub(crate) queue: usize,
    pub(crate) whole: Option<u64>,
}

/// A request's body, of which each attempt sends a copy.
#[derive(Clone, Debug)]
pub(crate) struct Source(Option<Rc<RefCell<State>>>);

#[derive(Debug)]
struct State {
    /// `None` for a body that is there already.
    incoming: Option<Incoming>,
    kept: Vec<Bytes>,
    size: u64,
    keeps: bool,
    ended: bool,
    trailers: Option<HeaderMap>,
    fault: Option<Fault>,
    bounds: Bounds,
    hint: SizeHint,
    wakers: Vec<Waker>,
    awaited: bool,
    times: Arc<Times>,
    spent: Arc<AtomicBool>,
}

/// What the client did wrong with its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is larger than the limit.
    TooLarge,
    /// It is malformed, or ended early.
    Broken,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::TooLarge => "the request body is larger than allowed",
            Fault::Broken => "the request body ended early or is malformed",
        })
    }
}

impl Error for Fault {}

impl Bounds {
    fn kept(&self) -> u64 {
        self.replay.max(self.queue) as u64
    }
}

impl Source {
    /// A body that is not kept until [`Source::bound`] says so.
    pub(crate) fn new(incoming: Incoming, times: &Arc<Times>) -> Source {
        if incoming.is_end_stream() {
            return Source(None);
        }
        Source(Some(Rc::new(RefCell::new(State {
            hint: incoming.size_hint(),
            incoming: Some(incoming),
            kept: Vec::new(),
            size: 0,
            keeps: false,
            ended: false,
            trailers: None,
            fault: None,
            bounds: Bounds {
                replay: 0,
                queue: 0,
                whole: None,
            },
            wakers: Vec::new(),
            awaited: false,
            times: Arc::clone(times),
            spent: Arc::new(AtomicBool::new(true)),
        }))))
    }

    /// A body that is there already, and can be sent as often as is wanted.
    pub(crate) fn whole(body: Bytes) -> Source {
        if body.is_empty() {
            return Source(None);
        }
        let size = body.len() as u64;
        Source(Some(Rc::new(RefCell::new(State {
            hint: SizeHint::with_exact(size),
            incoming: None,
            kept: vec![body],
            size,
            keeps: true,
            ended: true,
            trailers: None,
            fault: None,
            bounds: Bounds {
                replay: usize::MAX,
                queue: 0,
                whole: None,
            },
            wakers: Vec::new(),
            awaited: false,
            times: Arc::new(Times::new(Arc::default())),
            spent: Arc::new(AtomicBool::new(false)),
        }))))
    }

    /// No body.
    pub(crate) const fn empty() -> Source {
        Source(None)
    }

    /// How much of it may be kept, and how much there may be, before any of it is read.
    pub(crate) fn bound(&self, bounds: Bounds) {
        if let Some(state) = &self.0 {
            let mut state = state.borrow_mut();
            let least = state.hint.lower();
            state.keeps = least <= bounds.kept();
            let is_spent = least > bounds.replay as u64;
            state.spent.store(is_spent, Ordering::Relaxed);
            state.bounds = bounds;
        }
    }

    /// Reads what still comes, for an answer that does not need it: a client that is still sending
    /// might not see an answer that ends its stream. It is given little time.
    pub(crate) async fn discard(&self) {
        let Some(state) = &self.0 else {
            return;
        };
        let pull = std::future::poll_fn(|cx| {
            let mut state = state.borrow_mut();
            state.stop_keeping();
            while !state.ended && state.fault.is_none() && state.size < MOST_DISCARDED {
                if state.pull(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        });
        // Whoever sends slower than this is answered all the same.
        let _ = tokio::time::timeout(DISCARDING, pull).await;
    }

    /// All of it, with what still comes; `None` if it is larger than what is kept, or the client did
    /// something wrong with it.
    pub(crate) async fn collect(&self) -> Option<Bytes> {
        let Some(state) = &self.0 else {
            return Some(Bytes::new());
        };
        std::future::poll_fn(|cx| {
            let mut state = state.borrow_mut();
            while state.keeps && !state.ended && state.fault.is_none() {
                if state.pull(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            Poll::Ready(state.all())
        })
        .await
    }

    /// A copy from the start, for one attempt.
    pub(crate) fn copy(&self) -> Copy {
        Copy {
            state: self.0.clone(),
            at: 0,
            ended: self.0.is_none(),
        }
    }

    /// Set once it can no longer be sent from the start; `None` without a body.
    pub(crate) fn spent(&self) -> Option<Arc<AtomicBool>> {
        Some(Arc::clone(&self.0.as_ref()?.borrow().spent))
    }

    /// Whether a copy from the start would lack what has been forwarded already.
    pub(crate) fn has_lost_its_start(&self) -> bool {
        self.0.as_ref().is_some_and(|state| {
            let state = state.borrow();
            state.spent.load(Ordering::Relaxed) && state.size > 0
        })
    }

    /// Whether its announced length is beyond the limit on bodies.
    pub(crate) fn is_too_large(&self) -> bool {
        self.0.as_ref().is_some_and(|state| {
            let state = state.borrow();
            state
                .bounds
                .whole
                .is_some_and(|most| state.hint.lower() > most)
        })
    }

    /// The answer has begun: there will be no further attempt, so nothing more is kept.
    pub(crate) fn stop_keeping(&self) {
        if let Some(state) = &self.0 {
            state.borrow_mut().stop_keeping();
        }
    }

    /// Whether all of it has come.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.as_ref().is_none_or(|state| state.borrow().ended)
    }

    /// What the client did wrong, if anything.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.0.as_ref()?.borrow().fault
    }
}

impl State {
    fn all(&self) -> Option<Bytes> {
        if !self.keeps || self.fault.is_some() {
            return None;
        }
        match self.kept.as_slice() {
            [one] => Some(one.clone()),
            kept => Some(kept.concat().into()),
        }
    }

    fn stop_keeping(&mut self) {
        self.keeps = false;
        self.spent.store(true, Ordering::Relaxed);
    }

    fn pull(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(Ok(None));
        };
        let polled = Pin::new(incoming).poll_frame(cx);
        self.awaits(polled.is_pending());
        let Poll::Ready(frame) = polled else {
            let known = self.wakers.iter().any(|waker| waker.will_wake(cx.waker()));
            if !known {
                self.wakers.push(cx.waker().clone());
            }
            return Poll::Pending;
        };
        // The others wait for the same chunk.
        for waker in self.wakers.drain(..) {
            if !waker.will_wake(cx.waker()) {
                waker.wake();
            }
        }
        match frame {
            None => {
                self.ended = true;
                Poll::Ready(Ok(None))
            }
            Some(Err(_)) => Poll::Ready(Err(self.fails(Fault::Broken))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(chunk) => self.take(chunk),
                Err(frame) => {
                    self.ended = true;
                    self.trailers = frame.into_trailers().ok().map(|mut trailers| {
                        forward::trailers(&mut trailers);
                        trailers
                    });
                    Poll::Ready(Ok(None))
                }
            },
        }
    }

    fn take(&mut self, chunk: Bytes) -> Poll<Result<Option<Bytes>, Fault>> {
        self.size += chunk.len() as u64;
        if self.bounds.whole.is_some_and(|most| self.size > most) {
            return Poll::Ready(Err(self.fails(Fault::TooLarge)));
        }
        if self.size > self.bounds.replay as u64 {
            self.spent.store(true, Ordering::Relaxed);
        }
        if self.keeps && self.size > self.bounds.kept() {
            self.stop_keeping();
            self.kept = Vec::new();
        }
        if self.keeps {
            self.kept.push(chunk.clone());
        }
        self.ended = self.incoming.as_ref().is_none_or(Body::is_end_stream);
        Poll::Ready(Ok(Some(chunk)))
    }

    fn fails(&mut self, fault: Fault) -> Fault {
        self.stop_keeping();
        self.fault = Some(fault);
        fault
    }

    fn awaits(&mut self, awaits: bool) {
        if awaits != self.awaited {
            self.awaited = awaits;
            self.times.awaits_body(awaits);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.awaits(false);
    }
}

/// Beyond this, a client's connection is rather lost than read to the end.
const MOST_DISCARDED: u64 = 64 * 1024;
/// Long enough for what is on its way already.
const DISCARDING: Duration = Duration::from_millis(100);

/// The body of one attempt.
#[derive(Debug)]
pub(crate) struct Copy {
    state: Option<Rc<RefCell<State>>>,
    at: usize,
    ended: bool,
}

impl Body for Copy {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        let Some(state) = this.state.as_ref().filter(|_| !this.ended) else {
            return Poll::Ready(None);
        };
        let mut state = state.borrow_mut();
        if let Some(fault) = state.fault {
            return Poll::Ready(Some(Err(fault)));
        }
        if let Some(chunk) = state.kept.get(this.at) {
            this.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if !state.ended {
            match std::task::ready!(state.pull(cx)) {
                Err(fault) => return Poll::Ready(Some(Err(fault))),
                Ok(Some(chunk)) => {
                    this.at += 1;
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                Ok(None) => {}
            }
        }
        this.ended = true;
        let trailers = state.trailers.clone();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
            || self.state.as_ref().is_none_or(|state| {
                let state = state.borrow();
                state.ended && state.trailers.is_none() && self.at >= state.kept.len()
            })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            None => SizeHint::with_exact(0),
            Some(state) if self.at == 0 => state.borrow().hint,
            Some(_) => SizeHint::default(),
        }
    }
}
