//! A call that stays at one endpoint: no two providers for one piece of work.

use std::time::Duration;

use outlast_core::call::{Call, Kind, Request, Step};
use outlast_core::deadline;
use outlast_core::outcome::Outcome;
use outlast_core::reject::Reason;
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Upstream};
use outlast_core::{breaker, failover, retry};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn providers(endpoints: usize, is_ordered: bool, attempts: Option<u32>) -> Upstream {
    let mut config = Config::new("pay").budget(None);
    config = config.deadline(deadline::Config::attempt_only(10 * MS));
    for number in 0..endpoints {
        config = config.endpoint(format!("{number}"));
    }
    if is_ordered && endpoints > 1 {
        config = config.failover(failover::Config::ordered());
    }
    if let Some(attempts) = attempts {
        config = config.retry(retry::Config::attempts(attempts).backoff(MS));
    }
    Upstream::new(config, 1).unwrap()
}

/// How a provider takes an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reply {
    /// Nothing reached it.
    Unsent,
    /// It says that it did nothing.
    Refused,
    /// Something went wrong, and nobody knows whether it did the work.
    Unknown,
    /// It never answers.
    Hangs,
    Success,
}

/// Runs a call whose driver binds it before each attempt, and frees it when that is safe; where
/// the attempts went, and the end.
fn run(upstream: &Upstream, bound: Option<usize>, script: &[Reply]) -> (Vec<(usize, Kind)>, Step) {
    let mut now = Time::ZERO;
    let mut call = Call::new(upstream, Request::new(7), now);
    call.stay(bound);
    let (mut seen, mut in_doubt) = (Vec::new(), bound.is_some());
    loop {
        match call.step(now) {
            Step::Attempt(attempt) => {
                let reply = script.get(seen.len()).copied().unwrap_or(Reply::Success);
                seen.push((attempt.endpoint, attempt.kind));
                call.stay(Some(attempt.endpoint));
                let outcome = match reply {
                    Reply::Unsent => Outcome::Unsent,
                    Reply::Refused | Reply::Unknown => Outcome::Transient,
                    Reply::Hangs => {
                        in_doubt = true;
                        continue;
                    }
                    Reply::Success => Outcome::Success,
                };
                in_doubt = match reply {
                    Reply::Refused => false,
                    Reply::Unsent => in_doubt,
                    Reply::Unknown | Reply::Hangs | Reply::Success => true,
                };
                if !in_doubt {
                    call.stay(None);
                }
                call.outcome(attempt.id, outcome, now);
            }
            Step::Wait { until } => now = until,
            Step::Cancel { .. } => {}
            end @ (Step::Done { .. } | Step::Reject(_)) => return (seen, end),
        }
    }
}

#[test]
fn a_definite_failure_lets_the_next_provider_try_and_an_unknown_one_does_not() {
    use Kind::{Failover, First, Retry};
    for (reply, expected) in [
        (Reply::Unsent, vec![(0, First), (1, Failover)]),
        (Reply::Refused, vec![(0, First), (1, Failover)]),
        (Reply::Unknown, vec![(0, First), (0, Retry)]),
        (Reply::Hangs, vec![(0, First), (0, Retry)]),
    ] {
        let upstream = providers(2, true, Some(3));
        let (seen, end) = run(&upstream, None, &[reply]);
        assert_eq!(seen, expected, "{reply:?}");
        assert!(matches!(end, Step::Done { stop: None, .. }), "{reply:?}");
    }
}

#[test]
fn without_retries_an_unknown_failure_ends_the_call() {
    let upstream = providers(2, true, None);
    let (seen, end) = run(&upstream, None, &[Reply::Unknown]);
    assert_eq!(seen, [(0, Kind::First)]);
    assert!(matches!(end, Step::Done { stop: Some(stop), .. } if stop.reason == Reason::Attempts));
    let (seen, end) = run(&upstream, None, &[Reply::Hangs]);
    assert_eq!(seen, [(0, Kind::First)]);
    assert!(matches!(end, Step::Reject(stop) if stop.reason == Reason::Timeout));
}

#[test]
fn a_call_that_arrives_bound_is_refused_rather_than_sent_elsewhere() {
    let config = Config::new("pay").endpoint("a").endpoint("b");
    let config = config
        .failover(failover::Config::ordered())
        .breaker(breaker::Config::default());
    let upstream = Upstream::new(config, 1).unwrap();
    let second = upstream.breaker(1).unwrap();
    second.force(breaker::Manual::Open, Time::ZERO);
    let (seen, end) = run(&upstream, Some(1), &[]);
    assert_eq!(seen, []);
    assert!(matches!(end, Step::Reject(stop) if stop.reason == Reason::Open));
    assert_eq!(run(&upstream, Some(0), &[]).0, [(0, Kind::First)]);
}

proptest! {
    #[test]
    fn no_attempt_leaves_a_provider_that_may_have_done_the_work(
        endpoints in 1..5_usize,
        is_ordered: bool,
        attempts in prop::option::of(1..8_u32),
        bound in prop::option::of(0..5_usize),
        script in prop::collection::vec(
            prop::sample::select(vec![Reply::Unsent, Reply::Refused, Reply::Unknown, Reply::Hangs]),
            0..8,
        ),
    ) {
        let bound = bound.filter(|&bound| bound < endpoints);
        let upstream = providers(endpoints, is_ordered, attempts);
        let (seen, _) = run(&upstream, bound, &script);
        let mut holder = bound;
        for (at, &(endpoint, _)) in seen.iter().enumerate() {
            prop_assert!(holder.is_none_or(|holder| holder == endpoint), "{seen:?}");
            match script.get(at) {
                Some(Reply::Unsent) => {}
                Some(Reply::Refused) => holder = None,
                _ => holder = Some(endpoint),
            }
        }
    }
}
