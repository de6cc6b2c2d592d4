//! What is told of runs, once: for tables, pages and JSON.

use outlast_config::scenario::Measure;
use outlast_sim::scenario::{Batch, Run};
use outlast_sim::statistics::{Mean, Paired};

/// A measure of runs.
pub(super) struct Row {
    /// For people.
    pub(super) name: &'static str,
    /// For machines.
    pub(super) key: &'static str,
    pub(super) unit: Unit,
    pub(super) of: fn(&Run) -> f64,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Share,
    Ratio,
    Count,
    Seconds,
}

pub(super) const ROWS: [Row; 10] = [
    row("goodput", "goodput", Unit::Share, |run| run.goodput),
    row(
        "seconds with 99 % good",
        "availability",
        Unit::Share,
        |run| run.availability,
    ),
    row("ended by a policy", "rejected", Unit::Share, |run| {
        run.rejected
    }),
    row("attempts a call", "attempts_per_call", Unit::Ratio, |run| {
        run.attempts
    }),
    row(
        "most attempts in a second",
        "peak_attempts",
        Unit::Count,
        |run| run.peak_attempts as f64,
    ),
    row("latency p50", "latency_p50_seconds", Unit::Seconds, |run| {
        run.quantiles[0]
    }),
    row("latency p99", "latency_p99_seconds", Unit::Seconds, |run| {
        run.quantiles[1]
    }),
    row(
        "latency p99.9",
        "latency_p99_9_seconds",
        Unit::Seconds,
        |run| run.quantiles[2],
    ),
    row(
        "work that nobody waited for",
        "wasted",
        Unit::Share,
        |run| run.wasted,
    ),
    row("begun after the deadline", "late", Unit::Count, |run| {
        run.late as f64
    }),
];

const fn row(name: &'static str, key: &'static str, unit: Unit, of: fn(&Run) -> f64) -> Row {
    Row {
        name,
        key,
        unit,
        of,
    }
}

impl Row {
    /// The other less the one, over the worlds that both saw and in which both show something.
    pub(super) fn paired(&self, one: &Batch, other: &Batch) -> Option<Paired> {
        let pairs = one.runs.iter().zip(&other.runs);
        let pairs = pairs.map(|(one, other)| ((self.of)(one), (self.of)(other)));
        let (one, other): (Vec<f64>, Vec<f64>) = pairs
            .filter(|(one, other)| one.is_finite() && other.is_finite())
            .unzip();
        Paired::of(&one, &other)
    }
}

impl Unit {
    pub(super) fn of(measure: Measure) -> Unit {
        match measure {
            Measure::Goodput | Measure::Availability | Measure::Rejected | Measure::Wasted => {
                Unit::Share
            }
            Measure::Attempts => Unit::Ratio,
            Measure::Quantile(_) | Measure::Recovery => Unit::Seconds,
            Measure::Peak | Measure::Late => Unit::Count,
        }
    }

    /// A number for people.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => "-".to_owned(),
            Unit::Share => format!("{:.2} %", value * 100.0),
            Unit::Ratio => format!("{value:.3}"),
            Unit::Count => format!("{value:.0}"),
            Unit::Seconds if value == 0.0 => "0 s".to_owned(),
            Unit::Seconds if value.abs() < 1e-3 => format!("{:.0} us", value * 1e6),
            Unit::Seconds if value.abs() < 1.0 => format!("{:.1} ms", value * 1e3),
            Unit::Seconds => format!("{value:.1} s"),
        }
    }

    /// Half of an interval, which is not known from one run.
    pub(crate) fn show_half(self, half_width: f64) -> String {
        if half_width.is_finite() {
            format!("± {}", self.show(half_width))
        } else {
            String::new()
        }
    }

    /// From the least to the most.
    pub(super) fn show_range(self, mean: &Mean) -> String {
        format!("{} to {}", self.show(mean.least), self.show(mean.most))
    }
}
