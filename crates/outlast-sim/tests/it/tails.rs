//! Choices among many servers, and second attempts beside slow ones.

use std::time::Duration;

use outlast_core::balance::{self, Kind};
use outlast_core::deadline;
use outlast_core::hedge;
use outlast_core::ratio::Ratio;
use outlast_core::upstream::Config;
use outlast_sim::{Client, Curve, Law, Model, Service};

use crate::rows::{row, sized};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn q11_two_choices_among_many_queues() {
    let row = row("Q11");
    let queues = row.parameter("n") as u32;
    let two = Kind::LeastRequests { choices: 2 };
    let mean = |kind: Kind, load: f64| {
        let mut model = Model::new(42);
        let service = Service::new(Law::exponential(SECOND)).workers(1);
        let service = model.service(service.replicas(queues));
        let config = Config::new("queues")
            .balance(balance::Config::new(kind))
            .deadline(deadline::Config::default().attempt(3600 * SECOND));
        let through = model.upstream(config, &[service]).unwrap();
        let rate = Curve::level(load * f64::from(queues));
        let client = model.client(Client::open(through, rate));
        let lasts = row.seconds("time");
        model.warm_up(lasts / 2);
        let report = model.run(lasts).unwrap();
        report.client(client).latency.mean().as_secs_f64()
    };
    for (kind, name) in [(two, "p2c"), (Kind::Weighted, "random")] {
        let loads = row.parameters("lam").into_iter();
        for (load, expected) in loads.zip(row.all_expected(name)) {
            let mean = mean(kind, load);
            let off = mean / expected - 1.0;
            assert!(
                off.abs() <= row.tolerance(&format!("rel_{name}")),
                "{name}, {load}: {mean} for {expected}"
            );
        }
    }
}

/// Roots that wait for so many leaves, of which so few are slow, and how many roots are: within three
/// standard errors beside the row's tolerance.
#[test]
fn t01_one_slow_leaf_is_enough() {
    let row = row("T01");
    let cases = row.parameters("p_slow").into_iter();
    let cases = cases.zip(row.parameters("fanout"));
    let roots = [sized(10_000.0, 100_000.0), sized(1000.0, 10_000.0)];
    let expected = row.all_expected("P_any").into_iter().zip(roots);
    for ((slow, leaves), (expected, roots)) in cases.zip(expected) {
        let micros = Duration::from_micros;
        // Nearly all between one and two microseconds, the slow ones between one and two seconds.
        let law = [
            (micros(1), 1.0),
            (micros(2), slow),
            (SECOND, slow * 0.999_999),
            (2 * SECOND, slow * 1e-6),
        ];
        let mut model = Model::new(42);
        let leaf = model.service(Service::new(Law::tail(&law).unwrap()));
        let config = || Config::new("leaf").budget(None);
        let each = model.upstream(config(), &[leaf]).unwrap();
        let calls = vec![vec![each]; leaves as usize];
        let root = model.service(Service::new(Law::fixed(micros(1))).calls_at_once(&calls));
        let through = model.upstream(config(), &[root]).unwrap();
        let client = model.client(Client::open(through, Curve::level(1000.0)));
        let lasts = Duration::from_secs_f64(roots / 1000.0);
        let report = model.run(lasts).unwrap();
        let latency = &report.client(client).latency;
        let found = 1.0 - latency.within(SECOND / 2);
        let error = (expected * (1.0 - expected) / roots).sqrt();
        let off = (found - expected).abs();
        let allowed = row.tolerance("abs") + 3.0 * error;
        assert!(off <= allowed, "{leaves} leaves: {found} for {expected}");
    }
}

#[test]
fn t03_a_hedge_at_the_95th_percentile_costs_a_twentieth() {
    let row = row("T03");
    let mut model = Model::new(42);
    let work = Law::lognormal(SECOND / 100, 0.7).unwrap();
    let service = model.service(Service::new(work));
    let hedges = hedge::Config::after_quantile(Ratio::percent(95));
    let config = Config::new("up").hedge(hedges).budget(None);
    let through = model.upstream(config, &[service]).unwrap();
    let rate = 1000.0;
    let client = model.client(Client::open(through, Curve::level(rate)));
    // Until the quantile is known.
    model.warm_up(10 * SECOND);
    let lasts = row.parameter("requests") / rate + 10.0;
    let report = model.run(Duration::from_secs_f64(lasts)).unwrap();
    let extra = report.client(client).amplification() - 1.0;
    let off = extra - row.expected("extra");
    assert!(off.abs() <= row.tolerance("abs"), "{extra}");
}

/// "The Tail at Scale" (Dean and Barroso, 2013): a root waits for a thousand leaves, and a leaf that
/// is not back after 10 ms is asked once more, elsewhere. The law of the leaves is one that yields
/// the article's figures. A root is as slow as its slowest leaf, so its quantiles are those of leaves
/// far out.
#[test]
fn a_hedge_after_ten_milliseconds_cuts_the_tail_of_a_thousand_leaves() {
    let millis = |millis: u64| Duration::from_millis(millis);
    let tail = [
        (millis(1), 1.0),
        (millis(2), 0.5),
        (millis(5), 0.05),
        (millis(10), 0.02),
        (millis(64), 0.001_166_3),
        (millis(1800), 1.000_5e-6),
        (millis(20_000), 1e-8),
    ];
    let leaves = |config: Config| {
        let mut model = Model::new(42);
        let service = model.service(Service::new(Law::tail(&tail).unwrap()));
        let through = model.upstream(config.budget(None), &[service]).unwrap();
        let client = model.client(Client::open(through, Curve::level(10_000.0)));
        let report = model.run(sized(250, 400) * SECOND).unwrap();
        report.client(client).clone()
    };
    let root = |leaves: &outlast_sim::ClientReport, share: f64| {
        let leaf = leaves.latency.quantile(share.powf(1e-3));
        leaf.as_secs_f64() * 1e3
    };
    let near = |found: f64, expected: f64, allowed: f64| {
        assert!(
            (found / expected - 1.0).abs() <= allowed,
            "{found} for {expected}"
        );
    };
    let plain = leaves(Config::new("leaf"));
    near(root(&plain, 0.5), 81.9, 0.05);
    near(root(&plain, 0.99), 605.0, 0.15);
    let hedged = leaves(Config::new("leaf").hedge(hedge::Config::after(millis(10))));
    near(root(&hedged, 0.5), 14.6, 0.03);
    near(root(&hedged, 0.99), 38.7, 0.1);
    near(hedged.amplification() - 1.0, 0.02, 0.01);
}
