//! What the sagas of one definition may do together: how many retries, and how many attempts to undo.
//!
//! A service that fails is asked again by every saga that needs it, and what was meant to help keeps it
//! down. So retries of a step draw on a [budget](outlast_core::budget) that all sagas of a definition
//! share: a share of what succeeds, and a reserve. Retries of what undoes a step take turns at a
//! [rate](outlast_core::rate).
//!
//! Nothing fails for that. A retry that finds the budget empty comes back later, with its backoff; one
//! that undoes is given a turn. Only a step that is best effort is given up instead: its failure matters
//! to nobody, and a saga that waited for it would.
//!
//! First attempts are not counted, nor is what is done again because a process died: how many sagas go
//! on then has a bound of its own.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outlast_core::budget::Budget;
use outlast_core::rate::{self, Rate};
use outlast_core::time::Time;

use crate::definition::{Definition, DefinitionError};
use crate::event::Stamp;

/// What the sagas of one definition share. Budgets and turns are counted in the process, not on the disk.
#[derive(Debug)]
pub struct Bounds {
    steps: Vec<OfStep>,
}

#[derive(Debug)]
struct OfStep {
    retries: Budget,
    /// Whether a retry waits, or is only counted.
    is_enforced: bool,
    /// How often the budget is looked at again, at most.
    tick: Duration,
    undoes: Option<Rate>,
    held: AtomicU64,
}

/// What is left of the bounds of a step, for people and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Retries that could begin now.
    pub retries: u64,
    /// How often a retry, or an attempt to undo, had to wait for its turn.
    pub held: u64,
}

impl Bounds {
    /// Those of a definition, of which nothing is used yet.
    ///
    /// # Errors
    /// If a budget or a rate cannot work; the error names the step and the mend.
    pub fn of(definition: &Definition) -> Result<Bounds, DefinitionError> {
        let of_step = |step: &crate::definition::Step| {
            let wrong = |error: &dyn std::fmt::Display| DefinitionError::of_step(step, error);
            let budget = step.retry_budget();
            let turns = |retries: NonZeroU32| {
                let config = rate::Config::new(retries.get(), SECOND)
                    .burst(1)
                    .wait(LONGEST);
                Rate::new(config)
            };
            let undoes = step.undo_rate().map(turns);
            Ok(OfStep {
                retries: Budget::new(budget).map_err(|error| wrong(&error))?,
                is_enforced: budget.is_enforced(),
                tick: budget.memory() / TICKS,
                undoes: undoes.transpose().map_err(|error| wrong(&error))?,
                held: AtomicU64::new(0),
            })
        };
        let steps = definition.steps().map(of_step).collect::<Result<_, _>>();
        steps.map(|steps| Bounds { steps })
    }

    /// What is left of those of a step.
    ///
    /// # Panics
    /// If there is no such step.
    pub fn left(&self, step: usize, now: Stamp) -> Left {
        let of_step = &self.steps[step];
        Left {
            retries: of_step.retries.stats(time(now)).available,
            held: of_step.held.load(Ordering::Relaxed),
        }
    }

    /// A step was done.
    pub(crate) fn succeeded(&self, step: usize, now: Stamp) {
        self.steps[step].retries.deposit(time(now));
    }

    /// Whether a retry may begin now.
    pub(crate) fn retry(&self, step: usize, now: Stamp) -> bool {
        match self.steps[step].retries.withdraw(time(now)) {
            // What is granted is begun, so it is never given back.
            Ok(_withdrawal) => true,
            Err(_) => !self.steps[step].is_enforced,
        }
    }

    /// When a retry that may not begin now asks again, if it would wait so long anyway; `unit` is a
    /// random number between 0 and 1.
    pub(crate) fn again(&self, step: usize, wait: Duration, unit: f64) -> Duration {
        let of_step = &self.steps[step];
        of_step.held.fetch_add(1, Ordering::Relaxed);
        // Not all at once when there is something in it again.
        wait.max(of_step.tick.mul_f64(0.5 + unit))
    }

    /// When the turn of an attempt to undo comes.
    ///
    /// # Errors
    /// When to ask again: so many wait that the turns of a day are given away.
    pub(crate) fn undo(&self, step: usize, now: Stamp) -> Result<Stamp, Stamp> {
        let of_step = &self.steps[step];
        let Some(rate) = &of_step.undoes else {
            return Ok(now);
        };
        let turn = rate.admit(time(now)).map(|wait| now.after(up(wait)));
        if turn != Ok(now) {
            of_step.held.fetch_add(1, Ordering::Relaxed);
        }
        turn.map_err(|stop| now.after(up(stop.retry_after.unwrap_or(LONGEST))))
    }
}

/// Stamps are no finer, and a turn is not early.
fn up(wait: Duration) -> Duration {
    Duration::from_millis(wait.as_nanos().div_ceil(1_000_000) as u64)
}

fn time(stamp: Stamp) -> Time {
    Time::from_millis(stamp.0)
}

const SECOND: Duration = Duration::from_secs(1);
/// Of the window of a budget.
const TICKS: u32 = 10;
/// Longer ones are not given.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
