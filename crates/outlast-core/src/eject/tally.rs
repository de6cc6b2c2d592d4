//! What attempts leave behind for ejection, on their own path: a few atomics per endpoint.

use std::time::Duration;

use crate::outcome::Outcome;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::Time;

/// The results of one endpoint since the last comparison, and its run of failures.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    run: AtomicU32,
    /// Failures in the upper half, attempts in the lower: at a million attempts a second an
    /// interval of an hour does not overflow it.
    results: AtomicU64,
    /// The time that answers took, together.
    micros: AtomicU64,
    /// Attempts that started before this belong to an earlier stay in service.
    since: AtomicU64,
}

/// One endpoint's results of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) attempts: u64,
    pub(crate) failures: u64,
    pub(crate) micros: u64,
}

impl Tally {
    /// Counts the result of an attempt that began at `started`; the run of failures it ends.
    ///
    /// Only failures that speak of the endpoint count. A request for less load does not: it is up,
    /// and ejecting it would put its load on the others, which then ask for less, too.
    #[inline]
    pub(crate) fn record(&self, outcome: Outcome, took: Duration, started: Time) -> u32 {
        let failed = match outcome {
            Outcome::Success | Outcome::Permanent => false,
            Outcome::Transient | Outcome::Unsent => true,
            Outcome::Overload { .. } | Outcome::Ignored => return 0,
        };
        if started.as_nanos() < self.since.load(Ordering::Relaxed) {
            return 0;
        }
        if failed {
            self.results.fetch_add(1 << 32 | 1, Ordering::Relaxed);
            return self.run.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        }
        self.results.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        if self.run.load(Ordering::Relaxed) != 0 {
            self.run.store(0, Ordering::Relaxed);
        }
        0
    }

    /// The results since it was last asked.
    pub(crate) fn take(&self) -> Sample {
        let results = self.results.swap(0, Ordering::Relaxed);
        Sample {
            attempts: results & u64::from(u32::MAX),
            failures: results >> 32,
            micros: self.micros.swap(0, Ordering::Relaxed),
        }
    }

    /// The endpoint is back in service: what was before does not count, nor will the results of
    /// attempts that started before.
    pub(crate) fn reset(&self, now: Time) {
        self.since.store(now.as_nanos(), Ordering::Relaxed);
        self.run.store(0, Ordering::Relaxed);
        self.take();
    }
}
