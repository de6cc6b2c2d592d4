//! Active checks: what a series of probes says about one endpoint, and when to probe next.
//!
//! A [`Checker`] does no I/O. Its driver asks [`Checker::next`] when to probe, probes, and reports
//! with [`Checker::record`]; a probe that takes longer than [`Config::longest`] has failed.
//!
//! One lost probe says little, so a change needs several results in a row: three failures to go
//! down, two successes to come up, by default (HAProxy's `fall` and `rise`). Only the first success
//! of an endpoint of which nothing is known settles it at once.
//!
//! **Jitter.** Instances that were deployed together, or that all noticed the same outage, must not
//! probe together: the first probe comes at a random moment of a whole interval, and every later
//! interval is stretched or shrunk by up to the jitter.
//!
//! It does not know what a probe is, nor what the balancer makes of a change.

use std::time::Duration;

use crate::config::{ConfigError, DAY, ensure};
use crate::ratio::Ratio;
use crate::time::{Time, nanos};

/// The checks of one endpoint.
#[derive(Clone, Debug)]
pub struct Checker {
    config: Config,
    state: State,
    /// Results in a row that speak against the state.
    against: u32,
    probed: Option<Time>,
}

/// What the probes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet: no probe has succeeded, and too few have failed. Such an endpoint is used.
    Unknown,
    /// It answers.
    Up,
    /// It does not, or has not yet done so often enough.
    Down,
}

/// The state of an endpoint changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It answers.
    Up,
    /// It no longer does.
    Down,
}

impl Checker {
    /// A checker of an endpoint that was never probed.
    ///
    /// # Errors
    /// If `config` cannot work; the error names the setting and the mend.
    pub fn new(config: Config) -> Result<Checker, ConfigError> {
        config.check()?;
        Ok(Checker {
            state: match config.initial {
                Initial::Unknown => State::Unknown,
                Initial::Down => State::Down,
            },
            against: 0,
            probed: None,
            config,
        })
    }

    /// The same endpoint under other settings: what is known of it stays.
    pub(crate) fn under(&self, config: Config) -> Checker {
        Checker {
            config,
            ..self.clone()
        }
    }

    /// When to probe next, asked at `now`; `unit` is a random number from `[0, 1)`. The first probe
    /// comes within an interval, or within a second if the endpoint waits for it to be used.
    pub fn next(&self, now: Time, unit: f64) -> Time {
        let interval = self.config.interval;
        match (self.probed, self.config.initial) {
            (None, Initial::Unknown) => now + interval.mul_f64(unit),
            (None, Initial::Down) => now + interval.min(Duration::from_secs(1)).mul_f64(unit),
            (Some(_), _) => {
                let jitter = self.config.jitter.as_f64();
                now + interval.mul_f64(1.0 + jitter * (2.0 * unit - 1.0))
            }
        }
    }

    /// Notes the result of a probe. All changes of state are made here.
    pub fn record(&mut self, ok: bool, now: Time) -> Option<Change> {
        self.probed = Some(now);
        match (self.state, ok) {
            (State::Up, true) | (State::Down, false) => {
                self.against = 0;
                None
            }
            (State::Unknown, true) => self.change(State::Up),
            (State::Down, true) => self.lean(self.config.healthy, State::Up),
            (State::Unknown | State::Up, false) => self.lean(self.config.unhealthy, State::Down),
        }
    }

    /// What is known.
    pub fn state(&self) -> State {
        self.state
    }

    /// When it was probed last.
    pub fn probed(&self) -> Option<Time> {
        self.probed
    }

    /// Its settings.
    pub fn config(&self) -> Config {
        self.config
    }

    /// One more result against the state, which gives way to `other` at the limit.
    fn lean(&mut self, limit: u32, other: State) -> Option<Change> {
        self.against += 1;
        if self.against < limit {
            return None;
        }
        self.change(other)
    }

    fn change(&mut self, state: State) -> Option<Change> {
        self.state = state;
        self.against = 0;
        match state {
            State::Unknown => None,
            State::Up => Some(Change::Up),
            State::Down => Some(Change::Down),
        }
    }
}

/// What an endpoint counts as before its first probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Usable: right where waiting for a probe would delay a start.
    Unknown,
    /// Not usable until it has succeeded often enough: right for newcomers that start slowly.
    Down,
}

/// How often to probe, and how many results make a change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    interval: Duration,
    timeout: Duration,
    jitter: Ratio,
    healthy: u32,
    unhealthy: u32,
    initial: Initial,
}

impl Default for Config {
    /// Every 5 s, 1 s to answer; down after 3 failures, up after 2 successes.
    fn default() -> Config {
        Config {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            jitter: Ratio::percent(20),
            healthy: 2,
            unhealthy: 3,
            initial: Initial::Unknown,
        }
    }
}

impl Config {
    /// From the end of one probe to the next. Default 5 s, 10 ms to 24 h.
    pub fn interval(mut self, interval: Duration) -> Config {
        self.interval = interval;
        self
    }

    /// A probe that takes longer has failed. Default 1 s, 1 ms to 24 h.
    pub fn timeout(mut self, timeout: Duration) -> Config {
        self.timeout = timeout;
        self
    }

    /// Every interval is stretched or shrunk by up to this share. Default 20 %, at most 90 %.
    pub fn jitter(mut self, jitter: Ratio) -> Config {
        self.jitter = jitter;
        self
    }

    /// So many successes in a row bring it up. Default 2, 1 to 1,000.
    pub fn healthy_after(mut self, successes: u32) -> Config {
        self.healthy = successes;
        self
    }

    /// So many failures in a row take it down. Default 3, 1 to 1,000.
    pub fn unhealthy_after(mut self, failures: u32) -> Config {
        self.unhealthy = failures;
        self
    }

    /// What it counts as before its first probe. Default [`Initial::Unknown`].
    pub fn initial(mut self, initial: Initial) -> Config {
        self.initial = initial;
        self
    }

    /// How long a driver waits for the answer to a probe.
    pub fn longest(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        ensure(
            self.interval >= Duration::from_millis(10) && self.interval <= DAY,
            "check.interval",
            "must lie between 10 ms and 24 h",
        )?;
        ensure(
            nanos(self.timeout) >= 1_000_000 && self.timeout <= DAY,
            "check.timeout",
            "must lie between 1 ms and 24 h",
        )?;
        ensure(
            self.jitter <= Ratio::percent(90),
            "check.jitter",
            "may be at most 90 %, or probes would follow each other at once",
        )?;
        ensure(
            (1..=1_000).contains(&self.healthy),
            "check.healthy_after",
            "must lie between 1 and 1,000",
        )?;
        ensure(
            (1..=1_000).contains(&self.unhealthy),
            "check.unhealthy_after",
            "must lie between 1 and 1,000",
        )
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    /// Feeds results (`+` and `-`) and writes the state after each: `?`, `u` or `d`.
    fn states(config: Config, results: &str) -> String {
        let mut checker = Checker::new(config).unwrap();
        let letter = |state| match state {
            State::Unknown => '?',
            State::Up => 'u',
            State::Down => 'd',
        };
        results
            .chars()
            .map(|result| {
                let before = checker.state();
                let change = checker.record(result == '+', Time::ZERO);
                assert_eq!(change.is_some(), before != checker.state());
                letter(checker.state())
            })
            .collect()
    }

    #[test]
    fn a_change_needs_results_in_a_row() {
        let table = [
            (Config::default(), "+", "u"),
            (Config::default(), "--+", "??u"),
            (Config::default(), "---+++", "??dduu"),
            (Config::default(), "+--+---", "uuuuuud"),
            (Config::default(), "---+-+-++", "??ddddddu"),
            (Config::default().unhealthy_after(1), "+-+-++", "uddddu"),
            (Config::default().healthy_after(1), "---+---", "??duuud"),
            (Config::default().initial(Initial::Down), "+-++", "dddu"),
        ];
        for (config, results, expected) in table {
            assert_eq!(states(config, results), expected, "{results}");
        }
    }

    #[test]
    fn impossible_settings_are_refused() {
        let table = [
            (Config::default().interval(Duration::ZERO), "check.interval"),
            (Config::default().interval(Duration::MAX), "check.interval"),
            (Config::default().timeout(Duration::ZERO), "check.timeout"),
            (Config::default().jitter(Ratio::ONE), "check.jitter"),
            (Config::default().healthy_after(0), "check.healthy_after"),
            (
                Config::default().unhealthy_after(0),
                "check.unhealthy_after",
            ),
        ];
        for (config, setting) in table {
            assert_eq!(Checker::new(config).unwrap_err().setting(), setting);
        }
    }

    /// Forty instances that start at the same moment, for a minute: no tenth of a second sees more
    /// than a quarter of them, and the number of probes is that of the interval.
    #[test]
    fn forty_instances_do_not_probe_as_a_herd() {
        let mut tenths = vec![0; 600];
        for instance in 0..40 {
            let mut rng = Rng::new(instance);
            let mut checker = Checker::new(Config::default()).unwrap();
            let mut now = Time::ZERO;
            loop {
                now = checker.next(now, rng.unit());
                let Some(count) = tenths.get_mut((now.as_nanos() / 100_000_000) as usize) else {
                    break;
                };
                *count += 1;
                checker.record(true, now);
            }
        }
        assert!(tenths.iter().all(|&probes| probes <= 6), "{tenths:?}");
        let probes: u32 = tenths.iter().sum();
        assert!((440..=520).contains(&probes), "{probes}");
    }

    proptest! {
        #[test]
        fn the_next_probe_lies_within_the_jitter(
            millis in 10u64..100_000,
            percent in 0u32..=90,
            unit in 0.0..1.0f64,
        ) {
            let interval = Duration::from_millis(millis);
            let config = Config::default().interval(interval).jitter(Ratio::percent(percent));
            let mut checker = Checker::new(config).unwrap();
            prop_assert!(checker.next(Time::ZERO, unit) <= Time::ZERO + interval);
            checker.record(true, Time::ZERO);
            let wait = checker.next(Time::ZERO, unit).since(Time::ZERO).as_secs_f64();
            let off = (wait / interval.as_secs_f64() - 1.0).abs();
            prop_assert!(off <= f64::from(percent) / 100.0 + 1e-6);
        }

        /// The model: the state changes when the last results are all against it.
        #[test]
        fn equals_looking_back(results in proptest::collection::vec(any::<bool>(), 1..60)) {
            let mut checker = Checker::new(Config::default()).unwrap();
            let mut state = State::Unknown;
            let mut since = 0;
            for at in 0..results.len() {
                checker.record(results[at], Time::ZERO);
                let run = results[since..=at].iter().rev();
                let run = run.take_while(|&&ok| ok == results[at]).count();
                let next = match (state, results[at]) {
                    (State::Unknown, true) => State::Up,
                    (State::Down, true) if run >= 2 => State::Up,
                    (State::Unknown | State::Up, false) if run >= 3 => State::Down,
                    _ => state,
                };
                if next != state {
                    (state, since) = (next, at + 1);
                }
                prop_assert_eq!(checker.state(), state);
            }
        }
    }
}
