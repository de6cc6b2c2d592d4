//! Aggregation of checks. What the results of real probes become is replayed in `outlast`.

use std::time::Duration;

use outlast_core::health::{Config, Registry, Warmup};
use outlast_core::time::Time;
use serde_json::Value;

use super::{Case, Fields};

pub(super) fn replay(case: &Case<'_>) {
    match case.profile {
        "microprofile_health" => replay_microprofile(case),
        "spring_boot" if case.config.has("includes") => replay_probe_groups(case),
        "spring_boot" => replay_statuses(case),
        _ => case.unknown_profile(),
    }
}

/// All checks are part of readiness; before the deployment ends nothing is up but the process.
fn replay_microprofile(case: &Case<'_>) {
    let is_deployed = case.config.optional("procedures_registered_yet");
    for step in &case.steps {
        let mut registry = Registry::new();
        if is_deployed == Some(false) {
            registry.set_warmup(Warmup::Running);
        }
        for (name, status) in statuses(step) {
            add(&mut registry, name, status, Config::default());
        }
        let is_up = match path(step) {
            "live" => registry.is_alive(),
            "ready" => registry.is_ready(),
            "started" => registry.is_started(),
            other => panic!("unknown path {other}"),
        };
        let expected = step.object("expect").expect("every step expects something");
        expected.expect("status", if is_up { "UP" } else { "DOWN" });
        expected.expect("http", code(is_up));
    }
}

fn statuses<'a>(step: &Fields<'a>) -> Vec<(&'a str, &'a str)> {
    let Some(checks) = step.optional::<&Value>("checks") else {
        return Vec::new();
    };
    let checks = checks.as_object().expect("statuses by name");
    let status = |(name, status): (&'a String, &'a Value)| {
        (name.as_str(), status.as_str().expect("a status"))
    };
    checks.iter().map(status).collect()
}

/// What a step asks for: all checks together, if it does not say.
fn path<'a>(step: &Fields<'a>) -> &'a str {
    match step.optional("op") {
        None => "ready",
        Some("get") => step.required("path"),
        Some(other) => panic!("unknown op {other}"),
    }
}

/// Groups that hold the application's own state only: what it depends on is informative.
fn replay_probe_groups(case: &Case<'_>) {
    let (group, includes): (&str, Vec<&str>) = (
        case.config.required("group"),
        case.config.required("includes"),
    );
    assert_eq!((group, &includes[..]), ("liveness", &["livenessState"][..]));
    let mut registry = Registry::new();
    for step in &case.steps {
        if let Some(status) = step.optional("external_db") {
            let informative = Config::default().critical(false);
            add(&mut registry, "external_db", status, informative);
            continue;
        }
        let op: &str = step.required("op");
        assert_eq!(op, "get");
        let is_up = match step.required("group") {
            "liveness" => registry.is_alive(),
            "readiness" => registry.is_ready(),
            "all" => registry.is_sound(),
            other => panic!("unknown group {other}"),
        };
        step.expect("expect", code(is_up));
    }
}

/// One status made of several, or its HTTP code.
fn replay_statuses(case: &Case<'_>) {
    let _order: Option<Vec<&str>> = case.config.optional("order");
    for step in &case.steps {
        let mut registry = Registry::new();
        let parts: Option<Vec<&str>> = step.optional("parts");
        let lone: Option<&str> = step.optional("status");
        for (number, status) in parts.into_iter().flatten().chain(lone).enumerate() {
            add(
                &mut registry,
                &format!("part{number}"),
                status,
                Config::default(),
            );
        }
        let is_up = registry.is_ready();
        if step.has("status") {
            step.expect("expect", code(is_up));
        } else {
            let expected: &str = step.required("expect");
            assert_eq!(is_up, expected == "UP", "{}", step.place);
        }
    }
}

/// Adds a check with the peer's status.
fn add(registry: &mut Registry, name: &str, status: &str, config: Config) {
    if status == "OUT_OF_SERVICE" {
        return registry.set_draining(true);
    }
    let id = registry.add(name, config).expect("valid settings");
    let result = match status {
        "UP" => Ok(()),
        "DOWN" => Err("down"),
        "UNKNOWN" => return,
        other => panic!("unknown status {other}"),
    };
    registry.record(id, result, Duration::ZERO, Time::ZERO);
}

fn code(is_up: bool) -> u64 {
    if is_up { 200 } else { 503 }
}
