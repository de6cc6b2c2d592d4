//! How often something works, how soon that is noticed, and by what chance it is not: the predictions of
//! `outlast_sim::slo`, and of rows, against worlds that run.

use std::time::Duration;

use outlast_core::ratio::Ratio;
use outlast_core::upstream::Config;
use outlast_core::{breaker, deadline, retry, window};
use outlast_sim::slo::{Availability, Share, parallel};
use outlast_sim::{Change, Client, Curve, Law, Model, Second, Service};

use crate::rows::{row, sized};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Two providers of this unavailability, of which a share is common to both; a call goes to the second
/// if the first one fails. How often it fails all the same.
fn unavailability(single: f64, common: f64, calls: f64) -> f64 {
    let mut model = Model::new(42);
    let provider = Service::new(Law::fixed(MS)).failures((1.0 - common) * single);
    let [first, second] = [provider.clone(), provider].map(|provider| model.service(provider));
    let once_more = retry::Config::attempts(2).backoff(Duration::ZERO);
    let config = Config::new("either").retry(once_more).budget(None);
    let either = model.upstream(config, &[first, second]).unwrap();
    let shared = Service::new(Law::fixed(MS)).failures(common * single);
    let front = model.service(shared.calls(either));
    let through = model.upstream(Config::new("front").budget(None), &[front]);
    let client = Client::open(through.unwrap(), Curve::level(1e5));
    let client = model.client(client);
    let report = model.run(Duration::from_secs_f64(calls / 1e5)).unwrap();
    let report = report.client(client);
    report.failed as f64 / report.calls as f64
}

/// Within four standard errors of as many calls.
fn check_share(what: &str, found: f64, expected: f64, calls: f64) {
    let error = (expected * (1.0 - expected) / calls).sqrt();
    assert!(
        (found - expected).abs() <= 4.0 * error,
        "{what}: {found} for {expected}, give or take {error}"
    );
}

/// What [`parallel`] says of two of them.
fn predicted(single: f64, common: f64) -> f64 {
    let [works, common] = [1.0 - single, common].map(|share| Share::new(share).unwrap());
    let provider = Availability::new(works);
    parallel(&[provider, provider], common).missing()
}

#[test]
fn v01_two_independent_providers() {
    let row = row("V01");
    let common = row.parameter("common_cause_beta");
    // Thirty times as bad, so that a million calls see a thousand failures; all of it takes long.
    let calls = sized(1e6, 2e7);
    let single = sized(30.0, 1.0) * (1.0 - row.parameter("a"));
    let found = unavailability(single, common, calls);
    check_share("independent", found, predicted(single, common), calls);
}

#[test]
fn v02_two_providers_with_a_cause_in_common() {
    let row = row("V02");
    let single = 1.0 - row.parameter("a");
    let cases = row.parameters("beta").into_iter();
    for (common, expected) in cases.zip(row.all_expected("availability")) {
        let calls = sized(2e6, 8e6);
        let found = unavailability(single, common, calls);
        check_share("in common", found, 1.0 - expected, calls);
        check_share("in common", found, predicted(single, common), calls);
    }
}

/// Minutes until so many times the errors that an objective allows have been seen within a window,
/// of a service that begins to fail when the window has passed once.
fn minutes_to_page(share: f64, minutes: f64, burn: f64, allowed: f64) -> f64 {
    let window = 60 * minutes as usize;
    let rate = 100.0;
    let mut model = Model::new(42);
    let service = model.service(Service::new(Law::fixed(MS)));
    let through = model.upstream(Config::new("up"), &[service]).unwrap();
    let client = model.client(Client::open(through, Curve::level(rate)));
    model.change(SECOND * window as u32, service, Change::Failures(share));
    // Until it should, and a tenth more.
    let lasts = 1.1 * minutes * 60.0 * burn * allowed / share;
    let report = model
        .run(Duration::from_secs_f64(window as f64 + lasts))
        .unwrap();
    let seconds = &report.client(client).seconds;
    let errors = |second: &Second| f64::from(second.calls - second.good);
    let (mut calls, mut failed) = (0.0, 0.0);
    for (at, second) in seconds.iter().enumerate() {
        calls += f64::from(second.calls);
        failed += errors(second);
        if let Some(gone) = at.checked_sub(window) {
            calls -= f64::from(seconds[gone].calls);
            failed -= errors(&seconds[gone]);
        }
        if at >= window && failed >= burn * allowed * calls {
            return (at + 1 - window) as f64 / 60.0;
        }
    }
    panic!("no page within {lasts} s");
}

#[test]
fn v05_minutes_until_a_burn_rate_pages() {
    let row = row("V05");
    // An objective of 99.9 %.
    let allowed = 0.001;
    let pages = row.parameters("windows_min").into_iter();
    let pages = pages.zip(row.parameters("burn"));
    for ((minutes, burn), expected) in pages.zip(["minutes_60m", "minutes_6h"]) {
        let expected = row.all_expected(expected);
        for (share, expected) in row.parameters("error_rate").into_iter().zip(expected) {
            let found = minutes_to_page(share, minutes, burn, allowed);
            row.near("minutes", expected, found);
        }
    }
}

#[test]
fn v09_a_timeout_at_a_quantile_cuts_what_lies_beyond_it() {
    let row = row("V09");
    let law = Law::lognormal(10 * MS, 0.5).unwrap();
    let expected = row.expected("false_timeout_rate");
    let timeout = deadline::Config::default().attempt(law.quantile(1.0 - expected));
    let mut model = Model::new(42);
    let service = model.service(Service::new(law));
    let through = model.upstream(Config::new("up").deadline(timeout), &[service]);
    let rate = 1e4;
    let client = model.client(Client::open(through.unwrap(), Curve::level(rate)));
    let requests = sized(4e6, row.parameter("requests"));
    let report = model.run(Duration::from_secs_f64(requests / rate)).unwrap();
    row.check("false_timeout_rate", 1.0 - report.client(client).success());
}

/// A breaker that looks at ten calls and trips at half of them, before a service that fails in one of
/// five: how often it trips at the end of its first window, and that is `P(Bin(10, 0.2) >= 5)`.
#[test]
fn a_breaker_with_a_short_window_trips_by_chance() {
    let (window, failures, runs) = (10, 0.2, 20_000_u32);
    let mut trips = 0;
    for seed in 0..runs {
        let mut model = Model::new(u64::from(seed));
        let service = model.service(Service::new(Law::fixed(MS)).failures(failures));
        let half = Ratio::percent(50);
        let rule = breaker::Config::failure_ratio(half, window::Window::calls(window));
        let rule = rule.min_calls(window);
        let config = Config::new("up").breaker(rule);
        let through = model.upstream(config, &[service]).unwrap();
        model.client(Client::steady(through, 10 * MS));
        let report = model.run(10 * MS * window).unwrap();
        let endpoints = &report.upstream(through).unwrap().endpoints;
        trips += endpoints[0]
            .breaker
            .as_ref()
            .map_or(0, |breaker| breaker.trips);
    }
    let share = trips as f64 / f64::from(runs);
    check_share("trips", share, 0.032_793, f64::from(runs));
}
