//! Sagas: business actions over several upstreams.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use outlast_core::backoff::Backoff;
use outlast_core::budget;

use crate::template::{Json, Text};

/// The sagas of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Sagas {
    /// Sagas in flight at once. Default 10,000.
    pub running: NonZeroUsize,
    /// Bytes of an input, and of an answer. Default 1 MiB.
    pub bytes: usize,
    /// Sagas a second that go on after a crash. Default 20,000.
    pub resumed_a_second: NonZeroUsize,
    /// Records of a saga's log on its way forward, and as many again on its way back. Default 1,000.
    pub records: NonZeroU64,
    /// How long after its end a saga is known. Default 30 days.
    pub keep: Duration,
    /// How long after its end its log is kept, within the former. Default 7 days.
    pub keep_log: Duration,
    /// What can be started, in the order of the file; a name may have several versions.
    pub definitions: Vec<Saga>,
}

/// One version of a saga.
#[derive(Clone, Debug, PartialEq)]
pub struct Saga {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// When it is given up and undone. Default: never.
    pub deadline: Option<Duration>,
    /// Its steps in order; those of one item run at once.
    pub stages: Vec<Vec<SagaStep>>,
    /// All of it that matters to a saga that runs, as text: another one is another saga.
    pub source: String,
}

/// A step of a saga.
#[derive(Clone, Debug, PartialEq)]
pub struct SagaStep {
    /// Its name.
    pub name: String,
    /// What it does.
    pub act: SagaRequest,
    /// What undoes it. Default: nothing has to.
    pub undo: Option<SagaRequest>,
    /// Whether its failure is none of the saga's. Default: it is.
    pub best_effort: bool,
    /// Whether there is no way back behind it. Default: there is.
    pub pivot: bool,
    /// What is done when nobody knows whether it was done. Default: it is tried again.
    pub on_unknown: SagaUnknown,
    /// Retries of all sagas together. Default: 20 %, and 100 in 10 s.
    pub budget: budget::Config,
    /// Retries a second of all sagas together, of what undoes it. Default 100.
    pub undo_rate: NonZeroU32,
}

/// What is done about an attempt of which nobody knows whether it did its work.
#[derive(Clone, Debug, PartialEq)]
pub enum SagaUnknown {
    /// It is tried again with the same key.
    Retry,
    /// It is given up, and undone as if it had been done.
    Compensate,
    /// Somebody is asked.
    Query(Box<SagaQuery>),
}

/// How somebody is asked whether a step was done.
#[derive(Clone, Debug, PartialEq)]
pub struct SagaQuery {
    /// The request; its own outcomes are empty.
    pub request: SagaRequest,
    /// What statuses mean, the narrowest range first. Default: none beside the usual.
    pub outcomes: Vec<SagaFinds>,
}

/// What statuses of an answer to a question mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SagaFinds {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
    /// What they mean.
    pub means: SagaFound,
}

/// What an answer says of a step that may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SagaFound {
    /// It was done.
    Done,
    /// It was not.
    NotDone,
    /// It is still not known.
    Unknown,
}

/// A request of a saga.
#[derive(Clone, Debug, PartialEq)]
pub struct SagaRequest {
    /// The place of its upstream in [`Plan::upstreams`](super::Plan::upstreams).
    pub upstream: usize,
    /// Its method.
    pub method: String,
    /// Path and query.
    pub path: Text,
    /// Its fields, names in lower case.
    pub headers: Vec<(String, Text)>,
    /// Its body. Default: none.
    pub body: Option<Json>,
    /// How long an attempt may take. Default 30 s.
    pub timeout: Duration,
    /// Attempts in all. Default 3, and 30 to undo.
    pub attempts: u32,
    /// The waits between them.
    pub backoff: Backoff,
    /// What statuses mean, the narrowest range first. Default: none beside the usual.
    pub outcomes: Vec<SagaStatus>,
}

/// What statuses mean for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SagaStatus {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
    /// What they mean.
    pub means: SagaMeaning,
}

/// What an answer says of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SagaMeaning {
    /// It is done.
    Success,
    /// It is not, and may be the next time.
    Transient,
    /// It is not, and never will be.
    Permanent,
    /// Nobody knows.
    Unknown,
}

impl Sagas {
    /// All requests of all steps.
    pub fn requests(&self) -> impl Iterator<Item = &SagaRequest> {
        self.definitions.iter().flat_map(Saga::requests)
    }
}

impl Saga {
    /// All requests of its steps.
    pub fn requests(&self) -> impl Iterator<Item = &SagaRequest> {
        let steps = self.stages.iter().flatten();
        steps.flat_map(|step| {
            let query = match &step.on_unknown {
                SagaUnknown::Query(query) => Some(&query.request),
                SagaUnknown::Retry | SagaUnknown::Compensate => None,
            };
            std::iter::once(&step.act).chain(&step.undo).chain(query)
        })
    }
}

impl SagaQuery {
    /// What a status means.
    pub fn finds(&self, status: u16) -> SagaFound {
        let is_it = |outcome: &&SagaFinds| (outcome.from..=outcome.to).contains(&status);
        if let Some(outcome) = self.outcomes.iter().find(is_it) {
            return outcome.means;
        }
        match status {
            200..=299 => SagaFound::Done,
            404 | 410 => SagaFound::NotDone,
            // Nothing else says anything of the work.
            _ => SagaFound::Unknown,
        }
    }
}

impl SagaRequest {
    /// What a status means.
    pub fn means(&self, status: u16) -> SagaMeaning {
        SagaMeaning::of(&self.outcomes, status)
    }
}

impl SagaMeaning {
    /// What a status means by these rules; without one, what it usually does.
    pub fn of(rules: &[SagaStatus], status: u16) -> SagaMeaning {
        if let Some(means) = SagaMeaning::told(rules, status) {
            return means;
        }
        match status {
            200..=299 => SagaMeaning::Success,
            // Whoever said this did not hear from the one who does the work.
            502 | 504 => SagaMeaning::Unknown,
            408 | 425 | 429 | 500..=599 => SagaMeaning::Transient,
            _ => SagaMeaning::Permanent,
        }
    }

    /// What these rules say of a status, if they do.
    pub fn told(rules: &[SagaStatus], status: u16) -> Option<SagaMeaning> {
        let is_it = |rule: &&SagaStatus| (rule.from..=rule.to).contains(&status);
        rules.iter().find(is_it).map(|rule| rule.means)
    }
}
