//! What sagas did since the process began, counted for people and metrics.
//!
//! It says what this runner did, and costs a few relaxed additions for each record. How many sagas there
//! are, those of other runners too, says the store ([`Store::count`](crate::store::Store::count)).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::drive::Came;
use crate::event::{Event, Outcome};
use crate::machine::Acted;

/// Numbers of one definition, of all its versions.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) started: AtomicU64,
    pub(super) resumed: AtomicU64,
    completed: AtomicU64,
    compensated: AtomicU64,
    turned_back: AtomicU64,
    waiting: AtomicU64,
    in_flight: AtomicU64,
    took: Buckets,
    steps: Mutex<BTreeMap<String, Arc<OfStep>>>,
}

/// Numbers of one step.
#[derive(Debug, Default)]
pub(super) struct OfStep {
    acts: [AtomicU64; WAYS],
    undoes: [AtomicU64; WAYS],
    took: Buckets,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// It did its work.
    pub done: u64,
    /// It did not, and may the next time.
    pub transient: u64,
    /// It did not, and never will.
    pub permanent: u64,
    /// Nobody knows.
    pub unknown: u64,
}

impl Tally {
    pub(super) fn step(&self, name: &str) -> Arc<OfStep> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(steps.entry(name.to_owned()).or_default())
    }

    /// Events are on the disk, so long after the saga began.
    pub(super) fn record(&self, events: &[Event], age: Duration) {
        for event in events {
            let counter = match event {
                Event::Ended { outcome } => {
                    self.took.add(age);
                    match outcome {
                        Outcome::Completed => &self.completed,
                        Outcome::Compensated => &self.compensated,
                    }
                }
                Event::TurnedBack { .. } => &self.turned_back,
                Event::DeadLettered { .. } | Event::Parked { .. } => &self.waiting,
                _ => continue,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn done(&self) -> Done {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = steps.iter().map(|(name, step)| StepDone {
            name: name.clone(),
            acts: ways(&step.acts),
            undoes: ways(&step.undoes),
            took: step.took.read(),
        });
        Done {
            steps: steps.collect(),
            started: read(&self.started),
            resumed: read(&self.resumed),
            completed: read(&self.completed),
            compensated: read(&self.compensated),
            turned_back: read(&self.turned_back),
            dead_letters: read(&self.waiting),
            in_flight: read(&self.in_flight),
            took: self.took.read(),
        }
    }
}

impl OfStep {
    /// Questions whether it was done do no work, and are not counted.
    pub(super) fn record(&self, came: &Came, took: Duration) {
        let (ways, acted) = match came {
            Came::Acted(acted) => (&self.acts, acted),
            Came::Undid(acted) => (&self.undoes, acted),
            Came::Found(_) => return,
        };
        let way = match acted {
            Acted::Done(_) => 0,
            Acted::Transient { .. } => 1,
            Acted::Permanent(_) => 2,
            Acted::Unknown(_) => 3,
        };
        ways[way].fetch_add(1, Ordering::Relaxed);
        self.took.add(took);
    }
}

fn ways(counters: &[AtomicU64; WAYS]) -> Ways {
    let [done, transient, permanent, unknown] =
        std::array::from_fn(|way| counters[way].load(Ordering::Relaxed));
    Ways {
        done,
        transient,
        permanent,
        unknown,
    }
}

/// While there is one, a saga is in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Tally>);

impl InFlight {
    pub(super) fn new(tally: &Arc<Tally>) -> InFlight {
        tally.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(tally))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What sagas of one definition did here since the process began.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Done {
    /// Sagas that were begun.
    pub started: u64,
    /// Sagas that went on after a process had ended.
    pub resumed: u64,
    /// Sagas in which everything was done.
    pub completed: u64,
    /// Sagas in which everything that was done is undone.
    pub compensated: u64,
    /// Sagas that went back.
    pub turned_back: u64,
    /// Steps that came to need somebody.
    pub dead_letters: u64,
    /// Sagas in flight here now, also those that are paused.
    pub in_flight: u64,
    /// From the begin of sagas to their end.
    pub took: Durations,
    /// Steps, in the order of their names.
    pub steps: Vec<StepDone>,
}

/// What came of the attempts of a step.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StepDone {
    /// Its name.
    pub name: String,
    /// Attempts to do it.
    pub acts: Ways,
    /// Attempts to undo it.
    pub undoes: Ways,
    /// How long attempts took, of both kinds.
    pub took: Durations,
}

/// Durations, counted.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    counts: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Buckets {
    pub(super) fn add(&self, took: Duration) {
        let bucket = Durations::BOUNDS.partition_point(|bound| *bound < took);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Durations {
        Durations {
            counts: std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed)),
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
        }
    }
}

/// How many durations did not exceed which bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations {
    /// For each bound how many lie above the bound before it; at last those above all.
    pub counts: [u64; BUCKETS],
    /// All together.
    pub sum: Duration,
}

impl Durations {
    /// From a millisecond to a day.
    pub const BOUNDS: [Duration; BUCKETS - 1] = [
        Duration::from_millis(1),
        Duration::from_micros(2_500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2_500),
        Duration::from_secs(10),
        Duration::from_secs(60),
        Duration::from_secs(600),
        Duration::from_secs(3_600),
        Duration::from_secs(86_400),
    ];
}

const WAYS: usize = 4;
const BUCKETS: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_lie_below_their_bounds() {
        let buckets = Buckets::default();
        for millis in [0, 1, 2, 60_000, 60_001, 1_000_000_000] {
            buckets.add(Duration::from_millis(millis));
        }
        let read = buckets.read();
        let filled: Vec<_> = (0..BUCKETS).filter(|at| read.counts[*at] > 0).collect();
        assert_eq!(filled, [0, 1, 12, 13, 16]);
        assert_eq!(read.counts[0], 2);
        assert_eq!(read.sum, Duration::from_millis(1_000_120_004));
    }
}
