//! A new version takes traffic in steps, and gives it back if it is worse.
//!
//! A *canary* is a new version that gets a small share of the calls while the old one, the
//! *baseline*, serves the rest at the same time; the share grows while the canary is no worse.
//! *Blue-green* is the same machine with one step from nothing to everything.
//!
//! Two tests run all the time: errors by a sequential likelihood ratio on which side they fall
//! (`errors.rs`), latency by a sequential rank test (`latency.rs`). Both compare what ran at the
//! same time, so an incident that hits both versions blames neither, and both may be looked at as
//! often as one likes.
//!
//! The laws it keeps:
//! - **A false alarm rate for the whole life.** A canary that is no worse than the baseline is
//!   rolled back with probability `alpha` at most, over all steps, pauses and looks, errors and
//!   latency together. (With all traffic at the canary there is no baseline beside it: there the
//!   law holds as far as the baseline's ratio stays what was learned.)
//! - **Sticky.** The same key goes to the same side at the same share, and while the share grows
//!   no key goes back.
//! - **No guess.** A step without a clear answer pauses at its limit; it neither promotes nor rolls
//!   back. While paused, rollback stays armed.
//! - **Every decision has its evidence**, in a bounded list.
//!
//! A driver asks [`Canary::route`] per call, reports with [`Canary::record`], and calls
//! [`Canary::step`] once a second. Calls are taken to be independent: a single client whose calls
//! all fail, on the canary by its key, looks like a bad canary.

mod config;
mod decision;
mod errors;
mod latency;
mod machine;
mod rounds;

use std::fmt;
use std::time::Duration;

pub use config::Config;
pub use decision::{Comparison, Decision, Seen, What, Why};
pub use errors::Tally;

use self::machine::{Hand, Machine};
use crate::config::ConfigError;
use crate::outcome::Outcome;
use crate::ratio::Ratio;
use crate::rng::mix;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, Padded, lock};
use crate::time::Time;
use crate::window::{Counts, Histogram};

/// One rollout of a new version. Shared by reference; every method takes `&self`.
pub struct Canary {
    /// Keys whose hash lies below go to the canary, in 2^-32.
    below: AtomicU64,
    seed: u64,
    /// What the canary's times are multiplied by, so that its allowance is taken off.
    scale: f64,
    permanent_fails: bool,
    baseline: Padded<Results>,
    canary: Padded<Results>,
    machine: Mutex<Machine>,
}

/// Which version a call goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The old version.
    Baseline,
    /// The new version.
    Canary,
}

/// Where a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Old and new serve side by side.
    Running {
        /// The step, from 0.
        step: usize,
    },
    /// A hand is awaited; the share stays.
    Paused {
        /// The step, from 0; also the last one.
        step: usize,
    },
    /// All traffic is at the new version, and the way back is open.
    Promoting,
    /// The new version is the only one.
    Done,
    /// All traffic is at the old version.
    RolledBack,
}

impl State {
    /// A stable snake_case name for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            State::Running { .. } => "running",
            State::Paused { .. } => "paused",
            State::Promoting => "promoting",
            State::Done => "done",
            State::RolledBack => "rolled_back",
        }
    }
}

impl Canary {
    /// Starts at the first step. `seed` chooses which keys go first, so that it is not the same
    /// users in every rollout; instances that share traffic share the seed.
    ///
    /// # Errors
    /// If `config` cannot work; the error names the setting and the mend.
    pub fn new(config: Config, seed: u64, now: Time) -> Result<Canary, ConfigError> {
        config.check()?;
        Ok(Canary {
            below: AtomicU64::new(below(config.steps[0])),
            seed: mix(seed),
            scale: 1.0 / config.slower.unwrap_or(1.0),
            permanent_fails: config.permanent_fails,
            baseline: Padded(Results::new()),
            canary: Padded(Results::new()),
            machine: Mutex::new(Machine::new(config, now)),
        })
    }

    /// Where a call with this key (a hash of a header or an address; a random number if nothing
    /// should stick) goes.
    #[inline]
    pub fn route(&self, key: u64) -> Side {
        if mix(key ^ self.seed) >> 32 < self.below.load(Ordering::Relaxed) {
            Side::Canary
        } else {
            Side::Baseline
        }
    }

    /// Notes a call to `side` that ended with `outcome` after `took`. [`Outcome::Ignored`] counts
    /// nowhere. One atomic addition; it counts in the next [`Canary::step`].
    #[inline]
    pub fn record(&self, side: Side, outcome: Outcome, took: Duration) {
        let (results, took) = match side {
            Side::Baseline => (&self.baseline.0, took),
            Side::Canary => (&self.canary.0, scaled(took, self.scale)),
        };
        match outcome {
            Outcome::Success => results.answers.record(took),
            Outcome::Permanent if !self.permanent_fails => results.answers.record(took),
            Outcome::Permanent
            | Outcome::Transient
            | Outcome::Unsent
            | Outcome::Overload { .. } => {
                results.errors.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Ignored => {}
        }
    }

    /// Looks at what ended since the last time; the decision, if there is one. About once a second:
    /// what ended between two steps is compared as having run at the same time.
    pub fn step(&self, now: Time) -> Option<Decision> {
        self.change(|machine| machine.step(&self.batch(), now))
    }

    /// Holds the share where it is; rollback stays armed. `None` if it is paused or over.
    pub fn pause(&self, now: Time) -> Option<Decision> {
        self.hand(Hand::Pause, now)
    }

    /// Begins the paused step again, and forgives what was held against it. `None` if it is not
    /// paused.
    pub fn resume(&self, now: Time) -> Option<Decision> {
        self.hand(Hand::Resume, now)
    }

    /// Takes the next step now, whatever the analysis says; from the last one it is done. `None`
    /// if it is over.
    pub fn promote(&self, now: Time) -> Option<Decision> {
        self.hand(Hand::Promote, now)
    }

    /// Rolls back now. `None` if it is over: after the last step's watch there is no way back.
    pub fn abort(&self, now: Time) -> Option<Decision> {
        self.hand(Hand::Abort, now)
    }

    /// Begins again from the first step, with nothing held against anybody: a mended version stands
    /// where the old one was rolled back, or a newer one where it is done. `None` if it is not
    /// over.
    pub fn restart(&self, now: Time) -> Option<Decision> {
        self.change(|machine| {
            let decision = machine.hand(Hand::Restart, now);
            if decision.is_some() {
                // What ended since the last step belongs to the old life.
                self.batch();
            }
            decision
        })
    }

    /// Where it is.
    pub fn state(&self) -> State {
        lock(&self.machine).state()
    }

    /// A snapshot for people and metrics.
    pub fn stats(&self) -> Stats {
        let machine = lock(&self.machine);
        let [baseline, canary] = machine.ever();
        Stats {
            state: machine.state(),
            share: machine.share(),
            seen: machine.seen(),
            baseline,
            canary,
            decisions: machine.decisions().copied().collect(),
        }
    }

    fn batch(&self) -> Batch {
        Batch {
            baseline: self.baseline.0.take(),
            canary: self.canary.0.take(),
        }
    }

    fn hand(&self, hand: Hand, now: Time) -> Option<Decision> {
        self.change(|machine| machine.hand(hand, now))
    }

    /// Changes the machine and publishes its share, in the order of the changes.
    fn change(&self, change: impl FnOnce(&mut Machine) -> Option<Decision>) -> Option<Decision> {
        let mut machine = lock(&self.machine);
        let decision = change(&mut machine);
        self.below.store(below(machine.share()), Ordering::Relaxed);
        decision
    }
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canary")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// How a rollout is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Where it is.
    pub state: State,
    /// The share of keys that go to the new version.
    pub share: Ratio,
    /// Both versions in the current step, as of the last [`Canary::step`].
    pub seen: Comparison,
    /// All calls that ever ended at the old version, as of the last [`Canary::step`].
    pub baseline: Tally,
    /// All calls that ever ended at the new version, as of the last [`Canary::step`].
    pub canary: Tally,
    /// The last 64 decisions, the oldest first.
    pub decisions: Vec<Decision>,
}

/// What ended at one side since the last step.
struct Results {
    answers: Histogram,
    errors: AtomicU32,
}

impl Results {
    fn new() -> Results {
        Results {
            answers: Histogram::new(),
            errors: AtomicU32::new(0),
        }
    }

    fn take(&self) -> (Counts, u64) {
        let errors = self.errors.swap(0, Ordering::Relaxed);
        (self.answers.take(), u64::from(errors))
    }
}

/// The answers and the number of errors of both sides, of the same time.
struct Batch {
    baseline: (Counts, u64),
    canary: (Counts, u64),
}

/// The hashes that make this share, in 2^-32.
fn below(share: Ratio) -> u64 {
    share.of(1 << 32)
}

/// Microseconds are exact enough here, and a product of floats is cheaper than `mul_f64`.
#[inline]
fn scaled(took: Duration, scale: f64) -> Duration {
    let nanos = took.as_nanos() as f64 * scale;
    Duration::from_nanos(nanos as u64)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
