//! Whether the canary fails too often: a sequential test of two samples.
//!
//! The error ratio of the baseline is itself measured, changes with the day, and is so small that
//! it is known only roughly. So the test for harm does not use it. Given how many calls of a batch
//! failed, it asks on *which side* they failed: if both sides are alike, each error falls on the
//! canary with its share `w` of the batch's calls; if the canary fails `r` times as often, with
//! `v = w r / (w r + 1 - w)`. Wald's likelihood ratio multiplies `v / w` for an error of the canary
//! and `(1 - v) / (1 - w)` for one of the baseline (the conditional test of two Poisson rates,
//! Przyborowski and Wilenski 1940, made sequential).
//!
//! Why its false alarms are bounded: given the calls of each side and the errors in total, the
//! canary's errors are hypergeometric under the null hypothesis, which is less spread than the
//! binomial of the formula (Hoeffding 1963), and the ratio is convex in them; so its expectation
//! is at most one in each batch, whatever the ratio, and whatever share the traffic really took. `r`
//! may be chosen from earlier batches. An incident that hits both sides is no evidence. Where few
//! calls end, a batch goes on until there is one of each side.
//!
//! Passing is another question: not worse than *allowed*. For this the canary's ratio is tested
//! against the learned baseline `p0` and the limit `p1` by Wald's SPRT, which also decides when
//! there are no errors at all. There `p0` is the lower end of its interval, so that a baseline that
//! looks worse than it is does not let a bad canary pass.

use super::config::Config;
use super::rounds::{Rounds, odds};
use crate::ratio::Ratio;

/// The calls of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that ended.
    pub calls: u64,
    /// Those of them that failed.
    pub errors: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Tally) {
        self.calls += other.calls;
        self.errors += other.errors;
    }

    fn ratio(self) -> f64 {
        self.errors as f64 / (self.calls as f64).max(1.0)
    }

    /// The ratio as far as it is known: half an error more than was seen.
    fn estimate(self) -> f64 {
        ((self.errors as f64 + 0.5) / (self.calls as f64 + 1.0)).min(1.0)
    }

    /// As far below the estimate as `upper` is above: the error of a number of errors is its root.
    fn lower(self) -> f64 {
        self.estimate() / (1.0 + Z / (self.errors as f64 + 0.5).sqrt())
    }

    /// A ratio that the real one exceeds in one case of twenty at most (the score interval of
    /// Wilson 1927, its upper end at 95 %).
    fn upper(self) -> f64 {
        let (n, z) = ((self.calls as f64).max(1.0), Z);
        let p = self.ratio();
        let middle = p + z * z / (2.0 * n);
        let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        ((middle + spread) / (1.0 + z * z / n)).clamp(LEAST, 1.0)
    }
}

/// The sequential test of a canary's errors.
#[derive(Debug)]
pub(super) struct ErrorTest {
    factor: f64,
    absolute: f64,
    passes: f64,
    rounds: Rounds,
    /// The logarithm of the weight of evidence for harm, in this round.
    weight: f64,
    /// The baseline in this canary's whole life.
    learned: Tally,
    /// What of that was learned before this batch.
    known: Tally,
    /// The batch, the baseline first.
    batch: [Tally; 2],
    /// The canary in this round.
    round: Tally,
    /// Both sides in this step.
    baseline: Tally,
    canary: Tally,
    passed: bool,
}

impl ErrorTest {
    pub(super) fn new(config: &Config, alpha: f64) -> ErrorTest {
        ErrorTest {
            factor: config.factor,
            absolute: config.absolute.as_f64(),
            passes: config.beta.as_f64().ln(),
            rounds: Rounds::new(alpha),
            weight: 0.0,
            learned: Tally::default(),
            known: Tally::default(),
            batch: Default::default(),
            round: Tally::default(),
            baseline: Tally::default(),
            canary: Tally::default(),
            passed: false,
        }
    }

    /// Takes the calls that ended at the same time on both sides. Whether the canary fails too
    /// often.
    pub(super) fn absorb(&mut self, baseline: Tally, canary: Tally) -> bool {
        self.learned.add(baseline);
        self.baseline.add(baseline);
        self.batch[0].add(baseline);
        self.batch[1].add(canary);
        let [old, new] = self.batch;
        if old.calls > 0 && new.calls > 0 {
            let p0 = self.known.estimate();
            let times = self.limit(p0) / p0;
            let w = new.calls as f64 / (new.calls + old.calls) as f64;
            let v = w * times / (w * times + 1.0 - w);
            self.weight += new.errors as f64 * (v / w).ln();
            self.weight += old.errors as f64 * ((1.0 - v) / (1.0 - w)).ln();
            self.next_batch();
        }
        self.judge(canary, self.learned.estimate())
    }

    /// Takes calls of the canary without a baseline beside it, against an upper bound of what was
    /// learned. Unlike the other test it takes yesterday's baseline for today's.
    pub(super) fn absorb_alone(&mut self, canary: Tally) -> bool {
        let p0 = self.learned.upper();
        self.weight += log_ratio(canary, p0, self.limit(p0));
        self.judge(canary, p0)
    }

    fn judge(&mut self, canary: Tally, p0: f64) -> bool {
        self.canary.add(canary);
        self.round.add(canary);
        // A ratio within what is allowed is no reason for a rollback, however certain it is that
        // it differs from the baseline's. The round, not the step: long merit must not hide a fall.
        let compared = p0.max(self.baseline.ratio());
        let middle = (compared + self.limit(compared)) / 2.0;
        if self.weight >= self.rounds.bound() && self.round.ratio() >= middle {
            return true;
        }
        let p0 = self.learned.lower();
        if log_ratio(self.round, p0, self.limit(p0)) <= self.passes && self.weight <= 0.0 {
            self.passed = true;
            self.restart();
        }
        false
    }

    /// Whether the canary's errors are within what is allowed, and nothing speaks against it now.
    pub(super) fn passes(&self) -> bool {
        self.passed && self.weight <= 0.0
    }

    /// A new step: it has to pass again.
    pub(super) fn next_step(&mut self) {
        (self.baseline, self.canary) = Default::default();
        self.passed = false;
        // At another share, or after a time in which the canary had no calls.
        self.next_batch();
    }

    /// Forgets what speaks against the canary.
    pub(super) fn forgive(&mut self) {
        if self.weight > 0.0 {
            self.restart();
        }
    }

    fn next_batch(&mut self) {
        self.batch = Default::default();
        self.known = self.learned;
    }

    /// A new round: what was seen so far has been decided about.
    fn restart(&mut self) {
        self.rounds.next();
        self.weight = 0.0;
        self.round = Tally::default();
    }

    /// Both sides in this step, the baseline first.
    pub(super) fn tallies(&self) -> [Tally; 2] {
        [self.baseline, self.canary]
    }

    /// How likely the errors are with a canary that is too bad, over with one that is alike.
    pub(super) fn odds(&self) -> f64 {
        odds(self.weight)
    }

    /// The ratio that is too much beside a baseline of `p0`.
    fn limit(&self, p0: f64) -> f64 {
        (p0 * self.factor).max(p0 + self.absolute).min(1.0)
    }

    /// What is too much beside the baseline as learned.
    pub(super) fn allowed(&self) -> Ratio {
        Ratio::new(self.limit(self.learned.estimate())).expect("limits are at most one")
    }
}

/// Wald's log likelihood ratio of `p1` over `p0`.
fn log_ratio(tally: Tally, p0: f64, p1: f64) -> f64 {
    if p1 <= p0 {
        return 0.0;
    }
    let fine = (tally.calls - tally.errors) as f64;
    let errors = tally.errors as f64 * (p1 / p0).ln();
    // If everything fails at `p1`, one success refutes it: more than enough, but no infinity.
    errors + fine * ((1.0 - p1).max(LEAST) / (1.0 - p0)).ln()
}

/// One in twenty of a normal law lies further out.
const Z: f64 = 1.645;
/// Keeps logarithms finite.
const LEAST: f64 = 1e-9;

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
