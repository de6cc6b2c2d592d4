//! How the limit of calls in flight is found.
//!
//! | limit | idea | source |
//! |---|---|---|
//! | [`Limit::capacity`] | Little's law: so many are served at once as fit at the latency of an unhurried dependency | ours, the default |
//! | [`Limit::aimd`] | one more per window, a tenth less after a drop | Netflix concurrency-limits |
//! | [`Limit::vegas`] | keep a few calls in the dependency's queue | TCP Vegas, Netflix concurrency-limits |
//! | [`Limit::gradient2`] | follow the ratio of long-term to short-term latency | Netflix concurrency-limits |
//! | [`Limit::fixed`] | you know it | |
//!
//! The published ones have their published constants. They look once a second, move by a step and
//! need bounds near the truth. Capacity looks once a round of calls, moves to where Little's law
//! points as far as the evidence is beyond its own error, and needs no setting, which is why it is
//! the default. Goodput at twice the capacity of ten workers, with exponential times and a deadline
//! of twice their mean, as a share of the capacity (means of runs of `tests/it/overload.rs`, 100 for the
//! first two lines and 20 for the others):
//!
//! | limit | service stops for callers who have gone | it works on for them |
//! |---|---|---|
//! | capacity | 0.98 | 0.76 |
//! | the ten known: fixed | 0.98 | 0.80 |
//! | Vegas | 0.16 | 0.58 |
//! | Gradient2, AIMD; at least 20 | 1.00 | 0.01, 0.00 |
//! | Gradient2, AIMD; at least 1 | 0.11 | 0.01, 0.00 |
//!
//! Where the service stops, too high a limit is free, and a floor of 20 is a good guess for ten; the
//! same floor is fatal where it does not. The best queue we found there for
//! somebody who knows the ten reaches 0.85.

use std::time::Duration;

use crate::config::{ConfigError, DAY, ensure};
use crate::ratio::Ratio;
use crate::seats::MOST;

/// Which limit, and between which bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub(super) kind: Kind,
    pub(super) initial: u32,
    pub(super) min: u32,
    pub(super) max: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Fixed,
    Capacity,
    Aimd { backoff: Ratio, timeout: Duration },
    Vegas(Vegas),
    Gradient2 { smoothing: Ratio, tolerance: f64 },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Vegas {
    pub(super) smoothing: Ratio,
    pub(super) backoff: Option<Ratio>,
}

impl Default for Limit {
    /// [`Limit::capacity`].
    fn default() -> Limit {
        Limit::capacity()
    }
}

impl Limit {
    /// So many calls, always.
    pub fn fixed(calls: u32) -> Limit {
        Limit::of(Kind::Fixed, calls, calls, calls)
    }

    /// What the dependency serves without a queue of its own, measured: the latency of windows in
    /// which at most half of the limit was used is the *base*, and the limit is moved to where the
    /// latency is a tenth above it. Starts at 10 and doubles until it is crowded; 1 to 10,000. A
    /// window is a round of as many calls as the limit, at least 16.
    pub fn capacity() -> Limit {
        Limit::of(Kind::Capacity, 10, 1, 10_000)
    }

    /// Additive increase, multiplicative decrease: with a drop, or a mean latency above 5 s, nine
    /// tenths of the limit; otherwise one more, if at least half of it was used. Starts at 20; 20
    /// to 200. Once a second, after at least 10 calls.
    pub fn aimd() -> Limit {
        let kind = Kind::Aimd {
            backoff: Ratio::percent(90),
            timeout: Duration::from_secs(5),
        };
        Limit::of(kind, 20, 20, 200)
    }

    /// With a queue of `limit * (1 - base / latency)` calls and `log = log10(limit)`, at least 1:
    /// up to `log` the limit grows by `6 log`, below `3 log` by `log`, above `6 log` or with a drop
    /// it shrinks by `log`. The base is the lowest mean latency, measured anew every 15 to 30
    /// `limit` windows. Starts at 20; 1 to 1,000. Once a second, after at least 10 calls.
    pub fn vegas() -> Limit {
        let kind = Kind::Vegas(Vegas {
            smoothing: Ratio::ONE,
            backoff: None,
        });
        Limit::of(kind, 20, 1, 1000)
    }

    /// A fifth of the way to `limit * g + 4`, where `g` is 1.5 times the long-term latency over
    /// the latest, between 0.5 and 1. The long term is 600 windows. Starts at 20; 20 to 200. Once a
    /// second, after at least 10 calls. The original ignores drops and grows while calls are
    /// refused fast; here a drop takes a tenth.
    pub fn gradient2() -> Limit {
        let kind = Kind::Gradient2 {
            smoothing: Ratio::percent(20),
            tolerance: 1.5,
        };
        Limit::of(kind, 20, 20, 200)
    }

    const fn of(kind: Kind, initial: u32, min: u32, max: u32) -> Limit {
        Limit {
            kind,
            initial,
            min,
            max,
        }
    }

    /// Where it starts.
    pub fn initial(mut self, calls: u32) -> Limit {
        self.initial = calls;
        self
    }

    /// Never fewer, at least 1.
    pub fn min(mut self, calls: u32) -> Limit {
        self.min = calls;
        self
    }

    /// Never more, at most 1,048,575.
    pub fn max(mut self, calls: u32) -> Limit {
        self.max = calls;
        self
    }

    /// As it is where more than `calls` could not go on.
    pub(super) fn at_most(mut self, calls: u32) -> Limit {
        self.max = self.max.min(calls);
        self.initial = self.initial.min(calls);
        self.min = self.min.min(calls);
        self
    }

    /// The share of the limit that is kept when it shrinks. AIMD: default 90 %. Vegas: by default
    /// it subtracts instead. No meaning for the others.
    pub fn backoff(mut self, kept: Ratio) -> Limit {
        match &mut self.kind {
            Kind::Aimd { backoff, .. } => *backoff = kept,
            Kind::Vegas(vegas) => vegas.backoff = Some(kept),
            Kind::Fixed | Kind::Capacity | Kind::Gradient2 { .. } => {}
        }
        self
    }

    /// A mean latency above this counts as a drop. Default 5 s, at most a day. AIMD alone.
    pub fn timeout(mut self, limit: Duration) -> Limit {
        if let Kind::Aimd { timeout, .. } = &mut self.kind {
            *timeout = limit;
        }
        self
    }

    /// How far it goes towards the new value at each step. Vegas: default all the way; Gradient2:
    /// 20 %. No meaning for the others.
    pub fn smoothing(mut self, share: Ratio) -> Limit {
        match &mut self.kind {
            Kind::Vegas(vegas) => vegas.smoothing = share,
            Kind::Gradient2 { smoothing, .. } => *smoothing = share,
            Kind::Fixed | Kind::Capacity | Kind::Aimd { .. } => {}
        }
        self
    }

    /// Latency may rise to this multiple of the long-term one before the limit shrinks. Default
    /// 1.5, 1 to 10. Gradient2 alone.
    pub fn tolerance(mut self, multiple: f64) -> Limit {
        if let Kind::Gradient2 { tolerance, .. } = &mut self.kind {
            *tolerance = multiple;
        }
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        ensure(self.min >= 1, "shed.min", "must be at least 1")?;
        ensure(
            self.max <= MOST,
            "shed.max",
            "may be at most 1,048,575 calls",
        )?;
        ensure(
            (self.min..=self.max).contains(&self.initial),
            "shed.initial",
            "must lie between the least and the most calls",
        )?;
        match self.kind {
            Kind::Fixed | Kind::Capacity => Ok(()),
            Kind::Aimd { backoff, timeout } => {
                check_backoff(backoff)?;
                ensure(timeout <= DAY, "shed.timeout", "may be at most 24 h")
            }
            Kind::Vegas(vegas) => {
                check_smoothing(vegas.smoothing)?;
                vegas.backoff.map_or(Ok(()), check_backoff)
            }
            Kind::Gradient2 {
                smoothing,
                tolerance,
            } => {
                check_smoothing(smoothing)?;
                let is_sane = (1.0..=10.0).contains(&tolerance);
                ensure(is_sane, "shed.tolerance", "must lie between 1 and 10")
            }
        }
    }
}

fn check_backoff(kept: Ratio) -> Result<(), ConfigError> {
    ensure(
        kept > Ratio::ZERO && kept < Ratio::ONE,
        "shed.backoff",
        "must lie between 0 and 1, for example 0.9",
    )
}

fn check_smoothing(share: Ratio) -> Result<(), ConfigError> {
    ensure(
        share > Ratio::ZERO,
        "shed.smoothing",
        "must be above 0, or the limit never moves",
    )
}
