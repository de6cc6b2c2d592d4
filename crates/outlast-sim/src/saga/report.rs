//! What became of sagas.

use std::time::Duration;

use outlast_core::time::Time;

use crate::client::Latency;

/// What became of all sagas of a run.
#[derive(Clone, Debug, Default)]
pub struct SagasReport {
    /// By the model's sagas.
    pub(crate) sagas: Vec<SagaReport>,
    /// How often the runner crashed.
    pub crashes: u64,
    /// How often a saga went on after a crash.
    pub resumed: u64,
    /// Laws that were broken, at most ten: which saga, and what is wrong with it. Not one is, whatever
    /// a world is made of; if there is one, the machine is wrong, or the simulator.
    pub broken: Vec<String>,
}

/// What became of sagas of one definition that were to begin after the warm-up.
#[derive(Clone, Debug)]
pub struct SagaReport {
    /// So many were to begin.
    pub asked: u64,
    /// So many did not: the runner was away, or as many ran as may.
    pub refused: u64,
    /// So many began.
    pub started: u64,
    /// Everything was done.
    pub completed: u64,
    /// Everything that was done is undone, as far as something undoes it.
    pub compensated: u64,
    /// They wait for somebody at the end.
    pub waiting: u64,
    /// How often one had to wait for somebody.
    pub dead_letters: u64,
    /// Those of the compensated that left something behind: work of a step that is not best effort, which
    /// nobody undid.
    pub half_done: u64,
    /// How often a service did the work of a key once more.
    pub twice: u64,
    /// By the definition's steps.
    pub steps: Vec<StepReport>,
    /// From the beginning to the end, of those that ended.
    pub times: Latency,
    /// The longest of those.
    pub longest: Duration,
    /// By the second in which they were to begin.
    pub seconds: Vec<SagaSecond>,
}

/// What became of a step of sagas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// Attempts of the saga's.
    pub attempts: u64,
    /// Attempts of its upstream's policies, to do it, to undo it, or to ask about it.
    pub requests: u64,
    /// Attempts of which nobody knew whether they did their work.
    pub lost: u64,
    /// How often somebody was asked whether it was done.
    pub queries: u64,
    /// How often a retry, or an attempt to undo it, had to wait for its turn among those of all sagas;
    /// of those that began before the end of the warm-up, too.
    pub held: u64,
    /// Attempts to undo it.
    pub undo_attempts: u64,
    /// How often it was undone.
    pub undone: u64,
}

/// What was to begin in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SagaSecond {
    /// Sagas.
    pub started: u32,
    /// Those of them that were done in the end.
    pub completed: u32,
    /// Those that were undone in the end.
    pub compensated: u32,
    /// Those that were to begin, and did not.
    pub refused: u32,
}

impl SagasReport {
    /// Notes a law that is broken.
    pub(crate) fn breaks(&mut self, what: String) {
        if self.broken.len() < MOST_BROKEN {
            self.broken.push(what);
        }
    }
}

impl SagaReport {
    pub(crate) fn new<'a>(steps: impl Iterator<Item = &'a str>) -> SagaReport {
        let step = |name: &str| StepReport {
            name: name.to_owned(),
            ..StepReport::default()
        };
        SagaReport {
            asked: 0,
            refused: 0,
            started: 0,
            completed: 0,
            compensated: 0,
            waiting: 0,
            dead_letters: 0,
            half_done: 0,
            twice: 0,
            steps: steps.map(step).collect(),
            times: Latency::new(),
            longest: Duration::ZERO,
            seconds: Vec::new(),
        }
    }

    pub(crate) fn second(&mut self, at: Time) -> &mut SagaSecond {
        let second = (at.as_nanos() / 1_000_000_000) as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, SagaSecond::default());
        }
        &mut self.seconds[second]
    }
}

/// One is too many; more than a few say nothing more.
const MOST_BROKEN: usize = 10;
