//! What is told of runs, once: for tables, pages and JSON.

use outlast_config::plan::{Saga, SagaUnknown};
use outlast_config::scenario::{Measure, Scenario};
use outlast_sim::scenario::{Batch, Run, SagaRun, StepRun};
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

/// What is told of a scenario's calls; nothing if there are none.
pub(super) fn rows_of(scenario: &Scenario) -> &'static [Row] {
    match scenario.clients.is_empty() {
        true => &[],
        false => &ROWS,
    }
}

/// A measure of one saga's runs: what it is called, its key for machines, its unit, and its values.
pub(super) struct SagaRow {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) unit: Unit,
    pub(super) of: Box<dyn Fn(&SagaRun) -> f64>,
}

/// What is told of sagas of one name.
pub(super) fn saga_rows(saga: &Saga) -> Vec<SagaRow> {
    let mut rows: Vec<SagaRow> = OF_SAGAS
        .iter()
        .map(|(name, key, unit, of)| SagaRow {
            name: format!("{}: {name}", saga.name),
            key: (*key).to_owned(),
            unit: *unit,
            of: Box::new(of),
        })
        .collect();
    for (number, step) in saga.stages.iter().flatten().enumerate() {
        let a_saga = move |count: fn(&StepRun) -> u64| {
            move |run: &SagaRun| count(&run.steps[number]) as f64 / run.started as f64
        };
        rows.push(SagaRow {
            name: format!("{}: attempts at {}", saga.name, step.name),
            key: format!("attempts_at_{}", step.name),
            unit: Unit::Ratio,
            of: Box::new(a_saga(|step| step.attempts)),
        });
        if matches!(step.on_unknown, SagaUnknown::Query(_)) {
            rows.push(SagaRow {
                name: format!("{}: questions about {}", saga.name, step.name),
                key: format!("queries_at_{}", step.name),
                unit: Unit::Count,
                of: Box::new(move |run| run.steps[number].queries as f64),
            });
        }
        if step.undo.is_some() {
            rows.push(SagaRow {
                name: format!("{}: {} undone", saga.name, step.name),
                key: format!("undone_{}", step.name),
                unit: Unit::Count,
                of: Box::new(move |run| run.steps[number].undone as f64),
            });
        }
    }
    rows
}

type Described = (&'static str, &'static str, Unit, fn(&SagaRun) -> f64);

/// What is told of all sagas, whatever their steps.
pub(super) const SAGA_ROWS: usize = OF_SAGAS.len();

const OF_SAGAS: [Described; 11] = [
    ("begun", "started", Unit::Count, |run| run.started as f64),
    ("not begun", "refused", Unit::Count, |run| {
        run.refused as f64
    }),
    ("done", "completed", Unit::Share, SagaRun::done),
    ("undone", "compensated", Unit::Share, SagaRun::undone),
    ("wait for somebody", "waiting", Unit::Count, |run| {
        run.waiting as f64
    }),
    ("undone but for a part", "half_done", Unit::Count, |run| {
        run.half_done as f64
    }),
    ("work done twice", "twice", Unit::Count, |run| {
        run.twice as f64
    }),
    ("waits for a turn", "held", Unit::Count, |run| {
        run.held() as f64
    }),
    (
        "time to end p50",
        "time_p50_seconds",
        Unit::Seconds,
        |run| run.times[0],
    ),
    (
        "time to end p99",
        "time_p99_seconds",
        Unit::Seconds,
        |run| run.times[1],
    ),
    ("longest", "longest_seconds", Unit::Seconds, |run| {
        run.times[2]
    }),
];

/// The other less the one, over the worlds that both saw and in which both show something.
pub(super) fn paired(one: &Batch, other: &Batch, of: impl Fn(&Run) -> f64) -> Option<Paired> {
    let pairs = one.runs.iter().zip(&other.runs);
    let pairs = pairs.map(|(one, other)| (of(one), of(other)));
    let (one, other): (Vec<f64>, Vec<f64>) = pairs
        .filter(|(one, other)| one.is_finite() && other.is_finite())
        .unzip();
    Paired::of(&one, &other)
}

impl Unit {
    pub(super) fn of(measure: Measure) -> Unit {
        match measure {
            _ if measure.is_share() => Unit::Share,
            Measure::Attempts => Unit::Ratio,
            Measure::Quantile(_) | Measure::Recovery => Unit::Seconds,
            _ => Unit::Count,
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
