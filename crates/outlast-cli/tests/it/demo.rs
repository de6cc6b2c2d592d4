//! The demo keeps its promises, and the shop without Outlast does not.

use crate::{outlast, text};

#[test]
fn a_short_day_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let output = outlast(
        folder.path(),
        &["demo", "--for", "15s", "--json", "--seed", "7"],
    );
    let report = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{report}{}",
        text(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let promises = report["promises"].as_array().unwrap();
    assert_eq!(report["kept"], promises.len());
    assert_eq!(report["seed"], 7);
    let all_day = &promises[0];
    assert!(all_day["protected"]["customers"].as_u64().unwrap() > 300);
    assert!(
        all_day["unprotected"]["success"].as_f64().unwrap() < 0.95,
        "{all_day}"
    );
}

#[test]
fn a_day_has_a_sensible_length() {
    let folder = tempfile::tempdir().unwrap();
    for length in ["5s", "20m", "30"] {
        assert_eq!(
            outlast(folder.path(), &["demo", "--for", length])
                .status
                .code(),
            Some(2),
            "{length}"
        );
    }
}
