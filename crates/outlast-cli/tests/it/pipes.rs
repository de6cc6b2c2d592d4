//! Whoever reads may go before the end, which is no failure.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::text;

const POLICY: &str = "\
upstreams:
  db: { endpoints: [http://127.0.0.1:7001], timeout: 300ms }
routes:
  all: { match: /**, upstream: db }
";
const SCENARIO: &str = "\
policy: policy.yaml
for: 20s
runs: 2
services:
  db: { work: 10ms, workers: 1 }
clients:
  shop: { upstream: db, rate: 20/s, deadline: 1s }
promises:
  - p50 < 1us
";

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
    std::fs::write(folder.path().join("world.yaml"), SCENARIO).unwrap();
    folder
}

/// Each with the exit code that it has if all is read.
#[test]
fn a_closed_pipe_changes_no_exit_code() {
    let folder = folder();
    for (arguments, code) in [
        ("sim world.yaml", 1),
        ("sim world.yaml --json", 1),
        ("sim world.yaml --find-limit load", 1),
        ("tune world.yaml --budget 200", 1),
        ("schema", 0),
        ("schema --scenario --markdown", 0),
        ("completions bash", 0),
        ("man", 0),
        ("init -", 0),
        ("init new.yaml", 0),
        ("explain policy.yaml", 0),
        ("check policy.yaml --json", 0),
        ("check policy.yaml policy.yaml", 0),
        ("check world.yaml", 1),
        ("slo burn 99.9%", 0),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_outlast"))
            .args(arguments.split(' '))
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut errors = Vec::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_end(&mut errors)
            .unwrap();
        let ended = child.wait().unwrap();
        let errors = text(&errors);
        assert_eq!(ended.code(), Some(code), "{arguments}: {errors}");
        assert!(!errors.contains("panic"), "{arguments}: {errors}");
    }
}

#[test]
fn who_reads_a_line_gets_one() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_outlast"))
        .args(["schema"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "{\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn nobody_who_reads_errors_is_no_failure_either() {
    let folder = folder();
    let mut child = Command::new(env!("CARGO_BIN_EXE_outlast"))
        .args(["check", "world.yaml"])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
