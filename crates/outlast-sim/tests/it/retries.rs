//! What retries cost, and what bounds them.

use std::time::Duration;

use outlast_core::backoff::{Backoff, Jitter};
use outlast_core::budget;
use outlast_core::ratio::Ratio;
use outlast_core::retry;
use outlast_core::upstream::Config;
use outlast_sim::{
    Allowance, Client, ClientReport, Curve, Deposit, Law, Model, Plain, Service, UpstreamId, Wait,
};

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

/// Clients that call so often, each with a memory of its own, for twenty seconds (Brooker, "Fixing
/// retries with token buckets and circuit breakers", 2022).
fn strategies(clients: u32, rate: f64, failures: f64, plain: &Plain) -> (f64, f64) {
    let mut model = Model::new(42);
    let network = Law::exponential(10 * MS);
    let service = model.service(Service::new(network).failures(failures));
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let through = model.plain(plain.clone(), &[service]);
            model.client(Client::open(through, Curve::level(rate)))
        })
        .collect();
    let report = model.run(Duration::from_secs(20)).unwrap();
    let sum = |of: fn(&ClientReport) -> u64| -> f64 {
        clients
            .iter()
            .map(|client| of(report.client(*client)))
            .sum::<u64>() as f64
    };
    let calls = sum(|client| client.calls);
    (
        sum(|client| client.good) / calls,
        sum(|client| client.attempts) / calls,
    )
}

#[test]
fn b001_to_b100_retries_buckets_and_breakers_of_others() {
    for id in ["B001", "B010", "B050", "B100"] {
        let row = row(id);
        let three = Plain::new().attempts(row.parameter("retries") as u32 + 1);
        let tokens = Allowance::Tokens {
            deposit: row.parameter("deposit_per_call_start"),
            per: Deposit::Call,
            cost: 1.0,
            most: row.parameter("bucket"),
        };
        let breaker = Allowance::FailingBelow(row.parameter("breaker_threshold"));
        for (name, plain) in [
            ("none", Plain::new()),
            ("three", three.clone()),
            ("adaptive", three.clone().allowance(tokens)),
            ("breaker", three.clone().allowance(breaker)),
        ] {
            let clients = row.parameter("clients") as u32;
            let (rate, failures) = (row.parameter("rate_per_client"), row.failure_rate());
            let (success, load) = strategies(clients, rate, failures, &plain);
            let expected = |what: &str| row.object(name)[what].as_f64().unwrap();
            for (what, found) in [("success", success), ("load", load)] {
                let off = found - expected(what);
                let allowed = row.tolerance(&format!("abs_{what}"));
                assert!(
                    off.abs() <= allowed,
                    "{id} {name} {what}: {found}, {off:+.4}"
                );
            }
        }
    }
}

/// With few calls each, clients live on the tokens that they begin with.
#[test]
fn b201_many_small_clients_never_empty_their_buckets() {
    let row = row("B201");
    let tokens = Allowance::Tokens {
        deposit: 0.1,
        per: Deposit::Call,
        cost: 1.0,
        most: 5.0,
    };
    let breaker = Allowance::FailingBelow(0.1);
    for (name, allowance) in [("adaptive", tokens), ("breaker", breaker)] {
        let list = |what: &str| -> Vec<f64> {
            let values = row.object(name)[what].as_array().unwrap().iter();
            values.map(|value| value.as_f64().unwrap()).collect()
        };
        let expected = list("success").into_iter().zip(list("load"));
        for (clients, (success, load)) in row.parameters("clients").into_iter().zip(expected) {
            let plain = Plain::new().attempts(4).allowance(allowance);
            let found = strategies(clients as u32, 100.0 / clients, 0.5, &plain);
            let off = (found.0 - success, found.1 - load);
            let fits = off.0.abs() <= row.tolerance("abs_success")
                && off.1.abs() <= row.tolerance("abs_load");
            assert!(fits, "{name}, {clients} clients: {found:?}");
        }
    }
}

/// Clients with a backoff between attempts before a dead dependency ("What is backoff for?", Brooker,
/// 2022): it slows down whoever waits for an answer before he goes on, and nobody else. One who does
/// makes his next call when it is due, and his calls take longer than that. The network is passed
/// twice.
#[test]
fn b202_backoff_bounds_only_clients_that_wait() {
    let row = row("B202");
    let (clients, rate) = (row.parameter("clients"), row.parameter("rate"));
    let lasts = row.seconds("T_s");
    let backoff = Backoff::exponential(100 * MS).jitter(Jitter::None);
    let plain = Plain::new().attempts(4).wait(Wait::Backoff(backoff));
    let attempts = |client: fn(UpstreamId, f64, f64) -> Client| {
        let mut model = Model::new(42);
        let twice = Law::exponential(20 * MS);
        let service = model.service(Service::new(twice).failures(1.0));
        let through = model.plain(plain.clone(), &[service]);
        let client = model.client(client(through, clients, rate));
        let report = model.run(lasts).unwrap();
        let client = report.client(client);
        assert_eq!(client.good, 0);
        let load = client.amplification() / row.expected("load") - 1.0;
        assert!(load.abs() <= row.tolerance("rel"), "{load}");
        client.attempts as f64 / lasts.as_secs_f64()
    };
    let open = |through, clients, rate| Client::open(through, Curve::level(clients * rate));
    row.check("unbounded_rps", attempts(open));
    let serial =
        |through, clients, _| Client::closed(through, clients as u32, Law::fixed(Duration::ZERO));
    row.check("serial_rps", attempts(serial));
}

/// Calls before a dead dependency, so many a second for so long.
fn before_the_dead(plain: Plain, calls: f64) -> ClientReport {
    let mut model = Model::new(42);
    let service = model.service(Service::new(Law::exponential(10 * MS)).failures(1.0));
    let through = model.plain(plain, &[service]);
    let client = model.client(Client::open(through, Curve::level(1000.0)));
    let report = model.run(Duration::from_secs_f64(calls / 1000.0)).unwrap();
    report.client(client).clone()
}

#[test]
fn r03_a_budget_that_calls_fill_goes_on_before_a_dead_dependency() {
    let row = row("R03");
    let tokens = Allowance::Tokens {
        deposit: row.parameter("ratio"),
        per: Deposit::Call,
        cost: 1.0,
        most: row.parameter("bucket"),
    };
    let plain = Plain::new().attempts(4).allowance(tokens);
    let client = before_the_dead(plain, row.parameter("requests"));
    let off = client.amplification() - row.expected("amplification");
    assert!(off.abs() <= row.tolerance("abs"), "{off}");
}

#[test]
fn r05_three_attempts_with_and_without_a_budget() {
    let row = row("R05");
    let three = Plain::new().attempts(row.parameter("attempts") as u32);
    let tokens = Allowance::Tokens {
        deposit: row.parameter("ratio"),
        per: Deposit::Call,
        cost: 1.0,
        most: 10.0,
    };
    row.check(
        "no_budget",
        before_the_dead(three.clone(), 1e5).amplification(),
    );
    let bounded = before_the_dead(three.allowance(tokens), 1e5);
    row.check("with_budget", bounded.amplification());
}

#[test]
fn r06_grpcs_throttle_before_a_dead_server() {
    let row = row("R06");
    let throttle = Allowance::AboveHalf {
        deposit: row.parameter("tokenRatio"),
        most: row.parameter("maxTokens"),
    };
    let plain = Plain::new().attempts(row.parameter("maxAttempts") as u32);
    // One after the other.
    let mut model = Model::new(42);
    let service = model.service(Service::new(Law::fixed(MS)).failures(1.0));
    let through = model.plain(plain.allowance(throttle), &[service]);
    let client = model.client(Client::steady(through, 100 * MS));
    let report = model.run(100 * MS * row.parameter("calls") as u32).unwrap();
    let client = report.client(client);
    assert_eq!(
        (client.attempts - client.calls) as f64,
        row.expected("total_retries")
    );
}

#[test]
fn r07_the_quota_of_the_aws_sdks_before_a_dead_server() {
    let row = row("R07");
    for (cost, retries) in [
        ("cost", "retries_nontimeout"),
        ("timeout_cost", "retries_timeout"),
        ("v21_cost", "retries_v21_transient"),
        ("v21_throttle_cost", "retries_v21_throttle"),
    ] {
        let quota = Allowance::Tokens {
            deposit: 1.0,
            per: Deposit::Success,
            cost: row.parameter(cost),
            most: row.parameter("capacity"),
        };
        let client = before_the_dead(Plain::new().attempts(3).allowance(quota), 1000.0);
        assert_eq!(
            (client.attempts - client.calls) as f64,
            row.expected(retries),
            "{cost}"
        );
    }
}
