//! A circuit breaker by itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use outlast_core::breaker::{Change, Config, Manual, State, Stats};
use outlast_core::config::ConfigError;
use outlast_core::outcome::Outcome;
use outlast_core::reject::Rejection;
use outlast_core::time::Time;

use crate::Clock;
use crate::seed::Seed;

/// A breaker without any other policy, for work that is not a single closure: ask for a permit,
/// work, tell how it went. Clones share the state. For a call, use an
/// [`Upstream`](crate::Upstream) with only a breaker.
///
/// ```
/// use outlast::{Breaker, breaker::Config, outcome::Outcome};
///
/// let breaker = Breaker::new(Config::consecutive(1))?;
/// breaker.admit()?.record(Outcome::Transient);
/// assert!(breaker.admit().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Breaker {
    core: Arc<outlast_core::breaker::Breaker>,
    clock: Clock,
}

impl Breaker {
    /// A closed breaker.
    ///
    /// # Errors
    /// If `config` cannot work.
    pub fn new(config: Config) -> Result<Breaker, ConfigError> {
        let core = outlast_core::breaker::Breaker::new(config, Seed::draw().call)?;
        Ok(Breaker {
            core: Arc::new(core),
            clock: Clock::Precise,
        })
    }

    /// Asks to call the dependency.
    ///
    /// # Errors
    /// While it is open, or all trials are taken; the rejection says when to come back.
    pub fn admit(&self) -> Result<Permit<'_>, Rejection> {
        let since = self.clock.now();
        let permit = self.core.admit(since)?;
        Ok(Permit {
            breaker: self,
            permit: Some(permit),
            since,
        })
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.core.state(self.clock.now())
    }

    /// Takes it by hand, or gives it back.
    pub fn force(&self, manual: Manual) {
        self.core.force(manual, self.clock.now());
    }

    /// A snapshot for people and metrics.
    pub fn stats(&self) -> Stats {
        self.core.stats(self.clock.now())
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// The right to make one call. Dropped without a word it counts as cancelled: as a failure if it
/// was held longer than the breaker's patience (without one, 1 s), or if its thread panics;
/// otherwise as nothing.
#[must_use = "record the result; a dropped permit counts as a cancelled call"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    permit: Option<outlast_core::breaker::Permit>,
    since: Time,
}

impl Permit<'_> {
    /// Tells how the call went.
    pub fn record(mut self, outcome: Outcome) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            let now = self.breaker.clock.now();
            self.breaker
                .core
                .record(permit, outcome, now.since(self.since), now);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let held = self.breaker.clock.now().since(self.since);
        let hung = held >= self.breaker.core.patience(PATIENCE);
        let failed = hung || std::thread::panicking();
        self.settle(if failed {
            Outcome::Transient
        } else {
            Outcome::Ignored
        });
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

/// The same as for an upstream without limits.
const PATIENCE: Duration = Duration::from_secs(1);
