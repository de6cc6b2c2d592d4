//! Policy files as people write them, good and bad.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod canaries;
mod degrade;
mod discover;
mod documents;
mod errors;
mod plans;
mod providers;
mod queues;
mod sagas;
mod scenarios;
mod stores;
mod warnings;

/// All that is wrong with a text.
fn errors_of(text: &str) -> String {
    match outlast_config::parse("test.yaml", text) {
        Ok(_) => panic!("it has no errors: {text}"),
        Err(problems) => problems.to_string(),
    }
}

fn plan(text: &str) -> outlast_config::plan::Plan {
    match outlast_config::parse("test.yaml", text) {
        Ok(loaded) => loaded.into_plan(),
        Err(problems) => panic!("{problems}"),
    }
}
