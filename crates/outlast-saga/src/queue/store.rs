//! Where messages are kept.
//!
//! As with logs of sagas a store puts things on the disk and says when they are there. What it must
//! know is where a message is, because nothing may happen to one that is not there any more: a change
//! says from which state it leads, and changes nothing of a message in another one.

use super::message::{Kept, Note, State};
use crate::event::Stamp;
use crate::store::StoreError;

/// A message as it is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// The queue.
    pub queue: String,
    /// Its id, once in its queue.
    pub id: String,
    /// The key of its order.
    pub key: Option<String>,
    /// The hash of key and payload.
    pub hash: Vec<u8>,
    /// What is delivered.
    pub payload: Vec<u8>,
    /// When it is pushed.
    pub pushed: Stamp,
    /// No delivery begins later.
    pub expires: Stamp,
}

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there, at this place.
    New(i64),
    /// It was there: with this id, key and payload.
    Same(Box<Kept>),
    /// Another one has this id.
    Other,
}

/// What happens to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One that waits: an attempt is about to be made.
    Attempt {
        /// Which one.
        attempt: u32,
    },
    /// One that waits: it failed, and is tried again.
    Again {
        /// No sooner than this.
        due: Stamp,
        /// Why.
        error: String,
    },
    /// One that waits: it was acknowledged. Its payload is not kept.
    Delivered {
        /// When.
        at: Stamp,
    },
    /// One that waits: it is a dead letter.
    Died {
        /// When.
        at: Stamp,
        /// Why.
        error: String,
    },
    /// A dead one: somebody has it tried again, from the first attempt on.
    Retried {
        /// Who and why.
        note: Note,
        /// No delivery begins later.
        expires: Stamp,
    },
    /// A dead one: somebody dropped it. Its payload is not kept.
    Dropped {
        /// Who and why.
        note: Note,
    },
}

impl Change {
    /// In which state a message has to be for it.
    pub fn from(&self) -> State {
        match self {
            Change::Attempt { .. }
            | Change::Again { .. }
            | Change::Delivered { .. }
            | Change::Died { .. } => State::Waiting,
            Change::Retried { .. } | Change::Dropped { .. } => State::Dead,
        }
    }
}

/// Where messages are kept. Everything is bounded by whoever calls: lists by their `most`.
pub trait Store: Send + Sync + 'static {
    /// Reserves a queue for whoever asks; `false` if somebody has it, because two that deliver it would
    /// not keep its order.
    fn claim(&self, queue: &str) -> bool;

    /// Gives a queue back.
    fn release(&self, queue: &str);

    /// Puts a message there.
    fn put(&self, message: NewMessage) -> impl Future<Output = Result<Put, StoreError>> + Send;

    /// Changes a message; `false` if there is none at this place in the state from which that leads.
    fn change(
        &self,
        place: i64,
        change: Change,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// A message with its payload, which is empty when it is delivered or dropped.
    fn read(
        &self,
        place: i64,
    ) -> impl Future<Output = Result<Option<(Kept, Vec<u8>)>, StoreError>> + Send;

    /// One message.
    fn message(
        &self,
        queue: &str,
        id: &str,
    ) -> impl Future<Output = Result<Option<Kept>, StoreError>> + Send;

    /// Messages of a queue behind a place, in the order of pushes; in one state, or in any.
    fn messages(
        &self,
        queue: &str,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Kept>, StoreError>> + Send;

    /// Deletes messages that were delivered or dropped before a time; how many.
    fn forget_messages(
        &self,
        queue: &str,
        before: Stamp,
        most: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
}

/// Adds a note; old ones go when there are too many.
pub(crate) fn noted(notes: &mut Vec<Note>, note: Note) {
    notes.push(note);
    let surplus = notes.len().saturating_sub(MOST_NOTES);
    notes.drain(..surplus);
}

/// What people did about one message, on its record.
const MOST_NOTES: usize = 20;
