//! `outlast tune`: settings of a policy file that do better in a scenario.
//!
//! The search is that of `outlast_sim::tune`; here candidates are made of a file, and what was found is
//! told. Of the best one, every change that is not needed is put back before it is recommended: a file
//! that differs in two settings is read by somebody.

mod candidates;
mod data;
mod page;
mod plan;
mod progress;
mod setting;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use outlast_config::edit::File;
use outlast_config::plan::Plan as Policies;
use outlast_config::scenario::Scenario;
use outlast_sim::scenario::Failure;
use outlast_sim::tune::{Found, Score, Standing, measure, order};

use self::candidates::{Candidate, Candidates, Source};
use self::plan::Plan;
use self::progress::Progress;
use self::setting::{Setting, settings};
use crate::commands::Tune;
use crate::{FAILED, UNABLE, WRONG, output};

/// Searches, tells, and fails if the suggestion breaks a promise.
pub(crate) fn run(tune: &Tune) -> ExitCode {
    match try_run(tune) {
        Ok(code) => code,
        Err(stop) => {
            output::tell(stop.why);
            ExitCode::from(stop.code)
        }
    }
}

/// Why there is no suggestion.
struct Stop {
    code: u8,
    why: String,
}

impl Stop {
    fn new(code: u8, why: impl ToString) -> Stop {
        let why = why.to_string();
        Stop { code, why }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::new(UNABLE, failure)
    }
}

fn try_run(tune: &Tune) -> Result<ExitCode, Stop> {
    let failed = |problems: outlast_config::Problems| Stop::new(crate::failed(&problems), problems);
    let draft = outlast_config::scenario::load(&tune.scenario).map_err(failed)?;
    let policy = tune.policy.clone().or_else(|| draft.policy());
    let policy = policy.ok_or_else(|| failed(draft.lacks_policy()))?;
    if let Some(out) = &tune.out {
        refuse_input(out, &[&policy, &tune.scenario])?;
    }
    let file = File::load(&policy).map_err(failed)?;
    let policies = file.check().map_err(failed)?.into_plan();
    let scenario = draft.bind(&policies).map_err(failed)?;
    let upstreams = upstreams(tune, &policies, &scenario)?;
    let settings = settings(&file, &upstreams, &tune.add, tune.range);
    if settings.is_empty() {
        return Err(Stop::new(
            WRONG,
            "there is nothing to tune: no setting with a number",
        ));
    }
    let source = Source {
        draft: &draft,
        file: &file,
        settings: &settings,
    };
    let tuned = Tuned::new(tune, &source, scenario, policy)?;
    if let Some(out) = &tune.out {
        let written = std::fs::write(out, &tuned.best.text);
        let told = |error| {
            Stop::new(
                UNABLE,
                format!("{} could not be written: {error}", out.display()),
            )
        };
        written.map_err(told)?;
    }
    let told = if tune.json {
        format!("{:#}\n", data::document(tune, &tuned))
    } else {
        page::page(tune, &tuned)
    };
    let code = match tuned.after.is_fine(&tuned.needs) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    };
    Ok(output::end(&told, code))
}

/// What was read stays as it is.
fn refuse_input(out: &Path, inputs: &[&Path]) -> Result<(), Stop> {
    let Ok(out) = out.canonicalize() else {
        return Ok(());
    };
    let is_input = |input: &&&Path| input.canonicalize().is_ok_and(|input| input == out);
    match inputs.iter().find(is_input) {
        Some(input) => {
            let input = input.display();
            let why = format!("{input} is what is tuned, and is left as it is; name another file");
            Err(Stop::new(WRONG, why))
        }
        None => Ok(()),
    }
}

/// The upstreams that are tuned.
fn upstreams(tune: &Tune, policies: &Policies, scenario: &Scenario) -> Result<Vec<String>, Stop> {
    let used = policies.upstreams.iter().zip(&scenario.upstreams);
    let used = used.filter(|(_, places)| places.is_some());
    let used: Vec<String> = used.map(|(upstream, _)| upstream.name.clone()).collect();
    match &tune.upstream {
        None => Ok(used),
        Some(name) if used.contains(name) => Ok(vec![name.clone()]),
        Some(name) => {
            let used = used.join(", ");
            let why = format!("the scenario does not use an upstream `{name}`; it uses: {used}");
            Err(Stop::new(WRONG, why))
        }
    }
}

/// What came of it.
struct Tuned {
    policy: PathBuf,
    scenario: Scenario,
    needs: Vec<f64>,
    settings: Vec<Setting>,
    plan: Plan,
    candidates: Candidates,
    found: Found,
    /// The suggestion.
    best: Candidate,
    /// The file as it is and the suggestion, with the same seeds, which took part in no choice.
    scores: [Vec<Score>; 2],
    before: Standing,
    after: Standing,
    /// Settings that are moved up or down, from the suggestion.
    moves: Vec<Move>,
    /// How many runs it took.
    runs: u64,
}

/// A setting of the suggestion with another value.
struct Move {
    setting: usize,
    value: String,
    /// With the first of those seeds; nothing if it is no file that can be used.
    scores: Option<Vec<Score>>,
}

impl Tuned {
    fn new(
        tune: &Tune,
        source: &Source<'_>,
        scenario: Scenario,
        policy: PathBuf,
    ) -> Result<Tuned, Stop> {
        let seed = tune.seed.unwrap_or(scenario.seed);
        let all = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = tune.threads.unwrap_or_else(all);
        let count = source.settings.len();
        let plan = Plan::new(tune.budget, count, seed, threads).map_err(|least| {
            let why = format!("{count} settings take a --budget of {least} runs, or an --upstream");
            Stop::new(WRONG, why)
        })?;
        let candidates = source.candidates(plan.points, seed);
        let candidates = candidates.map_err(|why| Stop::new(FAILED, why))?;
        let needs: Vec<f64> = scenario
            .promises
            .iter()
            .map(|promise| promise.runs)
            .collect();
        let progress = Progress::new(u64::from(tune.budget));
        let run = |candidate: usize, seed: u64| candidates.all[candidate].run(seed);
        let count = candidates.all.len();
        let found = plan
            .search
            .among(count, &needs, &run, &|| progress.step())?;
        let mut judge = Judge {
            source,
            plan: &plan,
            needs: &needs,
            progress: &progress,
            runs: found.runs,
        };
        let winner = found.finalists[0].candidate;
        let mut best = candidates.all[winner].clone();
        if let Some(simpler) = judge.without_needless(&best)? {
            best = simpler;
        }
        let fresh = plan.search.fresh;
        let before = judge.evidence(&candidates.all[0], fresh)?;
        let after = match best.values == candidates.all[0].values {
            true => before.clone(),
            false => judge.evidence(&best, fresh)?,
        };
        let moves = judge.moves(&best)?;
        let runs = judge.runs;
        progress.end();
        Ok(Tuned {
            before: Standing::of(&before, &needs),
            after: Standing::of(&after, &needs),
            scores: [before, after],
            settings: source.settings.to_vec(),
            policy,
            scenario,
            needs,
            plan,
            candidates,
            found,
            best,
            moves,
            runs,
        })
    }

    /// Settings that differ from what there is, with their new values.
    fn changes(&self) -> Vec<(&Setting, &str)> {
        let pairs = self.settings.iter().zip(&self.best.values);
        pairs
            .filter_map(|(setting, value)| Some((setting, value.as_deref()?)))
            .collect()
    }
}

/// Runs of candidates that come after the search.
struct Judge<'a> {
    source: &'a Source<'a>,
    plan: &'a Plan,
    needs: &'a [f64],
    progress: &'a Progress,
    runs: u64,
}

impl Judge<'_> {
    /// The same with every change put back without which it is as good on the seeds of the search;
    /// nothing if all are needed.
    fn without_needless(&mut self, best: &Candidate) -> Result<Option<Candidate>, Failure> {
        let seed = self.plan.search.seed;
        let deciding = self.plan.deciding;
        let standing = Standing::of(&self.scores(best, seed, deciding)?, self.needs);
        let mut simplest = best.clone();
        for number in 0..best.values.len() {
            if simplest.values[number].is_none() {
                continue;
            }
            let mut values = simplest.values.clone();
            values[number] = None;
            let Ok(simpler) = self.source.candidate(values) else {
                continue;
            };
            let without = Standing::of(&self.scores(&simpler, seed, deciding)?, self.needs);
            // Who comes first wins ties. It is compared with the best, so that many small losses do
            // not add up.
            if order(&[without, standing])[0] == 0 {
                simplest = simpler;
            }
        }
        Ok((simplest.values != best.values).then_some(simplest))
    }

    /// Each setting a fifth lower and a fifth higher.
    fn moves(&mut self, best: &Candidate) -> Result<Vec<Move>, Failure> {
        let mut moves = Vec::new();
        if self.plan.moved == 0 {
            return Ok(moves);
        }
        for (number, setting) in self.source.settings.iter().enumerate() {
            let value = best.values[number].as_ref().or(setting.holds.as_ref());
            let Some(value) = value else { continue };
            for times in [0.8, 1.2] {
                let Some(value) = setting.times(value, times) else {
                    continue;
                };
                let mut values = best.values.clone();
                values[number] = Some(value.clone());
                let scores = match self.source.candidate(values) {
                    Ok(candidate) => Some(self.evidence(&candidate, self.plan.moved)?),
                    Err(_) => None,
                };
                moves.push(Move {
                    setting: number,
                    value,
                    scores,
                });
            }
        }
        Ok(moves)
    }

    /// With seeds that took part in no choice.
    fn evidence(&mut self, candidate: &Candidate, runs: u32) -> Result<Vec<Score>, Failure> {
        self.scores(candidate, self.plan.search.evidence_seed(), runs)
    }

    fn scores(
        &mut self,
        candidate: &Candidate,
        seed: u64,
        runs: u32,
    ) -> Result<Vec<Score>, Failure> {
        let jobs: Vec<_> = (0..u64::from(runs))
            .map(|number| (0, seed.wrapping_add(number)))
            .collect();
        self.runs += u64::from(runs);
        let run = |_, seed| candidate.run(seed);
        measure(&jobs, self.plan.search.threads, &run, &|| {
            self.progress.step()
        })
    }
}
