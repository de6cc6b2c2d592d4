//! The latencies of the current window, in one word.
//!
//! A record adds `1 | nanoseconds` to `calls:16 | total:48`, so it is one atomic addition, and who
//! closes the window takes count and total together. The window is closed by the first record that
//! finds enough calls and enough time in it; at 4,096 calls it is closed in any case, which keeps
//! the total within its bits and a busy service quick.

use std::time::Duration;

use super::estimator::Sample;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::{Time, nanos};

#[derive(Debug)]
pub(crate) struct Meter {
    word: AtomicU64,
    in_flight: AtomicU32,
    timeouts: AtomicU32,
    refused: AtomicU32,
    /// What the window needs.
    calls: AtomicU32,
    until: AtomicU64,
}

impl Meter {
    pub(crate) fn new() -> Meter {
        Meter {
            word: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            timeouts: AtomicU32::new(0),
            refused: AtomicU32::new(0),
            calls: AtomicU32::new(1),
            until: AtomicU64::new(0),
        }
    }

    /// Notes an answer and how many calls were in flight with it. Whether the window is full.
    #[inline]
    pub(crate) fn note(&self, took: Duration, in_flight: u32, now: Time) -> bool {
        let took = nanos(took).min(LONGEST);
        if in_flight > self.in_flight.load(Ordering::Relaxed) {
            self.in_flight.fetch_max(in_flight, Ordering::Relaxed);
        }
        let before = self.word.fetch_add(ONE_CALL | took, Ordering::AcqRel);
        self.is_full((before >> TOTAL_BITS) as u32 + 1, now)
    }

    /// Notes a call that had no answer within this time. Whether the window is full.
    pub(crate) fn note_timeout(&self, took: Duration, in_flight: u32, now: Time) -> bool {
        self.timeouts.fetch_add(1, Ordering::AcqRel);
        self.note(took, in_flight, now)
    }

    /// Notes a call that the dependency refused. Whether the window is full.
    pub(crate) fn note_refusal(&self, in_flight: u32, now: Time) -> bool {
        self.refused.fetch_add(1, Ordering::AcqRel);
        self.note(Duration::ZERO, in_flight, now)
    }

    /// Takes the window, if it is full; nobody else closes one at the same time.
    pub(crate) fn close(&self, now: Time) -> Option<Sample> {
        let calls = (self.word.load(Ordering::Acquire) >> TOTAL_BITS) as u32;
        if !self.is_full(calls, now) {
            return None;
        }
        // A drop is counted before its call: it may be seen a window early, never late.
        let word = self.word.swap(0, Ordering::AcqRel);
        let refused = self.refused.swap(0, Ordering::AcqRel);
        let calls = (word >> TOTAL_BITS) as u32;
        let timed = u64::from(calls.saturating_sub(refused));
        let total = word & ((1 << TOTAL_BITS) - 1);
        Some(Sample {
            took: Duration::from_nanos(total.checked_div(timed).unwrap_or(0)),
            in_flight: self.in_flight.swap(0, Ordering::AcqRel),
            calls,
            timeouts: self.timeouts.swap(0, Ordering::AcqRel),
            refused,
        })
    }

    /// What the next window needs.
    pub(crate) fn open(&self, (calls, lasts): (u32, Duration), now: Time) {
        self.calls.store(calls.min(FULL), Ordering::Relaxed);
        let until = (now + lasts).as_nanos();
        self.until.store(until, Ordering::Relaxed);
    }

    #[inline]
    fn is_full(&self, calls: u32, now: Time) -> bool {
        calls >= self.calls.load(Ordering::Relaxed)
            && (calls >= FULL || now.as_nanos() >= self.until.load(Ordering::Relaxed))
    }
}

const TOTAL_BITS: u32 = 48;
const ONE_CALL: u64 = 1 << TOTAL_BITS;
const FULL: u32 = 4096;
/// A longer call counts as one of a minute: 4,096 of them fit 48 bits.
const LONGEST: u64 = 60_000_000_000;
