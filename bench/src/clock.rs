//! The clocks that a driver may read, and what reading them costs.

use std::hint::black_box;

use outlast_core::time::Time;
use rustix::time::{ClockId, clock_gettime};

use crate::measure::{Bench, now};
use crate::table::{Group, Row};

/// The tick of the kernel's clock interrupt: a few milliseconds coarse.
#[inline]
pub(crate) fn coarse() -> Time {
    read(ClockId::MonotonicCoarse)
}

/// To the nanosecond.
#[inline]
pub(crate) fn precise() -> Time {
    read(ClockId::Monotonic)
}

/// A fixed time that the compiler knows nothing about.
#[inline]
pub(crate) fn passed_in() -> Time {
    black_box(Time::from_millis(1_000_000))
}

fn read(clock: ClockId) -> Time {
    let time = clock_gettime(clock);
    Time::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

pub(crate) fn groups(bench: &Bench) -> Vec<Group> {
    let readings = Group::new("reading a clock")
        .row(Row::base("coarse", bench.shared(coarse)))
        .row(Row::base("precise", bench.shared(precise)))
        .row(Row::base("`Instant::now`", bench.shared(now)));
    vec![readings]
}
