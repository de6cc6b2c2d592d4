//! Counts of durations in log-linear buckets.

use std::time::Duration;

use crate::ratio::Ratio;
use crate::sync::{AtomicU32, Ordering};

/// Durations that many threads count and one adds up.
///
/// Eight buckets to the octave of microseconds, so a duration is known to an eighth of its octave:
/// what is read from it is at most 12.5 % and a microsecond high, never low.
#[derive(Debug)]
pub(crate) struct Histogram([AtomicU32; BUCKETS]);

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram(std::array::from_fn(|_| AtomicU32::new(0)))
    }

    #[inline]
    pub(crate) fn record(&self, took: Duration) {
        self.0[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn clear(&self) {
        for count in &self.0 {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// Adds what it holds to `counts`.
    pub(crate) fn add_to(&self, counts: &mut Counts) {
        for (sum, count) in counts.0.iter_mut().zip(&self.0) {
            *sum += u64::from(count.load(Ordering::Relaxed));
        }
    }

    /// Moves what it holds to the reader, so that each duration is read exactly once.
    pub(crate) fn take(&self) -> Counts {
        Counts(std::array::from_fn(|at| {
            u64::from(self.0[at].swap(0, Ordering::Relaxed))
        }))
    }
}

/// A histogram as plain numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts([u64; BUCKETS]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([0; BUCKETS])
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The counts of the buckets, from the shortest to the longest.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }

    /// What this share of the durations is shorter than; `None` of nothing.
    pub(crate) fn quantile(&self, share: Ratio) -> Option<Duration> {
        let total = self.total();
        let mut seen = 0;
        let at = self.0.iter().position(|count| {
            seen += count;
            share.reached_by(seen, total)
        })?;
        Some(upper_bound(at))
    }

    /// As [`Counts::quantile`], in the middle of the truth instead of above it: durations are taken
    /// to be spread evenly over their bucket. It lies in the bucket of the true one.
    pub(crate) fn even_quantile(&self, share: Ratio) -> Option<Duration> {
        let total = self.total();
        let mut before = 0;
        let at = self.0.iter().position(|count| {
            let is_it = share.reached_by(before + count, total);
            before += if is_it { 0 } else { *count };
            is_it
        })?;
        let lower = at.checked_sub(1).map_or(Duration::ZERO, upper_bound);
        let rank = (share.as_f64() * total as f64 - before as f64).max(0.0);
        let part = (rank / self.0[at].max(1) as f64).min(1.0);
        Some(lower + (upper_bound(at) - lower).mul_f64(part))
    }
}

/// Eight buckets an octave from 1 us up to 2^27 us (134 s); longer ones count as that.
const BUCKETS: usize = 25 * 8;

#[inline]
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

    #[test]
    fn what_is_taken_is_gone() {
        let histogram = Histogram::new();
        histogram.record(Duration::from_millis(1));
        histogram.record(Duration::from_secs(1000));
        let taken = histogram.take();
        assert_eq!(taken.total(), 2);
        assert_eq!(histogram.take(), Counts::default());
        assert_eq!(Counts::default().quantile(Ratio::ONE), None);
        assert_eq!(Counts::default().even_quantile(Ratio::ONE), None);
    }

    #[test]
    fn where_durations_are_spread_an_even_quantile_is_nearly_exact() {
        let histogram = Histogram::new();
        (1..=100_000).for_each(|micros| histogram.record(Duration::from_micros(micros)));
        let counts = histogram.take();
        for percent in [5, 50, 95] {
            let found = counts.even_quantile(Ratio::percent(percent)).unwrap();
            let off = found.as_secs_f64() / (f64::from(percent) * 1e-3) - 1.0;
            assert!(off.abs() < 0.001, "p{percent}: {found:?}");
        }
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_its_bound_says(micros in 0u64..130_000_000) {
            let bound = upper_bound(bucket(Duration::from_micros(micros))).as_micros() as u64;
            prop_assert!(micros < bound);
            prop_assert!(bound <= micros + micros / 8 + 1);
        }

        #[test]
        fn a_quantile_is_at_most_an_eighth_high(
            mut samples in proptest::collection::vec(1u64..1_000_000, 1..400),
            percent in 1u32..100,
        ) {
            let histogram = Histogram::new();
            for &micros in &samples {
                histogram.record(Duration::from_micros(micros));
            }
            samples.sort_unstable();
            let rank = (samples.len() * percent as usize).div_ceil(100) - 1;
            let exact = samples[rank] as f64;
            let counts = histogram.take();
            let quantile = counts.quantile(Ratio::percent(percent)).unwrap();
            let answer = quantile.as_micros() as f64;
            prop_assert!(answer > exact && answer <= exact * 1.125 + 1.0, "{answer} for {exact}");
            let even = counts.even_quantile(Ratio::percent(percent)).unwrap();
            let off = even.as_secs_f64() * 1e6 - exact;
            prop_assert!(off.abs() <= exact / 8.0 + 1.0, "{off} for {exact}");
        }
    }
}
