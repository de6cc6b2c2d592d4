//! `outlast tune`: what it suggests, and that the suggestion holds.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::{outlast, text};

/// A queue that is longer than a timeout: once it is full, all work is for callers that have gone, and
/// their retries keep it full (metastable).
const SCENARIO: &str = "\
policy: stock.policy.yaml
for: 100s
warm_up: 5s
services:
  stock: { work: { exponential: 20ms }, workers: 3, queue: 300 }
clients:
  shop: { upstream: stock, rate: 120/s, copies: 4, deadline: 5s }
timeline:
  - { service: stock, from: 20s, to: 25s, fault: hangs }
promises:
  - goodput >= 99% within 20s of recovery in 95% of runs
  - attempts/calls <= 1.3
";

const POLICY: &str = "\
# It grew over the years.
upstreams:
  stock:
    endpoints: [http://stock:7003]
    timeout: 1s # nobody remembers why
    retry: { attempts: 4, backoff: { base: 100ms } }
    budget: off # it was in the way
";

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("stock.yaml"), SCENARIO).unwrap();
    std::fs::write(folder.path().join("stock.policy.yaml"), POLICY).unwrap();
    folder
}

fn tune(folder: &Path, arguments: &str) -> Output {
    let all = format!("tune stock.yaml --budget 200 {arguments}");
    outlast(folder, &all.split_whitespace().collect::<Vec<_>>())
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

#[test]
fn a_bad_policy_becomes_one_that_keeps_its_promises() {
    let folder = folder();
    let folder = folder.path();
    let before = outlast(folder, &["sim", "stock.yaml", "--runs", "5"]);
    assert_eq!(before.status.code(), Some(1), "{}", text(&before.stdout));

    let tuned = tune(folder, "--add budget --out better.yaml");
    let told = text(&tuned.stdout);
    assert_eq!(
        tuned.status.code(),
        Some(0),
        "{told}{}",
        text(&tuned.stderr)
    );
    assert!(told.contains("written to better.yaml"), "{told}");
    assert!(
        told.contains("worlds that took part in no choice (seeds 2000001 to "),
        "{told}"
    );
    assert!(told.contains("is a fifth lower or higher"), "{told}");
    let (_, trade) = told.split_once("goodput against attempts").unwrap();
    assert!(trade.contains("  stock: timeout "), "{told}");
    assert!(
        trade
            .lines()
            .skip(1)
            .all(|line| line.len() < 100 || line.starts_with("again")),
        "{told}"
    );

    // It is the author's file with other values.
    let better = std::fs::read_to_string(folder.join("better.yaml")).unwrap();
    for kept in [
        "# It grew over the years.",
        "# nobody remembers why",
        "# it was in the way",
    ] {
        assert!(better.contains(kept), "{better}");
    }
    assert_ne!(better, POLICY);
    assert_eq!(
        std::fs::read_to_string(folder.join("stock.policy.yaml")).unwrap(),
        POLICY
    );
    let checked = outlast(folder, &["check", "better.yaml"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    // And it holds in worlds that nobody has seen.
    let words = "sim stock.yaml --policy better.yaml --seed 77000 --runs 20";
    let after = outlast(folder, &words.split(' ').collect::<Vec<_>>());
    assert_eq!(
        after.status.code(),
        Some(0),
        "{better}{}",
        text(&after.stdout)
    );
}

#[test]
fn the_same_seed_gives_the_same_suggestion_on_any_number_of_threads() {
    let folder = folder();
    let ask = |arguments: &str| tune(folder.path(), &format!("{arguments} --add budget --json"));
    let one = ask("--threads 1 --seed 3");
    let eight = ask("--threads 8 --seed 3");
    assert_eq!(text(&one.stdout), text(&eight.stdout));
    let (one, other) = (json(&one), json(&ask("--seed 4")));
    assert_ne!(one["rounds"], other["rounds"]);
    assert_eq!(one["fresh_seed"], 1_000_003);
    assert_eq!(one["evidence_seed"], 2_000_003);
    assert!(one["runs"].as_u64().unwrap() <= 200, "{}", one["runs"]);
    let settings = one["settings"].as_array().unwrap();
    assert_eq!(settings.len(), 6, "{settings:?}");
    assert!(
        settings
            .iter()
            .any(|setting| !setting["suggested"].is_null()),
        "{settings:?}"
    );
    assert!(one["differences"]["goodput"]["mean"].as_f64().unwrap() > 0.3);
    assert!(!one["sensitivity"].as_array().unwrap().is_empty());
    assert!(!one["pareto"].as_array().unwrap().is_empty());
    // Nothing was written.
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 2);
}

#[test]
fn what_does_not_hold_is_told_and_fails() {
    let folder = folder();
    let path = folder.path().join("stock.yaml");
    let scenario = SCENARIO.replace(">= 99%", ">= 99.9% before faults\n  - goodput >= 100%");
    std::fs::write(
        &path,
        scenario
            .replace("for: 100s", "for: 60s")
            .replace("20s of", "0s of"),
    )
    .unwrap();
    let tuned = tune(folder.path(), "--out best.yaml");
    let told = text(&tuned.stdout);
    assert_eq!(
        tuned.status.code(),
        Some(1),
        "{told}{}",
        text(&tuned.stderr)
    );
    assert!(
        told.contains("it is the best of what was tried, and does not hold"),
        "{told}"
    );
    assert!(folder.path().join("best.yaml").exists());
}

#[test]
fn bad_questions_are_told() {
    let folder = folder();
    let check = |arguments: &str, code: i32, words: &str| {
        let output = tune(folder.path(), arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {told}");
        assert!(told.contains(words), "{arguments}: {told}");
    };
    check(
        "--out stock.policy.yaml",
        2,
        "is left as it is; name another file",
    );
    check(
        "--out ./stock.yaml",
        2,
        "is left as it is; name another file",
    );
    check(
        "--upstream stok",
        2,
        "does not use an upstream `stok`; it uses: stock",
    );
    check("--policy none.yaml", 3, "the file cannot be read");
    check("--range 1", 2, "write a number from 1.1 to 100");
    check(
        "--add retry",
        2,
        "possible values: budget, breaker, bulkhead, shed",
    );
    let nothing = POLICY.replace(
        "    timeout: 1s # nobody remembers why\n",
        "    enforce_deadline: false\n",
    );
    let nothing = nothing.replace("attempts: 4", "enforce: false, attempts: 4");
    std::fs::write(folder.path().join("nothing.yaml"), nothing).unwrap();
    check("--policy nothing.yaml", 2, "there is nothing to tune");
    assert_eq!(
        std::fs::read_to_string(folder.path().join("stock.policy.yaml")).unwrap(),
        POLICY
    );
}
