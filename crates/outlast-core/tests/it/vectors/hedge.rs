//! Hedging, in a virtual world.
//!
//! Peers start the next attempt at once when one has failed, also when none is left running; with
//! us that is a retry without a wait, so both policies stand for a peer's one.

use std::time::Duration;

use outlast_core::call::{Kind, Request, Step};
use outlast_core::hedge::Config;
use outlast_core::outcome::Outcome;
use outlast_core::time::Time;
use outlast_core::upstream::{self, Upstream};
use outlast_core::{backoff::Backoff, budget, deadline, ratio::Ratio, retry};

use super::{Case, DAY, Fields, millis, ratio};
use crate::world::{Reply, World};

pub(super) fn replay(case: &Case<'_>) {
    let peer = &case.config;
    match case.profile {
        "polly_v8" => replay_call(case, peer.required("max_hedged"), peer.required("delay_ms")),
        "grpc" => {
            let attempts: u32 = peer.required("max_attempts");
            replay_call(case, attempts - 1, peer.required("hedging_delay_ms"));
        }
        "failsafe" => replay_call(case, peer.required("max_hedges"), peer.required("delay_ms")),
        "finagle" => replay_quantile(case),
        _ => case.unknown_profile(),
    }
}

/// A negative delay means to wait for a failure.
fn replay_call(case: &Case<'_>, extra: u32, delay: i64) {
    let retry = retry::Config::attempts(1 + extra);
    let mut config = config()
        .retry(retry.backoff(Backoff::constant(Duration::ZERO)))
        .budget(extra_attempts(extra));
    if let Ok(delay) = u64::try_from(delay) {
        config = config.hedge(Config::after(Duration::from_millis(delay)).hedges(extra));
    }
    let upstream = match case.config.object("budget") {
        None => Upstream::new(config, 1).expect("valid settings"),
        Some(shared) => with_shared_budget(config, &shared, &case.config),
    };
    let denied_before = denied(&upstream);
    let attempts: Vec<_> = case
        .steps
        .iter()
        .enumerate()
        .map(|at| attempt(case, at))
        .collect();
    let mut world = World::new(&upstream, |seen| {
        let (_, outcome, took) = attempts[seen.id.number() as usize - 1];
        Reply::After(took, outcome)
    });
    let ended = world.run_call(Request::new(1));
    let Step::Done { id, .. } = ended.step else {
        panic!("some attempt has a result");
    };
    let winner = id.number() - 1;
    let starts = world.seen.iter().map(|seen| millis(seen.at));
    let mut cancelled: Vec<_> = world
        .cancelled
        .iter()
        .map(|(_, id, _)| id.number() - 1)
        .collect();
    cancelled.sort_unstable();
    case.expect.expect("starts_ms", starts.collect::<Vec<_>>());
    case.expect.expect("winner", winner);
    case.expect.expect("final", attempts[winner as usize].0);
    case.expect.expect("ends_at_ms", millis(ended.at));
    case.expect.expect("cancelled", cancelled);
    case.expect
        .expect("budget_exceeded", denied(&upstream) > denied_before);
}

fn config() -> upstream::Config {
    upstream::Config::new("peer")
        .deadline(deadline::Config::attempt_only(DAY))
        .budget(None)
}

/// The peers' bound on hedges and what follows a failure, taken together.
pub(super) fn extra_attempts(extra: u32) -> budget::Config {
    budget::Config::new(Ratio::ZERO).reserve(extra).window(DAY)
}

/// failsafe-go allows extra attempts for a share of the executions under way; ours for a share of
/// the successes. Those under way before the case begins have drawn on it already.
fn with_shared_budget(
    config: upstream::Config,
    shared: &Fields<'_>,
    peer: &Fields<'_>,
) -> Upstream {
    let share = ratio(shared.required("max_rate"));
    let allowed = budget::Config::new(share).reserve(shared.required("min_concurrency"));
    let upstream = Upstream::new(config.budget(allowed), 1).expect("valid settings");
    let budget = upstream.budget().expect("it was configured");
    for _ in 0..peer.required::<u64>("executions") {
        budget.deposit(Time::ZERO);
    }
    for _ in 0..peer.required::<u64>("inflight") {
        _ = budget.withdraw(Time::ZERO);
    }
    upstream
}

fn denied(upstream: &Upstream) -> u64 {
    let budget = upstream.budget();
    budget.map_or(0, |budget| budget.stats(Time::ZERO).denied)
}

fn attempt<'a>(case: &Case<'a>, (at, step): (usize, &Fields<'a>)) -> (&'a str, Outcome, Duration) {
    let number: u64 = step.required("attempt");
    assert_eq!(
        number, at as u64,
        "{}: the number of the attempt",
        step.place
    );
    let name: &str = step.required("outcome");
    let non_fatal = case.config.optional::<Vec<&str>>("non_fatal");
    let outcome = match (name, non_fatal) {
        ("ok" | "OK", _) => Outcome::Success,
        ("err", None) => Outcome::Transient,
        (name, Some(codes)) if codes.contains(&name) => Outcome::Transient,
        (_, Some(_)) => Outcome::Permanent,
        (other, None) => panic!("{}: unknown outcome {other}", step.place),
    };
    (name, outcome, step.millis("took_ms"))
}

/// After calls of known latencies, one that hangs is hedged at their quantile, which ours knows to
/// an eighth.
fn replay_quantile(case: &Case<'_>) {
    let (peer, step) = (&case.config, case.only_step());
    let latencies = step
        .required::<&str>("latencies_ms")
        .strip_suffix(" uniform");
    let (from, to) = latencies
        .and_then(|range| range.split_once(".."))
        .expect("a range");
    let millis = |text: &str| text.parse::<u64>().expect("whole milliseconds");
    let latencies: Vec<u64> = (millis(from)..=millis(to)).collect();
    let quantile = ratio(1.0 - peer.required::<f64>("max_extra_load"));
    let floor = peer.millis("min_send_after_ms");
    let hedge = Config::after_quantile(quantile)
        .min_samples(latencies.len() as u32)
        .floor(floor);
    let upstream = Upstream::new(config().hedge(hedge), 1).expect("valid settings");
    let mut world = World::new(&upstream, |seen| match latencies.get(seen.call) {
        Some(&took) => Reply::After(Duration::from_millis(took), Outcome::Success),
        None if seen.kind == Kind::First => Reply::Hangs,
        None => Reply::After(Duration::ZERO, Outcome::Success),
    });
    for _ in &latencies {
        world.run_call(Request::new(1));
    }
    world.run_until(world.now + Duration::from_secs(1));
    let began = world.now;
    let delay = world.run_call(Request::new(1)).at.since(began);
    let share: f64 = case.expect.required("send_backup_after_percentile");
    let rank = (share * latencies.len() as f64).ceil() as usize;
    let exact = Duration::from_millis(latencies[rank - 1]).max(floor);
    assert!(
        (exact..=exact * 9 / 8).contains(&delay),
        "{delay:?} for {exact:?}"
    );
}
