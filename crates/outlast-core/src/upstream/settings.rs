//! What of an upstream's settings can be measured against its traffic.

use std::time::Duration;

use super::Config;
use crate::ratio::Ratio;

/// The settings that bound attempts; `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How long an attempt may take.
    pub attempt: Duration,
    /// How long a call may take, whatever its caller says.
    pub call: Option<Duration>,
    /// Attempts at once.
    pub concurrency: Option<u32>,
    /// Attempts that may wait for a seat.
    pub queue: Option<u32>,
    /// When a hedge starts, if that is a fixed time.
    pub hedge: Option<Duration>,
    /// When a hedge starts, if that is a quantile of what was measured.
    pub hedge_quantile: Option<Ratio>,
    /// Failures in a row that trip a breaker.
    pub consecutive: Option<u32>,
    /// Failures within its window that trip a breaker.
    pub failures: Option<u32>,
    /// The share of failures within its window that trips a breaker.
    pub failure_ratio: Option<Ratio>,
    /// From when on calls are slow, and the share of them within its window that trips a breaker.
    pub slow: Option<(Duration, Ratio)>,
    /// The calls of a breaker's window, if it is of calls.
    pub window_calls: Option<u32>,
    /// The time of a breaker's window, if it is a time.
    pub window_time: Option<Duration>,
    /// Attempts per call, without hedges and failovers.
    pub attempts: u32,
    /// Extra attempts as a share of successes.
    pub budget: Option<Ratio>,
}

impl Config {
    /// The settings that bound attempts.
    pub fn settings(&self) -> Settings {
        let breaker = self.breaker.as_ref();
        Settings {
            attempt: self.deadline.configured_attempt(),
            call: self.deadline.configured_call(),
            concurrency: self.bulkhead.map(|bulkhead| bulkhead.seats()),
            queue: self.bulkhead.map(|bulkhead| bulkhead.places()),
            hedge: self.hedge.and_then(|hedge| hedge.fixed()),
            hedge_quantile: self.hedge.and_then(|hedge| hedge.quantile_of()),
            consecutive: breaker.and_then(|breaker| breaker.consecutive_failures()),
            failures: breaker.and_then(|breaker| breaker.failures_within()),
            failure_ratio: breaker.and_then(|breaker| breaker.failing_share()),
            slow: breaker.and_then(|breaker| breaker.slow_share()),
            window_calls: breaker.and_then(|breaker| breaker.window_calls()),
            window_time: breaker.and_then(|breaker| breaker.window_time()),
            attempts: self.retry.map_or(1, |retry| retry.limit()),
            budget: self.budget.map(|budget| budget.share()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Window;
    use crate::{breaker, bulkhead, deadline, hedge, retry};

    #[test]
    fn settings_are_those_that_were_made() {
        let plain = Config::new("up").settings();
        let expected = Settings {
            attempt: Duration::from_secs(30),
            call: None,
            concurrency: None,
            queue: None,
            hedge: None,
            hedge_quantile: None,
            consecutive: None,
            failures: None,
            failure_ratio: None,
            slow: None,
            window_calls: None,
            window_time: None,
            attempts: 1,
            budget: Some(Ratio::percent(10)),
        };
        assert_eq!(plain, expected);
        let (short, long) = (Duration::from_millis(100), Duration::from_secs(1));
        let full = Config::new("up")
            .deadline(deadline::Config::call(long).attempt(short))
            .bulkhead(bulkhead::Config::new(10).queue(20))
            .hedge(hedge::Config::after(short / 2))
            .breaker(breaker::Config::failures(3, Window::calls(14)).or_consecutive(5))
            .retry(retry::Config::attempts(2))
            .budget(None);
        let expected = Settings {
            attempt: short,
            call: Some(long),
            concurrency: Some(10),
            queue: Some(20),
            hedge: Some(short / 2),
            hedge_quantile: None,
            consecutive: Some(5),
            failures: Some(3),
            failure_ratio: None,
            slow: None,
            window_calls: Some(14),
            window_time: None,
            attempts: 2,
            budget: None,
        };
        assert_eq!(full.settings(), expected);
        let timed = breaker::Config::failures(3, Window::Time(long));
        let timed = Config::new("up").breaker(timed).settings();
        assert_eq!((timed.failures, timed.window_calls), (Some(3), None));
        assert_eq!(timed.window_time, Some(long));
        let half = Ratio::percent(50);
        let share = breaker::Config::failure_ratio(half, Window::Time(long));
        let share = Config::new("up")
            .breaker(share.or_slow_calls(short, half))
            .hedge(hedge::Config::after_quantile(Ratio::percent(95)))
            .settings();
        assert_eq!(share.hedge_quantile, Some(Ratio::percent(95)));
        assert_eq!(share.failure_ratio, Some(half));
        assert_eq!(share.slow, Some((short, half)));
    }
}
