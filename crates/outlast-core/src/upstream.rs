//! One dependency: its endpoints, its policies, and what they all share.
//!
//! An [`Upstream`] is what calls have in common: breakers and statistics per endpoint, who of them
//! gets an attempt, and one budget, bulkhead, rate limit and latency record for all. Its endpoints
//! may change while calls run ([`Upstream::set_endpoints`]). It decides nothing by itself; a
//! [`Call`](crate::call::Call) walks through it. There is no registry: whoever makes calls holds
//! it.
//!
//! Every policy is off until it is configured, except the bound of 30 s on an attempt and the
//! budget for extra attempts, which would be dangerous to forget.

mod config;
mod endpoint;
mod health;
mod members;
mod membership;
mod settings;
mod stats;

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::Arc;

pub use config::Config;
pub use membership::Membership;
pub use settings::Settings;
pub use stats::{EndpointStats, Stats};

pub(crate) use self::endpoint::Endpoint;
pub(crate) use self::members::{Held, Members};

use self::members::Roster;
use crate::breaker::Breaker;
use crate::budget::Budget;
use crate::bulkhead::Bulkhead;
use crate::config::ConfigError;
use crate::event::{Event, Observer};
use crate::fallback::Why;
use crate::hedge::Latency;
use crate::rate::{self, Keyed, Rate};
use crate::reject::{Reason, Rejection};
use crate::shed::{Shed, Throttle};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::time::Time;

/// The shared side of all calls to one dependency.
pub struct Upstream {
    pub(crate) config: Config,
    pub(crate) roster: Roster,
    pub(crate) budget: Option<Budget>,
    pub(crate) bulkhead: Option<Bulkhead>,
    pub(crate) throttle: Option<Throttle>,
    pub(crate) shed: Option<Shed>,
    pub(crate) pace: Pace,
    pub(crate) latency: Option<Box<Latency>>,
    faults: AtomicBool,
    observer: Option<Arc<dyn Observer>>,
    seed: u64,
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
        let mut described = std::mem::take(&mut config.endpoints);
        described.shrink_to_fit();
        Ok(Upstream {
            roster: membership::first(&config, described, seed, observer.as_ref())?,
            budget: config.budget.map(Budget::new).transpose()?,
            bulkhead: config.bulkhead.map(Bulkhead::new).transpose()?,
            throttle: config.throttle.map(Throttle::new).transpose()?,
            shed: shed(&config, seed)?,
            pace: match config.rate {
                None => Pace::Free,
                Some(rate) if rate.is_keyed() => Pace::Keyed(Keyed::new(rate)?),
                Some(rate) => Pace::Shared(Rate::new(rate)?),
            },
            latency: config.hedge.and_then(|hedge| hedge.latency()).map(Box::new),
            faults: AtomicBool::new(config.fault.is_some_and(|fault| fault.starts_on())),
            observer,
            seed,
            counts: Counts::default(),
            config,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// How many endpoints it has now.
    pub fn endpoints(&self) -> NonZeroUsize {
        let members = self.roster.latest();
        NonZeroUsize::new(members.endpoints.len()).expect("an upstream has an endpoint")
    }

    /// The name of endpoint number `endpoint`, unless it has left. Those that the upstream was
    /// built with are numbered in their order, those that came later from there on, and no number
    /// is given twice.
    pub fn endpoint(&self, endpoint: usize) -> Option<Arc<str>> {
        let members = self.roster.latest();
        let at = members.position(endpoint)?;
        Some(Arc::clone(&members.endpoints[at].name))
    }

    /// The breaker of endpoint number `endpoint`, if breakers are configured and the endpoint has
    /// not left.
    pub fn breaker(&self, endpoint: usize) -> Option<impl Deref<Target = Breaker> + use<>> {
        let members = self.roster.latest();
        let endpoint = Arc::clone(&members.endpoints[members.position(endpoint)?]);
        endpoint.breaker.is_some().then_some(BreakerOf(endpoint))
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

    /// Whether a call that began now would find an endpoint whose breaker lets it pass, and that did not
    /// ask for a pause, as far as can be told without beginning one: for work that can wait.
    pub fn is_willing(&self, now: Time) -> bool {
        let members = self.roster.latest();
        let mut endpoints = members.endpoints.iter();
        endpoints.any(|endpoint| endpoint.paused_until() <= now && endpoint.is_willing(now))
    }

    /// Whether a call that began now would find an endpoint whose breaker is closed, or that has none.
    pub fn is_settled(&self, now: Time) -> bool {
        let members = self.roster.latest();
        let mut endpoints = members.endpoints.iter();
        endpoints.any(|endpoint| endpoint.paused_until() <= now && endpoint.is_settled())
    }

    /// Whether it may make more than one attempt of a call: a driver that has to copy requests
    /// for that asks first.
    pub fn makes_extra_attempts(&self) -> bool {
        self.config.makes_extra_attempts()
    }

    /// Ends the pause that an endpoint asked for: an operator knows better.
    pub fn end_pause(&self, endpoint: usize) {
        let members = self.roster.latest();
        if let Some(at) = members.position(endpoint) {
            members.endpoints[at].end_pause();
        }
    }

    /// Switches the configured faults on or off.
    pub fn inject_faults(&self, on: bool) {
        self.faults.store(on, Ordering::Relaxed);
    }

    /// Whether a fallback may answer instead of the dependency. For drivers that do not know yet
    /// whether it will: they ask [`Upstream::falls_back`] when it does, which counts it.
    pub fn covers(&self, why: Why) -> bool {
        let fallback = &self.config.fallback;
        fallback.is_enforced() && fallback.covers(why)
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

/// The shedder; its limit is at most what the bulkhead takes.
fn shed(config: &Config, seed: u64) -> Result<Option<Shed>, ConfigError> {
    let Some(shed) = config.shed else {
        return Ok(None);
    };
    // Before the limit is another one than was given.
    shed.check()?;
    let bulkhead = config.bulkhead.filter(|_| config.bulkhead_is_enforced());
    let shed = bulkhead.map_or(shed, |bulkhead| shed.at_most(bulkhead.most()));
    Shed::new(shed, seed).map(Some)
}

/// The breaker of an endpoint, which lives as long as somebody looks at it.
struct BreakerOf(Arc<Endpoint>);

impl Deref for BreakerOf {
    type Target = Breaker;

    fn deref(&self) -> &Breaker {
        let breaker = self.0.breaker.as_ref();
        breaker.expect("it is made for those that have one")
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
