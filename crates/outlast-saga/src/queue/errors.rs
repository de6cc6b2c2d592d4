//! Why a queue could not be opened, a message not pushed, or nothing done about a dead letter.

use std::fmt;

use super::config::ConfigError;
use super::message::State;
use crate::store::StoreError;

/// Why a queue could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// It cannot be as it is configured.
    Config(ConfigError),
    /// Somebody has it open: clone that one.
    Taken,
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Config(error) => error.fmt(f),
            OpenError::Taken => f.write_str("the queue is open already: clone that one"),
            OpenError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

/// Why a message could not be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// The message cannot be.
    Message(String),
    /// There is no room for it. Those that wait or are dead count.
    Full {
        /// How many there are.
        messages: usize,
        /// How many bytes their payloads have.
        bytes: usize,
    },
    /// Another message has this id: with another key or payload.
    Other,
    /// The store failed. It may be there all the same: push it again with the same id.
    Store(StoreError),
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Message(why) => write!(f, "the message cannot be taken: {why}"),
            PushError::Full { messages, bytes } => write!(
                f,
                "the queue is full: it has {messages} messages and {bytes} bytes; try again later"
            ),
            PushError::Other => f.write_str("another message has this id"),
            PushError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PushError {}

/// Why nothing could be done about a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandError {
    /// There is no message with this id.
    NoMessage,
    /// It is no dead letter.
    NotDead(State),
    /// Who or why is empty, or longer than 1,000 bytes.
    Note,
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for HandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandError::NoMessage => f.write_str("there is no message with this id"),
            HandError::NotDead(state) => {
                write!(f, "it is no dead letter: it is {}", state.name())
            }
            HandError::Note => f.write_str("say who and why, in up to 1,000 bytes each"),
            HandError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HandError {}

/// Somebody delivers the queue already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs;

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue is delivered already")
    }
}

impl std::error::Error for Runs {}
