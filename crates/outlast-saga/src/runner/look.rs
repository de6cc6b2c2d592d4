//! Looking at a saga without doing anything.

use serde_json::Value;

use super::{ControlError, Runner, StartError, Started};
use crate::event::Event;
use crate::flow::Flow;
use crate::machine::Saga;
use crate::store::{Listed, Store};

impl<S: Store> Runner<S> {
    /// A saga as its log says, with its place in lists.
    ///
    /// # Errors
    /// [`ControlError::NoSaga`] if there is none, [`ControlError::Blocked`] if its definition is not
    /// there or is another one now, or if the store fails.
    pub async fn look(&self, id: &str) -> Result<(Listed, Saga), ControlError> {
        let inner = &self.inner;
        let listed = inner.store.find(id).await.map_err(ControlError::Store)?;
        let listed = listed.ok_or(ControlError::NoSaga)?;
        let flow = inner
            .flows
            .get(&(listed.definition.clone(), listed.version));
        let flow = flow.filter(|flow| flow.definition.hash() == listed.hash);
        let flow = flow.ok_or(ControlError::Blocked)?;
        let log = inner.store.log(id).await.map_err(ControlError::Store)?;
        let saga = self.replay(id, flow, &log);
        Ok((listed, saga.map_err(ControlError::Illegal)?))
    }

    /// What a start is when no more may run: one that is repeated begins nothing, and needs no room.
    pub(super) async fn begun_before(
        &self,
        flow: &Flow,
        id: &str,
        input: &Value,
    ) -> Result<Started, StartError> {
        let log = self.inner.store.log(id).await.map_err(StartError::Store)?;
        let began = log.first().and_then(|record| record.events.first());
        match began {
            Some(Event::Began {
                definition,
                input: known,
                ..
            }) if definition == flow.definition.name() && known == input => Ok(Started::Same),
            _ => Err(StartError::Busy),
        }
    }
}
