//! Which settings do better in a world: a search that knows that its runs are noisy.
//!
//! A candidate is a number; who searches says what it stands for, and how a run of it with a seed
//! went. First a [`hypercube`] spreads candidates evenly over ranges of settings. Successive halving
//! gives all of them a run, the better quarter four times as many, and so on, always with the same
//! seeds for all, so that most runs go to those that are hard to tell apart. Who won that was good or
//! lucky: so the best are run again with seeds that took no part in the choice, and ranked by those
//! alone. Without that, what is recommended would look better than it is (the winner's curse).
//!
//! Candidate 0 is what there is now. It always comes to the last comparison, and it wins ties.
//!
//! Better means, one after the other: promises kept, recovered, goodput, attempts a call, latency; see
//! [`order`]. Equal seeds give equal results whatever the number of threads.

mod halving;
mod hypercube;
mod order;
mod pool;
mod score;

use std::num::NonZeroUsize;

pub use self::halving::Round;
use self::halving::{Runs, halving};
pub use self::hypercube::{Range, hypercube};
pub use self::order::{ATTEMPTS, GOODPUT, LATENCY, RECOVERED, order, pareto};
pub use self::pool::measure;
pub use self::score::{Score, Standing};

/// How much is searched.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The first seed of the search's runs; those of the last comparison come [`FRESH`] later.
    pub seed: u64,
    /// Runs of each candidate in the first round, at least 1.
    pub runs: u32,
    /// How many of the best are compared in the end, besides candidate 0.
    pub finalists: usize,
    /// Runs of each of them.
    pub fresh: u32,
    /// Threads; the result does not depend on it.
    pub threads: NonZeroUsize,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// How the candidates stood after each round of the search.
    pub rounds: Vec<Round>,
    /// The best with their runs on fresh seeds, best first; candidate 0 is among them.
    pub finalists: Vec<Finalist>,
    /// How many runs it took.
    pub runs: u64,
}

/// A candidate of the last comparison.
#[derive(Clone, Debug)]
pub struct Finalist {
    /// Its number.
    pub candidate: usize,
    /// Its runs, in the order of their seeds.
    pub scores: Vec<Score>,
    /// What they say together.
    pub standing: Standing,
}

impl Search {
    /// The first seed of the last comparison.
    pub fn fresh_seed(&self) -> u64 {
        self.seed.wrapping_add(FRESH)
    }

    /// A first seed for what is told of the winner. Those of the last comparison chose it among a few,
    /// and so flatter it a little, too.
    pub fn evidence_seed(&self) -> u64 {
        self.fresh_seed().wrapping_add(FRESH)
    }

    /// How many runs it takes for so many candidates.
    pub fn cost(&self, candidates: usize) -> u64 {
        let rounds = halving::rounds(candidates, self.runs);
        let mut before = 0;
        let mut cost = 0;
        for (candidates, runs) in rounds {
            cost += candidates as u64 * u64::from(runs - before);
            before = runs;
        }
        cost + self.last(candidates) as u64 * u64::from(self.fresh)
    }

    /// How many are compared in the end.
    fn last(&self, candidates: usize) -> usize {
        (self.finalists + 1).min(candidates)
    }

    /// Searches among so many candidates. `needs` says in which share of runs each promise has to be
    /// kept; `run` makes a run of a candidate with a seed; `done` is told when one is done, by any
    /// thread.
    ///
    /// # Errors
    /// The first error of a run.
    ///
    /// # Panics
    /// If there is no candidate.
    pub fn among<E: Send>(
        &self,
        candidates: usize,
        needs: &[f64],
        run: &(dyn Fn(usize, u64) -> Result<Score, E> + Sync),
        done: &(dyn Fn() + Sync),
    ) -> Result<Found, E> {
        assert!(candidates > 0, "candidate 0 is what there is");
        let mut runs = Runs::new(candidates, self.seed, self.threads, run, done);
        let rounds = halving(&mut runs, self.runs, needs)?;
        let mut last = vec![0];
        // Who lost a later round comes before who lost an earlier one.
        for round in rounds.iter().rev() {
            for (candidate, _) in &round.ranked {
                if last.len() < self.last(candidates) && !last.contains(candidate) {
                    last.push(*candidate);
                }
            }
        }
        // Ties are won by who comes first.
        let mut fresh = Runs::new(candidates, self.fresh_seed(), self.threads, run, done);
        fresh.up_to(&last, self.fresh)?;
        let finalist = |candidate: usize| {
            let scores = fresh.of(candidate).to_vec();
            let standing = Standing::of(&scores, needs);
            Finalist {
                candidate,
                scores,
                standing,
            }
        };
        let all: Vec<_> = last.into_iter().map(finalist).collect();
        let standings: Vec<_> = all.iter().map(|one| one.standing).collect();
        let ranked = order(&standings).into_iter().map(|at| all[at].clone());
        Ok(Found {
            rounds,
            finalists: ranked.collect(),
            runs: runs.made() + fresh.made(),
        })
    }
}

/// So far behind the seeds of the search are those of the last comparison: further than any search
/// goes, and a number that people can add.
pub const FRESH: u64 = 1_000_000;

#[cfg(test)]
mod tests;
