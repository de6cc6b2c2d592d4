//! Successive halving (Jamieson and Talwalkar 2016): runs go to those that are hard to tell apart.

use std::num::NonZeroUsize;

use super::{Score, Standing, measure, order};

/// How candidates stood after a round.
#[derive(Clone, Debug)]
pub struct Round {
    /// Runs of each until then, with the same seeds.
    pub runs: u32,
    /// The best first, with what their runs say.
    pub ranked: Vec<(usize, Standing)>,
}

/// Candidates with their runs. What was run once is not run again.
pub(super) struct Runs<'a, E> {
    seed: u64,
    threads: NonZeroUsize,
    run: &'a (dyn Fn(usize, u64) -> Result<Score, E> + Sync),
    done: &'a (dyn Fn() + Sync),
    /// By candidate, in the order of their seeds.
    scores: Vec<Vec<Score>>,
}

impl<'a, E: Send> Runs<'a, E> {
    pub(super) fn new(
        candidates: usize,
        seed: u64,
        threads: NonZeroUsize,
        run: &'a (dyn Fn(usize, u64) -> Result<Score, E> + Sync),
        done: &'a (dyn Fn() + Sync),
    ) -> Runs<'a, E> {
        Runs {
            seed,
            threads,
            run,
            done,
            scores: vec![Vec::new(); candidates],
        }
    }

    /// Runs these candidates until they have so many runs each.
    pub(super) fn up_to(&mut self, candidates: &[usize], runs: u32) -> Result<(), E> {
        let missing = |candidate: &usize| {
            let (candidate, from) = (*candidate, self.scores[*candidate].len() as u64);
            (from..u64::from(runs)).map(move |number| (candidate, number))
        };
        let jobs: Vec<_> = candidates.iter().flat_map(missing).collect();
        let jobs: Vec<_> = jobs
            .into_iter()
            .map(|(candidate, number)| (candidate, self.seed.wrapping_add(number)))
            .collect();
        let scores = measure(&jobs, self.threads, self.run, self.done)?;
        for ((candidate, _), score) in jobs.into_iter().zip(scores) {
            self.scores[candidate].push(score);
        }
        Ok(())
    }

    pub(super) fn of(&self, candidate: usize) -> &[Score] {
        &self.scores[candidate]
    }

    pub(super) fn made(&self) -> u64 {
        self.scores.iter().map(|scores| scores.len() as u64).sum()
    }
}

/// How many candidates a round has, and how many runs each has after it.
pub(super) fn rounds(candidates: usize, runs: u32) -> Vec<(usize, u32)> {
    let mut rounds = vec![(candidates, runs)];
    let (mut candidates, mut runs) = (candidates, runs);
    while candidates > QUARTER {
        candidates /= QUARTER;
        runs = runs.saturating_mul(QUARTER as u32);
        rounds.push((candidates, runs));
    }
    rounds
}

/// All rounds, one after the other.
pub(super) fn halving<E: Send>(
    all: &mut Runs<'_, E>,
    runs: u32,
    needs: &[f64],
) -> Result<Vec<Round>, E> {
    let mut left: Vec<usize> = (0..all.scores.len()).collect();
    let mut told = Vec::new();
    for (candidates, runs) in rounds(left.len(), runs) {
        left.truncate(candidates);
        // The order in which they came is the one in which ties are won.
        left.sort_unstable();
        all.up_to(&left, runs)?;
        let standing = |candidate: &usize| Standing::of(all.of(*candidate), needs);
        let standings: Vec<_> = left.iter().map(standing).collect();
        let ordered = order(&standings);
        let ranked = ordered.iter().map(|at| (left[*at], standings[*at]));
        told.push(Round {
            runs,
            ranked: ranked.collect(),
        });
        left = ordered.iter().map(|at| left[*at]).collect();
    }
    Ok(told)
}

/// The share of candidates that goes on, and how many times as many runs those get.
const QUARTER: usize = 4;
