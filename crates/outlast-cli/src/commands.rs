//! What can be asked, and how it is explained: help, shell completions, the man page.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::demo::Role;
use crate::queue::Queue;
use crate::saga::Saga;
use crate::slo::Slo;
use crate::{output, picture};
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
    /// Advise settings from what a running gateway has measured
    ///
    /// Timeout, bulkhead, hedge, breaker, retries and budget of each upstream, with the formula, the
    /// number of observations, an interval and what is assumed. Where there are too few observations
    /// it says so, and how many more it takes; if that is so everywhere, it fails.
    ///
    /// Example: outlast advise http://127.0.0.1:9900 payment --capacity 800/s
    Advise(Advise),
    /// See it work: a shop on a bad day, with and without Outlast, side by side
    ///
    /// Nothing has to be installed: five services, the gateway and their customers run here, on free
    /// loopback ports. Orders go through all services as sagas, and the process that runs them is
    /// killed now and then. It ends with a table of promises and one of orders, by the services'
    /// ledgers, and fails if a promise is broken. `--services` opens the services alone, to try it by
    /// hand. Example: outlast demo --for 30s
    Demo(Demo),
    /// Try a policy file in a modelled world, in virtual time, and see whether promises are kept
    ///
    /// A scenario says what upstreams lead to, who calls, what happens, and what has to hold. It runs
    /// with several seeds; equal seeds give equal runs, whose trace hash is printed.
    ///
    /// Exit code 1 says that a promise is broken, or that a file has errors. With --vs it is about the
    /// promises of the first policy file alone: the other one is there to compare with. With --find-limit
    /// it says that more than half of the runs do not keep their promises at the load, or with the faults,
    /// that the scenario has. 2 is a wrong command line, 3 a file that cannot be read or written, or a run
    /// beyond the scenario's bounds. Examples:
    ///
    ///   outlast sim scenarios/storm.yaml
    ///   outlast sim scenarios/storm.yaml --vs scenarios/storm.naive.policy.yaml --plot storm.html
    ///   outlast sim scenarios/storm.yaml --find-limit load
    #[command(verbatim_doc_comment)]
    Sim(Sim),
    /// Find settings of a policy file that do better in a scenario
    ///
    /// It spreads candidates over ranges of timeouts, retries, budgets and what else the file has, tries
    /// them in the same worlds, and compares the best in others. It prints what it would change, the
    /// evidence from worlds that took part in no choice, and how much each setting matters. Exit code 1
    /// says that the suggestion does not keep all promises either. Examples:
    ///
    ///   outlast tune scenarios/storm.yaml
    ///   outlast tune scenarios/storm.yaml --policy scenarios/storm.naive.policy.yaml --add budget
    #[command(verbatim_doc_comment)]
    Tune(Tune),
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
    /// Start sagas of a running gateway, see where they are, and help those that wait for somebody
    ///
    /// Tables for people, `--json` for machines. Exit code 1 says that the gateway refused, 3 that it
    /// does not answer. Examples:
    ///
    ///   outlast saga start order --id order-1 --input '{"item": "a book"}' --wait 5s
    ///   outlast saga dead-letters
    ///   outlast saga retry order-1 charge --by ann --reason 'the bank is back'
    #[command(verbatim_doc_comment)]
    Saga(Saga),
    /// See what waits in the queues of a running gateway, and help what could not be delivered
    ///
    /// Tables for people, `--json` for machines. Exit code 1 says that the gateway refused, 3 that it
    /// does not answer. Examples:
    ///
    ///   outlast queue list
    ///   outlast queue dead-letters
    ///   outlast queue retry receipts order-7 --by ann --reason 'the printer has paper again'
    #[command(verbatim_doc_comment)]
    Queue(Queue),
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
pub(crate) struct Advise {
    /// The gateway's admin listener, such as http://127.0.0.1:9900, or a saved file of its /status
    pub(crate) source: String,
    /// One upstream; all, if left out
    pub(crate) upstream: Option<String>,
    /// Ask again after this time, and look at what happened in between
    #[arg(long = "for", value_parser = span, conflicts_with = "since")]
    pub(crate) length: Option<Duration>,
    /// Look at what happened since this file of the same gateway's /status was saved
    #[arg(long, value_name = "FILE")]
    pub(crate) since: Option<PathBuf>,
    /// What the upstream can serve, by a load test, such as 800/s
    #[arg(long, value_parser = rate, value_name = "RATE")]
    pub(crate) capacity: Option<f64>,
    /// The same at its worst: cold, or with an instance less [default: as --capacity]
    #[arg(long, value_parser = rate, value_name = "RATE")]
    pub(crate) cold: Option<f64>,
    /// Arrivals in a busy second of the week [default: the 99th percentile that was measured]
    #[arg(long, value_parser = rate, value_name = "RATE")]
    pub(crate) peak: Option<f64>,
    /// How long callers wait [default: the least deadline of the upstream and its routes]
    #[arg(long, value_parser = outlast_config::duration)]
    pub(crate) deadline: Option<Duration>,
    /// Attempts that a timeout may cut although they would have answered
    #[arg(long, value_parser = share, default_value = "0.1%", value_name = "SHARE")]
    pub(crate) false_timeouts: f64,
    /// Arrivals that may find no seat
    #[arg(long, value_parser = share, default_value = "2%", value_name = "SHARE")]
    pub(crate) refused: f64,
    /// Calls that may get a hedge
    #[arg(long, value_parser = share, default_value = "5%", value_name = "SHARE")]
    pub(crate) hedged: f64,
    /// Calls that may fail although they were retried
    #[arg(long, value_parser = share, default_value = "0.01%", value_name = "SHARE")]
    pub(crate) failed: f64,
    /// Failing attempts at which a breaker has to trip within its window
    #[arg(long, value_parser = share, default_value = "50%", value_name = "SHARE")]
    pub(crate) outage: f64,
    /// Windows in which a breaker may trip although nothing is wrong
    #[arg(long, value_parser = share, default_value = "0.0001%", value_name = "SHARE")]
    pub(crate) false_trips: f64,
    /// Print the advice as JSON
    #[arg(long)]
    pub(crate) json: bool,
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
    #[arg(long, default_value_t = 7, value_parser = seed)]
    pub(crate) seed: u64,
    /// Print the report as JSON, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// A line a second instead of tables, also in a terminal
    #[arg(long)]
    pub(crate) plain: bool,
    /// Open these services only, or all five, at the addresses of the shop's policy file, to try it by
    /// hand; until it is interrupted
    #[arg(long, value_name = "SERVICE", num_args = 0.., value_delimiter = ',')]
    #[arg(conflicts_with_all = ["length", "keep", "json", "plain"])]
    pub(crate) services: Option<Vec<Role>>,
    /// Keep the services' ledgers in this folder, as `payment.jsonl` and so on; else in memory
    #[arg(long, value_name = "FOLDER", requires = "services")]
    pub(crate) ledgers: Option<PathBuf>,
    /// A policy file with other addresses, instead of the one of examples/shop
    #[arg(long, value_name = "FILE", requires = "services")]
    pub(crate) policy: Option<PathBuf>,
    /// The process that runs the orders; the demo starts it.
    #[arg(long, hide = true)]
    pub(crate) runner: bool,
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
    #[arg(long, value_parser = seed)]
    pub(crate) seed: Option<u64>,
    /// How many runs, with seeds that follow each other, instead of the scenario's; `auto`: until means
    /// are known to 2 %, at most 64
    #[arg(long, value_name = "N|auto", value_parser = runs)]
    pub(crate) runs: Option<Runs>,
    /// Threads; the result does not depend on it. One per processor by default
    #[arg(long, value_parser = threads)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Draw the course over time, as `.svg` or `.html`
    #[arg(long, value_name = "FILE", value_parser = picture::file)]
    pub(crate) plot: Option<PathBuf>,
    /// How much more of the load, or how much longer faults, it bears: where half of the runs break
    /// a promise, or, in a scenario without promises, do not recover
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with_all = ["vs", "plot"])]
    pub(crate) find_limit: Option<FindLimit>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How many runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    Exactly(u32),
    /// As many as it takes.
    Auto,
}

fn runs(text: &str) -> Result<Runs, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Runs::Auto),
        Ok(runs) if (1..=10_000).contains(&runs) => Ok(Runs::Exactly(runs)),
        _ => Err("write a number from 1 to 10000, or `auto`".to_owned()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FindLimit {
    /// All rates
    Load,
    /// How long everything in the timeline lasts
    Trigger,
}

#[derive(Args, Debug)]
pub(crate) struct Tune {
    /// The scenario file
    pub(crate) scenario: PathBuf,
    /// The policy file to begin with, instead of the one that the scenario names
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Write the suggested policy file; not over those that are read
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Only settings of this upstream, instead of all that the scenario uses
    #[arg(long, value_name = "NAME")]
    pub(crate) upstream: Option<String>,
    /// Policies that the file does not have, to be tried as well
    #[arg(long, value_enum, value_delimiter = ',', value_name = "POLICY")]
    pub(crate) add: Vec<Added>,
    /// Settings are tried from a so-manieth of what they are now to so many times that, 1.1 to 100
    #[arg(long, default_value_t = 5.0, value_parser = factor)]
    pub(crate) range: f64,
    /// How many runs it may take in all, 200 to 1000000; many settings take more than 200
    #[arg(long, default_value_t = 500, value_name = "RUNS")]
    #[arg(value_parser = budget)]
    pub(crate) budget: u32,
    /// What candidates are drawn from, and the first seed of the runs, instead of the scenario's
    #[arg(long, value_parser = seed)]
    pub(crate) seed: Option<u64>,
    /// Threads; the result does not depend on it. One per processor by default
    #[arg(long, value_parser = threads)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A policy that can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Added {
    /// The bound on extra attempts, where it is off
    Budget,
    /// A breaker per endpoint
    Breaker,
    /// A bound on attempts at once
    Bulkhead,
    /// A measured bound on calls at once
    Shed,
}

fn budget(text: &str) -> Result<u32, String> {
    match text.replace('_', "").parse() {
        Ok(runs) if (200..=1_000_000).contains(&runs) => Ok(runs),
        _ => Err("write a number of runs from 200 to 1000000".to_owned()),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    let seed = text.parse();
    seed.map_err(|_| format!("write a whole number from 0 to {}", u64::MAX))
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let threads = text.parse();
    threads.map_err(|_| "write a whole number from 1 on".to_owned())
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if (1.1..=100.0).contains(&factor) => Ok(factor),
        _ => Err("write a number from 1.1 to 100".to_owned()),
    }
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

fn span(text: &str) -> Result<Duration, String> {
    let span = outlast_config::duration(text)?;
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(24 * 60 * 60));
    if (least..=most).contains(&span) {
        Ok(span)
    } else {
        Err("it takes `1s` to `24h`; for longer, save /status and use --since".to_owned())
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = outlast_config::share(text)?;
    if share > 0.0 && share < 1.0 {
        Ok(share)
    } else {
        Err("it lies between nothing and all, and is neither; the least is `0.0001%`".to_owned())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").map(str::parse);
    match number {
        Some(Ok(rate)) if (LEAST_RATE..MOST_RATE).contains(&rate) => Ok(rate),
        _ => Err("write a rate per second such as `800/s`".to_owned()),
    }
}

/// One a day, about.
const LEAST_RATE: f64 = 1e-5;
const MOST_RATE: f64 = 1e9;

pub(crate) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "outlast", &mut script);
    output::end(&String::from_utf8_lossy(&script), ExitCode::SUCCESS)
}

pub(crate) fn man() -> ExitCode {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .expect("a vector takes everything");
    output::end(&String::from_utf8_lossy(&page), ExitCode::SUCCESS)
}
