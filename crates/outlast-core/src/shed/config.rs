//! The settings of a shedder.

use std::time::Duration;

use super::limit::Limit;
use crate::config::{ConfigError, DAY, ensure};
use crate::ratio::Ratio;
use crate::seats::MOST;
use crate::tier::Tier;

/// How much is admitted, and in which order the rest waits.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub(super) limit: Limit,
    pub(super) shares: [Ratio; 3],
    pub(super) reserve: Ratio,
    pub(super) queue: u32,
    pub(super) target: Duration,
    pub(super) interval: Duration,
    enforce: bool,
}

impl Default for Config {
    /// The measured capacity, all of it for every tier, and a queue of 100.
    fn default() -> Config {
        Config {
            limit: Limit::default(),
            shares: [Ratio::ONE; 3],
            reserve: Ratio::percent(2),
            queue: 100,
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
            enforce: true,
        }
    }
}

impl Config {
    /// The defaults with this limit.
    pub fn new(limit: Limit) -> Config {
        Config {
            limit,
            ..Config::default()
        }
    }

    /// Calls of this tier get a seat only while fewer than this share of the limit are in flight;
    /// turned away there, only below nine tenths of it. Default all for every tier: then the queue
    /// alone sees to it that the higher ones come first, and no capacity is left unused. Give the
    /// lower ones less if a critical call must not even wait for the next completion, or if there
    /// is no queue. A lower tier cannot have more than a higher one, and the critical one has all.
    pub fn share(mut self, tier: Tier, share: Ratio) -> Config {
        self.shares[tier.index()] = share;
        self
    }

    /// Of the seats given to those who wait, each lower tier gets this share although higher ones
    /// wait, so that it does not starve. Default 2 %, at most a quarter; zero for none.
    pub fn reserve(mut self, share: Ratio) -> Config {
        self.reserve = share;
        self
    }

    /// So many callers may wait for a seat, at most 1,048,575. Default 100; 0 for no queue. What
    /// cannot be in time is not let in, however short the queue is.
    pub fn queue(mut self, callers: u32) -> Config {
        self.queue = callers;
        self
    }

    /// How long a caller may wait in a standing queue, or for two completions, if that is longer.
    /// Default 5 ms, at most a day.
    pub fn target(mut self, wait: Duration) -> Config {
        self.target = wait;
        self
    }

    /// A queue that has not been empty for this long, or for the time of two calls, if that is
    /// longer, is a standing one: the latest comes first. In any other a caller may wait as long as
    /// this, or as long as a call takes, if that is longer. Default 100 ms, at most a day.
    pub fn interval(mut self, interval: Duration) -> Config {
        self.interval = interval;
        self
    }

    /// `false`: shadow mode. It counts what it would refuse, and lets it pass. Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    /// With a limit of at most `calls`: more of them would be turned away behind it, whatever their
    /// tier.
    pub(crate) fn at_most(mut self, calls: u32) -> Config {
        self.limit = self.limit.at_most(calls);
        self
    }

    /// Whether it refuses: a driver asks [`Shed::admit`](super::Shed::admit) if so, and
    /// [`Shed::pass`](super::Shed::pass) if it only looks on.
    pub fn is_enforced(&self) -> bool {
        self.enforce
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let [critical, important, optional] = self.shares;
        ensure(
            critical == Ratio::ONE,
            "shed.share",
            "must be all of the limit for critical calls; lower the limit itself",
        )?;
        ensure(
            optional <= important && optional > Ratio::ZERO,
            "shed.share",
            "must be above 0 and may not rise from a higher tier to a lower one",
        )?;
        ensure(
            self.reserve <= Ratio::percent(25),
            "shed.reserve",
            "may be at most a quarter, or the lower tiers come first",
        )?;
        ensure(
            self.queue <= MOST,
            "shed.queue",
            "may be at most 1,048,575 callers",
        )?;
        ensure(self.target <= DAY, "shed.target", "may be at most 24 h")?;
        ensure(self.interval <= DAY, "shed.interval", "may be at most 24 h")
    }
}
