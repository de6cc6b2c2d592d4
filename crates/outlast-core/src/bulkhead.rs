//! So many calls at once, and no more.
//!
//! A ship's bulkhead: one flooded compartment must not sink the others. A dependency that hangs
//! may hold `concurrency` seats; further calls wait in a short queue, in the order of their
//! arrival, and when that is full or takes too long they are rejected, instead of taking threads
//! and memory from the calls to everything else.
//!
//! The laws it keeps:
//! - never more than `concurrency` seats are taken (after [`Bulkhead::resize`] to fewer, the
//!   surplus drains as seats are returned);
//! - a free seat goes to the longest waiting caller, never to one that has just come;
//! - a caller that gives up leaves the queue at once, and a seat that was granted to it in the
//!   same instant goes to the next.
//!
//! Without contention a seat costs two compare-and-swaps on one word; the lock is taken only when
//! somebody waits.

mod queue;

use std::sync::Arc;
use std::time::Duration;

pub use queue::Ticket;

use self::queue::Queue;
use crate::config::{ConfigError, DAY, ensure};
use crate::reject::{Reason, Rejection};
use crate::seats::{Joined, MOST, Seats};
use crate::sync::{AtomicU64, Ordering};
use crate::time::{Time, nanos};
use crate::waiting::Waiter;

/// Seats shared by the calls to one upstream.
#[derive(Debug)]
pub struct Bulkhead {
    seats: Seats,
    queue: Queue,
    waits: Waits,
    rejected: AtomicU64,
    bound: u32,
    queue_timeout: Duration,
}

/// How long callers waited for a seat.
#[derive(Debug, Default)]
struct Waits {
    count: AtomicU64,
    total: AtomicU64,
    longest: AtomicU64,
}

/// The answer to somebody who wants a seat.
#[derive(Debug)]
pub enum Admission {
    /// Take it.
    Seat(Seat),
    /// Wait for it.
    Queued(Ticket),
}

/// A taken seat. Return it with [`Bulkhead::release`].
#[derive(Debug)]
#[must_use = "a seat that is not released is lost for ever"]
pub struct Seat(());

impl Bulkhead {
    /// An empty bulkhead.
    ///
    /// # Errors
    /// If `config` cannot work; the error names the setting and the mend.
    pub fn new(config: Config) -> Result<Bulkhead, ConfigError> {
        config.check()?;
        Ok(Bulkhead {
            seats: Seats::new(config.concurrency),
            queue: Queue::new(config.queue),
            waits: Waits::default(),
            rejected: AtomicU64::new(0),
            bound: config.queue,
            queue_timeout: config.queue_timeout,
        })
    }

    /// Asks for a seat.
    ///
    /// # Errors
    /// When all seats are taken and the queue is full.
    #[inline]
    pub fn admit(&self, now: Time) -> Result<Admission, Rejection> {
        if let Some(seat) = self.take() {
            return Ok(Admission::Seat(seat));
        }
        if self.bound > 0 {
            return self.enqueue(now);
        }
        self.reject(Reason::Full)
    }

    /// Asks for a seat that is free now; never waits.
    ///
    /// # Errors
    /// When none is.
    #[inline]
    pub fn try_admit(&self) -> Result<Seat, Rejection> {
        match self.take() {
            Some(seat) => Ok(seat),
            None => self.reject(Reason::Full),
        }
    }

    /// Returns a seat: to the longest waiting caller, or to the free ones.
    #[inline]
    pub fn release(&self, seat: Seat) {
        let Seat(()) = seat;
        if self.seats.release().is_none() {
            self.hand_over();
        }
    }

    /// The seat of a ticket that has been granted, or the ticket back. Ask again when its waker
    /// was woken.
    ///
    /// # Errors
    /// Not an error: the ticket, while the wait goes on.
    pub fn redeem(&self, ticket: Ticket, now: Time) -> Result<Seat, Ticket> {
        if !ticket.is_granted() {
            return Err(ticket);
        }
        let waited = nanos(now.since(ticket.since));
        self.waits.count.fetch_add(1, Ordering::Relaxed);
        self.waits.total.fetch_add(waited, Ordering::Relaxed);
        self.waits.longest.fetch_max(waited, Ordering::Relaxed);
        Ok(Seat(()))
    }

    /// Leaves the queue. `timed_out` counts as a rejection, a caller that went away does not.
    pub fn leave(&self, ticket: Ticket, timed_out: bool) -> Option<Rejection> {
        let queue = self.queue.lock();
        if ticket.is_granted() {
            drop(queue);
            self.release(Seat(()));
        } else {
            queue.remove(&ticket.waiter);
            self.seats.forget_waiting();
        }
        timed_out.then(|| {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            Rejection::new(Reason::QueueTimeout)
        })
    }

    /// Changes the number of seats, at least 1 and at most 1,048,575. More seats go to those who
    /// wait; fewer take effect as seats are returned.
    pub fn resize(&self, concurrency: u32) {
        self.seats.set_limit(concurrency.clamp(1, MOST));
        loop {
            let mut queue = self.queue.lock();
            if self.seats.waiting() == 0 || self.seats.active() >= self.seats.limit() {
                return;
            }
            let next = queue.pop().expect("somebody waits");
            self.seats.seat_waiting();
            drop(queue);
            next.wake();
        }
    }

    /// How long a caller may wait in the queue.
    pub fn queue_timeout(&self) -> Duration {
        self.queue_timeout
    }

    /// A snapshot for people and metrics.
    pub fn stats(&self) -> Stats {
        let accepted = self.seats.accepted();
        let rejected = self.rejected.load(Ordering::Relaxed);
        let waited = self.waits.count.load(Ordering::Relaxed);
        let total = self.waits.total.load(Ordering::Relaxed);
        Stats {
            concurrency: self.seats.limit(),
            accepted,
            rejected,
            active: self.seats.active(),
            peak: self.seats.peak(),
            queued: self.seats.waiting(),
            average_wait: Duration::from_nanos(total.checked_div(waited).unwrap_or(0)),
            longest_wait: Duration::from_nanos(self.waits.longest.load(Ordering::Relaxed)),
            rejection_rate: match accepted + rejected {
                0 => 0.0,
                asked => rejected as f64 / asked as f64,
            },
        }
    }

    /// A seat that is free now, for an attempt that nobody misses if there is none.
    pub(crate) fn spare_seat(&self) -> Option<Seat> {
        self.take()
    }

    #[inline]
    fn take(&self) -> Option<Seat> {
        self.seats.take(self.seats.limit()).then_some(Seat(()))
    }

    #[cold]
    fn enqueue(&self, now: Time) -> Result<Admission, Rejection> {
        let queue = self.queue.lock();
        match self.seats.join(self.seats.limit(), self.bound, false) {
            Joined::Seated => Ok(Admission::Seat(Seat(()))),
            Joined::Waits => {
                let waiter = Arc::new(Waiter::default());
                queue.push(Arc::clone(&waiter));
                Ok(Admission::Queued(Ticket { waiter, since: now }))
            }
            Joined::Full => {
                drop(queue);
                self.reject(Reason::Full)
            }
        }
    }

    /// Gives the caller's seat to the longest waiting one, if the limit still allows it.
    #[cold]
    fn hand_over(&self) {
        let mut queue = self.queue.lock();
        let keeps_seat = self.seats.active() <= self.seats.limit();
        let next = if keeps_seat { queue.pop() } else { None };
        match next {
            Some(waiter) => {
                self.seats.inherit();
                drop(queue);
                waiter.wake();
            }
            None => self.seats.give_up(),
        }
    }

    fn reject<T>(&self, reason: Reason) -> Result<T, Rejection> {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Err(Rejection::new(reason))
    }
}

/// A snapshot of a bulkhead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// Seats there are.
    pub concurrency: u32,
    /// Callers that got a seat, since the start.
    pub accepted: u64,
    /// Callers that were turned away or waited too long, since the start.
    pub rejected: u64,
    /// Seats taken now.
    pub active: u32,
    /// The most seats ever taken at once.
    pub peak: u32,
    /// Callers waiting now.
    pub queued: u32,
    /// Mean wait of those who had to wait and got a seat.
    pub average_wait: Duration,
    /// The longest such wait.
    pub longest_wait: Duration,
    /// `rejected / (accepted + rejected)`; 0 before the first call.
    pub rejection_rate: f64,
}

/// How many seats, and how many may wait how long.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    concurrency: u32,
    queue: u32,
    queue_timeout: Duration,
    enforce: bool,
}

impl Config {
    /// So many calls at once, 1 to 1,048,575, and nobody waits.
    pub fn new(concurrency: u32) -> Config {
        let queue_timeout = Duration::from_millis(500);
        Config {
            concurrency,
            queue: 0,
            queue_timeout,
            enforce: true,
        }
    }

    /// So many callers may wait for a seat, at most 1,048,575. Default 0.
    pub fn queue(mut self, callers: u32) -> Config {
        self.queue = callers;
        self
    }

    /// How long each of them may wait. Default 500 ms, at most a day.
    pub fn queue_timeout(mut self, timeout: Duration) -> Config {
        self.queue_timeout = timeout;
        self
    }

    /// `false`: shadow mode. It counts what it would reject, and lets it pass. Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    pub(crate) fn is_enforced(&self) -> bool {
        self.enforce
    }

    pub(crate) fn seats(&self) -> u32 {
        self.concurrency
    }

    pub(crate) fn places(&self) -> u32 {
        self.queue
    }

    /// Callers that have a seat or wait for one, at most.
    pub(crate) fn most(&self) -> u32 {
        self.concurrency.saturating_add(self.queue)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let seats = 1..=MOST;
        ensure(
            seats.contains(&self.concurrency),
            "bulkhead.concurrency",
            "must lie between 1 and 1,048,575",
        )?;
        ensure(
            self.queue <= MOST,
            "bulkhead.queue",
            "may be at most 1,048,575",
        )?;
        ensure(
            self.queue_timeout <= DAY,
            "bulkhead.queue_timeout",
            "may be at most 24 h; a caller's deadline ends its wait in any case",
        )
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
