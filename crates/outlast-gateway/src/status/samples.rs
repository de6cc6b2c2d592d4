//! What was measured of an upstream, in full, and what it is set to: what advice is made from.

use std::time::Duration;

use serde::Serialize;

use super::{millis, unix_seconds};
use crate::histogram::Summary;
use crate::table::{Route, Table, Upstream};

/// What was measured of an upstream since it last changed.
#[derive(Clone, Debug, Serialize)]
pub struct SamplesStatus {
    /// Since when its counters count, in Unix seconds.
    pub since: f64,
    /// From the start of attempts to the heads of their answers: the largest time in each bucket
    /// that is not empty, in milliseconds, and how many are in it. Buckets are an eighth wide.
    pub answered: Vec<(f64, u64)>,
    /// How long attempts had run that were cut off before an answer began, alike.
    pub cut: Vec<(f64, u64)>,
    /// Seconds by the attempts that ended in them or were denied a seat: the largest number in each
    /// bucket that is not empty, and how many seconds are in it. Empty without an admin listener.
    pub seconds: Vec<(u64, u64)>,
    /// The most attempts that ended in a second.
    pub busiest: u64,
}

/// What an upstream is set to; `null` is off.
#[derive(Clone, Debug, Serialize)]
pub struct SettingsStatus {
    /// When an attempt ends at the latest.
    pub timeout_ms: f64,
    /// When calls end at the latest: the least of its own limit and those of its routes.
    pub deadline_ms: Option<f64>,
    /// Attempts at once.
    pub concurrency: Option<u32>,
    /// Attempts that may wait for a seat.
    pub queue: Option<u32>,
    /// When a hedge starts, if that is a fixed time.
    pub hedge_ms: Option<f64>,
    /// When a hedge starts, if that is a quantile of what was measured: 0.95 for `p95`.
    pub hedge_quantile: Option<f64>,
    /// Failures in a row that trip a breaker.
    pub consecutive: Option<u32>,
    /// Failures within its window that trip a breaker.
    pub failures: Option<u32>,
    /// The share of failures within its window that trips a breaker.
    pub failure_ratio: Option<f64>,
    /// From when on calls are slow, if a share of them trips a breaker.
    pub slow_ms: Option<f64>,
    /// That share.
    pub slow_ratio: Option<f64>,
    /// The calls of that window, unless it is a time.
    pub failures_within: Option<u32>,
    /// The time of that window, unless it is of calls.
    pub failures_within_ms: Option<f64>,
    /// Attempts per call, without hedges and failovers.
    pub attempts: u32,
    /// Extra attempts as a share of successes.
    pub budget: Option<f64>,
}

pub(super) fn of(upstream: &Upstream, heads: &Summary, cuts: &Summary) -> SamplesStatus {
    let arrivals = &upstream.arrivals;
    SamplesStatus {
        since: unix_seconds(arrivals.since()),
        answered: buckets(heads),
        cut: buckets(cuts),
        seconds: arrivals.seconds().filled().collect(),
        busiest: arrivals.busiest(),
    }
}

fn buckets(summary: &Summary) -> Vec<(f64, u64)> {
    let filled = summary.filled();
    filled
        .map(|(micros, count)| (millis(Duration::from_micros(micros)), count))
        .collect()
}

pub(super) fn settings(upstream: &Upstream, table: &Table) -> SettingsStatus {
    let set = upstream.plan.policies.settings();
    let its_own = |route: &&Route| {
        let place = route.rule.plan.upstream;
        table.upstreams[place].upstream.plan.name == upstream.plan.name
    };
    let routes = table.routes.iter().filter(its_own);
    let deadlines = routes.filter_map(|route| route.rule.plan.deadline);
    SettingsStatus {
        timeout_ms: millis(set.attempt),
        deadline_ms: deadlines.chain(set.call).min().map(millis),
        concurrency: set.concurrency,
        queue: set.queue,
        hedge_ms: set.hedge.map(millis),
        hedge_quantile: set.hedge_quantile.map(|quantile| quantile.as_f64()),
        consecutive: set.consecutive,
        failures: set.failures,
        failure_ratio: set.failure_ratio.map(|ratio| ratio.as_f64()),
        slow_ms: set.slow.map(|(after, _)| millis(after)),
        slow_ratio: set.slow.map(|(_, ratio)| ratio.as_f64()),
        failures_within: set.window_calls,
        failures_within_ms: set.window_time.map(millis),
        attempts: set.attempts,
        budget: set.budget.map(|budget| budget.as_f64()),
    }
}
