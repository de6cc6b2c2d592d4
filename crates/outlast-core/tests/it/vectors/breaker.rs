//! Circuit breakers, on [`Breaker`] itself.
//!
//! A call that our own policies reject takes a permit and gives it back unused.

mod peers;

use std::collections::BTreeMap;
use std::time::Duration;

use outlast_core::breaker::{Breaker, Manual, Permit, State};
use outlast_core::outcome::Outcome;
use outlast_core::reject::Rejection;
use outlast_core::time::Time;

pub(super) use self::peers::microprofile;
use super::{Case, Fields};

pub(super) fn replay(case: &Case<'_>) {
    let config = peers::config(case);
    let mut replay = Replay {
        breaker: Breaker::new(config, 1).expect("settings that the core accepts"),
        case,
        held: BTreeMap::new(),
        admitted: 0,
        now: Time::ZERO,
    };
    for step in &case.steps {
        replay.step(step);
    }
    replay.check(&case.expect);
}

struct Replay<'c, 'a> {
    breaker: Breaker,
    case: &'c Case<'a>,
    /// Calls under way, by name, and when they began.
    held: BTreeMap<&'a str, (Permit, Time)>,
    admitted: u64,
    now: Time,
}

impl<'a> Replay<'_, 'a> {
    fn step(&mut self, step: &Fields<'a>) {
        self.now = step.at();
        let expect = step.object("expect");
        match step.required("op") {
            "call" => {
                let outcome = outcome(self.case.profile, step.required("result"));
                let took = Duration::from_millis(step.optional("dur_ms").unwrap_or(0));
                for _ in 0..step.times() {
                    if let Some(permit) = self.admit(expect.as_ref()) {
                        self.breaker.record(permit, outcome, took, self.now);
                    }
                }
            }
            "acquire" => {
                if let Some(permit) = self.admit(expect.as_ref()) {
                    let held = self.held.insert(step.required("id"), (permit, self.now));
                    assert!(held.is_none(), "{}: that call is under way", step.place);
                } else {
                    step.skip("id");
                }
            }
            "complete" => {
                let held = self.held.remove(step.required::<&str>("id"));
                let (permit, began) = held.expect("a call that was admitted");
                let outcome = outcome(self.case.profile, step.required("result"));
                let took = self.now.since(began);
                self.breaker.record(permit, outcome, took, self.now);
            }
            "force" => self.breaker.force(manual(step.required("to")), self.now),
            "peek" => {}
            other => panic!("{}: unknown op {other}", step.place),
        }
        if let Some(expect) = expect {
            self.check(&expect);
        }
    }

    fn admit(&mut self, expect: Option<&Fields<'_>>) -> Option<Permit> {
        let admission = self.breaker.admit(self.now);
        if let Some(expect) = expect {
            expect.expect("admitted", admission.is_ok());
            if let (Err(Rejection { retry_after, .. }), true) =
                (&admission, expect.has("retry_after_ms"))
            {
                let wait = retry_after.expect("a hint when to come back");
                expect.expect("retry_after_ms", wait.as_millis() as u64);
            }
        }
        self.admitted += u64::from(admission.is_ok());
        admission.ok()
    }

    fn check(&self, expect: &Fields<'_>) {
        let stats = self.breaker.stats(self.now);
        expect.expect("state", name(stats.state).to_owned());
        for (rate, part) in [
            ("failure_rate", stats.tally.failed),
            ("slow_rate", stats.tally.slow),
        ] {
            if let Some(expected) = expect.optional::<f64>(rate) {
                assert!(stats.state != State::HalfOpen, "trials have no rate");
                let found = self.percent(part, stats.tally.total);
                let place = &expect.place;
                assert!(
                    (found - expected).abs() < 1e-3,
                    "{place}: {rate} {found}, not {expected}"
                );
            }
        }
        expect.expect("buffered", stats.tally.total);
        for failures in ["failed", "total_failures", "recorded_failures"] {
            expect.expect(failures, stats.tally.failed);
        }
        expect.expect("executed", self.admitted);
    }

    /// A rate as resilience4j shows it: -1 below the minimum of calls.
    fn percent(&self, part: u64, total: u64) -> f64 {
        if total < self.case.config.required("min_calls") {
            -1.0
        } else {
            100.0 * part as f64 / total as f64
        }
    }
}

/// The peers' names for what an operator asks.
fn manual(to: &str) -> Manual {
    match to {
        "forced_open" => Manual::Open,
        "closed" => Manual::Auto,
        "half_open" => Manual::Trial,
        "disabled" => Manual::Disabled,
        "metrics_only" => Manual::Closed,
        _ => panic!("there is no switch to {to}"),
    }
}

/// The peers' names for our states.
fn name(state: State) -> &'static str {
    match state {
        State::ForcedClosed => "metrics_only",
        state => state.name(),
    }
}

/// What a peer's judgement of a result is in our terms.
fn outcome(profile: &str, result: &str) -> Outcome {
    match (result, profile) {
        ("ok", _) => Outcome::Success,
        ("err", _) => Outcome::Transient,
        ("ignored", "microprofile_ft" | "polly_v8" | "failsafe") | ("unrecorded_err", _) => {
            Outcome::Permanent
        }
        ("ignored" | "cancelled", _)
        | ("bulkhead_full" | "rate_limited" | "retry_budget_exhausted", _)
        | ("blocked_by_other_rule", _) => Outcome::Ignored,
        _ => panic!("unknown result {result}"),
    }
}
