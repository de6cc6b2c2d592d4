//! Timeouts and deadlines, in a virtual world.

use std::time::Duration;

use outlast_core::call::{Call, Request, Step};
use outlast_core::deadline::Config;
use outlast_core::outcome::Outcome;
use outlast_core::reject::Reason;
use outlast_core::time::Time;
use outlast_core::upstream::{self, Upstream};

use super::{Case, Fields, millis};
use crate::world::{Reply, World};

pub(super) fn replay(case: &Case<'_>) {
    match case.profile {
        "polly_v8" => replay_timeout(case),
        "outlast_recommended" => replay_hops(case),
        _ => case.unknown_profile(),
    }
}

fn upstream(config: Config) -> Upstream {
    let config = upstream::Config::new("peer").deadline(config);
    Upstream::new(config, 1).expect("valid settings")
}

/// One call under a timeout; its caller may go away.
fn replay_timeout(case: &Case<'_>) {
    let upstream = upstream(Config::attempt_only(case.config.millis("timeout_ms")));
    let [call, rest @ ..] = &case.steps[..] else {
        panic!("there is no call");
    };
    let op: &str = call.required("op");
    assert_eq!(op, "call");
    // Dropping a future ends the caller's wait whether its code co-operates or not.
    call.skip("cooperative");
    let outcome = call.optional("outcome").unwrap_or("ok");
    assert_eq!(outcome, "ok", "what the dependency answers at last");
    let took = call.millis("took_ms");
    let (_, name, at) = call_once(&upstream, took, rest);
    case.expect.expect("final", name);
    case.expect.expect("ends_at_ms", millis(at));
}

/// Runs one call of a dependency that answers after `took`, unless the steps after it take its
/// caller away: the world then, how it ended and when.
pub(super) fn call_once<'u>(
    upstream: &'u Upstream,
    took: Duration,
    rest: &[Fields<'_>],
) -> (World<'u>, &'static str, Time) {
    let mut world = World::new(upstream, move |_| Reply::After(took, Outcome::Success));
    let number = world.call(Request::new(1));
    let leaves = caller_leaves(rest);
    if let Some(at) = leaves {
        world.cancel_at(number, at);
    }
    world.run();
    let (name, at) = match (world.ended[number], leaves) {
        (Some(ended), _) => (final_name(ended.step), ended.at),
        (None, Some(at)) => ("cancelled", at),
        (None, None) => panic!("the call never ended"),
    };
    (world, name, at)
}

/// When the steps after a call take its caller away.
fn caller_leaves(steps: &[Fields<'_>]) -> Option<Time> {
    let [step] = steps else {
        assert!(steps.is_empty(), "a caller leaves once");
        return None;
    };
    let op: &str = step.required("op");
    assert_eq!(op, "cancel_caller");
    Some(step.at())
}

fn final_name(step: Step) -> &'static str {
    match step {
        Step::Done { .. } => "ok",
        Step::Reject(rejection) if rejection.reason == Reason::Timeout => "timeout_rejected",
        step => panic!("unknown end {step:?}"),
    }
}

/// What is left of an inbound deadline for the call that is made under it.
fn replay_hops(case: &Case<'_>) {
    let upstream = upstream(Config::call(case.config.millis("local_timeout_ms")));
    let [inbound, outbound] = &case.steps[..] else {
        panic!("one call in, one call out");
    };
    let ops: [&str; 2] = [inbound.required("op"), outbound.required("op")];
    assert_eq!(ops, ["inbound", "outbound"]);
    let deadline = inbound.at() + inbound.millis("remaining_ms");
    let now = outbound.at();
    let call = Call::new(&upstream, Request::new(1).deadline(deadline), now);
    let remaining: Duration = call.deadline().since(now);
    case.expect
        .expect("outbound_remaining_ms", remaining.as_millis() as u64);
}
