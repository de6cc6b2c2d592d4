//! The command `outlast`.
//!
//! Each command is a module that returns an exit code. Results go to standard output, everything
//! else to standard error, so that output can be piped.

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic when nobody reads any more: use `output`"
)]

mod advise;
mod commands;
mod demo;
mod file;
mod logs;
mod output;
mod picture;
mod queue;
mod saga;
mod serve;
mod sim;
mod slo;
mod tune;

use std::process::ExitCode;

use clap::Parser;
use outlast_config::Problems;

use crate::commands::{Cli, Command};

/// What was asked does not hold: a file has errors, a promise was broken.
const FAILED: u8 = 1;
/// The command line is wrong, in a way that only a look at all of it shows.
const WRONG: u8 = 2;
/// It could not start, read or write.
const UNABLE: u8 = 3;

/// What a file that cannot be used is: it could not be read, or what is in it is wrong.
fn failed(problems: &Problems) -> u8 {
    match problems.is_unreadable() {
        true => UNABLE,
        false => FAILED,
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(serve) => serve::run(&serve),
        Command::Check(check) => file::check(&check),
        Command::Explain { file, upstream } => file::explain(&file, upstream.as_deref()),
        Command::Advise(advise) => advise::run(&advise),
        Command::Demo(demo) => demo::run(&demo),
        Command::Sim(sim) => sim::run(&sim),
        Command::Tune(tune) => tune::run(&tune),
        Command::Schema { markdown, scenario } => file::schema(markdown, scenario),
        Command::Init { file } => file::init(&file),
        Command::Slo(slo) => slo::run(&slo),
        Command::Saga(saga) => saga::run(&saga),
        Command::Queue(queue) => queue::run(&queue),
        Command::Completions { shell } => commands::completions(shell),
        Command::Man => commands::man(),
    }
}
