//! Fallbacks: which results they cover.

use outlast_core::fallback::Why;
use outlast_core::outcome::Outcome;
use outlast_core::upstream::{Config, Upstream};

use super::{Case, Fields};

/// Errors that the peer handles are transient, others permanent.
pub(super) fn replay(case: &Case<'_>) {
    if case.profile != "polly_v8" {
        case.unknown_profile();
    }
    let upstream = Upstream::new(Config::new("peer"), 1).expect("valid settings");
    let handled: Vec<&str> = case.config.required("handle");
    let fallback: &str = case.config.required("fallback");
    // A fallback's own error reaches the caller like its answer.
    let answer = fallback.strip_prefix("throws ").unwrap_or(fallback);
    for step in &case.steps {
        check(&upstream, &handled, answer, step);
    }
}

fn check(upstream: &Upstream, handled: &[&str], answer: &str, step: &Fields<'_>) {
    let name: &str = step.required("outcome");
    let outcome = match name {
        "ok" => Outcome::Success,
        name if handled.contains(&name) => Outcome::Transient,
        _ => Outcome::Permanent,
    };
    let covered = upstream.falls_back(Why::Failed(outcome));
    step.expect("expect", (if covered { answer } else { name }).to_owned());
}
