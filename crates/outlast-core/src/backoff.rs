//! How long to wait before the next try.
//!
//! A [`Backoff`] turns "how many waits so far", the wait before, and one random number into a
//! duration. It is a pure function: the retry policy uses it between attempts and the breaker
//! for growing cooldowns. The cap is applied *after* jitter, so no wait is ever longer than `max`.
//!
//! Formulas: exponential `base * factor^n`, linear `base * (n+1)`, quadratic
//! `base * (n+1)(3n+2)/2`, fibonacci `base * fib(n+1)`
//! with `n` from 0; decorrelated `U(base, 3 * previous)` and the jitters after Brooker,
//! "Exponential Backoff And Jitter" (AWS 2015).

use std::time::Duration;

use crate::config::{ConfigError, ensure};
use crate::ratio::Ratio;

/// Growth, spread and cap of a series of waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    base: Duration,
    growth: Growth,
    jitter: Jitter,
    max: Duration,
}

/// How the wait grows from one try to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Growth {
    Constant,
    Linear,
    Quadratic,
    Exponential(f64),
    Fibonacci,
    Decorrelated,
}

/// How a computed wait is spread, so that callers that failed together do not return together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// No spread: every caller returns at the same instant. For tests.
    None,
    /// Uniform between zero and the wait. Fewest attempts in a stampede.
    Full,
    /// Half the wait, plus a uniform share of the other half.
    Equal,
    /// The wait, give or take this share of it (0.5 spreads from 0.5x to 1.5x).
    Proportional(Ratio),
}

impl Backoff {
    /// Always `base`, without jitter and without a cap.
    pub const fn constant(base: Duration) -> Backoff {
        Backoff::of(base, Growth::Constant, Jitter::None)
    }

    /// `base`, `2 * base`, `3 * base`, ...; full jitter, no cap.
    pub const fn linear(base: Duration) -> Backoff {
        Backoff::of(base, Growth::Linear, Jitter::Full)
    }

    /// `base`, `5 * base`, `12 * base`, `22 * base`, ... (the pentagonal numbers); full jitter, no cap.
    /// Where fifty and more callers get into each other's way it needs no more attempts than an
    /// exponential backoff and no more time than a decorrelated one: it spreads them sooner, and does
    /// not make the last ones wait for long.
    pub const fn quadratic(base: Duration) -> Backoff {
        Backoff::of(base, Growth::Quadratic, Jitter::Full)
    }

    /// `base`, `2 * base`, `4 * base`, ...; full jitter, no cap.
    pub const fn exponential(base: Duration) -> Backoff {
        Backoff::of(base, Growth::Exponential(2.0), Jitter::Full)
    }

    /// `base`, `base`, `2 * base`, `3 * base`, `5 * base`, ...; full jitter, no cap.
    pub const fn fibonacci(base: Duration) -> Backoff {
        Backoff::of(base, Growth::Fibonacci, Jitter::Full)
    }

    /// Uniform between `base` and three times the previous wait: growth and spread in one, so a
    /// jitter on top is refused.
    pub const fn decorrelated(base: Duration) -> Backoff {
        Backoff::of(base, Growth::Decorrelated, Jitter::None)
    }

    const fn of(base: Duration, growth: Growth, jitter: Jitter) -> Backoff {
        Backoff {
            base,
            growth,
            jitter,
            max: Duration::MAX,
        }
    }

    /// The factor of exponential growth, at least 1. Default 2; no meaning for other growths.
    pub const fn factor(mut self, factor: f64) -> Backoff {
        if let Growth::Exponential(_) = self.growth {
            self.growth = Growth::Exponential(factor);
        }
        self
    }

    /// The spread. Default [`Jitter::Full`], or none where the growth is constant or random.
    pub const fn jitter(mut self, jitter: Jitter) -> Backoff {
        self.jitter = jitter;
        self
    }

    /// No wait is longer than this, jitter included. Default: no cap.
    pub const fn max(mut self, max: Duration) -> Backoff {
        self.max = max;
        self
    }

    /// The cap; [`Duration::MAX`] for none.
    pub const fn cap(&self) -> Duration {
        self.max
    }

    /// The wait after `waits` earlier ones, of which the last took `previous`; `unit` is a
    /// uniform random number from 0 to 1.
    pub fn delay(&self, waits: u32, previous: Duration, unit: f64) -> Duration {
        if self.base.is_zero() {
            return Duration::ZERO;
        }
        let base = self.base.as_secs_f64();
        let grown = match self.growth {
            Growth::Constant => base,
            Growth::Linear => base * (f64::from(waits) + 1.0),
            Growth::Quadratic => {
                let number = f64::from(waits) + 1.0;
                base * number * (3.0 * number - 1.0) / 2.0
            }
            Growth::Exponential(factor) => base * factor.powi(clamp_exponent(waits)),
            Growth::Fibonacci => base * fibonacci(waits),
            Growth::Decorrelated => {
                let ceiling = 3.0 * previous.max(self.base).as_secs_f64();
                base + unit * (ceiling - base)
            }
        };
        let grown = grown.min(self.max.as_secs_f64());
        let spread = match self.jitter {
            Jitter::None => grown,
            Jitter::Full => grown * unit,
            Jitter::Equal => grown / 2.0 * (1.0 + unit),
            Jitter::Proportional(share) => grown * (1.0 + share.as_f64() * (2.0 * unit - 1.0)),
        };
        Duration::try_from_secs_f64(spread)
            .unwrap_or(Duration::MAX)
            .min(self.max)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let (factor, decorrelated) = match self.growth {
            Growth::Exponential(factor) => (factor, false),
            Growth::Decorrelated => (1.0, true),
            Growth::Constant | Growth::Linear | Growth::Quadratic | Growth::Fibonacci => {
                (1.0, false)
            }
        };
        let plausible = factor.is_finite() && factor >= 1.0;
        ensure(
            plausible,
            "backoff.factor",
            "must be a finite number of at least 1",
        )?;
        ensure(
            self.max >= self.base,
            "backoff.max",
            "must not be shorter than backoff.base",
        )?;
        ensure(
            !decorrelated || self.jitter == Jitter::None,
            "backoff.jitter",
            "must be left out for decorrelated backoff, which is random by itself",
        )
    }
}

/// Beyond this exponent a factor of 2 leaves every representable duration behind.
fn clamp_exponent(waits: u32) -> i32 {
    i32::try_from(waits).unwrap_or(i32::MAX).min(1024)
}

/// The Fibonacci number `n + 1` (1, 1, 2, 3, 5, ...) by Binet's formula, which is exact to a
/// nanosecond for every wait below a day and infinite instead of overflowing beyond.
fn fibonacci(n: u32) -> f64 {
    let root = 5f64.sqrt();
    (((1.0 + root) / 2.0).powi(clamp_exponent(n) + 1) / root).round()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(backoff: Backoff, unit: f64) -> Vec<u64> {
        let mut previous = Duration::ZERO;
        (0..5)
            .map(|waits| {
                previous = backoff.delay(waits, previous, unit);
                previous.as_millis() as u64
            })
            .collect()
    }

    #[test]
    fn series() {
        let base = Duration::from_millis(100);
        let check = |backoff: Backoff, unit, expected: [u64; 5]| {
            assert_eq!(millis(backoff, unit), expected, "{backoff:?}");
        };
        check(Backoff::constant(base), 0.3, [100; 5]);
        check(
            Backoff::linear(base).jitter(Jitter::None),
            0.0,
            [100, 200, 300, 400, 500],
        );
        check(
            Backoff::quadratic(base).jitter(Jitter::None),
            0.0,
            [100, 500, 1200, 2200, 3500],
        );
        check(
            Backoff::exponential(base).jitter(Jitter::None),
            0.0,
            [100, 200, 400, 800, 1600],
        );
        check(
            Backoff::fibonacci(base).jitter(Jitter::None),
            0.0,
            [100, 100, 200, 300, 500],
        );
        check(Backoff::exponential(base), 0.5, [50, 100, 200, 400, 800]);
        check(
            Backoff::exponential(base).jitter(Jitter::Equal),
            0.5,
            [75, 150, 300, 600, 1200],
        );
        check(
            Backoff::decorrelated(base),
            1.0,
            [300, 900, 2700, 8100, 24300],
        );
        let capped = Backoff::exponential(base)
            .factor(3.0)
            .max(Duration::from_millis(500));
        check(capped.jitter(Jitter::None), 0.0, [100, 300, 500, 500, 500]);
    }

    /// Peers exceed their own cap: backon up to 2x, tower-resilience `max * (1 + factor)`.
    #[test]
    fn jitter_never_exceeds_the_cap() {
        let backoff = Backoff::constant(Duration::from_secs(1))
            .jitter(Jitter::Proportional(Ratio::percent(50)))
            .max(Duration::from_secs(1));
        assert_eq!(
            backoff.delay(0, Duration::ZERO, 1.0),
            Duration::from_secs(1)
        );
        assert_eq!(
            backoff.delay(0, Duration::ZERO, 0.0),
            Duration::from_millis(500)
        );
    }

    #[test]
    fn impossible_settings_are_refused() {
        let second = Duration::from_secs(1);
        let refused = [
            Backoff::exponential(second).factor(0.5),
            Backoff::exponential(second).factor(f64::NAN),
            Backoff::constant(second).max(Duration::from_millis(1)),
            Backoff::decorrelated(second).jitter(Jitter::Full),
        ];
        for backoff in refused {
            assert!(backoff.check().is_err(), "{backoff:?}");
        }
    }

    fn any_backoff() -> impl Strategy<Value = Backoff> {
        let growth = prop_oneof![
            Just(Growth::Constant),
            Just(Growth::Linear),
            (1.0f64..1e300).prop_map(Growth::Exponential),
            Just(Growth::Fibonacci),
            Just(Growth::Decorrelated),
        ];
        let jitter = prop_oneof![
            Just(Jitter::None),
            Just(Jitter::Full),
            Just(Jitter::Equal),
            (0u32..=100).prop_map(|percent| Jitter::Proportional(Ratio::percent(percent))),
        ];
        let duration = || prop_oneof![Just(0), 0..u64::MAX, Just(u64::MAX)];
        (growth, jitter, duration(), duration()).prop_map(|(growth, jitter, base, max)| Backoff {
            base: Duration::from_nanos(base),
            growth,
            jitter,
            max: if max == u64::MAX {
                Duration::MAX
            } else {
                Duration::from_nanos(max)
            },
        })
    }

    proptest! {
        #[test]
        fn never_overflows_and_never_exceeds_the_cap(
            backoff in any_backoff(),
            waits in any::<u32>(),
            previous in any::<u64>(),
            unit in 0.0f64..=1.0,
        ) {
            let delay = backoff.delay(waits, Duration::from_nanos(previous), unit);
            prop_assert!(delay <= backoff.max);
        }
    }
}
