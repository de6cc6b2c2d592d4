//! Failover in order, in a virtual world.

use std::time::Duration;

use outlast_core::call::{Request, Step};
use outlast_core::failover::Config;
use outlast_core::outcome::Outcome;
use outlast_core::upstream::{self, Upstream};
use outlast_core::{backoff::Backoff, deadline, hedge, retry};

use super::{Case, DAY, Fields, hedge::extra_attempts, millis};
use crate::world::{Reply, World};

pub(super) fn replay(case: &Case<'_>) {
    if case.profile != "dotnet_http" {
        case.unknown_profile();
    }
    let groups: Vec<Vec<&str>> = case.config.required("groups");
    let upstream = upstream(&case.config, &groups);
    let attempts: Vec<_> = case.steps.iter().map(attempt).collect();
    let name = |endpoint| upstream.endpoint(endpoint).expect("an endpoint");
    let mut world = World::new(&upstream, |seen| {
        let (endpoint, status, took) = attempts[seen.id.number() as usize - 1];
        assert_eq!(&*name(seen.endpoint), endpoint, "where the attempt goes");
        Reply::After(took, outcome(status))
    });
    let ended = world.run_call(Request::new(1));
    let Step::Done { id, .. } = ended.step else {
        panic!("some attempt has a result");
    };
    let (endpoint, status, _) = attempts[id.number() as usize - 1];
    let tried = world
        .seen
        .iter()
        .map(|seen| name(seen.endpoint).to_string());
    case.expect.expect("tried", tried.collect::<Vec<_>>());
    case.expect
        .expect("final", format!("{status} from {endpoint}"));
    case.expect.expect("ends_at_ms", millis(ended.at));
}

/// Every group is used at most once in a call, after a failure or when one is slow.
fn upstream(peer: &Fields<'_>, groups: &[Vec<&str>]) -> Upstream {
    let delay = peer.millis("delay_ms");
    let extra = peer
        .required::<u32>("max_hedged")
        .min(groups.len() as u32 - 1);
    let retry = retry::Config::attempts(1 + extra);
    let mut config = upstream::Config::new("peer")
        .deadline(deadline::Config::attempt_only(DAY))
        .retry(retry.backoff(Backoff::constant(Duration::ZERO)))
        .budget(extra_attempts(extra));
    for group in groups {
        let [endpoint] = group[..] else {
            panic!("a group of one endpoint was expected, not {group:?}");
        };
        config = config.endpoint(endpoint);
    }
    if extra > 0 {
        let hedge = hedge::Config::after(delay).hedges(extra);
        config = config.failover(Config::ordered()).hedge(hedge);
    }
    Upstream::new(config, 1).expect("valid settings")
}

fn attempt<'a>(step: &Fields<'a>) -> (&'a str, &'a str, Duration) {
    (
        step.required("endpoint"),
        step.required("outcome"),
        step.millis("took_ms"),
    )
}

fn outcome(status: &str) -> Outcome {
    match status {
        "200" => Outcome::Success,
        "500" | "502" | "503" | "504" => Outcome::Transient,
        other => panic!("unknown status {other}"),
    }
}
