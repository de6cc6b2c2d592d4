//! Looking at a saga without doing anything.

use std::sync::Arc;

use super::{ControlError, Runner};
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
        let definition = Arc::new(flow.ok_or(ControlError::Blocked)?.definition.clone());
        let log = inner.store.log(id).await.map_err(ControlError::Store)?;
        let saga = Saga::replay(id, definition, &log).map_err(ControlError::Illegal)?;
        Ok((listed, saga))
    }
}
