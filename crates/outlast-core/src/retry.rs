//! Try again, when trying again can help.
//!
//! The policy says how many attempts a call may have and how long to wait between them. It is
//! asked after an attempt that ended [`Transient`](crate::outcome::Outcome::Transient) or
//! [`Overload`](crate::outcome::Outcome::Overload), never after any other outcome.
//!
//! The laws it keeps, together with its neighbours in the call:
//! - every extra attempt is drawn from the upstream's budget *before* the wait, so nobody sleeps
//!   for an attempt that will not be made;
//! - a wait that would cross the deadline is not slept: the call ends at once;
//! - a dependency's own hint replaces the computed wait exactly, and one that is longer than
//!   allowed ends the call with that hint;
//! - an open breaker ends the retrying; it is not waited for.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::config::{ConfigError, ensure};

/// How often and how fast a call is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    attempts: u32,
    backoff: Backoff,
    longest_hint: Option<Duration>,
    enforce: bool,
}

impl Default for Config {
    /// Three attempts; quadratic from 50 ms with full jitter, capped at 5 s.
    fn default() -> Config {
        Config {
            attempts: 3,
            backoff: Backoff::quadratic(Duration::from_millis(50)).max(Duration::from_secs(5)),
            longest_hint: None,
            enforce: true,
        }
    }
}

impl Config {
    /// So many attempts in all, the first included: 1 to 1,000.
    pub fn attempts(attempts: u32) -> Config {
        Config {
            attempts,
            ..Config::default()
        }
    }

    /// The waits between attempts.
    /// Default: quadratic from 50 ms with full jitter, capped at 5 s.
    pub fn backoff(mut self, backoff: impl Into<Backoff>) -> Config {
        self.backoff = backoff.into();
        self
    }

    /// The longest hint of a dependency (Retry-After) that is waited for; a longer one ends the
    /// call at once. Default: the backoff's cap, or 30 s if it has none.
    pub fn longest_hint(mut self, hint: Duration) -> Config {
        self.longest_hint = Some(hint);
        self
    }

    /// `false`: shadow mode. It counts the retries it would make, and makes none. Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    pub(crate) fn limit(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn longest_hint_waited_for(&self) -> Duration {
        let cap = self.backoff.cap();
        let default = if cap == Duration::MAX {
            UNCAPPED_HINT
        } else {
            cap
        };
        self.longest_hint.unwrap_or(default)
    }

    pub(crate) fn waits(&self) -> &Backoff {
        &self.backoff
    }

    pub(crate) fn is_enforced(&self) -> bool {
        self.enforce
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.backoff.check()?;
        ensure(
            (1..=1_000).contains(&self.attempts),
            "retry.attempts",
            "must lie between 1 and 1,000; it counts the first attempt",
        )
    }
}

/// Nobody waits longer for an answer than for a default attempt.
const UNCAPPED_HINT: Duration = Duration::from_secs(30);
