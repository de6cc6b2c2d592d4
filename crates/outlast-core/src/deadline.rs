//! The absolute end of a call, and the bound on each attempt within it.
//!
//! A timeout per attempt says nothing about how long the caller waits: queueing, backoff and
//! further attempts come on top. A deadline is one instant that bounds all of them. It comes from
//! the caller, or from the upstream's own limit, whichever is sooner.
//!
//! The timeout of an attempt is the least of the configured one and 90 % of what remains until
//! the deadline: the last tenth is there for a fallback to answer in, and when an attempt was cut
//! at that share no other is begun. No attempt starts with nothing remaining.
//!
//! An attempt that was cut because the *caller's* deadline, not the upstream's own limits, was
//! short says nothing about the dependency, unless it already was slow by the breaker's own measure: impatient callers must
//! not open a breaker that others share.

use std::time::Duration;

use crate::config::{ConfigError, ensure};
use crate::time::{Time, nanos};

/// The time limits of an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    call: Option<Duration>,
    attempt: Option<Duration>,
    enforce: bool,
}

impl Default for Config {
    /// No limit on the call, 30 s on an attempt.
    fn default() -> Config {
        Config {
            call: None,
            attempt: None,
            enforce: true,
        }
    }
}

impl Config {
    /// A call ends after this long at the latest, whatever it does. Attempts keep their 30 s.
    pub fn call(limit: Duration) -> Config {
        Config {
            call: Some(limit),
            ..Config::default()
        }
    }

    /// Bounds attempts only.
    pub fn attempt_only(timeout: Duration) -> Config {
        Config::default().attempt(timeout)
    }

    /// An attempt ends after this long at the latest. Default 30 s.
    pub fn attempt(mut self, timeout: Duration) -> Config {
        self.attempt = Some(timeout);
        self
    }

    /// `false`: shadow mode. It counts what would have been cut, and cuts nothing, not even at a
    /// deadline that the caller set. Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    pub(crate) fn is_enforced(&self) -> bool {
        self.enforce
    }

    /// The end of a call that starts at `now` and whose caller waits until `caller`. If both end
    /// alike, it is the upstream's own.
    #[inline]
    pub(crate) fn of_call(&self, caller: Time, now: Time) -> Time {
        match self.call {
            Some(limit) => caller.min(now + limit),
            None => caller,
        }
    }

    /// Whether a call that starts at `now` would end at `end` without its caller's deadline, too.
    pub(crate) fn limits_call_to(&self, end: Time, now: Time) -> bool {
        self.call.is_some_and(|limit| now + limit == end)
    }

    /// The end of an attempt that starts at `now`.
    #[inline]
    pub(crate) fn of_attempt(&self, deadline: Time, now: Time) -> Cut {
        let configured = now + self.configured_attempt();
        if deadline == Time::MAX {
            return Cut {
                at: configured,
                at_share: false,
            };
        }
        let remaining = nanos(deadline.since(now));
        let share = now + Duration::from_nanos(remaining - remaining / 10);
        Cut {
            at: configured.min(share),
            at_share: share < configured,
        }
    }

    pub(crate) fn configured_attempt(&self) -> Duration {
        self.attempt.unwrap_or(DEFAULT_ATTEMPT)
    }

    pub(crate) fn configured_call(&self) -> Option<Duration> {
        self.call
    }

    /// The longest that the upstream gives an attempt.
    pub(crate) fn longest_attempt(&self) -> Duration {
        let attempt = self.configured_attempt();
        self.call.map_or(attempt, |call| call.min(attempt))
    }

    /// How long an attempt that somebody cancelled may have run before that counts against the
    /// dependency, unless its breaker knows better: the limits that were set, or else a second.
    pub(crate) fn patience(&self) -> Duration {
        match (self.call, self.attempt) {
            (None, None) => DEFAULT_PATIENCE,
            _ => self.longest_attempt(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let most = "must be longer than zero; leave it out for no limit";
        ensure(self.call != Some(Duration::ZERO), "deadline.call", most)?;
        ensure(
            self.attempt != Some(Duration::ZERO),
            "deadline.attempt",
            "must be longer than zero",
        )
    }
}

/// When an attempt is cut, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) at: Time,
    /// At its share of the call's time, not by the timeout of attempts.
    pub(crate) at_share: bool,
}

/// A bound for what nobody thought about: long enough for anything, short enough to notice.
const DEFAULT_ATTEMPT: Duration = Duration::from_secs(30);
/// Callers that give up after a second of silence have waited; without limits of its own the
/// upstream must believe them, or a hung dependency whose callers bring their own timeouts would
/// never open its breaker.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_attempt_gets_the_least_of_both_limits() {
        let check = |deadline: Time, attempt: Duration, at: u64, at_share: bool| {
            let cut = Config::attempt_only(attempt).of_attempt(deadline, Time::from_millis(1000));
            assert_eq!((cut.at, cut.at_share), (Time::from_millis(at), at_share));
        };
        check(Time::MAX, 2 * SECOND, 3_000, false);
        check(Time::from_millis(11_000), 2 * SECOND, 3_000, false);
        check(Time::from_millis(2_000), 2 * SECOND, 1_900, true);
        check(Time::MAX, Duration::MAX, u64::MAX, false);
    }

    #[test]
    fn the_sooner_end_of_a_call_counts() {
        let config = Config::call(SECOND);
        let now = Time::from_millis(500);
        assert_eq!(config.of_call(Time::MAX, now), Time::from_millis(1500));
        assert_eq!(
            config.of_call(Time::from_millis(700), now),
            Time::from_millis(700)
        );
        assert_eq!(Config::default().of_call(Time::MAX, now), Time::MAX);
    }

    #[test]
    fn zero_is_refused() {
        assert!(Config::call(Duration::ZERO).check().is_err());
        assert!(Config::attempt_only(Duration::ZERO).check().is_err());
    }
}
