//! Many runs of a scenario, on several threads.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use outlast_config::scenario::Promise;

use super::{Course, Failure, Run, Trial};
use crate::statistics::{Mean, Share};

/// What many runs show.
#[derive(Clone, Debug)]
pub struct Batch {
    /// In the order of their seeds.
    pub runs: Vec<Run>,
    /// All of them added up.
    pub course: Course,
}

/// How a promise fared.
#[derive(Clone, Debug)]
pub struct Kept {
    /// In how many runs it was kept.
    pub share: Share,
    /// Whether in as many as it asks for.
    pub kept: bool,
    /// What was measured, over the runs in which there was something finite to measure.
    pub measured: Option<Mean>,
}

impl Batch {
    /// How the scenario's promises fared, in their order.
    pub fn kept(&self, promises: &[Promise]) -> Vec<Kept> {
        let kept = |(number, promise): (usize, &Promise)| {
            let yes = self
                .runs
                .iter()
                .filter(|run| run.keeps(number, promise))
                .count();
            let measured = self.runs.iter().filter_map(|run| run.measured[number]);
            let measured: Vec<f64> = measured.filter(|value| value.is_finite()).collect();
            let share = Share::new(yes as u32, self.runs.len() as u32);
            Kept {
                kept: share.share() >= promise.runs,
                measured: Mean::of(&measured),
                share,
            }
        };
        promises.iter().enumerate().map(kept).collect()
    }

    /// A measure over all runs.
    pub fn mean(&self, of: impl Fn(&Run) -> f64) -> Option<Mean> {
        let values: Vec<f64> = self
            .runs
            .iter()
            .map(of)
            .filter(|value| value.is_finite())
            .collect();
        Mean::of(&values)
    }

    /// In how many runs all was well in the end; `None` if nothing happens that is over.
    pub fn recovered(&self) -> Option<Share> {
        let judged: Vec<_> = self.runs.iter().filter_map(|run| run.recovery).collect();
        let yes = judged.iter().filter(|recovery| recovery.recovered).count();
        (!judged.is_empty()).then(|| Share::new(yes as u32, judged.len() as u32))
    }

    /// A hash over the hashes of all runs: equal for equal batches. That of a single run is the run's.
    pub fn hash(&self) -> u64 {
        let step = |hash: u64, run: &Run| outlast_core::rng::mix(hash ^ run.hash);
        match &self.runs[..] {
            [run] => run.hash,
            runs => runs.iter().fold(0, step),
        }
    }
}

/// Runs a trial with `runs` seeds from `seed` on. `done` is told how many are done, by any thread.
///
/// # Errors
/// The failure of the run with the lowest seed that fails; the others are given up then.
pub fn batch(
    trial: &Trial,
    seed: u64,
    runs: u32,
    threads: NonZeroUsize,
    done: &(dyn Fn(u32) + Sync),
) -> Result<Batch, Failure> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let count = AtomicUsize::new(0);
    let results = Mutex::new(vec![None; runs as usize]);
    let course = Mutex::new(Course::default());
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= runs as usize {
                break;
            }
            let result = trial.run(seed.wrapping_add(number as u64));
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            let result = result.map(|(run, one)| {
                // Sums of whole numbers do not depend on their order.
                course.lock().expect("nobody panics with it").add(&one);
                run
            });
            results.lock().expect("nobody panics with them")[number] = Some(result);
            done(count.fetch_add(1, Ordering::Relaxed) as u32 + 1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get().min(runs as usize) {
            scope.spawn(work);
        }
        work();
    });
    let results = results.into_inner().expect("nobody panics with them");
    let runs: Result<Vec<Run>, Failure> = results.into_iter().flatten().collect();
    Ok(Batch {
        runs: runs?,
        course: course.into_inner().expect("nobody panics with it"),
    })
}

/// As many runs as it takes to know the means of goodput, attempts and p99 to one in fifty (half of the
/// interval); at least 8, at most 64. `done` is told how many are done.
///
/// # Errors
/// As [`batch`].
pub fn precise_batch(
    trial: &Trial,
    seed: u64,
    threads: NonZeroUsize,
    done: &(dyn Fn(u32) + Sync),
) -> Result<Batch, Failure> {
    let mut all: Option<Batch> = None;
    loop {
        let count = all.as_ref().map_or(0, |all| all.runs.len() as u32);
        let next = seed.wrapping_add(u64::from(count));
        let more = batch(trial, next, STEP, threads, &|some| done(count + some))?;
        let all = match &mut all {
            Some(all) => {
                all.runs.extend(more.runs);
                all.course.add(&more.course);
                all
            }
            None => all.insert(more),
        };
        if all.runs.len() >= MOST || is_precise(all) {
            return Ok(all.clone());
        }
    }
}

fn is_precise(batch: &Batch) -> bool {
    let known = |of: fn(&Run) -> f64| {
        let mean = batch.mean(of);
        mean.is_none_or(|mean| mean.half_width <= EXACT * mean.mean.abs())
    };
    known(|run| run.goodput) && known(|run| run.attempts) && known(|run| run.quantiles[1])
}

/// Whether it is enough is looked at after so many runs.
const STEP: u32 = 8;
const MOST: usize = 64;
const EXACT: f64 = 0.02;
