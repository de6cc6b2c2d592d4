//! The project's own commands.
//!
//! `cargo xtask test` is everything that must hold before a change lands, `cargo xtask tidy` the
//! part of it that reads the tree instead of compiling it, `cargo xtask bench policies` measures.

mod gateway;
mod process;
mod saga;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["test"] => test::run(Extent::Usual),
        ["test", "--long"] => test::run(Extent::Long),
        ["tidy"] => tidy::run(),
        ["miri"] => miri(),
        ["bench", "gateway"] => gateway::run(),
        ["bench", "saga"] => saga::run(&saga::FULL),
        ["bench", "saga", "--quick"] => saga::run(&saga::QUICK),
        ["bench", "sim"] => {
            let simulator = ["--bin", "simulator"];
            cargo(&[&["run", "--release", "-p", "outlast-bench"][..], &simulator].concat())
        }
        ["bench", "policies"] => cargo(&["run", "--release", "-p", "outlast-bench"]),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// How much of what can be tested is.
#[derive(Clone, Copy)]
enum Extent {
    /// What takes minutes.
    Usual,
    /// Simulations with all their seeds and calls as well.
    Long,
}

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  test            everything that must hold: formatting, lints, tests, loom, docs, examples,
                  dependencies, tidiness; with --long, simulations with all their seeds and calls
  tidy            the tree: ranks of crates, links, module docs, files that nobody reads
  miri            the machine's tests under Miri; needs a nightly with `miri` and `rust-src`
  bench gateway   measure the gateway beside Envoy, HAProxy and nginx; writes
                  bench/results/gateway.md
  bench policies  measure the policies beside their peers; writes bench/results/policies.md
  bench saga      measure durable sagas beside Restate and Temporal, and queues; writes
                  bench/results/saga.md; with --quick, in two minutes and to the terminal only
  bench sim       measure the simulator beside a runtime with a paused clock; writes
                  bench/results/sim.md";

/// The folder of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}

/// The tests of the per-call machine under Miri: the ones that are about single calls, because
/// Miri is some hundred times slower.
fn miri() -> Result<(), String> {
    let tests = ["test", "-p", "outlast-core", "--test", "it", "calls::"];
    let mut command = Command::new("rustup");
    command
        .current_dir(root())
        .args(["run", "nightly", "cargo", "miri"])
        .args(tests);
    match command.env_remove("RUSTUP_TOOLCHAIN").status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("Miri ended with {status}")),
        Err(error) => Err(format!("rustup could not be started: {error}")),
    }
}

/// Runs cargo in the workspace.
fn cargo(arguments: &[&str]) -> Result<(), String> {
    cargo_with(arguments, &[])
}

/// Runs cargo in the workspace with more environment.
fn cargo_with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    println!("\n$ cargo {}", arguments.join(" "));
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(root())
        .args(arguments)
        .envs(environment.iter().copied());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(
            "`cargo {}` ended with {status}",
            arguments.join(" ")
        )),
        Err(error) => Err(format!("cargo could not be started: {error}")),
    }
}
