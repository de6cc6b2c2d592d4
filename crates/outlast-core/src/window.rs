//! What happened lately, at a fixed cost.
//!
//! Two windows that slide exactly, whatever the history: `Timed` keeps ten buckets of a span of
//! time, `Counted` the last N calls. Both pack a bucket into one 64-bit word and change it by
//! compare-and-swap, so a record is one atomic operation on a stripe of its own thread and a
//! reader never sees half of one.
//!
//! **The law**: a record carries the *generation* it belongs to (the breaker's count of its own
//! transitions). Records of another generation change nothing and are not in the sum, so a state
//! machine starts with an empty window after every transition without clearing anything, and a
//! straggler of an earlier state cannot pollute it.
//!
//! A `Timed` window of length L forgets in steps of L/10: it covers between 0.9 L and L.
//!
//! Durations go into a `Histogram` of fixed size; `Rolling` is a ring of those that forgets in
//! slices of time. They have no generations: who reads them asks how slow it is, not what state
//! it is in.

mod counted;
mod histogram;
mod rolling;
mod timed;

use std::num::NonZeroU32;
use std::time::Duration;

pub(crate) use counted::Counted;
pub(crate) use histogram::{Counts, Histogram};
pub(crate) use rolling::Rolling;
pub(crate) use timed::{BUCKETS, Timed};

use crate::config::{ConfigError, DAY, ensure};

/// How far back a policy looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The results of the last so many calls, 1 to 10,000.
    Calls(NonZeroU32),
    /// The results of the last so much time, 10 ms to 24 h, forgotten in tenths.
    Time(Duration),
}

impl Window {
    /// The last `calls` calls.
    ///
    /// # Panics
    /// At zero; in a `const` that is a compile error.
    pub const fn calls(calls: u32) -> Window {
        Window::Calls(NonZeroU32::new(calls).expect("a window holds at least one call"))
    }

    pub(crate) fn check(self) -> Result<(), ConfigError> {
        match self {
            Window::Calls(calls) => ensure(
                calls.get() <= 10_000,
                "window",
                "may hold at most 10,000 calls",
            ),
            Window::Time(length) => check_length(length),
        }
    }
}

/// Bounds of a timed window. Below 10 ms a tenth is finer than any timer that feeds it; above a
/// day it is a log, not a window.
pub(crate) fn check_length(length: Duration) -> Result<(), ConfigError> {
    ensure(
        (Duration::from_millis(10)..=DAY).contains(&length),
        "window",
        "must span between 10 ms and 24 h",
    )
}

/// The sum of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Results in the window.
    pub total: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Those of them that were slow, failed or not.
    pub slow: u64,
}
