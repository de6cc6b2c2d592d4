//! The settings of a canary.

use std::time::Duration;

use crate::config::{ConfigError, DAY, ensure};
use crate::ratio::Ratio;

/// In which steps traffic moves to the new version, and what moves it back.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub(super) steps: Vec<Ratio>,
    pub(super) min_time: Duration,
    pub(super) min_calls: u32,
    pub(super) limit: Duration,
    pub(super) watch: Duration,
    pub(super) factor: f64,
    pub(super) absolute: Ratio,
    pub(super) slower: Option<f64>,
    pub(super) alpha: Ratio,
    pub(super) beta: Ratio,
    pub(super) promote: bool,
    pub(super) roll_back: bool,
    pub(super) permanent_fails: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            steps: [1, 5, 10, 25, 50, 100].map(Ratio::percent).to_vec(),
            min_time: Duration::from_secs(60),
            min_calls: 100,
            limit: Duration::from_secs(60 * 60),
            watch: Duration::from_secs(5 * 60),
            factor: 2.0,
            absolute: Ratio::new(0.005).expect("half a percent is a ratio"),
            slower: Some(1.25),
            alpha: Ratio::percent(5),
            beta: Ratio::percent(5),
            promote: true,
            roll_back: true,
            permanent_fails: false,
        }
    }
}

impl Config {
    /// Blue-green: from nothing to everything at once, by hand. The baseline is learned before;
    /// for 10 minutes after, the way back is open, and taken automatically if errors rise.
    pub fn blue_green() -> Config {
        Config::default()
            .steps([Ratio::ZERO, Ratio::ONE])
            .watch(Duration::from_secs(10 * 60))
            .promote(false)
    }

    /// The shares of traffic, rising, the last of them all. A first step of nothing only learns
    /// the baseline. Default 1, 5, 10, 25, 50 and 100 %: what is broken for everybody shows at
    /// 1 %, and no step puts more than five times as many users at risk as the one before. At most
    /// 16.
    pub fn steps(mut self, shares: impl IntoIterator<Item = Ratio>) -> Config {
        self.steps = shares.into_iter().collect();
        self
    }

    /// A step takes at least this long, for what shows only with time: caches, leaks, timers.
    /// Default 60 s; at most 24 h.
    pub fn min_time(mut self, time: Duration) -> Config {
        self.min_time = time;
        self
    }

    /// So many calls of the new version (of the old one, in a step of nothing) make a step, and
    /// also what the analysis asks for. Default 100; at least 1.
    pub fn min_calls(mut self, calls: u32) -> Config {
        self.min_calls = calls;
        self
    }

    /// A step that is undecided for this long pauses, for somebody to look. Default 1 h; at least
    /// `min_time`, at most 24 h.
    pub fn limit(mut self, limit: Duration) -> Config {
        self.limit = limit;
        self
    }

    /// With all traffic at the new version, how long the way back stays open. Default 5 minutes;
    /// at most 24 h.
    pub fn watch(mut self, time: Duration) -> Config {
        self.watch = time;
        self
    }

    /// The error ratio that is too much: this many times the baseline's, but at least `absolute`
    /// more than it. What lies between may be decided either way. Default 2 and 0.5 %. `factor`
    /// lies between 1 and 1,000 and `absolute` is above zero: next to a baseline without errors
    /// every factor is nothing.
    pub fn worsening(mut self, factor: f64, absolute: Ratio) -> Config {
        self.factor = factor;
        self.absolute = absolute;
        self
    }

    /// Answers may take this many times as long as the baseline's; `None` does not look. Default
    /// 1.25. From 1 to 100.
    pub fn slower(mut self, factor: Option<f64>) -> Config {
        self.slower = factor;
        self
    }

    /// How often a canary that is no worse may be rolled back, over its whole life: all steps, all
    /// looks, errors and latency together. Default 5 %; between 0.01 % and 50 %.
    pub fn alpha(mut self, alpha: Ratio) -> Config {
        self.alpha = alpha;
        self
    }

    /// How often the errors of a canary that is too bad may pass as good, per step. Default 5 %;
    /// between 0.01 % and 50 %. The test for rollback goes on, so passing is not for ever.
    pub fn beta(mut self, beta: Ratio) -> Config {
        self.beta = beta;
        self
    }

    /// `false`: each step waits for a hand. Default `true`.
    pub fn promote(mut self, automatically: bool) -> Config {
        self.promote = automatically;
        self
    }

    /// `false`: a bad canary is paused where it is, and a hand decides. Default `true`.
    pub fn roll_back(mut self, automatically: bool) -> Config {
        self.roll_back = automatically;
        self
    }

    /// Whether [`Outcome::Permanent`](crate::outcome::Outcome::Permanent) counts as an error: a
    /// new version that refuses good requests answers them definitely. Default `false`.
    pub fn permanent_fails(mut self, fails: bool) -> Config {
        self.permanent_fails = fails;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        ensure(
            self.steps.len() <= 16
                && self.steps.last() == Some(&Ratio::ONE)
                && self.steps.is_sorted_by(|a, b| a < b),
            "canary.steps",
            "must be at most 16 rising shares, the last of them 100%",
        )?;
        ensure(
            self.steps.len() > 1,
            "canary.steps",
            "must hold one before 100%: at 100% there is nothing left to compare with",
        )?;
        ensure(self.limit <= DAY, "canary.limit", "may be at most 24 h")?;
        ensure(
            self.min_time <= self.limit,
            "canary.min_time",
            "may be at most `limit`, or no step could end by itself",
        )?;
        ensure(self.watch <= DAY, "canary.watch", "may be at most 24 h")?;
        ensure(self.min_calls > 0, "canary.min_calls", "must be at least 1")?;
        ensure(
            (1.0..=1000.0).contains(&self.factor),
            "canary.worsening.factor",
            "must lie between 1 and 1,000",
        )?;
        ensure(
            self.absolute > Ratio::ZERO,
            "canary.worsening.absolute",
            "must be above zero, for example 0.5%",
        )?;
        ensure(
            self.slower
                .is_none_or(|factor| (1.0..=100.0).contains(&factor)),
            "canary.slower",
            "must lie between 1 and 100; leave it out not to look at latency",
        )?;
        let rate = |rate: Ratio| (0.0001..=0.5).contains(&rate.as_f64());
        let mend = "must lie between 0.01% and 50%";
        ensure(rate(self.alpha), "canary.alpha", mend)?;
        ensure(rate(self.beta), "canary.beta", mend)
    }
}
