//! Answers that are read after their call has ended, and attempts of which nothing was sent.

use std::time::Duration;

use outlast_core::breaker::State;
use outlast_core::call::{AttemptId, Call, Request, Step};
use outlast_core::outcome::Outcome;
use outlast_core::reject::Reason;
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Upstream};
use outlast_core::{backoff, breaker, bulkhead, failover, hedge, retry};

fn upstream(config: Config) -> Upstream {
    Upstream::new(config, 1).unwrap()
}

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn attempt(call: &mut Call<&Upstream>, now: Time) -> (AttemptId, usize) {
    match call.step(now) {
        Step::Attempt(attempt) => (attempt.id, attempt.endpoint),
        step => panic!("an attempt, not {step:?}"),
    }
}

#[test]
fn an_open_answer_keeps_its_seat_until_it_is_closed() {
    let upstream = upstream(Config::new("up").bulkhead(bulkhead::Config::new(1)));
    let mut call = Call::new(&upstream, Request::new(1), ms(0));
    let (id, _) = attempt(&mut call, ms(0));
    let open = call.open(id, ms(10)).unwrap();
    assert_eq!(call.step(ms(10)), Step::Done { id, stop: None });
    drop(call);
    assert_eq!(upstream.stats(ms(10)).bulkhead.unwrap().active, 1);
    let mut second = Call::new(&upstream, Request::new(2), ms(20));
    assert!(matches!(second.step(ms(20)), Step::Reject(no) if no.reason == Reason::Full));
    assert_eq!(
        upstream.stats(ms(20)).attempts(),
        0,
        "its outcome is not known yet"
    );
    upstream.close(open, Outcome::Success, ms(500));
    let stats = upstream.stats(ms(500));
    assert_eq!(stats.bulkhead.unwrap().active, 0);
    assert_eq!(stats.endpoints[0].successes, 1);
}

#[test]
fn an_answer_that_breaks_off_is_a_failure_of_the_breaker() {
    let upstream = upstream(Config::new("up").breaker(breaker::Config::consecutive(1)));
    let state = |now| upstream.breaker(0).unwrap().stats(now).state;
    for (outcome, expected) in [
        (Outcome::Ignored, State::Closed),
        (Outcome::Success, State::Closed),
        (Outcome::Transient, State::Open),
    ] {
        let mut call = Call::new(&upstream, Request::new(1), ms(0));
        let (id, _) = attempt(&mut call, ms(0));
        let open = call.open(id, ms(1)).unwrap();
        upstream.close(open, outcome, ms(2));
        assert_eq!(state(ms(2)), expected, "{outcome:?}");
    }
}

#[test]
fn a_long_answer_is_no_slow_call() {
    let slow = breaker::Config::slow_calls(
        Duration::from_millis(100),
        outlast_core::ratio::Ratio::percent(50),
        outlast_core::window::Window::calls(2),
    );
    let upstream = upstream(Config::new("up").breaker(slow.min_calls(1)));
    let run = |head: u64, end: u64| {
        let mut call = Call::new(&upstream, Request::new(1), ms(0));
        let (id, _) = attempt(&mut call, ms(0));
        let open = call.open(id, ms(head)).unwrap();
        upstream.close(open, Outcome::Success, ms(end));
        upstream.breaker(0).unwrap().stats(ms(end)).state
    };
    assert_eq!(run(10, 10_000), State::Closed);
    assert_eq!(run(200, 10_001), State::Open);
}

#[test]
fn the_answer_of_a_hedge_cancels_the_others() {
    let upstream =
        upstream(Config::new("up").hedge(hedge::Config::after(Duration::from_millis(10))));
    let mut call = Call::new(&upstream, Request::new(1), ms(0));
    let (first, _) = attempt(&mut call, ms(0));
    assert!(matches!(call.step(ms(0)), Step::Wait { .. }));
    let (second, _) = attempt(&mut call, ms(10));
    let open = call.open(second, ms(11)).unwrap();
    assert_eq!(call.step(ms(11)), Step::Cancel { id: first });
    assert_eq!(
        call.step(ms(11)),
        Step::Done {
            id: second,
            stop: None
        }
    );
    assert!(call.open(first, ms(12)).is_none(), "it was cancelled");
    upstream.close(open, Outcome::Success, ms(12));
}

/// What becomes of a call that may not be repeated, after these outcomes of its attempts: how many
/// attempts were made, and why there was not another.
fn once(outcomes: &[Outcome]) -> (u32, Option<Reason>) {
    let config = Config::new("up")
        .endpoint("a")
        .endpoint("b")
        .retry(
            retry::Config::attempts(3)
                .backoff(backoff::Backoff::constant(Duration::from_millis(1))),
        )
        .failover(failover::Config::ordered());
    let upstream = upstream(config);
    let mut call = Call::new(&upstream, Request::new(1).repeatable(false), ms(0));
    let (mut now, mut outcomes) = (ms(0), outcomes.iter());
    loop {
        match call.step(now) {
            Step::Attempt(attempt) => {
                let outcome = outcomes.next().copied().unwrap_or(Outcome::Success);
                call.outcome(attempt.id, outcome, now);
            }
            Step::Wait { until } => now = until,
            Step::Cancel { .. } => {}
            Step::Done { stop, .. } => return (call.attempts(), stop.map(|stop| stop.reason)),
            Step::Reject(rejection) => return (call.attempts(), Some(rejection.reason)),
        }
    }
}

#[test]
fn what_was_not_sent_may_be_tried_again_in_any_case() {
    use Outcome::{Success, Transient, Unsent};
    assert_eq!(once(&[Success]), (1, None));
    assert_eq!(once(&[Transient]), (1, Some(Reason::NotIdempotent)));
    assert_eq!(once(&[Unsent, Success]), (2, None));
    assert_eq!(once(&[Unsent, Unsent, Success]), (3, None));
    assert_eq!(once(&[Unsent, Transient]), (2, Some(Reason::NotIdempotent)));
    assert_eq!(once(&[Unsent, Unsent, Unsent]), (3, Some(Reason::Attempts)));
}

#[test]
fn unsent_is_a_failure_like_any_other() {
    let upstream = upstream(Config::new("up").breaker(breaker::Config::consecutive(2)));
    for _ in 0..2 {
        let mut call = Call::new(&upstream, Request::new(1), ms(0));
        let (id, _) = attempt(&mut call, ms(0));
        assert!(call.outcome(id, Outcome::Unsent, ms(1)));
    }
    let stats = upstream.stats(ms(1));
    assert_eq!(stats.endpoints[0].transient, 2);
    assert_eq!(
        stats.endpoints[0].breaker.as_ref().unwrap().state,
        State::Open
    );
}

#[test]
fn a_call_that_is_spent_is_not_repeated() {
    let upstream = upstream(Config::new("up").retry(retry::Config::attempts(3)));
    let mut call = Call::new(&upstream, Request::new(1), ms(0));
    let (id, _) = attempt(&mut call, ms(0));
    call.forbid_repeat();
    call.outcome(id, Outcome::Transient, ms(1));
    let stop = match call.step(ms(1)) {
        Step::Done { stop, .. } => stop,
        step => panic!("an end, not {step:?}"),
    };
    assert_eq!(stop.unwrap().reason, Reason::NotIdempotent);
}
