//! How a rate of false alarms is spent over a test that never ends.
//!
//! Both tests of a canary keep a *weight of evidence*: a product of factors whose expectation is
//! at most one while nothing is wrong (a test martingale). By Ville's inequality such a product
//! ever reaches `1 / a` with probability `a` at most, however often one looks.
//!
//! Evidence that all is well would have to be worked off before evidence of harm shows, so after
//! a clear verdict a test begins a new *round* with a fresh weight. Every round is given a part of
//! the rate, and all parts together are the whole: four fifths for the first, which decides about
//! most canaries, then 1/(k(k+1)) of the last fifth, whose sum is one. Without a bound on their
//! number the price rises slowly: the 100th round needs a weight 40,000 times that of the first.

/// The rounds of one test.
#[derive(Debug)]
pub(super) struct Rounds {
    alpha: f64,
    done: u32,
}

impl Rounds {
    /// A test that raises a false alarm at most this often.
    pub(super) fn new(alpha: f64) -> Rounds {
        Rounds { alpha, done: 0 }
    }

    /// The logarithm of the weight that is enough in this round.
    pub(super) fn bound(&self) -> f64 {
        -(self.alpha * self.part()).ln()
    }

    pub(super) fn next(&mut self) {
        self.done = self.done.saturating_add(1);
    }

    fn part(&self) -> f64 {
        let done = f64::from(self.done);
        if self.done == 0 {
            FIRST
        } else {
            (1.0 - FIRST) / (done * (done + 1.0))
        }
    }
}

/// A logarithmic weight as odds for people, who need no more than a million.
pub(super) fn odds(weight: f64) -> f64 {
    weight.exp().min(1e6)
}

const FIRST: f64 = 0.8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_never_exceed_the_whole() {
        let mut rounds = Rounds::new(0.05);
        let mut spent = 0.0;
        for _ in 0..10_000 {
            spent += (-rounds.bound()).exp();
            rounds.next();
        }
        assert!((0.0499..=0.05).contains(&spent), "{spent}");
    }
}
