//! Equal seeds, equal runs; and another policy sees the same world.

use std::time::Duration;

use outlast_core::upstream::Config;
use outlast_core::{breaker, bulkhead, deadline, hedge, rate, retry};
use outlast_sim::{Client, Curve, Law, Model, Report, Service};

use crate::rows::{row, sized};

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
    assert_eq!(first.hash, 403_362_621_569_410_845);
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

/// The model of the row, whose speed `cargo xtask bench sim` measures: its counts are those of three
/// attempts that fail independently of each other.
#[test]
fn d02_the_model_that_is_measured_does_what_it_should() {
    let row = row("D02");
    let (failures, calls) = (0.05, sized(2e5, row.parameter("requests")));
    let mut model = Model::new(42);
    let service = Service::new(Law::exponential(10 * MS)).workers(8);
    let service = model.service(service.failures(failures));
    let config = Config::new("up")
        .deadline(deadline::Config::default().attempt(1000 * MS))
        .rate(rate::Config::new(100_000, 1000 * MS))
        .retry(retry::Config::attempts(3))
        .breaker(breaker::Config::consecutive(100))
        .bulkhead(bulkhead::Config::new(1000).queue(1000));
    let through = model.upstream(config, &[service]).unwrap();
    let client = model.client(Client::open(through, Curve::level(640.0)));
    let report = model.run(Duration::from_secs_f64(calls / 640.0)).unwrap();
    let client = report.client(client);
    let near = |found: f64, expected: f64, allowed: f64| {
        assert!(
            (found - expected).abs() <= allowed,
            "{found} for {expected}"
        );
    };
    near(client.calls as f64, calls, 4.0 * calls.sqrt());
    let (once_more, twice_more) = (failures, failures * failures);
    let error = (failures / calls).sqrt();
    near(
        client.amplification(),
        1.0 + once_more + twice_more,
        4.0 * error,
    );
    let all_fail = twice_more * failures;
    let error = (all_fail / calls).sqrt();
    near(client.success(), 1.0 - all_fail, 4.0 * error);
    assert_eq!(client.rejections(), 0);
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
