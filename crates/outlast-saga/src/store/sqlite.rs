//! Logs in an SQLite file: embedded, and on the disk before anything is done.
//!
//! One thread writes. It takes whatever waits for it, writes it in one transaction and syncs once, and
//! then tells everybody: a sync carries many sagas (group commit). Sagas that were just told come back
//! with their next record soon, and would miss the transaction that is under way; so when some are
//! expected the writer lingers for a part of what a sync takes. Alone, a saga never waits.

mod messages;
mod schema;
mod sound;
mod writer;

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use tokio::sync::oneshot;

use self::writer::{Work, Writer};
use super::{Begun, Count, Listed, NewSaga, Pause, State, Store, StoreError, read_record};
use crate::event::{Record, Stamp};

/// Logs in an SQLite file. Clones share it.
#[derive(Clone, Debug)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Dropped first: what the writer's log has goes to the file when nobody else has it open.
    reader: Mutex<Option<Connection>>,
    writer: Writer,
    path: PathBuf,
    /// Queues that somebody has open.
    claimed: Mutex<HashSet<String>>,
    /// Released after the writer has ended.
    _lock: File,
}

impl Sqlite {
    /// Opens a file, or makes one. Only one process may have it open.
    ///
    /// # Errors
    /// If it cannot be opened, is damaged, of a newer version, or open in another process.
    pub fn open(path: impl AsRef<Path>) -> Result<Sqlite, StoreError> {
        let path = path.as_ref().to_owned();
        let mut lock = schema::lock(&path)?;
        sound::check(&path, &mut lock)?;
        let connection = schema::open(&path)?;
        sound::has_tables(&path, &mut lock)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&path, flags).map_err(error)?;
        reader.set_prepared_statement_cache_capacity(schema::STATEMENTS);
        let writer = Writer::start(connection)?;
        Ok(Sqlite {
            inner: Arc::new(Inner {
                reader: Mutex::new(Some(reader)),
                writer,
                path,
                claimed: Mutex::default(),
                _lock: lock,
            }),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Writes what waits, and closes the file: all of it is in the file itself then, and its log is gone.
    /// Whatever is asked of the store after that fails, in all clones. It is closed anyway when the last
    /// clone is dropped.
    ///
    /// # Errors
    /// If it was closed before.
    pub async fn close(&self) -> Result<(), StoreError> {
        // The log goes into the file when nobody else has it open.
        drop(self.reader().take());
        self.write(Work::Close).await
    }

    fn reader(&self) -> MutexGuard<'_, Option<Connection>> {
        let reader = &self.inner.reader;
        reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claimed(&self) -> MutexGuard<'_, HashSet<String>> {
        let claimed = &self.inner.claimed;
        claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write<T>(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Work,
    ) -> Result<T, StoreError> {
        let (done, told) = oneshot::channel();
        self.inner.writer.take(work(done)).await?;
        told.await
            .map_err(|_| StoreError::Failed("its writer has ended".to_owned()))?
    }

    /// Reads are short, by keys and with bounds, and do not wait for the writer.
    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let reader = self.reader();
        let closed = || StoreError::Failed("it was closed".to_owned());
        read(reader.as_ref().ok_or_else(closed)?).map_err(error)
    }
}

impl Store for Sqlite {
    async fn begin(&self, saga: NewSaga) -> Result<Begun, StoreError> {
        self.write(|done| Work::Begin(Box::new(saga), done)).await
    }

    async fn append(&self, id: &str, record: Record, state: State) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.write(|done| Work::Append(id, record, state, done))
            .await
    }

    async fn log(&self, id: &str) -> Result<Vec<Record>, StoreError> {
        self.log_from(id, 0, i64::MAX as usize).await
    }

    async fn log_from(&self, id: &str, seq: u64, most: usize) -> Result<Vec<Record>, StoreError> {
        let rows = self.read(|reader| {
            let mut query = reader.prepare_cached(
                "SELECT seq, at, events FROM record \
                 WHERE saga = (SELECT place FROM saga WHERE id = ?1) AND seq >= ?2 \
                 ORDER BY seq LIMIT ?3",
            )?;
            let row = |row: &Row<'_>| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, String>(2)?,
                ))
            };
            let rows = query.query_map(params![id, number(seq), number(most as u64)], row)?;
            rows.collect::<Result<Vec<_>, _>>()
        })?;
        let record = |(seq, at, events): (i64, i64, String)| read_record(id, seq, at, &events);
        rows.into_iter().map(record).collect()
    }

    async fn count(&self) -> Result<Vec<Count>, StoreError> {
        self.read(|reader| {
            let mut query = reader.prepare_cached(
                "SELECT definition, version, state, count(*) FROM saga WHERE state < 20 \
                 GROUP BY definition, version, state ORDER BY state, definition, version",
            )?;
            let count = |row: &Row<'_>| {
                let number: i64 = row.get(2)?;
                let unknown = rusqlite::Error::IntegralValueOutOfRange(2, number);
                Ok(Count {
                    definition: row.get(0)?,
                    version: row.get(1)?,
                    state: State::of(number).ok_or(unknown)?,
                    sagas: row.get::<_, i64>(3)? as u64,
                })
            };
            query.query_map([], count)?.collect()
        })
    }

    async fn pause(&self, pause: Pause) -> Result<(), StoreError> {
        self.write(|done| Work::Pause(Box::new(pause), done)).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        self.read(|reader| {
            let mut query = reader.prepare_cached(
                "SELECT definition, paused, who, reason, at FROM pause ORDER BY definition",
            )?;
            let pause = |row: &Row<'_>| {
                Ok(Pause {
                    definition: row.get(0)?,
                    is_paused: row.get(1)?,
                    by: row.get(2)?,
                    reason: row.get(3)?,
                    at: Stamp(row.get::<_, i64>(4)? as u64),
                })
            };
            query.query_map([], pause)?.collect()
        })
    }

    async fn find(&self, id: &str) -> Result<Option<Listed>, StoreError> {
        self.read(|reader| {
            let text = format!("SELECT {LISTED} FROM saga WHERE id = ?1");
            let mut query = reader.prepare_cached(&text)?;
            query.query_row([id], listed).optional()
        })
    }

    async fn list(
        &self,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        // An index of a part is used only where its own condition is said in so many words.
        let part = match state {
            None => String::new(),
            Some(state @ (State::Open | State::Waiting)) => {
                format!("AND state < 20 AND state = {}", state.number())
            }
            Some(state @ (State::Completed | State::Compensated)) => {
                format!("AND state = {}", state.number())
            }
        };
        self.read(|reader| {
            let text = format!(
                "SELECT {LISTED} FROM saga WHERE place > ?1 {part} ORDER BY place LIMIT ?2"
            );
            let mut query = reader.prepare_cached(&text)?;
            let rows = query.query_map(params![after, most as i64], listed)?;
            rows.collect()
        })
    }

    async fn forget(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        self.write(|done| Work::Forget(before, most, done)).await
    }

    async fn compact(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        self.write(|done| Work::Compact(before, most, done)).await
    }
}

const LISTED: &str =
    "id, place, definition, version, hash, state, began, input_hash, ended, dropped";

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let number: i64 = row.get(5)?;
    let unknown = rusqlite::Error::IntegralValueOutOfRange(5, number);
    Ok(Listed {
        id: row.get(0)?,
        place: row.get(1)?,
        definition: row.get(2)?,
        version: row.get(3)?,
        hash: row.get(4)?,
        state: State::of(number).ok_or(unknown)?,
        began: Stamp(row.get::<_, i64>(6)? as u64),
        input_hash: row.get(7)?,
        ended: row
            .get::<_, Option<i64>>(8)?
            .map(|millis| Stamp(millis as u64)),
        has_log: !row.get::<_, bool>(9)?,
    })
}

/// As tables have it.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What an error of SQLite means.
fn error(error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt(text),
        _ if is_damaged_value(&error) => StoreError::Corrupt(text),
        _ => StoreError::Failed(text),
    }
}

/// A value is none of those that were written.
fn is_damaged_value(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    matches!(
        error,
        Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..)
    )
}
