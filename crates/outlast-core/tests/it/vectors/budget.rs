//! Retry budgets.
//!
//! Ours is paid in by successes; a peer that counts requests is replayed with requests that
//! succeed. A fixed quota that never refills within the case is a reserve.

use std::time::Duration;

use outlast_core::budget::{Budget, Config};
use outlast_core::call::Request;
use outlast_core::outcome::Outcome;
use outlast_core::ratio::Ratio;
use outlast_core::time::Time;
use outlast_core::upstream::{self, Upstream};
use outlast_core::{backoff::Backoff, retry};

use super::{Case, Fields, ratio};
use crate::world::{World, at_once};

pub(super) fn replay(case: &Case<'_>) {
    match case.profile {
        "finagle" => replay_counts(case, finagle(&case.config)),
        "sre_book" => {
            let attempts: u32 = case.config.required("max_attempts_per_request");
            assert!(attempts > 1, "a request may be tried again");
            let share = ratio(case.config.required("client_retry_ratio"));
            replay_counts(case, Config::new(share).reserve(0));
        }
        "aws_standard_2_1" => replay_quota(case),
        _ => case.unknown_profile(),
    }
}

/// Its floor of retries per second, over the whole time to live.
fn finagle(peer: &Fields<'_>) -> Config {
    let window = peer.millis("ttl_ms");
    let per_second: f64 = peer.required("min_per_s");
    Config::new(ratio(peer.required("percent")))
        .window(window)
        .reserve((per_second * window.as_secs_f64()) as u32)
}

fn replay_counts(case: &Case<'_>, config: Config) {
    let budget = Budget::new(config).expect("valid settings");
    let (mut granted, mut denied) = (0u64, 0u64);
    for step in &case.steps {
        let now = step.at();
        let times = step.optional("n").unwrap_or(step.times());
        match step.required("op") {
            "deposit" | "requests" => (0..times).for_each(|_| budget.deposit(now)),
            "try_withdraw" | "retries" => {
                let got = (0..times).filter(|_| budget.withdraw(now).is_ok()).count() as u64;
                granted += got;
                denied += times - got;
            }
            other => panic!("{}: unknown op {other}", step.place),
        }
    }
    case.expect.expect("granted", granted);
    case.expect.expect("denied", denied);
    assert_eq!(budget.stats(Time::ZERO).denied, denied);
}

/// One call against a quota of which every retry takes its cost.
fn replay_quota(case: &Case<'_>) {
    let (peer, step) = (&case.config, case.only_step());
    let quota = peer.required::<u32>("quota") / peer.required::<u32>("retry_cost");
    let retry = retry::Config::attempts(peer.required("max_attempts"));
    let config = upstream::Config::new("peer")
        .retry(retry.backoff(Backoff::constant(Duration::ZERO)))
        .budget(Config::new(Ratio::ZERO).reserve(quota));
    let upstream = Upstream::new(config, 1).expect("valid settings");
    let outcomes: Vec<&str> = step.required("outcomes");
    let mut world = World::new(&upstream, |seen| {
        let name = outcomes.get(seen.id.number() as usize - 1);
        at_once(match *name.expect("an attempt that the peer makes too") {
            "ok" => Outcome::Success,
            "500" => Outcome::Transient,
            other => panic!("unknown outcome {other}"),
        })
    });
    world.run_call(Request::new(1));
    let attempts = world.seen.len();
    case.expect.expect("attempts", attempts as u64);
    case.expect.expect("final", outcomes[attempts - 1]);
}
