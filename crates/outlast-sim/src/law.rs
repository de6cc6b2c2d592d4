//! How long something takes: laws of durations, drawn by inversion.
//!
//! Inversion uses one uniform number per duration, so the same number gives a long one under every
//! law: a model whose law is changed still sees the same good and bad luck.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A law of durations.
#[derive(Clone, Debug, PartialEq)]
pub struct Law(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Fixed(Duration),
    Exponential(Duration),
    Uniform(Duration, Duration),
    Lognormal {
        median: Duration,
        sigma: f64,
    },
    Hyper {
        share: f64,
        first: Duration,
        second: Duration,
    },
    Tail(Arc<[(Duration, f64)]>),
    /// Upper bounds, and the share that does not exceed them.
    Measured(Arc<[(Duration, f64)]>),
}

impl Law {
    /// Always the same.
    pub fn fixed(duration: Duration) -> Law {
        Law(Kind::Fixed(duration))
    }

    /// Exponential: nothing is known from how long it has taken. Coefficient of variation 1.
    pub fn exponential(mean: Duration) -> Law {
        Law(Kind::Exponential(mean))
    }

    /// Anything between two durations alike.
    pub fn uniform(least: Duration, most: Duration) -> Law {
        Law(Kind::Uniform(least, most.max(least)))
    }

    /// Lognormal: its logarithm is normal with the standard deviation `sigma`. The mean is
    /// `median * exp(sigma^2 / 2)`; latencies of real services have a `sigma` of 0.3 to 1.
    ///
    /// # Errors
    /// If `sigma` is negative, above 10, or no number.
    pub fn lognormal(median: Duration, sigma: f64) -> Result<Law, LawError> {
        if !(0.0..=10.0).contains(&sigma) {
            return Err(LawError("sigma lies between 0 and 10"));
        }
        Ok(Law(Kind::Lognormal { median, sigma }))
    }

    /// Of two kinds: with probability `share` exponential with the mean `first`, or else with the
    /// mean `second`.
    ///
    /// # Errors
    /// If `share` is no probability.
    pub fn hyperexponential(
        share: f64,
        first: Duration,
        second: Duration,
    ) -> Result<Law, LawError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(LawError("a share lies between 0 and 1"));
        }
        Ok(Law(Kind::Hyper {
            share,
            first,
            second,
        }))
    }

    /// Through points of the tail: durations with the share of those that take longer, which falls
    /// from point to point. Between them it is a straight line in logarithms of both.
    ///
    /// # Errors
    /// If there are less than two points, if the first share is not 1 or the last one is 0, or if
    /// durations do not rise or shares do not fall.
    pub fn tail(points: &[(Duration, f64)]) -> Result<Law, LawError> {
        let [(first, whole), .., (_, last)] = points else {
            return Err(LawError("a tail has at least two points"));
        };
        if *whole != 1.0 || *last <= 0.0 || first.is_zero() {
            return Err(LawError(
                "a tail begins with a duration and the share 1 and ends above 0",
            ));
        }
        let falls = |pair: &[(Duration, f64)]| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1;
        if !points.windows(2).all(falls) {
            return Err(LawError("along a tail durations rise and shares fall"));
        }
        Ok(Law(Kind::Tail(points.into())))
    }

    /// As it was measured: upper bounds of durations and how many there were up to each and above the
    /// one before. Within a bound they are spread evenly, from zero for the first one.
    ///
    /// # Errors
    /// If nothing was counted, or bounds do not rise.
    pub fn measured(counts: &[(Duration, u64)]) -> Result<Law, LawError> {
        let all: u64 = counts.iter().map(|(_, count)| count).sum();
        if all == 0 {
            return Err(LawError("a histogram counts something"));
        }
        if counts.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(LawError("the bounds of a histogram rise"));
        }
        let mut below = 0;
        let up_to = |&(bound, count): &(Duration, u64)| {
            below += count;
            (bound, below as f64 / all as f64)
        };
        Ok(Law(Kind::Measured(counts.iter().map(up_to).collect())))
    }

    /// The duration that a share `unit` of all does not exceed; `unit` lies in `(0, 1)`.
    pub fn quantile(&self, unit: f64) -> Duration {
        debug_assert!(unit > 0.0 && unit < 1.0, "{unit}");
        match &self.0 {
            Kind::Fixed(duration) => *duration,
            Kind::Exponential(mean) => times(*mean, -libm::log1p(-unit)),
            Kind::Uniform(least, most) => *least + times(*most - *least, unit),
            Kind::Lognormal { median, sigma } => times(*median, libm::exp(sigma * normal(unit))),
            Kind::Hyper {
                share,
                first,
                second,
            } => {
                // The two kinds split the uniform number between them.
                if unit < *share {
                    times(*first, -libm::log1p(-unit / share))
                } else {
                    times(*second, -libm::log((1.0 - unit) / (1.0 - share)))
                }
            }
            Kind::Tail(points) => along(points, 1.0 - unit),
            Kind::Measured(bounds) => within(bounds, unit),
        }
    }

    /// The mean of all durations; `None` for a tail.
    pub fn mean(&self) -> Option<Duration> {
        match &self.0 {
            Kind::Fixed(duration) | Kind::Exponential(duration) => Some(*duration),
            Kind::Uniform(least, most) => Some((*least + *most) / 2),
            Kind::Lognormal { median, sigma } => {
                Some(times(*median, libm::exp(sigma * sigma / 2.0)))
            }
            Kind::Hyper {
                share,
                first,
                second,
            } => Some(times(*first, *share) + times(*second, 1.0 - share)),
            Kind::Measured(bounds) => {
                let before = [(Duration::ZERO, 0.0)];
                let lower = before.iter().chain(bounds.iter());
                let part = |(low, high): (&(Duration, f64), &(Duration, f64))| {
                    times((low.0 + high.0) / 2, high.1 - low.1)
                };
                Some(lower.zip(bounds.iter()).map(part).sum())
            }
            Kind::Tail(_) => None,
        }
    }
}

/// Why a law cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LawError(&'static str);

impl fmt::Display for LawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for LawError {}

/// A duration times a factor, at most about 584 years.
pub(crate) fn times(duration: Duration, factor: f64) -> Duration {
    let nanos = duration.as_nanos() as f64 * factor;
    // Beyond its range the conversion stays at the largest number.
    Duration::from_nanos(libm::round(nanos) as u64)
}

/// Where a share of the tail lies.
fn along(points: &[(Duration, f64)], share: f64) -> Duration {
    let beyond = points.iter().position(|point| point.1 < share);
    let at = beyond.unwrap_or(points.len() - 1).max(1);
    let [(from, high), (to, low)] = [points[at - 1], points[at]];
    let way = libm::log(high / share) / libm::log(high / low);
    let ratio = to.as_nanos() as f64 / from.as_nanos() as f64;
    times(from, libm::pow(ratio, way))
}

/// Where a share lies between the bounds of a histogram.
fn within(bounds: &[(Duration, f64)], unit: f64) -> Duration {
    let at = bounds.partition_point(|bound| bound.1 < unit);
    let (high, up_to) = bounds[at.min(bounds.len() - 1)];
    let before = at.checked_sub(1).map(|before| bounds[before]);
    let (low, from) = before.unwrap_or((Duration::ZERO, 0.0));
    low + times(high - low, (unit - from) / (up_to - from))
}

/// The quantile of the normal distribution, to 1e-9 (Wichura 1988, AS 241 PPND16).
pub(crate) fn normal(unit: f64) -> f64 {
    let q = unit - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * polynomial(&CENTRE.0, r) / polynomial(&CENTRE.1, r);
    }
    let tail = if q < 0.0 { unit } else { 1.0 - unit };
    let r = libm::sqrt(-libm::log(tail));
    let value = if r <= 5.0 {
        polynomial(&MIDDLE.0, r - 1.6) / polynomial(&MIDDLE.1, r - 1.6)
    } else {
        polynomial(&FAR.0, r - 5.0) / polynomial(&FAR.1, r - 5.0)
    };
    if q < 0.0 { -value } else { value }
}

fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    let step = |sum: f64, coefficient: &f64| sum * x + coefficient;
    coefficients.iter().rev().fold(0.0, step)
}

type Quotient = ([f64; 8], [f64; 8]);

const CENTRE: Quotient = (
    [
        3.387_132_872_796_366_5,
        133.141_667_891_784_38,
        1_971.590_950_306_551_3,
        13_731.693_765_509_46,
        45_921.953_931_549_87,
        67_265.770_927_008_7,
        33_430.575_583_588_13,
        2_509.080_928_730_122_7,
    ],
    [
        1.0,
        42.313_330_701_600_91,
        687.187_007_492_057_9,
        5_394.196_021_424_751,
        21_213.794_301_586_597,
        39_307.895_800_092_71,
        28_729.085_735_721_943,
        5_226.495_278_852_545,
    ],
);
const MIDDLE: Quotient = (
    [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        0.241_780_725_177_450_6,
        0.022_723_844_989_269_184,
        7.745_450_142_783_414e-4,
    ],
    [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        0.689_767_334_985_1,
        0.148_103_976_427_480_08,
        0.015_198_666_563_616_457,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ],
);
const FAR: Quotient = (
    [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        0.296_560_571_828_504_87,
        0.026_532_189_526_576_124,
        0.001_242_660_947_388_078_4,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ],
    [
        1.0,
        0.599_832_206_555_888,
        0.136_929_880_922_735_8,
        0.014_875_361_290_850_615,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_7e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ],
);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn mean_of(law: &Law) -> f64 {
        let count = 1_000_000;
        let middle = |at: u32| law.quantile((f64::from(at) + 0.5) / f64::from(count));
        let sum: f64 = (0..count).map(|at| middle(at).as_secs_f64()).sum();
        sum / f64::from(count)
    }

    #[test]
    fn means_are_what_they_say() {
        for law in [
            Law::fixed(10 * MS),
            Law::exponential(10 * MS),
            Law::uniform(5 * MS, 15 * MS),
            Law::lognormal(10 * MS, 0.5).unwrap(),
            Law::hyperexponential(0.25, 30 * MS, 5 * MS).unwrap(),
            Law::measured(&[(2 * MS, 10), (4 * MS, 80), (50 * MS, 10)]).unwrap(),
        ] {
            let said = law.mean().unwrap().as_secs_f64();
            let found = mean_of(&law);
            assert!(
                (found / said - 1.0).abs() < 2e-4,
                "{law:?}: {found} for {said}"
            );
        }
    }

    #[test]
    fn quantiles_are_those_of_the_law() {
        let check = |law: &Law, unit, millis: f64| {
            let found = law.quantile(unit).as_secs_f64() * 1e3;
            assert!(
                (found - millis).abs() < 1e-7 * millis,
                "{law:?} {unit}: {found}"
            );
        };
        check(&Law::exponential(10 * MS), 0.5, 6.931_472);
        check(&Law::exponential(10 * MS), 0.999, 69.077_553);
        check(&Law::lognormal(10 * MS, 1.0).unwrap(), 0.5, 10.0);
        check(&Law::lognormal(10 * MS, 1.0).unwrap(), 0.975, 70.990_714);
        let tail = Law::tail(&[(MS, 1.0), (10 * MS, 0.1), (1000 * MS, 0.001)]).unwrap();
        check(&tail, 0.9, 10.0);
        check(&tail, 0.99, 100.0);
        check(&tail, 0.5, 2.0);
        check(&tail, 0.999_9, 10_000.0);
        let measured = Law::measured(&[(10 * MS, 50), (20 * MS, 0), (40 * MS, 50)]).unwrap();
        check(&measured, 0.25, 5.0);
        check(&measured, 0.5, 10.0);
        check(&measured, 0.75, 30.0);
    }

    #[test]
    fn normal_quantiles_are_those_of_the_tables() {
        for (unit, expected) in [
            (0.5, 0.0),
            (0.841_344_746_068_543, 1.0),
            (0.975, 1.959_963_984_540_054),
            (0.999, 3.090_232_306_167_813),
            (1e-8, -5.612_001_244_174_789),
            (1e-20, -9.262_340_089_798_408),
        ] {
            let found = normal(unit);
            assert!((found - expected).abs() < 1e-9, "{unit}: {found}");
        }
    }

    #[test]
    fn what_is_no_law_is_refused() {
        assert!(Law::lognormal(MS, -1.0).is_err());
        assert!(Law::lognormal(MS, f64::NAN).is_err());
        assert!(Law::hyperexponential(1.5, MS, MS).is_err());
        assert!(Law::measured(&[]).is_err() && Law::measured(&[(MS, 0)]).is_err());
        assert!(Law::measured(&[(MS, 1), (MS, 1)]).is_err());
        for points in [
            &[(MS, 1.0)][..],
            &[(MS, 0.9), (2 * MS, 0.1)],
            &[(MS, 1.0), (2 * MS, 0.0)],
            &[(Duration::ZERO, 1.0), (2 * MS, 0.5)],
            &[(MS, 1.0), (MS, 0.5)],
            &[(MS, 1.0), (2 * MS, 0.5), (3 * MS, 0.5)],
        ] {
            assert!(Law::tail(points).is_err(), "{points:?}");
        }
    }
}
