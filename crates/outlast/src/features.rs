//! What an application still offers, by the state of what it depends on.
//!
//! The modes and their features are written down before the incident (see
//! [`degrade`](outlast_core::degrade), which decides). A [`Features`] is the handle that an
//! application asks: `features.enabled("recommendations")`. It hears how dependencies are doing,
//! as an observer of upstreams or by [`Features::record`], looks at the breakers, bulkheads and
//! budgets of the upstreams it [watches](Features::watch), and decides once a second, in
//! [`Features::run`] or whenever the application calls [`Features::tick`].
//!
//! ```
//! use std::time::Duration;
//! use outlast::degrade::{Condition, Config, Limit, Mode, Quantile};
//! use outlast::tier::Tier;
//! use outlast::{Features, Setup, Upstream};
//!
//! let slow = Condition::Latency(Quantile::P99, Limit::Above(Duration::from_millis(500)));
//! let features = Features::new(
//!     Config::default()
//!         .feature("recommendations", Tier::Optional)
//!         .mode(Mode::new("lean").when(slow).disable(Tier::Optional)),
//! )?;
//! let shop = Upstream::with(
//!     outlast::Config::standard("shop"),
//!     Setup::default().observer(features.clone()),
//! )?;
//! features.watch(&shop);
//! assert!(features.enabled("recommendations"));
//! features.force("lean", Duration::from_secs(600))?;
//! assert!(!features.enabled("recommendations"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It is one handle for a whole service, not one per dependency: what users are offered is one
//! decision, and two that contradict each other are none. What is answered in place of a feature
//! is the application's business.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use outlast_core::breaker::{self, State};
use outlast_core::config::ConfigError;
use outlast_core::degrade::{Config, Degrade, Meter, Signals, Switch};
use outlast_core::event::{Event, Observer};
use outlast_core::outcome::Outcome;
use outlast_core::ratio::Ratio;
use outlast_core::tier::Tier;
use outlast_core::time::Time;
use outlast_core::upstream::Stats;

use crate::Clock;
use crate::upstream::{Inner, Upstream};

/// Which features are on. Cloning shares it.
#[derive(Clone)]
pub struct Features {
    shared: Arc<Shared>,
}

struct Shared {
    degrade: Degrade,
    meter: Meter,
    /// Weak, because the upstreams may hold this as their observer.
    watched: Mutex<Vec<Weak<Inner>>>,
    loads: Mutex<Loads>,
    /// When signals were last looked at, in nanoseconds; [`NEVER`] before.
    looked: AtomicU64,
}

impl Features {
    /// Looks back over 10 s, and needs 20 calls to say anything.
    ///
    /// # Errors
    /// If `config` cannot work; the error names the setting and the mend.
    pub fn new(config: Config) -> Result<Features, ConfigError> {
        Features::with(config, Meter::new(WINDOW, MIN_CALLS)?)
    }

    /// As [`Features::new`], with a meter of its own window.
    ///
    /// # Errors
    /// If `config` cannot work; the error names the setting and the mend.
    pub fn with(config: Config, meter: Meter) -> Result<Features, ConfigError> {
        Ok(Features {
            shared: Arc::new(Shared {
                degrade: Degrade::new(config)?,
                meter,
                watched: Mutex::default(),
                loads: Mutex::default(),
                looked: AtomicU64::new(NEVER),
            }),
        })
    }

    /// Whether a feature is on. A name that is not in the configuration is: nothing switches it
    /// off. It is looked up by comparing names; where that counts, keep
    /// [`Degrade::feature`](outlast_core::degrade::Degrade::feature) and ask [`Features::modes`].
    pub fn enabled(&self, name: &str) -> bool {
        let degrade = &self.shared.degrade;
        degrade
            .feature(name)
            .is_none_or(|feature| degrade.enabled(feature))
    }

    /// Whether work of a tier is done.
    pub fn allows(&self, tier: Tier) -> bool {
        self.shared.degrade.allows(tier)
    }

    /// Whether stale answers may be served.
    pub fn serves_stale(&self) -> bool {
        self.shared.degrade.serves_stale()
    }

    /// The name of the mode in force, `normal` for none.
    pub fn mode(&self) -> &str {
        let degrade = &self.shared.degrade;
        degrade.name(degrade.current())
    }

    /// The modes themselves: their matrix, statistics and levels.
    pub fn modes(&self) -> &Degrade {
        &self.shared.degrade
    }

    /// Notes a call of a dependency. An upstream with this as its observer does so for every
    /// attempt. Answers given in place of a feature are not for it: they are fast and fine, and
    /// would call the incident over.
    pub fn record(&self, outcome: Outcome, took: Duration) {
        let now = Clock::Precise.now();
        self.shared.meter.record(outcome, took, now);
    }

    /// From now on also looks at the breakers, the load and the budget of `upstream`, until
    /// the last clone of that is gone. Twice is as good as once.
    pub fn watch(&self, upstream: &Upstream) {
        let mut watched = self.lock();
        let new = Arc::downgrade(&upstream.inner);
        watched.retain(|known| known.strong_count() > 0);
        if !watched.iter().any(|known| known.ptr_eq(&new)) {
            watched.push(new);
        }
    }

    /// Looks at the signals of this moment; the switch, if that causes one. For four times a second,
    /// over which the load is averaged; pauses of more than 10 s prove no dwell.
    pub fn tick(&self) -> Option<Switch> {
        let now = Clock::Precise.now();
        let seen = self.look(now);
        self.loads().note(fullest(&seen));
        let switch = self.read(&seen, now, |signals| {
            self.shared.degrade.observe(signals, now)
        });
        self.shared.looked.store(now.as_nanos(), Ordering::Relaxed);
        switch
    }

    /// The signals of this moment, for people and metrics.
    pub fn signals<T>(&self, read: impl FnOnce(&Signals<'_>) -> T) -> T {
        let now = Clock::Precise.now();
        self.read(&self.look(now), now, read)
    }

    /// Ticks four times a second, for as long as it is polled, and tells of every switch.
    #[cfg(feature = "tokio")]
    pub async fn run(&self, mut switched: impl FnMut(&Switch)) -> std::convert::Infallible {
        let mut every = tokio::time::interval(BETWEEN_TICKS);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            if let Some(switch) = self.tick() {
                switched(&switch);
            }
        }
    }

    /// Takes a mode by hand, or `normal`, whatever the signals; [`Duration::MAX`] is until
    /// [`Features::release`]. The switch, if the mode was another one.
    ///
    /// # Errors
    /// If there is no such mode.
    pub fn force(&self, mode: &str, lasts: Duration) -> Result<Option<Switch>, UnknownMode> {
        let degrade = &self.shared.degrade;
        let level = degrade.level(mode).ok_or_else(|| UnknownMode {
            name: mode.to_owned(),
            known: degrade
                .matrix()
                .rows
                .into_iter()
                .map(|row| row.mode)
                .collect(),
        })?;
        let now = Clock::Precise.now();
        Ok(degrade.force(level, now + lasts, now))
    }

    /// Gives the mode back to the signals at once.
    pub fn release(&self) -> Option<Switch> {
        self.shared.degrade.release(Clock::Precise.now())
    }

    /// How long ago signals were last looked at; `None` if never.
    pub fn looked(&self) -> Option<Duration> {
        let at = self.shared.looked.load(Ordering::Relaxed);
        (at != NEVER).then(|| {
            let now = Clock::Precise.now();
            Duration::from_nanos(now.as_nanos().saturating_sub(at))
        })
    }

    /// The upstreams as they are.
    fn look(&self, now: Time) -> Vec<(Arc<Inner>, Stats)> {
        let upstreams: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        let with_stats = |upstream: Arc<Inner>| {
            let stats = upstream.core.stats(now);
            (upstream, stats)
        };
        upstreams.into_iter().map(with_stats).collect()
    }

    fn read<T>(
        &self,
        seen: &[(Arc<Inner>, Stats)],
        now: Time,
        read: impl FnOnce(&Signals<'_>) -> T,
    ) -> T {
        let open: Vec<&str> = seen
            .iter()
            .filter(|(_, stats)| has_open_breaker(stats, now))
            .map(|(upstream, _)| upstream.core.name())
            .collect();
        let load = self.loads().mean();
        read(&Signals {
            load: load.or_else(|| fullest(seen)),
            open: &open,
            exhausted: seen.iter().any(|(_, stats)| is_exhausted(stats)),
            ..self.shared.meter.signals(now)
        })
    }

    fn loads(&self) -> MutexGuard<'_, Loads> {
        let loads = self.shared.loads.lock();
        loads.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Inner>>> {
        let watched = self.shared.watched.lock();
        watched.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Features {
    /// Every attempt that ended, with its outcome and its time.
    fn event(&self, _upstream: &str, event: &Event<'_>) {
        if let Event::Ended { outcome, took, .. } = *event {
            self.record(outcome, took);
        }
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Features")
            .field(&self.shared.degrade)
            .finish()
    }
}

/// A breaker whose cooldown is over opens half at the next call. A mode that stops all calls of
/// its upstream must end all the same, so one that nobody asked for some time since counts as
/// closed.
fn has_open_breaker(stats: &Stats, now: Time) -> bool {
    let is_open = |breaker: &breaker::Stats| match breaker.state {
        State::ForcedOpen => true,
        State::Open => breaker.retry_at.is_some_and(|at| now < at + UNASKED),
        _ => false,
    };
    let mut breakers = stats
        .endpoints
        .iter()
        .filter_map(|endpoint| endpoint.breaker.as_ref());
    breakers.any(is_open)
}

/// The load of the fullest upstream: what is in flight, as a share of what may be, by its shedder or
/// its bulkhead, whichever is nearer to its limit. Policies that only look on limit nothing.
fn fullest(seen: &[(Arc<Inner>, Stats)]) -> Option<Ratio> {
    let share = |taken: u32, of: u32| {
        let share = f64::from(taken) / f64::from(of.max(1));
        Ratio::new(share.min(1.0)).ok()
    };
    let load = |(upstream, stats): &(Arc<Inner>, Stats)| {
        let core = &upstream.core;
        let sheds = core.shed().is_some_and(|shed| shed.config().is_enforced());
        let shed = stats.shed.as_ref().filter(|_| sheds);
        let bulkhead = stats.bulkhead.as_ref();
        let bulkhead = bulkhead.filter(|_| core.bulkhead_is_enforced());
        [
            shed.and_then(|shed| share(shed.in_flight, shed.limit)),
            bulkhead.and_then(|bulkhead| share(bulkhead.active, bulkhead.concurrency)),
        ]
    };
    let loads = seen.iter().flat_map(load).flatten();
    loads.reduce(|a, b| if b > a { b } else { a })
}

/// The loads at the latest ticks: what is in flight at one moment says little of a second.
#[derive(Default)]
struct Loads(VecDeque<Ratio>);

impl Loads {
    fn note(&mut self, load: Option<Ratio>) {
        let Some(load) = load else {
            return self.0.clear();
        };
        if self.0.len() == AVERAGED {
            self.0.pop_front();
        }
        self.0.push_back(load);
    }

    fn mean(&self) -> Option<Ratio> {
        let sum: f64 = self.0.iter().map(|load| load.as_f64()).sum();
        // Without any it is no number, and so no ratio.
        Ratio::new(sum / self.0.len() as f64).ok()
    }
}

/// Something was withdrawn and nothing is left: a budget without a reserve that nobody has needed
/// is not exhausted.
fn is_exhausted(stats: &Stats) -> bool {
    let budget = stats.budget.as_ref();
    budget.is_some_and(|budget| budget.available == 0 && budget.withdrawn > 0)
}

/// There is no mode of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMode {
    name: String,
    known: Vec<String>,
}

impl fmt::Display for UnknownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.join(", ");
        write!(
            f,
            "there is no mode `{}`; the modes are: {known}",
            self.name
        )
    }
}

impl std::error::Error for UnknownMode {}

/// A second of ticks.
const AVERAGED: usize = 4;
const WINDOW: Duration = Duration::from_secs(10);
const MIN_CALLS: u32 = 20;
#[cfg(feature = "tokio")]
const BETWEEN_TICKS: Duration = Duration::from_millis(250);
/// For this long after its cooldown a breaker still counts as open.
const UNASKED: Duration = Duration::from_secs(5);
/// Later than any time.
const NEVER: u64 = u64::MAX;
