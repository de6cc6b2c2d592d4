//! A live quantile of latencies, at a fixed cost.
//!
//! Log-linear buckets of microseconds, eight to the octave, so a quantile is exact to an eighth
//! of its octave (at most 12.5 % high). Two halves of 30 s take turns: one fills while the other
//! is the recent past, so the quantile looks back between 30 and 60 s. Counts that race with a
//! turn may be lost; a quantile of hundreds does not notice.

use std::time::Duration;

use crate::ratio::Ratio;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::{Time, nanos};

#[derive(Debug)]
pub(crate) struct Latency {
    quantile: Ratio,
    min_samples: u64,
    floor: Duration,
    turn: AtomicU64,
    halves: [[AtomicU32; BUCKETS]; 2],
    answer: AtomicU64,
    answer_until: AtomicU64,
}

impl Latency {
    pub(crate) fn new(quantile: Ratio, min_samples: u32, floor: Duration) -> Latency {
        let empty = || std::array::from_fn(|_| AtomicU32::new(0));
        Latency {
            quantile,
            min_samples: u64::from(min_samples),
            floor,
            turn: AtomicU64::new(0),
            halves: [empty(), empty()],
            answer: AtomicU64::new(0),
            answer_until: AtomicU64::new(0),
        }
    }

    /// Notes how long an attempt took, or ran before it was cancelled: leaving those out would
    /// hide just the slow ones.
    pub(crate) fn record(&self, took: Duration, now: Time) {
        let half = &self.halves[(self.take_turn(now) & 1) as usize];
        half[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// The delay before a hedge; `None` before there are enough samples. Computed at most every
    /// 100 ms.
    pub(crate) fn delay(&self, now: Time) -> Option<Duration> {
        let until = self.answer_until.load(Ordering::Relaxed);
        let renew = now.as_nanos() >= until
            && self
                .answer_until
                .compare_exchange(
                    until,
                    (now + RENEWAL).as_nanos(),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        if renew {
            self.take_turn(now);
            let answer = self.compute().map_or(NO_ANSWER, nanos);
            self.answer.store(answer, Ordering::Relaxed);
        }
        match self.answer.load(Ordering::Relaxed) {
            NO_ANSWER => None,
            answer => Some(Duration::from_nanos(answer).max(self.floor)),
        }
    }

    fn compute(&self) -> Option<Duration> {
        let counts: [u64; BUCKETS] = std::array::from_fn(|at| {
            self.halves
                .iter()
                .map(|half| u64::from(half[at].load(Ordering::Relaxed)))
                .sum()
        });
        let total: u64 = counts.iter().sum();
        if total == 0 || total < self.min_samples {
            return None;
        }
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            self.quantile.reached_by(seen, total)
        })?;
        Some(upper_bound(at))
    }

    /// The number of the current half minute; whoever enters it first clears its half.
    fn take_turn(&self, now: Time) -> u64 {
        let turn = now.as_nanos() / nanos(HALF);
        let last = self.turn.load(Ordering::Relaxed);
        let enters = turn > last
            && self
                .turn
                .compare_exchange(last, turn, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if enters {
            let stale = if turn - last > 1 {
                0..2
            } else {
                (turn & 1) as usize..(turn & 1) as usize + 1
            };
            for count in self.halves[stale].iter().flatten() {
                count.store(0, Ordering::Relaxed);
            }
        }
        turn
    }
}

/// Half of the memory.
const HALF: Duration = Duration::from_secs(30);
/// Often enough to follow a dependency, seldom enough that reading the buckets costs nothing.
const RENEWAL: Duration = Duration::from_millis(100);
const NO_ANSWER: u64 = 0;
/// Eight buckets an octave from 1 us up to 2^27 us (134 s); longer ones count as that.
const BUCKETS: usize = 25 * 8;

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if micros < 8 {
        return micros as usize;
    }
    let octave = 63 - micros.leading_zeros() as usize;
    let eighth = (micros >> (octave - 3)) as usize & 7;
    ((octave - 2) * 8 + eighth).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    let micros = match bucket {
        0..8 => bucket as u64 + 1,
        _ => ((bucket & 7) as u64 + 9) << (bucket / 8 - 1),
    };
    Duration::from_micros(micros)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn latency(percent: u32) -> Latency {
        Latency::new(Ratio::percent(percent), 100, Duration::ZERO)
    }

    #[test]
    fn says_nothing_before_it_has_seen_enough() {
        let latency = latency(95);
        for _ in 0..99 {
            latency.record(Duration::from_millis(5), Time::ZERO);
        }
        assert_eq!(latency.delay(Time::ZERO), None);
        latency.record(Duration::from_millis(5), Time::ZERO);
        assert!(latency.delay(Time::from_millis(100)).is_some());
    }

    #[test]
    fn follows_the_recent_past() {
        let latency = latency(95);
        let at = |second: u64, millis: u64| {
            for _ in 0..100 {
                latency.record(
                    Duration::from_millis(millis),
                    Time::from_millis(second * 1000),
                );
            }
        };
        at(0, 1000);
        at(31, 10);
        assert!(latency.delay(Time::from_millis(31_000)).unwrap() > Duration::from_millis(900));
        at(61, 10);
        assert!(latency.delay(Time::from_millis(61_000)).unwrap() < Duration::from_millis(12));
        assert_eq!(latency.delay(Time::from_millis(300_000)), None);
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_its_bound_says(micros in 0u64..130_000_000) {
            let bound = upper_bound(bucket(Duration::from_micros(micros))).as_micros() as u64;
            prop_assert!(micros < bound);
            prop_assert!(bound <= micros + micros / 8 + 1);
        }

        #[test]
        fn the_quantile_is_at_most_an_eighth_high(
            mut samples in proptest::collection::vec(1u64..1_000_000, 100..400),
            percent in 1u32..100,
        ) {
            let latency = latency(percent);
            for &micros in &samples {
                latency.record(Duration::from_micros(micros), Time::ZERO);
            }
            samples.sort_unstable();
            let rank = (samples.len() * percent as usize).div_ceil(100) - 1;
            let exact = samples[rank] as f64;
            let answer = latency.delay(Time::ZERO).unwrap().as_micros() as f64;
            prop_assert!(answer > exact && answer <= exact * 1.125 + 1.0, "{answer} for {exact}");
        }
    }
}
