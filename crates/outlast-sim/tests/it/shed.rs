//! A measured limit before a service that becomes slow, and well again.

use std::time::Duration;

use outlast_core::upstream::Config;
use outlast_core::{deadline, retry, shed};
use outlast_sim::{Client, Curve, Law, Model, Second, Service};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
/// Calls a second: three quarters of what eight workers can do.
const RATE: f64 = 300.0;
/// The slow minute, at a tenth of the speed.
const BEGINS: usize = 40;
const ENDS: usize = 100;
const SPEED: f64 = 0.1;

/// Every second of five minutes, a minute of which is slow.
fn slow_minute(seed: u64) -> Vec<Second> {
    let speed = Curve::level(1.0)
        .jump(SECOND * BEGINS as u32, SPEED)
        .jump(SECOND * ENDS as u32, 1.0);
    let mut model = Model::new(seed);
    let service = Service::new(Law::exponential(20 * MS)).workers(8);
    let service = model.service(service.speed(speed));
    let config = Config::new("page")
        .deadline(deadline::Config::default().attempt(SECOND))
        .retry(retry::Config::attempts(3))
        .shed(shed::Config::default());
    let through = model.upstream(config, &[service]).unwrap();
    let users = Client::open(through, Curve::level(RATE)).deadline(4 * SECOND);
    let client = model.client(users);
    let report = model.run(300 * SECOND).unwrap();
    report.client(client).seconds.clone()
}

fn share(seconds: &[Second]) -> f64 {
    let sum = |count: fn(&Second) -> u32| seconds.iter().map(count).sum::<u32>();
    f64::from(sum(|second| second.good)) / f64::from(sum(|second| second.calls))
}

/// Its limit comes back at once, in every run, and stays.
#[test]
fn the_limit_returns_when_a_slow_service_is_well_again() {
    for seed in 1..=20 {
        let seconds = slow_minute(seed);
        let soon = share(&seconds[ENDS + 10..ENDS + 30]);
        let later = share(&seconds[ENDS + 100..ENDS + 200]);
        assert!(soon >= 0.97, "{soon} ten seconds later, seed {seed}");
        assert!(
            later >= 0.985,
            "{later} a hundred seconds later, seed {seed}"
        );
    }
}

/// At a tenth of the speed eight workers still take eight calls at once.
#[test]
fn a_slow_service_is_kept_busy() {
    let mut sum = 0.0;
    for seed in 1..=20 {
        let slow = &slow_minute(seed)[ENDS - 30..ENDS];
        let capacity = 8.0 / 0.02 * SPEED;
        let good: u32 = slow.iter().map(|second| second.good).sum();
        let used = f64::from(good) / 30.0 / capacity;
        assert!(used >= 0.4, "{used} of the capacity, seed {seed}");
        sum += used;
    }
    assert!(sum / 20.0 >= 0.85, "{} of the capacity", sum / 20.0);
}
