//! Messages: as they are pushed, as they are kept, and what came of a delivery.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::event::Stamp;

/// A message to be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub(super) id: String,
    pub(super) key: Option<String>,
    pub(super) payload: Vec<u8>,
    pub(super) within: Option<Duration>,
    same_by: Option<Vec<u8>>,
}

impl Message {
    /// An empty one. The id is what makes a push idempotent: the same id with the same key and payload is
    /// the same message. 1 to 200 bytes.
    pub fn new(id: impl Into<String>) -> Message {
        Message {
            id: id.into(),
            key: None,
            payload: Vec::new(),
            within: None,
            same_by: None,
        }
    }

    /// Messages of one key are delivered one after the other, in the order in which they were pushed. At
    /// most 200 bytes. Default: none, so it waits for no other.
    pub fn key(mut self, key: impl Into<String>) -> Message {
        self.key = Some(key.into());
        self
    }

    /// What is delivered. Default: nothing.
    pub fn bytes(mut self, payload: impl Into<Vec<u8>>) -> Message {
        self.payload = payload.into();
        self
    }

    /// What is delivered, as JSON.
    ///
    /// # Errors
    /// If it cannot be JSON.
    pub fn json(self, payload: &impl Serialize) -> Result<Message, serde_json::Error> {
        serde_json::to_vec(payload).map(|payload| self.bytes(payload))
    }

    /// No delivery begins later than this after the push; it is a dead letter then. Default, and at
    /// most: [`Config::max_age`](super::Config::max_age) of its queue.
    pub fn within(mut self, time: Duration) -> Message {
        self.within = Some(time);
        self
    }

    /// What makes a second push with this id the same message, for payloads of which a part may differ:
    /// a request that is sent again has another trace. Default: key and payload.
    pub fn same_by(mut self, what: &[u8]) -> Message {
        self.same_by = Some(Sha256::digest(what).to_vec());
        self
    }

    /// The hash of what makes it the same message.
    pub(super) fn hash(&self) -> Vec<u8> {
        if let Some(hash) = &self.same_by {
            return hash.clone();
        }
        let mut digest = Sha256::new();
        // The length in front of the key: no other key and payload give the same bytes.
        let length = self.key.as_ref().map_or(u64::MAX, |key| key.len() as u64);
        digest.update(length.to_be_bytes());
        digest.update(self.key.as_deref().unwrap_or_default());
        digest.update(&self.payload);
        digest.finalize().to_vec()
    }
}

/// What a handler is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub(super) id: String,
    pub(super) key: Option<String>,
    pub(super) payload: Vec<u8>,
    pub(super) attempt: u32,
    pub(super) pushed: Stamp,
}

impl Delivery {
    /// The id of the message, the same at every attempt. A receiver that does its work once for an id
    /// has each message's effect once.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key of its order.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// What was pushed.
    pub fn bytes(&self) -> &[u8] {
        &self.payload
    }

    /// What was pushed, from JSON.
    ///
    /// # Errors
    /// A permanent one, if it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, DeliveryError> {
        let read = serde_json::from_slice(&self.payload);
        read.map_err(|error| DeliveryError::permanent(format!("it is something else: {error}")))
    }

    /// Which attempt it is, from 1 on.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When it was pushed.
    pub fn pushed(&self) -> Stamp {
        self.pushed
    }
}

/// Why a message was not delivered, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryError {
    /// It was not, and may be the next time.
    Transient {
        /// Why.
        error: String,
        /// Not before this.
        after: Option<Duration>,
    },
    /// It was not, and never will be: it is a dead letter at once.
    Permanent(String),
    /// Nobody knows: it is delivered again.
    Unknown(String),
    /// It was not even tried: something on this side had no room for it. It waits, and has lost no
    /// attempt; only its age is a bound.
    NotMade {
        /// Why.
        error: String,
        /// Not before this.
        after: Option<Duration>,
    },
}

impl DeliveryError {
    /// It was not delivered, and may be the next time.
    pub fn transient(error: impl Into<String>) -> DeliveryError {
        let (error, after) = (error.into(), None);
        DeliveryError::Transient { error, after }
    }

    /// It was not delivered, and may be after a while.
    pub fn transient_after(error: impl Into<String>, after: Duration) -> DeliveryError {
        let (error, after) = (error.into(), Some(after));
        DeliveryError::Transient { error, after }
    }

    /// It was not delivered, and never will be.
    pub fn permanent(error: impl Into<String>) -> DeliveryError {
        DeliveryError::Permanent(error.into())
    }

    /// It was not even tried, because of a limit on this side: it loses no attempt.
    pub fn not_made(error: impl Into<String>) -> DeliveryError {
        let (error, after) = (error.into(), None);
        DeliveryError::NotMade { error, after }
    }

    /// It was not even tried, and need not be before a while.
    pub fn not_made_after(error: impl Into<String>, after: Duration) -> DeliveryError {
        let (error, after) = (error.into(), Some(after));
        DeliveryError::NotMade { error, after }
    }

    /// Nobody knows: a connection was cut after something was sent, an answer did not come.
    pub fn unknown(error: impl Into<String>) -> DeliveryError {
        DeliveryError::Unknown(error.into())
    }
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It is to be delivered.
    Waiting,
    /// It could not be, and somebody has to look.
    Dead,
    /// Its delivery was acknowledged.
    Delivered,
    /// Somebody dropped it.
    Dropped,
}

impl State {
    /// A stable snake_case name.
    pub const fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Dead => "dead",
            State::Delivered => "delivered",
            State::Dropped => "dropped",
        }
    }

    pub(crate) const fn number(self) -> i64 {
        match self {
            State::Waiting => 0,
            State::Dead => 1,
            State::Delivered => 20,
            State::Dropped => 21,
        }
    }

    pub(crate) fn of(number: i64) -> Option<State> {
        let all = [
            State::Waiting,
            State::Dead,
            State::Delivered,
            State::Dropped,
        ];
        all.into_iter().find(|state| state.number() == number)
    }
}

/// A message as it is kept, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the order of pushes: lists go on behind it.
    pub place: i64,
    /// Its id.
    pub id: String,
    /// The key of its order.
    pub key: Option<String>,
    /// How many bytes its payload had.
    pub size: usize,
    /// Where it is.
    pub state: State,
    /// When it was pushed.
    pub pushed: Stamp,
    /// No delivery begins later.
    pub expires: Stamp,
    /// How many attempts were made, or may have been; since somebody had it tried again, if somebody did.
    pub attempts: u32,
    /// The next one begins no sooner, while it waits.
    pub due: Stamp,
    /// Why the last attempt failed, or why it is dead.
    pub error: Option<String>,
    /// When it was delivered, died or was dropped.
    pub ended: Option<Stamp>,
    /// What people did about it; the last 20.
    pub notes: Vec<Note>,
}

/// What somebody did about a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub at: Stamp,
    /// What.
    pub how: Hand,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What somebody does about a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hand {
    /// It is tried again, as often as at first, and as long.
    Retry,
    /// It is not wanted any more.
    Drop,
}
