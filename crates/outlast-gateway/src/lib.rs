//! Outlast's reverse proxy: the policies of the library in front of services in any language.
//!
//! ```text
//! client ── worker ── route ── call through the upstream's policies ── endpoint
//! ```
//!
//! One thread per worker, with a runtime and listening sockets of its own; what workers share is
//! the upstreams' policies, which are made of atomics, and counters. The gateway contains no
//! policy: it reports outcomes to the library's machine, and does what that says.

mod admin;
mod answer;
mod arrivals;
mod attempt;
mod check;
mod connect;
mod connection;
mod degrade;
mod dialect;
mod discover;
mod exchange;
mod forward;
mod guard;
mod health;
mod histogram;
mod hold;
mod journal;
mod listen;
mod load;
mod members;
mod metrics;
mod peers;
mod pool;
mod prometheus;
mod proxy;
mod queues;
mod refusal;
mod replay;
mod rollout;
mod routes;
mod sagas;
mod stale;
mod status;
mod store;
mod table;
mod target;
mod times;
mod tls;
mod tunnel;
mod worker;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use outlast::health::Latest;
use outlast_config::plan::{self, Plan};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::queues::Queues;
pub use crate::rollout::status::{CanaryStatus, DecisionStatus, VersionStatus};
use crate::sagas::Sagas;
use crate::sagas::call::Asked;
use crate::sagas::step::Callers;
pub use crate::status::{
    BalanceStatus, BreakerStatus, BudgetStatus, BulkheadStatus, DegradeStatus, DiscoveryStatus,
    EndpointStatus, ErrorStatus, ExclusiveStatus, Latency, ModeStatus, RouteStatus, SamplesStatus,
    SettingsStatus, ShedStatus, SignalsStatus, StaleStatus, Status, SwitchStatus, UpstreamStatus,
};
use crate::table::{Changes, Table};
use crate::worker::{Phase, Shared};

/// What a gateway needs beside its plan.
#[derive(Clone, Default)]
pub struct Options {
    /// Where `POST /reload` of the admin listener gets a new plan from. Default: that is refused.
    pub reload: Option<Arc<dyn Fn() -> Result<Plan, String> + Send + Sync>>,
    /// How many lines of the log were dropped because nobody read them; they are added to
    /// `outlast_unlogged_total`. Default: none.
    pub dropped_lines: Option<Arc<dyn Fn() -> usize + Send + Sync>>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

/// A gateway that serves. Dropping it stops it at once.
#[derive(Debug)]
pub struct Gateway {
    state: Arc<State>,
    workers: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    /// Where work on the store goes on, if the plan has any.
    store: Option<JoinHandle<()>>,
}

/// What the handle, the workers and the admin listener share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tables: watch::Sender<Arc<Table>>,
    pub(crate) phases: watch::Sender<Phase>,
    pub(crate) workers: usize,
    pub(crate) options: Options,
    /// What an operator has to show, once the admin listener has started.
    pub(crate) admin_token: OnceLock<Option<Box<str>>>,
    /// What the gRPC health service answers from, if there is an admin listener.
    pub(crate) latest: Option<Latest>,
    /// The store of the plan that it began with.
    store: plan::Store,
    /// The sagas of that.
    pub(crate) sagas: Option<Sagas>,
    /// Where checks are probed: the admin listener's runtime, if there is one.
    executor: Option<Handle>,
    /// One change of tables or of told endpoints at a time.
    reloading: Mutex<()>,
}

impl Gateway {
    /// Binds, and serves on threads of its own; returns when connections are accepted.
    ///
    /// # Errors
    /// An address that cannot be bound, a file that cannot be read, a thread that cannot be
    /// started.
    pub fn start(plan: Plan, options: Options) -> Result<Gateway, StartError> {
        let workers = plan.gateway.workers.map_or_else(processors, usize::from);
        let admin = plan.gateway.admin.clone();
        let runtime = admin.as_ref().map(|_| admin::runtime()).transpose()?;
        let executor = runtime.as_ref().map(|runtime| runtime.handle().clone());
        let phases = watch::Sender::new(Phase::Serving);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| mpsc::channel(CALLS)).unzip();
        let store_plan = plan.store.clone();
        let is_used = plan.sagas.is_some() || !plan.queues.is_empty();
        let opened = is_used.then(|| store::start(&plan, phases.subscribe()));
        let (opened, store) = opened.transpose().map_err(StartError)?.unzip();
        let callers = Arc::new(Callers::new(senders, phases.subscribe()));
        let queues = opened.as_ref().map(|opened| Queues::open(&plan, opened));
        let queues = queues.transpose().map_err(StartError)?.map(Arc::new);
        let sagas = opened.and_then(|opened| Sagas::start(&plan, opened, &callers, &phases));
        let sagas = sagas.transpose().map_err(StartError)?;
        let (table, _) = Table::new(plan, None, workers, executor.as_ref()).map_err(StartError)?;
        rollout::announce(None, &table);
        let addresses = table
            .listeners
            .iter()
            .map(|listener| listener.sockets.bound)
            .collect();
        let state = Arc::new(State {
            shared: Arc::new(Shared {
                queues,
                ..Shared::default()
            }),
            latest: table.vitals.as_ref().map(|vitals| vitals.latest()),
            tables: watch::Sender::new(Arc::new(table)),
            phases,
            workers,
            options,
            store: store_plan,
            sagas,
            admin_token: OnceLock::new(),
            executor,
            reloading: Mutex::new(()),
        });
        let mut gateway = Gateway {
            state: Arc::clone(&state),
            workers: Vec::new(),
            addresses,
            admin: None,
            store,
        };
        if let Some(queues) = &state.shared.queues {
            queues.run(&callers, &state.tables, &state.phases);
        }
        for (index, calls) in receivers.into_iter().enumerate() {
            gateway.workers.push(spawn(index, &state, calls)?);
        }
        gateway.admin = admin
            .zip(runtime)
            .map(|(admin, runtime)| admin::start(&admin, runtime, &state))
            .transpose()?;
        Ok(gateway)
    }

    /// Where it listens, with the ports that the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where operators connect, unless that is off.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        Status::of(&self.state)
    }

    /// Serves by another plan from the next request on. Upstreams whose part of the plan is the
    /// same keep their state; requests in flight end by the plan they began with.
    ///
    /// # Errors
    /// Whatever would have kept it from starting; then it goes on with the old plan.
    pub fn reload(&self, plan: Plan) -> Result<Reloaded, ReloadError> {
        self.state.reload(plan)
    }

    /// Accepts no new connections and is not ready any more; what is in flight goes on.
    pub fn drain(&self) {
        self.state.drain();
    }

    /// Drains, and waits for what is in flight for at most `within`. Whether all of it ended by
    /// itself.
    pub fn stop(mut self, within: Duration) -> bool {
        self.drain();
        let ended = self.wait(within);
        self.state.phases.send_replace(Phase::Stopped);
        ended
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a thread waits for the workers' threads"
    )]
    fn wait(&mut self, within: Duration) -> bool {
        let end = std::time::Instant::now() + within;
        while std::time::Instant::now() < end {
            if self.workers.iter().all(JoinHandle::is_finished) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.state.phases.send_replace(Phase::Stopped);
        for worker in self.workers.drain(..).chain(self.store.take()) {
            // A worker that panicked has said so already.
            let _ = worker.join();
        }
    }
}

impl State {
    pub(crate) fn reload(&self, plan: Plan) -> Result<Reloaded, ReloadError> {
        let _turn = self.one_at_a_time();
        let before = Arc::clone(&self.tables.borrow());
        let (store, sagas) = (plan.store.clone(), plan.sagas.clone());
        let queues = plan.queues.clone();
        let (table, changes) =
            Table::new(plan, Some(&before), self.workers, self.executor.as_ref())
                .map_err(ReloadError)?;
        let mut later = Vec::new();
        if table
            .gateway
            .workers
            .is_some_and(|workers| workers.get() != self.workers)
        {
            later.push("gateway.workers");
        }
        if table.gateway.admin != before.gateway.admin {
            later.push("gateway.admin");
        }
        if self.sagas.as_ref().map(Sagas::plan) != sagas.as_ref() {
            later.push("sagas");
        }
        let own = self.shared.queues.as_ref().map(|queues| queues.plan());
        if own.unwrap_or_default() != queues {
            later.push("queues");
        }
        if self.store != store {
            later.push("store");
        }
        if let Some(vitals) = &table.vitals {
            vitals.drains(*self.phases.borrow() != Phase::Serving);
        }
        rollout::announce(Some(&before), &table);
        if let (Some(vitals), Some(latest)) = (&table.vitals, &self.latest) {
            vitals.hold(latest);
        }
        let table = Arc::new(table);
        self.tables.send_replace(Arc::clone(&table));
        // Once more: a drain that began just now knew the old table only.
        if let Some(vitals) = &table.vitals {
            vitals.drains(*self.phases.borrow() != Phase::Serving);
        }
        Ok(Reloaded { changes, later })
    }

    /// Nobody else reloads, or tells an upstream its endpoints, while this is held.
    pub(crate) fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        let turn = self.reloading.lock();
        turn.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn drain(&self) {
        // Before anybody says that nothing is sent any more: what is on a log as begun has to be.
        if let Some(sagas) = &self.sagas {
            sagas.runner.hold();
        }
        self.phases.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Draining;
            }
            serving
        });
        if let Some(vitals) = &self.tables.borrow().vitals {
            vitals.drains(true);
        }
    }
}

fn spawn(
    index: usize,
    state: &State,
    calls: mpsc::Receiver<Asked>,
) -> Result<JoinHandle<()>, StartError> {
    let (shared, tables, phases) = (
        Arc::clone(&state.shared),
        state.tables.subscribe(),
        state.phases.subscribe(),
    );
    std::thread::Builder::new()
        .name(format!("outlast-worker-{index}"))
        .spawn(move || {
            if let Err(error) = worker::run(index, shared, tables, phases, calls) {
                tracing::error!(%error, "a worker could not be started");
            }
        })
        .map_err(|error| StartError(format!("a thread could not be started: {error}")))
}

/// Calls of sagas and queues that wait for a worker; more wait for them.
const CALLS: usize = 256;

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Why a gateway did not start: one sentence that names the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Why a plan was not taken over: one sentence that names the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadError(String);

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReloadError {}

/// What a reload changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    changes: Changes,
    later: Vec<&'static str>,
}

impl Reloaded {
    /// Upstreams that are the same as before and keep their state.
    pub fn kept(&self) -> usize {
        self.changes.kept
    }

    /// Upstreams that are new, or changed and start anew.
    pub fn new_upstreams(&self) -> usize {
        self.changes.new
    }

    /// Settings that differ and take effect at the next start only.
    pub fn later(&self) -> &[&'static str] {
        &self.later
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Changes { kept, new, gone } = self.changes;
        write!(
            f,
            "{kept} upstreams kept their state, {new} are new, {gone} are gone"
        )?;
        if !self.later.is_empty() {
            write!(f, "; at the next start: {}", self.later.join(", "))?;
        }
        Ok(())
    }
}
