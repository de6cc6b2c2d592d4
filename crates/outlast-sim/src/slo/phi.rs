//! How suspicious silence is: the phi accrual detector (Hayashibara and others 2004).
//!
//! Heartbeats come at intervals that are about normally distributed. `phi` is the number of nines
//! of the probability that the next one is not just late: at 8 one of 10^8 silences of a healthy
//! service is as long. Here the tail of the normal distribution is exact; Akka's logistic
//! approximation of it fires at 8 where 6.8 is exact.

use std::time::Duration;

use super::SloError;
use crate::law;

/// How heartbeats come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phi {
    mean: f64,
    deviation: f64,
}

impl Phi {
    /// The mean interval between heartbeats, and its standard deviation.
    ///
    /// # Errors
    /// If one of them is zero.
    pub fn new(mean: Duration, deviation: Duration) -> Result<Phi, SloError> {
        if mean.is_zero() || deviation.is_zero() {
            return Err(SloError("intervals have a mean and vary"));
        }
        let [mean, deviation] = [mean, deviation].map(|time| time.as_secs_f64());
        Ok(Phi { mean, deviation })
    }

    /// `-log10(1 - F(silence))`, where `F` is normal; infinite beyond 37 standard deviations.
    pub fn after(&self, silence: Duration) -> f64 {
        let z = (silence.as_secs_f64() - self.mean) / self.deviation;
        let later = libm::erfc(z / std::f64::consts::SQRT_2) / 2.0;
        0.0 - libm::log10(later)
    }

    /// The silence at which a threshold is reached: `mean + z deviation`, where the tail of the
    /// normal distribution above `z` is `10^-phi`. Not below zero.
    ///
    /// # Errors
    /// If the threshold is not above 0, or above 300, where numbers end.
    pub fn reaches(&self, threshold: f64) -> Result<Duration, SloError> {
        if !(threshold > 0.0 && threshold <= 300.0) {
            return Err(SloError("a threshold lies above 0 and at or below 300"));
        }
        let z = -law::normal(libm::pow(10.0, -threshold));
        let seconds = (self.mean + z * self.deviation).max(0.0);
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// How long a healthy service is watched, on average, until it is suspected wrongly: the mean
    /// interval times `10^phi`.
    pub fn false_alarm(&self, threshold: f64) -> Duration {
        let seconds = self.mean * libm::pow(10.0, threshold);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_reached_when_it_says() {
        let ms = Duration::from_millis;
        let phi = Phi::new(ms(1000), ms(200)).unwrap();
        for threshold in [0.01, 0.301, 1.0, 3.0, 8.0, 12.0, 100.0] {
            let at = phi.reaches(threshold).unwrap();
            let found = phi.after(at);
            assert!(
                (found - threshold).abs() < 1e-5,
                "{threshold}: {at:?} {found}"
            );
        }
        assert_eq!(phi.after(ms(0)).to_bits() >> 63, 0, "never below zero");
        assert_eq!(phi.after(ms(60_000)), f64::INFINITY);
        assert_eq!(phi.false_alarm(3.0), ms(1_000_000));
        for threshold in [0.0, -1.0, 301.0, f64::NAN] {
            assert!(phi.reaches(threshold).is_err(), "{threshold}");
        }
        assert!(Phi::new(ms(0), ms(1)).is_err() && Phi::new(ms(1), ms(0)).is_err());
    }
}
