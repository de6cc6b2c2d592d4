//! Overloads that outlive their cause, and policies that do not let them.

use std::time::Duration;

use outlast_core::ratio::Ratio;
use outlast_core::upstream::Config;
use outlast_core::{budget, deadline, retry};
use outlast_sim::{Change, Client, ClientReport, Curve, Law, Model, Service};

use crate::rows::{Row, row};

const SECOND: Duration = Duration::from_secs(1);
/// When the trouble begins.
const BEGINS: Duration = Duration::from_secs(100);

/// A database that nothing reaches for a while (Bronson et al., HotOS 2021): what was sent comes
/// when that is over.
fn outage(row: &Row, config: Config, rate: f64, lasts: Duration, seed: u64) -> ClientReport {
    let mut model = Model::new(seed);
    let work = Law::exponential(Duration::from_secs_f64(1.0 / row.parameter("mu")));
    let db = model.service(Service::new(work).workers(1));
    let through = model.upstream(config, &[db]).unwrap();
    let client = model.client(Client::open(through, Curve::level(rate)));
    model.change(BEGINS, db, Change::Holds(true));
    model.change(BEGINS + 10 * SECOND, db, Change::Holds(false));
    let report = model.run(lasts).unwrap();
    report.client(client).clone()
}

/// One retry at once after a second.
fn impatient() -> Config {
    Config::new("db")
        .deadline(deadline::Config::default().attempt(SECOND))
        .retry(retry::Config::attempts(2).backoff(Duration::ZERO))
}

/// Whether nearly all calls of the last hundred seconds were good.
fn recovers(client: &ClientReport, lasts: Duration) -> bool {
    let last = &client.seconds[lasts.as_secs() as usize - 100..lasts.as_secs() as usize];
    let sum = |count: fn(&outlast_sim::Second) -> u32| -> u32 { last.iter().map(count).sum() };
    f64::from(sum(|second| second.good)) >= 0.99 * f64::from(sum(|second| second.calls))
}

#[test]
fn m01_without_a_budget_an_outage_lasts_for_ever_from_half_of_the_capacity_on() {
    let row = row("M01");
    let lasts = row.seconds("run_s");
    for (rate, expected) in row.object("recovers") {
        let rate: f64 = rate.parse().unwrap();
        for seed in 0..3 {
            let client = outage(&row, impatient().budget(None), rate, lasts, seed);
            let found = recovers(&client, lasts);
            assert_eq!(
                found,
                expected.as_bool().unwrap(),
                "{rate} a second, seed {seed}"
            );
            if rate == 280.0 {
                let last = &client.seconds[1000..1900];
                let attempts: u32 = last.iter().map(|second| second.attempts).sum();
                row.check("attempts_at_280", f64::from(attempts) / 900.0);
            }
        }
    }
}

/// What the row asks to beat: with a budget that successes fill it recovers, whatever the ratio.
#[test]
fn m02_a_budget_that_successes_fill_cures_it() {
    let (m01, row) = (row("M01"), row("M02"));
    let lasts = 600 * SECOND;
    for ratio in row.parameters("ratio") {
        let budget = budget::Config::new(Ratio::new(ratio).unwrap());
        for seed in 0..10 {
            let config = impatient().budget(Some(budget));
            let client = outage(&m01, config, row.parameter("lam"), lasts, seed);
            assert!(recovers(&client, lasts), "{ratio}, seed {seed}");
        }
    }
}

/// Clients with five retries before one worker of ten requests a second (Isaacs et al., HotOS 2025):
/// half of its load, then ten minutes of one and a half times it, then half again. Whether it is over
/// half an hour later.
fn overload_recovers(config: Config, queue: u32, seed: u64) -> bool {
    let minutes = |minutes: u32| 60 * SECOND * minutes;
    let load = Curve::level(5.0)
        .jump(minutes(5), 15.0)
        .jump(minutes(15), 5.0);
    let mut model = Model::new(seed);
    let service = Service::new(Law::exponential(SECOND / 10))
        .workers(1)
        .queue(queue);
    let service = model.service(service);
    let config = config.deadline(deadline::Config::default().attempt(5 * SECOND));
    let through = model.upstream(config, &[service]).unwrap();
    let client = model.client(Client::open(through, load));
    let report = model.run(minutes(45)).unwrap();
    recovers(report.client(client), minutes(45))
}

/// The law of row M04: a queue keeps a collapse alive if what waits in it takes longer than callers
/// wait for.
#[test]
fn m04_a_queue_that_is_longer_than_patience_keeps_an_overload_alive() {
    let row = row("M04");
    let (rate, patience) = (row.parameter("mu"), row.parameter("timeout_s"));
    assert_eq!(rate * patience, row.expected("Q_star"));
    let stubborn = || {
        let at_once = retry::Config::attempts(6).backoff(Duration::ZERO);
        Config::new("up").retry(at_once).budget(None)
    };
    for seed in 0..10 {
        assert!(
            overload_recovers(stubborn(), 35, seed),
            "a short queue, seed {seed}"
        );
        assert!(
            !overload_recovers(stubborn(), 150, seed),
            "a long queue, seed {seed}"
        );
    }
}

#[test]
fn the_default_retries_and_budget_end_with_an_overload_whatever_the_queue() {
    for seed in 0..10 {
        let config = Config::new("up").retry(retry::Config::default());
        assert!(overload_recovers(config, 150, seed), "seed {seed}");
    }
}
