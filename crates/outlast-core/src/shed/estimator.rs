//! What an adaptive limit remembers, and how a window of calls moves it.
//!
//! The steps of AIMD, Vegas and Gradient2 are those of Netflix's concurrency-limits (2018), with
//! two differences: a drop shrinks Gradient2's limit, too, and Vegas looks at a drop before it looks
//! at the latency, because refusals are fast.

use std::time::Duration;

use super::capacity::Capacity;
use super::limit::{Kind, Limit, Vegas};
use crate::config::ConfigError;
use crate::ratio::Ratio;
use crate::rng::Rng;

/// What one window of calls has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Their mean latency, from permit to record; zero if none had an answer. One that timed out
    /// counts with the time it had.
    pub took: Duration,
    /// The most calls that were in flight at once.
    pub in_flight: u32,
    /// How many calls it rests on.
    pub calls: u32,
    /// How many of them timed out.
    pub timeouts: u32,
    /// How many of them the dependency refused.
    pub refused: u32,
}

impl Sample {
    fn is_dropped(&self) -> bool {
        self.timeouts + self.refused > 0
    }
}

/// A limit that learns, apart from the admission that it limits: samples in, a limit out.
/// [`Shed`](super::Shed) has one inside.
#[derive(Clone, Debug)]
pub struct Estimator {
    limit: Limit,
    estimate: f64,
    memory: Memory,
}

/// What each kind remembers, in nanoseconds.
#[derive(Clone, Debug)]
enum Memory {
    None,
    Capacity(Capacity),
    Base {
        base: f64,
        windows: f64,
        rng: Rng,
        jitter: f64,
    },
    Long {
        mean: f64,
        windows: u32,
    },
}

impl Estimator {
    /// An estimator that has seen nothing. `seed` feeds the times at which Vegas measures its base
    /// anew.
    ///
    /// # Errors
    /// If `limit` cannot work; the error names the setting and the mend.
    pub fn new(limit: Limit, seed: u64) -> Result<Estimator, ConfigError> {
        limit.check()?;
        let memory = match limit.kind {
            Kind::Fixed | Kind::Aimd { .. } => Memory::None,
            Kind::Capacity => Memory::Capacity(Capacity::default()),
            Kind::Vegas(_) => {
                let mut rng = Rng::new(seed);
                Memory::Base {
                    base: 0.0,
                    windows: 0.0,
                    jitter: probe_jitter(&mut rng),
                    rng,
                }
            }
            Kind::Gradient2 { .. } => Memory::Long {
                mean: 0.0,
                windows: 0,
            },
        };
        Ok(Estimator {
            limit,
            estimate: f64::from(limit.initial),
            memory,
        })
    }

    /// The limit as it is.
    pub fn limit(&self) -> u32 {
        self.bounded(match &self.memory {
            Memory::Capacity(capacity) => capacity.shown(self.estimate),
            Memory::None | Memory::Base { .. } | Memory::Long { .. } => self.estimate,
        }) as u32
    }

    /// The limit after another window.
    pub fn update(&mut self, sample: Sample) -> u32 {
        let now = self.estimate;
        let took = sample.took.as_nanos() as f64;
        let next = match (self.limit.kind, &mut self.memory) {
            (Kind::Aimd { backoff, timeout }, _) => aimd(now, backoff, timeout, sample),
            (
                Kind::Vegas(vegas),
                Memory::Base {
                    base,
                    windows,
                    rng,
                    jitter,
                },
            ) => {
                *windows += 1.0;
                if *windows >= *jitter * PROBE * now {
                    (*jitter, *windows, *base) = (probe_jitter(rng), 0.0, took);
                }
                vegas.step(now, base, took, sample)
            }
            (
                Kind::Gradient2 {
                    smoothing,
                    tolerance,
                },
                Memory::Long { mean, windows },
            ) => {
                *mean = long_term(*mean, windows, took);
                let next = gradient2(now, mean, took, tolerance, sample);
                next.map_or(now, |next| blend(now, next, smoothing))
            }
            (_, Memory::Capacity(capacity)) => {
                capacity.update(now, f64::from(self.limit.min), sample)
            }
            _ => now,
        };
        self.estimate = self.bounded(next);
        self.limit()
    }

    /// How many calls a window needs, and how long it lasts at least.
    pub(super) fn window(&self) -> (u32, Duration) {
        match (&self.memory, self.limit.kind) {
            (Memory::Capacity(capacity), _) => (capacity.window(self.limit()), Duration::ZERO),
            (_, Kind::Fixed) => (16, Duration::ZERO),
            _ => (10, Duration::from_secs(1)),
        }
    }

    fn bounded(&self, estimate: f64) -> f64 {
        estimate.clamp(f64::from(self.limit.min), f64::from(self.limit.max))
    }
}

fn aimd(now: f64, backoff: Ratio, timeout: Duration, sample: Sample) -> f64 {
    if sample.is_dropped() || sample.took > timeout {
        (now * backoff.as_f64()).floor()
    } else if f64::from(sample.in_flight) * 2.0 >= now {
        now + 1.0
    } else {
        now
    }
}

impl Vegas {
    /// The first latency, and any lower one, is the base and moves nothing.
    fn step(self, now: f64, base: &mut f64, took: f64, sample: Sample) -> f64 {
        // The whole part of the decimal logarithm, at least 1; the same on every platform.
        let tens = std::iter::successors(Some(now), |rest| Some(rest / 10.0));
        let log = (tens.skip(1).take_while(|rest| *rest >= 1.0).count() as f64).max(1.0);
        let less = self.backoff.map_or(now - log, |kept| now * kept.as_f64());
        let next = if sample.is_dropped() {
            less
        } else if *base == 0.0 || took <= 0.0 || took < *base {
            *base = took;
            return now;
        } else if f64::from(sample.in_flight) * 2.0 < now {
            return now;
        } else {
            let queue = (now * (1.0 - *base / took)).ceil();
            if queue <= log {
                now + 6.0 * log
            } else if queue < 3.0 * log {
                now + log
            } else if queue > 6.0 * log {
                less
            } else {
                return now;
            }
        };
        blend(now, next, self.smoothing)
    }
}

/// The plain mean of the first ten windows, then an exponential one of 600.
fn long_term(mean: f64, windows: &mut u32, took: f64) -> f64 {
    *windows = (*windows + 1).min(11);
    let weight = if *windows <= 10 {
        1.0 / f64::from(*windows)
    } else {
        2.0 / 601.0
    };
    mean + (took - mean) * weight
}

/// The new limit before smoothing, if this window says anything about it.
fn gradient2(now: f64, long: &mut f64, took: f64, tolerance: f64, sample: Sample) -> Option<f64> {
    if sample.is_dropped() {
        return Some(now * 0.5);
    }
    let mean = *long;
    if mean > took * 2.0 {
        *long *= 0.95;
    }
    if took <= 0.0 || f64::from(sample.in_flight) * 2.0 < now {
        return None;
    }
    Some(now * (tolerance * mean / took).clamp(0.5, 1.0) + 4.0)
}

fn blend(now: f64, next: f64, smoothing: Ratio) -> f64 {
    now + (next - now) * smoothing.as_f64()
}

/// Between half and the whole of [`PROBE`], so that clients do not measure at the same time.
fn probe_jitter(rng: &mut Rng) -> f64 {
    0.5 + rng.unit() / 2.0
}

/// Windows per call of the limit after which Vegas measures its base anew (the published 30).
const PROBE: f64 = 30.0;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn sample(took: Duration, in_flight: u32) -> Sample {
        Sample {
            took,
            in_flight,
            calls: 10,
            timeouts: 0,
            refused: 0,
        }
    }

    fn refused(in_flight: u32) -> Sample {
        Sample {
            refused: 10,
            ..sample(Duration::ZERO, in_flight)
        }
    }

    /// A row of the results that others have published.
    fn row(id: &str) -> Value {
        let text = include_str!("../../../../tests/vectors/sim.json");
        let file: Value = serde_json::from_str(text).unwrap();
        let mut rows = file["rows"].as_array().unwrap().iter();
        rows.find(|row| row["id"] == id).unwrap().clone()
    }

    fn numbers(list: &Value) -> Vec<f64> {
        let numbers = list.as_array().unwrap().iter();
        numbers.map(|number| number.as_f64().unwrap()).collect()
    }

    fn number(value: &Value) -> f64 {
        value.as_f64().unwrap()
    }

    fn millis(millis: f64) -> Duration {
        Duration::from_secs_f64(millis / 1e3)
    }

    #[test]
    fn c01_vegas_steps_as_published() {
        let row = row("C01");
        let params = &row["params"];
        let limit = number(&params["limit"]) as u32;
        let in_flight = number(&params["inflight"]) as u32;
        let base = millis(number(&params["rtt_noload_ms"]));
        let steps = numbers(&params["rtt_ms"]).into_iter();
        let mut count = 0;
        for (took, expected) in steps.zip(numbers(&row["expected"]["new_limit"])) {
            let mut vegas = Estimator::new(Limit::vegas().initial(limit), 1).unwrap();
            assert_eq!(vegas.update(sample(base, in_flight)), limit);
            let next = vegas.update(sample(millis(took), in_flight));
            assert_eq!(f64::from(next), expected, "{took} ms");
            count += 1;
        }
        assert_eq!(count, 4);
    }

    /// The long-term mean is given.
    #[test]
    fn c02_gradient2_steps_as_published() {
        let row = row("C02");
        let params = &row["params"];
        let limit = number(&params["limit"]);
        let in_flight = sample(MS, number(&params["inflight"]) as u32);
        let tolerance = number(&params["tolerance"]);
        let smoothing = Ratio::new(number(&params["smoothing"])).unwrap();
        let steps = numbers(&params["short_rtt"]).into_iter();
        let mut count = 0;
        for (took, expected) in steps.zip(numbers(&row["expected"]["new_limit"])) {
            let mut long = number(&params["long_rtt"]);
            let next = gradient2(limit, &mut long, took, tolerance, in_flight).unwrap();
            let next = blend(limit, next, smoothing);
            assert!((next - expected).abs() < 1e-9, "{next} for {expected}");
            count += 1;
        }
        assert_eq!(count, 3);
    }

    #[test]
    fn c03_aimd_steps_as_published() {
        let row = row("C03");
        let params = &row["params"];
        let limit = Limit::aimd()
            .initial(number(&params["limit"]) as u32)
            .max(number(&params["max"]) as u32)
            .backoff(Ratio::new(number(&params["backoff"])).unwrap());
        let aimd = || Estimator::new(limit, 1).unwrap();
        let in_flight = number(&params["inflight"]) as u32;
        let expected = numbers(&row["expected"]["new_limit"]);
        let next = [
            aimd().update(refused(in_flight)),
            aimd().update(sample(MS, in_flight)),
        ];
        assert_eq!(next.map(f64::from)[..], expected);
        assert_eq!(aimd().update(sample(MS, 49)), 100);
    }

    #[test]
    fn vegas_forgets_its_base_after_fifteen_to_thirty_limits_of_windows() {
        let mut vegas = Estimator::new(Limit::vegas().max(20), 1).unwrap();
        vegas.update(sample(10 * MS, 20));
        let slow = |vegas: &mut Estimator| vegas.update(sample(100 * MS, 20));
        let windows = (0..700).take_while(|_| slow(&mut vegas) < 20).count();
        assert!((15..700).contains(&windows), "{windows}");
    }

    fn kinds() -> [Limit; 5] {
        [
            Limit::fixed(20),
            Limit::capacity(),
            Limit::aimd(),
            Limit::vegas(),
            Limit::gradient2(),
        ]
    }

    proptest! {
        /// No sequence of windows brings a limit out of its bounds, or to no number at all.
        #[test]
        fn stays_within_its_bounds(
            windows in proptest::collection::vec(
                (0u64..10_000_000_000, 0u32..300, 1u32..5000, 0u32..5000, 0u32..5000),
                1..300,
            ),
            kind in 0usize..5,
        ) {
            let limit = if kind == 0 {
                kinds()[0]
            } else {
                kinds()[kind].initial(50).min(7).max(200)
            };
            let mut estimator = Estimator::new(limit, 1).unwrap();
            for (nanos, in_flight, calls, timeouts, refused) in windows {
                let timeouts = timeouts.min(calls);
                let next = estimator.update(Sample {
                    took: Duration::from_nanos(nanos),
                    in_flight,
                    calls,
                    timeouts,
                    refused: refused.min(calls - timeouts),
                });
                let bounds = if kind == 0 { 20..=20 } else { 7..=200 };
                prop_assert!(bounds.contains(&next), "{}", next);
            }
        }
    }
}
