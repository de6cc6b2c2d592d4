//! Stop calling what keeps failing, and find out carefully when it is back.
//!
//! The intuition of a fuse: while *closed*, calls pass and their results are counted; when they
//! fail too often the breaker *trips* and rejects everything for a *cooldown*; then it is
//! *half-open* and lets a few *trials* through, whose results close it or open it again.
//!
//! The laws it keeps:
//! - **Generations.** A permit names the state in which it was granted. A result that arrives in
//!   a later state changes nothing, so a straggler from before a trip neither closes the breaker
//!   nor keeps it open.
//! - **No state is terminal.** A trial has a lease: one that hangs is judged failed when the
//!   lease ends. A cancelled one gives its place back.
//! - **Never more than `trials` at once** in half-open, whatever the number of threads.
//! - **Own rejections are not failures**: what never reached the dependency is never recorded.
//!
//! Every result can trip the breaker, also a success that completes the minimum of calls. Limits
//! are inclusive: half of the calls failing reaches a ratio of one half, and a cooldown of 30 s
//! ends at exactly 30 s.
//!
//! While closed it costs one atomic load to admit and one striped compare-and-swap to record: two
//! with a rule about slow calls, two loads with the consecutive rule alone, three operations on
//! shared lines with a window of calls. The lock is taken
//! only to change the state, or in half-open, which is rare by nature. It does not classify
//! results and does not retry.

mod config;
mod count;
mod state;

use std::fmt;
use std::time::Duration;

pub use config::Config;
pub use state::{Manual, State};

use self::count::Counter;
use self::state::{Input, Machine, Phase};
use crate::config::ConfigError;
use crate::outcome::Outcome;
use crate::reject::{Reason, Rejection};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::time::Time;
use crate::window::Tally;

/// The circuit breaker of one endpoint. Shared by reference; every method takes `&self`.
pub struct Breaker {
    word: AtomicU64,
    counter: Counter,
    machine: Mutex<Machine>,
    listener: Option<Listener>,
}

type Listener = Box<dyn Fn(Change) + Send + Sync>;

impl Breaker {
    /// A closed breaker. `seed` feeds the jitter of the cooldown, if there is any.
    ///
    /// # Errors
    /// If `config` cannot work; the error names the setting and the mend.
    pub fn new(config: Config, seed: u64) -> Result<Breaker, ConfigError> {
        config.check()?;
        Ok(Breaker {
            word: AtomicU64::new(Word::closed(0).0),
            counter: Counter::new(&config),
            machine: Mutex::new(Machine::new(config, seed)),
            listener: None,
        })
    }

    /// Calls `listener` after every change of state, on the thread that caused it and outside of
    /// any lock.
    pub fn on_change(mut self, listener: impl Fn(Change) + Send + Sync + 'static) -> Breaker {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Asks to call the dependency.
    ///
    /// # Errors
    /// While open until the cooldown ends, and in half-open while all trials are taken; the
    /// rejection says when to come back.
    #[inline]
    pub fn admit(&self, now: Time) -> Result<Permit, Rejection> {
        match Word(self.word.load(Ordering::Acquire)).read() {
            Reading::Closed(generation) => Ok(Permit {
                generation,
                trial: Permit::COUNTED,
            }),
            Reading::Open(until) if now < until => {
                Err(Rejection::after(Reason::Open, until.since(now)))
            }
            Reading::Open(_) | Reading::HalfOpen => self.admit_trial(now),
            Reading::HeldOpen => Err(Rejection::new(Reason::Open)),
            Reading::Disabled => Ok(Permit::UNRECORDED),
        }
    }

    /// Whether it would let a call pass, as far as can be told without taking a trial's place.
    #[inline]
    pub(crate) fn is_willing(&self, now: Time) -> bool {
        self.refusal(now).is_none()
    }

    /// Whether it lets all calls pass.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        match Word(self.word.load(Ordering::Acquire)).read() {
            Reading::Closed(_) | Reading::Disabled => true,
            Reading::Open(_) | Reading::HalfOpen | Reading::HeldOpen => false,
        }
    }

    /// Why it would not let a call pass and when to come back, as far as can be told without taking
    /// a trial's place; `None` if it would.
    #[inline]
    pub(crate) fn refusal(&self, now: Time) -> Option<Rejection> {
        match Word(self.word.load(Ordering::Acquire)).read() {
            Reading::Closed(_) | Reading::Disabled => None,
            Reading::Open(until) if now < until => {
                Some(Rejection::after(Reason::Open, until.since(now)))
            }
            Reading::Open(_) => None,
            Reading::HalfOpen => lock(&self.machine).refusal_of_trial(now),
            Reading::HeldOpen => Some(Rejection::new(Reason::Open)),
        }
    }

    /// Reports the result of a permitted call that took `took`. [`Outcome::Ignored`] gives a
    /// trial's place back and counts nothing.
    #[inline]
    pub fn record(&self, permit: Permit, outcome: Outcome, took: Duration, now: Time) {
        let verdict = Verdict::of(outcome);
        let slow = self.counter.is_slow(took);
        match permit.trial {
            Permit::COUNTED => self.record_counted(permit.generation, verdict, slow, now),
            Permit::NOT => {}
            trial => self.record_trial(permit.generation, trial, verdict, slow, now),
        }
    }

    #[cold]
    fn record_trial(&self, generation: u64, trial: u64, verdict: Verdict, slow: bool, now: Time) {
        self.change(now, |machine| {
            let input = match verdict {
                Verdict::Neutral => Input::TrialReturned(trial),
                Verdict::Healthy => Input::TrialEnded {
                    trial,
                    healthy: !slow,
                },
                Verdict::Failed => Input::TrialEnded {
                    trial,
                    healthy: false,
                },
            };
            if machine.generation == generation {
                machine.apply(input, now);
            }
        });
    }

    /// The state at `now`: a half-open breaker whose trials hung is open again, but an open one
    /// stays open until somebody asks to pass.
    pub fn state(&self, now: Time) -> State {
        match Word(self.word.load(Ordering::Acquire)).read() {
            Reading::HalfOpen => self.change(now, |_| ()),
            Reading::Closed(_) | Reading::Open(_) | Reading::HeldOpen | Reading::Disabled => {}
        }
        lock(&self.machine).state()
    }

    /// Takes the breaker by hand, or gives it back.
    pub fn force(&self, manual: Manual, now: Time) {
        self.change(now, |machine| machine.apply(Input::Manual(manual), now));
    }

    /// How old a cancelled attempt must be to count as a failure: the configured patience, else the
    /// slow-call threshold, else `limit`. A younger one says nothing about the dependency.
    pub fn patience(&self, limit: Duration) -> Duration {
        self.counter.patience(limit)
    }

    /// A snapshot for people and metrics.
    pub fn stats(&self, now: Time) -> Stats {
        let state = self.state(now);
        let machine = lock(&self.machine);
        let tally = match &machine.phase {
            Phase::Open { tally, .. } | Phase::HalfOpen { tally, .. } => *tally,
            Phase::Closed | Phase::HeldOpen | Phase::HeldClosed | Phase::Disabled => {
                self.counter.tally(machine.generation, now)
            }
        };
        let retry_at = match &machine.phase {
            Phase::Open { until, .. } => Some(*until),
            Phase::Closed
            | Phase::HalfOpen { .. }
            | Phase::HeldOpen
            | Phase::HeldClosed
            | Phase::Disabled => None,
        };
        Stats {
            state,
            tally,
            retry_at,
            trips: machine.trips,
        }
    }

    #[inline]
    fn record_counted(&self, generation: u64, verdict: Verdict, slow: bool, now: Time) {
        let failed = match verdict {
            Verdict::Neutral => return,
            Verdict::Healthy => false,
            Verdict::Failed => true,
        };
        let current = Word(self.word.load(Ordering::Acquire));
        if current.0 != Word::closed(generation).0 {
            return;
        }
        if let Some(tally) = self.counter.record(generation, failed, slow, now) {
            self.trip(generation, tally, now);
        }
    }

    #[cold]
    fn trip(&self, generation: u64, tally: Tally, now: Time) {
        self.change(now, |machine| {
            if machine.generation == generation {
                machine.apply(Input::Trip(tally), now);
            }
        });
    }

    #[cold]
    fn admit_trial(&self, now: Time) -> Result<Permit, Rejection> {
        self.change(now, |machine| {
            machine.apply(Input::Ask, now);
            match &mut machine.phase {
                Phase::HalfOpen { trials, .. } => {
                    let Some(trial) = trials.start(now) else {
                        return Err(Rejection::after(Reason::Open, trials.next_end(now)));
                    };
                    Ok(Permit {
                        generation: machine.generation,
                        trial,
                    })
                }
                Phase::Open { until, .. } => Err(Rejection::after(Reason::Open, until.since(now))),
                Phase::HeldOpen => Err(Rejection::new(Reason::Open)),
                Phase::Closed | Phase::HeldClosed => Ok(Permit {
                    generation: machine.generation,
                    trial: Permit::COUNTED,
                }),
                Phase::Disabled => Ok(Permit::UNRECORDED),
            }
        })
    }

    /// Expires trials and runs `step` under the lock, publishes the state they left, and tells the
    /// listener of every change: a trial may expire, and the same question start the next.
    fn change<T>(&self, now: Time, step: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = lock(&self.machine);
        let generation = machine.generation;
        let before = machine.state();
        let expired = machine.expire_trials(now);
        let between = machine.state();
        let expiry = expired.and_then(|at| change_between(before, &machine, at));
        let answer = step(&mut machine);
        let change = change_between(between, &machine, now);
        if machine.generation != generation {
            self.counter.restart(machine.generation);
            self.word.store(Word::of(&machine).0, Ordering::Release);
        }
        drop(machine);
        if let Some(listener) = &self.listener {
            [expiry, change].into_iter().flatten().for_each(listener);
        }
        answer
    }
}

/// What there is to tell of a machine that showed `from` before.
fn change_between(from: State, machine: &Machine, at: Time) -> Option<Change> {
    let to = machine.state();
    let tally = match &machine.phase {
        Phase::Open { tally, .. } | Phase::HalfOpen { tally, .. } => *tally,
        Phase::Closed | Phase::HeldOpen | Phase::HeldClosed | Phase::Disabled => Tally::default(),
    };
    (from != to).then_some(Change {
        from,
        to,
        tally,
        at,
    })
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("machine", &*lock(&self.machine))
            .finish_non_exhaustive()
    }
}

/// The right to make one call, and the duty to [`Breaker::record`] its result.
#[derive(Debug)]
#[must_use = "a permit that is not recorded keeps a trial's place until its lease ends"]
pub struct Permit {
    generation: u64,
    /// [`Permit::COUNTED`], [`Permit::NOT`], or the number of a trial: two plain words travel in
    /// registers, where an enum would go through memory.
    trial: u64,
}

impl Permit {
    /// A permit whose result changes nothing: for a call that a shadowed breaker would have
    /// rejected.
    pub const UNRECORDED: Permit = Permit {
        generation: 0,
        trial: Permit::NOT,
    };
    const COUNTED: u64 = u64::MAX;
    const NOT: u64 = u64::MAX - 1;

    /// Whether this is one of the few calls of the half-open state.
    pub fn is_trial(&self) -> bool {
        self.trial < Permit::NOT
    }
}

/// One change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// What the window held when the breaker tripped; empty when it closed.
    pub tally: Tally,
    /// When.
    pub at: Time,
}

/// A snapshot of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Its state.
    pub state: State,
    /// The window: live while closed, as it was at the trip while open or half-open. Empty for a
    /// breaker with the consecutive rule alone, which needs no window.
    pub tally: Tally,
    /// While open: when the first trial may pass.
    pub retry_at: Option<Time>,
    /// How often it has tripped.
    pub trips: u64,
}

/// What a breaker reads from an outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Healthy,
    Failed,
    Neutral,
}

impl Verdict {
    fn of(outcome: Outcome) -> Verdict {
        match outcome {
            Outcome::Success | Outcome::Permanent => Verdict::Healthy,
            Outcome::Transient | Outcome::Unsent | Outcome::Overload { .. } => Verdict::Failed,
            Outcome::Ignored => Verdict::Neutral,
        }
    }
}

/// The published state in one word, so that the closed and the open path need one load:
/// `payload:62 | tag:2`, where the payload is the generation, or while open the end of the
/// cooldown in nanoseconds.
#[derive(Clone, Copy)]
struct Word(u64);

enum Reading {
    Closed(u64),
    Open(Time),
    HalfOpen,
    HeldOpen,
    Disabled,
}

impl Word {
    const CLOSED: u64 = 0;
    const OPEN: u64 = 1;
    const HALF_OPEN: u64 = 2;
    const DISABLED: u64 = 3;
    const FOREVER: u64 = u64::MAX >> 2;

    #[inline]
    fn closed(generation: u64) -> Word {
        Word(generation << 2 | Word::CLOSED)
    }

    fn of(machine: &Machine) -> Word {
        match &machine.phase {
            Phase::Closed | Phase::HeldClosed => Word::closed(machine.generation),
            Phase::Open { until, .. } => {
                Word(until.as_nanos().min(Word::FOREVER - 1) << 2 | Word::OPEN)
            }
            Phase::HalfOpen { .. } => Word(Word::HALF_OPEN),
            Phase::HeldOpen => Word(Word::FOREVER << 2 | Word::OPEN),
            Phase::Disabled => Word(Word::DISABLED),
        }
    }

    #[inline]
    fn read(self) -> Reading {
        let payload = self.0 >> 2;
        match self.0 & 3 {
            Word::CLOSED => Reading::Closed(payload),
            Word::OPEN if payload == Word::FOREVER => Reading::HeldOpen,
            Word::OPEN => Reading::Open(Time::from_nanos(payload)),
            Word::HALF_OPEN => Reading::HalfOpen,
            _ => Reading::Disabled,
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
