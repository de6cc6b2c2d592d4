//! Scenarios: a policy file in a world, again and again.
//!
//! A [`Trial`] is a scenario with the policies of a plan. [`Trial::run`] makes one run of it,
//! [`batch`] many on several threads. Equal seeds give equal runs whatever the number of threads, and
//! two policies see the same arrivals, the same work and the same bad luck: what differs is theirs.

mod batch;
mod build;
mod course;
mod limit;
mod measure;
mod recovery;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use outlast_config::plan::Plan;
use outlast_config::scenario::Scenario;
use outlast_core::upstream::Config;

pub use self::batch::{Batch, Kept, batch};
pub use self::course::{Course, CourseSecond};
pub use self::limit::{Head, Scaled, head_room};
pub use self::measure::Run;
pub use self::recovery::Recovery;
use crate::model::RunError;

/// A scenario with policies.
#[derive(Clone, Debug)]
pub struct Trial {
    scenario: Scenario,
    /// By the plan's upstreams.
    policies: Vec<Config>,
    names: Vec<String>,
}

impl Trial {
    /// A scenario that was bound to this plan.
    pub fn new(scenario: Scenario, plan: &Plan) -> Trial {
        let policies = plan
            .upstreams
            .iter()
            .map(|upstream| upstream.policies.clone());
        Trial {
            policies: policies.collect(),
            names: plan
                .upstreams
                .iter()
                .map(|upstream| upstream.name.clone())
                .collect(),
            scenario,
        }
    }

    /// What is simulated.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The name of an upstream of the plan.
    ///
    /// # Panics
    /// If there is none with this number.
    pub fn upstream_name(&self, number: usize) -> &str {
        &self.names[number]
    }

    /// The same policies in a scenario that was changed.
    pub fn with(&self, change: impl FnOnce(&mut Scenario)) -> Trial {
        let mut trial = self.clone();
        change(&mut trial.scenario);
        trial
    }

    /// One run.
    ///
    /// # Errors
    /// If it goes beyond the scenario's bounds, or the simulator fails.
    pub fn run(&self, seed: u64) -> Result<(Run, Course), Failure> {
        let run = || {
            let (model, numbers) = build::model(&self.scenario, &self.policies, seed);
            let report = model.run(self.scenario.lasts)?;
            let course = Course::new(&report, &numbers, &self.scenario);
            Ok((
                measure::measure(seed, &report, &numbers, &self.scenario),
                course,
            ))
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(run)) => Ok(run),
            Ok(Err(error)) => Err(Failure::Bound { seed, error }),
            Err(panic) => Err(Failure::Panic {
                seed,
                message: words_of(panic.as_ref()),
            }),
        }
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned());
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
    words.unwrap_or_else(|| "it did not say why".to_owned())
}

/// Why a run has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It went beyond a bound.
    Bound {
        /// Its seed.
        seed: u64,
        /// Which one, and what to change.
        error: RunError,
    },
    /// The simulator is wrong.
    Panic {
        /// Its seed.
        seed: u64,
        /// What it said.
        message: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Bound { seed, error } => write!(
                f,
                "seed {seed}: {error}; `most_events` and `most_present` in the scenario are the bounds"
            ),
            Failure::Panic { seed, message } => write!(
                f,
                "seed {seed}: the simulator failed, which is an error in it: {message}; please report \
                 it with the scenario, the policy file and this seed"
            ),
        }
    }
}

impl std::error::Error for Failure {}
