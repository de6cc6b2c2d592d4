//! Messages in an SQLite file: written by the same thread as the logs of sagas, so that one sync carries
//! both.
//!
//! What changes with every attempt is a small row of its own, so that a payload is written once.

use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::oneshot::Sender;

use super::{Sqlite, StoreError, error, writer};
use crate::event::Stamp;
use crate::queue::store::{Change, NewMessage, Put, Store, noted};
use crate::queue::{Kept, Note, State};

/// What is to be written, and who is told.
pub(super) enum Work {
    Put(Box<NewMessage>, Sender<Result<Put, StoreError>>),
    Change(i64, Change, Sender<Result<bool, StoreError>>),
    Forget(String, Stamp, usize, Sender<Result<usize, StoreError>>),
}

/// What came of it.
pub(super) enum Came {
    Put(Put),
    Changed(bool),
    Forgotten(usize),
}

impl Store for Sqlite {
    fn claim(&self, queue: &str) -> bool {
        self.claimed().insert(queue.to_owned())
    }

    fn release(&self, queue: &str) {
        self.claimed().remove(queue);
    }

    async fn put(&self, message: NewMessage) -> Result<Put, StoreError> {
        self.write(|done| writer::Work::Message(Work::Put(Box::new(message), done)))
            .await
    }

    async fn change(&self, _queue: &str, place: i64, change: Change) -> Result<bool, StoreError> {
        self.write(|done| writer::Work::Message(Work::Change(place, change, done)))
            .await
    }

    async fn read(&self, place: i64) -> Result<Option<(Kept, Vec<u8>)>, StoreError> {
        let row = |row: &Row<'_>| {
            let payload: Option<Vec<u8>> = row.get(COLUMNS)?;
            Ok((kept(row)?, payload.unwrap_or_default()))
        };
        self.reads(|reader| {
            let text = format!("SELECT {KEPT}, payload FROM {FROM} WHERE message.place = ?1");
            let mut query = reader.prepare_cached(&text)?;
            query.query_row([place], row).optional()
        })
    }

    async fn message(&self, queue: &str, id: &str) -> Result<Option<Kept>, StoreError> {
        self.reads(|reader| {
            let text = format!("SELECT {KEPT} FROM {FROM} WHERE queue = ?1 AND id = ?2");
            let mut query = reader.prepare_cached(&text)?;
            query.query_row([queue, id], kept).optional()
        })
    }

    async fn messages(
        &self,
        queue: &str,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Kept>, StoreError> {
        // An index of a part is used only where its own condition is said in so many words.
        let part = match state {
            None => String::new(),
            Some(state @ (State::Waiting | State::Dead)) => {
                format!("AND state < 20 AND state = {}", state.number())
            }
            Some(state @ (State::Delivered | State::Dropped)) => {
                format!("AND state = {}", state.number())
            }
        };
        self.reads(|reader| {
            let text = format!(
                "SELECT {KEPT} FROM {FROM} WHERE queue = ?1 AND message.place > ?2 {part} \
                 ORDER BY message.place LIMIT ?3"
            );
            let mut query = reader.prepare_cached(&text)?;
            let rows = query.query_map(params![queue, after, most as i64], kept)?;
            rows.collect()
        })
    }

    async fn forget_messages(
        &self,
        queue: &str,
        before: Stamp,
        most: usize,
    ) -> Result<usize, StoreError> {
        let queue = queue.to_owned();
        self.write(|done| writer::Work::Message(Work::Forget(queue, before, most, done)))
            .await
    }
}

impl Sqlite {
    fn reads<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.read(read)
    }
}

impl Work {
    /// Writes it, within a transaction.
    pub(super) fn write(&self, connection: &Connection) -> Result<Came, StoreError> {
        let came = match self {
            Work::Put(message, _) => put(connection, message).map(Came::Put),
            Work::Change(place, change, _) => {
                self::change(connection, *place, change).map(Came::Changed)
            }
            Work::Forget(queue, before, most, _) => {
                forget(connection, queue, *before, *most).map(Came::Forgotten)
            }
        };
        came.map_err(error)
    }

    /// Tells whoever waits; whoever does not any more need not be told.
    pub(super) fn tell(self, came: Result<Came, StoreError>) {
        match (self, came) {
            (Work::Put(_, done), Ok(Came::Put(put))) => drop(done.send(Ok(put))),
            (Work::Change(_, _, done), Ok(Came::Changed(is_so))) => drop(done.send(Ok(is_so))),
            (Work::Forget(_, _, _, done), Ok(Came::Forgotten(count))) => {
                drop(done.send(Ok(count)));
            }
            (Work::Put(_, done), Err(failure)) => drop(done.send(Err(failure))),
            (Work::Change(_, _, done), Err(failure)) => drop(done.send(Err(failure))),
            (Work::Forget(_, _, _, done), Err(failure)) => drop(done.send(Err(failure))),
            (work, Ok(_)) => unreachable!("{work:?} comes to something of its own kind"),
        }
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Work::Put(message, _) => write!(f, "put {} into {}", message.id, message.queue),
            Work::Change(place, change, _) => write!(f, "{change:?} of message {place}"),
            Work::Forget(queue, before, _, _) => write!(f, "forget {queue} before {before:?}"),
        }
    }
}

fn put(connection: &Connection, message: &NewMessage) -> rusqlite::Result<Put> {
    let mut known = connection
        .prepare_cached("SELECT place, hash FROM message WHERE queue = ?1 AND id = ?2")?;
    let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?));
    let known = known
        .query_row([&message.queue, &message.id], row)
        .optional()?;
    if let Some((place, hash)) = known {
        if hash != message.hash {
            return Ok(Put::Other);
        }
        let text = format!("SELECT {KEPT} FROM {FROM} WHERE message.place = ?1");
        let kept = connection.prepare_cached(&text)?.query_row([place], kept)?;
        return Ok(Put::Same(Box::new(kept)));
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO message (queue, id, key, hash, size, state, pushed, expires, payload) \
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8)",
    )?;
    let place = insert.insert(params![
        message.queue,
        message.id,
        message.key,
        message.hash,
        message.payload.len() as i64,
        message.pushed.0 as i64,
        message.expires.0 as i64,
        message.payload,
    ])?;
    Ok(Put::New(place))
}

fn change(connection: &Connection, place: i64, change: &Change) -> rusqlite::Result<bool> {
    match change {
        Change::Attempt { attempt } => {
            let text = "INSERT INTO attempt (place, attempts, due) \
                 SELECT place, ?2, pushed FROM message WHERE place = ?1 AND state = 0 \
                 ON CONFLICT (place) DO UPDATE SET attempts = excluded.attempts";
            run(connection, text, params![place, attempt])
        }
        Change::Again {
            attempts,
            due,
            error,
        } => {
            let text = "UPDATE attempt SET due = ?2, error = ?3, attempts = ?4 WHERE place = ?1 AND EXISTS \
                 (SELECT 1 FROM message WHERE message.place = ?1 AND state = 0)";
            run(
                connection,
                text,
                params![place, due.0 as i64, error, attempts],
            )
        }
        Change::Delivered { at } => {
            let text = "UPDATE message SET state = 20, ended = ?2, payload = NULL, attempts = \
                 (SELECT attempts FROM attempt WHERE attempt.place = ?1) \
                 WHERE place = ?1 AND state = 0";
            let is_so = run(connection, text, params![place, at.0 as i64])?;
            delete_attempt(connection, place, is_so)
        }
        Change::Died { at, error } => {
            let text = "UPDATE message SET state = 1, ended = ?2, error = ?3, attempts = \
                 (SELECT attempts FROM attempt WHERE attempt.place = ?1) \
                 WHERE place = ?1 AND state = 0";
            let is_so = run(connection, text, params![place, at.0 as i64, error])?;
            delete_attempt(connection, place, is_so)
        }
        Change::Retried { note, expires } => {
            let text = "UPDATE message SET state = 0, ended = NULL, error = NULL, attempts = NULL, \
                 notes = ?2, expires = ?3 WHERE place = ?1 AND state = 1";
            let Some((notes, error)) = notes_with(connection, place, note)? else {
                return Ok(false);
            };
            let is_so = run(connection, text, params![place, notes, expires.0 as i64])?;
            let text = "INSERT INTO attempt (place, attempts, due, error) VALUES (?1, 0, ?2, ?3)";
            Ok(is_so && run(connection, text, params![place, note.at.0 as i64, error])?)
        }
        Change::Dropped { note } => {
            let text = "UPDATE message SET state = 21, ended = ?2, payload = NULL, notes = ?3 \
                 WHERE place = ?1 AND state = 1";
            let Some((notes, _)) = notes_with(connection, place, note)? else {
                return Ok(false);
            };
            run(connection, text, params![place, note.at.0 as i64, notes])
        }
    }
}

/// Whether it changed something.
fn run(
    connection: &Connection,
    text: &str,
    values: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached(text)?.execute(values)? > 0)
}

fn delete_attempt(connection: &Connection, place: i64, is_so: bool) -> rusqlite::Result<bool> {
    if is_so {
        run(
            connection,
            "DELETE FROM attempt WHERE place = ?1",
            params![place],
        )?;
    }
    Ok(is_so)
}

/// The notes of a dead message with one more, and its error; `None` if it is not dead.
fn notes_with(
    connection: &Connection,
    place: i64,
    note: &Note,
) -> rusqlite::Result<Option<(String, Option<String>)>> {
    let mut query = connection
        .prepare_cached("SELECT notes, error FROM message WHERE place = ?1 AND state = 1")?;
    let row = |row: &Row<'_>| Ok((notes(row.get(0)?)?, row.get(1)?));
    let Some((mut notes, error)) = query.query_row([place], row).optional()? else {
        return Ok(None);
    };
    noted(&mut notes, note.clone());
    let text = serde_json::to_string(&notes);
    let text = text.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    Ok(Some((text, error)))
}

fn forget(
    connection: &Connection,
    queue: &str,
    before: Stamp,
    most: usize,
) -> rusqlite::Result<usize> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM message WHERE place IN (SELECT place FROM message \
         WHERE queue = ?1 AND state >= 20 AND ended < ?2 ORDER BY ended LIMIT ?3)",
    )?;
    delete.execute(params![queue, before.0 as i64, most as i64])
}

fn notes(text: Option<String>) -> rusqlite::Result<Vec<Note>> {
    let notes = text.map_or(Ok(Vec::new()), |text| serde_json::from_str(&text));
    let kind = rusqlite::types::Type::Text;
    notes.map_err(|error| rusqlite::Error::FromSqlConversionFailure(11, kind, Box::new(error)))
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let stamp = |column| row.get::<_, i64>(column).map(|millis| Stamp(millis as u64));
    let number: i64 = row.get(4)?;
    let unknown = rusqlite::Error::IntegralValueOutOfRange(4, number);
    Ok(Kept {
        place: row.get(0)?,
        id: row.get(1)?,
        key: row.get(2)?,
        size: row.get::<_, i64>(3)? as usize,
        state: State::of(number).ok_or(unknown)?,
        pushed: stamp(5)?,
        expires: stamp(6)?,
        attempts: row.get(7)?,
        due: stamp(8)?,
        error: row.get(9)?,
        ended: row
            .get::<_, Option<i64>>(10)?
            .map(|millis| Stamp(millis as u64)),
        notes: notes(row.get(11)?)?,
    })
}

const FROM: &str = "message LEFT JOIN attempt ON attempt.place = message.place";
const KEPT: &str = "message.place, id, key, size, state, pushed, expires, \
                    coalesce(attempt.attempts, message.attempts, 0), coalesce(due, pushed), \
                    coalesce(attempt.error, message.error), ended, notes";
/// How many those are.
const COLUMNS: usize = 12;
