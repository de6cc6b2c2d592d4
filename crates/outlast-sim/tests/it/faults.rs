//! What happens to services, and what comes of it.

use std::time::Duration;

use outlast_core::upstream::Config;
use outlast_sim::{Change, Client, Curve, Law, Model, Order, RunError, Service};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_service_that_refuses_does_so_at_once_and_loses_what_it_had() {
    let mut model = Model::new(1);
    let service = model.service(Service::new(Law::fixed(100 * MS)).workers(2));
    let through = model.upstream(Config::new("up"), &[service]).unwrap();
    let client = model.client(Client::steady(through, 100 * MS));
    // The call of 0.9 s is worked on then.
    model.change(950 * MS, service, Change::Refuses(true));
    model.change(1450 * MS, service, Change::Refuses(false));
    let report = model.run(2 * SECOND).unwrap();
    let client = report.client(client);
    assert_eq!((client.calls, client.good, client.failed), (20, 14, 6));
    assert_eq!(report.service(service).refused, 5);
}

#[test]
fn what_is_held_comes_through_later_and_in_its_order() {
    let mut model = Model::new(1);
    let service = model.service(Service::new(Law::fixed(10 * MS)).workers(1));
    let through = model.upstream(Config::new("up"), &[service]).unwrap();
    let client = model.client(Client::steady(through, 100 * MS));
    model.change(405 * MS, service, Change::Holds(true));
    model.change(905 * MS, service, Change::Holds(false));
    let report = model.run(SECOND).unwrap();
    let client = report.client(client);
    assert_eq!((client.calls, client.good), (10, 10));
    // The answer to that of 0.4 s, and the calls of 0.5 to 0.9 s one after the other.
    assert_eq!(client.latency.quantile(1.0).as_millis(), 505);
}

#[test]
fn one_replica_may_fail_alone() {
    let mut model = Model::new(1);
    let service = Service::new(Law::fixed(MS)).replicas(4);
    let service = model.service(service);
    let through = model.upstream(Config::new("up"), &[service]).unwrap();
    let client = model.client(Client::open(through, Curve::level(1000.0)));
    model.change_one(Duration::ZERO, service, 2, Change::Failures(1.0));
    let report = model.run(10 * SECOND).unwrap();
    let failed: Vec<_> = report
        .upstream(through)
        .unwrap()
        .endpoints
        .iter()
        .map(|one| one.transient)
        .collect();
    assert!(failed[2] > 0, "{failed:?}");
    assert_eq!(failed.iter().sum::<u64>(), failed[2]);
    assert_eq!(report.client(client).failed, failed[2]);
}

#[test]
fn a_service_that_stands_still_goes_on_when_it_is_faster() {
    let mut model = Model::new(1);
    let speed = Curve::level(1.0).jump(SECOND, 0.0).jump(2 * SECOND, 0.5);
    let service = Service::new(Law::fixed(10 * MS)).workers(1).speed(speed);
    let service = model.service(service);
    let through = model.upstream(Config::new("up"), &[service]).unwrap();
    let client = model.client(Client::steady(through, 250 * MS));
    let report = model.run(3 * SECOND).unwrap();
    let client = report.client(client);
    assert_eq!((client.calls, client.good), (12, 12));
    assert_eq!(client.latency.quantile(0.01).as_millis(), 10);
    assert_eq!(client.latency.quantile(1.0).as_millis(), 1020);
}

/// Twice the load before ten workers with an exponential time of 100 ms: what is answered within
/// twice that, as a share of the capacity. A queue without a bound serves nobody in time, the last
/// come first serve most.
#[test]
fn the_order_and_the_bound_of_a_queue_decide_what_an_overload_is_worth() {
    let goodput = |service: Service| {
        let mut model = Model::new(3);
        let service = model.service(service.workers(10));
        let through = model.upstream(Config::new("up"), &[service]).unwrap();
        let client = model.client(Client::open(through, Curve::level(200.0)));
        model.warm_up(60 * SECOND);
        let report = model.run(600 * SECOND).unwrap();
        let client = report.client(client);
        let in_time = client.good as f64 * client.latency.within(200 * MS);
        in_time / (540.0 * 100.0)
    };
    let service = || Service::new(Law::exponential(100 * MS));
    for (expected, found) in [
        (0.0, goodput(service())),
        (0.006, goodput(service().queue(30))),
        (0.642, goodput(service().queue(10))),
        (0.793, goodput(service().queue(0))),
        (0.842, goodput(service().order(Order::Lifo))),
    ] {
        assert!((found - expected).abs() <= 0.04, "{found} for {expected}");
    }
}

#[test]
fn a_run_that_would_not_end_is_given_up_with_what_to_change() {
    let model = |events, present| {
        let mut model = Model::new(1);
        let service = model.service(Service::new(Law::fixed(SECOND)).workers(1));
        let through = model.upstream(Config::new("up"), &[service]).unwrap();
        model.client(Client::open(through, Curve::level(1000.0)));
        model.most_events(events);
        model.most_present(present);
        model.run(100 * SECOND)
    };
    let error = model(1000, 10_000).unwrap_err();
    assert!(
        matches!(error, RunError::Events { most: 1000, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("run it for a shorter time"));
    let error = model(1_000_000, 1000).unwrap_err();
    assert!(
        matches!(error, RunError::Present { most: 1000, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("give calls a deadline"));
}
