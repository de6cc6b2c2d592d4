//! The mathematics of availability: what a set of services can promise, how much of a promise is
//! left, when to wake somebody, and when a canary has shown enough.
//!
//! Closed forms, no simulation: each function says its formula and where it comes from. What a
//! formula leaves out is said, too; what depends on how policies and queues act belongs to a
//! [`Model`](crate::Model).

mod availability;
mod budget;
mod burn;
mod phi;
mod sprt;

use std::fmt;
use std::time::Duration;

pub use self::availability::{Availability, Failover, Quorum, k_of_n, parallel, series};
pub use self::budget::{Budget, Spending, Spent};
pub use self::burn::{Alert, Urgency, alerts};
pub use self::phi::Phi;
pub use self::sprt::{Mistakes, Rates, Sprt, Tally, Verdict};

/// A share of a whole, from 0 to 1, finer than the millionths of
/// [`Ratio`](outlast_core::ratio::Ratio): nine nines are not all.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// Nothing.
    pub const NONE: Share = Share(0.0);

    /// # Errors
    /// Outside 0 to 1, or not a number.
    pub fn new(share: f64) -> Result<Share, SloError> {
        if (0.0..=1.0).contains(&share) {
            Ok(Share(share))
        } else {
            Err(SloError("a share lies between 0 and 1"))
        }
    }

    /// From 0 to 1.
    pub fn as_f64(self) -> f64 {
        self.0
    }

    /// What is missing to the whole.
    fn rest(self) -> f64 {
        1.0 - self.0
    }
}

/// Why something cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SloError(&'static str);

impl fmt::Display for SloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for SloError {}

/// The part of a time that a factor says; the longest duration if that is longer.
fn part(time: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}
