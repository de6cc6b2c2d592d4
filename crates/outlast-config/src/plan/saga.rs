//! Sagas: business actions over several upstreams.

use std::num::NonZeroUsize;
use std::time::Duration;

use outlast_core::backoff::Backoff;

use crate::template::{Json, Text};

/// The sagas of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Sagas {
    /// Sagas in flight at once. Default 10,000.
    pub running: NonZeroUsize,
    /// Bytes of an input, and of an answer. Default 1 MiB.
    pub bytes: usize,
    /// Sagas a second that go on after a crash. Default 1,000.
    pub resumed_a_second: NonZeroUsize,
    /// How long after its beginning a saga that has ended is kept. Default 30 days.
    pub keep: Duration,
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
    /// All of it as text: another one is another saga.
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
    /// Whether it is given up when nobody knows whether it was done. Default: it is tried again.
    pub compensates_unknown: bool,
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
        steps.flat_map(|step| std::iter::once(&step.act).chain(&step.undo))
    }
}

impl SagaRequest {
    /// What a status means.
    pub fn means(&self, status: u16) -> SagaMeaning {
        let is_it = |outcome: &&SagaStatus| (outcome.from..=outcome.to).contains(&status);
        if let Some(outcome) = self.outcomes.iter().find(is_it) {
            return outcome.means;
        }
        match status {
            200..=299 => SagaMeaning::Success,
            // Whoever said this did not hear from the one who does the work.
            502 | 504 => SagaMeaning::Unknown,
            408 | 425 | 429 | 500..=599 => SagaMeaning::Transient,
            _ => SagaMeaning::Permanent,
        }
    }
}
