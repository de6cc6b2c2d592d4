//! How a service is doing lately, at the cost of one addition per call.

use std::time::Duration;

use super::condition::{Quantile, Signals};
use crate::config::{ConfigError, ensure};
use crate::outcome::Outcome;
use crate::ratio::Ratio;
use crate::time::Time;
use crate::window::{Counts, Rolling};

/// The latencies and errors of the last so much time, from which [`Signals`] are read.
///
/// Feed it what was really asked of dependencies, not what a mode answered in their place: those
/// answers are fast and fine, and would call the incident over. A call counts as failed by the
/// same outcomes as for a breaker; [`Outcome::Ignored`] counts nowhere.
///
/// It keeps two histograms of 8 KB, whatever the traffic. A quantile is at most 12.5 % and a
/// microsecond high. It forgets in tenths of its window.
#[derive(Debug)]
pub struct Meter {
    all: Box<Rolling<SLICES>>,
    failed: Box<Rolling<SLICES>>,
    min_calls: u64,
}

impl Meter {
    /// Looks back over `window`, and says nothing of fewer than `min_calls` calls. Good values
    /// are 10 s and 20. A quantile also needs as many calls as it takes to have one slower:
    /// 100 for p99, 1,000 for p99.9; of fewer, a single outlier would speak for all.
    ///
    /// # Errors
    /// If the window is not between 100 ms and 1 h, or the minimum is zero.
    pub fn new(window: Duration, min_calls: u32) -> Result<Meter, ConfigError> {
        ensure(
            (SHORTEST..=LONGEST).contains(&window),
            "degrade.window",
            "must span between 100 ms and 1 h",
        )?;
        ensure(
            min_calls > 0,
            "degrade.min_calls",
            "must be at least 1: of no calls there is no ratio",
        )?;
        let rolling = || Box::new(Rolling::new(window / SLICES as u32));
        Ok(Meter {
            all: rolling(),
            failed: rolling(),
            min_calls: u64::from(min_calls),
        })
    }

    /// Notes a call that ended with `outcome` after `took`. One atomic addition, two for a
    /// failure.
    #[inline]
    pub fn record(&self, outcome: Outcome, took: Duration, now: Time) {
        match outcome {
            Outcome::Ignored => return,
            Outcome::Success | Outcome::Permanent => {}
            Outcome::Transient | Outcome::Unsent | Outcome::Overload { .. } => {
                self.failed.record(took, now);
            }
        }
        self.all.record(took, now);
    }

    /// The latencies and the error ratio at `now`; load, breakers and budget are for the driver
    /// to add. Reads 16 KB: for a few times a second, not for every call.
    pub fn signals(&self, now: Time) -> Signals<'static> {
        let (failed, all) = (self.failed.counts(now), self.all.counts(now));
        let calls = all.total();
        let quantile = |quantile: Quantile| {
            let enough = calls >= self.min_calls.max(quantile.least_calls());
            enough.then(|| all.quantile(quantile.share())).flatten()
        };
        Signals {
            latency: Quantile::ALL.map(quantile),
            errors: (calls >= self.min_calls).then(|| share(&failed, calls)),
            ..Signals::default()
        }
    }
}

/// The failed ones are counted first and read first, but the counts of a moment ago may race: at
/// most all of them failed.
fn share(failed: &Counts, calls: u64) -> Ratio {
    let share = failed.total() as f64 / calls as f64;
    Ratio::new(share.min(1.0)).expect("a part of a whole")
}

/// It covers between nine tenths of its window and all of it.
const SLICES: usize = 10;
const SHORTEST: Duration = Duration::from_millis(100);
/// A cell of the histogram counts to 2^32: over a million calls per second for an hour.
const LONGEST: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn meter() -> Meter {
        Meter::new(10 * SECOND, 20).unwrap()
    }

    #[test]
    fn says_of_each_signal_what_enough_calls_allow() {
        let meter = meter();
        let feed = |calls: u32| {
            for _ in 0..calls {
                meter.record(Outcome::Success, Duration::from_millis(10), Time::ZERO);
            }
            let signals = meter.signals(Time::ZERO);
            let known = signals.latency.map(|quantile| quantile.is_some());
            (known, signals.errors.is_some())
        };
        assert_eq!(feed(19), ([false; 5], false));
        assert_eq!(feed(1), ([true, true, true, false, false], true));
        assert_eq!(feed(80), ([true, true, true, true, false], true));
        assert_eq!(feed(900), ([true; 5], true));
    }

    #[test]
    fn failures_are_what_a_breaker_calls_failures() {
        let meter = meter();
        let retry_after = None;
        let outcomes = [
            Outcome::Success,
            Outcome::Permanent,
            Outcome::Transient,
            Outcome::Unsent,
            Outcome::Overload { retry_after },
            Outcome::Ignored,
        ];
        for outcome in outcomes.repeat(10) {
            meter.record(outcome, SECOND, Time::ZERO);
        }
        let errors = meter.signals(Time::ZERO).errors;
        assert_eq!(errors, Some(Ratio::percent(60)));
    }

    #[test]
    fn follows_the_window() {
        let meter = meter();
        for millis in 1..=1000 {
            let took = Duration::from_millis(millis);
            meter.record(Outcome::Transient, took, Time::from_millis(millis));
        }
        let signals = meter.signals(Time::from_millis(9_999));
        assert_eq!(signals.errors, Some(Ratio::ONE));
        for quantile in Quantile::ALL {
            let exact = quantile.share().as_f64();
            let read = signals.latency[quantile.index()].unwrap().as_secs_f64();
            assert!(
                (exact..exact * 1.13).contains(&read),
                "{}: {read}",
                quantile.name()
            );
        }
        let signals = meter.signals(Time::from_millis(11_000));
        assert_eq!(signals, Signals::default());
    }

    #[test]
    fn impossible_settings_are_refused() {
        assert!(Meter::new(Duration::ZERO, 20).is_err());
        assert!(Meter::new(Duration::MAX, 20).is_err());
        assert!(Meter::new(SECOND, 0).is_err());
    }
}
