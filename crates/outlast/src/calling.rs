//! The future of a call.

use std::pin::Pin;
use std::task::{Context, Poll};

use outlast_core::call::Call;
use outlast_core::fallback::Why;
use outlast_core::time::Time;
use pin_project_lite::pin_project;

use crate::attempt::{Attempt, Raw};
use crate::caller::Options;
use crate::classify::{ByResult, Classify};
use crate::clock::instant_of;
use crate::deadline::scope;
use crate::error::Error;
use crate::run::{Run, Start};
use crate::stale::{Answer, Stale};
use crate::upstream::Inner;

pin_project! {
    /// A call that runs when it is awaited. Dropping it cancels the call; every permit, seat and
    /// place in a queue is returned.
    #[must_use = "futures do nothing unless awaited"]
    pub struct Calling<'a, F, Fut, T, E, C = ByResult> {
        inner: &'a Inner,
        #[pin]
        run: Run<&'a outlast_core::upstream::Upstream, Closure<'a, F>, Fut, T, E, C>,
    }
}

impl<'a, F, Fut, T, E, C> Calling<'a, F, Fut, T, E, C>
where
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    C: Classify<Result<T, E>>,
{
    pub(crate) fn new(inner: &'a Inner, attempt: F, classify: C, options: Options) -> Self {
        let start = Closure { inner, attempt };
        Calling {
            inner,
            run: Run::new(&inner.core, inner.clock, start, classify, options),
        }
    }

    /// Answers with `value` when the call ends without an answer. What that covers is the
    /// upstream's [`fallback::Config`](crate::fallback::Config).
    ///
    /// # Errors
    /// Only for what the fallback does not cover.
    pub async fn fallback_value(self, value: T) -> Result<T, Error<E>> {
        self.fallback(|_| async { Ok(value) }).await
    }

    /// Asks `fallback` for an answer when the call ends without one, and tells it why. The call's
    /// deadline holds for it, too: one that is not done by then is dropped, and the call ends as it
    /// would without a fallback. One that answers at once always may.
    ///
    /// # Errors
    /// For what the fallback does not cover, and [`Error::Fallback`] when it fails itself.
    pub async fn fallback<G, GFut>(self, fallback: G) -> Result<T, Error<E>>
    where
        G: FnOnce(Why) -> GFut,
        GFut: Future<Output = Result<T, E>>,
    {
        let inner = self.inner;
        let ending = self.run.await;
        match ending.why {
            Some(why) if inner.core.falls_back(why) => {
                match until(ending.deadline, fallback(why)).await {
                    Some(answer) => ending.replace(answer),
                    None => ending.result,
                }
            }
            _ => ending.result,
        }
    }

    /// Remembers good answers in `cache` under `key`, and answers with the last one when the call
    /// ends without an answer, if it is not too old. A stale answer says so, and why. If the cache
    /// has an answer that is [fresh enough](Stale::fresh_for), the call is not made.
    ///
    /// # Errors
    /// For what the fallback does not cover, and when nothing is remembered.
    pub async fn fallback_stale<K>(self, cache: &Stale<K, T>, key: K) -> Result<Answer<T>, Error<E>>
    where
        K: std::hash::Hash + Eq,
        T: Clone,
    {
        let inner = self.inner;
        if let Some((value, age)) = cache.fresh(&key, inner.clock.now()) {
            return Ok(Answer::Cached { value, age });
        }
        self.run.await.or_stale(inner, cache, key)
    }
}

impl<'a, F, Fut, T, E, C> Future for Calling<'a, F, Fut, T, E, C>
where
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    C: Classify<Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Error<E>>> {
        self.project().run.poll(cx).map(|ending| ending.result)
    }
}

/// Runs `work` with this deadline; `None` when it is not done by then.
async fn until<F: Future>(deadline: Time, work: F) -> Option<F::Output> {
    let Some(end) = instant_of(deadline).filter(|_| deadline < Time::MAX) else {
        return Some(work.await);
    };
    tokio::time::timeout_at(end.into(), scope(end, work))
        .await
        .ok()
}

/// Makes attempts by calling a closure.
pub(crate) struct Closure<'a, F> {
    pub(crate) inner: &'a Inner,
    pub(crate) attempt: F,
}

impl<F, Fut> Start for Closure<'_, F>
where
    F: FnMut(Attempt) -> Fut,
    Fut: Future,
{
    type Future = Fut;

    #[inline(always)]
    fn start<U>(&mut self, raw: Raw<'_>, call: &mut Call<U>) -> Fut
    where
        U: std::ops::Deref<Target = outlast_core::upstream::Upstream>,
    {
        (self.attempt)(Attempt::new(self.inner, raw, call))
    }
}
