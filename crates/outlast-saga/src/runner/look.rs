//! Looking at a saga without doing anything.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::served::Served;
use super::{Control, ControlError, Runner, StartError, Started};
use crate::event::Record;
use crate::machine::Saga;
use crate::store::{Listed, Store, StoreError};

impl<S: Store> Runner<S> {
    /// A saga as its log says, with its place in lists.
    ///
    /// # Errors
    /// [`ControlError::NoSaga`] if there is none, [`ControlError::Blocked`] if its definition is not
    /// there or is another one now, [`ControlError::LogDropped`] if it ended so long ago that its log is
    /// not there any more, or if the store fails.
    pub async fn look(&self, id: &str) -> Result<(Listed, Saga), ControlError> {
        let inner = &self.inner;
        let listed = inner.store.find(id).await.map_err(ControlError::Store)?;
        let listed = listed.ok_or(ControlError::NoSaga)?;
        let (flow, log) = self.log_of(&listed).await?;
        let saga = self.replay(id, &flow, &log);
        let mut saga = saga.map_err(ControlError::Illegal)?;
        flow.adopt(&mut saga);
        Ok((listed, saga))
    }

    /// What goes on with a saga that was listed just now, and its log.
    pub(super) async fn log_of(
        &self,
        listed: &Listed,
    ) -> Result<(Arc<Served>, Vec<Record>), ControlError> {
        let store = &self.inner.store;
        if !listed.has_log {
            return Err(ControlError::LogDropped);
        }
        let flow = self.flow_of(listed).ok_or(ControlError::Blocked)?;
        let log = store.log(&listed.id).await.map_err(ControlError::Store)?;
        if log.is_empty() && listed.state.has_ended() {
            // It was dropped, or the saga forgotten, in this moment.
            let still = store.find(&listed.id).await.map_err(ControlError::Store)?;
            return Err(match still.map(|listed| listed.has_log) {
                None => ControlError::NoSaga,
                Some(false) => ControlError::LogDropped,
                Some(true) => {
                    let damaged = format!("the log of {} is not there", listed.id);
                    ControlError::Store(StoreError::Corrupt(damaged))
                }
            });
        }
        Ok((flow, log))
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
        input_hash: &str,
    ) -> Result<Started, StartError> {
        let known = self.inner.store.find(id).await.map_err(StartError::Store)?;
        let is_same = |known: &Listed| {
            known.definition == flow.definition.name() && known.input_hash == input_hash
        };
        match known {
            Some(known) if is_same(&known) => Ok(Started::Same),
            Some(_) => Err(StartError::Other),
            None => Err(StartError::Busy),
        }
    }
}
