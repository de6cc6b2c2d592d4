//! More work than can be done: what is begun, what waits, and what is refused.
//!
//! A service that takes on more than it can do finishes nothing in time: at twice its capacity, in
//! order of arrival, every answer comes too late. Refusing half of the calls at once costs little
//! and keeps the other half whole. So a shedder lets so many calls in at once as the dependency
//! serves without a queue of its own ([`Limit`]), keeps the rest in a short queue where it can
//! choose among them, and refuses those with the least hope, the lowest [`Tier`] first.
//!
//! The laws it keeps:
//! - never more calls are in flight than the limit, except those that were admitted before it fell;
//! - at no load every tier is admitted; under load nobody is admitted where a higher tier is not,
//!   except for the small reserve that keeps a tier from starving;
//! - nobody waits who cannot be in time: what remains until the deadline has to cover the wait and
//!   a call's usual time;
//! - a queue that never empties is served from its end, and what waited too long is refused;
//! - a call that was cancelled teaches nothing, and a fast failure does not either: a limit that
//!   took an error page for a fast answer would open the doors.
//!
//! Without contention a call costs two compare-and-swaps on one word and one addition on another.
//!
//! It does not choose what a call is worth, nor spread callers in time: a driver spreads the hint of
//! a [`Rejection`] with [`Rejection::jittered`]. The other side of the same coin, not even sending
//! what will be refused, is the [`Throttle`].

mod capacity;
mod config;
mod estimator;
mod gate;
mod limit;
mod line;
mod meter;
mod stats;
pub mod throttle;

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

pub use config::Config;
pub use estimator::{Estimator, Sample};
pub use limit::Limit;
pub use stats::Stats;
pub use throttle::Throttle;

use self::gate::Gates;
use self::line::{Entry, Line, Next, Pace, latest_start};
pub(crate) use self::meter::Meter;
use crate::config::ConfigError;
use crate::outcome::Outcome;
use crate::reject::{Reason, Rejection};
use crate::seats::{Joined, Seats};
use crate::sync::{AtomicU64, Mutex, Ordering, Padded, lock};
use crate::tier::Tier;
use crate::time::{Time, nanos};
use crate::waiting::{Answer, Waiter};

/// Decides which calls to one upstream are begun.
#[derive(Debug)]
pub struct Shed {
    config: Config,
    gates: Gates,
    /// How long a call usually takes, in nanoseconds; zero while unknown.
    service: AtomicU64,
    seats: Seats,
    meter: Padded<Meter>,
    line: Mutex<Line>,
    estimator: Mutex<Estimator>,
    samples: AtomicU64,
    shed: [AtomicU64; 3],
}

/// The answer to a call that wants to begin.
#[derive(Debug)]
pub enum Admission {
    /// It may.
    Permit(Permit),
    /// It may wait.
    Queued(Ticket),
}

/// The right to be in flight. Return it with [`Shed::record`].
#[derive(Debug)]
#[must_use = "a permit that is not recorded is lost for ever"]
pub struct Permit(());

/// What has become of a ticket.
#[derive(Debug)]
pub enum Turn {
    /// It is its turn.
    Permit(Permit),
    /// Others had the better claim.
    Refused(Rejection),
    /// The wait goes on.
    Queued(Ticket),
}

/// A place in the queue. Ask with [`Shed::redeem`], leave with [`Shed::leave`].
#[derive(Debug)]
#[must_use = "a ticket that is dropped keeps its place in the queue"]
pub struct Ticket {
    waiter: Arc<Waiter>,
    tier: Tier,
    until: Time,
}

impl Ticket {
    /// Wakes `waker` when the call may begin or is refused; the last one set counts. If that has
    /// been decided already, `waker` is woken at once.
    pub fn wake(&self, waker: &Waker) {
        self.waiter.listen(waker);
    }

    /// Whether the wait is over: the call may begin, or is refused.
    pub fn is_decided(&self) -> bool {
        !matches!(self.waiter.answer(), Answer::Waits)
    }

    /// When to leave, with [`Shed::leave`]: later it would be too late to begin.
    pub fn until(&self) -> Time {
        self.until
    }
}

impl Shed {
    /// A shedder that has seen no calls. `seed` feeds what is random about its limit.
    ///
    /// # Errors
    /// If `config` cannot work; the error names the setting and the mend.
    pub fn new(config: Config, seed: u64) -> Result<Shed, ConfigError> {
        config.check()?;
        let estimator = Estimator::new(config.limit, seed)?;
        let meter = Meter::new();
        meter.open(estimator.window(), Time::ZERO);
        let limit = estimator.limit();
        Ok(Shed {
            gates: Gates::new(config.shares, limit),
            service: AtomicU64::new(0),
            seats: Seats::new(limit),
            meter: Padded(meter),
            line: Mutex::new(Line::new(config.queue)),
            estimator: Mutex::new(estimator),
            samples: AtomicU64::new(0),
            shed: [0; 3].map(AtomicU64::new),
            config,
        })
    }

    /// Asks whether a call may begin that has to end by `deadline` ([`Time::MAX`] for none).
    ///
    /// # Errors
    /// When it is refused; the rejection says how long the work that is there will take.
    #[inline]
    pub fn admit(&self, tier: Tier, deadline: Time, now: Time) -> Result<Admission, Rejection> {
        if self.seats.take(self.gates.limit(tier)) {
            self.gates.open(tier);
            return Ok(Admission::Permit(Permit(())));
        }
        self.wait(tier, deadline, now)
    }

    /// Lets a call pass in any case, and says whether it would have been refused: for shadow mode.
    /// A call that would have waited is not refused.
    pub fn pass(&self, tier: Tier) -> (Permit, Option<Rejection>) {
        if self.seats.take(self.gates.limit(tier)) {
            self.gates.open(tier);
            return (Permit(()), None);
        }
        self.gates.close(tier);
        let queue = self.seats.limit().saturating_add(self.config.queue);
        let is_refused = self.seats.active() >= queue;
        self.seats.force();
        (Permit(()), is_refused.then(|| self.refuse(tier)))
    }

    /// Returns a permit, to the next caller or to the free ones, with how the call went and how
    /// long it took since it got the permit.
    ///
    /// An answer ([`Outcome::Success`], [`Outcome::Permanent`]) is a sample of latency.
    /// [`Outcome::Overload`] shrinks the limit, and so does a transient failure that took as
    /// long as calls usually do, which is what a timeout looks like. Anything else teaches nothing.
    #[inline]
    pub fn record(&self, permit: Permit, outcome: Outcome, took: Duration, now: Time) {
        let in_flight = self.release(permit, now);
        let is_full = match outcome {
            Outcome::Success | Outcome::Permanent => self.meter.0.note(took, in_flight, now),
            Outcome::Overload { .. } => self.meter.0.note_refusal(in_flight, now),
            Outcome::Transient | Outcome::Unsent if self.is_slow(took) => {
                self.meter.0.note_timeout(took, in_flight, now)
            }
            Outcome::Transient | Outcome::Unsent | Outcome::Ignored => false,
        };
        if is_full {
            self.adjust(now);
        }
    }

    /// What has become of a ticket. Ask when its waker was woken.
    pub fn redeem(&self, ticket: Ticket) -> Turn {
        match ticket.waiter.answer() {
            Answer::Waits => Turn::Queued(ticket),
            Answer::Granted => Turn::Permit(Permit(())),
            Answer::Refused => Turn::Refused(self.rejection()),
        }
    }

    /// Leaves the queue. `timed_out`, at [`Ticket::until`], counts as refused; a caller that went
    /// away does not.
    pub fn leave(&self, ticket: Ticket, timed_out: bool, now: Time) -> Option<Rejection> {
        let mut line = lock(&self.line);
        match ticket.waiter.answer() {
            Answer::Waits => {
                line.remove(ticket.tier, &ticket.waiter);
                self.seats.forget_waiting();
                drop(line);
                timed_out.then(|| self.refuse(ticket.tier))
            }
            Answer::Granted => {
                drop(line);
                self.release(Permit(()), now);
                timed_out.then(|| self.refuse(ticket.tier))
            }
            Answer::Refused => timed_out.then(|| self.rejection()),
        }
    }

    /// The settings it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// No seat at the gate: to the queue, if there is hope.
    #[cold]
    fn wait(&self, tier: Tier, deadline: Time, now: Time) -> Result<Admission, Rejection> {
        self.gates.close(tier);
        let (pace, service) = (self.pace(), self.service());
        let mut line = lock(&self.line);
        let ahead = u32::try_from(line.ahead(tier, &pace, now)).unwrap_or(u32::MAX);
        let latest = latest_start(deadline, service);
        let is_hopeless = self.config.queue == 0 || now + self.drain(ahead) > latest;
        let bound = if is_hopeless { 0 } else { self.config.queue };
        let overtakes = !line.holds_back(tier);
        let leaves = match self.seats.join(self.gates.limit(tier), bound, overtakes) {
            Joined::Seated => {
                self.gates.open(tier);
                return Ok(Admission::Permit(Permit(())));
            }
            Joined::Waits => None,
            Joined::Full if is_hopeless => {
                drop(line);
                return Err(self.refuse(tier));
            }
            Joined::Full => match line.give_way(tier, &pace, now) {
                None => {
                    drop(line);
                    return Err(self.refuse(tier));
                }
                leaves => leaves,
            },
        };
        let waiter = Arc::new(Waiter::default());
        line.push(
            tier,
            Entry {
                waiter: Arc::clone(&waiter),
                since: now,
                latest,
            },
        );
        if let Some((leaves, lower)) = leaves {
            // The newcomer takes its place, so as many wait as before.
            leaves.decide(Answer::Refused);
            self.shed[lower.index()].fetch_add(1, Ordering::Relaxed);
            drop(line);
            leaves.wake();
        }
        let until = latest.min(now + pace.patience);
        Ok(Admission::Queued(Ticket {
            waiter,
            tier,
            until,
        }))
    }

    /// Returns a seat; how many were taken with it.
    #[inline]
    fn release(&self, permit: Permit, now: Time) -> u32 {
        let Permit(()) = permit;
        match self.seats.release() {
            Some(in_flight) => in_flight,
            None => self.hand_over(now),
        }
    }

    /// Gives the seat to the next of those who wait, if the limit still allows it.
    #[cold]
    fn hand_over(&self, now: Time) -> u32 {
        let in_flight = self.seats.active();
        let may = |tier| self.seats.active() <= self.gates.limit(tier);
        self.serve(now, may, Seats::inherit, Seats::give_up);
        in_flight
    }

    /// The limit has grown: seats for those who wait.
    fn seat_more(&self, now: Time) {
        let may = |tier| self.seats.active() < self.gates.limit(tier);
        while self.serve(now, may, Seats::seat_waiting, |_| {}) {}
    }

    /// Seats the next of those who `may`, after those are refused for whom it is too late. Whether
    /// there was one; if not, `otherwise` happens before anybody else can come to wait.
    fn serve(
        &self,
        now: Time,
        may: impl Fn(Tier) -> bool,
        seat: impl Fn(&Seats),
        otherwise: impl Fn(&Seats),
    ) -> bool {
        let pace = self.pace();
        loop {
            let mut line = lock(&self.line);
            let waiter = match line.next(&pace, now, &may) {
                Next::Nobody => {
                    otherwise(&self.seats);
                    return false;
                }
                Next::Late(waiter, tier) => {
                    self.seats.forget_waiting();
                    self.shed[tier.index()].fetch_add(1, Ordering::Relaxed);
                    waiter.decide(Answer::Refused);
                    drop(line);
                    waiter.wake();
                    continue;
                }
                Next::Seat(waiter, tier) => {
                    seat(&self.seats);
                    self.gates.open(tier);
                    waiter.decide(Answer::Granted);
                    waiter
                }
            };
            drop(line);
            waiter.wake();
            return true;
        }
    }

    /// A window is full: look at it.
    #[cold]
    fn adjust(&self, now: Time) {
        let mut estimator = lock(&self.estimator);
        let Some(sample) = self.meter.0.close(now) else {
            return;
        };
        let before = estimator.limit();
        let limit = estimator.update(sample);
        self.meter.0.open(estimator.window(), now);
        self.note_service(sample);
        if limit != before {
            self.seats.set_limit(limit);
            self.gates.set(limit);
        }
        drop(estimator);
        if limit > before {
            self.seat_more(now);
        }
    }

    /// Under the lock of the estimator.
    fn note_service(&self, sample: Sample) {
        self.samples
            .fetch_add(u64::from(sample.calls), Ordering::Relaxed);
        if sample.took.is_zero() {
            return;
        }
        let (known, took) = (self.service(), sample.took);
        let service = if known.is_zero() {
            took
        } else {
            let weight = (f64::from(sample.calls) / SERVICE_CALLS).min(1.0);
            known.mul_f64(1.0 - weight) + took.mul_f64(weight)
        };
        self.service.store(nanos(service), Ordering::Relaxed);
    }

    fn service(&self) -> Duration {
        Duration::from_nanos(self.service.load(Ordering::Relaxed))
    }

    /// How long until so many calls, and one more, have been served.
    fn drain(&self, calls: u32) -> Duration {
        let calls = calls.saturating_add(1);
        self.service().saturating_mul(calls) / self.seats.limit()
    }

    fn pace(&self) -> Pace {
        Pace {
            // Seats may become free in bunches, all of them once in the time of a call.
            interval: self.config.interval.max(self.service() * 2),
            target: self.config.target.max(self.drain(1)),
            patience: self.config.interval.max(self.service()),
            reserve: self.config.reserve,
        }
    }

    /// Whether a failure took as long as calls usually do, or longer: timeouts have, and when there
    /// is nothing but timeouts, they are what is usual.
    fn is_slow(&self, took: Duration) -> bool {
        let usual = self.service();
        took >= if usual.is_zero() {
            UNKNOWN_IS_SLOW
        } else {
            usual
        }
    }

    fn refuse(&self, tier: Tier) -> Rejection {
        self.shed[tier.index()].fetch_add(1, Ordering::Relaxed);
        self.rejection()
    }

    fn rejection(&self) -> Rejection {
        let backlog = self.drain(self.seats.waiting());
        if backlog.is_zero() {
            Rejection::new(Reason::Shed)
        } else {
            Rejection::after(Reason::Shed, backlog)
        }
    }
}

/// The usual time of a call is that of about so many.
const SERVICE_CALLS: f64 = 64.0;
/// A second, as for a breaker that was told no other patience.
const UNKNOWN_IS_SLOW: Duration = Duration::from_secs(1);

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
