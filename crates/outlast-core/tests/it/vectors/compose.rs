//! Policies together, in a virtual world.
//!
//! Our order is fixed; a peer's other order is two nested upstreams.

use std::ops::Deref;
use std::time::Duration;

use outlast_core::backoff::Backoff;
use outlast_core::breaker::{self, Breaker, Manual, State};
use outlast_core::call::{Request, Step};
use outlast_core::outcome::Outcome;
use outlast_core::reject::{Reason, Rejection};
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Upstream};
use outlast_core::window::Window;
use outlast_core::{bulkhead, deadline, rate, retry};

use super::{Case, Fields, millis, ratio, series};
use crate::world::{Ended, Reply, World, at_once};

pub(super) fn replay(case: &Case<'_>) {
    let order: Vec<&str> = case.config.required("order");
    match order[..] {
        ["retry", "breaker"] => replay_retry_over_breaker(case),
        ["breaker", "retry"] => replay_breaker_over_retry(case),
        ["breaker", "bulkhead"] => replay_breaker_over_bulkhead(case),
        ["total_timeout", "retry", "attempt_timeout"] => replay_timeouts(case),
        ["authority", "system", "flow", "default_breaker", "degrade"] => replay_flow_first(case),
        _ => panic!("unknown order {order:?}"),
    }
}

fn upstream(config: Config) -> Upstream {
    Upstream::new(config.budget(None), 1).expect("valid settings")
}

fn of_endpoint(upstream: &Upstream) -> impl Deref<Target = Breaker> + use<> {
    upstream.breaker(0).expect("it was configured")
}

fn retries(peer: &Fields<'_>) -> retry::Config {
    let settings = peer.object("retry").expect("a retry policy");
    let wait = settings.millis("wait_ms");
    retry::Config::attempts(settings.required("attempts")).backoff(Backoff::constant(wait))
}

/// The breaker of a peer, and whether it is held open.
fn breaker(peer: &Fields<'_>) -> (breaker::Config, bool) {
    let Some(rule) = peer.object("breaker") else {
        let held: &str = peer.required("breaker");
        assert_eq!(held, "open", "a breaker is a rule or held open");
        return (breaker::Config::default(), true);
    };
    let window = Window::Time(Duration::from_secs(30));
    let limit = ratio(rule.required("ratio"));
    let config = breaker::Config::failure_ratio(limit, window);
    (config.min_calls(rule.required("min_calls")), false)
}

fn outcome(step: &Fields<'_>) -> Outcome {
    match step.optional("outcome") {
        None | Some("ok") => Outcome::Success,
        Some("err") => Outcome::Transient,
        Some(other) => panic!("{}: unknown outcome {other}", step.place),
    }
}

fn is_call(step: &Fields<'_>) {
    let op: &str = step.required("op");
    assert_eq!(op, "call", "{}", step.place);
}

fn check_breaker(case: &Case<'_>, breaker: &Breaker, now: Time) {
    let stats = breaker.stats(now);
    case.expect.expect("breaker_records", stats.tally.total);
    case.expect.expect("breaker_after", stats.state.name());
}

fn replay_retry_over_breaker(case: &Case<'_>) {
    let step = case.only_step();
    is_call(step);
    let outcome = outcome(step);
    let (rule, is_open) = breaker(&case.config);
    let upstream = upstream(
        Config::new("peer")
            .retry(retries(&case.config))
            .breaker(rule),
    );
    if is_open {
        of_endpoint(&upstream).force(Manual::Open, Time::ZERO);
    }
    let mut world = World::new(&upstream, |_| at_once(outcome));
    let ended = world.run_call(Request::new(1));
    check_breaker(case, &of_endpoint(&upstream), ended.at);
    let stats = upstream.stats(ended.at);
    case.expect.expect("backend_calls", world.seen.len() as u64);
    case.expect
        .expect("rejections", stats.rejected(Reason::Open));
    case.expect.expect("took_ms", millis(ended.at));
}

/// The outer upstream's one attempt is a whole call of the inner one.
fn replay_breaker_over_retry(case: &Case<'_>) {
    let step = case.only_step();
    is_call(step);
    let outcome = outcome(step);
    let (rule, is_open) = breaker(&case.config);
    assert!(!is_open, "an open breaker makes no call");
    let inner = upstream(Config::new("inner").retry(retries(&case.config)));
    let outer = upstream(Config::new("outer").breaker(rule));
    let mut backend_calls = 0;
    let mut world = World::new(&outer, |_| {
        let mut world = World::new(&inner, |_| at_once(outcome));
        let Ended { at, outcome, .. } = world.run_call(Request::new(1));
        backend_calls += world.seen.len() as u64;
        Reply::After(at.since(Time::ZERO), outcome.expect("a result"))
    });
    let ended = world.run_call(Request::new(1));
    drop(world);
    check_breaker(case, &of_endpoint(&outer), ended.at);
    case.expect.expect("backend_calls", backend_calls);
}

fn replay_breaker_over_bulkhead(case: &Case<'_>) {
    let (rule, is_open) = breaker(&case.config);
    assert!(!is_open, "an open breaker never asks for a seat");
    let config = Config::new("peer").breaker(rule.trials(TRIALS));
    let seats = bulkhead::Config::new(case.config.required("bulkhead"));
    let upstream = upstream(config.bulkhead(seats));
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    let mut calls = 0;
    for step in &case.steps {
        match step.required("op") {
            "occupy_bulkhead" => {
                let free = upstream
                    .bulkhead()
                    .expect("it was configured")
                    .stats()
                    .concurrency;
                (0..free).for_each(|_| _ = world.call(Request::new(1)));
            }
            "call" => {
                calls = step.times();
                (0..calls).for_each(|_| _ = world.call(Request::new(1)));
            }
            other => panic!("{}: unknown op {other}", step.place),
        }
    }
    let now = world.now;
    let rejections = upstream.stats(now).rejected(Reason::Full);
    case.expect.expect("bulkhead_rejections", rejections);
    check_breaker(case, &of_endpoint(&upstream), now);
    if case.expect.has("probe_permits_leaked") {
        of_endpoint(&upstream).force(Manual::Trial, now);
        (0..calls).for_each(|_| _ = world.call(Request::new(1)));
        let leaked = TRIALS - free_trials(&of_endpoint(&upstream), now);
        case.expect.expect("probe_permits_leaked", leaked);
    }
}

/// How many trials a half-open breaker still admits.
fn free_trials(breaker: &Breaker, now: Time) -> u32 {
    assert_eq!(breaker.state(now), State::HalfOpen);
    let permits = std::iter::from_fn(|| breaker.admit(now).ok());
    permits.filter(breaker::Permit::is_trial).count() as u32
}

/// Jitter left out, every attempt hangs.
fn replay_timeouts(case: &Case<'_>) {
    let (peer, step) = (&case.config, case.only_step());
    is_call(step);
    let every: &str = step.required("every_attempt");
    assert_eq!(every, "hangs");
    let limits = deadline::Config::call(peer.millis("total_ms"));
    let waits = series(&peer.required::<Vec<u64>>("backoff_ms"), Duration::ZERO);
    let retry = retry::Config::attempts(peer.required::<u32>("retries") + 1).backoff(waits);
    let config = Config::new("peer").deadline(limits.attempt(peer.millis("attempt_ms")));
    let upstream = upstream(config.retry(retry));
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    let ended = world.run_call(Request::new(1));
    let starts = world.seen.iter().map(|seen| millis(seen.at));
    case.expect
        .expect("attempt_starts_ms", starts.collect::<Vec<_>>());
    let name = match ended.step {
        Step::Reject(Rejection {
            reason: Reason::Deadline,
            ..
        }) => "total_timeout",
        Step::Reject(Rejection {
            reason: Reason::Timeout,
            ..
        }) => "attempt_timeout",
        step => panic!("unknown end {step:?}"),
    };
    case.expect.expect("final", name);
    case.expect.expect("ends_at_ms", millis(ended.at));
}

/// A call that the rate limit rejects leaves the half-open breaker's only trial alone.
fn replay_flow_first(case: &Case<'_>) {
    let step = case.only_step();
    is_call(step);
    let policies: [&str; 2] = [step.required("flow"), step.required("degrade")];
    assert_eq!(policies, ["blocked", "half_open"]);
    let config = Config::new("peer")
        .rate(rate::Config::new(1, Duration::from_secs(60)))
        .breaker(breaker::Config::default().trials(1));
    let upstream = upstream(config);
    let mut world = World::new(&upstream, |_| at_once(Outcome::Success));
    world.run_call(Request::new(1));
    of_endpoint(&upstream).force(Manual::Trial, world.now);
    let ended = world.run_call(Request::new(1));
    let result = match ended.step {
        Step::Reject(Rejection {
            reason: Reason::Rate,
            ..
        }) => "blocked_by_flow",
        step => panic!("unknown end {step:?}"),
    };
    case.expect.expect("result", result);
    let is_taken = free_trials(&of_endpoint(&upstream), ended.at) == 0;
    case.expect.expect("breaker_probe_consumed", is_taken);
}

/// So many half-open calls at once, of which none may be lost.
const TRIALS: u32 = 3;
