//! A histogram that forgets.

use std::time::Duration;

use super::histogram::{Counts, Histogram};
use crate::sync::{AtomicU64, Ordering};
use crate::time::{Time, nanos};

/// The durations of the last `SLICES` slices of time, the current one included: it looks back
/// between `SLICES - 1` and `SLICES` slices.
///
/// A record is one addition. Whoever first enters a slice clears what it held a round ago; counts
/// that race with that may be lost, and one that is more than a round late is counted as new. A
/// quantile of hundreds does not notice either.
#[derive(Debug)]
pub(crate) struct Rolling<const SLICES: usize> {
    slice: u64,
    turn: AtomicU64,
    slices: [Histogram; SLICES],
}

impl<const SLICES: usize> Rolling<SLICES> {
    /// `slice` is longer than zero.
    pub(crate) fn new(slice: Duration) -> Rolling<SLICES> {
        Rolling {
            slice: nanos(slice),
            turn: AtomicU64::new(0),
            slices: std::array::from_fn(|_| Histogram::new()),
        }
    }

    #[inline]
    pub(crate) fn record(&self, took: Duration, now: Time) {
        let turn = self.take_turn(now);
        self.slices[(turn % SLICES as u64) as usize].record(took);
    }

    /// What is remembered at `now`.
    pub(crate) fn counts(&self, now: Time) -> Counts {
        self.take_turn(now);
        let mut counts = Counts::default();
        for slice in &self.slices {
            slice.add_to(&mut counts);
        }
        counts
    }

    /// The number of the slice of `now`; whoever enters it first clears it, and those in between
    /// that nobody entered.
    #[inline]
    fn take_turn(&self, now: Time) -> u64 {
        let turn = now.as_nanos() / self.slice;
        let last = self.turn.load(Ordering::Relaxed);
        if turn > last {
            self.enter(turn, last);
        }
        turn
    }

    #[cold]
    fn enter(&self, turn: u64, last: u64) {
        let enters = self
            .turn
            .compare_exchange(last, turn, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if enters {
            for stale in last.max(turn.saturating_sub(SLICES as u64)) + 1..=turn {
                self.slices[(stale % SLICES as u64) as usize].clear();
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn remembers_exactly_the_last_slices(
            steps in proptest::collection::vec(0u64..3_500, 0..200),
        ) {
            let rolling: Rolling<3> = Rolling::new(Duration::from_secs(1));
            let (mut now, mut model) = (0, Vec::new());
            for step in steps {
                now += step;
                rolling.record(Duration::from_millis(1), Time::from_millis(now));
                model.push(now / 1000);
                let recent = model.iter().filter(|&&turn| turn + 3 > now / 1000).count();
                prop_assert_eq!(rolling.counts(Time::from_millis(now)).total(), recent as u64);
            }
        }
    }

    #[test]
    fn a_reader_forgets_without_new_records() {
        let rolling: Rolling<2> = Rolling::new(Duration::from_secs(1));
        rolling.record(Duration::from_millis(1), Time::from_millis(5_500));
        assert_eq!(rolling.counts(Time::from_millis(6_900)).total(), 1);
        assert_eq!(rolling.counts(Time::from_millis(7_000)).total(), 0);
    }
}
