//! Sagas of the policy file: their flows, and what goes on with them.
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
pub(crate) mod step;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outlast_config::plan::{self, Plan};
use outlast_saga::store::{Count, Store, StoreError};
use outlast_saga::{Blocked, Limits, Runner, Stamp};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use self::step::Callers;
use crate::attempt::wall;
use crate::store::{Chosen, Opened};
use crate::worker::Phase;

/// The sagas of a gateway.
#[derive(Debug)]
pub(crate) struct Sagas {
    plan: plan::Sagas,
    pub(crate) runner: Runner<Chosen>,
    /// Where they go on.
    handle: Handle,
    /// How many there are, as the store said last.
    counted: Mutex<Option<(Instant, Arc<[Count]>)>>,
}

impl Sagas {
    /// Goes on with what the last process has left; `None` if the plan has no sagas. An error names
    /// what is wrong.
    pub(crate) fn start(
        plan: &Plan,
        opened: Opened,
        callers: &Arc<Callers>,
        phases: &watch::Sender<Phase>,
    ) -> Option<Result<Sagas, String>> {
        let sagas = plan.sagas.clone()?;
        let flows: Vec<_> = sagas
            .definitions
            .iter()
            .map(|saga| flow::of(saga, plan, callers))
            .collect();
        let limits = Limits {
            running: sagas.running,
            bytes: sagas.bytes,
            resumed_a_second: sagas.resumed_a_second,
            records: sagas.records,
        };
        let Opened { store, handle } = opened;
        let runner = match Runner::new(store, flows, limits) {
            Ok(runner) => runner,
            Err(error) => return Some(Err(format!("sagas: {error}"))),
        };
        let keeps = [sagas.keep, sagas.keep_log];
        handle.spawn(go_on(runner.clone(), keeps, phases.subscribe()));
        Some(Ok(Sagas {
            plan: sagas,
            runner,
            handle,
            counted: Mutex::default(),
        }))
    }

    /// How many sagas have not ended: as it was a few seconds ago at most, so that scrapes cost the store
    /// little. `None` if the store does not say.
    pub(crate) async fn count(&self) -> Option<Arc<[Count]>> {
        let counted = || self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_fresh = |(at, _): &(Instant, _)| now - *at < FRESH;
        if let Some((_, counts)) = counted().clone().filter(is_fresh) {
            return Some(counts);
        }
        let runner = self.runner.clone();
        let count = self.run(async move { runner.store().count().await });
        let counts = tokio::time::timeout(LONGEST_COUNT, count).await.ok()??;
        let counts: Arc<[Count]> = counts.ok()?.into();
        *counted() = Some((now, Arc::clone(&counts)));
        Some(counts)
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

/// Until the gateway stops: goes on with what the last process has left, and what others leave, and
/// forgets what ended long ago, logs first.
async fn go_on(
    runner: Runner<Chosen>,
    [keep, keep_log]: [Duration; 2],
    mut phases: watch::Receiver<Phase>,
) {
    let work = async {
        resume(&runner).await;
        tokio::join!(
            take_over(&runner),
            tell_who_waits(&runner),
            drop_logs(&runner, keep_log),
            forget(&runner, keep)
        )
    };
    tokio::select! {
        _ = work => {}
        // Who stops takes nothing more.
        _ = phases.wait_for(|phase| *phase != Phase::Serving) => {}
    }
}

async fn take_over(runner: &Runner<Chosen>) {
    let tell = |taken| match taken {
        Ok(sagas) => tracing::info!(sagas, "sagas of another gateway go on here"),
        Err(error) => tracing::warn!(%error, "sagas of others could not be taken over"),
    };
    runner.take_over(tell).await;
}

/// Says in the log that somebody is needed, once for all steps that came to need somebody meanwhile.
async fn tell_who_waits(runner: &Runner<Chosen>) {
    let mut told: HashMap<String, u64> = HashMap::new();
    let mut turn = tokio::time::interval(TELLING);
    loop {
        turn.tick().await;
        for overview in runner.overview() {
            let told = told.entry(overview.name.clone()).or_default();
            let more = overview.done.dead_letters - *told;
            if more > 0 {
                *told += more;
                tracing::warn!(
                    definition = overview.name,
                    steps = more,
                    "steps of sagas wait for somebody: `outlast saga dead-letters` says what helps"
                );
            }
        }
    }
}

/// Goes on with what had not ended.
async fn resume(runner: &Runner<Chosen>) {
    match runner.resume().await {
        Ok(resumed) => {
            if resumed.sagas > 0 {
                tracing::info!(sagas = resumed.sagas, "sagas go on");
            }
            for blocked in resumed.blocked {
                tracing::error!(
                    definition = blocked.definition.definition,
                    version = blocked.definition.version,
                    sagas = blocked.sagas,
                    ids = named(&blocked),
                    "sagas wait for their definition: put that version back into the file"
                );
            }
        }
        Err(error) => tracing::error!(%error, "sagas do not go on"),
    }
}

/// The first of them; the others are counted.
fn named(blocked: &Blocked) -> String {
    let ids = blocked.first.join(", ");
    match blocked.sagas - blocked.first.len() as u64 {
        0 => ids,
        more => format!("{ids}, and {more} more"),
    }
}

async fn forget(runner: &Runner<Chosen>, keep: Duration) {
    loop {
        let forgotten = runner.store().forget(before(keep), AT_ONCE).await;
        pause(forgotten, "forgotten").await;
    }
}

async fn drop_logs(runner: &Runner<Chosen>, keep: Duration) {
    loop {
        let dropped = runner.store().compact(before(keep), AT_ONCE).await;
        pause(dropped, "rid of their logs").await;
    }
}

/// When what is dropped now has ended.
fn before(keep: Duration) -> Stamp {
    let now = wall().duration_since(std::time::UNIX_EPOCH);
    let before = now.unwrap_or_default().saturating_sub(keep);
    Stamp(u64::try_from(before.as_millis()).unwrap_or(0))
}

/// Until the next turn, which comes soon if there is more to do.
#[expect(
    clippy::disallowed_methods,
    reason = "what is old is looked for from time to time"
)]
async fn pause(sagas: Result<usize, StoreError>, what: &str) {
    let wait = match sagas {
        Ok(AT_ONCE..) => SOON,
        _ => TURN,
    };
    match sagas {
        Ok(0) => {}
        Ok(sagas) => tracing::debug!(sagas, "sagas that ended long ago were {what}"),
        Err(error) => tracing::warn!(%error, "sagas could not be {what}"),
    }
    tokio::time::sleep(wait).await;
}

/// For as long it is not counted anew.
const FRESH: Duration = Duration::from_secs(5);
/// Whoever scrapes does not wait for a store that is away.
const LONGEST_COUNT: Duration = Duration::from_secs(1);
const TURN: Duration = Duration::from_secs(10);
/// With [`AT_ONCE`], 5,000 sagas a second at most: more than a gateway begins for long, and others get
/// between.
const SOON: Duration = Duration::from_millis(100);
/// Soon enough for people, and not a line for each step of an outage.
const TELLING: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 500;
