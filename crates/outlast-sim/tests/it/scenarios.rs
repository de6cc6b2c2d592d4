//! The scenarios that are shipped: what they promise is kept with the policies that protect, and what
//! matters of it is broken with those that most have.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use outlast_sim::scenario::{Batch, Trial, batch};

#[test]
fn storm() {
    check(
        "storm",
        &[
            "goodput >= 99% within 5s of recovery",
            "recovery <= 5s",
            "attempts/calls <= 1.1",
            "no wasted work",
        ],
    );
}

#[test]
fn bulkhead() {
    check(
        "bulkhead",
        &[
            "goodput of buyers >= 99.5% during faults",
            "p99 of buyers < 500ms during faults",
        ],
    );
}

#[test]
fn deadline() {
    check(
        "deadline",
        &[
            "no wasted work after deadline",
            "goodput >= 99% within 5s of recovery",
            "recovery <= 5s",
            "attempts/calls <= 1.1",
        ],
    );
}

#[test]
fn providers() {
    check(
        "providers",
        &[
            "goodput >= 98% from 30s to 70s",
            "p99 < 1s from 35s to 70s",
            "goodput >= 99% from 130s to 190s",
            "p99 < 1s from 135s to 190s",
        ],
    );
}

#[test]
fn redis() {
    check("redis", &[]);
}

#[test]
fn redis_with_a_readiness_that_asks_it() {
    check(
        "redis-readiness",
        &[
            "goodput >= 99% during faults",
            "goodput >= 99.9% within 1s of recovery",
            "recovery <= 2s",
        ],
    );
}

/// No policies of those who call mend this one.
#[test]
fn redis_with_a_liveness_that_asks_it() {
    let broken = ["goodput >= 99.9% within 1s of recovery", "recovery <= 2s"];
    for policy in [None, Some("redis.naive.policy.yaml")] {
        breaks(&trial("redis-liveness", policy), &broken);
    }
}

#[test]
fn region() {
    check(
        "region",
        &[
            "p50 < 30ms before faults",
            "p99 < 300ms from 50s to 100s",
            "attempts/calls <= 1.1",
        ],
    );
}

#[test]
fn herd() {
    check(
        "herd",
        &[
            "goodput >= 40% from 55s to 110s",
            "goodput >= 99% within 60s of recovery",
            "recovery <= 60s",
            "attempts/calls <= 1.2",
        ],
    );
}

#[test]
fn gray() {
    check(
        "gray",
        &[
            "goodput >= 99.9% during faults",
            "p99 < 150ms from 115s to 160s",
        ],
    );
}

#[test]
fn sale() {
    check(
        "sale",
        &[
            "goodput of buyers >= 99% during faults",
            "p99 of buyers < 500ms during faults",
            "goodput >= 50% during faults",
            "recovery <= 2s",
            "attempts/calls <= 1.1",
        ],
    );
}

#[test]
fn order() {
    check(
        "order",
        &["no half-done sagas", "completed >= 97% from 90s to 120s"],
    );
}

#[test]
fn metastable() {
    check(
        "metastable",
        &[
            "goodput >= 99% within 5s of recovery",
            "recovery <= 5s",
            "attempts/calls <= 1.1",
        ],
    );
}

#[test]
fn every_shipped_scenario_has_a_test_a_paragraph_and_its_command() {
    let tests = include_str!("scenarios.rs");
    let guide = include_str!("../../../../docs/scenarios.md");
    for name in files(".yaml") {
        let Some(name) = name.strip_suffix(".yaml").filter(|name| !is_policy(name)) else {
            continue;
        };
        assert!(
            tests.contains(&format!("\"{name}\",")),
            "{name} has no test"
        );
        let told = format!("[`{name}`](../scenarios/{name}.yaml)");
        assert!(guide.contains(&told), "{name} is not in the guide");
        let text = std::fs::read_to_string(folder().join(format!("{name}.yaml"))).unwrap();
        let command = format!("#   outlast sim scenarios/{name}.yaml --vs scenarios/");
        assert!(text.starts_with("# ") && text.contains(&command), "{name}");
    }
}

#[test]
fn every_shipped_policy_file_is_good() {
    let policies: Vec<_> = files(".policy.yaml").collect();
    assert_eq!(policies.len(), 22, "{policies:?}");
    for name in policies {
        let loaded = outlast_config::load(&folder().join(&name));
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings().is_empty(), "{:?}", loaded.warnings());
    }
}

/// A scenario keeps all it promises with its own policies, and breaks these promises with the naive
/// ones; each in every run.
fn check(name: &str, naively: &[&str]) {
    let own = trial(name, None);
    let found = run(&own);
    for (number, promise) in own.scenario().promises.iter().enumerate() {
        for run in &found.runs {
            let kept = run.keeps(number, promise);
            assert!(kept, "{name}: {}, seed {}", promise.text, run.seed);
        }
    }
    let story = name.split('-').next().unwrap();
    breaks(
        &trial(name, Some(&format!("{story}.naive.policy.yaml"))),
        naively,
    );
}

fn breaks(trial: &Trial, texts: &[&str]) {
    let found = run(trial);
    let promises = &trial.scenario().promises;
    for text in texts {
        let number = promises.iter().position(|promise| promise.text == *text);
        let number = number.unwrap_or_else(|| panic!("{text} is not promised"));
        for run in &found.runs {
            let kept = run.keeps(number, &promises[number]);
            assert!(!kept, "{text} is kept, seed {}", run.seed);
        }
    }
}

/// As the command line does.
fn trial(name: &str, policy: Option<&str>) -> Trial {
    let scenario = folder().join(format!("{name}.yaml"));
    let draft = outlast_config::scenario::load(&scenario).unwrap();
    let policy = policy.map_or_else(|| draft.policy().unwrap(), |name| folder().join(name));
    let plan = outlast_config::load(&policy).unwrap().into_plan();
    let scenario = draft.bind(&plan);
    Trial::new(
        scenario.unwrap_or_else(|problems| panic!("{problems}")),
        &plan,
    )
}

/// Runs it with eight threads and with one, which makes no difference.
fn run(trial: &Trial) -> Batch {
    let [one, other] = [8, 1].map(|threads| {
        let threads = NonZeroUsize::new(threads).unwrap();
        batch(trial, trial.scenario().seed, RUNS, threads, &|_| {}).unwrap()
    });
    assert_eq!(one.hash(), other.hash());
    one
}

fn is_policy(name: &str) -> bool {
    name.ends_with(".policy")
}

fn files(end: &str) -> impl Iterator<Item = String> {
    let all = std::fs::read_dir(folder()).unwrap();
    let names = all.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(move |name| name.ends_with(end))
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios"))
}

/// What is shipped has five runs or more; the first of them do.
const RUNS: u32 = 3;
