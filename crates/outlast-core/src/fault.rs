//! Harm done on purpose, to see whether the policies hold.
//!
//! A fault strikes attempts at random with a given rate, innermost in the pipeline, so that every
//! policy reacts as it would to the real thing. The core decides; the driver does the harm.
//! Faults are configured with the upstream and switched on and off at run time.

use std::time::Duration;

use crate::ratio::Ratio;

/// What happens to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is held back for this long and then made.
    Delay(Duration),
    /// It is not made; it fails at once with a transient outcome.
    Error,
    /// It is not made and never answers; only a timeout ends it.
    Hang,
}

/// Which fault strikes how often.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    fault: Fault,
    rate: Ratio,
    on: bool,
}

impl Config {
    /// `fault` strikes this share of the attempts, from the start.
    pub fn new(fault: Fault, rate: Ratio) -> Config {
        Config {
            fault,
            rate,
            on: true,
        }
    }

    /// Whether it strikes from the start. Default `true`.
    pub fn on(mut self, on: bool) -> Config {
        self.on = on;
        self
    }

    pub(crate) fn starts_on(&self) -> bool {
        self.on
    }

    /// The fault for an attempt with the uniform random number `unit`, if it is struck.
    pub fn strike(&self, unit: f64) -> Option<Fault> {
        (unit < self.rate.as_f64()).then_some(self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strikes_below_the_rate() {
        let config = Config::new(Fault::Error, Ratio::percent(60));
        assert_eq!(config.strike(0.0), Some(Fault::Error));
        assert_eq!(config.strike(0.599), Some(Fault::Error));
        assert_eq!(config.strike(0.6), None);
        assert_eq!(Config::new(Fault::Hang, Ratio::ZERO).strike(0.0), None);
    }
}
