//! A live quantile of latencies, at a fixed cost.
//!
//! Two slices of 30 s take turns, so the quantile looks back between 30 and 60 s. It is off by at most
//! 12.5 %, and where latencies are spread by hardly anything: a hedge at the 95th percentile is made
//! for a twentieth of the calls.

use std::time::Duration;

use crate::ratio::Ratio;
use crate::sync::{AtomicU64, Ordering};
use crate::time::{Time, nanos};
use crate::window::Rolling;

#[derive(Debug)]
pub(crate) struct Latency {
    quantile: Ratio,
    min_samples: u64,
    floor: Duration,
    recent: Rolling<2>,
    answer: AtomicU64,
    answer_until: AtomicU64,
}

impl Latency {
    pub(crate) fn new(quantile: Ratio, min_samples: u32, floor: Duration) -> Latency {
        Latency {
            quantile,
            min_samples: u64::from(min_samples),
            floor,
            recent: Rolling::new(HALF),
            answer: AtomicU64::new(0),
            answer_until: AtomicU64::new(0),
        }
    }

    /// Notes how long an attempt took, or ran before it was cancelled: leaving those out would
    /// hide just the slow ones.
    pub(crate) fn record(&self, took: Duration, now: Time) {
        self.recent.record(took, now);
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
            let answer = self.compute(now).map_or(NO_ANSWER, nanos);
            self.answer.store(answer, Ordering::Relaxed);
        }
        match self.answer.load(Ordering::Relaxed) {
            NO_ANSWER => None,
            answer => Some(Duration::from_nanos(answer).max(self.floor)),
        }
    }

    fn compute(&self, now: Time) -> Option<Duration> {
        let counts = self.recent.counts(now);
        if counts.total() < self.min_samples {
            return None;
        }
        counts.even_quantile(self.quantile)
    }
}

/// Half of the memory.
const HALF: Duration = Duration::from_secs(30);
/// Often enough to follow a dependency, seldom enough that reading the buckets costs nothing.
const RENEWAL: Duration = Duration::from_millis(100);
const NO_ANSWER: u64 = 0;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
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
}
