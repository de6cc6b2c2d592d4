//! One dependency: its endpoints, its policies, and what they all share.
//!
//! An [`Upstream`] is what calls have in common: breakers and statistics per endpoint, and one
//! budget, bulkhead, rate limit and latency record for all. It decides nothing by itself; a
//! [`Call`](crate::call::Call) walks through it. There is no registry: whoever makes calls holds
//! it.
//!
//! Every policy is off until it is configured, except the bound of 30 s on an attempt and the
//! budget for extra attempts, which would be dangerous to forget.

mod config;
mod stats;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

pub use config::Config;
pub use stats::{EndpointStats, Stats};

use self::stats::Outcomes;
use crate::breaker::{self, Breaker};
use crate::budget::Budget;
use crate::bulkhead::Bulkhead;
use crate::config::{ConfigError, DAY};
use crate::event::{Event, Observer};
use crate::fallback::Why;
use crate::hedge::Latency;
use crate::outcome::Outcome;
use crate::rate::{self, Keyed, Rate};
use crate::reject::{Reason, Rejection};
use crate::shed::{Shed, Throttle};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::time::Time;

/// The shared side of all calls to one dependency.
pub struct Upstream {
    pub(crate) config: Config,
    pub(crate) endpoints: Box<[Endpoint]>,
    pub(crate) budget: Option<Budget>,
    pub(crate) bulkhead: Option<Bulkhead>,
    pub(crate) throttle: Option<Throttle>,
    pub(crate) shed: Option<Shed>,
    pub(crate) pace: Pace,
    pub(crate) latency: Option<Box<Latency>>,
    faults: AtomicBool,
    observer: Option<Arc<dyn Observer>>,
    pub(crate) counts: Counts,
}

/// The rate limit: none, one for all, or one per key.
#[expect(
    clippy::large_enum_variant,
    reason = "one per upstream, on the path of every call"
)]
pub(crate) enum Pace {
    Free,
    Shared(Rate),
    Keyed(Keyed),
}

/// One address, with its own breaker and statistics.
pub(crate) struct Endpoint {
    pub(crate) name: Box<str>,
    pub(crate) breaker: Option<Breaker>,
    /// Until when it asked to be spared of extra attempts, in nanoseconds.
    paused_until: AtomicU64,
    outcomes: Outcomes,
}

/// What is counted per upstream. All of it lies off the path of a call that just succeeds.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) retries: AtomicU64,
    pub(crate) hedges: AtomicU64,
    pub(crate) failovers: AtomicU64,
    pub(crate) fallbacks: AtomicU64,
    pub(crate) would_start: AtomicU64,
    pub(crate) would_fall_back: AtomicU64,
    rejected: [AtomicU64; Reason::ALL.len()],
    would_reject: [AtomicU64; Reason::ALL.len()],
}

impl Upstream {
    /// Builds an upstream. `seed` feeds what is random about shared state (the jitter of
    /// cooldowns); calls bring their own.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn new(config: Config, seed: u64) -> Result<Upstream, ConfigError> {
        Upstream::build(config, seed, None)
    }

    /// As [`Upstream::new`], with somebody who listens.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn observed(
        config: Config,
        seed: u64,
        observer: Arc<dyn Observer>,
    ) -> Result<Upstream, ConfigError> {
        Upstream::build(config, seed, Some(observer))
    }

    fn build(
        mut config: Config,
        seed: u64,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Upstream, ConfigError> {
        config.check()?;
        let longest_attempt = config.deadline.longest_attempt();
        if let Some(breaker) = &mut config.breaker {
            breaker.default_lease(longest_attempt);
        }
        let endpoint = |at: usize, name: &str| {
            let breaker = match &config.breaker {
                None => None,
                Some(breaker) => {
                    let breaker = Breaker::new(breaker.clone(), seed.wrapping_add(at as u64))?;
                    Some(observe(breaker, &config.name, name, observer.as_ref()))
                }
            };
            Ok(Endpoint {
                name: name.into(),
                breaker,
                paused_until: AtomicU64::new(0),
                outcomes: Outcomes::default(),
            })
        };
        Ok(Upstream {
            endpoints: config
                .endpoints
                .iter()
                .enumerate()
                .map(|(at, name)| endpoint(at, name))
                .collect::<Result<_, _>>()?,
            budget: config.budget.map(Budget::new).transpose()?,
            bulkhead: config.bulkhead.map(Bulkhead::new).transpose()?,
            throttle: config.throttle.map(Throttle::new).transpose()?,
            shed: config.shed.map(|shed| Shed::new(shed, seed)).transpose()?,
            pace: match config.rate {
                None => Pace::Free,
                Some(rate) if rate.is_keyed() => Pace::Keyed(Keyed::new(rate)?),
                Some(rate) => Pace::Shared(Rate::new(rate)?),
            },
            latency: config.hedge.and_then(|hedge| hedge.latency()).map(Box::new),
            faults: AtomicBool::new(config.fault.is_some_and(|fault| fault.starts_on())),
            observer,
            counts: Counts::default(),
            config,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// How many endpoints it has.
    pub fn endpoints(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.endpoints.len()).expect("an upstream has an endpoint")
    }

    /// The name of endpoint number `endpoint`, in the order in which they were added.
    pub fn endpoint(&self, endpoint: usize) -> Option<&str> {
        self.endpoints.get(endpoint).map(|endpoint| &*endpoint.name)
    }

    /// The breaker of endpoint number `endpoint`, if breakers are configured.
    pub fn breaker(&self, endpoint: usize) -> Option<&Breaker> {
        self.endpoints.get(endpoint)?.breaker.as_ref()
    }

    /// The bulkhead, if one is configured.
    pub fn bulkhead(&self) -> Option<&Bulkhead> {
        self.bulkhead.as_ref()
    }

    /// How much of the rate limit is left for `key`, which counts only if the limit is one per key;
    /// `None` without a limit.
    pub fn rate_room(&self, key: u64, now: Time) -> Option<rate::Room> {
        match &self.pace {
            Pace::Free => None,
            Pace::Shared(rate) => Some(rate.room(now)),
            Pace::Keyed(keyed) => Some(keyed.room(key, now)),
        }
    }

    /// The shedder, if one is configured.
    pub fn shed(&self) -> Option<&Shed> {
        self.shed.as_ref()
    }

    /// Whether the bulkhead really rejects: there is none, or it is not in shadow mode.
    pub fn bulkhead_is_enforced(&self) -> bool {
        self.config.bulkhead_is_enforced()
    }

    /// The budget for extra attempts, unless it was switched off.
    pub fn budget(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    /// Whether it may make more than one attempt of a call: a driver that has to copy requests
    /// for that asks first.
    pub fn makes_extra_attempts(&self) -> bool {
        self.config.makes_extra_attempts()
    }

    /// Ends the pause that an endpoint asked for: an operator knows better.
    pub fn end_pause(&self, endpoint: usize) {
        if let Some(endpoint) = self.endpoints.get(endpoint) {
            endpoint.paused_until.store(0, Ordering::Relaxed);
        }
    }

    /// Switches the configured faults on or off.
    pub fn inject_faults(&self, on: bool) {
        self.faults.store(on, Ordering::Relaxed);
    }

    /// Whether a fallback may answer instead of the dependency; counts it if so. A driver that
    /// has a fallback asks this when a call ended.
    pub fn falls_back(&self, why: Why) -> bool {
        let fallback = &self.config.fallback;
        if !fallback.covers(why) {
            return false;
        }
        if fallback.is_enforced() {
            self.counts.fallbacks.fetch_add(1, Ordering::Relaxed);
            self.emit(|| Event::FellBack(why));
        } else {
            self.counts.would_fall_back.fetch_add(1, Ordering::Relaxed);
            self.emit(|| Event::WouldFallBack(why));
        }
        fallback.is_enforced()
    }

    pub(crate) fn faults_are_on(&self) -> bool {
        self.faults.load(Ordering::Relaxed)
    }

    /// Tells the observer, if there is one.
    #[inline]
    pub(crate) fn emit<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if let Some(observer) = &self.observer {
            observer.event(&self.config.name, &event());
        }
    }

    /// Counts a policy's "no" and passes it on, unless the policy is in shadow mode.
    pub(crate) fn rule(&self, enforced: bool, rejection: Rejection) -> Result<(), Rejection> {
        if enforced {
            return Err(rejection);
        }
        self.note_shadow(rejection);
        Ok(())
    }

    pub(crate) fn note_shadow(&self, rejection: Rejection) {
        self.counts.would_reject[rejection.reason.index()].fetch_add(1, Ordering::Relaxed);
        self.emit(|| Event::WouldReject(rejection));
    }

    /// Counts a call that ended with a rejection.
    pub(crate) fn note_rejected(&self, rejection: Rejection) {
        self.counts.rejected[rejection.reason.index()].fetch_add(1, Ordering::Relaxed);
        self.emit(|| Event::Rejected(rejection));
    }
}

impl Endpoint {
    #[inline]
    pub(crate) fn note(&self, outcome: Outcome) {
        self.outcomes.note(outcome);
    }

    /// Spares it of extra attempts for `wait`. A hint of more than a day is taken for a day: it is
    /// rather a mistake (a date where a duration belongs) than a plan.
    pub(crate) fn pause(&self, wait: Duration, now: Time) {
        let until = now + wait.min(DAY);
        self.paused_until
            .fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn paused_until(&self) -> Time {
        Time::from_nanos(self.paused_until.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Lets the observer hear of the breaker's changes.
fn observe(
    breaker: Breaker,
    upstream: &str,
    endpoint: &str,
    observer: Option<&Arc<dyn Observer>>,
) -> Breaker {
    let Some(observer) = observer.cloned() else {
        return breaker;
    };
    let (upstream, endpoint): (Box<str>, Box<str>) = (upstream.into(), endpoint.into());
    breaker.on_change(move |change: breaker::Change| {
        observer.event(
            &upstream,
            &Event::Breaker {
                endpoint: &endpoint,
                change,
            },
        );
    })
}
