//! `outlast queue`: what people do with queues, over a gateway's admin listener.

mod page;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::saga::ask::{Gateway, Refused};
use crate::saga::{Asks, By, say};
use crate::{FAILED, UNABLE, output};

/// Which gateway, and what to do.
#[derive(Args, Debug)]
pub(crate) struct Queue {
    #[command(flatten)]
    asks: Asks,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the queues, or the requests in one, the oldest first
    List {
        /// The queue; all queues if it is left out
        queue: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Show one request: where it is, and why it is there
    Show {
        /// The queue
        queue: String,
        /// The id of the request
        id: String,
    },
    /// List what could not be delivered, of one queue or of all
    DeadLetters {
        /// The queue; all queues if it is left out
        queue: Option<String>,
    },
    /// Have a dead letter tried again, as often as at first and for as long
    Retry {
        /// The queue
        queue: String,
        /// The id of the request
        id: String,
        #[command(flatten)]
        by: By,
    },
    /// Drop a dead letter: it is not wanted any more
    Discard {
        /// The queue
        queue: String,
        /// The id of the request
        id: String,
        #[command(flatten)]
        by: By,
    },
}

/// Which requests of a queue.
#[derive(Args, Debug)]
struct Which {
    /// Only those that are waiting, dead, delivered or dropped
    #[arg(long, requires = "queue")]
    state: Option<String>,
    /// Go on behind this place of an earlier list
    #[arg(long, requires = "queue")]
    after: Option<i64>,
    /// So many at most [default: 100]
    #[arg(long, requires = "queue")]
    limit: Option<u32>,
}

/// Does it, and tells what came of it.
pub(crate) fn run(queue: &Queue) -> ExitCode {
    let done = Gateway::new(&queue.asks.at, queue.asks.token.as_deref())
        .and_then(|gateway| act(&gateway, &queue.action, queue.asks.json));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refused { answered, why }) => {
            output::tell(format_args!("error: {why}"));
            ExitCode::from(if answered { FAILED } else { UNABLE })
        }
    }
}

fn act(gateway: &Gateway, action: &Action, json: bool) -> Result<(), Refused> {
    let (told, page) = match action {
        Action::List { queue: None, .. } => {
            let told = gateway.get(&["queues"], &[])?;
            let page = page::queues(&told);
            (told, page)
        }
        Action::List {
            queue: Some(queue),
            which,
        } => {
            let told = list(gateway, queue, which)?;
            let page = page::list(&told);
            (told, page)
        }
        Action::Show { queue, id } => {
            let told = gateway.get(&["queues", queue, id], &[])?;
            let page = page::request(&told);
            (told, page)
        }
        Action::DeadLetters { queue } => {
            let letters = dead_letters(gateway, queue.as_deref())?;
            let page = page::dead_letters(&letters);
            (json!(letters), page)
        }
        Action::Retry { queue, id, by } => (help(gateway, queue, id, by, "retry")?, done()),
        Action::Discard { queue, id, by } => (help(gateway, queue, id, by, "discard")?, done()),
    };
    if json {
        return say(&format!("{told:#}\n"));
    }
    say(&page)
}

fn done() -> String {
    "done\n".to_owned()
}

fn list(gateway: &Gateway, queue: &str, which: &Which) -> Result<Value, Refused> {
    let after = which.after.map(|after| after.to_string());
    let limit = which.limit.map(|limit| limit.to_string());
    let query = [
        ("state", which.state.as_deref()),
        ("after", after.as_deref()),
        ("limit", limit.as_deref()),
    ];
    gateway.get(&["queues", queue], &query)
}

fn help(gateway: &Gateway, queue: &str, id: &str, by: &By, how: &str) -> Result<Value, Refused> {
    let body = json!({ "by": by.by, "reason": by.reason });
    gateway.post(&["queues", queue, id, how], &[], &body)
}

/// All dead letters, each with its queue.
fn dead_letters(gateway: &Gateway, queue: Option<&str>) -> Result<Vec<Value>, Refused> {
    let names = match queue {
        Some(queue) => vec![queue.to_owned()],
        None => {
            let told = gateway.get(&["queues"], &[])?;
            let queues = told["queues"].as_array().into_iter().flatten();
            let name = |queue: &Value| queue["queue"].as_str().map(str::to_owned);
            queues.filter_map(name).collect()
        }
    };
    let mut found = Vec::new();
    for name in names {
        let mut after = "0".to_owned();
        loop {
            let query = [("state", Some("dead")), ("after", Some(&*after))];
            let page = gateway.get(&["queues", &name], &query)?;
            for message in page["messages"].as_array().into_iter().flatten() {
                let mut message = message.clone();
                message["queue"] = json!(name);
                found.push(message);
            }
            match page["next"].as_i64() {
                Some(next) => after = next.to_string(),
                None => break,
            }
        }
    }
    Ok(found)
}
