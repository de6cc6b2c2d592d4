//! One check: from results to a status.

use std::time::Duration;

use super::config::{Config, NAME_RULE, is_name};
use crate::config::{ConfigError, ensure};
use crate::time::Time;

/// The state of one named check.
#[derive(Clone, Debug)]
pub struct Check {
    name: String,
    config: Config,
    state: State,
    last: Option<Last>,
    error: Option<String>,
}

/// What the results in a row have made of it.
#[derive(Clone, Copy, Debug)]
enum State {
    Pending { successes: u32 },
    Up { failures: u32 },
    Down { successes: u32 },
}

/// What is known of a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Too few results to say.
    Pending,
    /// It works.
    Up,
    /// It does not.
    Down,
}

/// A check changed its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub from: Status,
    /// What it is.
    pub to: Status,
}

/// The last result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// When it came.
    pub at: Time,
    /// How long the probe took.
    pub latency: Duration,
    /// So many failures in a row, this one included; zero after a success.
    pub failures: u32,
}

impl Check {
    /// A check without a result.
    ///
    /// # Errors
    /// If `config` or the name cannot work.
    pub fn new(name: impl Into<String>, config: Config) -> Result<Check, ConfigError> {
        let name = name.into();
        ensure(is_name(&name), "health.name", NAME_RULE)?;
        config.check()?;
        Ok(Check {
            name,
            config,
            state: State::Pending { successes: 0 },
            last: None,
            error: None,
        })
    }

    /// When to probe it first, for a `random` number in `[0, 1)`: within the share of the interval
    /// that its jitter is, and within a second, because an instance waits for it to become ready.
    pub fn first(&self, now: Time, random: f64) -> Time {
        now + self.spread(random).min(LONGEST_START.mul_f64(random))
    }

    /// When to probe it again after a probe that started at `started`, for a `random` number in
    /// `[0, 1)`: never sooner than an interval later.
    pub fn next(&self, started: Time, random: f64) -> Time {
        started + self.config.interval + self.spread(random)
    }

    fn spread(&self, random: f64) -> Duration {
        let share = self.config.jitter.as_f64() * random;
        self.config.interval.mul_f64(share)
    }

    /// Takes the result of a probe that took `latency`. The message of a failure is kept, at most
    /// 256 bytes of it, until the check is up.
    pub fn record(
        &mut self,
        result: Result<(), &str>,
        latency: Duration,
        now: Time,
    ) -> Option<Change> {
        let Config {
            up_after,
            down_after,
            ..
        } = self.config;
        let from = self.status();
        self.state = match (self.state, result) {
            (State::Up { .. }, Ok(())) => State::Up { failures: 0 },
            (State::Up { failures }, Err(_)) if failures + 1 < down_after => State::Up {
                failures: failures + 1,
            },
            (State::Up { .. } | State::Pending { .. } | State::Down { .. }, Err(_)) => {
                State::Down { successes: 0 }
            }
            (State::Pending { successes }, Ok(())) if successes + 1 < up_after => State::Pending {
                successes: successes + 1,
            },
            (State::Down { successes }, Ok(())) if successes + 1 < up_after => State::Down {
                successes: successes + 1,
            },
            (State::Pending { .. } | State::Down { .. }, Ok(())) => State::Up { failures: 0 },
        };
        let before = self.last.map_or(0, |last| last.failures);
        let failures = match result {
            Ok(()) => 0,
            Err(_) => before.saturating_add(1),
        };
        self.last = Some(Last {
            at: now,
            latency,
            failures,
        });
        let to = self.status();
        match result {
            Err(message) => self.error = Some(shortened(message)),
            Ok(()) if to == Status::Up => self.error = None,
            Ok(()) => {}
        }
        (from != to).then_some(Change { from, to })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is known of the dependency.
    pub fn status(&self) -> Status {
        match self.state {
            State::Pending { .. } => Status::Pending,
            State::Up { .. } => Status::Up,
            State::Down { .. } => Status::Down,
        }
    }

    /// The last result; `None` before the first.
    pub fn last(&self) -> Option<Last> {
        self.last
    }

    /// Why the last probe that failed did so, since the check was last up.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Whether the instance is not ready without it.
    pub fn is_critical(&self) -> bool {
        self.config.critical
    }

    /// Whether it is probed only for the deep document.
    pub fn is_on_demand(&self) -> bool {
        self.config.on_demand
    }

    /// The groups of dependencies it belongs to.
    pub fn groups(&self) -> &[String] {
        &self.config.groups
    }

    /// When a probe has failed.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }
}

impl Status {
    /// A stable name for logs and JSON: `pending`, `ok`, `error`.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Up => "ok",
            Status::Down => "error",
        }
    }
}

/// The start of a message, cut between characters.
fn shortened(message: &str) -> String {
    let end = (0..=message.len().min(LONGEST_MESSAGE))
        .rev()
        .find(|&end| message.is_char_boundary(end));
    message[..end.unwrap_or(0)].to_owned()
}

/// Over how long the first probes of instances that start together are spread, at most.
const LONGEST_START: Duration = Duration::from_secs(1);

/// Bytes of a failure's message that are kept: a sentence, not a page of HTML.
const LONGEST_MESSAGE: usize = 256;
