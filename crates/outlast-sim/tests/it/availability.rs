//! How often something works, how soon that is noticed, and by what chance it is not.

use std::time::Duration;

use outlast_core::ratio::Ratio;
use outlast_core::upstream::Config;
use outlast_core::{breaker, deadline, retry, window};
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

/// The law of the rows, `U = beta u + ((1 - beta) u)^2`.
fn of_two(single: f64, common: f64) -> f64 {
    common * single + ((1.0 - common) * single).powi(2)
}

/// Within four standard errors of as many calls.
fn check_share(what: &str, found: f64, expected: f64, calls: f64) {
    let error = (expected * (1.0 - expected) / calls).sqrt();
    assert!(
        (found - expected).abs() <= 4.0 * error,
        "{what}: {found} for {expected}, give or take {error}"
    );
}

#[test]
fn v01_two_independent_providers() {
    let row = row("V01");
    let single = 1.0 - row.parameter("a");
    let common = row.parameter("common_cause_beta");
    let off = 1.0 - of_two(single, common) - row.expected("availability");
    assert!(off.abs() <= row.tolerance("abs"), "{off}");
    // Thirty times as bad, so that a million calls see a thousand failures; all of it takes long.
    let calls = sized(1e6, 2e7);
    let single = sized(30.0, 1.0) * single;
    let found = unavailability(single, common, calls);
    check_share("independent", found, of_two(single, common), calls);
}

#[test]
fn v02_two_providers_with_a_cause_in_common() {
    let row = row("V02");
    let single = 1.0 - row.parameter("a");
    let cases = row.parameters("beta").into_iter();
    for (common, expected) in cases.zip(row.all_expected("availability")) {
        let off = 1.0 - of_two(single, common) - expected;
        assert!(off.abs() <= row.tolerance("abs"), "{common}: {off}");
        let calls = sized(2e6, 4e7);
        let found = unavailability(single, common, calls);
        check_share("in common", found, of_two(single, common), calls);
    }
}

/// Akka's fit of the normal distribution by a logistic one: the deviation at which `phi` is reached.
fn akkas_deviation(phi: f64) -> f64 {
    let reached = |deviation: f64| {
        let e = (-deviation * (1.5976 + 0.070_566 * deviation * deviation)).exp();
        -(e / (1.0 + e)).log10()
    };
    let (mut low, mut high) = (0.0, 20.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if reached(middle) < phi {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// When a phi accrual detector suspects somebody whose heartbeats are normal: by the quantiles of the
/// simulator, whose lognormal law is the exponential of a normal one.
#[test]
fn v04_phi_accrual_by_the_normal_law_and_by_akkas() {
    let row = row("V04");
    let law = Law::lognormal(SECOND, 1.0).unwrap();
    let near = |what: &str, found: f64, expected: f64| {
        let off = found - expected;
        assert!(off.abs() <= row.tolerance("abs"), "{what}: {found}");
    };
    for (at, phi) in row.parameters("phi").into_iter().enumerate() {
        let quantile = law.quantile(1.0 - 10_f64.powf(-phi));
        let deviation = quantile.as_secs_f64().ln();
        near("z", deviation, row.all_expected("z_exact")[at]);
        let time = row.parameter("mean_s") + deviation * row.parameter("sd_s");
        near("t", time, row.all_expected("t_exact_s")[at]);
        let expected = row.all_expected("z_akka_logistic")[at];
        near("akka", akkas_deviation(phi), expected);
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

/// How the calls of a client went, one after the other, before a service that fails so often.
fn outcomes(failures: f64, calls: u32) -> Vec<bool> {
    let mut model = Model::new(42);
    let service = model.service(Service::new(Law::fixed(MS)).failures(failures));
    let through = model.upstream(Config::new("canary"), &[service]).unwrap();
    let client = model.client(Client::steady(through, SECOND));
    let report = model.run(SECOND * calls).unwrap();
    let seconds = report.client(client).seconds.iter();
    seconds.map(|second| second.good == 1).collect()
}

/// Wald's sequential test between two shares of failures: what a failure and a success add, and the
/// bounds at which it says the first share or the second.
struct Sequential {
    failure: f64,
    success: f64,
    no: f64,
    yes: f64,
}

impl Sequential {
    fn new([low, high]: [f64; 2], [alpha, beta]: [f64; 2]) -> Sequential {
        Sequential {
            failure: (high / low).ln(),
            success: ((1.0 - high) / (1.0 - low)).ln(),
            no: (beta / (1.0 - alpha)).ln(),
            yes: ((1.0 - beta) / alpha).ln(),
        }
    }

    /// Wald's approximation of how many calls it takes, if so many say the second: as if it ended on a
    /// bound and never beyond.
    fn wald(&self, share: f64, says_yes: f64) -> f64 {
        let bound = says_yes * self.yes + (1.0 - says_yes) * self.no;
        bound / (share * self.failure + (1.0 - share) * self.success)
    }

    /// Exactly how many calls it takes, by the probabilities of all numbers of failures.
    fn exact(&self, share: f64) -> f64 {
        let (mut alive, mut calls, mut takes) = (vec![1.0], 0.0, 0.0);
        while alive.iter().sum::<f64>() > 1e-9 {
            takes += alive.iter().sum::<f64>();
            calls += 1.0;
            let mut next = vec![0.0; alive.len() + 1];
            for (failures, probability) in alive.iter().enumerate() {
                next[failures] += probability * (1.0 - share);
                next[failures + 1] += probability * share;
            }
            for (failures, probability) in next.iter_mut().enumerate() {
                let failures = failures as f64;
                let sum = failures * self.failure + (calls - failures) * self.success;
                *probability *= f64::from(u8::from(sum > self.no && sum < self.yes));
            }
            let last = next.iter().rposition(|probability| *probability > 0.0);
            next.truncate(last.map_or(0, |last| last + 1));
            alive = next;
        }
        takes
    }

    /// Makes it again and again: how many calls it takes in the mean, and how often it says the second.
    fn run(&self, outcomes: &[bool]) -> (f64, f64) {
        let (mut sum, mut begun, mut calls) = (0.0, 0, Vec::new());
        let mut found = 0;
        for (at, good) in outcomes.iter().enumerate() {
            sum += if *good { self.success } else { self.failure };
            if sum <= self.no || sum >= self.yes {
                calls.push(at + 1 - begun);
                found += u32::from(sum >= self.yes);
                (sum, begun) = (0.0, at + 1);
            }
        }
        let tests = calls.len() as f64;
        let calls: usize = calls.iter().sum();
        (calls as f64 / tests, f64::from(found) / tests)
    }
}

/// The row has Wald's approximation, which is short by up to 31 % where one failure goes half of the
/// way to a bound: it is what the formula says, and the simulated test is checked by the exact chain.
#[test]
fn v08_a_sequential_test_finds_a_bad_canary() {
    let row = row("V08");
    let shares @ [low, high] = [row.parameter("p0"), row.parameter("p1")];
    let [well, badly] = shares.map(|share| outcomes(share, 1_000_000));
    for (at, errors) in [[0.05, 0.05], [0.01, 0.05]].into_iter().enumerate() {
        let [alpha, beta] = errors;
        let test = Sequential::new(shares, errors);
        let near = |what: &str, found: f64, expected: f64, allowed: f64| {
            let off = found / expected - 1.0;
            assert!(off.abs() <= allowed, "{what}: {found} for {expected}");
        };
        let if_bad = row.all_expected("E_n_H1")[at];
        let if_well = row.all_expected("E_n_H0")[at];
        near("Wald, if bad", test.wald(high, 1.0 - beta), if_bad, 1e-3);
        near("Wald, if well", test.wald(low, alpha), if_well, 1e-3);
        let (takes, found) = test.run(&badly);
        near("if bad", takes, test.exact(high), 0.05);
        near("found", found, 1.0 - beta, 0.01);
        let (takes, found) = test.run(&well);
        near("if well", takes, test.exact(low), 0.05);
        row.near("if well", if_well, takes);
        assert!(found <= alpha, "{found}");
        assert!(takes < row.expected("fixed_sample_n"));
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
