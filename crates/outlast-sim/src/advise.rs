//! What settings the measurements of an upstream speak for, and which they cannot speak for yet.
//!
//! Each recommendation carries its formula, the window and number of observations it rests on, an
//! interval, and what it assumes. Where there are too few observations it is refused: a p99.9 of a
//! thousand attempts is the luck of one of them. An interval leaves one in twenty beyond either
//! end.
//!
//! The law it keeps: what was cut off counts as "longer than that" (Kaplan and Meier, 1958), never
//! as absent. If attempts that timed out were left out, each recommended timeout would cut the tail
//! from which the next one is estimated, and they would ratchet down.
//!
//! It looks at one gateway's share of the traffic, and assumes that the window is typical. It does
//! not know what else calls the same upstream.

mod failures;
mod room;
mod staffing;
mod survival;
mod tails;
mod times;
mod value;

use std::time::Duration;

pub use self::staffing::erlang_b;
pub use self::survival::Survival;
pub use self::value::{Parameter, Recommendation, Value, Verdict};

/// So many durations of at most `upper`, and of more than the bucket before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The largest duration in it. The estimates take all for as long, which is on the safe side.
    pub upper: Duration,
    /// How many there are.
    pub count: u64,
}

/// What was measured of an upstream over a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// How long it was measured. Default zero.
    pub window: Duration,
    /// How long attempts took that answered.
    pub answered: Vec<Bucket>,
    /// How long attempts had run that were cut off before they answered: by their timeout, because
    /// another one was quicker, because nobody waited any more.
    pub cut: Vec<Bucket>,
    /// Attempts that succeeded.
    pub successes: u64,
    /// Attempts that failed in a way that another may cure, timeouts among them.
    pub transient: u64,
    /// Attempts that were answered with a definite no: the upstream works.
    pub permanent: u64,
    /// Attempts that were asked to come less often.
    pub overloads: u64,
    /// Seconds by their arrivals: a rate per second, and how many seconds had at most that.
    pub arrivals: Vec<(f64, u64)>,
    /// The most attempts that ever ended within a second: a capacity that was seen.
    pub busiest: Option<f64>,
    /// How much more often both of two attempts of a call are slow than if that were independent,
    /// from traces; `None` if unknown.
    pub slow_together: Option<f64>,
    /// The correlation of one attempt's failure with the next one's, from traces; `None` if unknown.
    pub failures_cluster: Option<f64>,
    /// What is set now.
    pub settings: Settings,
}

impl Observed {
    /// Attempts whose time is known, or that were cut.
    pub fn timed(&self) -> u64 {
        let counts = self.answered.iter().chain(&self.cut);
        counts.map(|bucket| bucket.count).sum()
    }

    /// Attempts that say something of the upstream's health.
    pub fn judged(&self) -> u64 {
        self.successes + self.permanent + self.failed()
    }

    /// Attempts that failed: what a breaker counts.
    pub fn failed(&self) -> u64 {
        self.transient + self.overloads
    }
}

/// What is set now; `None` is off, or unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// When an attempt ends at the latest.
    pub timeout: Option<Duration>,
    /// When calls end at the latest.
    pub deadline: Option<Duration>,
    /// Seats of the bulkhead.
    pub concurrency: Option<u64>,
    /// How many may wait for a seat.
    pub queue: Option<u64>,
    /// The delay before a hedge, if it is fixed.
    pub hedge: Option<Duration>,
    /// Failures that trip a breaker, and among how many calls: none if they are in a row.
    pub breaker: Option<(u64, Option<u64>)>,
    /// Attempts per call.
    pub attempts: Option<u64>,
    /// Extra attempts as a share of successes.
    pub ratio: Option<f64>,
}

/// What is asked of the settings, and what measurements cannot tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Goals {
    /// The share of attempts that a timeout may cut although they would have answered. Default
    /// 0.1 %.
    pub false_timeouts: f64,
    /// The share of arrivals that may find all seats taken. Default 2 %.
    pub refused: f64,
    /// The share of calls that may get a hedge. Default 5 %.
    pub hedged: f64,
    /// The share of calls that may fail although they were retried. Default 0.01 %.
    pub failed: f64,
    /// The failure ratio at which a breaker must trip within its window. Default one half.
    pub outage: f64,
    /// The share of a breaker's windows in which it may trip although nothing is wrong. Default one
    /// in a million.
    pub false_trips: f64,
    /// Attempts per second that the upstream can serve, by a load test. Default unknown.
    pub capacity: Option<f64>,
    /// The same at its worst: cold, or with an instance less. Default: as `capacity`.
    pub cold: Option<f64>,
    /// The 99th percentile of the arrivals per second over a week. Default: what was observed.
    pub peak: Option<f64>,
    /// How long callers wait. Default: what is set.
    pub deadline: Option<Duration>,
}

impl Default for Goals {
    fn default() -> Goals {
        Goals {
            false_timeouts: 0.001,
            refused: 0.02,
            hedged: 0.05,
            failed: 1e-4,
            outage: 0.5,
            false_trips: 1e-6,
            capacity: None,
            cold: None,
            peak: None,
            deadline: None,
        }
    }
}

/// A recommendation, or the refusal of one, for every parameter.
///
/// # Panics
/// If a share of the goals does not lie between 0 and 1, or a rate is not positive.
pub fn advise(observed: &Observed, goals: &Goals) -> Vec<Recommendation> {
    goals.check();
    Parameter::ALL
        .into_iter()
        .map(|parameter| {
            let (n, verdict) = match parameter {
                Parameter::Timeout => times::timeout(observed, goals),
                Parameter::Concurrency => room::concurrency(observed, goals),
                Parameter::Queue => room::queue(observed, goals),
                Parameter::Hedge => times::hedge(observed, goals),
                Parameter::Breaker => failures::breaker(observed, goals),
                Parameter::Attempts => failures::attempts(observed, goals),
                Parameter::Ratio => failures::ratio(observed, goals),
            };
            Recommendation {
                parameter,
                current: parameter.current(&observed.settings),
                window: observed.window,
                n,
                verdict,
            }
        })
        .collect()
}

impl Goals {
    fn check(&self) {
        let shares = [
            self.false_timeouts,
            self.refused,
            self.hedged,
            self.failed,
            self.outage,
            self.false_trips,
        ];
        assert!(
            shares.into_iter().all(|share| share > 0.0 && share < 1.0),
            "a share of the goals lies between 0 and 1: {self:?}"
        );
        let rates = [self.capacity, self.cold, self.peak].into_iter().flatten();
        assert!(
            rates.into_iter().all(|rate| rate > 0.0 && rate.is_finite()),
            "a rate is positive: {self:?}"
        );
    }
}

/// The quantile of the normal distribution that one in twenty exceeds, as order statistics use it.
const ONE_IN_TWENTY: f64 = 1.645;
/// Above this share of failures a window is an outage, and says nothing of normal days.
const UNHEALTHY: f64 = 0.1;

#[cfg(test)]
mod tests;
