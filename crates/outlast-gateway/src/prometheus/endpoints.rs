//! What is counted per endpoint, and how many there are.

use std::sync::Arc;

use outlast::EndpointStats;
use outlast::breaker::State as BreakerState;

use super::Page;
use crate::members::Endpoint;
use crate::table::Table;

/// How many endpoints upstreams have, and whether they are found.
pub(super) fn of_discovery(page: &mut Page, table: &Table) {
    let all = table.upstreams.iter().map(|entry| &*entry.upstream);
    page.family("outlast_endpoints", "gauge", "endpoints of an upstream");
    for upstream in all.clone() {
        let labels = [("upstream", upstream.plan.name.as_str())];
        let count = upstream.members.latest().endpoints.len();
        page.sample("outlast_endpoints", &labels, count);
    }
    let help = "how often the endpoints of an upstream changed";
    page.family("outlast_membership_changes_total", "counter", help);
    for upstream in all.clone() {
        let labels = [("upstream", upstream.plan.name.as_str())];
        let changes = upstream.policies.version();
        page.sample("outlast_membership_changes_total", &labels, changes);
    }
    let help = "1 while endpoints cannot be found, and the last ones stay";
    page.family("outlast_discovery_failing", "gauge", help);
    for upstream in all {
        if let Some(discovery) = &upstream.discovery {
            let labels = [("upstream", upstream.plan.name.as_str())];
            let failing = u32::from(discovery.latest().error.is_some());
            page.sample("outlast_discovery_failing", &labels, failing);
        }
    }
}

pub(super) fn of_endpoints(page: &mut Page, table: &Table) {
    let all = endpoints(table);
    let help = "from the start of an attempt to the head of its answer";
    page.family("outlast_attempt_seconds", "histogram", help);
    for_each(&all, |labels, one| {
        let heads = one.endpoint.metrics.heads();
        page.histogram("outlast_attempt_seconds", labels, &heads);
    });
    page.family(
        "outlast_attempts_total",
        "counter",
        "finished attempts, by outcome",
    );
    for_each(&all, |labels, one| {
        let stats = &one.stats;
        for (outcome, count) in [
            ("success", stats.successes),
            ("transient", stats.transient),
            ("permanent", stats.permanent),
            ("overload", stats.overloads),
            ("ignored", stats.ignored),
        ] {
            let labels = [labels, &[("outcome", outcome)]].concat();
            page.sample("outlast_attempts_total", &labels, count);
        }
    });
    let help = "what an endpoint carries in comparison with the others; 0 if it gets nothing";
    page.family("outlast_endpoint_weight", "gauge", help);
    for_each(&all, |labels, one| {
        if let Some(balance) = &one.stats.balance {
            page.sample("outlast_endpoint_weight", labels, balance.weight);
        }
    });
    let help = "1 for an endpoint that is evacuated, ejected or failed its checks";
    page.family("outlast_endpoint_unusable", "gauge", help);
    for_each(&all, |labels, one| {
        if let Some(balance) = &one.stats.balance {
            let unusable = u32::from(balance.unusable.is_some());
            page.sample("outlast_endpoint_unusable", labels, unusable);
        }
    });
    of_connections(page, &all);
}

/// The breakers of endpoints, and connections to them.
fn of_connections(page: &mut Page, all: &[Shown<'_>]) {
    page.family(
        "outlast_breaker_open",
        "gauge",
        "1 open, 0.5 half-open, 0 closed",
    );
    for_each(all, |labels, one| {
        if let Some(breaker) = &one.stats.breaker {
            let value = match breaker.state {
                BreakerState::Open | BreakerState::ForcedOpen => "1",
                BreakerState::HalfOpen => "0.5",
                _ => "0",
            };
            page.sample("outlast_breaker_open", labels, value);
        }
    });
    page.family(
        "outlast_breaker_trips_total",
        "counter",
        "how often the breaker tripped",
    );
    for_each(all, |labels, one| {
        if let Some(breaker) = &one.stats.breaker {
            page.sample("outlast_breaker_trips_total", labels, breaker.trips);
        }
    });
    page.family(
        "outlast_connects_total",
        "counter",
        "connections to endpoints, by result",
    );
    for_each(all, |labels, one| {
        let [made, failed, stale] = one.endpoint.metrics.connections();
        for (result, count) in [("made", made), ("failed", failed), ("stale", stale)] {
            let labels = [labels, &[("result", result)]].concat();
            page.sample("outlast_connects_total", &labels, count);
        }
    });
}

/// An endpoint with its statistics.
struct Shown<'a> {
    upstream: &'a str,
    endpoint: Arc<Endpoint>,
    stats: EndpointStats,
}

fn endpoints(table: &Table) -> Vec<Shown<'_>> {
    let mut all = Vec::new();
    for entry in &table.upstreams {
        let upstream = &entry.upstream;
        let stats = upstream.policies.stats().endpoints;
        let endpoints = upstream.members.latest().with_stats(stats).into_iter();
        all.extend(endpoints.map(|(endpoint, stats)| Shown {
            upstream: &upstream.plan.name,
            endpoint,
            stats,
        }));
    }
    all
}

fn for_each<'a>(
    all: &'a [Shown<'a>],
    mut each: impl FnMut(&[(&'static str, &'a str)], &'a Shown<'a>),
) {
    for one in all {
        let labels = [
            ("upstream", one.upstream),
            ("endpoint", &*one.endpoint.name),
        ];
        each(&labels, one);
    }
}
