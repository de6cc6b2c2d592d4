//! Calls that are let in, wait, or are refused by throttle and shedder.

use std::time::Duration;

use outlast_core::call::{AttemptId, Call, Request, Step};
use outlast_core::outcome::Outcome;
use outlast_core::reject::{Reason, Rejection};
use outlast_core::shed::{self, Limit, throttle};
use outlast_core::tier::Tier;
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Upstream};
use outlast_core::{rate, retry};

const MS: Duration = Duration::from_millis(1);

fn at(millis: u64) -> Time {
    Time::from_millis(1_000 + millis)
}

fn upstream(config: Config) -> Upstream {
    Upstream::new(config, 1).unwrap()
}

fn shedding(limit: u32, queue: u32) -> Config {
    Config::new("up").shed(shed::Config::new(Limit::fixed(limit)).queue(queue))
}

fn call(upstream: &Upstream, tier: Tier, seed: u64) -> Call<&Upstream> {
    Call::new(upstream, Request::new(seed).tier(tier), at(0))
}

fn begun(call: &mut Call<&Upstream>, now: Time) -> AttemptId {
    match call.step(now) {
        Step::Attempt(attempt) => attempt.id,
        other => panic!("no attempt but {other:?}"),
    }
}

fn refused(call: &mut Call<&Upstream>, now: Time) -> Rejection {
    match call.step(now) {
        Step::Reject(rejection) => rejection,
        other => panic!("not refused but {other:?}"),
    }
}

#[test]
fn calls_beyond_the_limit_wait_and_those_beyond_the_queue_are_shed() {
    let up = upstream(shedding(1, 1));
    let [mut first, mut second, mut third] = [1, 2, 3].map(|seed| call(&up, Tier::Important, seed));
    let id = begun(&mut first, at(0));
    assert!(matches!(second.step(at(0)), Step::Wait { .. }));
    assert!(second.ticket().is_some_and(|ticket| !ticket.is_granted()));
    assert_eq!(refused(&mut third, at(0)).reason, Reason::Shed);
    assert_eq!(up.stats(at(0)).rejected(Reason::Shed), 1);
    first.outcome(id, Outcome::Success, at(10));
    assert!(second.ticket().unwrap().is_granted());
    let id = begun(&mut second, at(10));
    second.outcome(id, Outcome::Success, at(20));
    assert!(matches!(second.step(at(20)), Step::Done { .. }));
    let stats = up.stats(at(20)).shed.unwrap();
    assert_eq!((stats.in_flight, stats.queued, stats.admitted), (0, 0, 2));
}

#[test]
fn the_lowest_tier_gives_way_in_the_queue() {
    let up = upstream(shedding(1, 1));
    let mut first = call(&up, Tier::Important, 1);
    let id = begun(&mut first, at(0));
    let mut optional = call(&up, Tier::Optional, 2);
    assert!(matches!(optional.step(at(0)), Step::Wait { .. }));
    let mut critical = call(&up, Tier::Critical, 3);
    assert!(matches!(critical.step(at(0)), Step::Wait { .. }));
    assert_eq!(refused(&mut optional, at(0)).reason, Reason::Shed);
    first.outcome(id, Outcome::Success, at(5));
    begun(&mut critical, at(5));
}

#[test]
fn a_permit_is_held_over_retries_and_by_open_answers() {
    let up = upstream(shedding(1, 0).retry(retry::Config::attempts(2).backoff(10 * MS)));
    let in_flight = || up.stats(at(0)).shed.unwrap().in_flight;
    let mut one = call(&up, Tier::Important, 1);
    let id = begun(&mut one, at(0));
    one.outcome(id, Outcome::Transient, at(1));
    let Step::Wait { until } = one.step(at(1)) else {
        panic!("no backoff");
    };
    assert_eq!(in_flight(), 1);
    let id = begun(&mut one, until);
    let open = one.open(id, until).unwrap();
    assert!(matches!(one.step(until), Step::Done { .. }));
    drop(one);
    assert_eq!(in_flight(), 1, "the answer is still being read");
    up.close(open, Outcome::Success, until);
    assert_eq!(in_flight(), 0);
}

#[test]
fn a_call_that_waits_goes_away_or_runs_out_of_time() {
    let up = upstream(shedding(1, 5));
    let mut first = call(&up, Tier::Important, 1);
    let _running = begun(&mut first, at(0));
    let mut gone = call(&up, Tier::Important, 2);
    assert!(matches!(gone.step(at(0)), Step::Wait { .. }));
    drop(gone);
    assert_eq!(up.stats(at(0)).shed.unwrap().queued, 0);
    let request = Request::new(3).deadline(at(50));
    let mut late = Call::new(&up, request, at(0));
    let Step::Wait { until } = late.step(at(0)) else {
        panic!("it does not wait");
    };
    assert!(until <= at(50));
    let reason = refused(&mut late, until).reason;
    assert!(
        [Reason::Shed, Reason::Deadline].contains(&reason),
        "{reason:?}"
    );
    assert_eq!(up.stats(at(50)).shed.unwrap().queued, 0);
}

#[test]
fn what_the_rate_limit_refuses_returns_the_permit() {
    let second = 1_000 * MS;
    let up = upstream(shedding(5, 0).rate(rate::Config::new(1, second).burst(1)));
    let mut first = call(&up, Tier::Important, 1);
    begun(&mut first, at(0));
    let mut second = call(&up, Tier::Important, 2);
    assert_eq!(refused(&mut second, at(0)).reason, Reason::Rate);
    assert_eq!(up.stats(at(0)).shed.unwrap().in_flight, 1);
}

#[test]
fn in_shadow_mode_nobody_is_refused_and_all_is_counted() {
    let shed = shed::Config::new(Limit::fixed(1)).queue(0).enforce(false);
    let up = upstream(Config::new("up").shed(shed));
    let mut calls: Vec<_> = (0..3)
        .map(|seed| call(&up, Tier::Important, seed))
        .collect();
    for call in &mut calls {
        begun(call, at(0));
    }
    let stats = up.stats(at(0));
    assert_eq!(stats.would_reject(Reason::Shed), 2);
    assert_eq!(stats.shed.unwrap().in_flight, 3);
    drop(calls);
    assert_eq!(up.stats(at(0)).shed.unwrap().in_flight, 0);
}

#[test]
fn a_dependency_that_refuses_everything_is_throttled_lowest_tier_first() {
    let up = upstream(Config::new("up").throttle(throttle::Config::default()));
    let run = |tier: Tier, seed: u64| {
        let mut call = call(&up, tier, seed);
        match call.step(at(seed)) {
            Step::Attempt(attempt) => {
                let overload = Outcome::Overload { retry_after: None };
                call.outcome(attempt.id, overload, at(seed));
                true
            }
            Step::Reject(rejection) => {
                assert_eq!(rejection.reason, Reason::Throttled);
                false
            }
            other => panic!("{other:?}"),
        }
    };
    let tiers = [Tier::Critical, Tier::Optional];
    let mut sent = [0; 2];
    for seed in 0..2_000 {
        let which = (seed % 2) as usize;
        sent[which] += usize::from(run(tiers[which], seed));
    }
    assert!(sent[1] < 200, "{sent:?} of a thousand each");
    assert!(sent[0] > sent[1], "{sent:?}");
    let stats = up.stats(at(2_000));
    assert!(stats.rejected(Reason::Throttled) > 1_000);
    assert_eq!(stats.throttle.unwrap().accepts, 0);
}
