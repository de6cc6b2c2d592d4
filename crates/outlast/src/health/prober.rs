//! The task that probes one check.
//!
//! A probe runs on a task of its own, so that one that panics ends nothing else, and one that
//! blocks its thread is still reported as late, if the executor has another one. There is at most
//! one: while a probe that was cut has not really ended, every further turn is a failure and no new
//! probe is started, so a hung dependency never piles up work.

use std::any::Any;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_core::health::Id;
use outlast_core::time::Time;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep_until, timeout};

use super::{Event, State, lock};
use crate::Clock;
use crate::clock::instant_of;
use crate::seed::Seed;

/// Probes one check, now and then.
pub(super) struct Prober {
    state: Arc<State>,
    id: Id,
    probe: Probe,
    timeout: Duration,
    on_demand: bool,
    schedule: Mutex<Schedule>,
    wanted: Notify,
    /// Notified of every result.
    results: watch::Sender<()>,
}

type Probe =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

struct Schedule {
    next: Time,
    probing: bool,
}

impl Prober {
    pub(super) fn new<F, Fut, E>(state: Arc<State>, id: Id, probe: F) -> Prober
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let registry = state.registry();
        let check = registry.check(id);
        let (timeout, on_demand) = (check.timeout(), check.is_on_demand());
        let now = Clock::Precise.now();
        // Nothing to spread for a check that probes only when it is asked.
        let next = if on_demand {
            now
        } else {
            check.first(now, random())
        };
        drop(registry);
        let probe: Probe = Box::new(move || {
            let probe = probe();
            Box::pin(async move { probe.await.map_err(|error| error.to_string()) })
        });
        Prober {
            state,
            id,
            probe,
            timeout,
            on_demand,
            schedule: Mutex::new(Schedule {
                next,
                probing: false,
            }),
            wanted: Notify::new(),
            results: watch::Sender::new(()),
        }
    }

    /// Probes for ever.
    pub(super) async fn run(self: Arc<Prober>) {
        let mut probes = JoinSet::new();
        loop {
            self.until_due().await;
            let started = Clock::Precise.now();
            self.begin(started);
            let result = self.result(&mut probes).await;
            self.record(result, started);
        }
    }

    /// Asks for a probe if one is due, and waits for its result, or for that of the one that runs.
    /// Bounded, should the prober have ended meanwhile.
    pub(super) async fn refresh(&self) {
        let mut results = self.results.subscribe();
        if self.want() {
            let _ = timeout(2 * self.timeout, results.changed()).await;
        }
    }

    /// Asks for a probe if one is due; whether there will be a new result.
    pub(super) fn want(&self) -> bool {
        let schedule = lock(&self.schedule);
        let due = Clock::Precise.now() >= schedule.next;
        let coming = schedule.probing || due;
        drop(schedule);
        if due {
            self.wanted.notify_one();
        }
        coming
    }

    async fn until_due(&self) {
        loop {
            let next = lock(&self.schedule).next;
            if !self.on_demand {
                return match instant_of(next) {
                    Some(next) => sleep_until(next.into()).await,
                    None => std::future::pending().await,
                };
            }
            self.wanted.notified().await;
            // A wish that came while the last probe ran has been fulfilled by it.
            if Clock::Precise.now() >= next {
                return;
            }
        }
    }

    fn begin(&self, started: Time) {
        let next = self.state.registry().check(self.id).next(started, random());
        *lock(&self.schedule) = Schedule {
            next,
            probing: true,
        };
    }

    /// Probes once, as soon as the last probe has ended.
    async fn result(
        self: &Arc<Prober>,
        probes: &mut JoinSet<Result<(), String>>,
    ) -> Result<(), String> {
        let mut is_probing = false;
        let probing = async {
            // One that was cut ends as soon as it is polled, unless it blocks its thread.
            while probes.join_next().await.is_some() {}
            is_probing = true;
            let prober = Arc::clone(self);
            // Part of this task: it is aborted with it.
            probes.spawn(async move { (prober.probe)().await });
            probes.join_next().await.expect("a probe was started")
        };
        match timeout(self.timeout, probing).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(why_it_ended(error)),
            Err(_) if is_probing => {
                probes.abort_all();
                Err(format!("no answer within {:?}", self.timeout))
            }
            Err(_) => Err("a probe that was cut has not ended yet".to_owned()),
        }
    }

    fn record(&self, result: Result<(), String>, started: Time) {
        let now = Clock::Precise.now();
        let result = match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(error.as_str()),
        };
        let mut registry = self.state.registry();
        let change = registry.record(self.id, result, now.since(started), now);
        let check = registry.check(self.id);
        let name = check.name().to_owned();
        drop(registry);
        lock(&self.schedule).probing = false;
        self.results.send_replace(());
        // Also without a change: the first failure of a check may be what a start was waiting for.
        self.state.changed();
        if let Err(error) = result {
            self.state.tell(&Event::Failed {
                check: &name,
                error,
            });
        }
        if let Some(change) = change {
            self.state.tell(&Event::Changed {
                check: &name,
                change,
                error: result.err(),
            });
        }
    }
}

fn random() -> f64 {
    outlast_core::rng::Rng::new(Seed::draw().call).unit()
}

/// The message of a panic; or that the runtime shut down under it.
fn why_it_ended(error: JoinError) -> String {
    let text = |panic: &(dyn Any + Send)| {
        let owned = panic.downcast_ref::<String>().cloned();
        owned.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
    };
    match error.try_into_panic() {
        Ok(panic) => match text(&*panic) {
            Some(message) => format!("the probe panicked: {message}"),
            None => "the probe panicked".to_owned(),
        },
        Err(_) => "the probe was cancelled".to_owned(),
    }
}
