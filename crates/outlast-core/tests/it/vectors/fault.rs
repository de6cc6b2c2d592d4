//! Injected faults: which attempts are struck, and what a call makes of a delay.

use std::time::Duration;

use outlast_core::call::{Request, Step};
use outlast_core::fault::{Config, Fault};
use outlast_core::outcome::Outcome;
use outlast_core::reject::Reason;
use outlast_core::upstream::{self, Upstream};
use outlast_core::{deadline, ratio::Ratio};

use super::{Case, DAY, Fields, deadline::call_once, millis, ratio};
use crate::world::{World, at_once};

pub(super) fn replay(case: &Case<'_>) {
    if case.profile != "polly_simmy" {
        case.unknown_profile();
    }
    match case.config.optional("kind") {
        None => replay_rates(case),
        Some("latency") => replay_latency(case),
        Some(other) => panic!("unknown kind {other}"),
    }
}

fn replay_rates(case: &Case<'_>) {
    let is_on: bool = case.config.required("enabled");
    for step in &case.steps {
        let share = step.optional("injection_rate");
        let share = ratio(share.unwrap_or_else(|| case.config.required("injection_rate")));
        let struck = if is_on {
            Config::new(Fault::Error, share)
                .strike(step.required("random"))
                .is_some()
        } else {
            strikes_while_off(share, step)
        };
        let name = if struck { "injected" } else { "not_injected" };
        step.expect("expect", name);
    }
}

/// The random number does not matter to a fault that is switched off.
fn strikes_while_off(share: Ratio, step: &Fields<'_>) -> bool {
    step.skip("random");
    let fault = Config::new(Fault::Error, share).on(false);
    let upstream = upstream(fault);
    let mut world = World::new(&upstream, |_| at_once(Outcome::Success));
    let ended = world.run_call(Request::new(1));
    matches!(ended.step, Step::Reject(rejection) if rejection.reason == Reason::Fault)
}

fn upstream(fault: Config) -> Upstream {
    let config = upstream::Config::new("peer").fault(fault);
    let config = config.deadline(deadline::Config::attempt_only(DAY));
    Upstream::new(config, 1).expect("valid settings")
}

/// One call that is held back; its caller may go away meanwhile.
fn replay_latency(case: &Case<'_>) {
    let peer = &case.config;
    let delay = Fault::Delay(peer.millis("latency_ms"));
    let upstream = upstream(Config::new(delay, ratio(peer.required("injection_rate"))));
    let [call, rest @ ..] = &case.steps[..] else {
        panic!("there is no call");
    };
    let op: &str = call.required("op");
    assert_eq!(op, "call");
    let took = Duration::from_millis(call.optional("took_ms").unwrap_or(0));
    let (world, name, at) = call_once(&upstream, took, rest);
    let made = world.seen.iter().filter(|seen| seen.at <= at).count();
    let of_call = call.object("expect");
    for expect in of_call.iter().chain([&case.expect]) {
        expect.expect("final", name);
        expect.expect("ends_at_ms", millis(at));
        expect.expect("backend_calls", made as u64);
    }
}
