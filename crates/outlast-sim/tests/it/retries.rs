//! What retries cost, and what bounds them.

use std::time::Duration;

use outlast_core::budget;
use outlast_core::ratio::Ratio;
use outlast_core::retry;
use outlast_core::upstream::Config;
use outlast_sim::{Client, ClientReport, Curve, Law, Model, Service};

use crate::rows::row;

const MS: Duration = Duration::from_millis(1);

/// So many calls before a service that fails so often.
fn run(config: Config, failures: f64, calls: f64) -> ClientReport {
    let mut model = Model::new(42);
    let service = model.service(Service::new(Law::exponential(10 * MS)).failures(failures));
    let through = model.upstream(config, &[service]).unwrap();
    let client = model.client(Client::open(through, Curve::level(1000.0)));
    let report = model.run(Duration::from_secs_f64(calls / 1000.0)).unwrap();
    report.client(client).clone()
}

fn retries(retries: u32) -> Config {
    let at_once = retry::Config::attempts(retries + 1).backoff(Duration::ZERO);
    Config::new("up").retry(at_once)
}

#[test]
fn r02_amplification_is_that_of_independent_failures() {
    let row = row("R02");
    let cases = row.parameters("p").into_iter();
    let expected = row
        .all_expected("load")
        .into_iter()
        .zip(row.all_expected("success"));
    for (failures, (load, success)) in cases.zip(expected) {
        let unbounded = retries(row.parameter("retries") as u32).budget(None);
        let client = run(unbounded, failures, row.parameter("requests"));
        row.near("load", load, client.amplification());
        if success > 0.0 {
            row.near("success", success, client.success());
        } else {
            assert_eq!(client.good, 0);
        }
    }
}

/// The row's budget is one that a success fills: that of Outlast.
#[test]
fn r04_a_budget_before_a_dead_dependency_allows_next_to_nothing() {
    let row = row("R04");
    let budget = budget::Config::new(Ratio::new(row.parameter("ratio")).unwrap());
    let reserve = row.parameter("bucket") as u32;
    // A reserve per window of a day is one for all of the run.
    let budget = budget.reserve(reserve).window(Duration::from_secs(86_400));
    let client = run(
        retries(3).budget(Some(budget)),
        1.0,
        row.parameter("requests"),
    );
    let off = client.amplification() - row.expected("amplification");
    assert!(
        off.abs() <= row.tolerance("abs"),
        "{}",
        client.amplification()
    );
}
