//! How available a service is that depends on others.
//!
//! Units that stand in for each other do not fail independently: they share a network, a release, a
//! configuration, the retry layer before them. The share `beta` of their unavailability that has a
//! common cause (Fleming 1975, IEC 61508-6) is what limits redundancy: two units of 99.9 % are
//! 99.9999 % if independent, and 99.98992 % if a tenth of it is common.

use std::time::Duration;

use super::{Share, SloError, part};

/// How much of the time something works. It is kept as what is missing to 1, which stays exact
/// beyond many nines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Availability {
    missing: f64,
}

impl Availability {
    /// Works for this share of the time.
    pub fn new(share: Share) -> Availability {
        Availability::without(share.rest())
    }

    fn without(missing: f64) -> Availability {
        let missing = missing.clamp(0.0, 1.0);
        Availability { missing }
    }

    /// The share of the time in which it works.
    pub fn as_f64(self) -> f64 {
        1.0 - self.missing
    }

    /// The share of the time in which it does not.
    pub fn missing(self) -> f64 {
        self.missing
    }

    /// How long it does not work within `window`, on average.
    pub fn downtime(self, window: Duration) -> Duration {
        part(window, self.missing)
    }
}

/// What needs all units: the product of their availabilities.
pub fn series(units: &[Availability]) -> Availability {
    // As the sum of logarithms of what works, which does not lose small outages.
    let works: f64 = units.iter().map(|unit| libm::log1p(-unit.missing)).sum();
    Availability::without(-libm::expm1(works))
}

/// What needs one of the units, of whose unavailability the share `beta` has a common cause.
///
/// With the unavailabilities `u_i` and the common part `c = beta * min(u_i)`, it is unavailable for
/// `c + product(u_i - c)` of the time; for `n` equal units `beta u + ((1 - beta) u)^n`. The common
/// part is that of the best unit, since what stops all stops it, too; so a worse unit beside a good
/// one never makes it worse. Without units it is never available.
pub fn parallel(units: &[Availability], beta: Share) -> Availability {
    let missing = units.iter().map(|unit| unit.missing);
    let common = beta.0 * missing.clone().fold(1.0, f64::min);
    let alone: f64 = missing.map(|missing| missing - common).product();
    Availability::without(common + alone)
}

/// How many of how many units are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    needed: u32,
    units: u32,
}

impl Quorum {
    /// # Errors
    /// If none is needed, or more than there are, or if there are more than 10,000.
    pub fn new(needed: u32, units: u32) -> Result<Quorum, SloError> {
        if needed == 0 || needed > units {
            return Err(SloError("at least one unit is needed, and at most all"));
        }
        if units > MOST_UNITS {
            return Err(SloError("there are at most 10,000 units"));
        }
        Ok(Quorum { needed, units })
    }
}

/// What needs several of equal units, such as a quorum of replicas.
///
/// With the unavailability `u` of one and `q = (1 - beta) u`, it is unavailable for `beta u` plus
/// the probability that more than `units - needed` fail of themselves: the upper tail of the
/// binomial distribution with `q`. For one of `n` that is [`parallel`].
pub fn k_of_n(quorum: Quorum, unit: Availability, beta: Share) -> Availability {
    let common = beta.0 * unit.missing;
    let alone = unit.missing - common;
    let too_many = quorum.units - quorum.needed + 1;
    let tail: f64 = (too_many..=quorum.units)
        .map(|failed| binomial(quorum.units, failed, alone))
        .sum();
    Availability::without(common + tail)
}

/// The probability that just `hits` of `all` happen, each with `share`.
fn binomial(all: u32, hits: u32, share: f64) -> f64 {
    let (all, hits) = (f64::from(all), f64::from(hits));
    let factorial = |n: f64| libm::lgamma(n + 1.0);
    let ways = factorial(all) - factorial(hits) - factorial(all - hits);
    // Nothing to the power of 0 is 1.
    let times = |count: f64, log: f64| if count == 0.0 { 0.0 } else { count * log };
    libm::exp(ways + times(hits, libm::log(share)) + times(all - hits, libm::log1p(-share)))
}

/// How a second unit takes over when the first fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failover {
    /// Until a failure is noticed.
    pub detect: Duration,
    /// From then until the second unit answers.
    pub switch: Duration,
    /// The time from one failure of the first unit to its next, on average.
    pub mtbf: Duration,
    /// The share of failures that are noticed and can be switched over. Others last as long as they
    /// would without a second unit.
    pub coverage: Share,
}

impl Failover {
    /// How available both are together: unavailable for `(1 - c) u + c u2 u + (detect + switch) /
    /// mtbf` of the time, with the coverage `c` and the unavailabilities `u` and `u2`.
    ///
    /// Every failure costs the whole time to switch, also one that would have been over sooner. So
    /// with short outages this may be less than the first unit alone.
    ///
    /// # Errors
    /// If failures come all the time: `mtbf` is zero.
    pub fn availability(
        &self,
        first: Availability,
        second: Availability,
    ) -> Result<Availability, SloError> {
        if self.mtbf.is_zero() {
            return Err(SloError("between failures there is some time"));
        }
        let covered = self.coverage.0;
        let uncovered = self.coverage.rest() * first.missing;
        let both = covered * second.missing * first.missing;
        let takes = (self.detect + self.switch).as_secs_f64() / self.mtbf.as_secs_f64();
        Ok(Availability::without(uncovered + both + takes))
    }

    /// How long an outage of the first unit lasts, on average: `u * mtbf`.
    pub fn outage(&self, first: Availability) -> Duration {
        part(self.mtbf, first.missing)
    }

    /// The mean outage from which on failover saves more than it costs:
    /// `(detect + switch) / (c (1 - u2))`; the longest duration if it never does.
    pub fn break_even(&self, second: Availability) -> Duration {
        let saved = self.coverage.0 * second.as_f64();
        part(self.detect + self.switch, 1.0 / saved)
    }
}

/// Sums of more terms say nothing new: replicas are a few.
const MOST_UNITS: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn share(share: f64) -> Share {
        Share::new(share).unwrap()
    }

    fn units(shares: &[f64]) -> Vec<Availability> {
        let unit = |at: &f64| Availability::new(share(*at));
        shares.iter().map(unit).collect()
    }

    fn near(found: Availability, missing: f64) {
        let off = (found.missing() - missing).abs();
        assert!(off <= 1e-9 * missing.max(1e-6), "{found:?} for {missing}");
    }

    #[test]
    fn units_in_series_multiply() {
        near(series(&units(&[0.999; 5])), 1.0 - 0.999f64.powi(5));
        near(series(&units(&[0.5, 0.5])), 0.75);
        near(series(&units(&[0.9, 0.0])), 1.0);
        near(series(&[]), 0.0);
    }

    #[test]
    fn what_is_common_limits_what_is_parallel() {
        let check = |shares: &[f64], beta, missing| {
            near(parallel(&units(shares), share(beta)), missing);
        };
        check(&[0.999, 0.999], 0.0, 1e-6);
        check(&[0.999, 0.999], 1.0, 1e-3);
        check(&[0.999, 0.999, 0.999], 0.1, 1e-4 + 0.9e-3f64.powi(3));
        check(&[0.99, 0.999], 0.1, 1e-4 + (1e-2 - 1e-4) * 0.9e-3);
        check(&[0.999], 0.3, 1e-3);
        check(&[0.9, 1.0], 0.1, 0.0);
        check(&[], 0.1, 1.0);
    }

    #[test]
    fn a_worse_unit_beside_a_good_one_never_makes_it_worse() {
        for worse in [0.0, 0.5, 0.99, 0.9999] {
            for beta in [0.0, 0.1, 0.5, 1.0] {
                let both = parallel(&units(&[0.9999, worse]), share(beta));
                assert!(both.missing() <= 1.0001e-4, "{worse} {beta}: {both:?}");
            }
        }
    }

    #[test]
    fn quorums_are_binomial() {
        let check = |needed, count, unit, beta, missing| {
            let quorum = Quorum::new(needed, count).unwrap();
            near(k_of_n(quorum, units(&[unit])[0], share(beta)), missing);
        };
        check(2, 3, 0.99, 0.0, 2.98e-4);
        check(2, 3, 0.999, 0.0, 2.998e-6);
        check(1, 2, 0.999, 0.1, 1.0081e-4);
        check(3, 3, 0.9, 0.0, 1.0 - 0.729);
        check(1, 1, 0.9, 0.4, 0.1);
        check(5, 9, 1.0, 0.1, 0.0);
        check(5, 9, 0.0, 0.0, 1.0);
        assert!(Quorum::new(0, 3).is_err() && Quorum::new(4, 3).is_err());
        assert!(Quorum::new(1, 10_001).is_err());
    }

    #[test]
    fn failover_pays_from_its_break_even_on() {
        let failover = Failover {
            detect: Duration::from_secs(10),
            switch: Duration::from_secs(5),
            mtbf: Duration::from_secs(30 * 86_400),
            coverage: share(0.95),
        };
        let second = units(&[0.999])[0];
        let with = |first| failover.availability(first, second).unwrap();
        let first = units(&[0.999])[0];
        let expected = 0.05 * 1e-3 + 0.95 * 1e-6 + 15.0 / (30.0 * 86_400.0);
        near(with(first), expected);
        assert_eq!(failover.outage(first).as_secs(), 2592);
        let even = failover.break_even(second).as_secs_f64() / failover.mtbf.as_secs_f64();
        let just = |factor: f64| Availability::without(even * factor);
        assert!(with(just(1.01)).missing() < just(1.01).missing());
        assert!(with(just(0.99)).missing() > just(0.99).missing());
        let never = Failover {
            coverage: Share::NONE,
            ..failover
        };
        assert_eq!(never.break_even(second), Duration::MAX);
        let always = Failover {
            mtbf: Duration::ZERO,
            ..failover
        };
        assert!(always.availability(first, second).is_err());
    }

    #[test]
    fn downtime_is_a_part_of_the_window() {
        let day = Duration::from_secs(86_400);
        assert_eq!(units(&[0.75])[0].downtime(day), day / 4);
        assert_eq!(units(&[1.0])[0].downtime(day), Duration::ZERO);
        assert!(Share::new(1.1).is_err() && Share::new(f64::NAN).is_err());
    }
}
