//! Everything that must hold before a change lands.

use std::process::{Command, Stdio};

use crate::{Extent, cargo, cargo_with, root, tidy};

pub(crate) fn run(extent: Extent) -> Result<(), String> {
    tidy::run()?;
    cargo(&["fmt", "--all", "--check"])?;
    lint()?;
    python()?;
    let environment: &[_] = match extent {
        Extent::Usual => &[],
        Extent::Long => &[("OUTLAST_LONG", "1")],
    };
    cargo_with(&["test", "--workspace", "--all-features"], environment)?;
    loom()?;
    examples()?;
    cargo_with(
        &[
            "doc",
            "--workspace",
            "--no-deps",
            "--all-features",
            "--exclude",
            "outlast-bench",
        ],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    dependencies()
}

/// With every feature, with none, and with each by itself: features only ever add.
fn lint() -> Result<(), String> {
    let deny = ["--", "-D", "warnings"];
    let all = ["clippy", "--workspace", "--all-targets", "--all-features"];
    cargo(&[&all[..], &deny].concat())?;
    let one = ["clippy", "-p", "outlast", "--no-default-features"];
    cargo(&[&one[..], &deny].concat())?;
    for feature in [
        "tokio",
        "tower",
        "http",
        "reqwest",
        "tonic",
        "axum",
        "health",
        "grpc-health",
        "postgres",
        "tracing",
        "metrics",
    ] {
        cargo(&[&one[..], &["--features", feature], &deny].concat())?;
    }
    let saga = ["clippy", "-p", "outlast-saga", "--all-targets"];
    cargo(&[&saga[..], &deny].concat())?;
    cargo(&[&saga[..], &["--no-default-features"], &deny].concat())?;
    simulator()
}

/// The simulator runs in virtual time: nothing of a runtime or a network is linked into it.
fn simulator() -> Result<(), String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(root())
        .args(["tree", "-p", "outlast-sim", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"]);
    let listed = tree
        .output()
        .map_err(|error| format!("{tree:?}: {error}"))?;
    if !listed.status.success() {
        return Err(String::from_utf8_lossy(&listed.stderr).into_owned());
    }
    let listed = String::from_utf8_lossy(&listed.stdout);
    let mut names = listed.lines().filter_map(|line| line.split(' ').next());
    match names.find(|name| ["tokio", "hyper", "rusqlite"].contains(name)) {
        Some(name) => Err(format!(
            "outlast-sim links {name}: leave out the feature that does"
        )),
        None => Ok(()),
    }
}

/// The Python of the gateway's tests, with grpcio and a WebSocket library.
fn python() -> Result<(), String> {
    let folder = root().join("target/python");
    let requirements = root().join("crates/outlast-gateway/tests/python/requirements.txt");
    if folder.join("bin/python").exists() {
        return Ok(());
    }
    let mut make = Command::new("python3");
    run_it(make.args(["-m", "venv"]).arg(&folder))?;
    let mut install = Command::new(folder.join("bin/pip"));
    run_it(install.args(["install", "--quiet", "-r"]).arg(requirements))
}

fn run_it(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(error) => Err(format!("{command:?} could not be started: {error}")),
    }
}

/// The lock-free pieces under every interleaving of two threads. It has a target folder of its
/// own, because the flag rebuilds everything.
fn loom() -> Result<(), String> {
    let target = root().join("target/loom");
    let target = target
        .to_str()
        .ok_or("the workspace's path is not Unicode")?;
    cargo_with(
        &[
            "test",
            "-p",
            "outlast-core",
            "--lib",
            "--release",
            "loom_tests",
        ],
        &[
            ("RUSTFLAGS", "--cfg loom"),
            ("CARGO_TARGET_DIR", target),
            UNLINKED,
        ],
    )
}

/// The examples that end by themselves; the services among them are only built, by the lints.
fn examples() -> Result<(), String> {
    for example in ["checkout", "user_cache", "blocking", "tonic_client"] {
        cargo(&[
            "run",
            "-p",
            "outlast",
            "--all-features",
            "--example",
            example,
        ])?;
    }
    let quick = ["run", "--release", "-p", "outlast-bench", "--", "--quick"];
    cargo_with(&quick, &[UNLINKED])
}

/// What is only tried and not measured need not be optimised across crates, which takes minutes.
const UNLINKED: (&str, &str) = ("CARGO_PROFILE_RELEASE_LTO", "off");

/// Licences, sources and bans, if cargo-deny is there; CI installs it.
fn dependencies() -> Result<(), String> {
    let probe = Command::new(env!("CARGO"))
        .args(["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if probe.is_ok_and(|status| status.success()) {
        return cargo(&[
            "deny",
            "--all-features",
            "check",
            "bans",
            "licenses",
            "sources",
        ]);
    }
    println!("\ncargo-deny is not installed, so licences were not checked:");
    println!("cargo install --locked cargo-deny");
    Ok(())
}
