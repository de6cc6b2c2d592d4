//! The order of the benchmark as a Temporal workflow: five local activities that cost nothing.
//!
//! `outlast-bench-temporal work URL` is the worker, and serves until it is killed. `outlast-bench-temporal
//! load URL AT_ONCE WARM_UP MEASURED` starts workflows and waits for their results. A local activity runs in
//! the worker and is recorded with the end of its workflow task, which is the least that Temporal writes.

#[path = "../../../src/bin/saga/load.rs"]
mod load;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, WorkflowGetResultOptions,
    WorkflowStartOptions,
};
use temporalio_macros::{activities, workflow, workflow_methods};
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use temporalio_sdk::{
    LocalActivityOptions, Runtime, Worker, WorkerOptions, WorkflowContext, WorkflowResult,
};

use crate::load::{Load, Slot};

/// What a step gives: some 40 bytes of JSON.
#[derive(Serialize, Deserialize)]
pub struct Done {
    id: String,
    state: String,
}

pub struct Steps;

#[activities]
impl Steps {
    #[activity]
    pub async fn act(_context: ActivityContext, what: String) -> Result<Done, ActivityError> {
        Ok(Done {
            id: what,
            state: "done".to_owned(),
        })
    }
}

#[workflow]
#[derive(Default)]
pub struct Order;

#[workflow_methods]
impl Order {
    #[run]
    pub async fn run(context: &mut WorkflowContext<Self>, item: String) -> WorkflowResult<Done> {
        for step in STEPS {
            let options = LocalActivityOptions::builder()
                .start_to_close_timeout(Duration::from_secs(30))
                .build();
            context
                .execute_local_activity(Steps::act, format!("{step}-of-{item}"), options)
                .await?;
        }
        Ok(Done {
            id: item,
            state: "completed".to_owned(),
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().ok_or("work or load?")?;
    let runtime = Runtime::from_current_tokio(Default::default())?;
    let url = url::Url::parse(&arguments.next().ok_or("where is the server?")?)?;
    let connection = Connection::connect(ConnectionOptions::new(url).build()).await?;
    let client = Client::new(connection, ClientOptions::new("default").build())?;
    if role == "work" {
        let options = WorkerOptions::new(TASKS)
            .register_workflow::<Order>()?
            .register_activities(Steps)
            .build();
        return Ok(Worker::new(&runtime, client, options)?.run().await?);
    }
    let load = Load::read(arguments)?;
    let slots = (0..load.at_once).map(|_| Caller(client.clone())).collect();
    Ok(load.run(slots).await?)
}

struct Caller(Client);

impl Slot for Caller {
    async fn once(&mut self, number: u64) -> Result<(), String> {
        let id = format!("order-{}-{number}", std::process::id());
        let options = WorkflowStartOptions::new(TASKS, id).build();
        let started = self
            .0
            .start_workflow(Order::run, "a book".to_owned(), options);
        let started = started.await.map_err(|error| error.to_string())?;
        let result = started
            .get_result(WorkflowGetResultOptions::default())
            .await;
        let done: Done = result.map_err(|error| error.to_string())?;
        match done.state.as_str() {
            "completed" => Ok(()),
            state => Err(format!("a workflow ended {state}")),
        }
    }
}

const TASKS: &str = "orders";
const STEPS: [&str; 5] = ["create", "reserve", "charge", "ship", "notify"];
