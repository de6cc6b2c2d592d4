//! Latencies of one second, for pictures: counts by powers of two in eight steps each.

use std::time::Duration;

/// Durations, each at most an eighth too long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    counts: Vec<u32>,
}

impl Times {
    pub(crate) fn note(&mut self, took: Duration) {
        let step = step_of(took);
        if self.counts.len() <= step {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Times) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// What a share of them does not exceed; `None` if there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all: u64 = self.counts.iter().copied().map(u64::from).sum();
        let rank = libm::ceil(all as f64 * share.clamp(0.0, 1.0)).max(1.0) as u64;
        let mut below = 0;
        let is_it = |count: &u32| {
            below += u64::from(*count);
            below >= rank
        };
        self.counts.iter().position(is_it).map(end_of)
    }
}

fn step_of(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos())
        .unwrap_or(u64::MAX)
        .max(STEPS);
    let power = nanos.ilog2();
    let part = (nanos >> (power - STEPS.ilog2())) - STEPS;
    ((u64::from(power) - u64::from(STEPS.ilog2())) * STEPS + part) as usize
}

/// Where a step ends.
fn end_of(step: usize) -> Duration {
    let (power, part) = (step as u64 / STEPS, step as u64 % STEPS);
    Duration::from_nanos(u64::try_from(u128::from(STEPS + part + 1) << power).unwrap_or(u64::MAX))
}

/// Steps between a duration and one twice as long.
const STEPS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_an_eighth_too_long() {
        let mut times = Times::default();
        assert_eq!(times.quantile(0.5), None);
        (1..=1000).for_each(|millis| times.note(Duration::from_millis(millis)));
        let mut twice = times.clone();
        twice.add(&times);
        assert_eq!(times.quantile(0.9), twice.quantile(0.9));
        for (share, exact) in [(0.001, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = times.quantile(share).unwrap().as_secs_f64() * 1e3;
            assert!(
                found >= exact && found <= exact * 9.0 / 8.0,
                "{share}: {found}"
            );
        }
        times.note(Duration::ZERO);
        times.note(Duration::MAX);
        assert!(times.quantile(1.0).unwrap() > Duration::from_secs(1 << 33));
    }
}
