//! Where messages are kept.
//!
//! As with logs of sagas a store puts things on the disk and says when they are there. What it must
//! know is where a message is, because nothing may happen to one that is not there any more: a change
//! says from which state it leads, and changes nothing of a message in another one.

use super::message::{Kept, Note, State};
use crate::event::Stamp;
use crate::store::{StoreError, wall};

/// A message as it is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// The queue.
    pub queue: String,
    /// Its id, once in its queue.
    pub id: String,
    /// The key of its order.
    pub key: Option<String>,
    /// The hash of what makes it the same message.
    pub hash: Vec<u8>,
    /// What is delivered.
    pub payload: Vec<u8>,
    /// When it is pushed.
    pub pushed: Stamp,
    /// No delivery begins later.
    pub expires: Stamp,
    /// Messages that may wait or be dead in the queue, this one included. A store that one process has
    /// need not look: the queue has counted them.
    pub most: usize,
    /// Bytes that the payloads of those may have.
    pub most_bytes: usize,
}

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there, at this place.
    New(i64),
    /// It was there: with this id and hash.
    Same(Box<Kept>),
    /// Another one has this id.
    Other,
    /// There is no room for it.
    Full(Counts),
}

/// What is in a queue, over all processes that share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that wait.
    pub waiting: usize,
    /// Dead letters.
    pub dead: usize,
    /// Bytes of the payloads of both.
    pub bytes: usize,
}

/// A message that waits, as it comes to whoever delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Arrivals go on behind it. It is another one than the place of a message that was dead before.
    pub number: i64,
    /// The message.
    pub message: Kept,
}

/// What happens to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One that waits: an attempt is about to be made.
    Attempt {
        /// Which one.
        attempt: u32,
    },
    /// One that waits: it failed, or was not even tried, and is tried again.
    Again {
        /// How many attempts it has had.
        attempts: u32,
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
///
/// A store that several processes share also says which of them delivers a queue: [`Store::own`] and what
/// follows it. Without them everything is the one process's.
pub trait Store: Send + Sync + 'static {
    /// What time it is: that of this machine, unless the store knows better. It is asked once for each
    /// queue that is opened.
    fn time(&self) -> Stamp {
        wall()
    }

    /// Reserves a queue for whoever asks in this process; `false` if somebody has it.
    fn claim(&self, queue: &str) -> bool;

    /// Gives a queue back.
    fn release(&self, queue: &str);

    /// Puts a message there.
    fn put(&self, message: NewMessage) -> impl Future<Output = Result<Put, StoreError>> + Send;

    /// Changes a message; `false` if there is none at this place in the state from which that leads.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if it is one that waits and another process delivers the queue.
    fn change(
        &self,
        queue: &str,
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

    /// Whether other processes push into the same queues, and may deliver them.
    fn is_shared(&self) -> bool {
        false
    }

    /// Takes a queue for delivering it; `false` if another process has it.
    fn own(&self, queue: &str) -> impl Future<Output = Result<bool, StoreError>> + Send {
        let _ = queue;
        async { Ok(true) }
    }

    /// Gives up delivering a queue, at once as far as this process goes.
    fn disown(&self, queue: &str) {
        let _ = queue;
    }

    /// Waits until a delivery may begin.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if another process may deliver the queue.
    fn owns(&self, queue: &str) -> impl Future<Output = Result<(), StoreError>> + Send {
        let _ = queue;
        async { Ok(()) }
    }

    /// Waits until it may be worthwhile to try [`Store::own`] again.
    fn unowned(&self, queue: &str) -> impl Future<Output = ()> + Send {
        let _ = queue;
        std::future::pending()
    }

    /// Messages that wait, behind an arrival, in the order in which they came. None that comes later
    /// stands before one that was told.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if another process may deliver the queue.
    fn arrivals(
        &self,
        queue: &str,
        after: i64,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Arrival>, StoreError>> + Send {
        async move {
            let kept = self.messages(queue, Some(State::Waiting), after, most);
            let arrival = |message: Kept| Arrival {
                number: message.place,
                message,
            };
            Ok(kept.await?.into_iter().map(arrival).collect())
        }
    }

    /// Waits until there may be arrivals: for ever, unless others push into the queue.
    fn arrived(&self, queue: &str) -> impl Future<Output = ()> + Send {
        let _ = queue;
        std::future::pending()
    }

    /// What is in a queue; `None` if the one process has counted it.
    fn counts(
        &self,
        queue: &str,
    ) -> impl Future<Output = Result<Option<Counts>, StoreError>> + Send {
        let _ = queue;
        async { Ok(None) }
    }
}

/// Adds a note; old ones go when there are too many.
pub(crate) fn noted(notes: &mut Vec<Note>, note: Note) {
    notes.push(note);
    let surplus = notes.len().saturating_sub(MOST_NOTES);
    notes.drain(..surplus);
}

/// What people did about one message, on its record.
pub(crate) const MOST_NOTES: usize = 20;
