//! `outlast saga`: what people do with sagas, over a gateway's admin listener.

mod ask;
mod page;

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::ask::{Gateway, Refused};
use crate::{FAILED, UNABLE, output};

/// Which gateway, and what to do.
#[derive(Args, Debug)]
pub(crate) struct Saga {
    /// The gateway's admin listener
    #[arg(
        long,
        default_value = "http://127.0.0.1:9900",
        env = "OUTLAST_ADMIN",
        global = true
    )]
    at: String,
    /// A file with the admin token, if the listener wants one
    #[arg(
        long,
        value_name = "FILE",
        env = "OUTLAST_ADMIN_TOKEN_FILE",
        global = true
    )]
    token: Option<std::path::PathBuf>,
    /// What the gateway answers, as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start a saga; the same id with the same input starts nothing new
    Start {
        /// Its definition in the policy file
        name: String,
        /// Its id [default: the gateway makes one]
        #[arg(long)]
        id: Option<String>,
        /// What it begins with: JSON, `@FILE`, or `-` for standard input
        #[arg(long, default_value = "null")]
        input: String,
        /// Wait for its end, at most so long, such as 5s
        #[arg(long)]
        wait: Option<String>,
    },
    /// List sagas, the oldest first
    List {
        /// Only those that are open, waiting, completed or compensated
        #[arg(long)]
        state: Option<String>,
        /// Only those of one definition
        #[arg(long)]
        definition: Option<String>,
        /// Go on behind this place of an earlier list
        #[arg(long)]
        after: Option<i64>,
        /// So many at most
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show one: where its steps are, and its way there
    Show {
        /// Its id
        id: String,
    },
    /// Print what happens to one as it happens, until it ends or waits for somebody
    Watch {
        /// Its id
        id: String,
    },
    /// Turn one back: what was done is undone
    Cancel {
        /// Its id
        id: String,
        #[command(flatten)]
        by: By,
    },
    /// Have a step that waits for somebody tried again, as often as at first
    Retry {
        /// The saga's id
        id: String,
        /// The step
        step: String,
        #[command(flatten)]
        by: By,
    },
    /// Take a step that waits for somebody for done, or undone, by other means
    Resolve {
        /// The saga's id
        id: String,
        /// The step
        step: String,
        #[command(flatten)]
        by: By,
    },
    /// List the steps that wait for somebody
    DeadLetters,
}

/// Both stay on the log.
#[derive(Args, Debug)]
struct By {
    /// Who does it
    #[arg(long, env = "USER")]
    by: String,
    /// Why
    #[arg(long)]
    reason: String,
}

/// Does it, and tells what came of it.
pub(crate) fn run(saga: &Saga) -> ExitCode {
    let done = Gateway::new(&saga.at, saga.token.as_deref())
        .and_then(|gateway| act(&gateway, &saga.action, saga.json));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refused { answered, why }) => {
            output::tell(format_args!("error: {why}"));
            ExitCode::from(if answered { FAILED } else { UNABLE })
        }
    }
}

fn act(gateway: &Gateway, action: &Action, json: bool) -> Result<(), Refused> {
    let told = match action {
        Action::Start {
            name,
            id,
            input,
            wait,
        } => {
            let query = [("id", id.as_deref()), ("wait", wait.as_deref())];
            let body = read_input(input)?;
            let told = gateway.post(&["sagas", name], &query, &body)?;
            if json {
                told
            } else {
                return say(&page::started(&told));
            }
        }
        Action::List {
            state,
            definition,
            after,
            limit,
        } => {
            let (after, limit) = (after.map(|after| after.to_string()), limit.to_string());
            let query = [
                ("state", state.as_deref()),
                ("definition", definition.as_deref()),
                ("after", after.as_deref()),
                ("limit", Some(&limit)),
            ];
            let told = gateway.get(&["sagas"], &query)?;
            if json {
                told
            } else {
                return say(&page::list(&told));
            }
        }
        Action::Show { id } => {
            let mut told = gateway.get(&["sagas", id], &[])?;
            let log = gateway.get(&["sagas", id, "log"], &[])?;
            if !json {
                return say(&page::saga(&told, &log));
            }
            told["log"] = log["records"].clone();
            told
        }
        Action::Watch { id } => return watch(gateway, id, json),
        Action::Cancel { id, by } => {
            let body = json!({ "by": by.by, "reason": by.reason });
            gateway.post(&["sagas", id, "cancel"], &[], &body)?
        }
        Action::Retry { id, step, by } => help(gateway, id, step, by, "retry")?,
        Action::Resolve { id, step, by } => help(gateway, id, step, by, "resolve")?,
        Action::DeadLetters => {
            let letters = dead_letters(gateway)?;
            if json {
                json!(letters)
            } else {
                return say(&page::dead_letters(&letters));
            }
        }
    };
    if json {
        return say(&format!("{told:#}\n"));
    }
    say("done\n")
}

fn help(gateway: &Gateway, id: &str, step: &str, by: &By, how: &str) -> Result<Value, Refused> {
    let body = json!({ "by": by.by, "reason": by.reason, "step": step });
    gateway.post(&["sagas", id, how], &[], &body)
}

/// Every saga that waits, as [`Action::Show`] has it.
fn dead_letters(gateway: &Gateway) -> Result<Vec<Value>, Refused> {
    let (mut found, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let query = [("state", Some("waiting")), ("after", Some(&*after))];
        let page = gateway.get(&["sagas"], &query)?;
        for listed in page["sagas"].as_array().into_iter().flatten() {
            let id = listed["id"].as_str().unwrap_or_default();
            found.push(gateway.get(&["sagas", id], &[])?);
        }
        match page["next"].as_i64() {
            Some(next) => after = next.to_string(),
            None => return Ok(found),
        }
    }
}

fn watch(gateway: &Gateway, id: &str, json: bool) -> Result<(), Refused> {
    let mut way = page::Way::default();
    gateway.events(&["sagas", id, "events"], |event| {
        if json {
            return say(&format!("{event}\n"));
        }
        say(&way.of(&event))
    })
}

fn read_input(input: &str) -> Result<Value, Refused> {
    let text = match input.strip_prefix('@') {
        Some(file) => read_file(Path::new(file))?,
        None if input == "-" => {
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.map_err(|error| Refused::unable(format!("standard input: {error}")))?;
            text
        }
        None => input.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| {
        Refused::unable(format!(
            "the input is no JSON: {error}; such as '{{\"item\": 1}}'"
        ))
    })
}

fn read_file(file: &Path) -> Result<String, Refused> {
    let text = std::fs::read_to_string(file);
    text.map_err(|error| Refused::unable(format!("{}: {error}", file.display())))
}

/// Whoever reads it may have heard enough.
fn say(text: &str) -> Result<(), Refused> {
    let mut out = io::stdout().lock();
    let said = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    said.map_err(|error| Refused::unable(format!("standard output: {error}")))
}
