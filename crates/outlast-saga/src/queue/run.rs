//! Delivering: what the machine says, with the store and a handler.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::store::Arrival;
use super::*;
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
        let is_shared = self.inner.store.is_shared();
        let mut counts = JoinSet::new();
        if is_shared {
            counts.spawn(count(Arc::clone(&self.inner)));
        }
        while run.owns().await {
            let mut beside = JoinSet::new();
            beside.spawn(sweep(Arc::clone(&self.inner)));
            if is_shared {
                beside.spawn(feed(Arc::clone(&self.inner)));
            }
            run.deliver(&gate, &handler).await;
            beside.shutdown().await;
            run.give_up();
        }
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

    /// Waits until this process delivers the queue; `false` if it is closed.
    async fn owns(&self) -> bool {
        let (inner, name) = (self.inner, &self.inner.config.name);
        loop {
            if inner.closed.load(Ordering::Acquire) {
                return false;
            }
            // What is lost from now on is this time's.
            inner.lost.store(false, Ordering::Release);
            match inner.store.own(name).await {
                Ok(true) => return true,
                Ok(false) => {
                    tokio::select! {
                        () = inner.store.unowned(name) => {}
                        () = inner.changed.notified() => {}
                    }
                }
                Err(_) => pause(LONGEST_WAIT).await,
            }
        }
    }

    /// What was under way is this process's no more, or waits again.
    fn give_up(&self) {
        let inner = self.inner;
        let mut held = inner.held();
        if inner.store.is_shared() {
            held.machine = inner.config.machine(inner.clock.now());
        } else {
            held.machine.abandon();
        }
        drop(held);
        inner.store.disown(&inner.config.name);
    }

    /// Until the queue is closed and all has ended, or another process may deliver it.
    async fn deliver(&self, gate: &(impl Fn() -> bool + Sync), handler: &Handler) {
        let inner = self.inner;
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            if inner.lost.load(Ordering::Acquire) {
                return tasks.shutdown().await;
            }
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
        self.give_up();
        self.inner.runs.store(false, Ordering::Release);
    }
}

impl<S: Store> Inner<S> {
    /// One attempt: it is on the disk before it is made.
    async fn attempt(&self, place: i64, attempt: u32, handler: &Handler) {
        let gone = Verdict::Dead {
            error: String::new(),
        };
        match self.write(place, Change::Attempt { attempt }).await {
            Ok(true) => {}
            Ok(false) => {
                self.count_dead(place, false).await;
                return self.apply(place, attempt, &gone);
            }
            Err(Lost) => return,
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
                if self.store.owns(&self.config.name).await.is_err() {
                    return self.lose();
                }
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
            Verdict::Again {
                attempts,
                due,
                error,
            } => Change::Again {
                attempts,
                due,
                error: shortened(error),
            },
            Verdict::Dead { error } => Change::Died {
                at,
                error: shortened(error),
            },
        };
        let dies = matches!(verdict, Verdict::Dead { .. });
        // Nobody takes it in hand before it is counted.
        let _counted = match dies {
            true => Some(self.hands.read().await),
            false => None,
        };
        let Ok(is_so) = self.write(place, change).await else {
            return;
        };
        if dies {
            self.count_dead(place, is_so).await;
        }
        if is_so {
            self.held().totals.count(&verdict);
        }
        // What waits no more for another reason is not here any more either.
        let gone = Verdict::Delivered;
        self.apply(place, attempt, if is_so { &verdict } else { &gone });
    }

    /// Dead letters need room. If it was not written now, it may have been by a try that was told to have
    /// failed.
    async fn count_dead(&self, place: i64, is_so: bool) {
        if self.store.is_shared() {
            return;
        }
        match self.store.read(place).await {
            Ok(Some((kept, _))) if kept.state == State::Dead => {
                self.held().dead.add(Room::of(kept.size));
            }
            Ok(_) => {}
            // It is counted all the same, if without its bytes.
            Err(_) if is_so => self.held().dead.add(Room::of(0)),
            Err(_) => {}
        }
    }

    fn apply(&self, place: i64, attempt: u32, verdict: &Verdict) {
        let mut held = self.held();
        held.machine.apply(place, attempt, verdict);
        self.recount(&held);
        let is_empty = held.machine.is_empty();
        drop(held);
        self.changed.notify_one();
        if is_empty {
            self.emptied.notify_waiters();
        }
    }

    /// Takes what has arrived; what cannot be taken yet.
    fn take_all(&self, page: Vec<Arrival>) -> Vec<Kept> {
        let now = self.clock.now();
        let mut held = self.held();
        let mut busy = Vec::new();
        for Arrival { mut message, .. } in page {
            message = as_of(message, now, self.config.tries);
            // Whoever pushed it may have another clock.
            if message.attempts == 0 {
                message.due = message.due.min(now);
            }
            if !held.take(&message) {
                busy.push(message);
            }
        }
        drop(held);
        self.changed.notify_one();
        busy
    }

    /// Deliveries end: another process makes them.
    fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Puts a change on the disk, however long that takes; `false` if the message is not there for it.
    async fn write(&self, place: i64, change: Change) -> Result<bool, Lost> {
        let mut wait = SHORTEST_WAIT;
        loop {
            let changed = self.store.change(&self.config.name, place, change.clone());
            match changed.await {
                Ok(is_so) => return Ok(is_so),
                Err(StoreError::Lost { .. }) => {
                    self.lose();
                    return Err(Lost);
                }
                Err(_) => {
                    pause(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }
}

/// Another process delivers the queue, or may.
struct Lost;

/// Takes what others push, and what was pushed before this process delivered the queue.
async fn feed<S: Store>(inner: Arc<Inner<S>>) {
    let name = &inner.config.name;
    let (mut after, mut known) = (0, Vec::new());
    loop {
        // One that somebody has tried again may not be known to be dead here yet.
        known.retain(|kept| !inner.held().take(kept));
        match inner.store.arrivals(name, after, PAGE).await {
            Ok(page) => {
                let is_last = page.len() < PAGE;
                after = page.last().map_or(after, |last| last.number);
                known.extend(inner.take_all(page));
                if !known.is_empty() {
                    pause(SOON).await;
                } else if is_last {
                    inner.store.arrived(name).await;
                }
            }
            Err(StoreError::Lost { .. }) => return inner.lose(),
            Err(_) => pause(LONGEST_WAIT).await,
        }
    }
}

/// Asks every second what is in it.
async fn count<S: Store>(inner: Arc<Inner<S>>) {
    loop {
        // What was known before is shown until the store answers.
        let _ = inner.count().await;
        pause(Duration::from_secs(1)).await;
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
