//! Choosing among many endpoints, by itself and as a part of a whole call.

use std::sync::Arc;
use std::time::Duration;

use outlast_core::balance::{Balance, Config, Endpoint, Kind, Wish};
use outlast_core::outcome::Outcome;
use outlast_core::rng::Rng;
use outlast_core::time::Time;
use outlast_core::upstream::Upstream;

use crate::clock::{coarse, passed_in};
use crate::measure::{Bench, Figures};
use crate::stack::{full_config, succeed};
use crate::table::{Goal, Group, Row};

pub(crate) fn groups(bench: &Bench) -> Vec<Group> {
    let goals = || [Goal::Single(100.0), Goal::Allocations(0.0)];
    let choice = Group::new("an endpoint chosen, its attempt begun and ended")
        .row(
            Row::ours(
                "P2C peak EWMA, 1,000 endpoints",
                all(bench, Kind::PEAK_EWMA, 1_000),
            )
            .goals(goals()),
        )
        .row(Row::ours("P2C peak EWMA, 10", all(bench, Kind::PEAK_EWMA, 10)).goals(goals()))
        .row(
            Row::ours(
                "P2C least requests, 1,000",
                all(bench, Kind::LEAST_REQUESTS, 1_000),
            )
            .goals(goals()),
        )
        .row(Row::ours("in turn, 1,000", all(bench, Kind::RoundRobin, 1_000)).goals(goals()))
        .row(Row::ours("by weight, 1,000", all(bench, Kind::Weighted, 1_000)).goals(goals()))
        .row(Row::ours("by hash, 10", all(bench, Kind::HASH, 10)))
        .row(Row::ours("by hash, 1,000", all(bench, Kind::HASH, 1_000)));
    let only = Group::new("an endpoint chosen")
        .row(Row::ours("P2C peak EWMA, 1,000 endpoints", choices(bench, 1_000)).goals(goals()))
        .row(Row::ours("P2C peak EWMA, 10", choices(bench, 10)).goals(goals()));
    let whole = Group::new("full stack, by the number of endpoints")
        .row(Row::ours(
            "core, coarse clock, 1 endpoint",
            stack(bench, 1, false),
        ))
        .row(Row::ours("10 endpoints", stack(bench, 10, false)))
        .row(Row::ours("1,000 endpoints", stack(bench, 1_000, false)))
        .row(Row::ours(
            "10 endpoints that have changed",
            stack(bench, 10, true),
        ));
    vec![only, choice, whole]
}

/// Choices alone, among endpoints that all have answered.
fn choices(bench: &Bench, endpoints: usize) -> Figures {
    let balance = &warm(Kind::PEAK_EWMA, endpoints);
    bench.measure(|| {
        let mut rng = Rng::new(1);
        move || {
            let wish = Wish::new(rng.next_u64());
            let chosen = balance.choose(wish, passed_in(), |_| false);
            std::hint::black_box(chosen.expect("all are well"));
        }
    })
}

fn all(bench: &Bench, kind: Kind, endpoints: usize) -> Figures {
    let balance = &warm(kind, endpoints);
    bench.measure(|| {
        let mut rng = Rng::new(1);
        move || {
            let (now, random) = (passed_in(), rng.next_u64());
            let wish = Wish::new(random).key(random);
            let chosen = balance.choose(wish, now, |_| false);
            let endpoint = chosen.expect("all are well");
            balance.started(endpoint);
            balance.ended(endpoint, Outcome::Success, Duration::from_millis(1), now);
        }
    })
}

fn warm(kind: Kind, endpoints: usize) -> Balance {
    let now = passed_in();
    let balance = Balance::new(Config::new(kind), named(endpoints), now);
    let balance = balance.expect("the settings are sound");
    for endpoint in 0..endpoints {
        balance.started(endpoint);
        balance.ended(endpoint, Outcome::Success, Duration::from_millis(1), now);
    }
    balance
}

/// Whole calls; after a change of the membership, if so.
fn stack(bench: &Bench, endpoints: usize, changed: bool) -> Figures {
    let config = named(endpoints).fold(full_config("benchmark"), |config, endpoint| {
        config.endpoint_with(endpoint)
    });
    let upstream = Arc::new(Upstream::new(config, 1).expect("the settings are sound"));
    if changed {
        let next = named(endpoints + 1).collect();
        let next = upstream.set_endpoints(next, Time::ZERO);
        next.expect("the endpoints are sound");
    }
    bench.shared(|| succeed(&*upstream, coarse))
}

fn named(endpoints: usize) -> impl Iterator<Item = Endpoint> {
    (0..endpoints).map(|number| Endpoint::new(number.to_string()))
}
