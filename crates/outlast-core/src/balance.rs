//! Which endpoint gets an attempt.
//!
//! A [`Balance`] knows of each endpoint how many attempts it has in flight, how long its answers
//! take, and whether it is healthy: by active checks ([`crate::check`]), by passive ejection
//! ([`crate::eject`]), by an operator who evacuated its zone. [`Balance::choose`] draws a level of
//! preference, and one endpoint of it.
//!
//! **Levels.** Endpoints of one priority whose zones are equally near are a level. Traffic goes to
//! the first level as far as it is healthy, and what it cannot carry spills over to the next. A
//! level that recovers gets its traffic back slowly. If nobody has room, and most of a level look
//! dead, the evidence is doubted and all of it is used: panic.
//!
//! **Two choices.** By default two endpoints are drawn at random and the one with the lower
//! `latency * (in flight + 1)` is taken (Mitzenmacher's power of two choices on Finagle's peak
//! EWMA). It costs the same for two endpoints as for a thousand, and many balancers that do not know
//! of each other never all run to the endpoint that looks best.
//!
//! **The law**: an endpoint that is not usable is never chosen, unless its level panics; one that is
//! evacuated is never chosen at all.
//!
//! Who may be chosen is published whenever health changes; `choose` reads that without a lock and
//! without an allocation. Time passes when somebody chooses, ends an attempt or calls
//! [`Balance::timeout`].
//!
//! The membership of a `Balance` never changes, so an endpoint's number means the same for as long
//! as an attempt runs. [`Balance::succeed`] makes the next one, which shares the state of the
//! endpoints that stay; calls in flight keep the old one, which follows the health that the new one
//! publishes, offers none of those that are gone, and counts into the same numbers. There are at
//! most 1,024 endpoints.
//!
//! It probes nothing, makes no attempt, and asks no breaker: whoever chooses refuses whom it has
//! tried, and whom it must spare.

mod changes;
mod config;
mod health;
mod level;
mod membership;
mod pick;
mod shares;
mod slot;
mod stats;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod tried;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::changes::Change;
pub(crate) use self::config::validate_endpoints;
pub use self::config::{Config, Endpoint, Kind};
pub use self::health::Unusable;
pub use self::stats::{EndpointStats, LevelStats, Stats};
pub use self::tried::Tried;

use self::health::Health;
use self::level::Level;
use self::pick::{Key, Pick};
use self::slot::{Decay, Slot};
use crate::config::ConfigError;
use crate::eject::Ejector;
use crate::outcome::Outcome;
use crate::rng::mix;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, Padded, lock};
use crate::time::{Time, nanos};

/// The most endpoints of one set.
pub const MAX_ENDPOINTS: usize = 1_024;

/// A set of endpoints, and how they are doing.
pub struct Balance {
    config: Config,
    endpoints: Box<[Endpoint]>,
    names: Box<[u64]>,
    slots: Box<[Arc<Slot>]>,
    levels: Box<[Level]>,
    decay: Decay,
    /// What is in flight everywhere; counted for the bound of hashing only.
    running: Arc<Padded<AtomicU32>>,
    signals: Padded<Signals>,
    health: Mutex<Health>,
    listener: Option<Listener>,
}

/// What every choice looks at first.
struct Signals {
    /// When time has something to change.
    due: AtomicU64,
    /// Odd while health is being published; different afterwards.
    version: AtomicU64,
}

type Listener = Arc<dyn Fn(Change) + Send + Sync>;

/// What decides a choice besides the endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    random: u64,
    key: Option<u64>,
}

impl Wish {
    /// A choice by 64 random bits.
    pub fn new(random: u64) -> Wish {
        Wish { random, key: None }
    }

    /// Where endpoints are chosen by key: the hash of what should meet the same endpoint again.
    pub fn key(mut self, key: u64) -> Wish {
        self.key = Some(key);
        self
    }
}

impl Balance {
    /// A set of endpoints, all in full service.
    ///
    /// # Errors
    /// If a setting cannot work, or there are none, too many, or two of one name.
    pub fn new(
        config: Config,
        endpoints: impl IntoIterator<Item = Endpoint>,
        now: Time,
    ) -> Result<Balance, ConfigError> {
        let balance = Balance::build(config, endpoints, now)?;
        balance.publish(&mut lock(&balance.health), now);
        Ok(balance)
    }

    /// As `self`, with somebody who listens to changes. The listener is called outside of the lock,
    /// on the thread that noticed.
    pub fn on_change(mut self, listener: impl Fn(Change) + Send + Sync + 'static) -> Balance {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// The endpoint for an attempt, or `None` if nobody may be chosen whom `refuses` does not refuse.
    ///
    /// `refuses` is asked about the number of an endpoint, now and then twice; it should say yes to
    /// those that this call has tried ([`Tried`]), and to those whose breaker would not let it pass;
    /// it must not ask this balance for anything. The drawn
    /// level comes first, then the others in their order. What is chosen begins with
    /// [`Balance::started`].
    #[inline]
    pub fn choose(
        &self,
        wish: Wish,
        now: Time,
        mut refuses: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        self.catch_up(now);
        let version = self.signals.0.version.load(Ordering::Acquire);
        let found = self.search(wish, now, &mut refuses);
        if found.is_some() {
            return found;
        }
        self.search_again(version, wish, now, &mut refuses)
    }

    /// An attempt at this endpoint begins. Each one must end.
    #[inline]
    pub fn started(&self, endpoint: usize) {
        self.slots[endpoint].0.start();
        if matches!(self.config.kind, Kind::Hash { .. }) {
            self.running.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An attempt at this endpoint ended after `took`; [`Outcome::Ignored`] if that says nothing of
    /// the endpoint, for example because it was cut off early. `false`: it failed too often in a
    /// row, and a newer membership has to be told by [`Balance::misbehaved`].
    #[inline]
    pub fn ended(&self, endpoint: usize, outcome: Outcome, took: Duration, now: Time) -> bool {
        if let Kind::PeakEwma { .. } = self.config.kind {
            let slot = &self.slots[endpoint].0;
            slot.observe(outcome, took, now, self.decay);
        }
        let started = Time::from_nanos(now.as_nanos().saturating_sub(nanos(took)));
        self.end(endpoint, outcome, took, started, now)
    }

    /// The answer of an attempt began after `took`: that counts at once, however long the rest
    /// lasts. [`Balance::closed`] follows.
    #[inline]
    pub fn answered(&self, endpoint: usize, took: Duration, now: Time) {
        if let Kind::PeakEwma { .. } = self.config.kind {
            let slot = &self.slots[endpoint].0;
            slot.observe(Outcome::Success, took, now, self.decay);
        }
    }

    /// An answer that had begun ended. As [`Balance::ended`], except that a good end teaches
    /// nothing more about the time to answer. `started` is when the attempt began.
    pub fn closed(
        &self,
        endpoint: usize,
        outcome: Outcome,
        took: Duration,
        started: Time,
        now: Time,
    ) -> bool {
        match (self.config.kind, outcome) {
            (_, Outcome::Success | Outcome::Permanent | Outcome::Ignored) => {}
            (Kind::PeakEwma { .. }, _) => {
                let slot = &self.slots[endpoint].0;
                slot.observe(outcome, took, now, self.decay);
            }
            (_, Outcome::Transient | Outcome::Unsent | Outcome::Overload { .. }) => {}
        }
        self.end(endpoint, outcome, took, started, now)
    }

    #[inline]
    fn end(
        &self,
        endpoint: usize,
        outcome: Outcome,
        took: Duration,
        started: Time,
        now: Time,
    ) -> bool {
        let slot = &self.slots[endpoint].0;
        slot.end();
        if let Kind::Hash { .. } = self.config.kind {
            self.running.0.fetch_sub(1, Ordering::Relaxed);
        }
        let decides = match &self.config.eject {
            Some(eject) if Ejector::condemns(eject, slot.tally.record(outcome, took, started)) => {
                self.misbehaved(endpoint, now)
            }
            _ => true,
        };
        self.catch_up(now);
        decides
    }

    /// Whether an attempt may go to this endpoint now: it is usable, or its level panics.
    #[inline]
    pub fn offers(&self, endpoint: usize) -> bool {
        self.slots[endpoint].0.weight() > 0
    }

    /// The attempts that run at this endpoint.
    pub fn in_flight(&self, endpoint: usize) -> u32 {
        self.slots[endpoint].0.in_flight()
    }

    /// When [`Balance::timeout`] has something to do. Calls do it, too; a driver needs it only to
    /// have changes on time where there are no calls.
    pub fn wakes(&self) -> Time {
        Time::from_nanos(self.signals.0.due.load(Ordering::Relaxed))
    }

    /// Lets time do its work: ejections end, endpoints are compared, weights and shares grow.
    pub fn timeout(&self, now: Time) {
        self.pass(lock(&self.health), now);
    }

    #[inline]
    fn search(
        &self,
        wish: Wish,
        now: Time,
        refuses: &mut impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let first = self.draw_level(wish);
        let chosen = self.pick(first, wish, now, refuses);
        match (chosen, self.config.spill_above) {
            (Some(endpoint), None) => Some(endpoint),
            (Some(endpoint), Some(limit)) if self.slots[endpoint].0.in_flight() < limit => {
                Some(endpoint)
            }
            (chosen, limit) => self.look_elsewhere(chosen, limit, wish, now, refuses),
        }
    }

    /// Nobody was found. If health was published meanwhile, that may be an accident of timing.
    #[cold]
    fn search_again(
        &self,
        version: u64,
        wish: Wish,
        now: Time,
        refuses: &mut impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let is_steady = version.is_multiple_of(2);
        if is_steady && version == self.signals.0.version.load(Ordering::Acquire) {
            return None;
        }
        let _nobody_publishes = lock(&self.health);
        self.search(wish, now, refuses)
    }

    #[inline]
    fn draw_level(&self, wish: Wish) -> usize {
        if self.levels.len() == 1 {
            return 0;
        }
        // Other bits than those that pick within the level; a key finds its level again.
        let part = mix(wish.key.unwrap_or(wish.random).wrapping_add(1)) >> 32;
        let drawn = self.levels.iter().position(|level| part < level.end());
        drawn.unwrap_or(0)
    }

    #[inline]
    fn pick(
        &self,
        level: usize,
        wish: Wish,
        now: Time,
        refuses: &mut impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let level = &self.levels[level];
        let len = level.len();
        if len == 0 {
            return None;
        }
        let mut pick = Pick {
            slots: &self.slots,
            level,
            len,
            random: wish.random,
            refuses,
        };
        match self.config.kind {
            Kind::PeakEwma { choices, .. } => pick.least_latency(choices, now, self.decay),
            Kind::LeastRequests { choices } => pick.least_requests(choices),
            Kind::RoundRobin => pick.in_turn(),
            Kind::Weighted => pick.weighted(),
            Kind::Hash { bound } => {
                let key = Key {
                    key: wish.key.unwrap_or(wish.random),
                    names: &self.names,
                };
                pick.by_key(&key, bound, self.running.0.load(Ordering::Relaxed))
            }
        }
    }

    /// The drawn level has nobody, or only somebody with too much to do.
    #[cold]
    fn look_elsewhere(
        &self,
        busy: Option<usize>,
        limit: Option<u32>,
        wish: Wish,
        now: Time,
        refuses: &mut impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let drawn = self.draw_level(wish);
        let mut fallback = busy;
        for level in (0..self.levels.len()).filter(|&level| level != drawn) {
            let Some(endpoint) = self.pick(level, wish, now, refuses) else {
                continue;
            };
            if limit.is_none_or(|limit| self.slots[endpoint].0.in_flight() < limit) {
                return Some(endpoint);
            }
            fallback = fallback.or(Some(endpoint));
        }
        fallback
    }

    #[inline]
    fn catch_up(&self, now: Time) {
        if now.as_nanos() >= self.signals.0.due.load(Ordering::Relaxed) {
            self.catch_up_now(now);
        }
    }

    #[cold]
    fn catch_up_now(&self, now: Time) {
        // Whoever holds the lock does it.
        if let Ok(health) = self.health.try_lock() {
            self.pass(health, now);
        }
    }

    fn decay(&self) -> Option<Decay> {
        self.config.kind.decay().map(|_| self.decay)
    }
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("config", &self.config)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}
