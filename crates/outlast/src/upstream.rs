//! The upstream that applications hold.

use std::fmt;
use std::hash::Hash;
#[cfg(feature = "tokio")]
use std::ops::Deref;
use std::sync::Arc;

use outlast_core::balance;
use outlast_core::breaker::Manual;
use outlast_core::config::ConfigError;
use outlast_core::event::Observer;
use outlast_core::fallback::Why;
use outlast_core::rate;
use outlast_core::upstream::{Config, Membership, Stats};
use smol_str::SmolStr;

use crate::Clock;
use crate::caller::{Caller, hash_of_rate_key};
use crate::classify::ByResult;
use crate::error::Error;
use crate::seed::Seed;

/// A dependency with its policies. Cloning shares it: all clones see one breaker, one budget,
/// one bulkhead.
#[derive(Clone)]
pub struct Upstream {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones share.
pub(crate) struct Inner {
    pub(crate) core: outlast_core::upstream::Upstream,
    pub(crate) clock: Clock,
    /// The names of the endpoints it was built with, by number, copied into attempts without
    /// counting references.
    pub(crate) endpoints: Box<[SmolStr]>,
    /// Wakes those that probe the endpoints when these change.
    #[cfg(feature = "tokio")]
    pub(crate) changed: tokio::sync::Notify,
}

/// What an upstream needs besides its policies.
#[derive(Clone, Default)]
pub struct Setup {
    clock: Clock,
    observer: Option<Arc<dyn Observer>>,
}

impl Setup {
    /// The clock its calls read. Default [`Clock::Precise`].
    pub fn clock(mut self, clock: Clock) -> Setup {
        self.clock = clock;
        self
    }

    /// Who hears of its events. Default: nobody.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Setup {
        self.observer = Some(Arc::new(observer));
        self
    }
}

impl Upstream {
    /// Builds an upstream with the precise clock and no observer.
    ///
    /// # Errors
    /// The first setting that cannot work, with the edit that mends it.
    pub fn new(config: Config) -> Result<Upstream, ConfigError> {
        Upstream::with(config, Setup::default())
    }

    /// Builds an upstream.
    ///
    /// # Errors
    /// The first setting that cannot work, with the edit that mends it.
    pub fn with(config: Config, setup: Setup) -> Result<Upstream, ConfigError> {
        let seed = Seed::draw().call;
        let core = match setup.observer {
            None => outlast_core::upstream::Upstream::new(config, seed)?,
            Some(observer) => outlast_core::upstream::Upstream::observed(config, seed, observer)?,
        };
        let endpoints = core.members().iter().map(|(_, name)| name.into()).collect();
        Ok(Upstream {
            inner: Arc::new(Inner {
                core,
                clock: setup.clock,
                endpoints,
                #[cfg(feature = "tokio")]
                changed: tokio::sync::Notify::new(),
            }),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.inner.core.name()
    }

    /// Settings for single calls: their deadline, whether they may be repeated, what their
    /// results mean.
    pub fn caller(&self) -> Caller<'_, ByResult> {
        Caller::new(self)
    }

    /// Calls the dependency through all policies. `attempt` makes one attempt, and is called
    /// again for each further one. `Ok` is a success and `Err` a transient failure; to judge
    /// otherwise, see [`Upstream::caller`].
    #[cfg(feature = "tokio")]
    pub fn call<F, Fut, T, E>(&self, attempt: F) -> crate::Calling<'_, F, Fut, T, E>
    where
        F: FnMut(crate::Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.caller().call(attempt)
    }

    /// As [`Upstream::call`], on the current thread. It cannot cut an attempt that runs too long
    /// nor hedge it; give the dependency's client [`Attempt::remaining`](crate::Attempt::remaining)
    /// as its timeout, or use [`Upstream::pool`].
    ///
    /// # Errors
    /// A policy's rejection, or the error of the last attempt.
    pub fn call_blocking<F, T, E>(&self, attempt: F) -> Result<T, Error<E>>
    where
        F: FnMut(crate::Attempt) -> Result<T, E>,
    {
        self.caller().call_blocking(attempt)
    }

    /// A snapshot for people and metrics.
    pub fn stats(&self) -> Stats {
        self.inner.core.stats(self.inner.clock.now())
    }

    /// Whether a call that began now would find an endpoint whose breaker lets it pass, and that did not
    /// ask for a pause. Asking takes no trial's place: it is for work that can wait.
    pub fn is_willing(&self) -> bool {
        self.inner.core.is_willing(self.inner.clock.now())
    }

    /// Whether a call that began now would find an endpoint whose breaker is closed, or that has none: then
    /// it is no trial of one that was down.
    pub fn is_settled(&self) -> bool {
        self.inner.core.is_settled(self.inner.clock.now())
    }

    /// How much of the rate limit is left: for this key, if the limit is one per key (see
    /// [`Caller::rate_key`]). `None` without a limit. Asking uses nothing.
    pub fn rate_room(&self, key: impl Hash) -> Option<rate::Room> {
        let now = self.inner.clock.now();
        self.inner.core.rate_room(hash_of_rate_key(key), now)
    }

    /// The endpoints it has now.
    pub fn members(&self) -> Membership {
        self.inner.core.members()
    }

    /// [`Membership::version`] of the endpoints it has now: one atomic load, to notice a change.
    pub fn version(&self) -> u64 {
        self.inner.core.version()
    }

    /// Replaces the endpoints, while calls run. Those whose names stay keep their number and all
    /// that is known of them; no call is dropped. The same endpoints once more change nothing.
    ///
    /// # Errors
    /// If there are none, or more than 1,024, or two of one name, or an impossible weight: the
    /// present ones stay. And with failover, whose order is fixed.
    pub fn set_endpoints(
        &self,
        endpoints: Vec<balance::Endpoint>,
    ) -> Result<Membership, ConfigError> {
        let now = self.inner.clock.now();
        let members = self.inner.core.set_endpoints(endpoints, now)?;
        #[cfg(feature = "tokio")]
        self.inner.changed.notify_waiters();
        Ok(members)
    }

    /// Sends no attempt to the endpoints of this zone any more; those that run may end. `false` if
    /// there is no such zone.
    pub fn evacuate_zone(&self, zone: &str) -> bool {
        let now = self.inner.clock.now();
        self.inner.core.evacuate_zone(zone, now)
    }

    /// Gives an evacuated zone its traffic back, more and more over the time of fail-back. `false`
    /// if it was not evacuated.
    pub fn return_zone(&self, zone: &str) -> bool {
        let now = self.inner.clock.now();
        self.inner.core.return_zone(zone, now)
    }

    /// Ends the ejection of an endpoint. `false` if there is no such endpoint.
    pub fn end_ejection(&self, endpoint: &str) -> bool {
        let now = self.inner.clock.now();
        let number = self.members().number(endpoint);
        number.is_some_and(|number| self.inner.core.end_ejection(number, now))
    }

    /// Takes the breaker of an endpoint by hand, or gives it back. `false` if there is no such
    /// endpoint, or no breaker is configured.
    pub fn force_breaker(&self, endpoint: &str, manual: Manual) -> bool {
        let number = self.members().number(endpoint);
        let breaker = number.and_then(|number| self.inner.core.breaker(number));
        if let Some(breaker) = &breaker {
            breaker.force(manual, self.inner.clock.now());
        }
        breaker.is_some()
    }

    /// Whether a fallback may answer instead of the dependency. Counts nothing: for those who do not
    /// know yet whether theirs will answer.
    pub fn covers(&self, why: Why) -> bool {
        self.inner.core.covers(why)
    }

    /// Whether a fallback may answer instead of the dependency, by the upstream's
    /// [`fallback::Config`](crate::fallback::Config); counts it if so. For those who bring their own
    /// fallback to an [`Opened`](crate::Opened) call; the others ask by themselves.
    pub fn falls_back(&self, why: Why) -> bool {
        self.inner.core.falls_back(why)
    }

    /// Ends the pause that an endpoint asked for. `false` if there is no such endpoint.
    pub fn end_pause(&self, endpoint: &str) -> bool {
        let number = self.members().number(endpoint);
        if let Some(number) = number {
            self.inner.core.end_pause(number);
        }
        number.is_some()
    }

    /// Switches the configured faults on or off.
    pub fn inject_faults(&self, on: bool) {
        self.inner.core.inject_faults(on);
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.core.name())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// An upstream as the machine of a call that owns it holds it.
#[cfg(feature = "tokio")]
pub(crate) struct Held(pub(crate) Upstream);

#[cfg(feature = "tokio")]
impl Deref for Held {
    type Target = outlast_core::upstream::Upstream;

    fn deref(&self) -> &outlast_core::upstream::Upstream {
        &self.0.inner.core
    }
}
