//! Delivering: what the machine says, with the store and a handler.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::event::Stamp;
use crate::runner::words_of;

type Delivering = Pin<Box<dyn Future<Output = Result<(), DeliveryError>> + Send>>;
type Handler = Arc<dyn Fn(Delivery) -> Delivering + Send + Sync>;

impl<S: Store> Queue<S> {
    /// Delivers until [`Queue::close`]. `Ok` of the handler is an acknowledgement; its messages are not
    /// delivered again once that is on the disk. If the future is dropped, deliveries under way are
    /// given up, and made again by the next one.
    ///
    /// # Errors
    /// If somebody delivers it already.
    pub async fn run<F>(
        &self,
        handler: impl Fn(Delivery) -> F + Send + Sync + 'static,
    ) -> Result<(), Runs>
    where
        F: Future<Output = Result<(), DeliveryError>> + Send + 'static,
    {
        self.run_when(|| true, handler).await
    }

    /// Like [`Queue::run`], but begins no delivery while the gate says `false`; no message loses an
    /// attempt by that. The gate is asked before every delivery, and ten times a second while it is
    /// closed: the place for the state of the receiver's breaker, or a budget that is shared.
    ///
    /// # Errors
    /// If somebody delivers it already.
    pub async fn run_when<F>(
        &self,
        gate: impl Fn() -> bool + Send + Sync + 'static,
        handler: impl Fn(Delivery) -> F + Send + Sync + 'static,
    ) -> Result<(), Runs>
    where
        F: Future<Output = Result<(), DeliveryError>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |delivery| Box::pin(handler(delivery)));
        let run = Run::begin(&self.inner)?;
        let mut sweeps = JoinSet::new();
        sweeps.spawn(sweep(Arc::clone(&self.inner)));
        run.deliver(&gate, &handler).await;
        Ok(())
    }
}

/// Whoever delivers. When it is dropped somebody else may.
struct Run<'a, S: Store> {
    inner: &'a Arc<Inner<S>>,
}

impl<'a, S: Store> Run<'a, S> {
    fn begin(inner: &'a Arc<Inner<S>>) -> Result<Run<'a, S>, Runs> {
        if inner.runs.swap(true, Ordering::AcqRel) {
            return Err(Runs);
        }
        Ok(Run { inner })
    }

    async fn deliver(&self, gate: &(impl Fn() -> bool + Sync), handler: &Handler) {
        let inner = self.inner;
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            if inner.closed.load(Ordering::Acquire) {
                while tasks.join_next().await.is_some() {}
                return;
            }
            let is_open = gate();
            let now = inner.clock.now();
            let (next, is_empty) = {
                let mut held = inner.held();
                (held.machine.next(now, is_open), held.machine.is_empty())
            };
            match next {
                Next::Begin { place, attempt } => {
                    let (inner, handler) = (Arc::clone(inner), Arc::clone(handler));
                    tasks.spawn(async move { inner.attempt(place, attempt, &handler).await });
                }
                Next::Expire { place, attempts } => {
                    tasks.spawn(Arc::clone(inner).bury(place, attempts, TOO_OLD));
                }
                Next::GiveUp { place, attempts } => {
                    tasks.spawn(Arc::clone(inner).bury(place, attempts, NOT_KNOWN));
                }
                Next::Wait(until) => {
                    let asks = (!is_open && !is_empty).then(|| now.after(BETWEEN_ASKS));
                    let until = until.into_iter().chain(asks).min();
                    tokio::select! {
                        () = inner.changed.notified() => {}
                        Some(_) = tasks.join_next() => {}
                        () = sleep_until(until.map(|until| inner.clock.at(until))) => {}
                    }
                }
            }
        }
    }
}

impl<S: Store> Drop for Run<'_, S> {
    fn drop(&mut self) {
        self.inner.held().machine.abandon();
        self.inner.runs.store(false, Ordering::Release);
    }
}

impl<S: Store> Inner<S> {
    /// One attempt: it is on the disk before it is made.
    async fn attempt(&self, place: i64, attempt: u32, handler: &Handler) {
        let gone = Verdict::Dead {
            error: String::new(),
        };
        if !self.write(place, Change::Attempt { attempt }).await {
            self.count_dead(place, false).await;
            return self.apply(place, attempt, &gone);
        }
        let came = match self.store.read(place).await {
            Ok(Some((kept, payload))) => {
                let delivery = Delivery {
                    id: kept.id,
                    key: kept.key,
                    payload,
                    attempt,
                    pushed: kept.pushed,
                };
                came(handler, delivery, self.config.timeout).await
            }
            Ok(None) => return self.apply(place, attempt, &gone),
            Err(error) => Err(DeliveryError::transient(error.to_string())),
        };
        let now = self.clock.now();
        let verdict = self.held().machine.ended(place, came, now);
        self.settle(place, attempt, verdict).await;
    }

    /// Writes that a message is dead without another attempt.
    async fn bury(self: Arc<Self>, place: i64, attempts: u32, error: &'static str) {
        let error = error.to_owned();
        self.settle(place, attempts, Verdict::Dead { error }).await;
    }

    /// Writes what became of a message, and lets its key go on.
    async fn settle(&self, place: i64, attempt: u32, verdict: Verdict) {
        let at = self.clock.now();
        let change = match verdict.clone() {
            Verdict::Delivered => Change::Delivered { at },
            Verdict::Again { due, error } => Change::Again {
                due,
                error: shortened(error),
            },
            Verdict::Dead { error } => Change::Died {
                at,
                error: shortened(error),
            },
        };
        let is_so = self.write(place, change).await;
        if matches!(verdict, Verdict::Dead { .. }) {
            self.count_dead(place, is_so).await;
        }
        // What waits no more for another reason is not here any more either.
        let gone = Verdict::Delivered;
        self.apply(place, attempt, if is_so { &verdict } else { &gone });
    }

    /// Dead letters need room. If it was not written now, it may have been by a try that was told to have
    /// failed.
    async fn count_dead(&self, place: i64, is_so: bool) {
        match self.store.read(place).await {
            Ok(Some((kept, _))) if kept.state == State::Dead => self.held().take(&kept),
            Ok(_) => {}
            // It is counted all the same, if without its bytes.
            Err(_) if is_so => self.held().dead.add(Room::of(0)),
            Err(_) => {}
        }
    }

    fn apply(&self, place: i64, attempt: u32, verdict: &Verdict) {
        let mut held = self.held();
        held.machine.apply(place, attempt, verdict);
        let is_empty = held.machine.is_empty();
        drop(held);
        self.changed.notify_one();
        if is_empty {
            self.emptied.notify_waiters();
        }
    }

    /// Puts a change on the disk, however long that takes; `false` if the message is not there for it.
    async fn write(&self, place: i64, change: Change) -> bool {
        let mut wait = SHORTEST_WAIT;
        loop {
            match self.store.change(place, change.clone()).await {
                Ok(is_so) => return is_so,
                Err(_) => {
                    pause(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }
}

/// What comes of a delivery within its time.
async fn came(
    handler: &Handler,
    delivery: Delivery,
    timeout: Duration,
) -> Result<(), DeliveryError> {
    let made = catch_unwind(AssertUnwindSafe(|| handler(delivery)));
    let mut delivering = match made {
        Ok(delivering) => delivering,
        Err(panic) => return Err(DeliveryError::unknown(words_of(panic.as_ref()))),
    };
    let caught = std::future::poll_fn(move |cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| delivering.as_mut().poll(cx)));
        polled.unwrap_or_else(|panic| {
            Poll::Ready(Err(DeliveryError::unknown(words_of(panic.as_ref()))))
        })
    });
    let late = |_| {
        Err(DeliveryError::unknown(format!(
            "no answer within {timeout:?}"
        )))
    };
    tokio::time::timeout(timeout, caught)
        .await
        .unwrap_or_else(late)
}

/// Forgets, from time to time, what ended long ago.
async fn sweep<S: Store>(inner: Arc<Inner<S>>) {
    loop {
        pause(BETWEEN_SWEEPS).await;
        let before = inner.clock.now().0;
        let remember = u64::try_from(inner.config.remember.as_millis()).unwrap_or(u64::MAX);
        let before = Stamp(before.saturating_sub(remember));
        let name = &inner.config.name;
        // A store that fails is asked again at the next sweep.
        while let Ok(SWEPT_AT_ONCE) = inner
            .store
            .forget_messages(name, before, SWEPT_AT_ONCE)
            .await
        {}
    }
}

/// Errors are for people; a receiver's may be a whole page.
fn shortened(mut error: String) -> String {
    let mut end = MOST_ERROR.min(error.len());
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error.truncate(end);
    error
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever delivers waits for stores that fail, and between sweeps"
)]
async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

const TOO_OLD: &str = "it was not delivered in its time";
const NOT_KNOWN: &str = "given up: whoever made its last attempt went away before it had ended";
const BETWEEN_ASKS: Duration = Duration::from_millis(100);
const BETWEEN_SWEEPS: Duration = Duration::from_secs(10);
/// One transaction must not hold up pushes for long.
const SWEPT_AT_ONCE: usize = 1000;
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Bytes of an error on the record.
const MOST_ERROR: usize = 1000;
