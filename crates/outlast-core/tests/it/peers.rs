//! The defects that were reproduced in other Rust crates, one test each: what they get wrong must
//! stay right here.
//!
//! Kept elsewhere under a name of their own:
//! - beside the calls (`calls.rs`): hung calls that are cut from outside and never counted
//!   (failsafe, recloser, circuitbreaker-rs, tower-resilience), a failing hedge that ends a
//!   healthy primary (tower), equal jitter for every request (tower);
//! - beside the budget: truncated ratios and overdrafts (tower), a ratio that is always 1:1
//!   (tower-resilience);
//! - beside the backoff: jitter above the cap (backon, tower-resilience);
//! - beside the bulkhead: a waiter that left and keeps its place;
//! - beside the breaker: the cost of a timed window that grows with its calls, an open breaker
//!   that sleeps on a contended lock (tower-resilience), and threads that race for trials
//!   (circuitbreaker-rs);
//! - beside the rate per key: a table without a bound (governor).
//!
//! Left out are defects of features that the core does not have: adaptive limits that forget
//! cancelled calls or never probe again, and layers that strand permits in idle clones.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use outlast_core::backoff::{Backoff, Jitter};
use outlast_core::breaker::{self, Breaker, Manual, Permit, State};
use outlast_core::call::{Call, Request, Step};
use outlast_core::outcome::Outcome;
use outlast_core::ratio::Ratio;
use outlast_core::reject::{Reason, Rejection};
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Upstream};
use outlast_core::window::Window;
use outlast_core::{bulkhead, deadline, rate, retry};

use crate::world::{Reply, World, at_once};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HALF: Ratio = Ratio::percent(50);

fn breaker(config: breaker::Config) -> Breaker {
    Breaker::new(config, 1).unwrap()
}

fn upstream(config: Config) -> Upstream {
    Upstream::new(config, 1).unwrap()
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn record(breaker: &Breaker, outcome: Outcome, now: Time) {
    let permit = breaker.admit(now).unwrap();
    breaker.record(permit, outcome, Duration::ZERO, now);
}

fn fail(breaker: &Breaker, now: Time) {
    record(breaker, Outcome::Transient, now);
}

/// How many failures in a row it takes to open, at most `limit`.
fn failures_to_open(breaker: &Breaker, now: Time, limit: u64) -> u64 {
    (1..=limit)
        .find(|_| {
            fail(breaker, now);
            breaker.state(now) == State::Open
        })
        .expect("it opens")
}

/// Tripped by one failure, and half-open from one second on.
fn half_open(config: breaker::Config) -> Breaker {
    let breaker = breaker(config.or_consecutive(1).cooldown(SECOND));
    fail(&breaker, Time::ZERO);
    assert!(breaker.admit(at(999)).is_err());
    breaker
}

fn starts(world: &World<'_>) -> Vec<u64> {
    let seen = world.seen.iter();
    seen.map(|seen| seen.at.as_nanos() / 1_000_000).collect()
}

/// tower-resilience counts since the last transition: after 100,000 successes its "window of 100
/// calls" takes 100,000 failures to open. circuitbreaker-rs counts over its whole life.
#[test]
fn a_window_of_calls_slides_whatever_the_history() {
    for successes in [0, 1_000, 10_000, 100_000] {
        let config = breaker::Config::failure_ratio(HALF, Window::calls(100));
        let breaker = breaker(config.min_calls(100));
        (0..successes).for_each(|_| record(&breaker, Outcome::Success, at(0)));
        let expected = if successes == 0 { 100 } else { 50 };
        assert_eq!(failures_to_open(&breaker, at(0), 100), expected);
    }
}

/// As above, for time: yesterday's successes do not hide today's outage.
#[test]
fn a_window_of_time_slides_whatever_the_history() {
    for successes in [0, 1_000, 10_000, 100_000] {
        let window = Window::Time(10 * SECOND);
        let breaker = breaker(breaker::Config::failure_ratio(HALF, window).min_calls(100));
        (0..successes).for_each(|_| record(&breaker, Outcome::Success, at(0)));
        assert_eq!(failures_to_open(&breaker, at(10_000), 100), 100);
    }
}

/// circuitbreaker-rs never feeds the windows of its time-based policies: 100,000 failures, still
/// closed.
#[test]
fn every_rule_is_fed() {
    let time = Window::Time(10 * SECOND);
    let rules = [
        breaker::Config::consecutive(20),
        breaker::Config::failures(20, time),
        breaker::Config::failures(20, Window::calls(20)),
        breaker::Config::failure_ratio(HALF, time),
        breaker::Config::failure_ratio(HALF, Window::calls(20)),
        breaker::Config::slow_calls(Duration::ZERO, HALF, time),
        breaker::Config::slow_calls(Duration::ZERO, HALF, Window::calls(20)),
    ];
    for rule in rules {
        let breaker = breaker(rule.clone());
        for call in 1..=20 {
            let permit = breaker.admit(at(0)).unwrap();
            breaker.record(permit, Outcome::Transient, MS, at(0));
            let open = breaker.state(at(0)) == State::Open;
            assert_eq!(open, call == 20, "call {call} of {rule:?}");
        }
    }
}

/// recloser opens one call after its window is full of failures.
#[test]
fn the_failure_that_fills_the_window_opens_it() {
    let config = breaker::Config::failure_ratio(HALF, Window::calls(100)).min_calls(100);
    assert_eq!(failures_to_open(&breaker(config), at(0), 100), 100);
}

/// failsafe weighs results by the milliseconds since the last, so those of one millisecond weigh
/// nothing: a total outage took 1.63 million failures to show.
#[test]
fn a_burst_within_one_instant_counts_in_full() {
    let config = breaker::Config::failure_ratio(HALF, Window::Time(SECOND));
    let breaker = breaker(config.min_calls(20));
    (0..500).for_each(|_| record(&breaker, Outcome::Success, at(5000)));
    assert_eq!(failures_to_open(&breaker, at(5000), 1000), 500);
}

/// failsafe is blind for one whole window after its start.
#[test]
fn a_cold_breaker_sees_the_first_failures() {
    let config = breaker::Config::failure_ratio(HALF, Window::Time(30 * SECOND));
    for start in [Time::ZERO, Time::from_nanos(1), at(86_400_000)] {
        let breaker = breaker(config.clone().min_calls(10));
        assert_eq!(failures_to_open(&breaker, start, 10), 10);
    }
}

/// failsafe and recloser let 1,000 of 1,000 calls through half-open.
#[test]
fn half_open_does_not_let_everything_through() {
    let breaker = half_open(breaker::Config::default().trials(3));
    let passed: Vec<_> = (0..1000)
        .filter_map(|_| breaker.admit(at(1000)).ok())
        .collect();
    assert_eq!(passed.len(), 3);
    assert!(passed.iter().all(Permit::is_trial));
}

/// circuitbreaker-rs and ninelives reject for ever once a trial was cancelled.
#[test]
fn a_cancelled_trial_does_not_leave_it_stuck() {
    let config = breaker::Config::consecutive(1)
        .cooldown(SECOND)
        .successes(1);
    let upstream = upstream(Config::new("db").breaker(config.trials(1)));
    let breaker = upstream.breaker(0).unwrap();
    fail(&breaker, Time::ZERO);
    for _ in 0..100 {
        let mut trial = Call::new(&upstream, Request::new(1), at(1000));
        assert!(matches!(trial.step(at(1000)), Step::Attempt(_)));
        assert!(breaker.admit(at(1000)).is_err());
        trial.cancel(at(1001));
    }
    record(&breaker, Outcome::Success, at(1001));
    assert_eq!(breaker.state(at(1001)), State::Closed);
}

/// A trial that hangs for ever keeps circuitbreaker-rs half-open for ever.
#[test]
fn a_hung_trial_does_not_leave_it_stuck() {
    let breaker = half_open(breaker::Config::default().trials(1).successes(1));
    let _hung = breaker.admit(at(1000)).unwrap();
    assert!(breaker.admit(at(30_000)).is_err());
    assert_eq!(breaker.state(at(31_000)), State::Open);
    record(&breaker, Outcome::Success, at(32_000));
    assert_eq!(breaker.state(at(32_000)), State::Closed);
}

/// circuitbreaker-rs never closes when it lets fewer trials through than it wants successes.
#[test]
fn fewer_trials_than_successes_still_close_it() {
    let breaker = half_open(breaker::Config::default().trials(1).successes(3));
    (0..3).for_each(|_| record(&breaker, Outcome::Success, at(1000)));
    assert_eq!(breaker.state(at(1000)), State::Closed);
}

/// In tower-resilience a call from before the trip that succeeds in half-open closes the breaker
/// while the trial still hangs; in ninelives any late success does, in any state.
#[test]
fn a_stale_success_does_not_close_it() {
    let breaker = breaker(
        breaker::Config::consecutive(1)
            .cooldown(SECOND)
            .successes(1),
    );
    let stale = [(); 2].map(|()| breaker.admit(at(0)).unwrap());
    fail(&breaker, at(0));
    let mut late = stale.into_iter();
    breaker.record(late.next().unwrap(), Outcome::Success, MS, at(500));
    assert_eq!(breaker.state(at(500)), State::Open);
    let _trial = breaker.admit(at(1000)).unwrap();
    breaker.record(late.next().unwrap(), Outcome::Success, SECOND, at(1100));
    assert_eq!(breaker.state(at(1100)), State::HalfOpen);
}

/// In linkerd any response that arrives in probation is taken as the trial's.
#[test]
fn a_stale_failure_does_not_open_it_again() {
    let breaker = breaker(
        breaker::Config::consecutive(1)
            .cooldown(SECOND)
            .successes(1),
    );
    let stale = breaker.admit(at(0)).unwrap();
    fail(&breaker, at(0));
    let trial = breaker.admit(at(1000)).unwrap();
    breaker.record(stale, Outcome::Transient, SECOND, at(1100));
    assert_eq!(breaker.state(at(1100)), State::HalfOpen);
    breaker.record(trial, Outcome::Success, SECOND, at(1200));
    assert_eq!(breaker.state(at(1200)), State::Closed);
}

/// tower-resilience closes a breaker that opened for slowness by a trial that is still slow.
#[test]
fn a_slow_trial_does_not_close_a_breaker_that_opened_for_slowness() {
    let config = breaker::Config::slow_calls(50 * MS, HALF, Window::calls(2));
    let breaker = breaker(config.min_calls(2).cooldown(SECOND).successes(1));
    let slow = |now| {
        let permit = breaker.admit(now).unwrap();
        breaker.record(permit, Outcome::Success, 60 * MS, now);
    };
    slow(at(0));
    slow(at(0));
    assert_eq!(breaker.state(at(0)), State::Open);
    slow(at(1000));
    assert_eq!(breaker.state(at(1000)), State::Open);
}

/// tower-resilience's forced-open breaker heals itself after its cooldown.
#[test]
fn a_forced_open_breaker_stays_open() {
    let breaker = breaker(breaker::Config::default());
    breaker.force(Manual::Open, at(0));
    for second in [0, 30, 31, 3600, 1_000_000] {
        assert!(breaker.admit(at(second * 1000)).is_err());
        assert_eq!(breaker.state(at(second * 1000)), State::ForcedOpen);
    }
}

/// tower-resilience reads the machine's clock: one virtual hour after opening for 30 s its breaker
/// is still open.
#[test]
fn a_virtual_hour_is_an_hour() {
    let breaker = breaker(breaker::Config::consecutive(1));
    fail(&breaker, at(0));
    assert!(breaker.admit(at(3_600_000)).unwrap().is_trial());
}

/// Twenty panics left tower-resilience's breaker closed.
#[test]
fn panics_are_failures() {
    let upstream = upstream(Config::new("db").breaker(breaker::Config::consecutive(5)));
    for _ in 0..5 {
        let mut call = Call::new(&upstream, Request::new(1), at(0));
        let Step::Attempt(attempt) = call.step(at(0)) else {
            panic!("no attempt");
        };
        call.lost(attempt.id, Reason::Fault, at(0));
        assert!(matches!(call.step(at(0)), Step::Reject(_)));
    }
    assert_eq!(upstream.breaker(0).unwrap().state(at(0)), State::Open);
}

/// In tower-resilience a panic surfaces as a timeout, long after it happened.
#[test]
fn a_panic_ends_the_call_at_once_and_not_as_a_timeout() {
    let config = Config::new("db").deadline(deadline::Config::attempt_only(10 * SECOND));
    let upstream = upstream(config);
    let mut call = Call::new(&upstream, Request::new(1), at(0));
    let Step::Attempt(attempt) = call.step(at(0)) else {
        panic!("no attempt");
    };
    call.lost(attempt.id, Reason::Fault, at(69));
    let end = Step::Reject(Rejection::new(Reason::Fault));
    assert_eq!(call.step(at(69)), end);
}

/// In tower a load-shed call stays in the queue of the limit, and the next free permit goes to
/// somebody who is not there any more.
#[test]
fn a_rejected_call_does_not_wait_for_a_seat() {
    let upstream = upstream(Config::new("db").bulkhead(bulkhead::Config::new(1)));
    let mut world = World::new(&upstream, |_| Reply::After(10 * MS, Outcome::Success));
    for _ in 0..10 {
        world.call(Request::new(1));
    }
    world.run();
    assert_eq!(world.seen.len(), 1);
    world.run_call(Request::new(1));
    assert_eq!(world.seen.len(), 2, "the seat is free again");
}

/// tower's and tower-resilience's timeouts start when the call is made, after it has queued: a
/// timeout of 20 ms returned a success after 301 ms.
#[test]
fn the_deadline_includes_the_wait_for_a_seat() {
    let bulkhead = bulkhead::Config::new(1)
        .queue(10)
        .queue_timeout(10 * SECOND);
    let upstream = upstream(Config::new("db").bulkhead(bulkhead));
    let mut world = World::new(&upstream, |_| Reply::After(300 * MS, Outcome::Success));
    world.call(Request::new(1));
    let queued = world.call(Request::new(2).deadline(at(20)));
    world.run();
    let ended = world.ended[queued].unwrap();
    assert_eq!(ended.at, at(20));
    assert_eq!(ended.step, Step::Reject(Rejection::new(Reason::Deadline)));
    assert_eq!(world.seen.len(), 1);
}

/// tower-resilience's rate limiter lets its waiters go in the order 0, 14, 19, 7.
#[test]
fn those_who_wait_for_the_rate_go_in_order_of_arrival() {
    let rate = rate::Config::new(100, SECOND).burst(1).wait(SECOND);
    let upstream = upstream(Config::new("db").rate(rate));
    let mut world = World::new(&upstream, |_| at_once(Outcome::Success));
    for seed in 0..20 {
        world.call(Request::new(seed));
    }
    world.run();
    let order: Vec<_> = world.seen.iter().map(|seen| seen.call).collect();
    assert_eq!(order, (0..20).collect::<Vec<_>>());
}

/// backon's `adjust` revives an exhausted backoff: 97 attempts with a maximum of 2.
#[test]
fn hints_never_add_attempts() {
    let upstream = upstream(
        Config::new("db")
            .retry(retry::Config::attempts(2))
            .budget(None),
    );
    let mut world = World::new(&upstream, |_| {
        let retry_after = Some(10 * MS);
        at_once(Outcome::Overload { retry_after })
    });
    world.run_call(Request::new(1));
    assert_eq!(starts(&world), [0, 10]);
}

/// tokio-retry2 was told to come back after 500 ms and slept 6 ms.
#[test]
fn a_hint_is_slept_in_full() {
    let backoff = Backoff::constant(6 * MS).max(SECOND);
    let upstream = upstream(Config::new("db").retry(retry::Config::attempts(3).backoff(backoff)));
    let mut world = World::new(&upstream, |seen| match seen.id.number() {
        1 => at_once(Outcome::Overload {
            retry_after: Some(500 * MS),
        }),
        _ => at_once(Outcome::Transient),
    });
    world.run_call(Request::new(1));
    assert_eq!(starts(&world), [0, 500, 506]);
}

/// resilient-rs compounds its exponential backoff: 1, 1, 2, 8, 64 ms.
#[test]
fn exponential_backoff_does_not_compound() {
    let backoff = Backoff::exponential(MS).jitter(Jitter::None);
    let retry = retry::Config::attempts(6).backoff(backoff);
    let upstream = upstream(Config::new("db").retry(retry).budget(None));
    let mut world = World::new(&upstream, |_| at_once(Outcome::Transient));
    world.run_call(Request::new(1));
    assert_eq!(starts(&world), [0, 1, 3, 7, 15, 31]);
}
