//! Messages in PostgreSQL: several processes push into a queue, and one of them delivers it.
//!
//! Pushes into a queue are transactions that come one after the other, so their places are committed in
//! the order of their numbers, and whoever has seen one has seen all before it. Whoever delivers asks for
//! what has come behind the last it knows: when NOTIFY says so, and from time to time anyway.
//!
//! A queue is delivered by one runner, under an epoch that grows whenever it changes hands. Every change of
//! a message that waits is made in a transaction that holds the row of its queue under that runner and
//! epoch, and changes nothing if there is none: who stood still and comes back cannot write, and nobody
//! takes a queue over in the middle of a transaction. As with sagas a runner that was not heard of for its
//! lease is struck off by others, and begins nothing when less than a third of it is left.
//!
//! Two tasks write, one what is pushed and one what becomes of it: many at a time, in one transaction for
//! each queue. They are started when they are first needed.

mod batch;
mod statements;
mod writer;

use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use self::writer::{Work, Writer};
use super::lease::Lease;
use super::link::Link;
use super::settings::Settings;
use super::{Postgres, Stamp, StoreError};
use crate::queue::store::{Arrival, Change, Counts, NewMessage, Put, Store};
use crate::queue::{Kept, State};

/// The writers of messages.
pub(super) struct Messages {
    settings: Settings,
    lease: Arc<Lease>,
    /// Where the tasks run.
    runtime: Handle,
    pushes: OnceLock<Writer>,
    deliveries: OnceLock<Writer>,
}

impl Messages {
    pub(super) fn new(settings: &Settings, lease: &Arc<Lease>) -> Messages {
        Messages {
            settings: settings.clone(),
            lease: Arc::clone(lease),
            runtime: Handle::current(),
            pushes: OnceLock::new(),
            deliveries: OnceLock::new(),
        }
    }

    fn writer_of(&self, work: &Work) -> &Writer {
        let writer = match work {
            Work::Put(..) | Work::Hand(..) => &self.pushes,
            Work::Change(..) | Work::Forget(..) | Work::Own(..) | Work::Disown(..) => {
                &self.deliveries
            }
        };
        let start = || {
            let link = Link::new(&self.settings, None);
            Writer::start(link, Arc::clone(&self.lease), &self.runtime)
        };
        writer.get_or_init(start)
    }

    async fn write<T>(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Work,
    ) -> Result<T, StoreError> {
        let (done, told) = oneshot::channel();
        let work = work(done);
        self.writer_of(&work).take(work).await?;
        told.await
            .map_err(|_| StoreError::Failed("its writer has ended".to_owned()))?
    }
}

impl Store for Postgres {
    fn time(&self) -> Stamp {
        self.inner.lease.time()
    }

    fn claim(&self, queue: &str) -> bool {
        self.inner.lease.open(queue)
    }

    fn release(&self, queue: &str) {
        self.inner.lease.close(queue);
    }

    async fn put(&self, message: NewMessage) -> Result<Put, StoreError> {
        let messages = &self.inner.messages;
        messages
            .write(|done| Work::Put(Box::new(message), done))
            .await
    }

    async fn change(&self, queue: &str, place: i64, change: Change) -> Result<bool, StoreError> {
        let (messages, lease) = (&self.inner.messages, &self.inner.lease);
        let queue = queue.to_owned();
        if change.from() == State::Dead {
            let hand = |done| Work::Hand(queue, place, change, done);
            return messages.write(hand).await;
        }
        let Some(owned) = lease.owned(&queue) else {
            return Err(StoreError::Lost { id: queue });
        };
        let change = |done| Work::Change(queue, owned, place, change, done);
        messages.write(change).await
    }

    async fn read(&self, place: i64) -> Result<Option<(Kept, Vec<u8>)>, StoreError> {
        let rows = self.read(statements::READ, &[&place]).await?;
        let with_payload = |row: &Row| {
            let payload: Option<Vec<u8>> = row.get(COLUMNS);
            Ok((kept(row)?, payload.unwrap_or_default()))
        };
        rows.first().map(with_payload).transpose()
    }

    async fn message(&self, queue: &str, id: &str) -> Result<Option<Kept>, StoreError> {
        let rows = self.read(statements::MESSAGE, &[&queue, &id]).await?;
        rows.first().map(kept).transpose()
    }

    async fn messages(
        &self,
        queue: &str,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Kept>, StoreError> {
        let most = most as i64;
        let rows = match state.map(|state| state.number() as i16) {
            Some(state) => {
                let values: [&(dyn ToSql + Sync); 4] = [&queue, &after, &most, &state];
                self.read(statements::LIST_OF_STATE, &values).await?
            }
            None => {
                self.read(statements::LIST, &[&queue, &after, &most])
                    .await?
            }
        };
        rows.iter().map(kept).collect()
    }

    async fn forget_messages(
        &self,
        queue: &str,
        before: Stamp,
        most: usize,
    ) -> Result<usize, StoreError> {
        let messages = &self.inner.messages;
        let forget = |done| Work::Forget(queue.to_owned(), before, most, done);
        messages.write(forget).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn own(&self, queue: &str) -> Result<bool, StoreError> {
        let messages = &self.inner.messages;
        messages
            .write(|done| Work::Own(queue.to_owned(), done))
            .await
    }

    fn disown(&self, queue: &str) {
        if let Some(owned) = self.inner.lease.disown(queue) {
            let work = Work::Disown(queue.to_owned(), owned);
            self.inner.messages.writer_of(&work).give_up(work);
        }
    }

    async fn owns(&self, queue: &str) -> Result<(), StoreError> {
        self.inner.lease.owns(queue).await
    }

    async fn unowned(&self, queue: &str) {
        let lease = &self.inner.lease;
        let ears = lease.ears(queue).unwrap_or_default();
        // It is told in vain either way.
        let _ = tokio::time::timeout(lease.lasts() / 4, ears.free.notified()).await;
    }

    async fn arrivals(
        &self,
        queue: &str,
        after: i64,
        most: usize,
    ) -> Result<Vec<Arrival>, StoreError> {
        let lost = || StoreError::Lost {
            id: queue.to_owned(),
        };
        let before = self.inner.lease.owned(queue).ok_or_else(lost)?;
        let most = most as i64;
        let values: [&(dyn ToSql + Sync); 3] = [&queue, &after, &most];
        let rows = self.read(statements::ARRIVALS, &values).await?;
        // Another time of this process would ask from the beginning.
        if self.inner.lease.owned(queue) != Some(before) {
            return Err(lost());
        }
        let arrival = |row: &Row| {
            Ok(Arrival {
                number: row.get(COLUMNS),
                message: kept(row)?,
            })
        };
        rows.iter().map(arrival).collect()
    }

    async fn arrived(&self, queue: &str) {
        let ears = self.inner.lease.ears(queue).unwrap_or_default();
        // It is told in vain either way.
        let _ = tokio::time::timeout(BETWEEN_LOOKS, ears.arrived.notified()).await;
    }

    async fn counts(&self, queue: &str) -> Result<Option<Counts>, StoreError> {
        let rows = self.read(statements::COUNTS, &[&queue]).await?;
        Ok(Some(counts(&rows[0])))
    }
}

fn counts(row: &Row) -> Counts {
    let number = |column| row.get::<_, i64>(column).max(0) as usize;
    let (all, bytes, dead) = (number(0), number(1), number(2));
    Counts {
        waiting: all.saturating_sub(dead),
        dead,
        bytes,
    }
}

/// A row that begins with the columns of a message.
fn kept(row: &Row) -> Result<Kept, StoreError> {
    let id: String = row.get(1);
    let stamp = |column| Stamp(row.get::<_, i64>(column) as u64);
    let damaged = |what: String| StoreError::Corrupt(format!("message {id}: {what}"));
    let number: i16 = row.get(4);
    let state = State::of(number.into());
    let notes: Option<&str> = row.get(11);
    let notes = notes.map_or(Ok(Vec::new()), serde_json::from_str);
    Ok(Kept {
        place: row.get(0),
        key: row.get(2),
        size: row.get::<_, i64>(3) as usize,
        state: state.ok_or_else(|| damaged(format!("it has an unknown state, {number}")))?,
        pushed: stamp(5),
        expires: stamp(6),
        attempts: row.get::<_, i64>(7) as u32,
        due: stamp(8),
        error: row.get(9),
        ended: row.get::<_, Option<i64>>(10).map(|at| Stamp(at as u64)),
        notes: notes.map_err(|error| damaged(error.to_string()))?,
        id,
    })
}

/// How many those are.
const COLUMNS: usize = 12;
/// What was not told of is found then.
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(500);
