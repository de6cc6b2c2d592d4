//! Messages that die with the process.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Memory;
use crate::event::Stamp;
use crate::queue::store::{Change, NewMessage, Put, Store, noted};
use crate::queue::{Kept, State};
use crate::store::StoreError;

#[derive(Debug, Default)]
pub(super) struct Messages {
    claimed: HashSet<String>,
    /// By their places.
    all: BTreeMap<i64, One>,
    places: HashMap<(String, String), i64>,
    last: i64,
}

#[derive(Debug)]
struct One {
    queue: String,
    hash: Vec<u8>,
    payload: Vec<u8>,
    kept: Kept,
}

impl Store for Memory {
    fn claim(&self, queue: &str) -> bool {
        self.messages().claimed.insert(queue.to_owned())
    }

    fn release(&self, queue: &str) {
        self.messages().claimed.remove(queue);
    }

    async fn put(&self, message: NewMessage) -> Result<Put, StoreError> {
        Ok(self.messages().put(message))
    }

    async fn change(&self, _queue: &str, place: i64, change: Change) -> Result<bool, StoreError> {
        let mut messages = self.messages();
        let one = messages.all.get_mut(&place);
        let Some(one) = one.filter(|one| one.kept.state == change.from()) else {
            return Ok(false);
        };
        one.change(change);
        Ok(true)
    }

    async fn read(&self, place: i64) -> Result<Option<(Kept, Vec<u8>)>, StoreError> {
        let messages = self.messages();
        let one = messages.all.get(&place);
        Ok(one.map(|one| (one.kept.clone(), one.payload.clone())))
    }

    async fn message(&self, queue: &str, id: &str) -> Result<Option<Kept>, StoreError> {
        let messages = self.messages();
        let place = messages.places.get(&(queue.to_owned(), id.to_owned()));
        Ok(place.map(|place| messages.all[place].kept.clone()))
    }

    async fn messages(
        &self,
        queue: &str,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Kept>, StoreError> {
        let messages = self.messages();
        let behind = messages.all.range(after.saturating_add(1)..);
        let is_it =
            |one: &&One| one.queue == queue && state.is_none_or(|state| one.kept.state == state);
        let found = behind.map(|(_, one)| one).filter(is_it).take(most);
        Ok(found.map(|one| one.kept.clone()).collect())
    }

    async fn forget_messages(
        &self,
        queue: &str,
        before: Stamp,
        most: usize,
    ) -> Result<usize, StoreError> {
        let mut messages = self.messages();
        let has_ended = |one: &One| {
            let ended = matches!(one.kept.state, State::Delivered | State::Dropped);
            ended && one.queue == queue && one.kept.ended.is_some_and(|at| at < before)
        };
        let ended = messages.all.iter().filter(|(_, one)| has_ended(one));
        let mut ended: Vec<_> = ended.map(|(place, one)| (one.kept.ended, *place)).collect();
        ended.sort();
        ended.truncate(most);
        for (_, place) in &ended {
            if let Some(one) = messages.all.remove(place) {
                messages.places.remove(&(one.queue, one.kept.id));
            }
        }
        Ok(ended.len())
    }
}

impl Messages {
    fn put(&mut self, message: NewMessage) -> Put {
        let name = (message.queue.clone(), message.id.clone());
        if let Some(place) = self.places.get(&name) {
            let one = &self.all[place];
            let is_same = one.hash == message.hash;
            return if is_same {
                Put::Same(Box::new(one.kept.clone()))
            } else {
                Put::Other
            };
        }
        self.last += 1;
        let kept = Kept {
            place: self.last,
            id: message.id,
            key: message.key,
            size: message.payload.len(),
            state: State::Waiting,
            pushed: message.pushed,
            expires: message.expires,
            attempts: 0,
            due: message.pushed,
            error: None,
            ended: None,
            notes: Vec::new(),
        };
        let one = One {
            queue: message.queue,
            hash: message.hash,
            payload: message.payload,
            kept,
        };
        self.places.insert(name, self.last);
        self.all.insert(self.last, one);
        Put::New(self.last)
    }
}

impl One {
    fn change(&mut self, change: Change) {
        let kept = &mut self.kept;
        match change {
            Change::Attempt { attempt } => kept.attempts = attempt,
            Change::Again {
                attempts,
                due,
                error,
            } => (kept.attempts, kept.due, kept.error) = (attempts, due, Some(error)),
            Change::Delivered { at } => {
                (kept.state, kept.ended) = (State::Delivered, Some(at));
                self.payload = Vec::new();
            }
            Change::Died { at, error } => {
                (kept.state, kept.ended, kept.error) = (State::Dead, Some(at), Some(error));
            }
            Change::Retried { note, expires } => {
                (kept.state, kept.ended, kept.attempts) = (State::Waiting, None, 0);
                (kept.due, kept.expires) = (note.at, expires);
                noted(&mut kept.notes, note);
            }
            Change::Dropped { note } => {
                (kept.state, kept.ended) = (State::Dropped, Some(note.at));
                self.payload = Vec::new();
                noted(&mut kept.notes, note);
            }
        }
    }
}
