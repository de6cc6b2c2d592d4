//! Whether the canary answers too slowly: a sequential rank test.
//!
//! Latencies have no law that could be assumed, only an order. So the answers of both sides that
//! came in the same *block* of time are ranked together (Mann and Whitney 1947, from histograms,
//! with the correction for ties), which gives a standard score `z` per block. The canary's times
//! are divided by the allowed factor first, so the score asks for *slower than allowed*.
//!
//! Scores of blocks are independent, and `exp(l z - l^2 / 2)` has the expectation one for a
//! standard normal `z` and any `l`. The weight of evidence is the mean of the products for four
//! `l`, from small differences to large ones. A block counts as soon as both sides have 20
//! answers in it, which is enough for the normal law of ranks. Because every block compares what
//! ran at the same time, drifting load is no evidence; because `z` is cut at 2, a single pause of
//! one instance is not enough, it takes four blocks.
//!
//! Memory is two histograms, whatever the traffic. Differences within a bucket (12.5 %) are ties.
//! Only answers are compared; errors are for the other test.

use super::rounds::{Rounds, odds};
use crate::window::Counts;

/// The sequential rank test of a canary's latencies.
#[derive(Debug)]
pub(super) struct LatencyTest {
    rounds: Rounds,
    passes: f64,
    /// The logarithms of the products, in this round.
    weights: [f64; TILTS.len()],
    baseline: Counts,
    canary: Counts,
}

impl LatencyTest {
    pub(super) fn new(alpha: f64, beta: f64) -> LatencyTest {
        LatencyTest {
            rounds: Rounds::new(alpha),
            passes: beta.ln(),
            weights: [0.0; TILTS.len()],
            baseline: Counts::default(),
            canary: Counts::default(),
        }
    }

    /// Takes the answers that came at the same time on both sides, the canary's divided by what is
    /// allowed. Whether it is too slow.
    pub(super) fn absorb(&mut self, baseline: &Counts, canary: &Counts) -> bool {
        self.baseline.add(baseline);
        self.canary.add(canary);
        if self.baseline.total() < BLOCK || self.canary.total() < BLOCK {
            return false;
        }
        let baseline = std::mem::take(&mut self.baseline);
        let canary = std::mem::take(&mut self.canary);
        let z = score(&baseline, &canary).min(MOST);
        for (weight, tilt) in self.weights.iter_mut().zip(TILTS) {
            *weight += tilt * z - tilt * tilt / 2.0;
        }
        let weight = self.weight();
        if weight <= self.passes {
            self.restart();
        }
        weight >= self.rounds.bound()
    }

    /// Whether nothing speaks against the canary now.
    pub(super) fn passes(&self) -> bool {
        self.weight() <= 0.0
    }

    pub(super) fn odds(&self) -> f64 {
        odds(self.weight())
    }

    /// Forgets what speaks against the canary.
    pub(super) fn forgive(&mut self) {
        if self.weight() > 0.0 {
            self.restart();
        }
    }

    /// A new round: what was seen so far has been decided about.
    fn restart(&mut self) {
        self.rounds.next();
        self.weights = [0.0; TILTS.len()];
    }

    /// The logarithm of the mean of the products.
    fn weight(&self) -> f64 {
        let most = self.weights.into_iter().fold(f64::MIN, f64::max);
        let sum: f64 = self
            .weights
            .iter()
            .map(|weight| (weight - most).exp())
            .sum();
        most + (sum / TILTS.len() as f64).ln()
    }
}

/// The standard score of the canary's ranks among both; above zero if it is slower.
fn score(baseline: &Counts, canary: &Counts) -> f64 {
    let (n, m) = (baseline.total() as f64, canary.total() as f64);
    let all = n + m;
    let (mut faster, mut wins, mut ties) = (0.0, 0.0, 0.0);
    for (old, new) in baseline.buckets().zip(canary.buckets()) {
        let (old, new) = (old as f64, new as f64);
        wins += new * (faster + old / 2.0);
        faster += old;
        ties += (old + new).powi(3) - (old + new);
    }
    let variance = n * m / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    if variance < 1e-9 {
        return 0.0;
    }
    (wins - n * m / 2.0) / variance.sqrt()
}

/// The answers of a side that make a block.
const BLOCK: u64 = 20;
/// For differences of a quarter of a block's noise up to twice of it.
const TILTS: [f64; 4] = [0.25, 0.5, 1.0, 2.0];
/// The most that a block counts for.
const MOST: f64 = 2.0;

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
