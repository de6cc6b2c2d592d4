//! Availability, budgets, detection and canaries against their rows.

use std::time::Duration;

use outlast_core::rng::mix;
use outlast_sim::slo::{
    Availability, Budget, Mistakes, Phi, Rates, Share, Sprt, Verdict, alerts, parallel,
};

use crate::rows::row;

fn share(share: f64) -> Share {
    Share::new(share).unwrap()
}

/// That a number is another one, within the absolute tolerance of its row.
fn close(id: &str, expected: f64, found: f64) {
    let off = (found - expected).abs();
    assert!(
        off <= row(id).tolerance("abs"),
        "{id}: {found} for {expected}"
    );
}

#[test]
fn two_providers_are_as_available_as_what_they_share_allows() {
    let independent = row("V01");
    let unit = Availability::new(share(independent.parameter("a")));
    let both = parallel(&[unit, unit], Share::NONE);
    close("V01", independent.expected("availability"), both.as_f64());
    let common = row("V02");
    let betas = common.parameters("beta");
    for (beta, expected) in betas.into_iter().zip(common.all_expected("availability")) {
        let both = parallel(&[unit, unit], share(beta));
        close("V02", expected, both.as_f64());
    }
}

#[test]
fn silence_is_suspicious_when_the_normal_tail_says() {
    let row = row("V04");
    let phi = Phi::new(row.seconds("mean_s"), row.seconds("sd_s")).unwrap();
    let thresholds = row.parameters("phi");
    for (threshold, expected) in thresholds.iter().zip(row.all_expected("t_exact_s")) {
        let at = phi.reaches(*threshold).unwrap();
        close("V04", expected, at.as_secs_f64());
    }
}

#[test]
fn alerts_fire_after_the_minutes_of_the_workbook() {
    let row = row("V05");
    let month = Duration::from_secs(30 * 86_400);
    let budget = Budget::new(share(0.999), month).unwrap();
    let [hour, six_hours, _] = alerts(&budget).unwrap();
    for (alert, name) in [(hour, "minutes_60m"), (six_hours, "minutes_6h")] {
        for (errors, expected) in row
            .parameters("error_rate")
            .into_iter()
            .zip(row.all_expected(name))
        {
            let fires = alert.fires_after(share(errors)).unwrap();
            row.near(name, expected, fires.as_secs_f64() / 60.0);
        }
    }
    let burns = alerts(&budget).unwrap().map(|alert| alert.burn);
    for (found, expected) in burns.into_iter().zip(row.parameters("burn")) {
        row.near("burn", expected, found);
    }
}

fn canary(alpha: f64) -> Sprt {
    let row = row("V08");
    let [good, bad] = ["p0", "p1"].map(|name| share(row.parameter(name)));
    let [alpha, beta] = [share(alpha), share(0.05)];
    Sprt::new(Rates { good, bad }, Mistakes { alpha, beta }).unwrap()
}

#[test]
fn a_canary_needs_the_requests_that_wald_says() {
    let row = row("V08");
    for (at, alpha) in [0.05, 0.01].into_iter().enumerate() {
        let test = canary(alpha);
        for (name, share_name) in [("E_n_H1", "p1"), ("E_n_H0", "p0")] {
            let found = test.requests(share(row.parameter(share_name)));
            row.near(name, row.all_expected(name)[at], found);
            let exact = (found / row.all_expected(name)[at] - 1.0).abs();
            assert!(exact < 1e-3, "{name}: {found} is the same closed form");
        }
    }
    row.check("fixed_sample_n", canary(0.05).fixed());
}

/// The share of rolled back canaries, and the requests until a verdict, on average.
fn simulated(test: &Sprt, errors: f64, runs: u64) -> (f64, f64) {
    let (mut rolled_back, mut requests) = (0u64, 0u64);
    for run in 0..runs {
        let mut tally = test.begin();
        for index in 0.. {
            let draw = mix(mix(run.wrapping_add(7 << 32)).wrapping_add(index));
            requests += 1;
            match tally.record(((draw >> 11) as f64) < errors * (1u64 << 53) as f64) {
                Verdict::Continue => continue,
                Verdict::Promote => break,
                Verdict::Rollback => rolled_back += 1,
            }
            break;
        }
    }
    (
        rolled_back as f64 / runs as f64,
        requests as f64 / runs as f64,
    )
}

/// Also after overshoot, which the closed form ignores: the failure that ends a run passes the bound.
#[test]
fn ten_thousand_canaries_are_judged_as_predicted() {
    let row = row("V08");
    let test = canary(0.05);
    let (alpha, good_requests) = simulated(&test, row.parameter("p0"), 10_000);
    let (power, bad_requests) = simulated(&test, row.parameter("p1"), 10_000);
    assert!(alpha <= 0.05, "{alpha}");
    assert!(1.0 - power <= 0.05, "{power}");
    row.near("E_n_H0", row.all_expected("E_n_H0")[0], good_requests);
    row.near("E_n_H1", row.all_expected("E_n_H1")[0], bad_requests);
    let share = bad_requests / test.fixed();
    assert!(share <= 0.6, "a rollback takes {share} of the fixed size");
}
