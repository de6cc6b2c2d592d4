//! The settings of passive ejection.

use std::time::Duration;

use crate::config::{ConfigError, DAY, ensure};
use crate::ratio::Ratio;

/// When an endpoint is ejected, for how long, and how many may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    pub(super) consecutive: Option<u32>,
    pub(super) success_rate: Option<f64>,
    pub(super) latency: Option<f64>,
    pub(super) min_endpoints: u32,
    pub(super) min_attempts: u32,
    pub(super) margin: Ratio,
    pub(super) interval: Duration,
    pub(super) base: Duration,
    pub(super) max: Duration,
    pub(super) max_share: Ratio,
    pub(super) enforce: bool,
}

impl Default for Config {
    /// Five failures in a row, or a success rate 1.9 standard deviations below the mean; for 30 s,
    /// longer each time up to 300 s; at most half of the endpoints.
    fn default() -> Config {
        Config {
            consecutive: Some(5),
            success_rate: Some(1.9),
            latency: None,
            min_endpoints: 5,
            min_attempts: 100,
            margin: Ratio::percent(5),
            interval: Duration::from_secs(10),
            base: Duration::from_secs(30),
            max: Duration::from_secs(300),
            max_share: Ratio::percent(50),
            enforce: true,
        }
    }
}

impl Config {
    /// Ejects after so many failures in a row; `None`: not for that. Default 5.
    pub fn consecutive(mut self, failures: impl Into<Option<u32>>) -> Config {
        self.consecutive = failures.into();
        self
    }

    /// Ejects those whose success rate lies so many standard deviations below the mean of all;
    /// `None`: not for that. Default 1.9 (Envoy's), 0.5 to 10.
    pub fn success_rate(mut self, deviations: impl Into<Option<f64>>) -> Config {
        self.success_rate = deviations.into();
        self
    }

    /// How far below the mean, in points, a success rate must lie besides: where all are nearly
    /// perfect the standard deviation is next to nothing, and 99.7 % would be an outlier of
    /// 99.99 %. Default 5 %.
    pub fn margin(mut self, margin: Ratio) -> Config {
        self.margin = margin;
        self
    }

    /// Ejects those whose mean time to answer exceeds the median of all by this factor. Default:
    /// not for that, because balancing by latency already spares the slow ones. 1.5 to 1,000.
    pub fn latency(mut self, factor: impl Into<Option<f64>>) -> Config {
        self.latency = factor.into();
        self
    }

    /// Success rates are compared only among so many endpoints with enough attempts. Default 5, at
    /// least 3. (Mean times: always 3.)
    pub fn min_endpoints(mut self, endpoints: u32) -> Config {
        self.min_endpoints = endpoints;
        self
    }

    /// An endpoint's rates mean something after so many attempts in one interval. Default 100, at
    /// least 1.
    pub fn min_attempts(mut self, attempts: u32) -> Config {
        self.min_attempts = attempts;
        self
    }

    /// How often rates are compared; each comparison looks at one interval. Default 10 s, 10 ms to
    /// 1 h.
    pub fn interval(mut self, interval: Duration) -> Config {
        self.interval = interval;
        self
    }

    /// The first ejection lasts this long, the second twice as long, and so on. Each such time
    /// spent in service takes one off the count. Default 30 s, 10 ms to 24 h.
    pub fn base(mut self, base: Duration) -> Config {
        self.base = base;
        self
    }

    /// No ejection is longer. Default 300 s, from the base up to 24 h.
    pub fn max(mut self, max: Duration) -> Config {
        self.max = max;
        self
    }

    /// At most this share of the endpoints is ejected at once, rounded down; one always may be if
    /// there is another. Default 50 %, above zero.
    pub fn max_share(mut self, share: Ratio) -> Config {
        self.max_share = share;
        self
    }

    /// `false`: shadow mode. It counts and reports what it would eject, and all stay in service.
    /// Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    pub(crate) fn is_enforced(&self) -> bool {
        self.enforce
    }

    /// How many of `endpoints` may be ejected at once.
    pub(super) fn limit(&self, endpoints: usize) -> usize {
        let share = self.max_share.of(endpoints as u64) as usize;
        share.max(1).min(endpoints.saturating_sub(1))
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        ensure(
            self.consecutive != Some(0),
            "eject.consecutive",
            "must be at least 1, or be left out",
        )?;
        ensure(
            self.success_rate
                .is_none_or(|factor| (0.5..=10.0).contains(&factor)),
            "eject.success_rate",
            "must lie between 0.5 and 10 standard deviations",
        )?;
        ensure(
            self.latency
                .is_none_or(|factor| (1.5..=1_000.0).contains(&factor)),
            "eject.latency",
            "must lie between 1.5 and 1,000 times the median",
        )?;
        ensure(
            self.min_endpoints >= 3,
            "eject.min_endpoints",
            "must be at least 3: of two nobody can say which is the outlier",
        )?;
        ensure(
            self.min_attempts > 0,
            "eject.min_attempts",
            "must be at least 1",
        )?;
        ensure(
            self.interval >= SHORTEST && self.interval <= Duration::from_secs(3600),
            "eject.interval",
            "must lie between 10 ms and 1 h",
        )?;
        ensure(
            self.base >= SHORTEST && self.base <= DAY,
            "eject.base",
            "must lie between 10 ms and 24 h",
        )?;
        ensure(
            self.max >= self.base && self.max <= DAY,
            "eject.max",
            "must lie between the base and 24 h",
        )?;
        ensure(
            self.max_share > Ratio::ZERO,
            "eject.max_share",
            "must be above 0; to eject nothing, leave ejection out or use shadow mode",
        )
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
