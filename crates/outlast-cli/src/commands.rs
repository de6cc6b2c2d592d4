//! What can be asked, and how it is explained: help, shell completions, the man page.

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::UNABLE;
use crate::slo::Slo;

/// Keeps services answering while the things they depend on fail.
#[derive(Debug, Parser)]
#[command(name = "outlast", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  fine
  1  what was asked does not hold: a file has errors, a promise was broken
  2  the command line is wrong
  3  it could not start, read or write";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway: a reverse proxy with the policies of a file
    ///
    /// SIGHUP, and a change of the file, reload it; a bad file changes nothing and says why.
    /// SIGTERM and SIGINT drain: it is not ready any more, finishes what is in flight within
    /// `gateway.drain`, and ends; a second signal ends it at once.
    ///
    /// Example: outlast serve outlast.yaml --log json
    Serve(Serve),
    /// Tell all that is wrong with policy files, and warn of what is likely not meant
    ///
    /// Example: outlast check outlast.yaml
    Check(Check),
    /// Show the policies that hold, in the order in which a call meets them
    ///
    /// Example: outlast explain outlast.yaml payment
    Explain {
        /// The policy file
        file: PathBuf,
        /// One upstream; all, with the gateway, if left out
        upstream: Option<String>,
    },
    /// See it work: a shop on a bad day, with and without Outlast, side by side
    ///
    /// Nothing has to be installed: five services, the gateway and their customers run in this
    /// process, on free loopback ports. It ends with a table of promises, and fails if one is
    /// broken. Example: outlast demo --for 30s
    Demo(Demo),
    /// Try a policy file in a modelled world, in virtual time, and see whether promises are kept
    ///
    /// A scenario says what upstreams lead to, who calls, what happens, and what has to hold. It runs
    /// with several seeds; equal seeds give equal runs, whose trace hash is printed. Exit code 1 says
    /// that a promise is broken. Examples:
    ///
    ///   outlast sim scenarios/storm.yaml
    ///   outlast sim scenarios/storm.yaml --vs scenarios/storm.naive.policy.yaml --plot storm.html
    ///   outlast sim scenarios/storm.yaml --find-limit load
    #[command(verbatim_doc_comment)]
    Sim(Sim),
    /// Print the JSON Schema of policy files, for editors
    ///
    /// Example: outlast schema > outlast.schema.json
    Schema {
        /// The reference of all keys for people instead, as Markdown
        #[arg(long)]
        markdown: bool,
        /// Of scenario files instead
        #[arg(long)]
        scenario: bool,
    },
    /// Write a commented policy file to start from
    ///
    /// It does not overwrite a file. Example: outlast init
    Init {
        /// Where to; `-` prints it
        #[arg(default_value = "outlast.yaml")]
        file: PathBuf,
    },
    /// The mathematics of availability: redundancy, error budgets, alerts, canaries
    ///
    /// Numbers, and with `--plot` a picture. Example: outlast slo parallel 99.9% 99.9% --beta 10%
    Slo(Slo),
    /// Print completions for a shell
    ///
    /// Example: outlast completions bash > /etc/bash_completion.d/outlast
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page
    ///
    /// Example: outlast man > outlast.1
    Man,
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The policy file
    pub(crate) file: PathBuf,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log: LogFormat,
    /// What is logged: a level, or levels by target such as `info,outlast::access=off`
    #[arg(long, default_value = "info", env = "OUTLAST_LOG")]
    pub(crate) log_level: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Human,
    /// A JSON object a line
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The policy files
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Print findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Fail on warnings, too
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// How long the day is, 10s to 10m
    #[arg(long = "for", default_value = "60s", value_parser = length)]
    pub(crate) length: Duration,
    /// Leave the shop open afterwards
    #[arg(long)]
    pub(crate) keep: bool,
    /// What the customers' comings and the services' times are drawn from
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// Print the report as JSON, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// A line a second instead of tables, also in a terminal
    #[arg(long)]
    pub(crate) plain: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Sim {
    /// The scenario file
    pub(crate) scenario: PathBuf,
    /// The policy file, instead of the one that the scenario names
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Another policy file that sees the same worlds, to compare with
    #[arg(long, value_name = "FILE")]
    pub(crate) vs: Option<PathBuf>,
    /// The first seed, instead of the scenario's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How many runs, with seeds that follow each other, instead of the scenario's
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) runs: Option<u32>,
    /// Threads; the result does not depend on it. One per processor by default
    #[arg(long)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Draw the course over time, as `.svg` or `.html`
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// How much more of the load, or how much longer faults, it bears: where half of the runs break
    /// a promise
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with_all = ["vs", "plot"])]
    pub(crate) find_limit: Option<FindLimit>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FindLimit {
    /// All rates
    Load,
    /// How long everything in the timeline lasts
    Trigger,
}

fn length(text: &str) -> Result<Duration, String> {
    let length = outlast_config::duration(text)?;
    let (least, most) = (Duration::from_secs(10), Duration::from_secs(600));
    if (least..=most).contains(&length) {
        Ok(length)
    } else {
        Err("the day takes `10s` to `10m`".to_owned())
    }
}

pub(crate) fn completions(shell: Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Cli::command(), "outlast", &mut io::stdout());
    ExitCode::SUCCESS
}

pub(crate) fn man() -> ExitCode {
    match clap_mangen::Man::new(Cli::command()).render(&mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the man page could not be written: {error}");
            ExitCode::from(UNABLE)
        }
    }
}
