//! What a queue is bounded by.

use std::fmt;
use std::time::Duration;

use outlast_core::backoff::{Backoff, Jitter};

use super::machine::Machine;
use super::message::Message;
use super::pace::Pace;
use crate::definition::Tries;
use crate::event::Stamp;

/// How a queue delivers, and what bounds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub(super) name: String,
    pub(super) most: usize,
    pub(super) bytes: usize,
    pub(super) message_bytes: usize,
    pub(super) concurrency: usize,
    pub(super) timeout: Duration,
    pub(super) tries: Tries,
    pub(super) max_age: Duration,
    pub(super) slowest: f64,
    pub(super) fastest: f64,
    pub(super) remember: Duration,
}

impl Config {
    /// A queue with all defaults. A store holds queues by their names, of up to 64 letters, digits, `-`
    /// and `_`.
    pub fn new(name: impl Into<String>) -> Config {
        let backoff = Backoff::exponential(Duration::from_secs(1))
            .jitter(Jitter::Equal)
            .max(Duration::from_secs(600));
        Config {
            name: name.into(),
            most: 100_000,
            bytes: 1 << 30,
            message_bytes: 1 << 20,
            concurrency: 16,
            timeout: Duration::from_secs(30),
            tries: Tries::new(OUTLASTS_AN_HOUR).backoff(backoff),
            max_age: Duration::from_secs(7 * 86_400),
            slowest: 10.0,
            fastest: 1000.0,
            remember: Duration::from_secs(86_400),
        }
    }

    /// Messages that wait or are dead; a push above it is refused. Default 100,000; 1 to 10,000,000.
    pub fn most(mut self, messages: usize) -> Config {
        self.most = messages;
        self
    }

    /// Bytes of the payloads of those. Default 1 GiB.
    pub fn bytes(mut self, bytes: usize) -> Config {
        self.bytes = bytes;
        self
    }

    /// Bytes of one payload. Default 1 MiB.
    pub fn message_bytes(mut self, bytes: usize) -> Config {
        self.message_bytes = bytes;
        self
    }

    /// Deliveries at once. Default 16; 1 to 10,000.
    pub fn concurrency(mut self, deliveries: usize) -> Config {
        self.concurrency = deliveries;
        self
    }

    /// How long one attempt may take; what comes later is not known. Default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Config {
        self.timeout = timeout;
        self
    }

    /// How often a message is tried before it is a dead letter, and how long it waits in between.
    /// Default: 24 times, with exponential waits from 1 s to 10 min, of which up to a half is random: a
    /// message lives through an outage of an hour even if it is the only one.
    pub fn tries(mut self, tries: Tries) -> Config {
        self.tries = tries;
        self
    }

    /// No delivery begins later than this after the push. Default 7 days.
    pub fn max_age(mut self, age: Duration) -> Config {
        self.max_age = age;
        self
    }

    /// With how many deliveries a second it begins, and to which it falls back in an outage. Default 10;
    /// at least 0.001.
    pub fn slowest(mut self, deliveries_a_second: f64) -> Config {
        self.slowest = deliveries_a_second;
        self
    }

    /// More deliveries a second are never begun. Default 1,000; up to 10,000,000.
    pub fn fastest(mut self, deliveries_a_second: f64) -> Config {
        self.fastest = deliveries_a_second;
        self
    }

    /// How long the id of a message is known after it was delivered or dropped; a push of it is the same
    /// message for so long. Default 24 h.
    pub fn remember(mut self, time: Duration) -> Config {
        self.remember = time;
        self
    }

    /// An empty machine.
    pub(super) fn machine(&self, now: Stamp) -> Machine {
        let pace = Pace::new(self.slowest, self.fastest, now);
        Machine::new(self.tries, self.concurrency, pace)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_name = (1..=64).contains(&self.name.len()) && self.name.bytes().all(fine);
        let attempts = self.tries.attempts();
        let laws = [
            (
                is_name,
                "its name: use up to 64 letters, digits, `-` and `_`",
            ),
            (
                (1..=MOST_MESSAGES).contains(&self.most),
                "most: 1 to 10,000,000 messages",
            ),
            (
                self.message_bytes <= self.bytes,
                "message_bytes: no more than bytes",
            ),
            (
                (1..=10_000).contains(&self.concurrency),
                "concurrency: 1 to 10,000 deliveries",
            ),
            (!self.timeout.is_zero(), "timeout: an attempt needs time"),
            ((1..=1000).contains(&attempts), "tries: 1 to 1,000 attempts"),
            (!self.max_age.is_zero(), "max_age: a message needs time"),
            (
                self.slowest >= 0.001,
                "slowest: at least 0.001 deliveries a second",
            ),
            (
                self.slowest <= self.fastest && self.fastest <= MOST_A_SECOND,
                "fastest: from slowest to 10,000,000 deliveries a second",
            ),
        ];
        match laws.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, law)) => Err(ConfigError(format!("{}: {law}", self.name))),
        }
    }

    /// Whether a message may be in it, but for whether there is room.
    pub(super) fn takes(&self, message: &Message) -> Result<(), String> {
        let (length, most) = (message.payload.len(), self.message_bytes);
        if length > most {
            return Err(format!("it has {length} bytes, and {most} are allowed"));
        }
        if message.id.is_empty() || message.id.len() > MOST_ID {
            return Err(format!("an id has 1 to {MOST_ID} bytes"));
        }
        if message.key.as_ref().is_some_and(|key| key.len() > MOST_ID) {
            return Err(format!("a key has up to {MOST_ID} bytes"));
        }
        Ok(())
    }
}

/// Why a queue cannot be as it is configured, and what is possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Ten waits of 1 s to 512 s and thirteen of 600 s are 8,823 s, and half of that is more than an hour.
const OUTLASTS_AN_HOUR: u32 = 24;
/// All that wait have an entry in memory, of some 200 bytes.
const MOST_MESSAGES: usize = 10_000_000;
const MOST_A_SECOND: f64 = 10_000_000.0;
/// Ids and keys are parts of paths and headers.
const MOST_ID: usize = 200;
