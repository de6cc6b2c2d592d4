//! A store of either kind does what its kind does. What is written of attempts and deliveries is counted
//! while that is under way.

use std::sync::atomic::{AtomicUsize, Ordering};

use outlast_saga::queue::store::{self as queue, Arrival, Change, Counts, NewMessage, Put};
use outlast_saga::queue::{Kept, State as At};
use outlast_saga::store::{Begun, Count, Known, Listed, NewSaga, Pause, State, Store, StoreError};
use outlast_saga::{Record, Stamp};
use tokio::sync::Notify;

use super::{Chosen, Kind};

/// What both can do, by the one that it is.
macro_rules! either {
    ($chosen:expr, $store:ident => $what:expr) => {
        match &$chosen.kind {
            Kind::Sqlite($store) => $what,
            Kind::Postgres($store) => $what,
        }
    };
}

/// How many results are being written.
#[derive(Debug, Default)]
pub(super) struct Writes {
    under_way: AtomicUsize,
    ended: Notify,
}

/// One of them.
struct Writing<'a>(&'a Writes);

impl Writes {
    fn begin(&self) -> Writing<'_> {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Writing(self)
    }

    /// Until none is; whether that had to be waited for.
    pub(super) async fn end(&self) -> bool {
        let mut has_waited = false;
        while self.under_way.load(Ordering::Acquire) > 0 {
            has_waited = true;
            self.ended.notified().await;
        }
        has_waited
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_one();
    }
}

impl Store for Chosen {
    fn time(&self) -> Stamp {
        either!(self, store => Store::time(store))
    }

    async fn begin(&self, saga: NewSaga) -> Result<Begun, StoreError> {
        either!(self, store => store.begin(saga).await)
    }

    async fn append(&self, id: &str, record: Record, state: State) -> Result<(), StoreError> {
        let _writing = self.writes.begin();
        either!(self, store => store.append(id, record, state).await)
    }

    async fn log(&self, id: &str) -> Result<Vec<Record>, StoreError> {
        either!(self, store => store.log(id).await)
    }

    async fn log_from(&self, id: &str, seq: u64, most: usize) -> Result<Vec<Record>, StoreError> {
        either!(self, store => store.log_from(id, seq, most).await)
    }

    async fn count(&self) -> Result<Vec<Count>, StoreError> {
        either!(self, store => Store::count(store).await)
    }

    async fn pause(&self, pause: Pause) -> Result<(), StoreError> {
        either!(self, store => Store::pause(store, pause).await)
    }

    async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        either!(self, store => store.pauses().await)
    }

    async fn find(&self, id: &str) -> Result<Option<Listed>, StoreError> {
        either!(self, store => store.find(id).await)
    }

    async fn list(
        &self,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        either!(self, store => store.list(state, after, most).await)
    }

    async fn forget(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        either!(self, store => store.forget(before, most).await)
    }

    async fn compact(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        either!(self, store => store.compact(before, most).await)
    }

    async fn claim(
        &self,
        known: &[Known],
        after: i64,
        most: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        either!(self, store => Store::claim(store, known, after, most).await)
    }

    async fn take(&self, id: &str) -> Result<bool, StoreError> {
        either!(self, store => store.take(id).await)
    }

    async fn release(&self, id: &str) {
        either!(self, store => Store::release(store, id).await);
    }

    async fn ready(&self, id: &str, length: u64) -> Result<(), StoreError> {
        either!(self, store => store.ready(id, length).await)
    }

    async fn freed(&self) {
        either!(self, store => store.freed().await);
    }

    async fn runner_of(&self, id: &str) -> Result<Option<String>, StoreError> {
        either!(self, store => store.runner_of(id).await)
    }
}

impl queue::Store for Chosen {
    fn time(&self) -> Stamp {
        either!(self, store => queue::Store::time(store))
    }

    fn claim(&self, name: &str) -> bool {
        either!(self, store => queue::Store::claim(store, name))
    }

    fn release(&self, name: &str) {
        either!(self, store => queue::Store::release(store, name));
    }

    async fn put(&self, message: NewMessage) -> Result<Put, StoreError> {
        either!(self, store => store.put(message).await)
    }

    async fn change(&self, name: &str, place: i64, change: Change) -> Result<bool, StoreError> {
        let _writing = self.writes.begin();
        either!(self, store => store.change(name, place, change).await)
    }

    async fn read(&self, place: i64) -> Result<Option<(Kept, Vec<u8>)>, StoreError> {
        either!(self, store => queue::Store::read(store, place).await)
    }

    async fn message(&self, name: &str, id: &str) -> Result<Option<Kept>, StoreError> {
        either!(self, store => store.message(name, id).await)
    }

    async fn messages(
        &self,
        name: &str,
        state: Option<At>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Kept>, StoreError> {
        either!(self, store => store.messages(name, state, after, most).await)
    }

    async fn forget_messages(
        &self,
        name: &str,
        before: Stamp,
        most: usize,
    ) -> Result<usize, StoreError> {
        either!(self, store => store.forget_messages(name, before, most).await)
    }

    fn is_shared(&self) -> bool {
        either!(self, store => store.is_shared())
    }

    async fn own(&self, name: &str) -> Result<bool, StoreError> {
        either!(self, store => store.own(name).await)
    }

    fn disown(&self, name: &str) {
        either!(self, store => store.disown(name));
    }

    async fn owns(&self, name: &str) -> Result<(), StoreError> {
        either!(self, store => store.owns(name).await)
    }

    async fn unowned(&self, name: &str) {
        either!(self, store => store.unowned(name).await);
    }

    async fn arrivals(
        &self,
        name: &str,
        after: i64,
        most: usize,
    ) -> Result<Vec<Arrival>, StoreError> {
        either!(self, store => store.arrivals(name, after, most).await)
    }

    async fn arrived(&self, name: &str) {
        either!(self, store => store.arrived(name).await);
    }

    async fn counts(&self, name: &str) -> Result<Option<Counts>, StoreError> {
        either!(self, store => store.counts(name).await)
    }
}
