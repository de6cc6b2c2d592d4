//! Commands about files, and their exit codes.

use crate::{outlast, text};

#[test]
fn a_starter_file_is_written_once_and_is_good() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(outlast(folder.path(), &["init"]).status.code(), Some(0));
    let again = outlast(folder.path(), &["init"]);
    assert_eq!(again.status.code(), Some(3));
    assert!(text(&again.stderr).contains("left as it is"));
    let checked = outlast(folder.path(), &["check", "--strict", "outlast.yaml"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    assert_eq!(
        text(&checked.stdout),
        "outlast.yaml: ok, 2 routes, 2 upstreams, 0 warnings\n"
    );
    let printed = outlast(folder.path(), &["init", "-"]);
    assert_eq!(
        text(&printed.stdout),
        std::fs::read_to_string(folder.path().join("outlast.yaml")).unwrap()
    );
}

#[test]
fn the_shops_policies_are_good() {
    let shop = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/shop");
    let checked = outlast(shop.as_ref(), &["check", "--strict", "outlast.yaml"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}

#[test]
fn a_bad_file_is_told_in_full_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("bad.yaml"),
        "upstreams:\n  a: { endpoint: x, timeout: 3 }\n",
    )
    .unwrap();
    let checked = outlast(folder.path(), &["check", "bad.yaml"]);
    assert_eq!(checked.status.code(), Some(1));
    let told = text(&checked.stderr);
    for part in [
        "bad.yaml:2:8",
        "did you mean `endpoints`?",
        "bad.yaml:2:30",
        "`3s` or `3ms`",
        "3 errors",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let json = outlast(folder.path(), &["check", "--json", "bad.yaml"]);
    let findings: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (json.status.code(), findings.as_array().unwrap().len()),
        (Some(1), 3)
    );
    assert_eq!(findings[0]["line"], 2);
    for command in ["serve", "explain"] {
        assert_eq!(
            outlast(folder.path(), &[command, "bad.yaml"]).status.code(),
            Some(1),
            "{command}"
        );
    }
    for command in ["check", "serve", "explain"] {
        let missing = outlast(folder.path(), &[command, "missing.yaml"]);
        assert_eq!(missing.status.code(), Some(3), "{command}");
    }
    let both = outlast(folder.path(), &["check", "missing.yaml", "bad.yaml"]);
    assert_eq!(both.status.code(), Some(3));
    assert_eq!(outlast(folder.path(), &["check"]).status.code(), Some(2));
}

#[test]
fn explain_shows_what_holds() {
    let folder = tempfile::tempdir().unwrap();
    outlast(folder.path(), &["init"]);
    let explained = outlast(folder.path(), &["explain", "outlast.yaml", "stock"]);
    let page = text(&explained.stdout);
    assert!(
        page.contains("hedge\n      after: p95\n      floor: 1ms (default)"),
        "{page}"
    );
    let missing = outlast(folder.path(), &["explain", "outlast.yaml", "stok"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("did you mean `stock`?"));
}

#[test]
fn help_completions_manual_and_schema_name_everything() {
    let folder = tempfile::tempdir().unwrap();
    let commands = [
        "serve",
        "check",
        "explain",
        "demo",
        "schema",
        "init",
        "completions",
        "man",
    ];
    let help = text(&outlast(folder.path(), &["--help"]).stdout);
    let bash = text(&outlast(folder.path(), &["completions", "bash"]).stdout);
    let manual = text(&outlast(folder.path(), &["man"]).stdout);
    for command in commands {
        for page in [&help, &bash, &manual] {
            assert!(page.contains(command), "{command}: {page}");
        }
        let own = outlast(folder.path(), &[command, "--help"]);
        assert!(
            own.status.success() && text(&own.stdout).contains("Example: outlast"),
            "{command}"
        );
    }
    let schema: serde_json::Value =
        serde_json::from_slice(&outlast(folder.path(), &["schema"]).stdout).unwrap();
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn numbers_on_the_command_line_have_words() {
    for (arguments, words) in [
        ("tune a.yaml --budget 5", "from 200 to 1000000"),
        (
            "tune a.yaml --seed x",
            "write a whole number from 0 to 18446744073709551615",
        ),
        ("sim a.yaml --seed=-1", "write a whole number from 0"),
        ("sim a.yaml --threads 0", "write a whole number from 1 on"),
        ("demo --seed 1.5", "write a whole number from 0"),
        ("slo k-of-n two 3 99%", "write a whole number, such as `3`"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let words_of = arguments.split(' ').collect::<Vec<_>>();
        let told = outlast(folder.path(), &words_of);
        let errors = text(&told.stderr);
        assert_eq!(told.status.code(), Some(2), "{arguments}: {errors}");
        assert!(errors.contains(words), "{arguments}: {errors}");
    }
}
