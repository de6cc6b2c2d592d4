//! Queues whose behaviour is known exactly.

use std::time::Duration;

use outlast_core::bulkhead;
use outlast_core::upstream::Config;
use outlast_sim::{Client, ClientReport, Curve, Law, Model, Report, Service, ServiceId};

use crate::rows::{Row, check_little, row, sized};

const SECOND: Duration = Duration::from_secs(1);

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// A client at so many calls a second before one service, for so many requests; a tenth of the time
/// is not counted.
fn run(
    config: Config,
    service: Service,
    rate: f64,
    requests: f64,
) -> (Report, ClientReport, ServiceId) {
    let mut model = Model::new(42);
    let service = model.service(service);
    let through = model.upstream(config, &[service]).unwrap();
    let client = model.client(Client::open(through, Curve::level(rate)));
    let lasts = Duration::from_secs_f64(requests / rate);
    model.warm_up(lasts / 10);
    let report = model.run(lasts).unwrap();
    check_little(&report, service);
    let client = report.client(client).clone();
    (report, client, service)
}

/// No policies, and no limit on an attempt that a long queue could reach.
fn plain() -> Config {
    Config::new("queue").deadline(outlast_core::deadline::Config::default().attempt(3600 * SECOND))
}

fn exponential(rate: f64) -> Law {
    Law::exponential(Duration::from_secs_f64(1.0 / rate))
}

#[test]
fn q01_one_worker() {
    let row = row("Q01");
    let (rate, mu) = (row.parameter("lambda_per_s"), row.parameter("mu_per_s"));
    let service = Service::new(exponential(mu)).workers(1);
    let (report, client, service) = run(plain(), service, rate, row.parameter("requests"));
    row.check("mean_s", seconds(client.latency.mean()));
    row.check("p50_s", seconds(client.latency.quantile(0.5)));
    row.check("p95_s", seconds(client.latency.quantile(0.95)));
    row.check("p99_s", seconds(client.latency.quantile(0.99)));
    let at = report.service(service);
    row.check("L", at.presence / seconds(report.measured));
    row.check("Wq_s", seconds(at.waits) / at.came as f64);
}

/// Erlang C.
fn check_workers(row: &Row, mu: f64, workers: u32) {
    let service = Service::new(exponential(mu)).workers(workers);
    let rate = row.parameter("lambda_per_s");
    let (report, client, service) = run(plain(), service, rate, row.parameter("requests"));
    let at = report.service(service);
    row.check("P_wait", at.waited as f64 / at.came as f64);
    row.check("Wq_s", seconds(at.waits) / at.came as f64);
    row.check("mean_s", seconds(client.latency.mean()));
    row.check("p99_s", seconds(client.latency.quantile(0.99)));
}

#[test]
fn q02_eight_workers() {
    let row = row("Q02");
    check_workers(&row, row.parameter("mu_per_s"), 8);
}

/// Ten workers of 100 ms at 80 %, by Erlang C.
#[test]
fn ten_workers() {
    let service = Service::new(exponential(10.0)).workers(10);
    let (report, client, service) = run(plain(), service, 80.0, 5e6);
    let at = report.service(service);
    let near = |expected: f64, found: f64| {
        assert!(
            (found / expected - 1.0).abs() <= 0.02,
            "{found} for {expected}"
        );
    };
    near(0.409_18, at.waited as f64 / at.came as f64);
    near(0.120_46, seconds(client.latency.mean()));
}

/// A squared coefficient of variation of 4, by Pollaczek and Khinchine: waits of ten times the work.
#[test]
fn times_that_vary_a_lot() {
    let share = f64::midpoint(1.0, 0.6_f64.sqrt());
    let mean = |share: f64| Duration::from_secs_f64(0.01 / (2.0 * share));
    let law = Law::hyperexponential(share, mean(share), mean(1.0 - share)).unwrap();
    let service = Service::new(law).workers(1);
    let (report, _, service) = run(plain(), service, 80.0, 8e6);
    let at = report.service(service);
    let wait = seconds(at.waits) / at.came as f64;
    assert!((wait / 0.1 - 1.0).abs() <= 0.03, "{wait}");
}

#[test]
fn q04_a_constant_time() {
    let row = row("Q04");
    let service = Service::new(Law::fixed(row.seconds("service_s"))).workers(1);
    let rate = row.parameter("lambda_per_s");
    let (report, client, service) = run(plain(), service, rate, row.parameter("requests"));
    let at = report.service(service);
    row.check("Wq_s", seconds(at.waits) / at.came as f64);
    row.check("mean_s", seconds(client.latency.mean()));
}

#[test]
fn q06_a_queue_with_a_bound() {
    let row = row("Q06");
    let cases = row.parameters("rho").into_iter().zip(row.parameters("K"));
    for ((rho, places), blocked) in cases.zip(row.all_expected("block")) {
        let service = Service::new(exponential(100.0))
            .workers(1)
            .queue(places as u32 - 1);
        let requests = sized(2e6, row.parameter("requests"));
        let (report, _, service) = run(plain(), service, 100.0 * rho, requests);
        let at = report.service(service);
        row.near("block", blocked, at.refused as f64 / at.came as f64);
    }
}

/// The bulkhead is the policy's, before a service that takes any number: Erlang B, whatever the law.
fn check_bulkhead(row: &Row, seats: u32, offered: f64, law: Law, rejected: f64) {
    let config = plain().bulkhead(bulkhead::Config::new(seats));
    let requests = sized(2e6, row.parameter("requests"));
    let (_, client, _) = run(config, Service::new(law), offered * 10.0, requests);
    let share = client.rejections() as f64 / client.calls as f64;
    row.near("reject", rejected, share);
}

#[test]
fn q07_a_bulkhead_before_any_law() {
    let row = row("Q07");
    let (seats, offered) = (row.parameter("servers"), row.parameter("offered_erlangs"));
    let laws = [exponential(10.0), Law::fixed(SECOND / 10)];
    for (law, rejected) in laws.into_iter().zip(row.all_expected("reject")) {
        check_bulkhead(&row, seats as u32, offered, law, rejected);
    }
}

#[test]
fn q08_larger_bulkheads() {
    let row = row("Q08");
    let cases = row
        .parameters("servers")
        .into_iter()
        .zip(row.parameters("offered_erlangs"));
    for ((seats, offered), rejected) in cases.zip(row.all_expected("reject")) {
        check_bulkhead(&row, seats as u32, offered, exponential(10.0), rejected);
    }
}

/// Every run above checks it; here each of two services, of which the one waits for the other.
#[test]
fn q09_littles_law_holds_for_every_service() {
    let mut model = Model::new(42);
    let inner = model.service(Service::new(exponential(100.0)).workers(2));
    let to_inner = model.upstream(plain(), &[inner]).unwrap();
    let outer = Service::new(exponential(200.0)).workers(5).queue(50);
    let outer = model.service(outer.calls(to_inner));
    let through = model.upstream(plain(), &[outer]).unwrap();
    model.client(Client::open(through, Curve::level(150.0)));
    model.warm_up(60 * SECOND);
    let report = model.run(6000 * SECOND).unwrap();
    let row = row("Q09");
    for service in [outer, inner] {
        let at = report.service(service);
        let (came, stays) = (at.came as f64, seconds(at.stays));
        let (rate, stay) = (came / seconds(report.measured), stays / at.answered as f64);
        let present = at.presence / seconds(report.measured);
        let residual = (rate * (at.answered as f64 / came) * stay - present) / present;
        let off = residual - row.expected("residual");
        assert!(off.abs() <= row.tolerance("rel"), "{at:?}: {residual}");
    }
}

#[test]
fn q10_answers_within_a_deadline() {
    let row = row("Q10");
    let service = Service::new(exponential(row.parameter("mu_per_s"))).workers(1);
    let rate = row.parameter("lambda_per_s");
    let (_, client, _) = run(plain(), service, rate, 4e6);
    let within = client.latency.within(row.seconds("deadline_s"));
    let off = within - row.expected("P_within");
    assert!(off.abs() <= row.tolerance("abs"), "{within}");
}
