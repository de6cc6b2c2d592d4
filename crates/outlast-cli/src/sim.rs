//! `outlast sim`: a policy file in a modelled world.

mod chart;
mod data;
mod limit;
pub(crate) mod rows;
mod table;

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use outlast_config::Problems;
use outlast_sim::scenario::{Batch, Failure, Kept, Trial, batch, precise_batch};

use crate::commands::{Runs, Sim};
use crate::{FAILED, UNABLE, failed, output, picture};

/// Runs a scenario; fails if a promise is broken.
pub(crate) fn run(sim: &Sim) -> ExitCode {
    let trials = match trials(sim) {
        Ok(trials) => trials,
        Err(error) => {
            output::tell(&error);
            return ExitCode::from(failed(&error));
        }
    };
    if let Some(what) = sim.find_limit {
        return limit::find(sim, &trials[0].0, what);
    }
    let settles = trials[0].0.scenario().settles;
    let trials = match alike(trials) {
        Ok(trials) => trials,
        Err(failure) => {
            output::tell(failure);
            return ExitCode::from(UNABLE);
        }
    };
    let mut results = Vec::new();
    for (trial, policy) in trials {
        match Outcome::of(sim, trial, policy, settles) {
            Ok(outcome) => results.push(outcome),
            Err(failure) => {
                output::tell(failure);
                return ExitCode::from(UNABLE);
            }
        }
    }
    if let Some(path) = &sim.plot {
        if let Err(error) = plot(path, sim, &results) {
            output::tell(format_args!(
                "{} could not be written: {error}",
                path.display()
            ));
            return ExitCode::from(UNABLE);
        }
        output::tell(format_args!("{} is written", path.display()));
    }
    let told = if sim.json {
        format!("{:#}\n", data::document(sim, &results))
    } else {
        table::page(sim, &results)
    };
    // The other policies are there to compare with; what they break is no failure.
    let kept = results[0].kept.iter().all(|kept| kept.kept);
    let code = match kept {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    };
    output::end(&told, code)
}

/// A policy file and what came of it.
struct Outcome {
    policy: PathBuf,
    trial: Trial,
    seed: u64,
    /// Whether the warm-up was found out.
    settles: bool,
    batch: Batch,
    kept: Vec<Kept>,
}

impl Outcome {
    fn of(sim: &Sim, trial: Trial, policy: PathBuf, settles: bool) -> Result<Outcome, Failure> {
        let (seed, runs) = seeds(sim, &trial);
        let batch = runs_of(sim, &trial, seed, runs, &policy.display().to_string())?;
        Ok(Outcome {
            kept: batch.kept(&trial.scenario().promises),
            policy,
            seed,
            settles,
            batch,
            trial,
        })
    }
}

/// The scenario with the policies to try, and those to compare with.
fn trials(sim: &Sim) -> Result<Vec<(Trial, PathBuf)>, Problems> {
    let draft = outlast_config::scenario::load(&sim.scenario)?;
    let policy = match sim.policy.clone().or_else(|| draft.policy()) {
        Some(policy) => policy,
        None => return Err(draft.lacks_policy()),
    };
    let trial = |policy: PathBuf| {
        let plan = outlast_config::load(&policy)?.into_plan();
        let scenario = draft.bind(&plan)?;
        Ok((Trial::new(scenario, &plan), policy))
    };
    [policy]
        .into_iter()
        .chain(sim.vs.clone())
        .map(trial)
        .collect()
}

/// All with the longest warm-up that one of them takes, so that the same time of them is compared.
fn alike(trials: Vec<(Trial, PathBuf)>) -> Result<Vec<(Trial, PathBuf)>, Failure> {
    let settled: Result<Vec<_>, _> = trials
        .into_iter()
        .map(|(trial, policy)| Ok((settled(&trial)?, policy)))
        .collect();
    let settled = settled?;
    let warm_ups = settled.iter().map(|(trial, _)| trial.scenario().warm_up);
    let longest = warm_ups.max().unwrap_or_default();
    let with = |(trial, policy): (Trial, PathBuf)| {
        (trial.with(|scenario| scenario.warm_up = longest), policy)
    };
    Ok(settled.into_iter().map(with).collect())
}

/// With the warm-up of the scenario's own seed, so that a run that is replayed has that of all.
fn settled(trial: &Trial) -> Result<Trial, Failure> {
    trial.settled(trial.scenario().seed)
}

/// The first seed, and how many.
fn seeds(sim: &Sim, trial: &Trial) -> (u64, Runs) {
    let scenario = trial.scenario();
    let seed = sim.seed.unwrap_or(scenario.seed);
    let said = scenario.runs.map_or(Runs::Auto, Runs::Exactly);
    (seed, sim.runs.unwrap_or(said))
}

fn runs_of(sim: &Sim, trial: &Trial, seed: u64, runs: Runs, what: &str) -> Result<Batch, Failure> {
    let progress = Progress::new(what, runs);
    let show = |done| progress.show(done);
    let result = match runs {
        Runs::Exactly(runs) => batch(trial, seed, runs, threads(sim), &show),
        Runs::Auto => precise_batch(trial, seed, threads(sim), &show),
    };
    progress.end();
    result
}

fn threads(sim: &Sim) -> NonZeroUsize {
    let all = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    sim.threads.unwrap_or_else(all)
}

/// A bar on standard error, if somebody looks.
struct Progress<'a> {
    what: &'a str,
    /// At most, if it is as many as it takes.
    runs: u32,
    shown: bool,
}

impl Progress<'_> {
    fn new(what: &str, runs: Runs) -> Progress<'_> {
        let runs = match runs {
            Runs::Exactly(runs) => runs,
            Runs::Auto => 64,
        };
        let progress = Progress {
            what,
            runs,
            shown: io::stderr().is_terminal(),
        };
        progress.show(0);
        progress
    }

    fn show(&self, done: u32) {
        if self.shown {
            let filled = (WIDTH * u64::from(done) / u64::from(self.runs.max(1))) as usize;
            let bar = format!("{:<1$}", "#".repeat(filled), WIDTH as usize);
            // Who does not see it misses nothing.
            let _ = write!(
                io::stderr(),
                "\r[{bar}] {done} of {} runs, {} ",
                self.runs,
                self.what
            );
        }
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn plot(path: &Path, sim: &Sim, results: &[Outcome]) -> io::Result<()> {
    let drawn = chart::picture(sim, results);
    let is_page = path.extension().is_some_and(|end| end == "html");
    let text = if is_page {
        picture::html(&drawn, &table::html(sim, results))
    } else {
        picture::svg(&drawn)
    };
    std::fs::write(path, text)
}

const WIDTH: u64 = 30;
