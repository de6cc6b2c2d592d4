//! Logs and messages that die with the process: for tests and the simulator.

#[cfg(feature = "runner")]
mod messages;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Begun, Listed, NewSaga, Pause, State, Store, StoreError};
use crate::event::{Record, Stamp};

/// Logs that die with the process.
#[derive(Debug, Default)]
pub struct Memory {
    kept: Mutex<Kept>,
    #[cfg(feature = "runner")]
    messages: Mutex<messages::Messages>,
}

#[derive(Debug, Default)]
struct Kept {
    sagas: Vec<(Listed, String, Vec<Record>)>,
    places: HashMap<String, usize>,
    pauses: BTreeMap<String, Pause>,
}

impl Memory {
    /// Without any.
    pub fn new() -> Memory {
        Memory::default()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "runner")]
    fn messages(&self) -> MutexGuard<'_, messages::Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    async fn begin(&self, saga: NewSaga) -> Result<Begun, StoreError> {
        let mut kept = self.kept();
        if let Some(&place) = kept.places.get(&saga.id) {
            let (listed, input, _) = &kept.sagas[place];
            let same = *input == saga.input_hash && listed.definition == saga.definition;
            return Ok(if same { Begun::Same } else { Begun::Other });
        }
        let place = kept.sagas.len();
        let listed = Listed {
            id: saga.id.clone(),
            place: place as i64 + 1,
            definition: saga.definition,
            version: saga.version,
            hash: saga.hash,
            state: saga.state,
            began: saga.record.at,
        };
        kept.places.insert(saga.id, place);
        kept.sagas
            .push((listed, saga.input_hash, vec![saga.record]));
        Ok(Begun::New)
    }

    async fn append(&self, id: &str, record: Record, state: State) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let place = kept.places.get(id).copied();
        let conflict = || StoreError::Conflict { id: id.to_owned() };
        let (listed, _, log) = kept
            .sagas
            .get_mut(place.ok_or_else(conflict)?)
            .ok_or_else(conflict)?;
        if log.len() as u64 != record.seq {
            return Err(conflict());
        }
        log.push(record);
        listed.state = state;
        Ok(())
    }

    async fn log(&self, id: &str) -> Result<Vec<Record>, StoreError> {
        let kept = self.kept();
        let place = kept.places.get(id);
        Ok(place.map_or(Vec::new(), |place| kept.sagas[*place].2.clone()))
    }

    async fn log_from(&self, id: &str, seq: u64, most: usize) -> Result<Vec<Record>, StoreError> {
        let kept = self.kept();
        let log = kept.places.get(id).map(|place| &kept.sagas[*place].2);
        let log = log
            .and_then(|log| log.get(seq as usize..))
            .unwrap_or_default();
        Ok(log.iter().take(most).cloned().collect())
    }

    async fn pause(&self, pause: Pause) -> Result<(), StoreError> {
        let mut kept = self.kept();
        kept.pauses.insert(pause.definition.clone(), pause);
        Ok(())
    }

    async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        Ok(self.kept().pauses.values().cloned().collect())
    }

    async fn find(&self, id: &str) -> Result<Option<Listed>, StoreError> {
        let kept = self.kept();
        Ok(kept
            .places
            .get(id)
            .map(|place| kept.sagas[*place].0.clone()))
    }

    async fn list(
        &self,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let kept = self.kept();
        let is_it = |listed: &&Listed| {
            let is_there = kept.places.contains_key(&listed.id);
            is_there && listed.place > after && state.is_none_or(|state| listed.state == state)
        };
        let listed = kept.sagas.iter().map(|(listed, _, _)| listed).filter(is_it);
        Ok(listed.take(most).cloned().collect())
    }

    async fn forget(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        let mut kept = self.kept();
        let has_ended = |listed: &Listed| {
            let ended = matches!(listed.state, State::Completed | State::Compensated);
            ended && listed.began < before
        };
        let ended = kept.sagas.iter().filter(|(listed, _, _)| has_ended(listed));
        let ended = ended.map(|(listed, _, _)| listed.id.clone());
        let known: Vec<_> = ended
            .filter(|id| kept.places.contains_key(id))
            .take(most)
            .collect();
        for id in &known {
            if let Some(place) = kept.places.remove(id) {
                kept.sagas[place].2.clear();
            }
        }
        Ok(known.len())
    }
}
