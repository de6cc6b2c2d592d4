//! The settings of one check.

use std::time::Duration;

use crate::config::{ConfigError, DAY, ensure};
use crate::ratio::Ratio;

/// How a check is probed, and what its results mean.
#[derive(Clone, Debug)]
pub struct Config {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) up_after: u32,
    pub(super) down_after: u32,
    pub(super) jitter: Ratio,
    pub(super) critical: bool,
    pub(super) on_demand: bool,
    pub(super) groups: Vec<String>,
}

impl Default for Config {
    /// Every 5 s with a timeout of 1 s; critical; down after 3 failures, up after 1 success.
    fn default() -> Config {
        Config {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            up_after: 1,
            down_after: 3,
            jitter: Ratio::percent(20),
            critical: true,
            on_demand: false,
            groups: Vec::new(),
        }
    }
}

impl Config {
    /// From the start of one probe to the next, before jitter. Default 5 s; from 1 ms to 24 h. An
    /// outage is seen after `down_after` intervals, its end after `up_after`.
    pub fn interval(mut self, interval: Duration) -> Config {
        self.interval = interval;
        self
    }

    /// A probe that has not answered by then has failed. Default 1 s; at most the interval, so that
    /// probes of one check never overlap.
    pub fn timeout(mut self, timeout: Duration) -> Config {
        self.timeout = timeout;
        self
    }

    /// So many successes in a row make it up. Default 1; 1 to 1,000.
    pub fn up_after(mut self, successes: u32) -> Config {
        self.up_after = successes;
        self
    }

    /// So many failures in a row make one that is up down. Default 3; 1 to 1,000.
    pub fn down_after(mut self, failures: u32) -> Config {
        self.down_after = failures;
        self
    }

    /// Each interval is longer by a random share of itself up to this one, and the first probe
    /// comes after such a share, at most a second. Default 20 %: 40 instances with an interval of 5 s spread over one
    /// second from the start, and further with every round.
    pub fn jitter(mut self, jitter: Ratio) -> Config {
        self.jitter = jitter;
        self
    }

    /// Whether the instance is not ready while it is not up. `false`: informative, it is shown and
    /// decides nothing but its groups. Default `true`.
    pub fn critical(mut self, critical: bool) -> Config {
        self.critical = critical;
        self
    }

    /// `true`: for what is too expensive to probe all the time. Nothing probes it until somebody
    /// asks for the deep document, and then at most once per interval. It is shown nowhere else,
    /// so it can be neither critical nor in a group. Default `false`.
    pub fn on_demand(mut self, on_demand: bool) -> Config {
        self.on_demand = on_demand;
        self
    }

    /// Also belongs to this group of dependencies, which has a readiness of its own. Default: to
    /// none. Named like checks; at most 16 per check.
    pub fn group(mut self, name: impl Into<String>) -> Config {
        self.groups.push(name.into());
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        ensure(
            (Duration::from_millis(1)..=DAY).contains(&self.interval),
            "health.interval",
            "must be from 1 ms to 24 h",
        )?;
        ensure(
            !self.timeout.is_zero() && self.timeout <= self.interval,
            "health.timeout",
            "must be longer than zero and at most the interval",
        )?;
        ensure(
            (1..=MOST_IN_A_ROW).contains(&self.up_after),
            "health.up_after",
            "must be from 1 to 1,000",
        )?;
        ensure(
            (1..=MOST_IN_A_ROW).contains(&self.down_after),
            "health.down_after",
            "must be from 1 to 1,000",
        )?;
        ensure(
            !self.on_demand || (!self.critical && self.groups.is_empty()),
            "health.on_demand",
            "needs critical(false) and no group: its last result may be old",
        )?;
        ensure(
            self.groups.len() <= MOST_GROUPS,
            "health.group",
            "may be given at most 16 times",
        )?;
        ensure(
            self.groups.iter().all(|group| is_name(group)),
            "health.group",
            NAME_RULE,
        )
    }
}

/// Whether checks and groups may be called so: names stand in paths, JSON and metrics.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

pub(super) const NAME_RULE: &str = "must be 1 to 64 letters, digits, dots, dashes or underscores";

/// More in a row is a check that never changes its mind.
const MOST_IN_A_ROW: u32 = 1_000;

const MOST_GROUPS: usize = 16;
