//! The peers' settings in our terms.

use std::time::Duration;

use outlast_core::backoff::{Backoff, Jitter};
use outlast_core::upstream::{Config, Upstream};
use outlast_core::{deadline, ratio::Ratio, retry};

use crate::vectors::fields::Fields;
use crate::vectors::{Case, DAY, ratio};

/// A peer's settings in our terms.
pub(super) struct Policy {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) limit: Option<Duration>,
}

impl Policy {
    pub(super) fn upstream(&self) -> Upstream {
        let limits = match self.limit {
            None => deadline::Config::default(),
            Some(limit) => deadline::Config::call(limit),
        };
        let retry = retry::Config::attempts(self.attempts).backoff(self.backoff);
        let config = Config::new("peer").retry(retry).budget(None);
        Upstream::new(config.deadline(limits.attempt(DAY)), 1).expect("valid settings")
    }
}

pub(super) fn policy(case: &Case<'_>) -> Policy {
    let peer = &case.config;
    let (attempts, backoff) = match case.profile {
        "resilience4j" => (peer.required("max_attempts"), resilience4j(peer)),
        "polly_v8" => (peer.required::<u32>("max_retry_attempts") + 1, polly(peer)),
        "failsafe" | "failsafe_http" => (peer.required::<u32>("max_retries") + 1, failsafe(peer)),
        "microprofile_ft" => (retries_or_no_end(peer), microprofile(peer)),
        "tenacity" => (MOST_ATTEMPTS, tenacity(peer)),
        "grpc" => (
            peer.required::<u32>("max_attempts").min(GRPC_ATTEMPTS),
            grpc(peer),
        ),
        "aws_standard_2_0" | "aws_standard_2_1" => (MOST_ATTEMPTS, aws(peer)),
        _ => case.unknown_profile(),
    };
    let limit = peer
        .optional("max_duration_ms")
        .or(peer.optional("limit_ms"));
    Policy {
        attempts,
        backoff,
        limit: limit.map(Duration::from_millis),
    }
}

fn resilience4j(peer: &Fields<'_>) -> Backoff {
    let replaces_result = peer.optional("fail_after_max_attempts").unwrap_or(false);
    assert!(!replaces_result, "the last result is never replaced");
    match peer.optional("wait_ms") {
        Some(wait) => Backoff::constant(Duration::from_millis(wait)),
        None => Backoff::exponential(peer.millis("initial_ms"))
            .factor(peer.required("multiplier"))
            .jitter(Jitter::None),
    }
}

fn polly(peer: &Fields<'_>) -> Backoff {
    let base = peer.millis("delay_ms");
    let is_spread = peer.optional("jitter").unwrap_or(false);
    let (backoff, jitter) = match (peer.optional("backoff").unwrap_or("constant"), is_spread) {
        ("exponential", true) => panic!("the core has no such formula"),
        ("constant", _) => (
            Backoff::constant(base),
            Jitter::Proportional(Ratio::percent(25)),
        ),
        ("linear", _) => (
            Backoff::linear(base),
            Jitter::Proportional(Ratio::percent(25)),
        ),
        ("exponential", _) => (Backoff::exponential(base), Jitter::None),
        (other, _) => panic!("unknown backoff {other}"),
    };
    let jitter = if is_spread { jitter } else { Jitter::None };
    capped(backoff.jitter(jitter), peer.optional("max_delay_ms"))
}

fn failsafe(peer: &Fields<'_>) -> Backoff {
    let base = peer.millis("delay_ms");
    let backoff = match peer.optional("factor") {
        None => Backoff::constant(base),
        Some(factor) => Backoff::exponential(base)
            .factor(factor)
            .jitter(Jitter::None),
    };
    capped(backoff, peer.optional("max_delay_ms"))
}

/// A spread in milliseconds around the delay, cut off at zero.
fn microprofile(peer: &Fields<'_>) -> Backoff {
    let (delay, spread) = (peer.millis("delay_ms"), peer.millis("jitter_ms"));
    if spread > delay {
        return Backoff::constant(delay + spread).jitter(Jitter::Full);
    }
    let share = spread.as_secs_f64() / delay.as_secs_f64().max(f64::MIN_POSITIVE);
    Backoff::constant(delay).jitter(Jitter::Proportional(ratio(share)))
}

fn retries_or_no_end(peer: &Fields<'_>) -> u32 {
    match peer.required::<i64>("max_retries") {
        -1 => MOST_ATTEMPTS,
        retries => u32::try_from(retries).expect("a number of retries") + 1,
    }
}

fn tenacity(peer: &Fields<'_>) -> Backoff {
    let stop: &str = peer.required("stop");
    assert_eq!(stop, "before_delay", "a deadline is never overslept");
    let wait: &str = peer.required("wait");
    let seconds = wait
        .strip_prefix("exponential_")
        .and_then(|wait| wait.strip_suffix('s'));
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    let base = Duration::from_secs(seconds.unwrap_or_else(|| panic!("unknown wait {wait}")));
    Backoff::exponential(base).jitter(Jitter::None)
}

fn grpc(peer: &Fields<'_>) -> Backoff {
    let backoff = Backoff::exponential(peer.millis("initial_ms"))
        .factor(peer.optional("multiplier").unwrap_or(2.0))
        .jitter(Jitter::Proportional(Ratio::percent(20)));
    capped(backoff, peer.optional("max_ms"))
}

fn aws(peer: &Fields<'_>) -> Backoff {
    let base = peer.optional("base_ms").unwrap_or(1000);
    let backoff = Backoff::exponential(Duration::from_millis(base)).jitter(Jitter::Full);
    capped(backoff, peer.optional("max_ms"))
}

fn capped(backoff: Backoff, max: Option<u64>) -> Backoff {
    match max {
        None => backoff,
        Some(max) => backoff.max(Duration::from_millis(max)),
    }
}

/// The most that our retry policy allows; stands for "no end".
const MOST_ATTEMPTS: u32 = 1_000;
/// gRPC's clients read a higher limit in a service config as this one.
const GRPC_ATTEMPTS: u32 = 5;
