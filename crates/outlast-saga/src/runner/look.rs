//! Looking at a saga without doing anything.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::served::Served;
use super::{Control, ControlError, Runner, StartError, Started};
use crate::event::Event;
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
        let flow = self.flow_of(&listed).ok_or(ControlError::Blocked)?;
        let log = inner.store.log(id).await.map_err(ControlError::Store)?;
        let saga = self.replay(id, &flow, &log);
        let mut saga = saga.map_err(ControlError::Illegal)?;
        flow.adopt(&mut saga);
        Ok((listed, saga))
    }

    /// Tells whenever there is more on the log of a saga that is in flight here, until it is not any more;
    /// `None` if it is not, or as many watch it as may. What is written after this returns is told of;
    /// who is slow is told once for several records.
    pub async fn watch(&self, id: &str) -> Option<mpsc::Receiver<()>> {
        let sender = self.running().get(id).cloned()?;
        let (done, told) = oneshot::channel();
        sender.send(Control::Watch { done }).await.ok()?;
        told.await.ok()
    }

    /// What a start is when no more may run: one that is repeated begins nothing, and needs no room.
    pub(super) async fn begun_before(
        &self,
        flow: &Served,
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
