//! `outlast sim`: what it prints, as JSON, as pictures, its exit codes, and what it says of bad worlds.

use std::path::Path;

use serde_json::Value;

use crate::{outlast, text};

/// A queue at 80 %, and a cut of its speed for ten seconds.
const SCENARIO: &str = "\
policy: policy.yaml
for: 60s
warm_up: 5s
runs: 4
seed: 7
services:
  db: { work: 10ms, workers: 1 }
clients:
  shop: { upstream: db, rate: 80/s, deadline: 1s }
timeline:
  - { service: db, from: 20s, to: 30s, speed: 50% }
promises:
  - goodput >= 99% before faults
  - goodput >= 99% within 5s of recovery
  - p99 < 200ms before faults
  - attempts/calls <= 1.1
  - recovery <= 5s
";
const BOUNDED: &str = "\
upstreams:
  db:
    endpoints: [http://127.0.0.1:7001]
    timeout: 300ms
    retry: { attempts: 3 }
    bulkhead: { concurrency: 20, queue: 0 }
routes:
  all: { match: /**, upstream: db }
";
const NAIVE: &str = "\
upstreams:
  db:
    endpoints: [http://127.0.0.1:7001]
    timeout: 300ms
    retry: { attempts: 3, backoff: { kind: constant, base: 1ms } }
    budget: off
routes:
  all: { match: /**, upstream: db }
";

/// Orders over two services of which one is away for a while, under a runner that crashes.
const ORDERS: &str = "\
policy: orders.policy.yaml
for: 60s
runs: 3
services:
  payment: { work: 50ms, lost: 1% }
  shipping: { work: 50ms, declines: 2% }
sagas:
  order: { rate: 10/s, cancels: 1% }
runner: { crashes_every: 1500, restart: 2s }
timeline:
  - { service: shipping, from: 20s, to: 30s, fault: away }
  - { runner: crashes, from: 40s, to: 42s }
promises:
  - settled >= 100%
  - no half-done sagas
  - no work done twice
  - completed >= 99%
";
const STEPS: &str = "\
gateway: { listen: 127.0.0.1:8080, admin: 127.0.0.1:9900 }
upstreams:
  payment: { endpoints: http://payment:8080 }
  shipping: { endpoints: http://shipping:8080 }
sagas:
  definitions:
    order:
      version: 1
      steps:
        - { name: charge, upstream: payment, request: POST /charges, undo: { request: DELETE /charges } }
        - { name: ship, upstream: shipping, request: POST /parcels, undo: { request: DELETE /parcels } }
";

fn world() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("queue.yaml", SCENARIO),
        ("policy.yaml", BOUNDED),
        ("naive.yaml", NAIVE),
        ("orders.yaml", ORDERS),
        ("orders.policy.yaml", STEPS),
    ];
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn sim(folder: &Path, arguments: &str) -> (Option<i32>, String, String) {
    let words: Vec<_> = ["sim"].into_iter().chain(arguments.split(' ')).collect();
    let answer = outlast(folder, &words);
    (
        answer.status.code(),
        text(&answer.stdout),
        text(&answer.stderr),
    )
}

#[test]
fn what_it_prints_is_on_record() {
    let folder = world();
    for (name, arguments) in [
        ("kept", "queue.yaml"),
        ("against", "queue.yaml --vs naive.yaml --runs 3"),
        ("one", "queue.yaml --runs 1 --seed 9"),
        ("limit", "queue.yaml --find-limit load"),
        ("sagas", "orders.yaml"),
    ] {
        let (code, told, errors) = sim(folder.path(), arguments);
        // What is promised of orders is broken while shipping is away.
        let expected = if name == "sagas" { 1 } else { 0 };
        assert_eq!(
            (code, errors.as_str()),
            (Some(expected), ""),
            "{arguments}\n{told}"
        );
        let file = format!("{}/tests/golden/sim/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(told, golden, "{file} for {arguments}:\n{told}");
    }
}

#[test]
fn a_broken_promise_is_the_exit_code() {
    let folder = world();
    let (code, told, _) = sim(folder.path(), "queue.yaml --policy naive.yaml");
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("BROKEN  goodput >= 99% within 5s of recovery"),
        "{told}"
    );
    assert!(
        told.contains("kept    goodput >= 99% before faults"),
        "{told}"
    );
    let (code, told, _) = sim(
        folder.path(),
        "queue.yaml --policy naive.yaml --find-limit load",
    );
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("head-room -"), "{told}");
}

#[test]
fn what_is_compared_has_a_last_line() {
    let folder = world();
    let (_, told, _) = sim(folder.path(), "queue.yaml --vs naive.yaml --runs 3");
    let last = "\npolicy.yaml keeps 5 of 5 promises, naive.yaml 2 of 5\n\n";
    assert!(told.ends_with(last), "{told}");
    let (_, told, _) = sim(folder.path(), "queue.yaml --vs policy.yaml --runs 2");
    assert!(
        told.ends_with("\nboth files do the same here, event by event\n\n"),
        "{told}"
    );
}

#[test]
fn sagas_are_told_to_machines_and_drawn() {
    let folder = world();
    let (_, told, _) = sim(folder.path(), "orders.yaml --json --runs 2");
    let document: Value = serde_json::from_str(&told).unwrap();
    let policy = &document["policies"][0];
    // Nobody calls.
    assert_eq!(policy["measures"], serde_json::json!({}));
    let of_all = &policy["sagas"]["order"];
    assert_eq!(of_all["half_done"]["most"], 0.0, "{told}");
    let run = &policy["runs"][1];
    let order = &run["sagas"]["order"];
    let shares = order["completed"].as_f64().unwrap() + order["compensated"].as_f64().unwrap();
    assert!((shares - 1.0).abs() < 1e-9, "{order}");
    assert!(
        order["attempts_at_charge"].as_f64().unwrap() >= 1.0,
        "{order}"
    );
    assert!(run["runner"]["crashes"].as_u64().unwrap() >= 2, "{run}");
    sim(folder.path(), "orders.yaml --runs 2 --plot orders.svg");
    let drawn = std::fs::read_to_string(folder.path().join("orders.svg")).unwrap();
    for part in [
        "sagas in flight",
        "sagas that end undone",
        "the runner crashes",
    ] {
        assert!(drawn.contains(part), "{part}");
    }
    assert!(!drawn.contains("goodput"), "nobody calls");
}

#[test]
fn several_clients_have_rows_of_their_own() {
    let folder = world();
    let (_, told, _) = sim(folder.path(), "queue.yaml --runs 2");
    assert!(!told.contains("goodput of shop "), "{told}");
    let clients = "clients:\n  hasty: { upstream: db, rate: 5/s, deadline: 1ms }";
    let scenario = SCENARIO.replace("clients:", clients);
    std::fs::write(folder.path().join("queue.yaml"), scenario).unwrap();
    let (_, told, _) = sim(folder.path(), "queue.yaml --runs 2");
    let row = |name: &str| {
        let line = told
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name}: {told}"));
        line.trim_start()[name.len()..]
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(row("goodput of hasty"), "0.00");
    assert_eq!(row("latency p99 of hasty"), "-");
    assert_ne!(row("goodput of shop"), "0.00");
    assert_ne!(row("latency p99 of shop"), "-");
}

#[test]
fn what_is_counted_is_told() {
    let folder = world();
    let scenario = SCENARIO
        .replace("warm_up: 5s", "warm_up: auto")
        .replace("for: 60s", "for: 5m")
        .replace("from: 20s, to: 30s", "from: 240s, to: 250s");
    std::fs::write(folder.path().join("queue.yaml"), scenario).unwrap();
    let (_, told, errors) = sim(folder.path(), "queue.yaml --runs 2");
    let head = told.lines().next().unwrap_or(&errors);
    assert!(
        head.contains(": 2 runs from seed 7, 5m each, counted from "),
        "{head}"
    );
}

#[test]
fn a_limit_is_that_of_something() {
    let folder = world();
    let (world, promises) = SCENARIO.split_once("promises:").unwrap();
    let (calm, timeline) = world.split_once("timeline:").unwrap();
    let check = |scenario: &str, arguments: &str, code: i32, part: &str| {
        std::fs::write(folder.path().join("queue.yaml"), scenario).unwrap();
        let (found, told, errors) = sim(folder.path(), &format!("queue.yaml {arguments}"));
        assert_eq!(found, Some(code), "{told}{errors}");
        assert!(format!("{told}{errors}").contains(part), "{told}{errors}");
    };
    check(calm, "--find-limit load", 1, "nothing can break here");
    check(
        calm,
        "--find-limit trigger",
        1,
        "nothing happens that could",
    );
    // Without promises, what breaks is recovery.
    let faults = format!("{calm}timeline:{timeline}");
    check(&faults, "--find-limit load", 0, "runs recover at");
    check(
        &format!("{faults}promises:{promises}"),
        "--find-limit load",
        0,
        "head-room",
    );
}

#[test]
fn equal_seeds_have_equal_traces_on_any_number_of_threads() {
    let folder = world();
    let run = |arguments: &str| -> Value {
        let (_, told, _) = sim(folder.path(), arguments);
        serde_json::from_str(&told).unwrap()
    };
    let [one, eight] = ["1", "8"].map(|count| run(&format!("queue.yaml --json --threads {count}")));
    assert_eq!(one, eight);
    let third = &one["policies"][0]["runs"][2];
    let seed = third["seed"].as_u64().unwrap();
    assert_eq!(seed, 9, "the third from 7 on");
    let replayed = run(&format!("queue.yaml --json --seed {seed} --runs 1"));
    assert_eq!(&replayed["policies"][0]["runs"][0], third);
    assert_eq!(replayed["policies"][0]["trace"], third["trace"]);
}

#[test]
fn promises_of_whole_runs_are_about_the_numbers_of_the_table() {
    let folder = world();
    let lines = "promises:\n  - goodput >= 0%\n  - rejected >= 0%";
    let scenario = SCENARIO
        .replace("promises:", lines)
        .replace("for: 60s", "for: 60500ms");
    std::fs::write(folder.path().join("queue.yaml"), scenario).unwrap();
    let arguments = "queue.yaml --policy naive.yaml --json --runs 2";
    let (_, told, errors) = sim(folder.path(), arguments);
    let document: Value =
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let policy = &document["policies"][0];
    for (promise, measure) in [(0, "goodput"), (1, "rejected"), (5, "attempts_per_call")] {
        let promise = &policy["promises"][promise];
        assert_eq!(
            promise["measured"], policy["measures"][measure],
            "{promise}"
        );
    }
}

#[test]
fn what_replays_a_run_names_its_policies() {
    let folder = world();
    let (_, told, _) = sim(folder.path(), "queue.yaml --vs naive.yaml --runs 2");
    let naive = told.split("queue.yaml with naive.yaml").nth(1).unwrap();
    let (trace, replay) = naive.split_once(" of seed 7: outlast sim ").unwrap();
    let (_, trace) = trace.rsplit_once(' ').unwrap();
    let (code, told, errors) = sim(folder.path(), replay.lines().next().unwrap());
    assert_eq!((code, errors.as_str()), (Some(1), ""), "{told}");
    assert!(told.contains("queue.yaml with naive.yaml"), "{told}");
    // It is that run again.
    assert!(
        told.contains(&format!("trace {trace} of seed 7, ")),
        "{told}"
    );
    let page = "queue.yaml --policy naive.yaml --runs 2 --plot out.html";
    let _ = sim(folder.path(), page);
    let page = std::fs::read_to_string(folder.path().join("out.html")).unwrap();
    let replay =
        format!("{trace} of seed 7: outlast sim queue.yaml --policy naive.yaml --seed 7 --runs 1");
    assert!(page.contains(&replay), "{replay}");
}

#[test]
fn a_run_that_is_replayed_has_the_warm_up_of_all() {
    let folder = world();
    let auto = SCENARIO
        .replace("warm_up: 5s", "warm_up: auto")
        .replace("for: 60s", "for: 160s")
        .replace("from: 20s, to: 30s", "from: 120s, to: 130s");
    std::fs::write(folder.path().join("auto.yaml"), auto).unwrap();
    let run = |arguments: &str| -> Value {
        let (_, told, errors) = sim(folder.path(), arguments);
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {errors}"))
    };
    let all = run("auto.yaml --runs 8 --json");
    for one in all["policies"][0]["runs"].as_array().unwrap() {
        let replayed = run(&format!("auto.yaml --runs 1 --json --seed {}", one["seed"]));
        assert_eq!(&replayed["policies"][0]["runs"][0], one);
    }
}

#[test]
fn policies_that_need_different_numbers_of_runs_are_compared_in_those_of_both() {
    let folder = world();
    // No call of the first is answered, which is known after eight runs.
    let never = BOUNDED.replace("timeout: 300ms", "timeout: 5ms");
    std::fs::write(folder.path().join("never.yaml"), never).unwrap();
    let arguments = "queue.yaml --policy never.yaml --vs policy.yaml --runs auto --json";
    let (_, told, errors) = sim(folder.path(), arguments);
    let document: Value =
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let runs = |policy: usize| {
        document["policies"][policy]["runs"]
            .as_array()
            .unwrap()
            .len()
    };
    assert!(runs(0) < runs(1), "{} {}", runs(0), runs(1));
    let differences = &document["differences"];
    assert!(
        differences["goodput"]["difference"]["mean"]
            .as_f64()
            .unwrap()
            > 0.7
    );
    assert_eq!(
        differences.get("latency_p99_seconds"),
        None,
        "of none there is none"
    );
}

#[test]
fn results_are_json_and_pictures_too() {
    let folder = world();
    for kind in ["svg", "html"] {
        let arguments = format!("queue.yaml --vs naive.yaml --json --plot out.{kind}");
        let (code, told, errors) = sim(folder.path(), &arguments);
        let written = format!("out.{kind} is written\n");
        assert_eq!((code, errors), (Some(0), written));
        let document: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(document["kept"], true);
        assert_eq!(document["policies"].as_array().unwrap().len(), 2);
        let less = &document["differences"]["goodput"]["difference"]["mean"];
        assert!(less.as_f64().unwrap() < 0.0, "{less}");
        let drawn = std::fs::read_to_string(folder.path().join(format!("out.{kind}"))).unwrap();
        for part in ["<svg", "goodput", "db at 50% speed", "naive.yaml", "</svg>"] {
            assert!(drawn.contains(part), "{part} in out.{kind}");
        }
        let told_there = drawn.contains("goodput &gt;= 99% before faults");
        assert_eq!(told_there, kind == "html");
        assert!(!drawn.contains("NaN"));
    }
    let (code, told, errors) = sim(folder.path(), "queue.yaml --plot out.png");
    assert_eq!((code, told.as_str()), (Some(2), ""));
    assert!(errors.contains("such as `picture.svg`"), "{errors}");
    assert!(!folder.path().join("out.png").exists());
    let (code, _, errors) = sim(folder.path(), "queue.yaml --plot nowhere/out.svg");
    assert_eq!(code, Some(3));
    assert!(
        errors.contains("nowhere/out.svg could not be written"),
        "{errors}"
    );
}

#[test]
fn what_cannot_be_simulated_is_told_with_what_to_change() {
    let folder = world();
    let check = |scenario: &str, code: i32, part: &str| {
        std::fs::write(folder.path().join("bad.yaml"), scenario).unwrap();
        let (found, told, errors) = sim(folder.path(), "bad.yaml --runs 2");
        assert_eq!(found, Some(code), "{told}{errors}");
        assert!(errors.contains(part), "{part} in\n{errors}");
    };
    let with = |from: &str, to: &str| SCENARIO.replace(from, to);
    check(
        &with("upstream: db", "upstream: bd"),
        1,
        "there is no upstream `bd`",
    );
    check(
        &with("workers: 1", "worker: 1"),
        1,
        "did you mean `workers`?",
    );
    check(
        &with("policy: policy.yaml", ""),
        1,
        "no policy file is named",
    );
    let bounded = |bound: &str| with("for: 60s", &format!("for: 60s\n{bound}"));
    check(
        &bounded("most_events: 5000"),
        3,
        "seed 7: more than 5000 events until",
    );
    check(
        &bounded("most_present: 10"),
        3,
        "more than 10 calls at once at",
    );
    let too_much = with("rate: 80/s", "rate: 900000/s").replace("for: 60s", "for: 7d");
    check(&too_much, 1, "calls a run");
    for missing in ["nowhere.yaml", "queue.yaml --policy nowhere.yaml"] {
        let (code, _, errors) = sim(folder.path(), missing);
        assert_eq!(code, Some(3));
        assert!(errors.contains("the file cannot be read"), "{errors}");
        assert!(errors.contains("--> nowhere.yaml\n  = name a"), "{errors}");
    }
    let (code, _, errors) = sim(folder.path(), "policy.yaml");
    assert_eq!(code, Some(1));
    assert!(errors.contains("this looks like a policy file"), "{errors}");
}
