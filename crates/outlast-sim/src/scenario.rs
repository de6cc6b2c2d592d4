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
mod sagas;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use outlast_config::plan::Plan;
use outlast_config::scenario::Scenario;
use outlast_core::upstream::Config;

pub use self::batch::{Batch, Kept, batch, precise_batch};
pub use self::course::{Course, CourseSecond};
pub use self::limit::{Head, Scaled, head_room};
pub use self::measure::{ClientRun, Run};
pub use self::recovery::Recovery;
pub use self::sagas::{RunnerRun, SagaRun, StepRun};
use crate::model::RunError;
use crate::statistics::unsettled;

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

    /// The same with a warm-up that is found out, if the scenario wants that: how long what is present
    /// at services takes to settle in the run of this seed, before anything happens.
    ///
    /// # Errors
    /// As [`Trial::run`], or if it does not settle.
    pub fn settled(&self, seed: u64) -> Result<Trial, Failure> {
        if !self.scenario.settles {
            return Ok(self.clone());
        }
        let (_, course) = self.run(seed)?;
        let until = self.scenario.begins().unwrap_or(self.scenario.lasts);
        let seconds = 0..(until.as_secs() as usize).min(course.seconds.len());
        let present = |second| course.present.iter().map(|row| row[second] as f64).sum();
        let present: Vec<f64> = seconds.map(present).collect();
        let Some(cut) = unsettled(&present) else {
            return Err(Failure::Unsettled { until });
        };
        Ok(self.with(|scenario| {
            scenario.warm_up = Duration::from_secs(cut as u64);
            scenario.settles = false;
        }))
    }

    /// One run.
    ///
    /// # Errors
    /// If it goes beyond the scenario's bounds, or the simulator fails.
    pub fn run(&self, seed: u64) -> Result<(Run, Course), Failure> {
        let run = || {
            let (model, numbers) = build::model(&self.scenario, &self.policies, seed);
            let report = model.run(self.scenario.lasts);
            let report = report.map_err(|error| Failure::Bound { seed, error })?;
            if let Some(what) = report.sagas().broken.first() {
                let what = what.clone();
                return Err(Failure::Broken { seed, what });
            }
            let course = Course::new(&report, &numbers, &self.scenario);
            Ok((
                measure::measure(seed, &report, &numbers, &self.scenario),
                course,
            ))
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => result,
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
    /// Its queues do not settle before anything happens.
    Unsettled {
        /// When something happens, or the run ends.
        until: Duration,
    },
    /// A law of sagas is broken that holds whatever happens.
    Broken {
        /// Its seed.
        seed: u64,
        /// Which saga, and what is wrong with it.
        what: String,
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
            Failure::Unsettled { until } => write!(
                f,
                "queues do not settle within {until:?}: let it run for longer before something happens, \
                 with less load, or say how long the `warm_up` is"
            ),
            Failure::Broken { seed, what } => write!(
                f,
                "seed {seed}: a law of sagas is broken, which is an error in Outlast: {what}; please \
                 report it with the scenario, the policy file and this seed"
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
