//! So many calls per time, evenly.
//!
//! The generic cell rate algorithm (ITU-T I.371, the virtual scheduling form): one number, the
//! *theoretical arrival time* of the next conforming call. A call conforms while that time lies
//! less than `burst` calls ahead. Unlike fixed windows it never lets twice the limit through at a
//! border, and unlike a token bucket it needs no refill: state is one word, a decision one
//! compare-and-swap.
//!
//! With a `wait` above zero a call may reserve a later instant and wait for it, instead of being
//! rejected. A cancelled wait gives its reservation back, unless somebody has a later one.
//!
//! [`Keyed`] holds one such number per key in a table of fixed size.

mod keyed;

use std::num::NonZeroU32;
use std::time::Duration;

pub use keyed::Keyed;

use crate::config::{ConfigError, DAY, ensure};
use crate::reject::{Reason, Rejection};
use crate::sync::{AtomicU64, Ordering, Padded};
use crate::time::{Time, nanos};

/// A rate limit shared by all callers of an upstream.
#[derive(Debug)]
pub struct Rate {
    limit: Limit,
    next: Padded<AtomicU64>,
}

impl Rate {
    /// A limit of which nothing is used yet.
    ///
    /// # Errors
    /// If `config` cannot work; the error names the setting and the mend.
    pub fn new(config: Config) -> Result<Rate, ConfigError> {
        Ok(Rate {
            limit: config.limit()?,
            next: Padded(AtomicU64::new(0)),
        })
    }

    /// Asks for one call. How long to wait before making it: zero, or up to the configured wait.
    ///
    /// # Errors
    /// When the wait would be longer; the rejection says how long.
    #[inline]
    pub fn admit(&self, now: Time) -> Result<Duration, Rejection> {
        self.admit_many(NonZeroU32::MIN, now)
    }

    /// Asks for `calls` at once, all or none: how long until the last of them may be made.
    ///
    /// # Errors
    /// As [`Rate::admit`].
    #[inline]
    pub fn admit_many(&self, calls: NonZeroU32, now: Time) -> Result<Duration, Rejection> {
        let mut next = self.next.0.load(Ordering::Relaxed);
        loop {
            let (after, wait) = self.limit.admit(next, calls, now)?;
            match self.next.0.compare_exchange_weak(
                next,
                after,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(wait),
                Err(changed) => next = changed,
            }
        }
    }

    /// How much is left. Asking uses nothing.
    pub fn room(&self, now: Time) -> Room {
        self.limit.room(self.next.0.load(Ordering::Relaxed), now)
    }

    /// Gives back the turn at `turn` (the time of admission and the wait together), which will not
    /// be used. If somebody has a later turn it is lost: moving those would break their spacing.
    pub fn refund(&self, turn: Time) {
        let (after, before) = self.limit.around(turn);
        let next = &self.next.0;
        // Not a failure: somebody came later.
        let _ = next.compare_exchange(after, before, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// How much of a limit is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Calls that may come at once when nothing is used.
    pub limit: u32,
    /// Calls that may come at once now.
    pub remaining: u32,
    /// How long until nothing is used any more.
    pub reset: Duration,
}

/// So many calls per time.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    calls: u32,
    per: Duration,
    burst: Option<u32>,
    wait: Duration,
    keys: u32,
    enforce: bool,
}

impl Config {
    /// `calls` per `per`, of which all may come at once after a pause; nobody waits.
    pub fn new(calls: u32, per: Duration) -> Config {
        Config {
            calls,
            per,
            burst: None,
            wait: Duration::ZERO,
            keys: 0,
            enforce: true,
        }
    }

    /// So many calls may come at once after a pause. Default: `calls`; 1 spaces them evenly.
    pub fn burst(mut self, burst: u32) -> Config {
        self.burst = Some(burst);
        self
    }

    /// A call that comes too early may wait this long for its turn instead of being rejected.
    /// Default zero.
    pub fn wait(mut self, wait: Duration) -> Config {
        self.wait = wait;
        self
    }

    /// Limits each key by itself, remembering so many of them (rounded up to a multiple of 8, at
    /// most 1,048,576). Default 0: one limit for all.
    pub fn per_key(mut self, keys: u32) -> Config {
        self.keys = keys;
        self
    }

    /// `false`: shadow mode. It counts what it would reject, and lets it pass. Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    pub(crate) fn is_enforced(&self) -> bool {
        self.enforce
    }

    pub(crate) fn is_keyed(&self) -> bool {
        self.keys > 0
    }

    fn limit(&self) -> Result<Limit, ConfigError> {
        ensure(
            self.calls > 0,
            "rate.calls",
            "must be at least 1; to reject all, force a breaker",
        )?;
        ensure(
            self.burst != Some(0),
            "rate.burst",
            "must be at least 1, or nothing ever passes",
        )?;
        ensure(self.per <= DAY, "rate.per", "may be at most 24 h")?;
        ensure(self.wait <= DAY, "rate.wait", "may be at most 24 h")?;
        ensure(
            self.keys <= 1 << 20,
            "rate.keys",
            "may be at most 1,048,576",
        )?;
        let interval = nanos(self.per) / u64::from(self.calls);
        ensure(
            interval > 0,
            "rate.per",
            "must be longer: more than one call per nanosecond",
        )?;
        let burst = u64::from(self.burst.unwrap_or(self.calls));
        let tolerance = interval.saturating_mul(burst);
        Ok(Limit {
            interval,
            tolerance,
            wait: nanos(self.wait),
        })
    }
}

/// The arithmetic, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Limit {
    interval: u64,
    tolerance: u64,
    wait: u64,
}

impl Limit {
    /// The theoretical arrival times after and before the one call whose turn is at `turn`.
    fn around(&self, turn: Time) -> (u64, u64) {
        let after = turn.as_nanos().saturating_add(self.tolerance);
        (after, after.saturating_sub(self.interval))
    }

    fn room(&self, next: u64, now: Time) -> Room {
        let used = next.saturating_sub(now.as_nanos());
        let calls = |time: u64| u32::try_from(time / self.interval).unwrap_or(u32::MAX);
        Room {
            limit: calls(self.tolerance),
            remaining: calls(self.tolerance.saturating_sub(used)),
            reset: Duration::from_nanos(used),
        }
    }

    /// The theoretical arrival time after `calls` more, and how long to wait for the last.
    fn admit(&self, next: u64, calls: NonZeroU32, now: Time) -> Result<(u64, Duration), Rejection> {
        let cost = self.interval.saturating_mul(u64::from(calls.get()));
        let after = next.max(now.as_nanos()).saturating_add(cost);
        let wait = after
            .saturating_sub(now.as_nanos())
            .saturating_sub(self.tolerance);
        if wait <= self.wait {
            Ok((after, Duration::from_nanos(wait)))
        } else {
            Err(Rejection::after(
                Reason::Rate,
                Duration::from_nanos(wait - self.wait),
            ))
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn passed(rate: &Rate, at: u64, asks: u32) -> usize {
        (0..asks)
            .filter(|_| rate.admit(Time::from_millis(at)).is_ok())
            .count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate::new(Config::new(10, SECOND)).unwrap();
        assert_eq!(passed(&rate, 0, 20), 10);
        assert_eq!(passed(&rate, 99, 5), 0);
        assert_eq!(passed(&rate, 100, 5), 1);
        assert_eq!(passed(&rate, 60_000, 20), 10);
    }

    #[test]
    fn what_is_left_is_told_and_not_used_by_asking() {
        let rate = Rate::new(Config::new(10, SECOND).burst(3)).unwrap();
        let check = |at, remaining, reset| {
            let room = rate.room(Time::from_millis(at));
            let reset = Duration::from_millis(reset);
            let expected = Room {
                limit: 3,
                remaining,
                reset,
            };
            assert_eq!(room, expected, "at {at}");
        };
        check(0, 3, 0);
        assert_eq!(passed(&rate, 0, 2), 2);
        check(0, 1, 200);
        check(100, 2, 100);
        assert_eq!(passed(&rate, 100, 9), 2);
        check(100, 0, 300);
        check(10_000, 3, 0);
    }

    #[test]
    fn a_rejection_says_when_it_would_pass() {
        let rate = Rate::new(Config::new(1, SECOND)).unwrap();
        rate.admit(Time::ZERO).unwrap();
        let rejection = rate.admit(Time::from_millis(300)).unwrap_err();
        assert_eq!(
            rejection,
            Rejection::after(Reason::Rate, Duration::from_millis(700))
        );
        assert!(rate.admit(Time::from_millis(1000)).is_ok());
    }

    #[test]
    fn waits_are_reservations_and_can_be_given_back() {
        let rate = Rate::new(Config::new(1, SECOND).wait(2 * SECOND)).unwrap();
        let waits: Vec<_> = (0..4).map(|_| rate.admit(Time::ZERO).ok()).collect();
        assert_eq!(
            waits,
            [Some(Duration::ZERO), Some(SECOND), Some(2 * SECOND), None]
        );
        rate.refund(Time::ZERO + SECOND);
        assert!(
            rate.admit(Time::ZERO).is_err(),
            "the turn after it is taken"
        );
        rate.refund(Time::ZERO + 2 * SECOND);
        assert_eq!(rate.admit(Time::ZERO), Ok(2 * SECOND));
    }

    #[test]
    fn impossible_settings_are_refused() {
        let refused = [
            Config::new(0, SECOND),
            Config::new(1, SECOND).burst(0),
            Config::new(2, Duration::from_nanos(1)),
            Config::new(1, Duration::ZERO),
            Config::new(1, Duration::MAX),
            Config::new(1, SECOND).wait(Duration::MAX),
            Config::new(1, SECOND).per_key(u32::MAX),
        ];
        for config in refused {
            assert!(Rate::new(config).is_err(), "{config:?}");
        }
        assert!(Rate::new(Config::new(u32::MAX, 10 * SECOND).burst(u32::MAX)).is_ok());
    }

    /// A bucket that leaks at the rate; the arithmetic of ITU-T I.371's other form.
    struct Leaky {
        level: f64,
        at: u64,
    }

    impl Leaky {
        fn admit(&mut self, now: u64, burst: u32) -> bool {
            self.level = (self.level - (now - self.at) as f64 / 100.0).max(0.0);
            self.at = now;
            let conforms = self.level + 1.0 <= f64::from(burst) + 1e-9;
            self.level += f64::from(u8::from(conforms));
            conforms
        }
    }

    proptest! {
        #[test]
        fn equals_a_leaky_bucket(
            steps in proptest::collection::vec(0u64..300, 1..300),
            burst in 1u32..6,
            key in any::<u64>(),
        ) {
            let config = Config::new(10, SECOND).burst(burst);
            let (rate, keyed) = (Rate::new(config).unwrap(), Keyed::new(config.per_key(8)).unwrap());
            let (mut now, mut leaky) = (0, Leaky { level: 0.0, at: 0 });
            for step in steps {
                now += step;
                let expected = leaky.admit(now, burst);
                prop_assert_eq!(rate.admit(Time::from_millis(now)).is_ok(), expected);
                prop_assert_eq!(keyed.admit(key, Time::from_millis(now)).is_ok(), expected);
            }
        }

        #[test]
        fn a_turn_that_is_given_back_never_breaks_the_spacing(
            steps in proptest::collection::vec((0u64..300, any::<bool>()), 1..200),
        ) {
            let rate = Rate::new(Config::new(10, SECOND).burst(1).wait(3 * SECOND)).unwrap();
            let (mut now, mut turns) = (0, Vec::new());
            for (step, gives_back) in steps {
                now += step;
                let time = Time::from_millis(now);
                let Ok(wait) = rate.admit(time) else { continue };
                if gives_back && !wait.is_zero() {
                    rate.refund(time + wait);
                } else {
                    turns.push(time + wait);
                }
            }
            turns.sort_unstable();
            for pair in turns.windows(2) {
                prop_assert!(pair[1].since(pair[0]) >= Duration::from_millis(100));
            }
        }

        #[test]
        fn no_interval_holds_more_than_the_burst_and_the_rate(
            steps in proptest::collection::vec(0u64..300, 1..300),
            burst in 1u32..6,
        ) {
            let rate = Rate::new(Config::new(10, SECOND).burst(burst)).unwrap();
            let (mut now, mut passed) = (0, Vec::new());
            for step in steps {
                now += step;
                if rate.admit(Time::from_millis(now)).is_ok() {
                    passed.push(now);
                }
            }
            for (first, start) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let bound = u64::from(burst) + (end - start) / 100;
                    prop_assert!((last - first) as u64 <= bound);
                }
            }
        }
    }
}
