//! How sagas fared in a run, in numbers.

use std::ops::Range;
use std::time::Duration;

use outlast_config::scenario::Measure;

use crate::{SagaReport, SagaSecond, SagasReport};

/// How sagas of one name fared in one run; of those that were to begin after the warm-up.
#[derive(Clone, Debug, PartialEq)]
pub struct SagaRun {
    /// How many began.
    pub started: u64,
    /// How many did not, of those that were to: the runner was away, or as many ran as may.
    pub refused: u64,
    /// How many ended done.
    pub completed: u64,
    /// How many ended undone.
    pub compensated: u64,
    /// How many wait for somebody at the end.
    pub waiting: u64,
    /// How often one had to wait for somebody.
    pub dead_letters: u64,
    /// How many ended undone and left something behind.
    pub half_done: u64,
    /// How often a service did the work of a step once more.
    pub twice: u64,
    /// From the beginning to the end, in seconds: half took longer, one in a hundred, the longest; not a
    /// number if none ended.
    pub times: [f64; 3],
    /// By its steps.
    pub steps: Vec<StepRun>,
}

/// How a step of sagas fared in one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRun {
    /// Its name.
    pub name: String,
    /// Attempts of sagas.
    pub attempts: u64,
    /// Attempts of its upstream's policies, to do it, to undo it, or to ask about it.
    pub requests: u64,
    /// Attempts of which nobody knew whether they did their work.
    pub lost: u64,
    /// How often somebody was asked whether it was done.
    pub queries: u64,
    /// How often a retry, or an attempt to undo it, had to wait for its turn among those of all sagas.
    pub held: u64,
    /// How often it was undone.
    pub undone: u64,
}

/// How the runner of sagas fared in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunnerRun {
    /// How often it crashed.
    pub crashes: u64,
    /// How often a saga went on after that.
    pub resumed: u64,
}

impl RunnerRun {
    pub(super) fn new(report: &SagasReport) -> RunnerRun {
        RunnerRun {
            crashes: report.crashes,
            resumed: report.resumed,
        }
    }
}

impl SagaRun {
    pub(super) fn new(report: &SagaReport) -> SagaRun {
        let known = |took: Duration| match report.times.count() {
            0 => f64::NAN,
            _ => took.as_secs_f64(),
        };
        let quantile = |share| known(report.times.quantile(share));
        let step = |step: &crate::StepReport| StepRun {
            name: step.name.clone(),
            attempts: step.attempts,
            requests: step.requests,
            lost: step.lost,
            queries: step.queries,
            held: step.held,
            undone: step.undone,
        };
        SagaRun {
            started: report.started,
            refused: report.refused,
            completed: report.completed,
            compensated: report.compensated,
            waiting: report.waiting,
            dead_letters: report.dead_letters,
            half_done: report.half_done,
            twice: report.twice,
            times: [quantile(0.5), quantile(0.99), known(report.longest)],
            steps: report.steps.iter().map(step).collect(),
        }
    }

    /// The share of those that began that ended done; not a number if none began.
    pub fn done(&self) -> f64 {
        self.completed as f64 / self.started as f64
    }

    /// How often an attempt of any step had to wait for its turn.
    pub fn held(&self) -> u64 {
        self.steps.iter().map(|step| step.held).sum()
    }

    /// The share of those that began that ended undone; not a number if none began.
    pub fn undone(&self) -> f64 {
        self.compensated as f64 / self.started as f64
    }
}

/// What a promise is about; `None` if there is nothing to measure. `range` are the seconds that count,
/// if not all do.
pub(super) fn measured(
    measure: Measure,
    sagas: &[&SagaReport],
    range: Option<Range<usize>>,
) -> Option<f64> {
    let all = |of: fn(&SagaReport) -> u64| sagas.iter().map(|saga| of(saga)).sum::<u64>() as f64;
    let seconds = |of: fn(&SagaSecond) -> u32| {
        let of_one = |saga: &&SagaReport| {
            let range = range.clone().unwrap_or(0..usize::MAX);
            let seconds = saga.seconds.iter().skip(range.start).take(range.len());
            seconds.map(|second| u64::from(of(second))).sum::<u64>()
        };
        sagas.iter().map(of_one).sum::<u64>() as f64
    };
    let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    let (completed, compensated) = (
        seconds(|second| second.completed),
        seconds(|second| second.compensated),
    );
    let (started, refused) = (
        seconds(|second| second.started),
        seconds(|second| second.refused),
    );
    match measure {
        Measure::Settled => share(completed + compensated, started),
        Measure::Completed => share(completed, started),
        Measure::Compensated => share(compensated, started),
        Measure::Refused => share(refused, started + refused),
        Measure::Waiting => Some(all(|saga| saga.waiting)),
        Measure::HalfDone => Some(all(|saga| saga.half_done)),
        Measure::Twice => Some(all(|saga| saga.twice)),
        Measure::Quantile(share) => {
            let (first, rest) = sagas.split_first()?;
            let mut times = first.times.clone();
            rest.iter().for_each(|saga| times.add(&saga.times));
            (times.count() > 0).then(|| times.quantile(share).as_secs_f64())
        }
        Measure::Goodput
        | Measure::Availability
        | Measure::Rejected
        | Measure::Attempts
        | Measure::Recovery
        | Measure::Peak
        | Measure::Wasted
        | Measure::Late => None,
    }
}
