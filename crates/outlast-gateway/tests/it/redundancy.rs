//! Several endpoints, of which some are unwell, dead, elsewhere or evacuated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outlast_gateway::Gateway;

use crate::support::{
    Load, Upstream, curl, free_address, gateway, status, upstream_status, url, wait_until,
};

pub(crate) fn successes(gateway: &Gateway, at: usize) -> u64 {
    upstream_status(gateway, "up").endpoints[at].successes
}

pub(crate) fn unusable(gateway: &Gateway, at: usize) -> Option<&'static str> {
    let balance = &upstream_status(gateway, "up").endpoints[at].balance;
    balance.as_ref().unwrap().unusable
}

pub(crate) fn all_were_served(load: Load) -> usize {
    let results = load.end();
    let failed: Vec<_> = results
        .iter()
        .filter(|(status, _)| *status != 200)
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:?}",
        failed.len(),
        results.len()
    );
    results.len()
}

#[test]
fn an_endpoint_that_fails_its_check_gets_nothing_until_it_is_well() {
    let well = Arc::new(AtomicBool::new(true));
    let is_well = Arc::clone(&well);
    let first = Upstream::answering(move |seen| match seen.target.as_str() {
        "/healthz" if !is_well.load(Ordering::Relaxed) => status(503),
        _ => axum::http::Response::new("ok".into()),
    });
    let second = Upstream::start();
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, workers: 2 }
routes: { all: { match: /**, upstream: up } }
upstreams:
  up:
    endpoints: ['http://{}', 'http://{}']
    check: { http: /healthz, interval: 50ms, unhealthy_after: 2, healthy_after: 2 }
",
        &[first.address, second.address],
    );
    let load = Load::start(&url(&gateway, "/"), 4);
    wait_until("both serve", || {
        successes(&gateway, 0).min(successes(&gateway, 1)) > 50
    });
    well.store(false, Ordering::Relaxed);
    wait_until("it is out", || unusable(&gateway, 0) == Some("check"));
    // What was chosen before is served to its end.
    wait_until("it has nothing in flight", || {
        let balance = &upstream_status(&gateway, "up").endpoints[0].balance;
        balance.as_ref().unwrap().in_flight == 0
    });
    let (before, other) = (successes(&gateway, 0), successes(&gateway, 1));
    wait_until("the other serves", || successes(&gateway, 1) > other + 200);
    assert_eq!(successes(&gateway, 0), before);
    well.store(true, Ordering::Relaxed);
    wait_until("it is back", || successes(&gateway, 0) > before + 50);
    all_were_served(load);
}

#[test]
fn of_ten_endpoints_one_is_killed_and_nobody_notices() {
    let mut endpoints: Vec<_> = (0..10).map(|_| Upstream::start()).collect();
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    let list = ["'http://{}'"; 10].join(", ");
    let gateway = gateway(
        &format!(
            "
gateway: {{ listen: 127.0.0.1:0, admin: off, workers: 2 }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams:
  up:
    endpoints: [{list}]
    retry: {{ attempts: 3, backoff: 1ms }}
    budget: {{ reserve: 100 }}
    eject: {{ consecutive: 3, base: 1m }}
    check: {{ interval: 100ms, unhealthy_after: 2 }}
"
        ),
        &addresses,
    );
    let load = Load::start(&url(&gateway, "/"), 8);
    wait_until("all serve", || {
        (0..10).all(|at| successes(&gateway, at) > 20)
    });
    endpoints[3].stop();
    wait_until("it is out", || unusable(&gateway, 3).is_some());
    let attempts = upstream_status(&gateway, "up").endpoints[3].transient;
    assert!(
        attempts <= 10 + 8,
        "{attempts} failed attempts, of which 8 may have been in flight"
    );
    let before: Vec<_> = (0..10).map(|at| successes(&gateway, at)).collect();
    wait_until("the others share its load", || {
        let serve = |at: usize| successes(&gateway, at) > before[at] + 20;
        (0..10).filter(|&at| at != 3).all(serve)
    });
    all_were_served(load);
}

#[test]
fn a_zone_that_is_evacuated_or_dead_gives_its_traffic_to_the_next() {
    let [mut near, far] = [Upstream::start(), Upstream::start()];
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: 127.0.0.1:0, workers: 2 }
routes: { all: { match: /**, upstream: up } }
upstreams:
  up:
    endpoints: { near: { url: http://{}, zone: a }, far: { url: http://{}, zone: b } }
    balance: { zones: [a, b], fail_back_after: 100ms, fail_back_over: 500ms }
    retry: { attempts: 3, backoff: 1ms }
    budget: { reserve: 100 }
    check: { interval: 50ms, unhealthy_after: 2, healthy_after: 1 }
",
        &[near.address, far.address],
    );
    let load = Load::start(&url(&gateway, "/"), 4);
    wait_until("the near one serves", || successes(&gateway, 0) > 100);
    assert_eq!(successes(&gateway, 1), 0, "the far one has nothing to do");
    let act = |path: &str| {
        let url = format!("http://{}{path}", gateway.admin_address().unwrap());
        curl(&["-X", "POST", &url]).status
    };
    assert_eq!(act("/zones/a/evacuate"), 200);
    let before = successes(&gateway, 1);
    wait_until("the far one serves", || {
        successes(&gateway, 1) > before + 100
    });
    assert_eq!(unusable(&gateway, 0), Some("evacuated"));
    assert_eq!(act("/zones/nowhere/evacuate"), 404);
    assert_eq!(act("/zones/a/return"), 200);
    assert_eq!(act("/zones/a/return"), 404, "it is not evacuated any more");
    let before = successes(&gateway, 0);
    wait_until("the near one serves again", || {
        successes(&gateway, 0) > before + 100
    });
    near.stop();
    let before = successes(&gateway, 1);
    wait_until("the far one stands in", || {
        successes(&gateway, 1) > before + 100
    });
    near.restart();
    let before = successes(&gateway, 0);
    wait_until("the near one is back", || {
        successes(&gateway, 0) > before + 100
    });
    all_were_served(load);
}

#[test]
fn an_endpoint_that_only_fails_is_ejected() {
    let good: Vec<_> = (0..3).map(|_| Upstream::start()).collect();
    let bad = Upstream::answering(|_| status(500));
    let addresses = [
        good[0].address,
        good[1].address,
        good[2].address,
        bad.address,
    ];
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, workers: 1 }
routes: { all: { match: /**, upstream: up } }
upstreams:
  up:
    endpoints: ['http://{}', 'http://{}', 'http://{}', 'http://{}']
    balance: round_robin
    eject: { consecutive: 5, base: 1m }
",
        &addresses,
    );
    let statuses: Vec<_> = (0..60)
        .map(|_| curl(&[&url(&gateway, "/")]).status)
        .collect();
    let failed = statuses.iter().filter(|status| **status == 500).count();
    assert_eq!(failed, 5, "{statuses:?}");
    assert_eq!(unusable(&gateway, 3), Some("ejected"));
}

#[test]
fn a_hash_keeps_a_user_at_one_endpoint() {
    let endpoints: Vec<_> = (0..3).map(|_| Upstream::start()).collect();
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: up } }
upstreams:
  up:
    endpoints: ['http://{}', 'http://{}', 'http://{}']
    balance: { kind: hash, by: { header: X-User } }
",
        &addresses,
    );
    let counts = || {
        endpoints
            .iter()
            .map(|endpoint| endpoint.seen().len())
            .collect::<Vec<_>>()
    };
    let mut homes = std::collections::BTreeSet::new();
    for user in 0..12 {
        let before = counts();
        for _ in 0..4 {
            let header = format!("X-User: {user}");
            assert_eq!(curl(&["-H", &header, &url(&gateway, "/")]).status, 200);
        }
        let after = counts();
        let grown: Vec<_> = (0..3).filter(|&at| after[at] > before[at]).collect();
        assert_eq!(grown.len(), 1, "user {user} was at {grown:?}");
        homes.insert(grown[0]);
    }
    assert_eq!(homes.len(), 3, "the users are spread");
}

#[test]
fn a_check_that_hangs_or_finds_nobody_delays_no_other() {
    let hangs = Upstream::start();
    hangs.hangs(true);
    let good = Upstream::start();
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, workers: 1 }
routes: { all: { match: /**, upstream: up } }
upstreams:
  up:
    endpoints: ['http://{}', 'http://{}', 'http://{}']
    check: { http: /, interval: 50ms, timeout: 100ms, unhealthy_after: 1, initial: down }
    balance: { panic: 0% } # with one of three left, the default uses all
",
        &[hangs.address, free_address(), good.address],
    );
    wait_until("the good one is known", || unusable(&gateway, 2).is_none());
    wait_until("the others are, too", || {
        (unusable(&gateway, 0), unusable(&gateway, 1)) == (Some("check"), Some("check"))
    });
    let answer = curl(&[&url(&gateway, "/")]);
    assert_eq!(answer.status, 200);
    assert!(answer.took < Duration::from_secs(5), "{:?}", answer.took);
}
