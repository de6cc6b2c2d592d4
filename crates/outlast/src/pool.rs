//! Blocking or CPU-heavy work in its own named threads.
//!
//! A thread cannot be interrupted. When a caller's timeout cuts an attempt, its thread works on,
//! and the attempt's seat in the bulkhead stays taken until the thread is really free: a hung
//! dependency can hold all threads of its own pool and not one of anybody else's. Work whose
//! caller has gone before a thread took it up is never begun.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;

use outlast_core::bulkhead::Seat;
use outlast_core::call::Call;
use outlast_core::config::ConfigError;
use pin_project_lite::pin_project;
use tokio::sync::oneshot;

use crate::attempt::{Attempt, Raw};
use crate::caller::Options;
use crate::classify::{ByResult, Classify};
use crate::deadline::{Entered, current_time};
use crate::error::Error;
use crate::run::{Run, Start};
use crate::upstream::{Held, Inner, Upstream};

/// Threads for the attempts of one upstream: the thread-pool bulkhead. The threads end when the
/// pool is dropped and their work is done.
pub struct Pool {
    upstream: Upstream,
    jobs: Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Upstream {
    /// Threads for blocking attempts, named `outlast-NAME-N`. The upstream's bulkhead bounds what
    /// they do and queues what they cannot do yet.
    ///
    /// # Errors
    /// Without a bulkhead that is enforced and has at most as many seats as there are threads; and when
    /// a thread cannot be made.
    pub fn pool(&self, threads: u32) -> Result<Pool, ConfigError> {
        let core = &self.inner.core;
        let seats = core.bulkhead().filter(|_| core.bulkhead_is_enforced());
        let Some(seats) = seats.map(|bulkhead| bulkhead.stats().concurrency) else {
            return Err(ConfigError::new(
                "bulkhead",
                "must be set and enforced for a pool; give it as many seats as the pool has threads",
            ));
        };
        if seats > threads {
            return Err(ConfigError::new(
                "bulkhead.concurrency",
                "must not exceed the threads of the pool, or attempts would wait unseen",
            ));
        }
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads {
            let queue = Arc::clone(&queue);
            let name = format!("outlast-{}-{number}", self.name());
            thread::Builder::new()
                .name(name)
                .spawn(move || work(&queue))
                .map_err(|_| {
                    ConfigError::new("pool.threads", "could not all be started; ask for fewer")
                })?;
        }
        Ok(Pool {
            upstream: self.clone(),
            jobs,
        })
    }
}

impl Pool {
    /// Calls the dependency through all policies, each attempt on a thread of the pool. `Ok` is a
    /// success and `Err` a transient failure; for settings of single calls see
    /// [`Caller::call_on`](crate::Caller::call_on).
    pub fn call<F, T, E>(&self, attempt: F) -> PoolCall<F, T, E>
    where
        F: Fn(Attempt) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.upstream.caller().call_on(self, attempt)
    }

    pub(crate) fn belongs_to(&self, inner: &Inner) -> bool {
        std::ptr::eq(&*self.upstream.inner, inner)
    }

    pub(crate) fn run<F, T, E, C>(
        &self,
        attempt: F,
        classify: C,
        options: Options,
    ) -> PoolCall<F, T, E, C> {
        let start = Jobs {
            upstream: self.upstream.clone(),
            jobs: self.jobs.clone(),
            attempt: Arc::new(attempt),
            result: std::marker::PhantomData,
        };
        let clock = self.upstream.inner.clock;
        PoolCall {
            run: Run::new(Held(self.upstream.clone()), clock, start, classify, options),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("upstream", &self.upstream.name())
            .finish_non_exhaustive()
    }
}

/// One thread of a pool.
fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

pin_project! {
    /// A call whose attempts run on a [`Pool`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct PoolCall<F, T, E, C = ByResult> {
        #[pin]
        run: Run<Held, Jobs<F, T, E>, Working<Result<T, E>>, T, E, C>,
    }
}

impl<F, T, E, C> Future for PoolCall<F, T, E, C>
where
    C: Classify<Result<T, E>>,
    F: Fn(Attempt) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<T, Error<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Error<E>>> {
        self.project().run.poll(cx).map(|ending| ending.result)
    }
}

/// Makes attempts by handing them to the threads.
struct Jobs<F, T, E> {
    upstream: Upstream,
    jobs: Sender<Job>,
    attempt: Arc<F>,
    result: std::marker::PhantomData<fn() -> (T, E)>,
}

impl<F, T, E> Start for Jobs<F, T, E>
where
    F: Fn(Attempt) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Future = Working<Result<T, E>>;

    fn start<U>(&mut self, raw: Raw<'_>, call: &mut Call<U>) -> Working<Result<T, E>>
    where
        U: Deref<Target = outlast_core::upstream::Upstream>,
    {
        let (sender, receiver) = oneshot::channel();
        let seat = Taken {
            upstream: self.upstream.clone(),
            seat: call.take_seat(raw.attempt.id),
        };
        let closure = Arc::clone(&self.attempt);
        let attempt = Attempt::new(&self.upstream.inner, raw, call);
        let ends = raw.attempt.ends.min(raw.deadline).min(current_time());
        let job = move || {
            let seat = seat;
            if sender.is_closed() {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| {
                let _entered = Entered::new(ends);
                closure(attempt)
            }));
            drop(seat);
            // A caller that has gone does not want it.
            let _ = sender.send(result);
        };
        // The threads live as long as the pool, and the call holds a sender of it.
        self.jobs
            .send(Box::new(job))
            .expect("the threads wait for jobs");
        Working { result: receiver }
    }
}

/// A seat that stays taken until the thread is free.
struct Taken {
    upstream: Upstream,
    seat: Option<Seat>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let bulkhead = self.upstream.inner.core.bulkhead();
        if let (Some(bulkhead), Some(seat)) = (bulkhead, self.seat.take()) {
            bulkhead.release(seat);
        }
    }
}

/// An attempt on another thread. A panic there is a panic here.
struct Working<R> {
    result: oneshot::Receiver<thread::Result<R>>,
}

impl<R> Future for Working<R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let sent = ready!(Pin::new(&mut self.result).poll(cx));
        match sent.expect("a job sends its result or panics with it") {
            Ok(result) => Poll::Ready(result),
            Err(panic) => resume_unwind(panic),
        }
    }
}
