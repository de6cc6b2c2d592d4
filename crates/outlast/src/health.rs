//! The health of this instance: what it depends on, probed in the background, and what it says of
//! itself.
//!
//! A [`Health`] holds named checks. Each is probed by a task of its own, with a timeout and at
//! jittered intervals; a probe that hangs is cut, one that panics has failed, and neither keeps
//! another check waiting. Thresholds turn results into a status. `/health/live`,
//! `/health/startup`, `/health/ready` and `/health/deep` are answered from that state, in
//! microseconds and without a probe, however often they are asked:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use outlast::Health;
//! use outlast::health::{Config, probe};
//!
//! let health = Health::new()?;
//! health.check("cache", Config::default(), || async { Ok::<_, std::io::Error>(()) })?;
//! health.check("mail", Config::default().critical(false), probe::tcp("127.0.0.1:1")?)?;
//! health.until_ready().await;
//! let answer = health.answer("/health/ready").expect("there is such a path");
//! assert_eq!(answer.status, 200);
//! # Ok(())
//! # }
//! ```
//!
//! Who asks: an axum router by `Health::routes`, the gRPC health service by `Health::grpc_service`,
//! anything else by [`Health::answer`]. What probes: a closure of yours, or one of [`probe`].
//!
//! **Being stuck.** A live endpoint on an executor that is blocked cannot answer, which the
//! orchestrator's own timeout notices. The watchdog is for everybody else: a thread of its own looks
//! whether each watched executor still runs a task every few milliseconds, tells the observer when
//! one does not, and makes `/health/live` fail where it is served from another executor, such as an
//! admin listener's.

mod answer;
mod event;
#[cfg(feature = "grpc-health")]
mod grpc;
pub mod probe;
mod prober;
#[cfg(feature = "axum")]
mod routes;
mod watchdog;

use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outlast_core::config::ConfigError;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use answer::Answer;
pub use event::Event;
#[cfg(feature = "tracing")]
pub use event::log;
#[cfg(feature = "grpc-health")]
pub use grpc::Latest;
pub use outlast_core::health::{Change, Check, Config, Last, Registry, Status, Warmup};

use event::Observer;
use prober::Prober;
use watchdog::Watchdog;

/// The checks of this instance. Clones share them; when the last one is dropped, all probing ends.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

struct Shared {
    state: Arc<State>,
    /// Where checks are probed, from whatever thread they were added.
    executor: Handle,
    /// Probers and heartbeats. They hold the state and not this, so that they end with it.
    tasks: Mutex<JoinSet<()>>,
    on_demand: Mutex<Vec<Arc<Prober>>>,
    watchdog: Watchdog,
}

/// What probers, the watchdog and those who ask share.
struct State {
    registry: Mutex<Registry>,
    observer: Option<Observer>,
    /// Notified after every change of what is answered; holds whether the registry has ended.
    changes: watch::Sender<bool>,
}

/// What a registry needs besides its checks.
pub struct Setup {
    stuck_after: Duration,
    observer: Option<Observer>,
}

impl Default for Setup {
    /// Stuck after 10 s, nobody listens.
    fn default() -> Setup {
        Setup {
            stuck_after: Duration::from_secs(10),
            observer: None,
        }
    }
}

impl Setup {
    /// An executor that has run nothing for so long is stuck; noticed within a quarter more.
    /// Default 10 s; from 100 ms to 1 h.
    pub fn stuck_after(mut self, stuck_after: Duration) -> Setup {
        self.stuck_after = stuck_after;
        self
    }

    /// Who hears of changes. It runs on the task of a check or on the watchdog's thread: it should
    /// log or count, and return. Default: nobody; with the feature `tracing` there is `health::log`.
    pub fn observer(mut self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Setup {
        self.observer = Some(Box::new(observer));
        self
    }
}

impl Health {
    /// A registry without checks. Probes run on the current tokio runtime, which is watched under
    /// the name `runtime`.
    ///
    /// # Errors
    /// If the watchdog's thread cannot be started.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new() -> Result<Health, ConfigError> {
        Health::with(Setup::default())
    }

    /// As [`Health::new`], with settings.
    ///
    /// # Errors
    /// The setting that cannot work; or the watchdog's thread cannot be started.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn with(setup: Setup) -> Result<Health, ConfigError> {
        let executor = Handle::current();
        let state = Arc::new(State {
            registry: Mutex::new(Registry::new()),
            observer: setup.observer,
            changes: watch::Sender::new(false),
        });
        let watchdog = Watchdog::start(setup.stuck_after, &state)?;
        let health = Health {
            shared: Arc::new(Shared {
                state,
                executor,
                tasks: Mutex::new(JoinSet::new()),
                on_demand: Mutex::new(Vec::new()),
                watchdog,
            }),
        };
        health.watch_executor("runtime");
        Ok(health)
    }

    /// Adds a check and begins to probe. `probe` makes one probe; its error's text is shown in the
    /// documents, so it must hold no secrets. A probe must not block its thread, nor own a clone of
    /// this registry, which would then never be dropped.
    ///
    /// # Errors
    /// If the name or `config` cannot work, or the registry was shut down.
    pub fn check<F, Fut, E>(&self, name: &str, config: Config, probe: F) -> Result<(), ConfigError>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let state = &self.shared.state;
        if *state.changes.borrow() {
            return Err(ConfigError::new("health", "was shut down; make a new one"));
        }
        let id = state.registry().add(name, config)?;
        let prober = Arc::new(Prober::new(Arc::clone(state), id, probe));
        if state.registry().check(id).is_on_demand() {
            lock(&self.shared.on_demand).push(Arc::clone(&prober));
        }
        state.changed();
        let mut tasks = lock(&self.shared.tasks);
        tasks.spawn_on(prober.run(), &self.shared.executor);
        Ok(())
    }

    /// Also watches the current tokio runtime, under this name: one executor of several. Watching
    /// ends with the runtime or with the registry. A runtime that nobody drives counts as stuck.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn watch_executor(&self, name: &str) {
        // First, because it may panic: a heartbeat that is never spawned would look stuck.
        let executor = Handle::current();
        let mut tasks = lock(&self.shared.tasks);
        // Those of runtimes that have ended.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(self.shared.watchdog.heartbeat(name), &executor);
    }

    /// What the application says of its warm-up: not ready while it is running. Default
    /// [`Warmup::Complete`].
    pub fn set_warmup(&self, warmup: Warmup) {
        self.shared.state.registry().set_warmup(warmup);
        self.shared.state.changed();
    }

    /// Whether this instance is on its way out: it is not ready, and goes on to serve what it has.
    pub fn set_draining(&self, draining: bool) {
        self.shared.state.registry().set_draining(draining);
        self.shared.state.changed();
    }

    /// Whether no watched executor is stuck.
    pub fn is_alive(&self) -> bool {
        self.shared.state.registry().is_alive()
    }

    /// The watched executors that are stuck.
    pub fn stuck(&self) -> Vec<String> {
        self.shared.watchdog.stuck()
    }

    /// Whether this instance has started: it was once warm, with a result of every critical check.
    pub fn is_started(&self) -> bool {
        self.shared.state.registry().is_started()
    }

    /// Whether this instance wants traffic.
    pub fn is_ready(&self) -> bool {
        self.shared.state.registry().is_ready()
    }

    /// Whether what depends on a group can work; `None` if no check belongs to it.
    pub fn is_group_ready(&self, group: &str) -> Option<bool> {
        self.shared.state.registry().is_group_ready(group)
    }

    /// A copy of everything that is known.
    pub fn snapshot(&self) -> Registry {
        self.shared.state.registry().clone()
    }

    /// Waits until this instance wants traffic; for ever, if it never does.
    pub async fn until_ready(&self) {
        let mut changes = self.shared.state.changes.subscribe();
        while !self.is_ready() && changes.changed().await.is_ok() {}
    }

    /// Ends all probing and watching; the instance is not ready from then on. Dropping the last
    /// clone does the same.
    pub fn shutdown(&self) {
        self.shared.shutdown();
    }
}

impl Shared {
    fn shutdown(&self) {
        self.state.registry().set_draining(true);
        self.state.changes.send_replace(true);
        lock(&self.tasks).abort_all();
        self.watchdog.stop();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl State {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    fn changed(&self) {
        self.changes.send_modify(|_| {});
    }

    fn tell(&self, event: &Event<'_>) {
        if let Some(observer) = &self.observer {
            event::tell(observer, event);
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("registry", &*self.shared.state.registry())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("stuck_after", &self.stuck_after)
            .finish_non_exhaustive()
    }
}

/// Locks; no foreign code runs under any of these locks, so a panic never leaves one half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
