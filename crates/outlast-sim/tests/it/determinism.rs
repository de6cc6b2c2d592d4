//! Equal seeds, equal runs; and another policy sees the same world.

use std::time::Duration;

use outlast_core::upstream::Config;
use outlast_core::{breaker, bulkhead, hedge, retry};
use outlast_sim::{Client, Curve, Law, Model, Report, Service};

use crate::rows::row;

const MS: Duration = Duration::from_millis(1);

fn model(seed: u64, config: Config) -> Report {
    let mut model = Model::new(seed);
    let work = Law::lognormal(10 * MS, 0.8).unwrap();
    let db = model.service(Service::new(work).workers(8).replicas(3).failures(0.05));
    let through = model.upstream(config, &[db]).unwrap();
    model.client(Client::open(through, Curve::level(1000.0)).deadline(500 * MS));
    model.client(Client::closed(through, 20, Law::exponential(100 * MS)));
    model.run(Duration::from_secs(5)).unwrap()
}

fn everything() -> Config {
    Config::new("db")
        .retry(retry::Config::attempts(3))
        .hedge(hedge::Config::after(50 * MS))
        .breaker(breaker::Config::consecutive(20))
        .bulkhead(bulkhead::Config::new(30).queue(30))
}

#[test]
fn d01_equal_seeds_give_equal_traces_on_any_thread() {
    let seed = row("D01").parameter("seed") as u64;
    let first = model(seed, everything());
    let threads: Vec<_> = (0..8)
        .map(|_| std::thread::spawn(move || model(seed, everything())))
        .collect();
    for thread in threads {
        let again = thread.join().unwrap();
        assert_eq!((again.hash, again.events), (first.hash, first.events));
    }
    assert_ne!(model(seed + 1, everything()).hash, first.hash);
    // Whatever the platform: a change of this number is a change of all results.
    assert_eq!(first.hash, 5_572_393_901_852_994_111);
}

/// The same calls come at the same times, and their first attempts take as long.
#[test]
fn another_policy_sees_the_same_world() {
    let calls = |config: Config| {
        let mut model = Model::new(1);
        let db = model.service(Service::new(Law::exponential(10 * MS)));
        let through = model.upstream(config, &[db]).unwrap();
        let client = model.client(Client::open(through, Curve::level(100.0)));
        let report = model.run(Duration::from_secs(20)).unwrap();
        let report = report.client(client);
        let per_second: Vec<_> = report.seconds.iter().map(|second| second.calls).collect();
        (per_second, report.latency.mean())
    };
    let plain = calls(Config::new("db"));
    let hedged = calls(Config::new("db").hedge(hedge::Config::after(1000 * MS)));
    assert_eq!(plain, hedged);
}

#[test]
fn d03_time_is_exact_to_the_nanosecond() {
    let row = row("D03");
    for (work, expected) in [(MS / 10, 0.1), (MS * 103 / 10, 10.3)] {
        assert!(row.all_expected("virtual_elapsed_s").contains(&expected));
        let mut model = Model::new(1);
        let service = model.service(Service::new(Law::fixed(work)).workers(1));
        let through = model.upstream(Config::new("up"), &[service]).unwrap();
        let client = model.client(Client::closed(through, 1, Law::fixed(Duration::ZERO)));
        // The thousandth begins just before the end.
        let report = model.run(work * 1000).unwrap();
        assert_eq!(report.client(client).calls, 1000);
        let elapsed = report.client(client).latency.mean() * 1000;
        assert_eq!(elapsed.as_secs_f64(), expected);
    }
}
