//! The same numbers for Prometheus: text format 0.0.4, names after its conventions.
//!
//! Labels come from the plan (routes, upstreams, endpoints) and from fixed lists, so their number
//! is bounded by the file, or by the most endpoints that an upstream may be found to have.

mod canary;
mod endpoints;
mod queues;
mod sagas;

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outlast::reject::Reason;
use outlast::tier::Tier;
use outlast_saga::store::Count;

use crate::State;
use crate::histogram::Summary;
use crate::load::Load;
use crate::metrics::{CLASSES, Instead};
use crate::table::{Table, Upstream};
use crate::worker::Phase;

/// All metrics; with how many sagas there are, if that is known.
pub(crate) fn render(state: &State, counts: Option<&[Count]>) -> String {
    let table = state.tables.borrow().clone();
    let mut page = Page::default();
    of_gateway(&mut page, state);
    of_routes(&mut page, &table);
    endpoints::of_endpoints(&mut page, &table);
    endpoints::of_discovery(&mut page, &table);
    of_upstreams(&mut page, &table);
    canary::of_canaries(&mut page, &table);
    of_degrade(&mut page, &table);
    if let Some(sagas) = &state.sagas {
        let (definitions, writes) = (sagas.runner.overview(), sagas.runner.writes());
        sagas::of_sagas(&mut page, &definitions, counts, &writes);
    }
    if let Some(queues) = &state.shared.queues {
        queues::write(&mut page, queues);
    }
    page.text
}

fn of_gateway(page: &mut Page, state: &State) {
    let shared = &state.shared;
    let ready = *state.phases.borrow() == Phase::Serving;
    page.family(
        "outlast_ready",
        "gauge",
        "1 while the gateway takes requests, 0 while it drains",
    );
    page.sample("outlast_ready", &[], u64::from(ready));
    page.family("outlast_connections", "gauge", "connections of clients");
    let connections = shared.connections.load(Ordering::Relaxed);
    page.sample("outlast_connections", &[], connections as u64);
    page.family(
        "outlast_connections_turned_away_total",
        "counter",
        "connections beyond the limit",
    );
    let turned_away = shared.turned_away.load(Ordering::Relaxed);
    page.sample(
        "outlast_connections_turned_away_total",
        &[],
        turned_away as u64,
    );
    page.family(
        "outlast_unlogged_total",
        "counter",
        "lines left out of the access log, and lines of the log that nobody read",
    );
    let unlogged = shared.unlogged.load(Ordering::Relaxed);
    let dropped = state
        .options
        .dropped_lines
        .as_ref()
        .map_or(0, |dropped| dropped());
    page.sample("outlast_unlogged_total", &[], (unlogged + dropped) as u64);
}

fn of_routes(page: &mut Page, table: &Table) {
    let routes = table
        .routes
        .iter()
        .map(|route| (route.name(), &*route.metrics));
    let all: Vec<_> = routes.chain([("-", table.metrics_of(None))]).collect();
    page.family(
        "outlast_requests_total",
        "counter",
        "finished requests, by class of status",
    );
    for (route, metrics) in &all {
        for (class, count) in CLASSES.into_iter().zip(metrics.requests()) {
            let labels = [("route", *route), ("status", class)];
            page.sample("outlast_requests_total", &labels, count);
        }
    }
    let help = "from the head of a request to the end of its answer";
    page.family("outlast_request_seconds", "histogram", help);
    for (route, metrics) in &all {
        page.histogram(
            "outlast_request_seconds",
            &[("route", route)],
            &metrics.durations(),
        );
    }
}

fn of_upstreams(page: &mut Page, table: &Table) {
    let all: Vec<_> = table
        .upstreams
        .iter()
        .map(|entry| {
            (
                entry.upstream.plan.name.as_str(),
                entry.upstream.policies.stats(),
            )
        })
        .collect();
    page.family(
        "outlast_extra_attempts_total",
        "counter",
        "attempts beyond the first, by kind",
    );
    for (upstream, stats) in &all {
        for (kind, count) in [
            ("retry", stats.retries),
            ("hedge", stats.hedges),
            ("failover", stats.failovers),
        ] {
            let labels = [("upstream", *upstream), ("kind", kind)];
            page.sample("outlast_extra_attempts_total", &labels, count);
        }
    }
    page.family(
        "outlast_fallbacks_total",
        "counter",
        "calls that something else answered",
    );
    for (upstream, stats) in &all {
        page.sample(
            "outlast_fallbacks_total",
            &[("upstream", upstream)],
            stats.fallbacks,
        );
    }
    page.family(
        "outlast_rejections_total",
        "counter",
        "calls that a policy ended, by reason",
    );
    for (upstream, stats) in &all {
        for reason in Reason::ALL {
            let labels = [("upstream", *upstream), ("reason", reason.name())];
            page.sample("outlast_rejections_total", &labels, stats.rejected(reason));
        }
    }
    let help = "calls that a policy in shadow mode would have ended, by reason";
    page.family("outlast_would_reject_total", "counter", help);
    for (upstream, stats) in &all {
        for reason in Reason::ALL {
            let labels = [("upstream", *upstream), ("reason", reason.name())];
            page.sample(
                "outlast_would_reject_total",
                &labels,
                stats.would_reject(reason),
            );
        }
    }
    page.family(
        "outlast_budget_available",
        "gauge",
        "extra attempts that would be granted now",
    );
    for (upstream, stats) in &all {
        if let Some(budget) = &stats.budget {
            page.sample(
                "outlast_budget_available",
                &[("upstream", upstream)],
                budget.available,
            );
        }
    }
    of_load(page, table);
    page.family(
        "outlast_bulkhead",
        "gauge",
        "seats of the bulkhead, by what they are",
    );
    for (upstream, stats) in &all {
        let Some(bulkhead) = &stats.bulkhead else {
            continue;
        };
        for (what, count) in [
            ("seats", bulkhead.concurrency),
            ("active", bulkhead.active),
            ("queued", bulkhead.queued),
        ] {
            let labels = [("upstream", *upstream), ("what", what)];
            page.sample("outlast_bulkhead", &labels, count);
        }
    }
}

/// How busy upstreams are, and what an autoscaler wants to know of that.
fn of_load(page: &mut Page, table: &Table) {
    let all: Vec<_> = table
        .upstreams
        .iter()
        .filter_map(|entry| Some((&*entry.upstream, Load::of(&entry.upstream)?)))
        .collect();
    let name = |upstream: &Upstream| upstream.plan.name.clone();
    let mut gauge = |family: &str, help: &str, of: &dyn Fn(&Load) -> f64| {
        page.family(family, "gauge", help);
        for (upstream, load) in &all {
            page.sample(family, &[("upstream", &name(upstream))], of(load));
        }
    };
    gauge(
        "outlast_concurrency_limit",
        "calls that may be in flight at once, as it stands",
        &|load| f64::from(load.limit),
    );
    gauge("outlast_in_flight", "calls in flight", &|load| {
        f64::from(load.in_flight)
    });
    gauge(
        "outlast_utilisation",
        "calls in flight as a share of the limit",
        &Load::utilisation,
    );
    gauge(
        "outlast_headroom",
        "calls that could be in flight beside those that are",
        &|load| f64::from(load.limit.saturating_sub(load.in_flight)),
    );
    gauge(
        "outlast_instances_wanted",
        "instances for the target utilisation, with one or a tenth to lose",
        &|load| f64::from(load.instances_wanted()),
    );
    page.family(
        "outlast_shed_queued",
        "gauge",
        "calls that wait to be let in",
    );
    for (upstream, _) in &all {
        if let Some(shed) = upstream.policies.stats().shed {
            page.sample(
                "outlast_shed_queued",
                &[("upstream", &name(upstream))],
                shed.queued,
            );
        }
    }
    page.family(
        "outlast_shed_total",
        "counter",
        "calls that were shed, by tier",
    );
    for (upstream, _) in &all {
        if let Some(shed) = upstream.policies.stats().shed {
            for tier in Tier::ALL {
                let labels = [("upstream", &*name(upstream)), ("tier", tier.name())];
                page.sample("outlast_shed_total", &labels, shed.shed(tier));
            }
        }
    }
}

fn of_degrade(page: &mut Page, table: &Table) {
    let Some(degrade) = &table.degrade else {
        return;
    };
    let modes = degrade.state.features.modes();
    let (rows, current) = (modes.matrix().rows, modes.current().index());
    page.family(
        "outlast_mode",
        "gauge",
        "1 for the mode in force, 0 for the others",
    );
    for (at, row) in rows.iter().enumerate() {
        page.sample(
            "outlast_mode",
            &[("mode", &row.mode)],
            u64::from(at == current),
        );
    }
    page.family(
        "outlast_mode_switches_total",
        "counter",
        "how often a mode was entered, or would have been",
    );
    for (row, count) in rows.iter().zip(degrade.state.entered()) {
        page.sample("outlast_mode_switches_total", &[("mode", &row.mode)], count);
    }
    page.family(
        "outlast_degraded_total",
        "counter",
        "requests answered otherwise because of a mode, by what was answered",
    );
    for route in &table.routes {
        for (instead, count) in Instead::ALL.into_iter().zip(route.metrics.degradations()) {
            let labels = [("route", route.name()), ("answer", instead.name())];
            page.sample("outlast_degraded_total", &labels, count);
        }
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        if labels.is_empty() {
            return self.line(format_args!("{name} {value}"));
        }
        let label = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
        let labels: Vec<_> = labels.iter().map(label).collect();
        self.line(format_args!("{name}{{{}}} {value}", labels.join(",")));
    }

    fn histogram(&mut self, name: &str, labels: &[(&'static str, &str)], summary: &Summary) {
        let bucket = format!("{name}_bucket");
        for (text, limit) in BOUNDS {
            let labels = [labels, &[("le", text)]].concat();
            self.sample(&bucket, &labels, summary.up_to(limit));
        }
        let labels_of_all = [labels, &[("le", "+Inf")]].concat();
        self.sample(&bucket, &labels_of_all, summary.count());
        self.sample(&format!("{name}_sum"), labels, summary.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), labels, summary.count());
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes everything");
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Prometheus' usual bounds.
const BOUNDS: [(&str, Duration); 12] = [
    ("0.001", Duration::from_micros(1_000)),
    ("0.0025", Duration::from_micros(2_500)),
    ("0.005", Duration::from_micros(5_000)),
    ("0.01", Duration::from_micros(10_000)),
    ("0.025", Duration::from_micros(25_000)),
    ("0.05", Duration::from_micros(50_000)),
    ("0.1", Duration::from_micros(100_000)),
    ("0.25", Duration::from_micros(250_000)),
    ("0.5", Duration::from_micros(500_000)),
    ("1", Duration::from_secs(1)),
    ("2.5", Duration::from_micros(2_500_000)),
    ("10", Duration::from_secs(10)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_escaped() {
        let mut page = Page::default();
        page.sample("a", &[("b", "c\"\\\n")], 1);
        page.sample("d", &[], 0.5);
        assert_eq!(page.text, "a{b=\"c\\\"\\\\\\n\"} 1\nd 0.5\n");
    }
}
