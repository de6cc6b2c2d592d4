//! When a canary has shown enough: the sequential probability ratio test (Wald 1945).
//!
//! Each request says a little for one of two ratios of errors, a good and a bad one. The test adds
//! up how much, and stops at the first request at which it is enough. No test with the same chances
//! of mistakes needs fewer requests on average at these two ratios; and it may be looked at after
//! every request, where one of fixed size may be looked at once.

use super::{Share, SloError};

/// Ratios of errors that must be told apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// At this ratio a canary is as good as it should be.
    pub good: Share,
    /// At this one it must not go on.
    pub bad: Share,
}

/// How often the test may be wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mistakes {
    /// Good canaries that are rolled back.
    pub alpha: Share,
    /// Bad canaries that go on; Wald's bound keeps to it within `beta / (1 - alpha)`.
    pub beta: Share,
}

/// What the requests so far say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too little.
    Continue,
    /// It is good.
    Promote,
    /// It is bad.
    Rollback,
}

/// The test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sprt {
    rates: Rates,
    mistakes: Mistakes,
    /// What a failure adds, above 0, and what a success adds, below.
    failure: f64,
    success: f64,
    /// `ln(beta / (1 - alpha))`: at or below it is good.
    lower: f64,
    /// `ln((1 - beta) / alpha)`: where it is bad.
    upper: f64,
    /// From where on a run takes it for bad.
    stop: f64,
}

/// One run of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tally {
    test: Sprt,
    sum: f64,
}

impl Sprt {
    /// # Errors
    /// If the bad ratio is not above the good one, one of them is 0 or 1, or a chance of a mistake
    /// is 0 or not below a half.
    pub fn new(rates: Rates, mistakes: Mistakes) -> Result<Sprt, SloError> {
        let (good, bad) = (rates.good.0, rates.bad.0);
        if !(0.0 < good && good < bad && bad < 1.0) {
            return Err(SloError(
                "the good ratio of errors lies above 0 %, and below the bad one, which is below 100 %",
            ));
        }
        let (alpha, beta) = (mistakes.alpha.0, mistakes.beta.0);
        if ![alpha, beta]
            .iter()
            .all(|&chance| chance > 0.0 && chance < 0.5)
        {
            return Err(SloError(
                "a chance of a mistake lies above 0 % and below 50 %, such as 5 %",
            ));
        }
        let failure = libm::log(bad / good);
        let upper = libm::log((1.0 - beta) / alpha);
        Ok(Sprt {
            rates,
            mistakes,
            failure,
            success: libm::log1p(-bad) - libm::log1p(-good),
            lower: libm::log(beta / (1.0 - alpha)),
            upper,
            stop: upper - EXCESS * failure,
        })
    }

    /// The logarithm of the ratio of likelihoods at or below which it is good.
    pub fn lower(&self) -> f64 {
        self.lower
    }

    /// That at which it is bad. A run stops a sixth of a failure's weight below it, because the
    /// failure that ends it passes it by more than that on average.
    pub fn upper(&self) -> f64 {
        self.upper
    }

    /// Failures in a row, from the first request on, after which it is bad.
    pub fn failures_at_once(&self) -> u64 {
        libm::ceil(self.stop / self.failure) as u64
    }

    /// Requests without a failure after which it is good.
    pub fn successes_at_once(&self) -> u64 {
        libm::ceil(self.lower / self.success) as u64
    }

    /// A run without requests.
    pub fn begin(&self) -> Tally {
        Tally {
            test: *self,
            sum: 0.0,
        }
    }

    /// The chance of a rollback when the true ratio of errors is this (Wald's operating
    /// characteristic, which ignores by how much the last request passes a bound).
    pub fn rollback(&self, errors: Share) -> f64 {
        match errors.0 {
            0.0 => 0.0,
            1.0 => 1.0,
            share => self.rollback_at(self.exponent(share)),
        }
    }

    /// Requests until a verdict when the true ratio of errors is this, on average; ignores by how
    /// much the last request passes a bound.
    pub fn requests(&self, errors: Share) -> f64 {
        let share = errors.0;
        let rollback = self.rollback(errors);
        let drift = share * self.failure + (1.0 - share) * self.success;
        let end = rollback * self.upper + (1.0 - rollback) * self.lower;
        let square =
            share * self.failure * self.failure + (1.0 - share) * self.success * self.success;
        // Without a drift it is the spread alone that reaches a bound.
        if drift.abs() < 1e-6 * libm::sqrt(square) {
            return -self.lower * self.upper / square;
        }
        end / drift
    }

    /// Requests of a test that looks once, after all of them, with the same chances of mistakes, by
    /// the normal approximation:
    /// `((z_alpha sqrt(p0 (1 - p0)) + z_beta sqrt(p1 (1 - p1))) / (p1 - p0))^2`.
    pub fn fixed(&self) -> f64 {
        let part = |chance: Share, share: Share| {
            -crate::law::normal(chance.0) * libm::sqrt(share.0 * share.rest())
        };
        let (good, bad) = (self.rates.good, self.rates.bad);
        let both = part(self.mistakes.alpha, good) + part(self.mistakes.beta, bad);
        let root = both / (bad.0 - good.0);
        root * root
    }

    /// The `h` other than 0 for which `E[exp(h z)]` is 1, where `z` is what a request adds: 1 at
    /// the good ratio, -1 at the bad one. It falls as the ratio rises.
    fn exponent(&self, share: f64) -> f64 {
        let (mut low, mut high) = (-STEEPEST, STEEPEST);
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            if self.share_at(middle) > share {
                low = middle;
            } else {
                high = middle;
            }
        }
        (low + high) / 2.0
    }

    /// The ratio of errors that belongs to an `h`:
    /// `(1 - exp(h s)) / (exp(h f) - exp(h s))` for what a failure and a success add.
    fn share_at(&self, h: f64) -> f64 {
        let (failure, success) = (self.failure, self.success);
        if h.abs() < 1e-9 {
            return -success / (failure - success);
        }
        libm::expm1(h * success) / (libm::expm1(h * success) - libm::expm1(h * failure))
    }

    fn rollback_at(&self, h: f64) -> f64 {
        if h.abs() < 1e-9 {
            return -self.lower / (self.upper - self.lower);
        }
        libm::expm1(h * self.lower) / (libm::expm1(h * self.lower) - libm::expm1(h * self.upper))
    }
}

impl Tally {
    /// Counts a request. After a verdict other than [`Verdict::Continue`] the run is over.
    pub fn record(&mut self, failed: bool) -> Verdict {
        self.sum += if failed {
            self.test.failure
        } else {
            self.test.success
        };
        if self.sum >= self.test.stop {
            Verdict::Rollback
        } else if self.sum <= self.test.lower {
            Verdict::Promote
        } else {
            Verdict::Continue
        }
    }
}

/// By how much a run stops earlier, in what a failure adds. At Wald's bound fewer good canaries are
/// rolled back than may be (2.4 % for 5 %, at 0.1 % against 1 %), and bad ones live longer. With a
/// sixth, exact enumeration for bad ratios of 2 to 100 times the good one and alpha from 1 % to
/// 20 % gives at most 0.945 alpha; a fifth is too much for alpha = 1 % and 100 times.
const EXCESS: f64 = 1.0 / 6.0;
/// Beyond it the ratio is 0 or 1 to more digits than matter, and powers do not overflow.
const STEEPEST: f64 = 60.0;
/// To the last bit.
const HALVINGS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn share(share: f64) -> Share {
        Share::new(share).unwrap()
    }

    fn test(good: f64, bad: f64, alpha: f64, beta: f64) -> Result<Sprt, SloError> {
        let [good, bad, alpha, beta] = [good, bad, alpha, beta].map(share);
        Sprt::new(Rates { good, bad }, Mistakes { alpha, beta })
    }

    #[test]
    fn at_its_two_ratios_it_is_wrong_as_often_as_it_may_be() {
        for (alpha, beta) in [(0.05, 0.05), (0.01, 0.1)] {
            let test = test(0.001, 0.01, alpha, beta).unwrap();
            assert!((test.rollback(share(0.001)) - alpha).abs() < 1e-9);
            assert!((test.rollback(share(0.01)) - (1.0 - beta)).abs() < 1e-9);
        }
    }

    #[test]
    fn a_rollback_is_the_likelier_the_more_fails() {
        let test = test(0.001, 0.01, 0.05, 0.05).unwrap();
        let chances = (0..=1000).map(|at| test.rollback(share(f64::from(at) / 1000.0)));
        let chances: Vec<_> = chances.collect();
        assert!(chances.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
        assert_eq!((chances[0], chances[1000]), (0.0, 1.0));
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
    }

    #[test]
    fn it_takes_longest_between_its_ratios_and_is_smooth_there() {
        let test = test(0.001, 0.01, 0.05, 0.05).unwrap();
        let still = test.share_at(0.0);
        assert!((0.001..0.01).contains(&still));
        let [before, at, after] = [0.9999, 1.0, 1.0001].map(|by| test.requests(share(still * by)));
        assert!((before / at - 1.0).abs() < 1e-3 && (after / at - 1.0).abs() < 1e-3);
        assert!(at > test.requests(share(0.001)) && at > test.requests(share(0.01)));
        let none = test.requests(Share::NONE);
        assert!((none - test.lower / test.success).abs() < 1e-9, "{none}");
    }

    #[test]
    fn verdicts_come_at_the_bounds() {
        let test = test(0.001, 0.01, 0.05, 0.05).unwrap();
        assert_eq!(
            (test.failures_at_once(), test.successes_at_once()),
            (2, 326)
        );
        let mut bad = test.begin();
        assert_eq!(bad.record(true), Verdict::Continue);
        assert_eq!(bad.record(true), Verdict::Rollback);
        let mut good = test.begin();
        let verdicts: Vec<_> = (0..326).map(|_| good.record(false)).collect();
        assert!(
            verdicts[..325]
                .iter()
                .all(|verdict| *verdict == Verdict::Continue)
        );
        assert_eq!(verdicts[325], Verdict::Promote);
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        for (good, bad, alpha, beta) in [
            (0.0, 0.01, 0.05, 0.05),
            (0.01, 0.01, 0.05, 0.05),
            (0.01, 0.001, 0.05, 0.05),
            (0.01, 1.0, 0.05, 0.05),
            (0.001, 0.01, 0.0, 0.05),
            (0.001, 0.01, 0.05, 0.5),
        ] {
            assert!(
                test(good, bad, alpha, beta).is_err(),
                "{good} {bad} {alpha} {beta}"
            );
        }
    }
}
