//! A second attempt against a slow tail, before the first has failed.
//!
//! When an attempt takes longer than most do, a second one usually wins (Dean and Barroso, "The
//! Tail at Scale", 2013). The delay before it is fixed, or a live quantile of the latencies, so
//! that with p95 about one call in twenty is hedged.
//!
//! The laws it keeps, together with the call:
//! - the first *success* wins and the losers are cancelled, and so does a definite answer
//!   ([`Permanent`](crate::outcome::Outcome::Permanent)); an attempt that fails, or says nothing,
//!   never ends one that is still running;
//! - when one fails while another runs, the next hedge starts at once;
//! - every hedge is drawn from the upstream's budget; without one it is skipped, silently for
//!   the caller;
//! - a hedge takes a free seat of the bulkhead or none, it never queues;
//! - calls that may not be repeated are never hedged.

mod latency;

use std::time::Duration;

pub(crate) use latency::Latency;

use crate::config::{ConfigError, DAY, ensure};
use crate::ratio::Ratio;

/// When to hedge, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    after: After,
    hedges: u32,
    enforce: bool,
}

#[derive(Clone, Copy, Debug)]
enum After {
    Fixed(Duration),
    Quantile {
        quantile: Ratio,
        min_samples: u32,
        floor: Duration,
    },
}

impl Config {
    /// Hedges after a fixed time, at most 24 h.
    pub fn after(delay: Duration) -> Config {
        Config {
            after: After::Fixed(delay),
            hedges: 1,
            enforce: true,
        }
    }

    /// Hedges after this quantile of the latencies of the last half minute to minute, once there
    /// are 100 of them, and never within a millisecond.
    pub fn after_quantile(quantile: Ratio) -> Config {
        let after = After::Quantile {
            quantile,
            min_samples: 100,
            floor: Duration::from_millis(1),
        };
        Config {
            after,
            hedges: 1,
            enforce: true,
        }
    }

    /// Results to have seen before the quantile means anything; until then nothing is hedged.
    /// Default 100; no meaning for a fixed delay.
    pub fn min_samples(mut self, samples: u32) -> Config {
        if let After::Quantile { min_samples, .. } = &mut self.after {
            *min_samples = samples;
        }
        self
    }

    /// Never hedges sooner than this. Default 1 ms; no meaning for a fixed delay.
    pub fn floor(mut self, delay: Duration) -> Config {
        if let After::Quantile { floor, .. } = &mut self.after {
            *floor = delay;
        }
        self
    }

    /// So many hedges per call, 1 to 3. Default 1.
    pub fn hedges(mut self, hedges: u32) -> Config {
        self.hedges = hedges;
        self
    }

    /// `false`: shadow mode. It counts the hedges it would start, and starts none. Default
    /// `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    pub(crate) fn limit(&self) -> u32 {
        self.hedges
    }

    pub(crate) fn is_enforced(&self) -> bool {
        self.enforce
    }

    pub(crate) fn fixed(&self) -> Option<Duration> {
        match self.after {
            After::Fixed(delay) => Some(delay),
            After::Quantile { .. } => None,
        }
    }

    pub(crate) fn quantile_of(&self) -> Option<Ratio> {
        match self.after {
            After::Fixed(_) => None,
            After::Quantile { quantile, .. } => Some(quantile),
        }
    }

    /// The recorder of latencies that a quantile needs.
    pub(crate) fn latency(&self) -> Option<Latency> {
        match self.after {
            After::Fixed(_) => None,
            After::Quantile {
                quantile,
                min_samples,
                floor,
            } => Some(Latency::new(quantile, min_samples, floor)),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        ensure(
            (1..=MAX_HEDGES).contains(&self.hedges),
            "hedge.hedges",
            "must lie between 1 and 3",
        )?;
        match self.after {
            After::Fixed(delay) => ensure(delay <= DAY, "hedge.after", "may be at most 24 h"),
            After::Quantile { quantile, .. } => ensure(
                quantile > Ratio::ZERO && quantile < Ratio::ONE,
                "hedge.after",
                "must be a quantile above 0 and below 1, for example 0.95",
            ),
        }
    }
}

/// More than four attempts at once is an attack on the dependency, not a hedge.
pub(crate) const MAX_HEDGES: u32 = 3;
