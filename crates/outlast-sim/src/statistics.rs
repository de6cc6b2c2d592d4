//! What several runs say together: means and shares with intervals.
//!
//! Runs with different seeds are independent, so the mean of a measure over them has a t-interval.
//! A yes or no, such as whether the world recovered, has a Wilson interval; a mean of recovery times
//! over runs of which some never recover says nothing and is not offered.

/// A mean, and the interval in which the true one lies in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Half of the interval's width; infinite for a single value.
    pub half_width: f64,
    /// The smallest value.
    pub least: f64,
    /// The middle one.
    pub median: f64,
    /// The largest value.
    pub most: f64,
}

impl Mean {
    /// Of these values, with Student's t-interval; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Mean> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let (half, odd) = (sorted.len() / 2, sorted.len() % 2 == 1);
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let error = libm::sqrt(variance(values) / count);
        let half_width = match values.len() {
            1 => f64::INFINITY,
            many => student(many - 1) * error,
        };
        Some(Mean {
            mean,
            half_width,
            least,
            median: if odd {
                sorted[half]
            } else {
                f64::midpoint(sorted[half - 1], sorted[half])
            },
            most,
        })
    }
}

/// The unbiased variance; 0 for less than two values.
pub(crate) fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values.iter().map(|value| (value - mean) * (value - mean));
    squares.sum::<f64>() / (values.len() - 1) as f64
}

/// How often something is so, and the interval in which its probability lies in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// In so many cases.
    pub yes: u32,
    /// Of so many.
    pub of: u32,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Share {
    /// With Wilson's interval (1927), which holds near 0 and 1, too.
    pub fn new(yes: u32, of: u32) -> Share {
        if of == 0 {
            return Share {
                yes,
                of,
                low: 0.0,
                high: 1.0,
            };
        }
        let (count, share) = (f64::from(of), f64::from(yes) / f64::from(of));
        let square = NORMAL * NORMAL;
        let middle = (share + square / (2.0 * count)) / (1.0 + square / count);
        let spread = share * (1.0 - share) / count + square / (4.0 * count * count);
        let half = NORMAL * libm::sqrt(spread) / (1.0 + square / count);
        Share {
            yes,
            of,
            // At 0 and 1 an end is just there, but for rounding.
            low: (middle - half).clamp(0.0, share),
            high: (middle + half).clamp(share, 1.0),
        }
    }

    /// How often it was so; 0 for no cases.
    pub fn share(&self) -> f64 {
        f64::from(self.yes) / f64::from(self.of.max(1))
    }
}

/// The difference between two configurations that saw the same worlds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// The other one less the one, with its interval.
    pub difference: Mean,
    /// Which share of the variance common random numbers took away; negative if they added some.
    pub variance_saved: f64,
}

impl Paired {
    /// Of values that belong together by their positions; `None` if there are none.
    ///
    /// # Panics
    /// If there are not as many of both.
    pub fn of(one: &[f64], other: &[f64]) -> Option<Paired> {
        assert_eq!(one.len(), other.len(), "values that belong together");
        let differences: Vec<f64> = other
            .iter()
            .zip(one)
            .map(|(other, one)| other - one)
            .collect();
        let apart = variance(one) + variance(other);
        let saved = if apart > 0.0 {
            1.0 - variance(&differences) / apart
        } else {
            0.0
        };
        Some(Paired {
            difference: Mean::of(&differences)?,
            variance_saved: saved,
        })
    }
}

/// How many values at the beginning are not like the others, as with queues that start empty; `None`
/// if it goes on into the second half, so that nobody knows whether it ends.
///
/// MSER-5 (White 1997): of all places to cut, in steps of five, the one that leaves the mean with the
/// smallest standard error.
pub fn unsettled(values: &[f64]) -> Option<usize> {
    let means: Vec<f64> = values
        .chunks_exact(5)
        .map(|five| five.iter().sum::<f64>() / 5.0)
        .collect();
    let error = |cut: usize| {
        let rest = &means[cut..];
        variance(rest) * (rest.len() - 1) as f64 / (rest.len() * rest.len()) as f64
    };
    // The last cuts leave so little that any error is small.
    let cuts = 0..means.len().saturating_sub(5);
    let best = cuts.min_by(|one, other| error(*one).total_cmp(&error(*other)))?;
    (best * 2 <= means.len()).then_some(best * 5)
}

/// The 97.5 % quantile of Student's t; above 30 degrees of freedom to 0.001 (Cornish and Fisher).
fn student(degrees: usize) -> f64 {
    match STUDENT.get(degrees - 1) {
        Some(quantile) => *quantile,
        None => {
            let (z, n) = (NORMAL, degrees as f64);
            let square = z * z;
            let first = z * (square + 1.0) / (4.0 * n);
            first + z * (1.0 + ((5.0 * square + 16.0) * square + 3.0) / (96.0 * n * n))
        }
    }
}

/// The 97.5 % quantile of the normal distribution.
const NORMAL: f64 = 1.959_964;
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_have_the_intervals_of_the_textbook() {
        let mean = Mean::of(&[4.0, 8.0, 6.0, 5.0, 7.0]).unwrap();
        assert!((mean.mean - 6.0).abs() < 1e-9 && (mean.median - 6.0).abs() < 1e-9);
        // s = 1.5811, t = 2.776, 5 values.
        assert!((mean.half_width - 1.963).abs() < 1e-3, "{mean:?}");
        assert!(Mean::of(&[1.0]).unwrap().half_width.is_infinite());
        assert_eq!(Mean::of(&[]), None);
        assert!((student(31) - 2.0395).abs() < 1e-3 && (student(100) - 1.984).abs() < 1e-3);
    }

    #[test]
    fn shares_have_the_intervals_of_wilson() {
        let check = |yes, of, low: f64, high: f64| {
            let share = Share::new(yes, of);
            let close = (share.low - low).abs() < 1e-3 && (share.high - high).abs() < 1e-3;
            assert!(close, "{share:?}");
            let inside = share.low <= share.share() && share.share() <= share.high;
            assert!(inside, "{share:?}");
        };
        check(20, 20, 0.8389, 1.0);
        check(0, 20, 0.0, 0.1611);
        check(10, 20, 0.2993, 0.7007);
        check(0, 10, 0.0, 0.2775);
        check(0, 0, 0.0, 1.0);
    }

    #[test]
    fn the_beginning_is_cut_where_it_ends() {
        // Falls to 10 within forty values, and moves about it.
        let mut rng = outlast_core::rng::Rng::new(1);
        let noise: Vec<f64> = (0..400).map(|_| 4.0 * rng.unit()).collect();
        let fall = |(at, noise): (usize, &f64)| 10.0 + 40.0 * libm::exp(-(at as f64) / 8.0) + noise;
        let falls: Vec<f64> = noise.iter().enumerate().map(fall).collect();
        let cut = unsettled(&falls).unwrap();
        assert!((15..=60).contains(&cut), "{cut}");
        assert!(unsettled(&noise).unwrap() <= 100);
        let grows: Vec<f64> = (0..400).map(|at| at as f64).collect();
        assert_eq!(unsettled(&grows), None);
        assert_eq!(unsettled(&[1.0; 20]), None, "too few to tell");
    }

    #[test]
    fn what_moves_together_differs_less() {
        let one = [1.0, 2.0, 3.0, 4.0];
        let paired = Paired::of(&one, &[1.1, 2.1, 3.1, 4.1]).unwrap();
        assert!((paired.difference.mean - 0.1).abs() < 1e-9);
        assert!(paired.difference.half_width < 1e-9 && paired.variance_saved > 0.99);
        assert!(
            Paired::of(&one, &[4.0, 3.0, 2.0, 1.0])
                .unwrap()
                .variance_saved
                < 0.0
        );
    }
}
