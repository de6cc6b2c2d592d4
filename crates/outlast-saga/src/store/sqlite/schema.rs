//! The tables of a file, their version, and whether the file is sound.

use std::fs::File;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use rustix::fs::{FlockOperation, flock};

use super::{StoreError, error};

/// Makes sure that no other process writes a file: by a lock beside it, which is released when it is
/// dropped, or its process dies.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&name);
    let file = file.map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let message = format!("{} is open in another process", path.display());
            Err(StoreError::Failed(message))
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// Opens a file for writing; makes its tables if it is new.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path).map_err(error)?;
    connection
        .busy_timeout(std::time::Duration::ZERO)
        .map_err(error)?;
    // A file that is refused is left as it is, with its log.
    let keep =
        |is_kept| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, is_kept);
    keep(true).map_err(error)?;
    is_sound(&connection)?;
    keep(false).map_err(error)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let pages: i64 = connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .map_err(error)?;
    if pages == 0 {
        // A file gives room back only if it was made so. Others would be written to by that, and there
        // may be no room for it.
        let gives = "PRAGMA auto_vacuum = INCREMENTAL";
        connection.execute_batch(gives).map_err(error)?;
    }
    // Every transition is on the disk before it is acted on.
    connection.execute_batch(PRAGMAS).map_err(error)?;
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(error)?;
    match usize::try_from(version) {
        Ok(version) if version <= STEPS.len() => migrate(&connection, version)?,
        _ => {
            let message = format!(
                "{} has tables of version {version}, and this program knows up to {}",
                path.display(),
                STEPS.len()
            );
            return Err(StoreError::Failed(message));
        }
    }
    Ok(connection)
}

/// Every page, and whether what is looked for by an index is all that is there: a saga that is in none
/// would never go on.
fn is_sound(connection: &Connection) -> Result<(), StoreError> {
    passes(connection, "PRAGMA quick_check(1)")?;
    let tables =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('saga', 'message')";
    let names = connection.prepare(tables).and_then(|mut query| {
        let names = query.query_map([], |row| row.get::<_, String>(0))?;
        names.collect::<Result<Vec<_>, _>>()
    });
    for name in names.map_err(error)? {
        passes(connection, &format!("PRAGMA integrity_check({name})"))?;
    }
    Ok(())
}

fn passes(connection: &Connection, check: &str) -> Result<(), StoreError> {
    let found: Result<String, _> = connection.query_row(check, [], |row| row.get(0));
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(StoreError::Corrupt(found)),
        // A header that says what no header does.
        Err(failure) if failure.sqlite_error_code() == Some(ErrorCode::Unknown) => {
            Err(StoreError::Corrupt(failure.to_string()))
        }
        Err(failure) => Err(error(failure)),
    }
}

fn migrate(connection: &Connection, from: usize) -> Result<(), StoreError> {
    for (number, step) in STEPS.iter().enumerate().skip(from) {
        let version = number + 1;
        let text = format!("BEGIN IMMEDIATE; {step}; PRAGMA user_version = {version}; COMMIT");
        connection.execute_batch(&text).map_err(error)?;
    }
    Ok(())
}

const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                       PRAGMA wal_autocheckpoint = 4000; PRAGMA foreign_keys = OFF; \
                       PRAGMA cache_size = -16384";

/// More than there are, so that none is parsed twice.
pub(super) const STATEMENTS: usize = 64;

/// What leads from each version to the next one: sagas, then queues, then pauses, then ends.
const STEPS: [&str; 4] = [SAGAS, QUEUES, PAUSES, ENDS];

const SAGAS: &str = "CREATE TABLE saga (\
       place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, definition TEXT NOT NULL, \
       version INTEGER NOT NULL, hash TEXT NOT NULL, input_hash TEXT NOT NULL, \
       state INTEGER NOT NULL, began INTEGER NOT NULL); \
     CREATE INDEX saga_open ON saga (place) WHERE state < 20; \
     CREATE TABLE record (\
       saga INTEGER NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, events TEXT NOT NULL, \
       PRIMARY KEY (saga, seq)) WITHOUT ROWID";

/// The last word on each definition.
const PAUSES: &str = "CREATE TABLE pause (\
       definition TEXT PRIMARY KEY, paused INTEGER NOT NULL, who TEXT NOT NULL, \
       reason TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID";

/// When sagas ended, and whether their logs were dropped. Of those that ended before, when they began
/// stands for it.
const ENDS: &str = "ALTER TABLE saga ADD COLUMN ended INTEGER; \
     ALTER TABLE saga ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0; \
     CREATE INDEX saga_ended ON saga (dropped, coalesce(ended, began)) WHERE state >= 20";

/// Attempts have rows of their own while a message waits: they are written more often than payloads.
const QUEUES: &str = "CREATE TABLE message (\
       place INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, id TEXT NOT NULL, key TEXT, \
       hash BLOB NOT NULL, size INTEGER NOT NULL, state INTEGER NOT NULL, pushed INTEGER NOT NULL, \
       expires INTEGER NOT NULL, attempts INTEGER, ended INTEGER, error TEXT, notes TEXT, \
       payload BLOB, UNIQUE (queue, id)); \
     CREATE INDEX message_open ON message (queue, place) WHERE state < 20; \
     CREATE INDEX message_ended ON message (queue, ended) WHERE state >= 20; \
     CREATE TABLE attempt (\
       place INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, due INTEGER NOT NULL, error TEXT)";
