//! How much of a promise may be broken, and how much of that is left.

use std::time::Duration;

use super::{Share, SloError, part};

/// A promise, such as that 99.9 % of all requests of 30 days succeed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    target: Share,
    window: Duration,
}

/// Requests since the window began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// All of them.
    pub requests: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// How long that took.
    pub elapsed: Duration,
}

/// What has been spent means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spending {
    /// Requests of the whole window, if they go on as they came.
    pub expected: f64,
    /// How many of these may fail.
    pub allowed: f64,
    /// The share of the budget that is spent; above 1 the promise is broken.
    pub spent: f64,
    /// How fast it is spent: 1 spends it just within the window.
    pub burn: f64,
    /// When, since the window began, it is spent if all goes on as it came; none if nothing failed.
    /// Later than the window means that the budget holds.
    pub exhausted: Option<Duration>,
}

impl Budget {
    /// # Errors
    /// If all must succeed, which leaves no budget, or if the window is empty.
    pub fn new(target: Share, window: Duration) -> Result<Budget, SloError> {
        if target.0 >= 1.0 {
            return Err(SloError("a target of 100 % leaves nothing to spend"));
        }
        if window.is_zero() {
            return Err(SloError("a window has some length"));
        }
        Ok(Budget { target, window })
    }

    /// The share that must succeed.
    pub fn target(&self) -> Share {
        self.target
    }

    /// The time that the promise is about.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// The share that may fail.
    pub fn share(&self) -> f64 {
        self.target.rest()
    }

    /// How long everything may fail.
    pub fn downtime(&self) -> Duration {
        part(self.window, self.share())
    }

    /// How fast a constant ratio of errors spends the budget: the ratio over [`Budget::share`].
    pub fn burn(&self, errors: Share) -> f64 {
        errors.0 / self.share()
    }

    /// How long a whole budget lasts at a constant ratio of errors; the longest duration without
    /// errors.
    pub fn lasts(&self, errors: Share) -> Duration {
        part(self.window, 1.0 / self.burn(errors))
    }

    /// What has been spent, and what it leads to.
    ///
    /// # Errors
    /// If there were no requests, more failed than there were, or `elapsed` is zero or longer than
    /// the window.
    pub fn spending(&self, spent: Spent) -> Result<Spending, SloError> {
        if spent.requests == 0 || spent.failed > spent.requests {
            return Err(SloError("of some requests, at most all fail"));
        }
        if spent.elapsed.is_zero() || spent.elapsed > self.window {
            return Err(SloError("some of the window has elapsed, and at most all"));
        }
        let elapsed = spent.elapsed.as_secs_f64() / self.window.as_secs_f64();
        let expected = spent.requests as f64 / elapsed;
        let allowed = expected * self.share();
        let share = spent.failed as f64 / allowed;
        Ok(Spending {
            expected,
            allowed,
            spent: share,
            burn: share / elapsed,
            exhausted: (spent.failed > 0).then(|| part(spent.elapsed, 1.0 / share)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn budget() -> Budget {
        Budget::new(Share::new(0.999).unwrap(), 30 * DAY).unwrap()
    }

    fn spent(requests: u64, failed: u64, days: u32) -> Result<Spending, SloError> {
        budget().spending(Spent {
            requests,
            failed,
            elapsed: days * DAY,
        })
    }

    #[test]
    fn a_budget_is_what_may_fail() {
        assert_eq!(budget().downtime().as_secs(), 2592);
        let lasts = budget().lasts(Share::new(0.01).unwrap());
        assert!((lasts.as_secs_f64() / (3 * DAY).as_secs_f64() - 1.0).abs() < 1e-9);
        assert_eq!(budget().lasts(Share::NONE), Duration::MAX);
        assert!(Budget::new(Share::new(1.0).unwrap(), DAY).is_err());
        assert!(Budget::new(Share::NONE, Duration::ZERO).is_err());
    }

    #[test]
    fn spending_is_projected_to_the_end() {
        let check = |failed, share: f64, days: Option<f64>| {
            let found = spent(12_000_000, failed, 12).unwrap();
            assert!((found.allowed - 30_000.0).abs() < 1e-6);
            assert!((found.spent - share).abs() < 1e-9, "{found:?}");
            assert!((found.burn - share * 2.5).abs() < 1e-9, "{found:?}");
            let exhausted = found.exhausted.map(|at| at.as_secs_f64() / 86_400.0);
            let off = exhausted.unwrap_or(0.0) - days.unwrap_or(0.0);
            assert!(off.abs() < 1e-6, "{found:?}");
        };
        check(12_000, 0.4, Some(30.0));
        check(15_000, 0.5, Some(24.0));
        check(60_000, 2.0, Some(6.0));
        check(0, 0.0, None);
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        for (requests, failed, days) in [(0, 0, 1), (10, 11, 1), (10, 1, 0), (10, 1, 31)] {
            assert!(
                spent(requests, failed, days).is_err(),
                "{requests} {failed} {days}"
            );
        }
    }
}
