//! `outlast slo`: what it prints, as JSON, as pictures, and what it says of bad questions.

use serde_json::Value;

use crate::{outlast, text};

/// The questions whose answers are on record.
const ASKED: [(&str, &str); 12] = [
    ("series", "series 99.9% 99.9% 99.9% 99.9% 99.9%"),
    ("parallel", "parallel 99.9% 99.9% --beta 10%"),
    ("k-of-n", "k-of-n 2 3 99.9% --beta 5%"),
    (
        "failover",
        "failover 99.9% 99.9% --detect 10s --switch 5s --mtbf 30d --coverage 95%",
    ),
    (
        "failover-costs",
        "failover 99.999% 99.9% --detect 30s --switch 15s --mtbf 7d",
    ),
    ("budget", "budget 99.9%"),
    (
        "budget-spent",
        "budget 99.9% --requests 12_000_000 --failed 15_000 --elapsed 12d",
    ),
    ("burn", "burn 99.9%"),
    ("burn-never", "burn 90%"),
    ("burn-week", "burn 95% --window 7d"),
    ("canary", "canary --good 0.1% --bad 1% --rps 10"),
    ("phi", "phi --mean 1s --sd 200ms --phi 8"),
];

fn ask(asked: &str) -> std::process::Output {
    let words: Vec<_> = ["slo"].into_iter().chain(asked.split(' ')).collect();
    outlast(env!("CARGO_TARGET_TMPDIR").as_ref(), &words)
}

#[test]
fn answers_are_those_on_record() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/slo");
    for (name, asked) in ASKED {
        let answer = ask(asked);
        assert_eq!(answer.status.code(), Some(0), "{asked}");
        let file = format!("{folder}/{name}.txt");
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        let told = text(&answer.stdout);
        assert_eq!(told, golden, "{file} for {asked}:\n{told}");
    }
}

#[test]
fn every_answer_is_json_and_a_picture_too() {
    let folder = tempfile::tempdir().unwrap();
    for (name, asked) in ASKED {
        for kind in ["svg", "html"] {
            let file = format!("{name}.{kind}");
            let all = format!("slo {asked} --json --plot {file}");
            let words: Vec<_> = all.split(' ').collect();
            let answer = outlast(folder.path(), &words);
            assert_eq!(answer.status.code(), Some(0), "{all}");
            let json: Value = serde_json::from_slice(&answer.stdout).unwrap();
            assert!(json["notes"].is_array(), "{all}");
            let drawn = std::fs::read_to_string(folder.path().join(&file)).unwrap();
            let begins = if kind == "svg" {
                "<svg "
            } else {
                "<!DOCTYPE html>"
            };
            assert!(drawn.starts_with(begins), "{all}");
            assert!(
                drawn.contains("<polyline") && !drawn.contains("no data"),
                "{all}"
            );
            assert!(!drawn.contains("NaN"), "{all}");
        }
    }
}

#[test]
fn numbers_for_machines_are_not_rounded() {
    let number = |asked: &str, path: &str| {
        let answer = ask(&format!("{asked} --json"));
        let json: Value = serde_json::from_slice(&answer.stdout).unwrap();
        json.pointer(path).and_then(Value::as_f64).unwrap()
    };
    for (asked, path, expected) in [
        ("parallel 99.9% 99.9%", "/availability", 0.999_899_19),
        (
            "parallel 99.9% 99.9%",
            "/independent_availability",
            0.999_999,
        ),
        ("burn 99.9%", "/alerts/0/fires_after/1/seconds", 518.4),
        (
            "canary --good 0.1% --bad 1% --rps 10",
            "/bad_requests",
            188.39,
        ),
        ("phi --mean 1s --sd 200ms", "/threshold_seconds", 2.122_400),
        (
            "failover 99.999% 99.9% --detect 30s --switch 15s --mtbf 7d",
            "/gain",
            -6.491_43e-5,
        ),
    ] {
        let found = number(asked, path);
        assert!(
            (found / expected - 1.0).abs() < 1e-4,
            "{asked} {path}: {found}"
        );
    }
}

#[test]
fn a_bad_question_is_told_with_its_mend() {
    for (asked, told) in [
        ("parallel 0.999", "write a share in percent, such as `10%`"),
        ("series 101%", "between `0%` and `100%`"),
        (
            "k-of-n 4 3 99%",
            "at least one unit is needed, and at most all",
        ),
        (
            "failover 99% 99% --detect 5 --switch 1s --mtbf 1d",
            "`5s` or `5ms`",
        ),
        (
            "failover 99% 99% --detect 5s --switch 1s --mtbf 0s",
            "more than zero",
        ),
        ("budget 100%", "write less, such as `99.9%`"),
        ("budget 99% --failed 3", "--requests"),
        ("budget 99% --requests 3 --failed 4", "at most all fail"),
        (
            "budget 99% --requests 3 --failed 1 --elapsed 31d",
            "has elapsed",
        ),
        ("burn 99% --window 1d", "`7d` or more"),
        ("canary --good 1% --bad 0.1% --rps 1", "below the bad one"),
        ("canary --good 1% --bad 2% --rps 0", "requests a second"),
        ("phi --mean 1s --sd 1s --phi 0", "above 0"),
        ("budget 99% --plot slo.png", "such as `picture.svg`"),
    ] {
        let answer = ask(asked);
        let error = text(&answer.stderr);
        assert_eq!(answer.status.code(), Some(2), "{asked}: {error}");
        assert!(error.contains(told), "{asked}: {error}");
        assert!(answer.stdout.is_empty());
    }
    let nowhere = ask("budget 99% --plot not/there.svg");
    assert_eq!(nowhere.status.code(), Some(3));
    assert!(text(&nowhere.stderr).contains("could not be written"));
}

#[test]
fn the_guide_shows_what_is_printed() {
    let guide = include_str!("../../../../docs/slo.md");
    let mut shown = 0;
    for block in guide.split("```console\n$ outlast slo ").skip(1) {
        let (asked, rest) = block.split_once('\n').unwrap();
        let (told, _) = rest.split_once("```").unwrap();
        let answer = text(&ask(asked).stdout);
        assert!(answer.starts_with(told), "{asked}:\n{answer}");
        shown += 1;
    }
    assert_eq!(shown, 2);
}
