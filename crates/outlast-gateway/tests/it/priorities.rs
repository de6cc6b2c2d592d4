//! Groups of endpoints by priority: the first serves, the second stands in for what the first cannot
//! carry, and the way back is slow.

use std::ops::Range;
use std::time::{Duration, Instant};

use outlast_gateway::Gateway;

use crate::redundancy::{all_were_served, successes, unusable};
use crate::support::{Load, Upstream, gateway, url, wait_until};

/// The first `preferred` of these endpoints have the priority 0, the others 1.
fn groups(endpoints: &[Upstream], preferred: usize, balance: &str) -> Gateway {
    let list: Vec<_> = (0..endpoints.len())
        .map(|at| {
            let priority = u8::from(at >= preferred);
            format!("e{at}: {{ url: 'http://{{}}', priority: {priority} }}")
        })
        .collect();
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    gateway(
        &format!(
            "
gateway: {{ listen: 127.0.0.1:0, admin: off, workers: 2 }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams:
  up:
    endpoints: {{ {} }}
    balance: {{ {balance} }}
    retry: {{ attempts: 3, backoff: 1ms }}
    budget: {{ reserve: 1000 }} # thousands of requests until a check has failed twice
    check: {{ interval: 50ms, timeout: 1s, unhealthy_after: 2, healthy_after: 1 }}
",
            list.join(", ")
        ),
        &addresses,
    )
}

fn sum(gateway: &Gateway, group: Range<usize>) -> u64 {
    group.map(|at| successes(gateway, at)).sum()
}

fn stop(gateway: &Gateway, endpoints: &mut [Upstream], group: Range<usize>) {
    endpoints[group.clone()].iter_mut().for_each(Upstream::stop);
    wait_until("they are known to be dead", || {
        group.clone().all(|at| unusable(gateway, at).is_some())
    });
}

fn restart(gateway: &Gateway, endpoints: &mut [Upstream], group: Range<usize>) {
    endpoints[group.clone()]
        .iter_mut()
        .for_each(Upstream::restart);
    wait_until("they are known to be well", || {
        group.clone().all(|at| unusable(gateway, at).is_none())
    });
}

#[test]
fn the_second_group_carries_what_the_first_cannot() {
    let mut endpoints: Vec<_> = (0..6).map(|_| Upstream::start()).collect();
    let gateway = groups(&endpoints, 4, "fail_back_after: 1h");
    let load = Load::start(&url(&gateway, "/"), 4);
    wait_until("the whole first group serves", || {
        (0..4).all(|at| successes(&gateway, at) > 50)
    });
    // Three of four are enough: 0.75 x 1.4 is more than everything.
    stop(&gateway, &mut endpoints, 3..4);
    let before = sum(&gateway, 0..3);
    wait_until("the three serve", || sum(&gateway, 0..3) > before + 500);
    assert_eq!(
        sum(&gateway, 4..6),
        0,
        "the second group had something to do"
    );

    // Two are not: they carry 0.5 x 1.4.
    stop(&gateway, &mut endpoints, 2..3);
    let before = [sum(&gateway, 0..2), sum(&gateway, 4..6)];
    let grown = || {
        let grown = |group, before| (sum(&gateway, group) - before) as f64;
        [grown(0..2, before[0]), grown(4..6, before[1])]
    };
    wait_until("both groups serve", || grown().iter().sum::<f64>() > 2000.0);
    let [first, second] = grown();
    let share = second / (first + second);
    assert!((0.2..0.4).contains(&share), "{share}");

    stop(&gateway, &mut endpoints, 0..2);
    let before = sum(&gateway, 4..6);
    wait_until("the second group stands in", || {
        sum(&gateway, 4..6) > before + 500
    });
    all_were_served(load);
}

#[test]
fn a_group_that_comes_back_waits_and_then_gets_more_and_more() {
    const AFTER: Duration = Duration::from_secs(1);
    const OVER: Duration = Duration::from_secs(2);
    let mut endpoints: Vec<_> = (0..4).map(|_| Upstream::start()).collect();
    let balance = "fail_back_after: 1s, fail_back_over: 2s";
    let gateway = groups(&endpoints, 2, balance);
    let load = Load::start(&url(&gateway, "/"), 4);
    wait_until("the first group serves", || sum(&gateway, 0..2) > 100);
    assert_eq!(
        sum(&gateway, 2..4),
        0,
        "the second group had something to do"
    );
    stop(&gateway, &mut endpoints, 0..2);
    wait_until("the second group stands in", || sum(&gateway, 2..4) > 500);

    let served = sum(&gateway, 0..2);
    let dead_until = Instant::now();
    restart(&gateway, &mut endpoints, 0..2);
    wait_until("the first group serves again", || {
        sum(&gateway, 0..2) > served
    });
    assert!(dead_until.elapsed() >= AFTER, "{:?}", dead_until.elapsed());
    let stood_in = sum(&gateway, 2..4);
    let mut last = [sum(&gateway, 0..2), stood_in];
    wait_until("it serves alone", || {
        let now = [sum(&gateway, 0..2), sum(&gateway, 2..4)];
        if now[1] > last[1] {
            last = now;
        }
        now[0] > last[0] + 500
    });
    let back = dead_until.elapsed();
    assert!(back >= AFTER + OVER * 4 / 5, "{back:?}");
    // Evenly from nothing to everything is half of it, taken over the whole way.
    let [first, second] = [last[0] - served, last[1] - stood_in].map(|count| count as f64);
    let share = first / (first + second);
    assert!((0.3..0.7).contains(&share), "{share}");
    all_were_served(load);
}

#[test]
fn a_group_that_comes_and_goes_gets_nothing() {
    let mut endpoints: Vec<_> = (0..2).map(|_| Upstream::start()).collect();
    // Far longer than it is ever well.
    let gateway = groups(&endpoints, 1, "fail_back_after: 1m, fail_back_over: 1s");
    let load = Load::start(&url(&gateway, "/"), 4);
    wait_until("the first serves", || successes(&gateway, 0) > 100);
    stop(&gateway, &mut endpoints, 0..1);
    let served = successes(&gateway, 0);
    for _ in 0..6 {
        restart(&gateway, &mut endpoints, 0..1);
        let before = successes(&gateway, 1);
        wait_until("the second serves", || {
            successes(&gateway, 1) > before + 100
        });
        stop(&gateway, &mut endpoints, 0..1);
    }
    assert_eq!(successes(&gateway, 0), served, "it got traffic in between");
    all_were_served(load);
}
