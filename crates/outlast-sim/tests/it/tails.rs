//! Choices among many servers, and second attempts beside slow ones.

use std::time::Duration;

use outlast_core::balance::{self, Kind};
use outlast_core::deadline;
use outlast_core::hedge;
use outlast_core::ratio::Ratio;
use outlast_core::upstream::Config;
use outlast_sim::{Client, Curve, Law, Model, Service};

use crate::rows::row;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn q11_two_choices_among_many_queues() {
    let row = row("Q11");
    let queues = row.parameter("n") as u32;
    let cases = row
        .parameters("lam")
        .into_iter()
        .zip(row.all_expected("p2c"));
    for (load, expected) in cases {
        let mut model = Model::new(42);
        let service = Service::new(Law::exponential(SECOND)).workers(1);
        let service = model.service(service.replicas(queues));
        let two = Kind::LeastRequests { choices: 2 };
        let config = Config::new("queues")
            .balance(balance::Config::new(two))
            .deadline(deadline::Config::default().attempt(3600 * SECOND));
        let through = model.upstream(config, &[service]).unwrap();
        let rate = Curve::level(load * f64::from(queues));
        let client = model.client(Client::open(through, rate));
        model.warm_up(200 * SECOND);
        let report = model.run(row.seconds("time")).unwrap();
        let mean = report.client(client).latency.mean().as_secs_f64();
        let off = mean / expected - 1.0;
        assert!(
            off.abs() <= row.tolerance("rel_p2c"),
            "{load}: {mean} for {expected}"
        );
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
        let report = model.run(400 * SECOND).unwrap();
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
