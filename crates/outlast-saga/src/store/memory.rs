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
    sagas: Vec<(Listed, Vec<Record>)>,
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
            let (listed, _) = &kept.sagas[place];
            let same = listed.input_hash == saga.input_hash && listed.definition == saga.definition;
            return Ok(if same { Begun::Same } else { Begun::Other });
        }
        let place = kept.sagas.len();
        let listed = Listed {
            id: saga.id.clone(),
            place: place as i64 + 1,
            definition: saga.definition,
            version: saga.version,
            hash: saga.hash,
            input_hash: saga.input_hash,
            state: saga.state,
            began: saga.record.at,
            ended: saga.state.has_ended().then_some(saga.record.at),
            has_log: true,
        };
        kept.places.insert(saga.id, place);
        kept.sagas.push((listed, vec![saga.record]));
        Ok(Begun::New)
    }

    async fn append(&self, id: &str, record: Record, state: State) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let place = kept.places.get(id).copied();
        let conflict = || StoreError::Conflict { id: id.to_owned() };
        let (listed, log) = kept
            .sagas
            .get_mut(place.ok_or_else(conflict)?)
            .ok_or_else(conflict)?;
        if log.len() as u64 != record.seq || !listed.has_log {
            return Err(conflict());
        }
        listed.state = state;
        listed.ended = state.has_ended().then_some(record.at);
        log.push(record);
        Ok(())
    }

    async fn log(&self, id: &str) -> Result<Vec<Record>, StoreError> {
        let kept = self.kept();
        let place = kept.places.get(id);
        Ok(place.map_or(Vec::new(), |place| kept.sagas[*place].1.clone()))
    }

    async fn log_from(&self, id: &str, seq: u64, most: usize) -> Result<Vec<Record>, StoreError> {
        let kept = self.kept();
        let log = kept.places.get(id).map(|place| &kept.sagas[*place].1);
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
            let place = kept.places.get(&listed.id).map(|place| *place as i64 + 1);
            let is_there = place == Some(listed.place);
            is_there && listed.place > after && state.is_none_or(|state| listed.state == state)
        };
        let listed = kept.sagas.iter().map(|(listed, _)| listed).filter(is_it);
        Ok(listed.take(most).cloned().collect())
    }

    async fn forget(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        let mut kept = self.kept();
        let old = kept.ended_before(before, most, |_| true);
        for place in &old {
            let (listed, log) = &mut kept.sagas[*place];
            log.clear();
            let id = listed.id.clone();
            kept.places.remove(&id);
        }
        Ok(old.len())
    }

    async fn compact(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        let mut kept = self.kept();
        let old = kept.ended_before(before, most, |listed| listed.has_log);
        for place in &old {
            let (listed, log) = &mut kept.sagas[*place];
            listed.has_log = false;
            *log = Vec::new();
        }
        Ok(old.len())
    }
}

impl Kept {
    /// Where sagas are that ended before a time and are not forgotten.
    fn ended_before(
        &self,
        before: Stamp,
        most: usize,
        is_it: impl Fn(&Listed) -> bool,
    ) -> Vec<usize> {
        let sagas = self.sagas.iter().enumerate();
        let old = sagas.filter(|(place, (listed, _))| {
            let is_there = self.places.get(&listed.id) == Some(place);
            is_there && listed.ended.is_some_and(|ended| ended < before) && is_it(listed)
        });
        old.map(|(place, _)| place).take(most).collect()
    }
}
