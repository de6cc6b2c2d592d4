//! Calls whose answer is read after they have ended.
//!
//! A response's head decides about retries, hedges and failover, but whether the dependency did its
//! work is known when the body has been read: a connection may break in the middle, and gRPC says
//! in its trailers how a call went. So the call ends with the head, and the attempt stays open: it
//! keeps its seat in the bulkhead, and the breaker waits for its outcome. How long it took is the
//! time to the head; a long stream is no slow call.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use outlast_core::call::Open;
use outlast_core::fallback::Why;
use outlast_core::outcome::Outcome;
use outlast_core::time::Time;
use pin_project_lite::pin_project;

use crate::attempt::Attempt;
use crate::caller::Options;
use crate::calling::Closure;
use crate::classify::{ByResult, Classify};
use crate::clock::instant_of;
use crate::error::Error;
use crate::run::Run;
use crate::upstream::Upstream;

pin_project! {
    /// A call that runs when it is awaited, and whose answer stays open. Dropping it cancels the
    /// call.
    #[must_use = "futures do nothing unless awaited"]
    pub struct Opening<'a, F, Fut, T, E, C = ByResult> {
        upstream: &'a Upstream,
        #[pin]
        run: Run<&'a outlast_core::upstream::Upstream, Closure<'a, F>, Fut, T, E, C>,
    }
}

impl<'a, F, Fut, T, E, C> Opening<'a, F, Fut, T, E, C>
where
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    C: Classify<Result<T, E>>,
{
    pub(crate) fn new(upstream: &'a Upstream, attempt: F, classify: C, options: Options) -> Self {
        let inner = &*upstream.inner;
        let start = Closure { inner, attempt };
        Opening {
            upstream,
            run: Run::new(&inner.core, inner.clock, start, classify, options).opening(),
        }
    }
}

impl<'a, F, Fut, T, E, C> Future for Opening<'a, F, Fut, T, E, C>
where
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    C: Classify<Result<T, E>>,
{
    type Output = Opened<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Opened<T, E>> {
        let mut this = self.project();
        let ending = std::task::ready!(this.run.as_mut().poll(cx));
        let open = this.run.take_open();
        Poll::Ready(Opened {
            result: ending.result,
            why: ending.why,
            attempts: ending.attempts,
            endpoint: open.as_ref().map(Open::endpoint),
            deadline: Some(ending.deadline)
                .filter(|&deadline| deadline < Time::MAX)
                .and_then(instant_of),
            open: open.map(|open| OpenAnswer {
                upstream: this.upstream.clone(),
                open: Some(open),
            }),
        })
    }
}

/// How a call ended whose answer is still to be read.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened<T, E> {
    /// The result.
    pub result: Result<T, Error<E>>,
    /// The attempt that answers; `None` if none does, or its outcome is known.
    pub open: Option<OpenAnswer>,
    /// Why a fallback might answer instead; `None` for a success.
    pub why: Option<Why>,
    /// How many attempts were made.
    pub attempts: u32,
    /// The number of the endpoint that answers.
    pub endpoint: Option<usize>,
    /// When the whole call, with the reading of its answer, should end.
    pub deadline: Option<Instant>,
}

/// An attempt whose answer is being read. It holds a seat in the bulkhead.
#[derive(Debug)]
#[must_use = "dropped, the answer says nothing about the dependency"]
pub struct OpenAnswer {
    upstream: Upstream,
    open: Option<Open>,
}

impl OpenAnswer {
    /// How long the attempt took until its answer began.
    pub fn took(&self) -> Duration {
        self.open.as_ref().map(Open::took).unwrap_or_default()
    }

    /// The answer was read to its end, or broke off. Dropping it instead says nothing about the
    /// dependency: [`Outcome::Ignored`].
    pub fn record(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Outcome) {
        if let Some(open) = self.open.take() {
            let inner = &self.upstream.inner;
            inner.core.close(open, outcome, inner.clock.now());
        }
    }
}

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        self.close(Outcome::Ignored);
    }
}
