//! The observed behaviour of other resilience libraries, replayed on the core.
//!
//! `tests/vectors/behaviour.json` holds cases: a peer's settings, a script, and what the peer did.
//! A replay translates the settings into ours and runs the script in virtual time. The translation
//! goes by pattern, profile (whose behaviour it is) and the keys of the settings, never by the id
//! of a case, so it serves cases it has not seen; whatever it does not know fails the case.
//!
//! Where Outlast decides otherwise on purpose, `decided-otherwise.json` names the case and says
//! why. That list is kept honest: a case on it that replays fine fails the test.

mod adaptive;
mod breaker;
mod budget;
mod bulkhead;
mod compose;
mod deadline;
mod failover;
mod fallback;
mod fault;
mod fields;
mod health;
mod hedge;
mod rate;
mod retry;
mod shedding;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::time::Duration;

use outlast_core::backoff::{Backoff, Jitter};
use outlast_core::ratio::Ratio;
use outlast_core::time::Time;
use serde_json::Value;

use self::fields::Fields;

/// One case, with the description that a replay does not need left out.
struct Case<'a> {
    profile: &'a str,
    config: Fields<'a>,
    steps: Vec<Fields<'a>>,
    expect: Fields<'a>,
}

impl<'a> Case<'a> {
    fn new(value: &'a Value) -> Case<'a> {
        let case = Fields::new("case", value);
        for description in DESCRIPTION {
            case.skip(description);
        }
        let steps: Vec<&Value> = case.required("steps");
        let step = |(at, step)| Fields::new(format!("step {at}"), step);
        let part = |key| {
            case.object(key)
                .unwrap_or_else(|| panic!("there is no {key}"))
        };
        Case {
            profile: case.required("profile"),
            config: part("config"),
            steps: steps.into_iter().enumerate().map(step).collect(),
            expect: part("expect"),
        }
    }

    /// The one step of a case that is a single question.
    fn only_step(&self) -> &Fields<'a> {
        let [step] = &self.steps[..] else {
            panic!("one step was expected, not {}", self.steps.len());
        };
        step
    }

    fn unknown_profile(&self) -> ! {
        panic!("the interpreter does not know the profile {}", self.profile)
    }
}

/// Translates a pattern and runs the script.
fn replay(pattern: &str, case: &Case<'_>) {
    match pattern {
        "circuit_breaker" => breaker::replay(case),
        "retry" => retry::replay(case),
        "retry_budget" => budget::replay(case),
        "timeout_deadline" => deadline::replay(case),
        "hedging" => hedge::replay(case),
        "bulkhead" => bulkhead::replay(case),
        "rate_limiter" => rate::replay(case),
        "composition" => compose::replay(case),
        "chaos" => fault::replay(case),
        "fallback_cache" => fallback::replay(case),
        "failover" => failover::replay(case),
        "health_check" => health::replay(case),
        "adaptive_concurrency" => adaptive::replay(case),
        "load_shedding" => shedding::replay(case),
        _ => panic!("the interpreter does not know the pattern {pattern}"),
    }
}

#[test]
fn every_case_replays_or_is_listed_as_decided_otherwise() {
    let (behaviour, otherwise) = (read("behaviour.json"), read("decided-otherwise.json"));
    let listed = decided_otherwise(&otherwise);
    let mut counts = BTreeMap::new();
    let mut problems = Vec::new();
    let mut ids = BTreeSet::new();
    for value in behaviour.as_array().expect("a list of cases") {
        let (id, pattern) = (text(value, "id"), text(value, "pattern"));
        assert!(ids.insert(id), "{id} is there twice");
        let fate = if NOT_BUILT_YET.contains(&pattern) {
            "skipped: not built yet"
        } else if is_replayed_in_outlast(value) {
            "left to the tests of the outlast crate"
        } else {
            match (try_replay(pattern, value), listed.contains(id)) {
                (Ok(()), false) => "replayed",
                (Err(_), true) => "decided otherwise",
                (Ok(()), true) => {
                    problems.push(format!("{id} replays fine; take it off the list"));
                    continue;
                }
                (Err(why), false) => {
                    problems.push(format!("{id}: {why}"));
                    continue;
                }
            }
        };
        *counts.entry(fate).or_insert(0) += 1;
    }
    for (fate, count) in counts {
        println!("{count:4} {fate}");
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Replays one case; the message of the assertion that failed.
fn try_replay(pattern: &str, value: &Value) -> Result<(), String> {
    let message = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned();
        let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or(literal).unwrap_or_default()
    };
    catch_unwind(|| replay(pattern, &Case::new(value))).map_err(message)
}

/// The ids on the list, each of which gives a reason.
fn decided_otherwise(list: &Value) -> BTreeSet<&str> {
    let mut ids = BTreeSet::new();
    for entry in list.as_array().expect("a list of decisions") {
        let (id, reason) = (text(entry, "id"), text(entry, "reason"));
        assert!(!reason.is_empty(), "{id} needs a reason");
        assert!(ids.insert(id), "{id} is listed twice");
    }
    ids
}

/// Header codecs, the merging of deadlines from headers, the cache of stale answers, feature flags and
/// real probes live in the `outlast` crate, whose tests replay these cases.
fn is_replayed_in_outlast(case: &Value) -> bool {
    if text(case, "pattern") == "health_check" {
        return is_about_probes(case);
    }
    let keys: &[&str] = match text(case, "pattern") {
        "timeout_deadline" => &["header", "ns", "a", "b"],
        "fallback_cache" => &["backend"],
        "feature_tier" => &["provider", "event"],
        _ => &[],
    };
    let steps = case["steps"].as_array().expect("a list of steps");
    let has_key = |step: &Value| keys.iter().any(|key| step.get(key).is_some());
    steps.iter().any(has_key)
}

/// Whether the checks of a case take time or panic.
fn is_about_probes(case: &Value) -> bool {
    let steps = case["steps"].as_array().expect("a list of steps");
    let mut checks = steps.iter().filter_map(|step| step["checks"].as_object());
    let panics = checks.any(|checks| checks.values().any(|status| status == "throws"));
    panics || case["config"].get("checks").is_some()
}

fn read(name: &str) -> Value {
    let path = format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().expect(key)
}

/// The series of waits with these first members, in milliseconds, each longer by `more`. After
/// the last one it stays there.
fn series(waits: &[u64], more: Duration) -> Backoff {
    let (Some(&first), Some(&last)) = (waits.first(), waits.last()) else {
        panic!("a series needs a first wait");
    };
    let factor = waits
        .get(1)
        .map_or(1.0, |&second| second as f64 / first as f64);
    let follows = |rule: &dyn Fn(usize) -> f64| {
        let rounded = |at| (first as f64 * rule(at)).round() as u64;
        waits
            .iter()
            .enumerate()
            .all(|(at, &wait)| wait == rounded(at))
    };
    let base = Duration::from_millis(first) + more;
    let backoff = if follows(&|at| factor.powi(at as i32)) {
        Backoff::exponential(base).factor(factor)
    } else if follows(&|at| at as f64 + 1.0) {
        Backoff::linear(base)
    } else {
        panic!("no backoff has the series {waits:?}");
    };
    let max = Duration::from_millis(last) + more;
    backoff.jitter(Jitter::None).max(max)
}

fn ratio(share: f64) -> Ratio {
    Ratio::new(share).expect("a ratio that the core accepts")
}

/// Whole milliseconds since the start.
fn millis(time: Time) -> u64 {
    time.as_nanos() / 1_000_000
}

/// What describes a case to people.
const DESCRIPTION: [&str; 7] = [
    "id",
    "pattern",
    "source",
    "source_test",
    "licence",
    "verified",
    "notes",
];

/// Patterns of later work.
const NOT_BUILT_YET: [&str; 2] = ["config_reload", "shared_state"];

/// For peers without a bound of their own: the longest that the core allows.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
