//! Those who wait for a seat, in the order in which they came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::sync::{Mutex, MutexGuard, lock};
use crate::time::Time;
use crate::waiting::{Answer, Waiter};

#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Arc<Waiter>>>,
}

impl Queue {
    /// A queue with room for the first few; it never grows beyond the bulkhead's bound.
    pub(super) fn new(bound: u32) -> Queue {
        let room = bound.min(16) as usize;
        Queue {
            waiting: Mutex::new(VecDeque::with_capacity(room)),
        }
    }

    /// The lock under which callers enter, leave and are granted their seat.
    pub(super) fn lock(&self) -> Locked<'_> {
        Locked(lock(&self.waiting))
    }
}

pub(super) struct Locked<'a>(MutexGuard<'a, VecDeque<Arc<Waiter>>>);

impl Locked<'_> {
    pub(super) fn push(mut self, waiter: Arc<Waiter>) {
        self.0.push_back(waiter);
    }

    /// The one who waited longest; from now on its ticket is granted.
    pub(super) fn pop(&mut self) -> Option<Arc<Waiter>> {
        let waiter = self.0.pop_front()?;
        waiter.decide(Answer::Granted);
        Some(waiter)
    }

    pub(super) fn remove(mut self, waiter: &Arc<Waiter>) {
        self.0.retain(|other| !Arc::ptr_eq(other, waiter));
    }
}

/// A place in the queue. Leave with [`Bulkhead::leave`](super::Bulkhead::leave) or turn it into
/// a seat with [`Bulkhead::redeem`](super::Bulkhead::redeem).
#[derive(Debug)]
#[must_use = "a ticket that is dropped keeps its place in the queue"]
pub struct Ticket {
    pub(super) waiter: Arc<Waiter>,
    pub(super) since: Time,
}

impl Ticket {
    /// Wakes `waker` when the seat is granted; the last one set counts. If it has been granted
    /// already, `waker` is woken at once.
    pub fn wake(&self, waker: &Waker) {
        self.waiter.listen(waker);
    }

    /// When it began to wait.
    pub(crate) fn since(&self) -> Time {
        self.since
    }

    /// Whether the seat is there.
    pub fn is_granted(&self) -> bool {
        self.waiter.answer() == Answer::Granted
    }
}
