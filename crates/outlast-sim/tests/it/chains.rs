//! Services that call services.

use std::time::Duration;

use outlast_core::retry;
use outlast_core::upstream::Config;
use outlast_sim::{Client, Gone, Law, Model, Service, ServiceId};

use crate::rows::row;

const MS: Duration = Duration::from_millis(1);

/// A chain of services, each of which calls the next; the last one fails always. How many attempts
/// reach it for one call at the front.
fn attempts_at_the_bottom(depth: usize, retries: u32) -> u64 {
    let mut model = Model::new(1);
    let config = || {
        let at_once = retry::Config::attempts(retries + 1).backoff(Duration::ZERO);
        Config::new("next").retry(at_once).budget(None)
    };
    let work = Law::fixed(MS / 100);
    let bottom: ServiceId = model.service(Service::new(work.clone()).failures(1.0));
    let mut next = bottom;
    for _ in 1..depth {
        let through = model.upstream(config(), &[next]).unwrap();
        next = model.service(Service::new(work.clone()).calls(through));
    }
    let through = model.upstream(config(), &[next]).unwrap();
    let client = model.client(Client::steady(through, Duration::from_secs(3600)));
    let report = model.run(Duration::from_secs(1)).unwrap();
    assert_eq!(
        (report.client(client).calls, report.client(client).good),
        (1, 0)
    );
    report.service(bottom).came
}

#[test]
fn r01_retries_multiply_along_a_chain() {
    let row = row("R01");
    let depths = row.parameters("depth");
    let expected = row.lists("attempts_at_bottom");
    for (depth, expected) in depths.into_iter().zip(expected) {
        for (retries, expected) in row.parameters("retries").into_iter().zip(expected) {
            let found = attempts_at_the_bottom(depth as usize, retries as u32);
            assert_eq!(
                found as f64, expected,
                "{depth} deep with {retries} retries"
            );
        }
    }
}

#[test]
fn a_call_that_is_given_up_gives_its_own_calls_up_where_services_stop() {
    let came = |gone: Gone| {
        let mut model = Model::new(1);
        let slow = Service::new(Law::fixed(1000 * MS)).workers(1).gone(gone);
        let bottom = model.service(slow);
        let config = || Config::new("next").budget(None);
        let through = model.upstream(config(), &[bottom]).unwrap();
        let middle = Service::new(Law::fixed(MS))
            .workers(1)
            .gone(gone)
            .calls(through);
        let middle = model.service(middle);
        let through = model.upstream(config(), &[middle]).unwrap();
        let client = Client::steady(through, 200 * MS).deadline(100 * MS);
        let client = model.client(client);
        let report = model.run(Duration::from_secs(1)).unwrap();
        assert_eq!(report.client(client).good, 0);
        (report.service(bottom).came, report.service(bottom).wasted)
    };
    // Each of five is given up in time for the next one.
    assert_eq!(came(Gone::Stops), (5, 0));
    // The one worker in the middle waits for the bottom, whose answer nobody wants.
    let (came, wasted) = came(Gone::WorksOn);
    assert_eq!(came, wasted);
}
