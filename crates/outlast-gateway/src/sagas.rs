//! Sagas of the policy file: their store, their flows, and the thread that goes on with them.
//!
//! A step is a request that goes through its upstream's policies as a client's would, on one of the
//! workers and over its connections. What the gateway answers instead of an upstream (stale copies,
//! fixed answers, another upstream) is for people who look at a page; a step is done by the one who is
//! asked, or it is not done.
//!
//! While the gateway drains no attempt begins; those in flight end, and what came of them is on the log.
//! The next process goes on from there.

pub(crate) mod call;
mod flow;
mod step;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use outlast_config::plan::{self, Plan};
use outlast_saga::store::Store;
use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::{Limits, Runner, Stamp};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, watch};

use self::call::Asked;
use self::step::Callers;
use crate::attempt::wall;
use crate::worker::Phase;

/// The sagas of a gateway.
#[derive(Debug)]
pub(crate) struct Sagas {
    plan: plan::Sagas,
    pub(crate) runner: Runner<Sqlite>,
    /// Where they go on.
    handle: Handle,
}

impl Sagas {
    /// Opens the store and goes on with what the last process has left; `None` if the plan has no
    /// sagas. An error names what is wrong.
    pub(crate) fn start(
        plan: &Plan,
        workers: Vec<mpsc::Sender<Asked>>,
        phases: &watch::Sender<Phase>,
    ) -> Result<Option<(Sagas, JoinHandle<()>)>, String> {
        let Some(sagas) = plan.sagas.clone() else {
            return Ok(None);
        };
        let failed = |error: &dyn std::fmt::Display| format!("sagas: {error}");
        let callers = Arc::new(Callers::new(workers, phases.subscribe()));
        let flows: Vec<_> = sagas
            .definitions
            .iter()
            .map(|saga| flow::of(saga, plan, &callers))
            .collect();
        let store = Sqlite::open(&sagas.sqlite)
            .map_err(|error| format!("sagas: {}: {error}", sagas.sqlite.display()))?;
        let limits = Limits {
            running: sagas.running,
            bytes: sagas.bytes,
            resumed_a_second: sagas.resumed_a_second,
        };
        let runner = Runner::new(store, flows, limits).map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let handle = runtime.handle().clone();
        let goes_on = go_on(runtime, runner.clone(), sagas.keep, phases.subscribe());
        let sagas = Sagas {
            plan: sagas,
            runner,
            handle,
        };
        Ok(Some((sagas, goes_on.map_err(|error| failed(&error))?)))
    }

    /// What they were made from.
    pub(crate) fn plan(&self) -> &plan::Sagas {
        &self.plan
    }

    /// Does something where sagas go on; `None` if the gateway has stopped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.handle.spawn(work).await.ok()
    }
}

fn go_on(
    runtime: Runtime,
    runner: Runner<Sqlite>,
    keep: Duration,
    mut phases: watch::Receiver<Phase>,
) -> std::io::Result<JoinHandle<()>> {
    let work = async move {
        tokio::select! {
            () = resume_and_forget(runner, keep) => {}
            _ = phases.wait_for(|phase| *phase == Phase::Stopped) => {}
        }
    };
    std::thread::Builder::new()
        .name("outlast-sagas".to_owned())
        .spawn(move || runtime.block_on(work))
}

/// Goes on with what had not ended, and forgets what ended long ago.
async fn resume_and_forget(runner: Runner<Sqlite>, keep: Duration) {
    match runner.resume().await {
        Ok(resumed) => {
            if resumed.sagas > 0 {
                tracing::info!(sagas = resumed.sagas, "sagas go on");
            }
            for listed in resumed.blocked {
                tracing::error!(
                    saga = listed.id,
                    definition = listed.definition,
                    version = listed.version,
                    "a saga waits for its definition: put that version back into the file"
                );
            }
        }
        Err(error) => tracing::error!(%error, "sagas do not go on"),
    }
    let mut turn = tokio::time::interval(FORGETTING);
    loop {
        turn.tick().await;
        let now = wall().duration_since(std::time::UNIX_EPOCH);
        let before = now.unwrap_or_default().saturating_sub(keep);
        let before = Stamp(u64::try_from(before.as_millis()).unwrap_or(0));
        match runner.store().forget(before, FORGOTTEN).await {
            Ok(0) => {}
            Ok(sagas) => tracing::debug!(sagas, "sagas that ended long ago were forgotten"),
            Err(error) => tracing::warn!(%error, "sagas could not be forgotten"),
        }
    }
}

/// With [`FORGOTTEN`], 50 sagas a second: more than a gateway that keeps them for long begins, and little
/// enough for others to get between.
const FORGETTING: Duration = Duration::from_secs(10);
const FORGOTTEN: usize = 500;
