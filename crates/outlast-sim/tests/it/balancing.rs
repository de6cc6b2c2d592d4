//! Choices among many servers of which some are slower than others.

use std::time::Duration;

use outlast_core::balance::{self, Kind};
use outlast_core::deadline;
use outlast_core::upstream::Config;
use outlast_sim::{Client, Curve, Law, Model, Service};

use crate::rows::{Row, row, sized};

const SECOND: Duration = Duration::from_secs(1);

/// Machines before which so many are contended: their neighbours leave them what is theirs by
/// allocation, and nothing beyond it. On the others a server gets up to two and a half times that.
const ALLOCATION: u32 = 2;
const BEYOND: u32 = 5;
const WORK: Duration = Duration::from_millis(50);

/// The 99.9th percentile, where a call that did not end in time counts as having taken that long.
fn slowest(row: &Row, kind: Kind, level: f64) -> Duration {
    let (servers, lasts) = sized((20, 240 * SECOND), (100, 300 * SECOND));
    let patience = row.seconds("timeout_s");
    let mut model = Model::new(42);
    let mut machines = |workers: u32, count: u32| {
        let server = Service::new(Law::exponential(WORK)).workers(workers);
        model.service(server.replicas(count))
    };
    let contended = machines(ALLOCATION, servers / 5);
    let others = machines(BEYOND, servers - servers / 5);
    let config = Config::new("servers")
        .balance(balance::Config::new(kind))
        .deadline(deadline::Config::default().attempt(patience));
    let through = model.upstream(config, &[contended, others]).unwrap();
    let allocated = f64::from(servers * ALLOCATION) / WORK.as_secs_f64();
    let client = Client::open(through, Curve::level(level * allocated));
    let client = model.client(client);
    let report = model.run(lasts).unwrap();
    let client = report.client(client);
    let beyond = 0.001 * client.calls as f64;
    let late = (client.calls - client.good) as f64;
    if late >= beyond {
        return patience;
    }
    let share = 1.0 - (beyond - late) / client.good as f64;
    client.latency.quantile(share)
}

/// The ordering of "Load is not what you should balance" (Wydrowski et al., NSDI 2024): servers that
/// get equal shares are as good as the worst of them; whoever goes by what is under way, and how long
/// it takes, does not notice them.
#[test]
fn s05_slow_neighbours_spoil_equal_shares_and_nothing_else() {
    let row = row("S05");
    let patience = row.seconds("timeout_s");
    let saturates = row.expected("wrr_saturates_at");
    let all = row.parameters("levels");
    let few = all
        .iter()
        .copied()
        .filter(|level| [0.93, 1.14, 1.74].contains(level));
    for level in sized(few.collect(), all.clone()) {
        let in_turn = slowest(&row, Kind::RoundRobin, level);
        let ours = slowest(&row, Kind::PEAK_EWMA, level);
        println!("{level}: {in_turn:?} in turn, {ours:?}");
        if level < saturates {
            assert!(in_turn < patience, "{level}: {in_turn:?}");
        }
        if level > saturates {
            assert!(ours * 5 <= in_turn, "{level}: {ours:?} and {in_turn:?}");
        }
    }
}
