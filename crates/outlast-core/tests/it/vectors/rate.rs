//! Rate limiters, on [`Rate`] itself.

use std::num::NonZeroU32;
use std::time::Duration;

use outlast_core::rate::{Config, Rate};
use outlast_core::time::Time;

use super::{Case, DAY, Fields};

pub(super) fn replay(case: &Case<'_>) {
    let limit = limit(case);
    let config = Config::new(limit.calls, limit.per)
        .burst(limit.burst)
        .wait(limit.wait);
    let rate = Rate::new(config).expect("valid settings");
    let mut now = Time::ZERO;
    for step in &case.steps {
        now = step.at();
        reserve(&rate, step, now);
    }
    let interval = limit.per / limit.calls;
    if case.expect.has("available") {
        case.expect
            .expect("available", available(&rate, &limit, interval, now));
    } else if case.expect.has("next_free_ms") {
        let next = now + rate.admit(now).expect("any wait will do");
        case.expect.expect("next_free_ms", super::millis(next));
    }
}

/// A peer's limit in our terms.
struct Limit {
    calls: u32,
    per: Duration,
    burst: u32,
    wait: Duration,
}

fn limit(case: &Case<'_>) -> Limit {
    let peer = &case.config;
    let kind = peer.optional("kind");
    match (case.profile, kind) {
        ("failsafe", Some("smooth")) => Limit {
            calls: 1,
            per: peer.millis("interval_ms"),
            burst: 1,
            wait: DAY,
        },
        ("failsafe", Some("bursty")) => {
            let calls = peer.required("permits");
            Limit {
                calls,
                per: peer.millis("period_ms"),
                burst: calls,
                wait: DAY,
            }
        }
        ("resilience4j", None) => {
            let calls = peer.required("limit");
            Limit {
                calls,
                per: Duration::from_nanos(peer.required("period_ns")),
                burst: calls,
                wait: Duration::from_nanos(peer.required("timeout_ns")),
            }
        }
        (_, Some(other)) => panic!("unknown kind {other}"),
        _ => case.unknown_profile(),
    }
}

/// Asks for several calls at once; a wait of -1 is a refusal.
fn reserve(rate: &Rate, step: &Fields<'_>, now: Time) {
    let op: &str = step.required("op");
    assert_eq!(op, "reserve", "{}", step.place);
    let calls = NonZeroU32::new(step.required("permits")).expect("at least one call");
    let wait = rate.admit_many(calls, now);
    let nanos = wait.map_or(-1, |wait| wait.as_nanos() as i64);
    let expect = step.object("expect").expect("an expectation");
    expect.expect("wait_ns", nanos);
    expect.expect("wait_ms", if nanos < 0 { -1 } else { nanos / 1_000_000 });
}

/// How many calls could be made now; below zero, how many are reserved ahead.
fn available(rate: &Rate, limit: &Limit, interval: Duration, now: Time) -> i64 {
    let mut free = 0;
    loop {
        let wait = match rate.admit(now) {
            Ok(Duration::ZERO) => {
                free += 1;
                continue;
            }
            Ok(wait) => wait,
            Err(rejection) => rejection.retry_after.expect("a hint") + limit.wait,
        };
        let ahead = wait.as_nanos().div_ceil(interval.as_nanos()) as i64;
        return if free > 0 { free } else { 1 - ahead };
    }
}
