//! What others bound retries and calls with, by their formulas as they are published.

use std::collections::VecDeque;
use std::time::Duration;

use outlast_core::outcome::Outcome;
use outlast_core::ratio::Ratio;
use outlast_core::shed::{Throttle, throttle};
use outlast_core::tier::Tier;
use outlast_core::time::Time;
use outlast_core::upstream::Config;
use outlast_sim::{Client, Curve, Law, Model, Service};

use crate::rows::row;

const SECOND: Duration = Duration::from_secs(1);

/// Finagle's budget, 20 % and 10 a second over ten seconds, before a dead dependency: what retries in
/// ten seconds there are, after the first ten. Deposits and withdrawals are forgotten with their
/// second.
#[test]
fn finagles_budget_before_a_dead_dependency_allows_a_fifth_and_ten_a_second() {
    let (share, least, seconds) = (0.2, 10.0, 10);
    let mut model = Model::new(42);
    let service = model.service(Service::new(Law::fixed(SECOND / 1000)).failures(1.0));
    let through = model.upstream(Config::new("up"), &[service]).unwrap();
    let client = model.client(Client::open(through, Curve::level(1000.0)));
    let report = model.run(60 * SECOND).unwrap();
    let report = report.client(client);
    assert_eq!(report.good, 0);
    let mut window: VecDeque<(f64, u32)> = VecDeque::new();
    for second in &report.seconds {
        window.truncate(seconds - 1);
        window.push_front((0.0, 0));
        // Each of them fails, and wants to be made again.
        for _ in 0..second.calls {
            window[0].0 += share;
            let deposits: f64 = window.iter().map(|second| second.0).sum();
            let retries: u32 = window.iter().map(|second| second.1).sum();
            if deposits + least * seconds as f64 >= f64::from(retries) + 1.0 {
                window[0].1 += 1;
            }
        }
        let retries: u32 = window.iter().map(|second| second.1).sum();
        assert!(f64::from(retries) <= 2100.0 * 1.05, "{retries}");
    }
    let retries: u32 = window.iter().map(|second| second.1).sum();
    assert!(f64::from(retries) >= 2100.0 * 0.95, "{retries}");
}

/// So many requests are under way, always, and all of them fail, one after the other: each is made
/// again if the budget has room, or else another one takes its place. How many of them are retries at
/// most.
fn retries_under_way(active: usize, allowed: impl Fn(usize) -> usize) -> usize {
    let mut requests = VecDeque::from(vec![false; active]);
    let (mut retries, mut most) = (0, 0);
    for _ in 0..active * 100 {
        let was_retry = requests.pop_front().unwrap();
        retries -= usize::from(was_retry);
        let is_retry = retries < allowed(requests.len() + 1);
        retries += usize::from(is_retry);
        requests.push_back(is_retry);
        most = most.max(retries);
    }
    most
}

#[test]
fn r09_envoys_budget_bounds_the_retries_under_way() {
    let row = row("R09");
    let least = row.parameter("min_concurrency") as usize;
    let percent = row.parameter("budget_percent") as usize;
    let cases = row.parameters("active").into_iter();
    for (active, expected) in cases.zip(row.all_expected("allowed")) {
        let allowed = |active: usize| least.max(active * percent / 100);
        let found = retries_under_way(active as usize, allowed);
        assert_eq!(found as f64, expected, "{active} under way");
    }
}

/// Envoy's admission control is the throttle of Outlast with `k = 1 / threshold`, and the root of it
/// by how aggressive it is not.
#[test]
fn r10_envoys_admission_control_is_a_throttle() {
    let row = row("R10");
    let config = throttle::Config::default().most(Ratio::ONE);
    let throttle = Throttle::new(config.k(1.0 / row.parameter("threshold"))).unwrap();
    let requests = row.parameter("n") as u32;
    let (now, accepted) = (Time::from_millis(1), row.parameter("success") as u32);
    for request in 0..requests {
        // A number that no probability exceeds.
        throttle.admit(Tier::Important, 1.0, now).unwrap();
        let overload = Outcome::Overload { retry_after: None };
        let is_accepted = request < accepted;
        throttle.record(
            if is_accepted {
                Outcome::Success
            } else {
                overload
            },
            now,
        );
    }
    let refused = throttle.stats(now).refused(Tier::Important);
    let cases = row.parameters("aggression").into_iter();
    for (aggression, expected) in cases.zip(row.all_expected("p")) {
        let found = refused.powf(1.0 / aggression);
        let off = found - expected;
        assert!(off.abs() <= row.tolerance("abs"), "{aggression}: {found}");
    }
}

/// The rate of a client in AWS's adaptive mode, so long after it was throttled at `w_max` calls a
/// second: that of CUBIC. A client that keeps to it makes as many calls as lie below the curve.
#[test]
fn r13_the_adaptive_mode_of_the_aws_sdks_is_cubic() {
    let row = row("R13");
    let (most, beta, scale) = (
        row.parameter("w_max"),
        row.parameter("beta"),
        row.parameter("C"),
    );
    let turn = (most * (1.0 - beta) / scale).cbrt();
    let rate = |after: f64| scale * (after - turn).powi(3) + most;
    let near = |what: &str, found: f64, expected: f64| {
        let off = found - expected;
        assert!(off.abs() <= row.tolerance("abs"), "{what}: {found}");
    };
    near("K", turn, row.expected("K_s"));
    let steps = 1000;
    let at = |step: i32| turn * f64::from(step) / f64::from(steps);
    let mut curve = Curve::level(rate(0.0));
    for step in 1..=steps {
        curve = curve.line(Duration::from_secs_f64(at(step)), rate(at(step)));
    }
    let cases = row.parameters("t_s").into_iter();
    for (after, expected) in cases.zip(row.all_expected("rate")) {
        let time = Time::ZERO + Duration::from_secs_f64(after.min(turn));
        near("rate", rate(after), expected);
        near("rate of the client", curve.at(time), expected);
    }
    let mut model = Model::new(42);
    let service = model.service(Service::new(Law::fixed(SECOND / 1000)));
    let clients: Vec<_> = (0..1000)
        .map(|_| {
            let through = model.upstream(Config::new("aws"), &[service]).unwrap();
            model.client(Client::open(through, curve.clone()))
        })
        .collect();
    let report = model.run(Duration::from_secs_f64(turn)).unwrap();
    let calls: u64 = clients.iter().map(|one| report.client(*one).calls).sum();
    let below = clients.len() as f64 * (most * turn - scale * turn.powi(4) / 4.0);
    let errors = (calls as f64 - below) / below.sqrt();
    assert!(errors.abs() < 4.0, "{calls} for {below}");
}
