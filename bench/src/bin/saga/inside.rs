//! Sagas in the program that wants them: no HTTP, steps are functions.

use std::path::Path;

use outlast_saga::store::postgres::{Config, Postgres};
use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::store::{State, Store};
use outlast_saga::{Flow, Limits, Runner, Step};
use serde_json::json;

use crate::load::{Load, Slot};

/// On an SQLite file of its own.
pub(crate) async fn embedded(file: &Path, load: &Load) -> Result<(), String> {
    let store = Sqlite::open(file).map_err(|error| error.to_string())?;
    run(store, "inside", load).await
}

/// As one of several runners on a PostgreSQL.
pub(crate) async fn shared(url: &str, name: &str, load: &Load) -> Result<(), String> {
    let store = Postgres::connect(url, Config::default().name(name)).await;
    let store = store.map_err(|error| error.to_string())?;
    run(store.clone(), name, load).await?;
    store.leave().await.map_err(|error| error.to_string())
}

/// Opens a file and closes it, so that it lies there as one file.
pub(crate) fn settle(file: &Path) -> Result<(), String> {
    let store = Sqlite::open(file).map_err(|error| error.to_string())?;
    drop(store);
    Ok(())
}

async fn run<S: Store>(store: S, name: &str, load: &Load) -> Result<(), String> {
    let runner = Runner::new(store, [order()], Limits::default());
    let runner = runner.map_err(|error| error.to_string())?;
    let slot = |_| Caller {
        runner: runner.clone(),
        name: format!("{name}-{}", std::process::id()),
    };
    load.run((0..load.at_once).map(slot).collect()).await
}

struct Caller<S> {
    runner: Runner<S>,
    name: String,
}

impl<S: Store> Slot for Caller<S> {
    async fn once(&mut self, number: u64) -> Result<(), String> {
        complete(&self.runner, &format!("{}-{number}", self.name)).await
    }
}

/// Starts a saga and waits until it has ended as it should.
pub(crate) async fn complete<S: Store>(runner: &Runner<S>, id: &str) -> Result<(), String> {
    let started = runner.start("order", id, json!({"item": "a book"})).await;
    started.map_err(|error| error.to_string())?;
    match runner.rests(id).await {
        Ok(State::Completed) => Ok(()),
        Ok(state) => Err(format!("{id} is {}", state.name())),
        Err(error) => Err(error.to_string()),
    }
}

/// Five steps that cost nothing.
pub(crate) fn order() -> Flow {
    let add = |flow: Flow, step: &&'static str| {
        let step = *step;
        flow.step(Step::new(step), move |_| async move {
            Ok(json!({"id": format!("{step}-of-a-book"), "state": "done"}))
        })
    };
    STEPS.iter().fold(Flow::new("order", 1), add)
}

/// What an order is made of.
pub(crate) const STEPS: [&str; 5] = ["create", "reserve", "charge", "ship", "notify"];
