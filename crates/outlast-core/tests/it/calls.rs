//! The walk of one call through all policies.

use std::time::Duration;

use outlast_core::backoff::{Backoff, Jitter};
use outlast_core::breaker::{self, State};
use outlast_core::call::{Kind, Request, Step};
use outlast_core::outcome::Outcome;
use outlast_core::reject::{Reason, Rejection};
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Upstream};
use outlast_core::{budget, bulkhead, deadline, failover, fault, hedge, rate, ratio::Ratio, retry};

use crate::world::{Reply, World, at_once};

const MS: Duration = Duration::from_millis(1);

fn upstream(config: Config) -> Upstream {
    Upstream::new(config, 1).unwrap()
}

fn constant(attempts: u32, wait: Duration) -> retry::Config {
    retry::Config::attempts(attempts).backoff(wait)
}

fn request() -> Request {
    Request::new(7)
}

fn starts(world: &World<'_>) -> Vec<(u64, usize, Kind)> {
    let seen = world.seen.iter();
    seen.map(|seen| (seen.at.as_nanos() / 1_000_000, seen.endpoint, seen.kind))
        .collect()
}

#[test]
fn a_success_is_one_attempt() {
    let upstream = upstream(Config::standard("db"));
    let mut world = World::new(&upstream, |_| Reply::After(5 * MS, Outcome::Success));
    let ended = world.run_call(request());
    assert!(matches!(ended.step, Step::Done { stop: None, .. }));
    assert_eq!(starts(&world), [(0, 0, Kind::First)]);
    assert_eq!(upstream.stats(world.now).endpoints[0].successes, 1);
}

#[test]
fn retries_until_the_attempts_are_used_up() {
    let upstream = upstream(Config::new("db").retry(constant(3, 100 * MS)));
    let mut world = World::new(&upstream, |_| Reply::After(10 * MS, Outcome::Transient));
    let ended = world.run_call(request());
    let stop = Some(Rejection::new(Reason::Attempts));
    assert!(matches!(ended.step, Step::Done { stop: found, .. } if found == stop));
    assert_eq!(
        starts(&world),
        [
            (0, 0, Kind::First),
            (110, 0, Kind::Retry),
            (220, 0, Kind::Retry)
        ]
    );
}

#[test]
fn only_transient_outcomes_and_overload_are_retried() {
    for outcome in [Outcome::Success, Outcome::Permanent, Outcome::Ignored] {
        let upstream = upstream(Config::new("db").retry(constant(3, MS)));
        let mut world = World::new(&upstream, |_| at_once(outcome));
        assert_eq!(world.run_call(request()).outcome, Some(outcome));
        assert_eq!(world.seen.len(), 1);
    }
}

#[test]
fn what_may_not_be_repeated_is_tried_once() {
    let config = Config::new("db")
        .retry(constant(3, MS))
        .hedge(hedge::Config::after(MS));
    let upstream = upstream(config);
    let mut world = World::new(&upstream, |_| Reply::After(10 * MS, Outcome::Transient));
    let ended = world.run_call(request().repeatable(false));
    let stop = Some(Rejection::new(Reason::NotIdempotent));
    assert!(matches!(ended.step, Step::Done { stop: found, .. } if found == stop));
    assert_eq!(world.seen.len(), 1);
}

#[test]
fn no_attempt_and_no_wait_crosses_the_deadline() {
    let config = Config::new("db")
        .retry(constant(10, 400 * MS))
        .deadline(deadline::Config::call(1000 * MS));
    let upstream = upstream(config);
    let mut world = World::new(&upstream, |_| at_once(Outcome::Transient));
    let ended = world.run_call(request());
    assert_eq!(ended.at, Time::from_millis(800));
    assert_eq!(world.seen.len(), 3);
    let stop = Some(Rejection::new(Reason::Deadline));
    assert!(matches!(ended.step, Step::Done { stop: found, .. } if found == stop));
}

#[test]
fn a_call_that_arrives_too_late_makes_no_attempt() {
    let upstream = upstream(Config::standard("db"));
    let mut world = World::new(&upstream, |_| at_once(Outcome::Success));
    world.run_until(Time::from_millis(10));
    let ended = world.run_call(request().deadline(Time::from_millis(10)));
    assert_eq!(ended.step, Step::Reject(Rejection::new(Reason::Deadline)));
    assert!(world.seen.is_empty());
}

#[test]
fn a_hung_attempt_is_cut_and_retried() {
    let config = Config::new("db")
        .retry(constant(2, 50 * MS))
        .deadline(deadline::Config::attempt_only(200 * MS));
    let upstream = upstream(config);
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    let ended = world.run_call(request());
    assert_eq!(ended.step, Step::Reject(Rejection::new(Reason::Timeout)));
    assert_eq!(ended.at, Time::from_millis(450));
    assert_eq!(world.cancelled.len(), 2);
    assert_eq!(upstream.stats(world.now).endpoints[0].transient, 2);
}

#[test]
fn an_earlier_result_survives_a_later_timeout() {
    let config = Config::new("db")
        .retry(constant(2, MS))
        .deadline(deadline::Config::attempt_only(200 * MS));
    let upstream = upstream(config);
    let mut world = World::new(&upstream, |seen| match seen.id.number() {
        1 => at_once(Outcome::Transient),
        _ => Reply::Hangs,
    });
    assert_eq!(world.run_call(request()).outcome, Some(Outcome::Transient));
}

#[test]
fn the_callers_short_deadline_is_neutral_to_the_breaker() {
    let upstream = upstream(Config::new("db").breaker(breaker::Config::consecutive(1)));
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    for _ in 0..20 {
        let deadline = world.now + 50 * MS;
        world.run_call(request().deadline(deadline));
    }
    let stats = upstream.stats(world.now);
    assert_eq!(stats.endpoints[0].breaker.unwrap().state, State::Closed);
    assert_eq!(stats.endpoints[0].ignored, 20);
}

#[test]
fn but_not_if_the_attempt_was_slow_already() {
    let breaker = breaker::Config::consecutive(5).patience(20 * MS);
    let upstream = upstream(Config::new("db").breaker(breaker));
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    for _ in 0..5 {
        let deadline = world.now + 50 * MS;
        world.run_call(request().deadline(deadline));
    }
    assert_eq!(upstream.breaker(0).unwrap().state(world.now), State::Open);
}

#[test]
fn failover_goes_to_each_endpoint_once_and_without_a_wait() {
    let config = Config::new("pay").endpoint("a").endpoint("b").endpoint("c");
    let upstream = upstream(config.failover(failover::Config::ordered()));
    let mut world = World::new(&upstream, |seen| {
        let outcome = if seen.endpoint == 2 {
            Outcome::Success
        } else {
            Outcome::Transient
        };
        Reply::After(50 * MS, outcome)
    });
    assert_eq!(world.run_call(request()).outcome, Some(Outcome::Success));
    let failover = Kind::Failover;
    assert_eq!(
        starts(&world),
        [(0, 0, Kind::First), (50, 1, failover), (100, 2, failover)]
    );
}

#[test]
fn after_the_last_endpoint_the_retry_starts_again_at_the_first() {
    let config = Config::new("pay")
        .endpoint("a")
        .endpoint("b")
        .failover(failover::Config::ordered())
        .retry(constant(3, 100 * MS));
    let upstream = upstream(config);
    let mut world = World::new(&upstream, |_| at_once(Outcome::Transient));
    world.run_call(request());
    let expected = [
        (0, 0, Kind::First),
        (0, 1, Kind::Failover),
        (100, 0, Kind::Retry),
    ];
    assert_eq!(starts(&world), expected);
}

#[test]
fn an_open_breaker_sends_first_attempts_to_the_next_endpoint() {
    let config = Config::new("pay").endpoint("a").endpoint("b");
    let config = config.failover(failover::Config::ordered());
    let upstream = upstream(config.breaker(breaker::Config::default()));
    upstream
        .breaker(0)
        .unwrap()
        .force(breaker::Manual::Open, Time::ZERO);
    let mut world = World::new(&upstream, |_| at_once(Outcome::Success));
    world.run_call(request());
    assert_eq!(starts(&world), [(0, 1, Kind::First)]);
}

#[test]
fn equals_are_chosen_at_random_and_a_retry_goes_to_another() {
    let config = Config::new("pay").endpoint("a").endpoint("b").endpoint("c");
    let upstream = upstream(config.retry(constant(2, MS)).budget(None));
    let mut world = World::new(&upstream, |_| at_once(Outcome::Transient));
    let mut firsts = [0; 3];
    for seed in 0..300 {
        world.seen.clear();
        world.run_call(Request::new(seed));
        let [first, second] = [world.seen[0].endpoint, world.seen[1].endpoint];
        assert_ne!(first, second);
        firsts[first] += 1;
    }
    assert!(firsts.iter().all(|&count| count > 60), "{firsts:?}");
}

#[test]
fn the_first_success_wins_and_the_loser_is_cancelled() {
    let upstream = upstream(Config::new("inv").hedge(hedge::Config::after(20 * MS)));
    let mut world = World::new(&upstream, |seen| match seen.kind {
        Kind::First => Reply::After(100 * MS, Outcome::Success),
        _ => Reply::After(10 * MS, Outcome::Success),
    });
    let ended = world.run_call(request());
    assert_eq!(ended.at, Time::from_millis(30));
    assert!(matches!(ended.step, Step::Done { id, .. } if id.number() == 2));
    assert_eq!(world.cancelled.len(), 1);
    assert_eq!(upstream.stats(world.now).endpoints[0].ignored, 1);
}

/// In tower a hedge that failed at 11 ms killed a healthy primary of 60 ms.
#[test]
fn a_failing_hedge_never_ends_a_live_primary() {
    let upstream = upstream(Config::new("inv").hedge(hedge::Config::after(10 * MS)));
    let mut world = World::new(&upstream, |seen| match seen.kind {
        Kind::First => Reply::After(60 * MS, Outcome::Success),
        _ => Reply::After(MS, Outcome::Transient),
    });
    let ended = world.run_call(request());
    assert_eq!(
        (ended.at, ended.outcome),
        (Time::from_millis(60), Some(Outcome::Success))
    );
}

#[test]
fn a_failure_starts_the_next_hedge_at_once() {
    let hedge = hedge::Config::after(500 * MS).hedges(3);
    let upstream = upstream(Config::new("inv").hedge(hedge));
    let mut world = World::new(&upstream, |seen| match seen.id.number() {
        1 => Reply::After(5000 * MS, Outcome::Success),
        2 => Reply::After(200 * MS, Outcome::Transient),
        _ => Reply::After(100 * MS, Outcome::Success),
    });
    assert_eq!(world.run_call(request()).at, Time::from_millis(800));
    let hedge = Kind::Hedge;
    assert_eq!(
        starts(&world),
        [(0, 0, Kind::First), (500, 0, hedge), (700, 0, hedge)]
    );
}

#[test]
fn hedges_retries_and_failovers_draw_on_the_same_budget() {
    let config = Config::new("pay")
        .endpoint("a")
        .endpoint("b")
        .failover(failover::Config::ordered())
        .retry(constant(10, MS))
        .hedge(hedge::Config::after(MS))
        .budget(budget::Config::new(Ratio::ZERO).reserve(3));
    let upstream = upstream(config);
    let mut world = World::new(&upstream, |_| Reply::After(5 * MS, Outcome::Transient));
    for _ in 0..50 {
        world.run_call(request());
    }
    assert_eq!(world.seen.len(), 53);
    let stats = upstream.stats(world.now);
    assert_eq!(stats.retries + stats.hedges + stats.failovers, 3);
    assert!(stats.rejected(Reason::Budget) > 0);
}

#[test]
fn overload_with_a_hint_holds_back_the_extra_attempts_of_all_callers() {
    let upstream = upstream(
        Config::new("db")
            .retry(constant(2, 10 * MS).backoff(Backoff::constant(10 * MS).max(60_000 * MS))),
    );
    let hint = Outcome::Overload {
        retry_after: Some(2000 * MS),
    };
    let mut world = World::new(&upstream, |seen| match (seen.call, seen.id.number()) {
        (0, 1) => at_once(hint),
        (1, 1) => at_once(Outcome::Transient),
        _ => at_once(Outcome::Success),
    });
    world.call(request());
    world.run_until(Time::from_millis(500));
    world.call(request());
    world.run();
    let seen: Vec<_> = world
        .seen
        .iter()
        .map(|seen| (seen.call, seen.at.as_nanos() / 1_000_000))
        .collect();
    assert_eq!(seen, [(0, 0), (1, 500), (0, 2000), (1, 2000)]);
}

#[test]
fn a_hint_beyond_the_cap_ends_the_call_with_the_hint() {
    let retry = retry::Config::default().backoff(Backoff::constant(MS).max(1000 * MS));
    let upstream = upstream(Config::new("db").retry(retry));
    let hint = Outcome::Overload {
        retry_after: Some(60_000 * MS),
    };
    let mut world = World::new(&upstream, |_| at_once(hint));
    let ended = world.run_call(request());
    let stop = Some(Rejection::after(Reason::Overload, 60_000 * MS));
    assert!(matches!(ended.step, Step::Done { stop: found, .. } if found == stop));
    assert_eq!(ended.at, Time::ZERO);
}

#[test]
fn a_seat_is_free_during_backoff_and_an_open_breaker_takes_none() {
    let config = Config::new("db")
        .bulkhead(bulkhead::Config::new(1))
        .retry(constant(2, 100 * MS))
        .breaker(breaker::Config::consecutive(2));
    let upstream = upstream(config);
    let mut world = World::new(&upstream, |_| Reply::After(10 * MS, Outcome::Transient));
    world.call(request());
    world.run_until(Time::from_millis(50));
    assert_eq!(upstream.bulkhead().unwrap().stats().active, 0);
    world.run();
    let ended = world.run_call(request());
    assert!(matches!(
        ended.step,
        Step::Reject(Rejection {
            reason: Reason::Open,
            ..
        })
    ));
    assert_eq!(upstream.bulkhead().unwrap().stats().accepted, 2);
}

#[test]
fn those_who_queue_are_served_in_order_or_time_out() {
    let bulkhead = bulkhead::Config::new(1).queue(2).queue_timeout(25 * MS);
    let upstream = upstream(Config::new("db").bulkhead(bulkhead));
    let mut world = World::new(&upstream, |_| Reply::After(20 * MS, Outcome::Success));
    for _ in 0..4 {
        world.call(request());
    }
    world.run();
    let reasons = world.ended.iter().map(|ended| match ended.unwrap().step {
        Step::Reject(rejection) => Some(rejection.reason),
        _ => None,
    });
    let reasons: Vec<_> = reasons.collect();
    assert_eq!(
        reasons,
        [None, None, Some(Reason::QueueTimeout), Some(Reason::Full)]
    );
    assert_eq!(world.seen[1].at, Time::from_millis(20));
}

#[test]
fn a_paced_call_waits_for_its_turn() {
    let rate = rate::Config::new(10, 1000 * MS).burst(1).wait(150 * MS);
    let upstream = upstream(Config::new("db").rate(rate));
    let mut world = World::new(&upstream, |_| at_once(Outcome::Success));
    for _ in 0..3 {
        world.call(request());
    }
    world.run();
    let at: Vec<_> = world
        .seen
        .iter()
        .map(|seen| seen.at.as_nanos() / 1_000_000)
        .collect();
    assert_eq!(at, [0, 100]);
    assert!(matches!(
        world.ended[2].unwrap().step,
        Step::Reject(Rejection { reason: Reason::Rate, retry_after: Some(wait) })
            if wait == 50 * MS
    ));
}

#[test]
fn faults_strike_inside_of_all_policies() {
    let config = Config::new("db")
        .breaker(breaker::Config::consecutive(3))
        .fault(fault::Config::new(fault::Fault::Error, Ratio::ONE));
    let upstream = upstream(config);
    let mut world = World::new(&upstream, |_| at_once(Outcome::Success));
    for _ in 0..3 {
        let ended = world.run_call(request());
        assert_eq!(ended.step, Step::Reject(Rejection::new(Reason::Fault)));
    }
    assert!(world.seen.is_empty());
    assert_eq!(upstream.breaker(0).unwrap().state(world.now), State::Open);
    upstream.inject_faults(false);
    world.run_until(Time::from_millis(31_000));
    assert_eq!(world.run_call(request()).outcome, Some(Outcome::Success));
}

#[test]
fn jitter_differs_between_calls() {
    let backoff = Backoff::constant(100 * MS).jitter(Jitter::Full);
    let retry = retry::Config::attempts(2).backoff(backoff);
    let upstream = upstream(Config::new("db").retry(retry).budget(None));
    let mut world = World::new(&upstream, |_| at_once(Outcome::Transient));
    for seed in 0..8 {
        world.call(Request::new(seed));
    }
    world.run();
    let mut delays: Vec<_> = world.seen[8..].iter().map(|seen| seen.at).collect();
    delays.dedup();
    assert_eq!(delays.len(), 8);
}

#[test]
fn a_hundred_hung_calls_cut_from_outside_open_the_breaker() {
    let config = Config::new("db").breaker(breaker::Config::default().patience(100 * MS));
    let upstream = upstream(config.bulkhead(bulkhead::Config::new(1000)));
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    for _ in 0..100 {
        let call = world.call(request());
        world.cancel_at(call, Time::from_millis(200));
    }
    world.run();
    assert_eq!(upstream.breaker(0).unwrap().state(world.now), State::Open);
    assert_eq!(upstream.bulkhead().unwrap().stats().active, 0);
}

#[test]
fn a_hundred_calls_cancelled_at_once_do_not() {
    let config = Config::new("db").breaker(breaker::Config::default().patience(100 * MS));
    let upstream = upstream(config.bulkhead(bulkhead::Config::new(1000)));
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    for _ in 0..100 {
        let call = world.call(request());
        world.cancel_at(call, Time::from_millis(1));
    }
    world.run();
    assert_eq!(upstream.breaker(0).unwrap().state(world.now), State::Closed);
    assert_eq!(upstream.stats(world.now).endpoints[0].ignored, 100);
}

#[test]
fn an_upstreams_own_limit_on_calls_is_a_timeout_of_the_dependency() {
    let config = Config::new("db").breaker(breaker::Config::default());
    let upstream = upstream(config.deadline(deadline::Config::call(1000 * MS)));
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    for _ in 0..5 {
        let ended = world.run_call(request());
        assert_eq!(ended.step, Step::Reject(Rejection::new(Reason::Deadline)));
    }
    assert_eq!(upstream.breaker(0).unwrap().state(world.now), State::Open);
}

#[test]
fn the_share_kept_for_a_fallback_is_not_spent_on_further_attempts() {
    let config = Config::new("db")
        .retry(constant(10, Duration::ZERO))
        .budget(None);
    let upstream = upstream(config.deadline(deadline::Config::call(1000 * MS)));
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    assert_eq!(world.run_call(request()).at, Time::from_millis(900));
    assert_eq!(world.seen.len(), 1);
}

#[test]
fn a_rejection_is_counted_under_the_reason_that_the_caller_sees() {
    let timeout = deadline::Config::attempt_only(100 * MS);
    for config in [Config::new("db"), Config::new("db").retry(constant(2, MS))] {
        let upstream = upstream(config.deadline(timeout));
        let mut world = World::new(&upstream, |_| Reply::Hangs);
        let ended = world.run_call(request());
        assert_eq!(ended.step, Step::Reject(Rejection::new(Reason::Timeout)));
        assert_eq!(upstream.stats(world.now).rejected(Reason::Timeout), 1);
    }
}

#[test]
fn extra_attempts_in_shadow_leave_the_result_as_it_is() {
    let shadow = constant(3, MS).enforce(false);
    let two = Config::new("db").endpoint("a").endpoint("b");
    for config in [
        Config::new("db").retry(shadow),
        two.failover(failover::Config::ordered().enforce(false)),
    ] {
        let upstream = upstream(config);
        let mut world = World::new(&upstream, |_| at_once(Outcome::Transient));
        for repeatable in [true, false] {
            let ended = world.run_call(request().repeatable(repeatable));
            assert!(
                matches!(ended.step, Step::Done { stop: None, .. }),
                "{ended:?}"
            );
        }
        assert_eq!(upstream.stats(world.now).would_start, 1);
    }
}

#[test]
fn a_deadline_in_shadow_counts_what_it_would_have_cut() {
    let limits = deadline::Config::call(200 * MS)
        .attempt(50 * MS)
        .enforce(false);
    let upstream = upstream(Config::new("db").deadline(limits));
    let mut world = World::new(&upstream, |_| Reply::After(100 * MS, Outcome::Success));
    world.run_call(request());
    let mut slow = World::new(&upstream, |_| Reply::After(300 * MS, Outcome::Success));
    slow.run_call(request());
    let stats = upstream.stats(slow.now);
    assert_eq!(stats.would_reject(Reason::Timeout), 2);
    assert_eq!(stats.would_reject(Reason::Deadline), 1);
}

#[test]
fn a_hedge_without_a_seat_turns_nobody_away() {
    let config = Config::new("db").bulkhead(bulkhead::Config::new(1));
    let upstream = upstream(config.hedge(hedge::Config::after(10 * MS)));
    let mut world = World::new(&upstream, |_| Reply::After(50 * MS, Outcome::Success));
    world.run_call(request());
    let stats = upstream.stats(world.now);
    assert_eq!((stats.bulkhead.unwrap().rejected, stats.hedges), (0, 0));
}

#[test]
fn a_hint_is_waited_for_up_to_half_a_minute_unless_told_otherwise() {
    let hint = Outcome::Overload {
        retry_after: Some(31_000 * MS),
    };
    for (retry, attempts) in [
        (constant(2, MS), 1),
        (constant(2, MS).longest_hint(Duration::from_secs(60)), 2),
    ] {
        let upstream = upstream(Config::new("db").retry(retry));
        let mut world = World::new(&upstream, |_| at_once(hint));
        world.run_call(request());
        assert_eq!(world.seen.len(), attempts);
    }
}

#[test]
fn an_attempt_that_says_nothing_leaves_the_others_alone() {
    let upstream = upstream(Config::new("inv").hedge(hedge::Config::after(10 * MS)));
    let mut world = World::new(&upstream, |seen| match seen.kind {
        Kind::First => Reply::After(60 * MS, Outcome::Success),
        _ => Reply::After(MS, Outcome::Ignored),
    });
    let ended = world.run_call(request());
    assert_eq!(
        (ended.at, ended.outcome),
        (Time::from_millis(60), Some(Outcome::Success))
    );
}

#[test]
fn a_failover_never_comes_back_to_the_endpoint_that_failed() {
    let breaker = breaker::Config::consecutive(1).trials(1).cooldown(10 * MS);
    let config = Config::new("pay")
        .endpoint("a")
        .endpoint("b")
        .breaker(breaker);
    let config = config.failover(failover::Config::ordered());
    let upstream = upstream(config.retry(constant(3, 100 * MS)));
    let trial_of_b = upstream.breaker(1).unwrap();
    trial_of_b.force(breaker::Manual::Trial, Time::ZERO);
    let taken = trial_of_b.admit(Time::ZERO).unwrap();
    let mut world = World::new(&upstream, |_| at_once(Outcome::Transient));
    world.run_call(request());
    assert!(
        starts(&world)
            .iter()
            .all(|&(_, endpoint, kind)| (endpoint, kind) != (0, Kind::Failover))
    );
    assert_eq!(upstream.stats(world.now).failovers, 0);
    trial_of_b.record(taken, Outcome::Ignored, MS, world.now);
}

#[test]
fn a_pause_is_at_most_a_day_and_ends_by_hand() {
    let upstream = upstream(Config::new("db").retry(constant(2, MS)));
    let date_for_a_duration = Duration::from_secs(1_767_225_600);
    let hint = Outcome::Overload {
        retry_after: Some(date_for_a_duration),
    };
    let mut world = World::new(&upstream, |seen| match seen.id.number() {
        1 => at_once(hint),
        _ => at_once(Outcome::Success),
    });
    let day = Duration::from_secs(24 * 60 * 60);
    let ended = world.run_call(request());
    let stop = Some(Rejection::after(Reason::Overload, day));
    assert!(matches!(ended.step, Step::Done { stop: found, .. } if found == stop));
    assert!(
        upstream.stats(world.now).endpoints[0]
            .paused_until
            .is_some()
    );
    upstream.end_pause(0);
    assert_eq!(upstream.stats(world.now).endpoints[0].paused_until, None);
}

#[test]
fn trials_may_take_as_long_as_attempts() {
    let config = Config::new("slow")
        .breaker(breaker::Config::consecutive(1).successes(1))
        .deadline(deadline::Config::attempt_only(60_000 * MS));
    let upstream = upstream(config);
    let mut world = World::new(&upstream, |seen| match seen.call {
        0 => at_once(Outcome::Transient),
        _ => Reply::After(35_000 * MS, Outcome::Success),
    });
    world.run_call(request());
    world.run_until(Time::from_millis(30_000));
    world.run_call(request());
    assert_eq!(upstream.breaker(0).unwrap().state(world.now), State::Closed);
}

#[test]
fn a_budget_that_says_no_keeps_the_dependencys_hint() {
    let retry = constant(2, MS).longest_hint(60_000 * MS);
    let budget = budget::Config::new(Ratio::ZERO).reserve(0);
    let upstream = upstream(Config::new("db").retry(retry).budget(budget));
    let hint = Outcome::Overload {
        retry_after: Some(7_000 * MS),
    };
    let mut world = World::new(&upstream, |_| at_once(hint));
    let stop = Some(Rejection::after(Reason::Budget, 7_000 * MS));
    let ended = world.run_call(request());
    assert!(matches!(ended.step, Step::Done { stop: found, .. } if found == stop));
}

#[test]
fn an_overloaded_endpoint_is_waited_for_when_the_other_ones_breaker_is_open() {
    let config = Config::new("db").endpoint("a").endpoint("b");
    let config = config.failover(failover::Config::ordered());
    let upstream = upstream(
        config
            .breaker(breaker::Config::default())
            .retry(constant(2, MS)),
    );
    upstream
        .breaker(1)
        .unwrap()
        .force(breaker::Manual::Open, Time::ZERO);
    let mut world = World::new(&upstream, |seen| match seen.id.number() {
        1 => at_once(Outcome::Overload {
            retry_after: Some(200 * MS),
        }),
        _ => at_once(Outcome::Success),
    });
    let ended = world.run_call(request());
    assert_eq!(
        (ended.at, ended.outcome),
        (Time::from_millis(200), Some(Outcome::Success))
    );
}

#[test]
fn calls_that_were_dropped_early_do_not_shift_the_hedges() {
    let hedge = hedge::Config::after_quantile(Ratio::percent(90)).min_samples(10);
    let upstream = upstream(Config::new("inv").hedge(hedge).budget(None));
    let mut world = World::new(&upstream, |_| Reply::After(100 * MS, Outcome::Success));
    for _ in 0..10 {
        world.run_call(request());
    }
    for _ in 0..100 {
        let call = world.call(request());
        world.cancel_at(call, world.now + MS);
        world.run();
    }
    world.run_until(world.now + 1_000 * MS);
    world.seen.clear();
    world.run_call(request());
    assert_eq!(world.seen.len(), 1, "100 ms is no slow call");
}

#[test]
fn without_limits_of_its_own_an_upstream_believes_callers_that_waited_a_second() {
    let upstream = upstream(Config::standard("db"));
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    for _ in 0..100 {
        let call = world.call(request());
        world.cancel_at(call, world.now + 999 * MS);
    }
    world.run();
    assert_eq!(upstream.breaker(0).unwrap().state(world.now), State::Closed);
    for _ in 0..100 {
        let call = world.call(request());
        world.cancel_at(call, world.now + 1_000 * MS);
    }
    world.run();
    assert_eq!(upstream.breaker(0).unwrap().state(world.now), State::Open);
}

#[test]
fn callers_who_wait_as_long_as_the_upstreams_own_limit_are_believed() {
    let config = Config::standard("db").deadline(deadline::Config::attempt_only(1_000 * MS));
    let upstream = upstream(config.retry(constant(1, MS)));
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    for _ in 0..5 {
        let deadline = world.now + 1_000 * MS;
        world.run_call(request().deadline(deadline));
    }
    assert_eq!(upstream.breaker(0).unwrap().state(world.now), State::Open);
}
