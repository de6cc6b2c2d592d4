//! The one place that reads the monotonic clock.
//!
//! All drivers of a process share one timeline, so that a deadline set by one upstream's call can
//! be inherited by another's.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use outlast_core::time::Time;

/// Which clock the calls of an upstream read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The monotonic clock, about 20 ns a reading; with the `tokio` feature tokio's, so that it
    /// stands still and jumps with `tokio::time::pause`.
    #[default]
    Precise,
    /// The kernel's tick (`CLOCK_MONOTONIC_COARSE`), about 3 ns a reading. It lags behind by up
    /// to a tick (1 to 10 ms), and so do timeouts, latencies and hedges: right for high call
    /// rates with limits above 50 ms. Does not follow `tokio::time::pause`. Only on Linux;
    /// elsewhere the same as [`Clock::Precise`].
    Coarse,
}

impl Clock {
    /// The time now, on the timeline that all clocks of the process share.
    #[inline]
    pub fn now(self) -> Time {
        match self {
            Clock::Precise => time_of(precise()),
            Clock::Coarse => coarse(),
        }
    }
}

/// The instant of a time in events and statistics; `None` if it lies beyond what the platform can
/// express ("never").
pub fn instant_of(time: Time) -> Option<Instant> {
    let nanos = Duration::from_nanos(time.as_nanos());
    match nanos.checked_sub(HEAD_START) {
        Some(after) => EPOCH.instant.checked_add(after),
        None => EPOCH.instant.checked_sub(HEAD_START - nanos),
    }
}

/// The time of an instant.
pub(crate) fn time_of(instant: Instant) -> Time {
    match instant.checked_duration_since(EPOCH.instant) {
        Some(after) => Time::ZERO + HEAD_START + after,
        None => Time::ZERO + HEAD_START.saturating_sub(EPOCH.instant.duration_since(instant)),
    }
}

#[cfg(feature = "tokio")]
fn precise() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(not(feature = "tokio"))]
fn precise() -> Instant {
    monotonic()
}

/// The system's clock, whatever tokio's says.
#[expect(clippy::disallowed_methods, reason = "this is the driver's clock")]
fn monotonic() -> Instant {
    Instant::now()
}

#[cfg(target_os = "linux")]
fn coarse() -> Time {
    let elapsed = kernel_time(rustix::time::ClockId::MonotonicCoarse);
    Time::ZERO + HEAD_START + Duration::from_nanos(elapsed.saturating_sub(EPOCH.kernel))
}

#[cfg(not(target_os = "linux"))]
fn coarse() -> Time {
    time_of(precise())
}

#[cfg(target_os = "linux")]
fn kernel_time(clock: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    (now.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(now.tv_nsec as u64)
}

/// The same moment on both clocks.
struct Epoch {
    instant: Instant,
    #[cfg(target_os = "linux")]
    kernel: u64,
}

/// The timeline begins this long before its first reading: a clock that somebody has paused stands
/// behind the others.
const HEAD_START: Duration = Duration::from_secs(60 * 60);

static EPOCH: LazyLock<Epoch> = LazyLock::new(|| Epoch {
    instant: monotonic(),
    // Read second, so that the coarse clock is never ahead of the precise one.
    #[cfg(target_os = "linux")]
    kernel: kernel_time(rustix::time::ClockId::Monotonic),
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_lags_behind_the_precise_one_on_the_same_timeline() {
        let start = Clock::Precise.now();
        while Clock::Coarse.now() <= start {
            std::hint::spin_loop();
        }
        let coarse = Clock::Coarse.now();
        assert!(coarse <= Clock::Precise.now());
    }

    #[test]
    fn times_and_instants_convert_both_ways() {
        let now = Clock::Precise.now();
        assert_eq!(time_of(instant_of(now).unwrap()), now);
        let earlier = EPOCH.instant.checked_sub(Duration::from_millis(5)).unwrap();
        assert_eq!(instant_of(time_of(earlier)), Some(earlier));
        assert_eq!(
            instant_of(Time::MAX).map(time_of).unwrap_or(Time::MAX),
            Time::MAX
        );
    }
}
