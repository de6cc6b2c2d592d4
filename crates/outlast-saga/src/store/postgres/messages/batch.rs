//! One transaction.

use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::lease::Owned;
use super::super::link::{Asked, Failure, Open};
use super::writer::{Came, Task, Work};
use super::{Change, NewMessage, Put, State, StoreError, kept, statements};
use crate::queue::Note;
use crate::queue::store::MOST_NOTES;
use crate::store::postgres::statements::STRIKE_OFF;

type Column<'a> = &'a (dyn ToSql + Sync);

/// Changes of messages that wait, a column each.
#[derive(Default)]
struct Changes<'a> {
    places: Vec<i64>,
    kinds: Vec<i16>,
    attempts: Vec<i64>,
    ats: Vec<i64>,
    errors: Vec<Option<&'a str>>,
}

impl Task {
    /// Commits a group, of pushes or changes of one queue or of one other thing. `again` if it may have
    /// been committed before.
    pub(super) async fn transact(
        &mut self,
        group: &[Work],
        again: bool,
    ) -> Result<Vec<Came>, Failure> {
        let open = self.link.open().await?;
        let came = match group {
            [Work::Hand(queue, place, change, _)] => hand(&open, queue, *place, change).await?,
            [Work::Forget(queue, before, most, _)] => {
                let (before, most) = (before.0 as i64, *most as i64);
                let values: [Column<'_>; 3] = [queue, &before, &most];
                let rows = open.rows(statements::FORGET, &values).await?;
                Came::Forgotten(rows[0].get::<_, i64>(0) as usize)
            }
            [Work::Own(queue, _)] => Came::Is(self.own(&open, queue).await?),
            [Work::Disown(queue, owned)] => {
                let values: [Column<'_>; 3] = [queue, &owned.runner, &owned.epoch];
                open.rows(statements::DISOWN, &values).await?;
                Came::Done
            }
            [Work::Put(first, _), ..] => {
                let messages: Vec<&NewMessage> = group.iter().map(pushed).collect();
                return self.put(&open, &first.queue, &messages, again).await;
            }
            [Work::Change(queue, owned, ..), ..] => {
                return change(&open, queue, *owned, group, again).await;
            }
            _ => unreachable!("a group has something in it"),
        };
        Ok(vec![came])
    }

    /// Whether this runner delivers the queue from now on.
    async fn own(&self, open: &Open, queue: &str) -> Result<bool, Failure> {
        let runner = self.lease.runner();
        if self.lease.has_left() {
            return Ok(false);
        }
        let strike: Asked<'_> = (STRIKE_OFF, &[&runner]);
        let own: Asked<'_> = (statements::OWN, &[&queue, &runner]);
        let (_, rows) = open.both(strike, own).await?;
        let Some(row) = rows.first() else {
            return Ok(false);
        };
        let epoch = row.get(0);
        let owned = Owned { runner, epoch };
        self.lease.own(queue, owned);
        Ok(self.lease.owned(queue) == Some(owned))
    }

    async fn put(
        &self,
        open: &Open,
        queue: &str,
        messages: &[&NewMessage],
        again: bool,
    ) -> Result<Vec<Came>, Failure> {
        // Whoever delivers here is told below.
        let tells = self.lease.owned(queue).is_none();
        let rows = put(open, queue, messages, tells).await?;
        if !tells && !rows.is_empty() {
            self.lease.hear_of_queue(queue);
        }
        let place = |row: &Row| (row.get::<_, String>(0), row.get::<_, i64>(1));
        let new: HashMap<String, i64> = rows.iter().map(place).collect();
        let (mut before, mut full) = (HashMap::new(), None);
        if new.len() < messages.len() {
            let ids: Vec<&str> = messages.iter().map(|message| &*message.id).collect();
            let rows = open.rows(statements::PUT_BEFORE, &[&queue, &ids]).await?;
            for row in rows {
                before.insert(row.get::<_, String>(1), row);
            }
            let rows = open.rows(statements::COUNTS, &[&queue]).await?;
            full = Some(super::counts(&rows[0]));
        }
        let mut came = Vec::new();
        for message in messages {
            came.push(Came::Put(match new.get(&message.id) {
                Some(place) => Put::New(*place),
                None => match before.get(&message.id) {
                    Some(row) => known(message, row, again)?,
                    None => Put::Full(full.expect("it was asked")),
                },
            }));
        }
        Ok(came)
    }
}

fn pushed(work: &Work) -> &NewMessage {
    match work {
        Work::Put(message, _) => message,
        _ => unreachable!("pushes go together"),
    }
}

/// The rows that are new.
async fn put(
    open: &Open,
    queue: &str,
    messages: &[&NewMessage],
    tells: bool,
) -> Result<Vec<Row>, Failure> {
    fn column<'a, T>(messages: &[&'a NewMessage], of: impl Fn(&'a NewMessage) -> T) -> Vec<T> {
        messages.iter().map(|message| of(message)).collect()
    }
    let ids = column(messages, |message| &*message.id);
    let keys = column(messages, |message| message.key.as_deref());
    let hashes = column(messages, |message| &*message.hash);
    let sizes = column(messages, |message| message.payload.len() as i64);
    let pushed = column(messages, |message| message.pushed.0 as i64);
    let expires = column(messages, |message| message.expires.0 as i64);
    let payloads = column(messages, |message| &*message.payload);
    let most = column(messages, |message| message.most as i64);
    let most_bytes = column(messages, |message| message.most_bytes as i64);
    let values: [Column<'_>; 11] = [
        &queue,
        &ids,
        &keys,
        &hashes,
        &sizes,
        &pushed,
        &expires,
        &payloads,
        &most,
        &most_bytes,
        &tells,
    ];
    let lock: Asked<'_> = (statements::LOCK, &[&queue]);
    let (_, rows) = open.both(lock, (statements::PUT, &values)).await?;
    Ok(rows)
}

/// What it is that was there before.
fn known(message: &NewMessage, row: &Row, again: bool) -> Result<Put, Failure> {
    let kept = kept(row).map_err(Failure::Refused)?;
    if row.get::<_, &[u8]>(super::COLUMNS) != message.hash {
        return Ok(Put::Other);
    }
    // The transaction of which nobody heard has put it there.
    if again && (kept.pushed, kept.expires) == (message.pushed, message.expires) {
        return Ok(Put::New(kept.place));
    }
    Ok(Put::Same(Box::new(kept)))
}

/// Changes of messages that wait.
async fn change(
    open: &Open,
    queue: &str,
    owned: Owned,
    group: &[Work],
    again: bool,
) -> Result<Vec<Came>, Failure> {
    let mut changes = Changes::default();
    for work in group {
        match work {
            Work::Change(_, _, place, change, _) => changes.push(*place, change),
            _ => unreachable!("changes go together"),
        }
    }
    let Owned { runner, epoch } = owned;
    let fence: [Column<'_>; 3] = [&queue, &runner, &epoch];
    let values: [Column<'_>; 8] = [
        &queue,
        &runner,
        &epoch,
        &changes.places,
        &changes.kinds,
        &changes.attempts,
        &changes.ats,
        &changes.errors,
    ];
    let fence: Asked<'_> = (statements::FENCE, &fence);
    let (held, moved) = open.both(fence, (statements::CHANGE, &values)).await?;
    if held.is_empty() {
        return Ok(group.iter().map(|_| Came::Lost).collect());
    }
    let mut moved: Vec<i64> = moved.iter().map(|row| row.get(0)).collect();
    if again && moved.len() < group.len() {
        let values: [Column<'_>; 2] = [&queue, &changes.places];
        let rows = open.rows(statements::CHANGED, &values).await?;
        moved.extend(rows.iter().filter_map(|row| changes.was_made(row)));
    }
    moved.sort_unstable();
    let is_moved = |place: &i64| Came::Is(moved.binary_search(place).is_ok());
    Ok(changes.places.iter().map(is_moved).collect())
}

impl<'a> Changes<'a> {
    fn push(&mut self, place: i64, change: &'a Change) {
        let (kind, attempts, at, error) = match change {
            Change::Attempt { attempt } => (0, *attempt, 0, None),
            Change::Again {
                attempts,
                due,
                error,
            } => (1, *attempts, due.0, Some(&**error)),
            Change::Delivered { at } => (2, 0, at.0, None),
            Change::Died { at, error } => (3, 0, at.0, Some(&**error)),
            Change::Retried { .. } | Change::Dropped { .. } => {
                unreachable!("those are of dead messages")
            }
        };
        self.places.push(place);
        self.kinds.push(kind);
        self.attempts.push(i64::from(attempts));
        self.ats.push(at as i64);
        self.errors.push(error);
    }

    /// The place of a row that is as its change would have left it.
    fn was_made(&self, row: &Row) -> Option<i64> {
        let (place, state): (i64, i16) = (row.get(0), row.get(1));
        let which = self.places.iter().position(|known| *known == place)?;
        let state = State::of(state.into())?;
        let ends = match self.kinds[which] {
            2 => state == State::Delivered,
            3 => state == State::Dead,
            _ => false,
        };
        let at = Some(self.ats[which]);
        (ends && row.get::<_, Option<i64>>(2) == at).then_some(place)
    }
}

/// What somebody does about a dead letter; whether it was one.
async fn hand(open: &Open, queue: &str, place: i64, change: &Change) -> Result<Came, Failure> {
    let lock: Asked<'_> = (statements::LOCK, &[&queue]);
    let most = MOST_NOTES as i64;
    let (_, rows) = match change {
        Change::Retried { note, expires } => {
            let (due, expires, note) = (note.at.0 as i64, expires.0 as i64, text(note)?);
            let values: [Column<'_>; 6] = [&queue, &place, &due, &expires, &note, &most];
            open.both(lock, (statements::RETRY, &values)).await?
        }
        Change::Dropped { note } => {
            let (ended, note) = (note.at.0 as i64, text(note)?);
            let values: [Column<'_>; 5] = [&queue, &place, &ended, &note, &most];
            open.both(lock, (statements::DROP, &values)).await?
        }
        _ => unreachable!("those are of messages that wait"),
    };
    Ok(Came::Is(!rows.is_empty()))
}

fn text(note: &Note) -> Result<String, Failure> {
    let text = serde_json::to_string(note);
    text.map_err(|error| Failure::Refused(StoreError::Failed(error.to_string())))
}
