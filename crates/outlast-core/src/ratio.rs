//! A share between none and all, exact to a millionth.

use crate::config::ConfigError;

/// A number from 0 to 1 in millionths, so that comparing counts against it is exact integer
/// arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(u32);

impl Ratio {
    /// Nothing.
    pub const ZERO: Ratio = Ratio(0);
    /// Everything.
    pub const ONE: Ratio = Ratio(MILLION);

    /// `percent` hundredths.
    ///
    /// # Panics
    /// Above 100; in a `const` that is a compile error.
    pub const fn percent(percent: u32) -> Ratio {
        assert!(percent <= 100, "a ratio is at most 100 percent");
        Ratio(percent * (MILLION / 100))
    }

    /// The nearest millionth to `share`.
    ///
    /// # Errors
    /// Outside 0 to 1, or not a number.
    pub fn new(share: f64) -> Result<Ratio, ConfigError> {
        if (0.0..=1.0).contains(&share) {
            Ok(Ratio((share * f64::from(MILLION)).round() as u32))
        } else {
            Err(ConfigError::new(
                "ratio",
                "must lie between 0 and 1, for example 0.5 for half",
            ))
        }
    }

    /// This share as a floating-point number from 0 to 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(MILLION)
    }

    /// Whether `part` of `whole` reaches this share (inclusive; nothing of nothing does not).
    pub fn reached_by(self, part: u64, whole: u64) -> bool {
        whole > 0
            && u128::from(part) * u128::from(MILLION) >= u128::from(whole) * u128::from(self.0)
    }

    /// This share of `whole`, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        let share = u128::from(whole) * u128::from(self.0) / u128::from(MILLION);
        u64::try_from(share).expect("a share of a u64 is at most that u64")
    }
}

/// Millionths keep every percentage with four decimals exact and fit 32 bits.
const MILLION: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_is_exact_and_inclusive() {
        assert!(Ratio::percent(50).reached_by(1, 2));
        assert!(!Ratio::percent(50).reached_by(499_999, 1_000_000));
        assert!(!Ratio::ZERO.reached_by(0, 0));
        assert!(Ratio::ONE.reached_by(u64::MAX, u64::MAX));
        assert_eq!(Ratio::percent(10).of(109), 10);
        assert_eq!(Ratio::ONE.of(u64::MAX), u64::MAX);
    }

    #[test]
    fn anything_outside_zero_to_one_is_refused() {
        for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Ratio::new(share).is_err(), "{share}");
        }
        assert_eq!(Ratio::new(0.25).unwrap(), Ratio::percent(25));
    }
}
