//! `outlast saga`: what people do with sagas, over a gateway's admin listener.

pub(crate) mod ask;
pub(crate) mod page;

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
    #[command(flatten)]
    asks: Asks,
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
        /// Wait for its end, at most so long, such as 5s; then any other end than `completed`, and none, is
        /// told by the exit code 1
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
    /// Leave a step that waits for somebody as it is: go on without it, or let it be not undone
    Skip {
        /// The saga's id
        id: String,
        /// The step
        step: String,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        gave: Gave,
    },
    /// Take a step that waits for somebody for done, or undone, by other means
    Resolve {
        /// The saga's id
        id: String,
        /// The step
        step: String,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        gave: Gave,
    },
    /// List the steps that wait for somebody
    DeadLetters,
    /// List the definitions: their versions, how many sagas have not ended, and which are paused
    Definitions,
    /// Pause a definition: nothing of it begins until it is resumed
    Pause {
        /// Its name
        name: String,
        #[command(flatten)]
        by: By,
    },
    /// Resume a definition that is paused
    Resume {
        /// Its name
        name: String,
        #[command(flatten)]
        by: By,
    },
}

/// Which gateway is asked, and how it is told.
#[derive(Args, Debug)]
pub(crate) struct Asks {
    /// The gateway's admin listener
    #[arg(
        long,
        default_value = DEFAULT_AT,
        env = "OUTLAST_ADMIN",
        global = true
    )]
    pub(crate) at: String,
    /// A file with the admin token, if the listener wants one
    #[arg(
        long,
        value_name = "FILE",
        env = "OUTLAST_ADMIN_TOKEN_FILE",
        global = true
    )]
    pub(crate) token: Option<std::path::PathBuf>,
    /// What the gateway answers, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Both stay on the log.
#[derive(Args, Debug)]
pub(crate) struct By {
    /// Who does it: it stays on the record
    #[arg(long, env = "USER")]
    pub(crate) by: String,
    /// Why
    #[arg(long)]
    pub(crate) reason: String,
}

/// What a step gave, by hand.
#[derive(Args, Debug)]
struct Gave {
    /// What a step that could not be done gave, for later ones: JSON, `@FILE`, or `-` for standard input
    #[arg(long)]
    output: Option<String>,
}

/// Does it, and tells what came of it.
pub(crate) fn run(saga: &Saga) -> ExitCode {
    let done = Gateway::new(&saga.asks.at, saga.asks.token.as_deref())
        .and_then(|gateway| act(&gateway, saga));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refused { answered, why }) => {
            output::tell(format_args!("error: {why}"));
            ExitCode::from(if answered { FAILED } else { UNABLE })
        }
    }
}

fn act(gateway: &Gateway, saga: &Saga) -> Result<(), Refused> {
    let json = saga.asks.json;
    let told = match &saga.action {
        Action::Start {
            name,
            id,
            input,
            wait,
        } => {
            let query = [("id", id.as_deref()), ("wait", wait.as_deref())];
            let body = read_json("input", input)?;
            let told = gateway.post(&["sagas", name], &query, &body)?;
            say(&match json {
                true => format!("{told:#}\n"),
                false => page::started(&told),
            })?;
            return match (wait, told["state"].as_str()) {
                (Some(_), Some(state)) if state != "completed" => Err(Refused {
                    answered: true,
                    why: format!("it was waited for, and is {state}"),
                }),
                _ => Ok(()),
            };
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
                return say(&page::saga(&told, &log, &command(saga)));
            }
            told["log"] = log["records"].clone();
            told
        }
        Action::Watch { id } => return watch(gateway, id, json),
        Action::Cancel { id, by } => {
            let body = json!({ "by": by.by, "reason": by.reason });
            gateway.post(&["sagas", id, "cancel"], &[], &body)?
        }
        Action::Retry { id, step, by } => help(gateway, "retry", id, step, by, None)?,
        Action::Skip { id, step, by, gave } => help(gateway, "skip", id, step, by, Some(gave))?,
        Action::Resolve { id, step, by, gave } => {
            help(gateway, "resolve", id, step, by, Some(gave))?
        }
        Action::Definitions => {
            let told = gateway.get(&["sagas", "definitions"], &[])?;
            if json {
                told
            } else {
                return say(&page::definitions(&told));
            }
        }
        Action::Pause { name, by } => switch(gateway, name, by, "pause")?,
        Action::Resume { name, by } => switch(gateway, name, by, "resume")?,
        Action::DeadLetters => {
            let letters = dead_letters(gateway)?;
            if json {
                json!(letters)
            } else {
                return say(&page::dead_letters(&letters, &command(saga)));
            }
        }
    };
    if json {
        return say(&format!("{told:#}\n"));
    }
    say("done\n")
}

/// How this command is called for the same gateway.
fn command(saga: &Saga) -> String {
    let mut command = "outlast saga".to_owned();
    if saga.asks.at != DEFAULT_AT {
        command.push_str(&format!(" --at {}", saga.asks.at));
    }
    if let Some(token) = &saga.asks.token {
        command.push_str(&format!(" --token {}", token.display()));
    }
    command
}

fn help(
    gateway: &Gateway,
    how: &str,
    id: &str,
    step: &str,
    by: &By,
    gave: Option<&Gave>,
) -> Result<Value, Refused> {
    let mut body = json!({ "by": by.by, "reason": by.reason, "step": step });
    if let Some(output) = gave.and_then(|gave| gave.output.as_deref()) {
        body["output"] = read_json("output", output)?;
    }
    gateway.post(&["sagas", id, how], &[], &body)
}

fn switch(gateway: &Gateway, name: &str, by: &By, how: &str) -> Result<Value, Refused> {
    let body = json!({ "by": by.by, "reason": by.reason });
    gateway.post(&["sagas", "definitions", name, how], &[], &body)
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

fn read_json(what: &str, given: &str) -> Result<Value, Refused> {
    let text = match given.strip_prefix('@') {
        Some(file) => read_file(Path::new(file))?,
        None if given == "-" => {
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.map_err(|error| Refused::unable(format!("standard input: {error}")))?;
            text
        }
        None => given.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| {
        Refused::unable(format!(
            "the {what} is no JSON: {error}; such as '{{\"item\": 1}}'"
        ))
    })
}

fn read_file(file: &Path) -> Result<String, Refused> {
    let text = std::fs::read_to_string(file);
    text.map_err(|error| Refused::unable(format!("{}: {error}", file.display())))
}

/// Whoever reads it may have heard enough.
pub(crate) fn say(text: &str) -> Result<(), Refused> {
    let mut out = io::stdout().lock();
    let said = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    said.map_err(|error| Refused::unable(format!("standard output: {error}")))
}

const DEFAULT_AT: &str = "http://127.0.0.1:9900";
