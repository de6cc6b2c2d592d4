//! How a rollout is doing, for people.

use std::time::UNIX_EPOCH;

use outlast::Clock;
use outlast::canary::{Decision, Seen};
use outlast::time::Time;
use serde::Serialize;

use super::Rollout;
use crate::attempt::wall;

/// How the canary of a route is doing.
#[derive(Clone, Debug, Serialize)]
pub struct CanaryStatus {
    /// The name of the new version's upstream.
    pub upstream: String,
    /// `running`, `paused`, `promoting` (all traffic is at the new version, and the way back is
    /// open), `done` or `rolled_back`.
    pub state: &'static str,
    /// The share of the traffic that the new version gets, from 0 to 1.
    pub share: f64,
    /// The old version in the current step.
    pub baseline: VersionStatus,
    /// The new version in the current step.
    pub canary: VersionStatus,
    /// The last 64 decisions, oldest first.
    pub decisions: Vec<DecisionStatus>,
}

/// How one of both versions is doing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct VersionStatus {
    /// Requests that were compared.
    pub calls: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// The median time to the head of an answer.
    pub median_ms: Option<f64>,
}

/// A decision about a canary, and when it was made.
#[derive(Clone, Debug, Serialize)]
pub struct DecisionStatus {
    /// Unix seconds.
    pub at: f64,
    /// `promoted`, `done`, `rolled_back`, `paused`, `resumed` or `restarted`.
    pub what: &'static str,
    /// What was decided, why, and the numbers of both versions.
    pub text: String,
}

impl Rollout {
    pub(crate) fn status(&self) -> CanaryStatus {
        let stats = self.stats();
        let now = Clock::Precise.now();
        let decisions = stats.decisions.iter();
        CanaryStatus {
            upstream: self.version.clone(),
            state: stats.state.name(),
            share: stats.share.as_f64(),
            baseline: VersionStatus::of(stats.seen.baseline),
            canary: VersionStatus::of(stats.seen.canary),
            decisions: decisions
                .map(|decision| DecisionStatus::of(decision, now))
                .collect(),
        }
    }

    /// The share of the traffic that the new version gets, in percent.
    pub(crate) fn share(&self) -> f64 {
        (self.stats().share.as_f64() * 1e6).round() / 1e4
    }
}

impl VersionStatus {
    fn of(seen: Seen) -> VersionStatus {
        VersionStatus {
            calls: seen.calls,
            errors: seen.errors,
            median_ms: seen.median.map(|median| median.as_secs_f64() * 1e3),
        }
    }
}

impl DecisionStatus {
    pub(crate) fn of(decision: &Decision, now: Time) -> DecisionStatus {
        let at = wall() - now.since(decision.at);
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        DecisionStatus {
            at: at.as_secs_f64(),
            what: decision.what.name(),
            text: decision.to_string(),
        }
    }
}
