//! The share that lasts longer than a time, where some were cut off before their end.
//!
//! The estimate is that of Kaplan and Meier (1958): at every time at which something ends, the
//! share shrinks by the part of those still running that ended; who was cut off is no longer among
//! them. Its spread is Greenwood's (1926). Without cuts it is the empirical distribution, and its
//! limits are the usual order statistics.
//!
//! It assumes that cuts tell nothing of what is cut, beyond that it had not ended yet. That is so
//! for timeouts.

use std::time::Duration;

use super::Bucket;

/// The share that lasts longer than a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Survival {
    steps: Vec<Step>,
}

/// What holds from a time on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    from: f64,
    /// The share that lasts longer.
    share: f64,
    /// How many complete observations would know the share as well.
    worth: f64,
}

impl Survival {
    /// From how long those took that ended, and how long those had lasted that were cut off. Who
    /// was cut in the bucket in which another ended counts as cut after it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use outlast_sim::advise::{Bucket, Survival};
    ///
    /// let bucket = |upper, count| Bucket { upper: Duration::from_millis(upper), count };
    /// // Of ten, five end at 10 ms, three are cut at 20 ms, and one of the other two ends at 30 ms.
    /// let lasts = Survival::new(&[bucket(10, 5), bucket(30, 1)], &[bucket(20, 3), bucket(40, 1)]);
    /// assert_eq!(lasts.beyond(Duration::from_millis(10)), 0.5);
    /// assert_eq!(lasts.beyond(Duration::from_millis(30)), 0.25);
    /// // Nothing is known of the slowest tenth.
    /// assert_eq!(lasts.quantile(0.1), None);
    /// ```
    pub fn new(ended: &[Bucket], cut: &[Bucket]) -> Survival {
        let nanos = |bucket: &Bucket| (bucket.upper.as_nanos() as f64, bucket.count);
        let pairs = |buckets: &[Bucket]| buckets.iter().map(nanos).collect();
        Survival::of(pairs(ended), pairs(cut))
    }

    /// As [`Survival::new`], for numbers of any kind.
    pub(super) fn of(ended: Vec<(f64, u64)>, cut: Vec<(f64, u64)>) -> Survival {
        let mut events: Vec<(f64, u64, u64)> = Vec::with_capacity(ended.len() + cut.len());
        events.extend(ended.into_iter().map(|(at, count)| (at, count, 0)));
        events.extend(cut.into_iter().map(|(at, count)| (at, 0, count)));
        events.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut running: u64 = events.iter().map(|(_, ended, cut)| ended + cut).sum();
        let (mut share, mut spread, mut worth) = (1.0, 0.0, running as f64);
        let mut steps = Vec::new();
        for alike in events.chunk_by(|one, other| one.0 == other.0) {
            let ended: u64 = alike.iter().map(|(_, ended, _)| ended).sum();
            let cut: u64 = alike.iter().map(|(_, _, cut)| cut).sum();
            if ended > 0 {
                let (at_risk, last) = (running as f64, (running - ended) as f64);
                share *= last / at_risk;
                if last > 0.0 {
                    spread += ended as f64 / (at_risk * last);
                    worth = (1.0 - share) / (share * spread);
                }
                let from = alike[0].0;
                steps.push(Step { from, share, worth });
            }
            running -= ended + cut;
        }
        Survival { steps }
    }

    /// The share that lasts longer than `time`.
    pub fn beyond(&self, time: Duration) -> f64 {
        let nanos = time.as_nanos() as f64;
        let after = self.steps.partition_point(|step| step.from <= nanos);
        after.checked_sub(1).map_or(1.0, |at| self.steps[at].share)
    }

    /// The least time that at most a share `beyond` outlasts; `None` if cuts hide it.
    pub fn quantile(&self, beyond: f64) -> Option<Duration> {
        self.limit(beyond, 0.0)
    }

    /// As [`Survival::quantile`], so many standard deviations on the safe side, or below zero on the
    /// other. Without cuts that is the observation of rank
    /// `n(1-beyond) + deviations * sqrt(n * beyond * (1-beyond))`.
    pub fn limit(&self, beyond: f64, deviations: f64) -> Option<Duration> {
        let nanos = self.least(beyond, deviations)?;
        Some(Duration::from_nanos(nanos as u64))
    }

    pub(super) fn least(&self, beyond: f64, deviations: f64) -> Option<f64> {
        let holds = |step: &&Step| {
            let margin = deviations * libm::sqrt(beyond * (1.0 - beyond) / step.worth);
            // Products of shares that are exact in theory are not in floating point.
            step.share <= beyond - margin + ROUNDING
        };
        self.steps.iter().find(holds).map(|step| step.from)
    }
}

const ROUNDING: f64 = 1e-12;

#[cfg(test)]
mod tests {
    use super::*;

    fn weeks(list: &[u64]) -> Vec<(f64, u64)> {
        list.iter().map(|&week| (week as f64, 1)).collect()
    }

    /// Remission of leukaemia under 6-MP: the example of Freireich et al. (1963) in every textbook.
    #[test]
    fn the_textbook_example_comes_out() {
        let ended = weeks(&[6, 6, 6, 7, 10, 13, 16, 22, 23]);
        let cut = weeks(&[6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]);
        let lasts = Survival::of(ended, cut);
        let shares = [
            (6.0, 0.857_1),
            (7.0, 0.806_7),
            (10.0, 0.752_9),
            (13.0, 0.690_2),
            (16.0, 0.627_5),
            (22.0, 0.537_8),
            (23.0, 0.448_2),
        ];
        assert_eq!(lasts.steps.len(), shares.len());
        for (step, (week, share)) in lasts.steps.iter().zip(shares) {
            assert_eq!(step.from, week);
            assert!((step.share - share).abs() < 1e-4, "{step:?}");
        }
        // Greenwood's standard error at week 23 is 0.1346.
        let last = lasts.steps[6];
        let error = (last.share * (1.0 - last.share) / last.worth).sqrt();
        assert!((error - 0.134_6).abs() < 1e-4, "{error}");
        assert_eq!(lasts.least(0.5, 0.0), Some(23.0));
        assert_eq!(lasts.least(0.4, 0.0), None);
    }

    #[test]
    fn without_cuts_limits_are_order_statistics() {
        let n = 100_000;
        let lasts = Survival::of((1..=n).map(|rank| (rank as f64, 1)).collect(), Vec::new());
        for (beyond, deviations) in [(0.001, 1.645), (0.001, -1.645), (0.05, 1.645), (0.05, 0.0)] {
            let (share, count) = (beyond, n as f64);
            let rank = count * (1.0 - share) + deviations * (count * share * (1.0 - share)).sqrt();
            assert_eq!(
                lasts.least(beyond, deviations),
                Some(rank.ceil()),
                "{beyond}"
            );
        }
    }

    #[test]
    fn of_nothing_nothing_is_known() {
        let lasts = Survival::new(&[], &[]);
        assert_eq!(lasts.quantile(0.5), None);
        assert_eq!(lasts.beyond(Duration::from_secs(1)), 1.0);
    }
}
