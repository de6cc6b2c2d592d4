//! Whose sagas and queues are, as far as this runner knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::StoreError;
use super::link::{Failure, Link};
use super::{LONGEST_WAIT, SHORTEST_WAIT, statements};
use crate::event::Stamp;

#[derive(Debug)]
pub(super) struct Lease {
    /// How long it is.
    time: Duration,
    state: Mutex<Known>,
    /// Something of `state` has changed.
    changed: Notify,
    /// There may be something to claim.
    free: Notify,
    /// Of queues that somebody has open here.
    ears: Mutex<HashMap<String, Arc<Ears>>>,
}

/// What others tell of a queue.
#[derive(Debug, Default)]
pub(super) struct Ears {
    /// There may be messages that were pushed elsewhere.
    pub(super) arrived: Notify,
    /// Nobody may deliver it.
    pub(super) free: Notify,
}

#[derive(Debug)]
struct Known {
    /// The row of this runner. Struck off, it gets another one.
    runner: i64,
    /// What time it was in the database when it was entered, and when that was.
    entered: (Stamp, Instant),
    /// Until when nobody strikes it off, at least.
    until: Instant,
    has_left: bool,
    held: HashMap<String, Held>,
    /// Queues that are delivered here.
    owned: HashMap<String, Owned>,
}

/// Under which runner and epoch this process delivers a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owned {
    pub(super) runner: i64,
    pub(super) epoch: i64,
}

/// A saga of this runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) place: i64,
    pub(super) epoch: i64,
    /// Of its log.
    pub(super) length: u64,
    /// It goes on or back by itself.
    pub(super) is_open: bool,
}

impl Lease {
    pub(super) fn new(time: Duration) -> Lease {
        Lease {
            time,
            state: Mutex::new(Known {
                runner: 0,
                entered: (Stamp(0), Instant::now()),
                until: Instant::now(),
                has_left: false,
                held: HashMap::new(),
                owned: HashMap::new(),
            }),
            changed: Notify::new(),
            free: Notify::new(),
            ears: Mutex::default(),
        }
    }

    /// Gets a row. What the row before it had is somebody else's.
    pub(super) async fn enter(&self, link: &mut Link, name: &str) -> Result<(), Failure> {
        let sent = Instant::now();
        let millis = self.time.as_millis() as i64;
        let rows = link.open().await?;
        let rows = rows.rows(statements::ENTER, &[&name, &millis]).await?;
        let mut known = self.known();
        known.runner = rows[0].get(0);
        known.entered = (Stamp(rows[0].get::<_, i64>(1) as u64), Instant::now());
        known.until = sent + self.time;
        known.held.clear();
        known.owned.clear();
        drop(known);
        self.changed.notify_waiters();
        self.free.notify_one();
        Ok(())
    }

    /// `false` if it was struck off.
    async fn renew(&self, link: &mut Link) -> Result<bool, Failure> {
        let sent = Instant::now();
        let millis = self.time.as_millis() as i64;
        let runner = self.runner();
        let open = link.open().await?;
        let renewed = async { open.rows(statements::RENEW, &[&runner, &millis]).await };
        let renewed = timeout(self.time / 3, renewed).await;
        let renewed = renewed.map_err(|_| Failure::Cut("renewing took too long".to_owned()))??;
        if renewed.is_empty() {
            return Ok(false);
        }
        self.known().until = sent + self.time;
        self.changed.notify_waiters();
        Ok(true)
    }

    /// Waits until enough of it is left to begin something for a saga.
    pub(super) async fn ready(&self, id: &str, length: u64) -> Result<(), StoreError> {
        let is_own = |known: &Known| known.held.get(id).is_some_and(|held| held.length == length);
        self.enough(id, is_own).await
    }

    /// Waits until enough of it is left to begin a delivery.
    pub(super) async fn owns(&self, queue: &str) -> Result<(), StoreError> {
        self.enough(queue, |known| known.owned.contains_key(queue))
            .await
    }

    async fn enough(&self, id: &str, is_own: impl Fn(&Known) -> bool) -> Result<(), StoreError> {
        loop {
            // It hears what happens from now on.
            let changed = self.changed.notified();
            {
                let known = self.known();
                if !is_own(&known) {
                    return Err(StoreError::Lost { id: id.to_owned() });
                }
                if Instant::now() + self.time / 3 < known.until {
                    return Ok(());
                }
            }
            changed.await;
        }
    }

    /// Waits until somebody says that there is something to claim, or for a quarter of a lease.
    pub(super) async fn freed(&self) {
        // It is told in vain either way.
        let _ = timeout(self.time / 4, self.free.notified()).await;
        #[expect(
            clippy::disallowed_methods,
            reason = "runners that tell each other do not spin"
        )]
        tokio::time::sleep(CALM).await;
    }

    pub(super) fn hear(&self) {
        self.free.notify_one();
    }

    /// What time it is by the database's clock, as far as is known here.
    pub(super) fn time(&self) -> Stamp {
        let (then, entered) = self.known().entered;
        then.after(entered.elapsed())
    }

    /// Something was pushed into a queue, or, if none is named, some may be nobody's.
    pub(super) fn hear_of_queue(&self, queue: &str) {
        let ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        match queue {
            "" => ears.values().for_each(|ears| ears.free.notify_one()),
            queue => {
                if let Some(ears) = ears.get(queue) {
                    ears.arrived.notify_one();
                }
            }
        }
    }

    /// Somebody has a queue open here; `false` if somebody had.
    pub(super) fn open(&self, queue: &str) -> bool {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !ears.contains_key(queue);
        ears.entry(queue.to_owned()).or_default();
        is_new
    }

    pub(super) fn close(&self, queue: &str) {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        ears.remove(queue);
    }

    /// What others tell of a queue; `None` if nobody has it open.
    pub(super) fn ears(&self, queue: &str) -> Option<Arc<Ears>> {
        let ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        ears.get(queue).cloned()
    }

    /// How long it is.
    pub(super) fn lasts(&self) -> Duration {
        self.time
    }

    /// A queue is delivered here, if this is still the runner of that row.
    pub(super) fn own(&self, queue: &str, owned: Owned) {
        let mut known = self.known();
        if known.runner == owned.runner && !known.has_left {
            known.owned.insert(queue.to_owned(), owned);
        }
    }

    pub(super) fn owned(&self, queue: &str) -> Option<Owned> {
        self.known().owned.get(queue).copied()
    }

    pub(super) fn disown(&self, queue: &str) -> Option<Owned> {
        self.known().owned.remove(queue)
    }

    pub(super) fn runner(&self) -> i64 {
        self.known().runner
    }

    pub(super) fn has_left(&self) -> bool {
        self.known().has_left
    }

    /// Nothing is begun any more.
    pub(super) fn left(&self) {
        let mut known = self.known();
        known.has_left = true;
        known.held.clear();
        known.owned.clear();
        drop(known);
        self.changed.notify_waiters();
    }

    pub(super) fn held(&self, id: &str) -> Option<Held> {
        self.known().held.get(id).copied()
    }

    pub(super) fn holds_open(&self, id: &str) -> bool {
        let mut known = self.known();
        if known.held.get(id).is_some_and(|held| held.is_open) {
            return true;
        }
        // Others may take it: nothing has to be said.
        known.held.remove(id);
        false
    }

    pub(super) fn places(&self) -> Vec<i64> {
        self.known().held.values().map(|held| held.place).collect()
    }

    /// It is this runner's, if that is still the one of that row.
    pub(super) fn hold(&self, runner: i64, id: &str, held: Held) {
        let mut known = self.known();
        if known.runner == runner && !known.has_left {
            known.held.insert(id.to_owned(), held);
        }
    }

    pub(super) fn let_go(&self, id: &str) {
        self.known().held.remove(id);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews it until the store is dropped.
#[expect(clippy::disallowed_methods, reason = "a lease is kept by a task")]
pub(super) fn keep(lease: &Arc<Lease>, mut link: Link, name: String) -> AbortHandle {
    let lease = Arc::clone(lease);
    let task = tokio::spawn(async move {
        let mut wait = SHORTEST_WAIT;
        let mut next = Instant::now() + lease.time / 3;
        loop {
            sleep_until(next).await;
            if lease.has_left() {
                return;
            }
            let kept = match lease.renew(&mut link).await {
                Ok(false) if !lease.has_left() => lease.enter(&mut link, &name).await,
                kept => kept.map(drop),
            };
            if kept.is_ok() {
                next = Instant::now() + lease.time / 3;
                wait = SHORTEST_WAIT;
            } else {
                link.cut();
                next = Instant::now() + wait;
                wait = (wait * 2).min(LONGEST_WAIT).min(lease.time / 6);
            }
        }
    });
    task.abort_handle()
}

/// Between one look for work and the next, at least.
const CALM: Duration = Duration::from_millis(20);
