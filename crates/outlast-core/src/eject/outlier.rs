//! Which endpoints differ from the others: arithmetic without state.
//!
//! **Success rates** are compared with their mean: `mean - factor * deviation`, as in Envoy. Rates
//! lie between 0 and 1, so one endpoint cannot drag the mean far.
//!
//! **Times** are compared with their median. They have no upper bound, and with `n` endpoints a
//! single one can never lie more than `sqrt(n - 1)` deviations from a mean of which it is a part,
//! two equal ones among five only 1.22: the slow ones hide each other. The median does not move
//! until half of them are slow.

use super::tally::Sample;

/// An endpoint that differs, and by how much: larger is worse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outlier {
    pub(super) endpoint: usize,
    pub(super) by: f64,
}

/// Those whose success rate lies at least `margin` and `factor` deviations below the mean, the
/// worst first. Empty if fewer than `least` endpoints are compared.
pub(super) fn by_success(
    samples: &[(usize, Sample)],
    factor: f64,
    margin: f64,
    least: usize,
) -> Vec<Outlier> {
    let rate = |sample: &Sample| 1.0 - sample.failures as f64 / sample.attempts as f64;
    let count = samples.len() as f64;
    if samples.len() < least {
        return Vec::new();
    }
    let mean = samples.iter().map(|(_, sample)| rate(sample)).sum::<f64>() / count;
    let square = |(_, sample): &(usize, Sample)| (rate(sample) - mean).powi(2);
    let deviation = (samples.iter().map(square).sum::<f64>() / count).sqrt();
    let limit = mean - (factor * deviation).max(margin);
    worst_first(samples, |sample| {
        (rate(sample) < limit).then(|| mean - rate(sample))
    })
}

/// Those whose mean time exceeds the median by `factor`, the slowest first. Empty if fewer than
/// `least` endpoints are compared.
pub(super) fn by_latency(samples: &[(usize, Sample)], factor: f64, least: usize) -> Vec<Outlier> {
    let mean = |sample: &Sample| {
        let answers = sample.attempts - sample.failures;
        (answers > 0).then(|| sample.micros as f64 / answers as f64)
    };
    let mut means: Vec<f64> = samples.iter().filter_map(|(_, one)| mean(one)).collect();
    if means.len() < least {
        return Vec::new();
    }
    means.sort_unstable_by(f64::total_cmp);
    let median = means[(means.len() - 1) / 2];
    // Below this, times are noise of the own machine.
    let limit = (median * factor).max(1_000.0);
    worst_first(samples, |sample| mean(sample).filter(|&mean| mean > limit))
}

fn worst_first(
    samples: &[(usize, Sample)],
    excess: impl Fn(&Sample) -> Option<f64>,
) -> Vec<Outlier> {
    let outlier = |&(endpoint, ref sample): &(usize, Sample)| {
        excess(sample).map(|by| Outlier { endpoint, by })
    };
    let mut outliers: Vec<_> = samples.iter().filter_map(outlier).collect();
    outliers.sort_by(|one, other| other.by.total_cmp(&one.by));
    outliers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(percents: &[u64]) -> Vec<(usize, Sample)> {
        let sample = |&percent: &u64| Sample {
            attempts: 1_000,
            failures: 1_000 - percent * 10,
            micros: 0,
        };
        percents.iter().map(sample).enumerate().collect()
    }

    fn times(micros: &[u64]) -> Vec<(usize, Sample)> {
        let sample = |&micros: &u64| Sample {
            attempts: 100,
            failures: 0,
            micros: micros * 100,
        };
        micros.iter().map(sample).enumerate().collect()
    }

    fn endpoints(outliers: &[Outlier]) -> Vec<usize> {
        outliers.iter().map(|outlier| outlier.endpoint).collect()
    }

    #[test]
    fn success_rates_far_below_the_mean_are_outliers() {
        let table: [(&[u64], &[usize]); 6] = [
            (&[100, 100, 100, 100, 100], &[]),
            (&[100, 100, 100, 100, 0], &[4]),
            (&[100, 100, 98, 100, 100], &[]), // 2 deviations, but within the margin
            (&[100, 100, 90, 100, 100], &[2]),
            (&[100, 100, 100, 0], &[]), // too few
            (&[50, 50, 50, 50, 50, 50, 50, 50, 20, 10], &[9]),
        ];
        for (percents, expected) in table {
            let found = by_success(&rates(percents), 1.9, 0.05, 5);
            assert_eq!(endpoints(&found), expected, "{percents:?}");
        }
    }

    #[test]
    fn times_far_above_the_median_are_outliers_the_worst_first() {
        let ms = 1_000;
        let table: [(&[u64], &[usize]); 5] = [
            (&[10 * ms, 11 * ms, 12 * ms], &[]),
            (&[10 * ms, 100 * ms, 11 * ms], &[1]),
            (&[10 * ms, 100 * ms, 10 * ms, 200 * ms, 11 * ms], &[3, 1]),
            (&[10 * ms, 100 * ms], &[]),
            (&[10, 100, 10], &[]), // a tenth of a millisecond is noise
        ];
        for (micros, expected) in table {
            let found = by_latency(&times(micros), 3.0, 3);
            assert_eq!(endpoints(&found), expected, "{micros:?}");
        }
    }
}
