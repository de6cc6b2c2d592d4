//! The one thread that writes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::oneshot::Sender;

use super::super::{Begun, NewSaga, Pause, State, StoreError};
use super::{error, messages};
use crate::event::{Record, Stamp};

/// What is to be written, and who is told.
pub(super) enum Work {
    Begin(Box<NewSaga>, Sender<Result<Begun, StoreError>>),
    Append(String, Record, State, Sender<Result<(), StoreError>>),
    Forget(Stamp, usize, Sender<Result<usize, StoreError>>),
    Compact(Stamp, usize, Sender<Result<usize, StoreError>>),
    Pause(Box<Pause>, Sender<Result<(), StoreError>>),
    Message(messages::Work),
    /// What comes after it is not written.
    Close(Sender<Result<(), StoreError>>),
}

#[derive(Debug)]
pub(super) struct Writer {
    /// Taken when it ends.
    queue: Option<mpsc::Sender<Work>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Writer {
    /// What waits is written, and then the file is somebody else's.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It tells of panics by itself.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Work::Begin(saga, _) => write!(f, "begin {}", saga.id),
            Work::Append(id, record, _, _) => write!(f, "append {} to {id}", record.seq),
            Work::Forget(before, _, _) => write!(f, "forget before {before:?}"),
            Work::Compact(before, _, _) => write!(f, "compact before {before:?}"),
            Work::Pause(pause, _) => write!(f, "pause or resume {}", pause.definition),
            Work::Message(work) => work.fmt(f),
            Work::Close(_) => f.write_str("close"),
        }
    }
}

impl Writer {
    /// Starts the thread; it ends when nobody can give it work any more.
    pub(super) fn start(connection: Connection) -> Result<Writer, StoreError> {
        let (queue, work) = mpsc::channel(MOST_QUEUED);
        let thread = Thread {
            connection,
            work,
            places: HashMap::new(),
            expected: 0,
            sync: Duration::ZERO,
            has_freed: false,
        };
        let started = std::thread::Builder::new()
            .name("saga-log".to_owned())
            .spawn(move || thread.run());
        let thread = started.map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Writer {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Waits for a place in the queue.
    pub(super) async fn take(&self, work: Work) -> Result<(), StoreError> {
        let queue = self
            .queue
            .as_ref()
            .expect("it is there until it is dropped");
        let sent = queue.send(work).await;
        sent.map_err(|_| StoreError::Failed("its writer has ended".to_owned()))
    }
}

struct Thread {
    connection: Connection,
    work: mpsc::Receiver<Work>,
    /// Of sagas that are written to: their numbers and how long their logs are.
    places: HashMap<String, (i64, u64)>,
    /// How many come back with their next record soon.
    expected: usize,
    /// How long the last sync took.
    sync: Duration,
    /// Something was deleted, and its room not given back.
    has_freed: bool,
}

/// What came of a piece of work that is on the disk.
enum Came {
    Begun(Begun),
    Appended,
    /// It was not written: the log is not as long as it was taken to be.
    Conflict(String),
    Forgotten(usize),
    Paused,
    Message(messages::Came),
}

impl Thread {
    fn run(mut self) {
        while let Some(first) = self.next() {
            let mut batch = self.gather(first);
            let end = batch.iter().position(|work| matches!(work, Work::Close(_)));
            let closes = end.map(|end| batch.split_off(end));
            self.write(batch);
            if let Some(closes) = closes {
                return self.close(closes);
            }
            // Some of it after each batch, however much there is to write.
            self.give_back_some();
        }
    }

    /// Whoever waits for it is told when the file is closed, and whoever comes later that it was.
    fn close(self, closes: Vec<Work>) {
        let Thread { connection, .. } = self;
        let closed = connection.close().map_err(|(_, failure)| error(failure));
        for work in closes {
            match work {
                Work::Close(done) => drop(done.send(closed.clone())),
                work => work.tell(Err(StoreError::Failed("it was closed".to_owned()))),
            }
        }
    }

    /// What is to be written next. While nothing is, room is given back.
    fn next(&mut self) -> Option<Work> {
        while self.has_freed {
            match self.work.try_recv() {
                Ok(work) => return Some(work),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => self.give_back_some(),
            }
        }
        self.work.blocking_recv()
    }

    fn give_back_some(&mut self) {
        // What fails now is tried again when more is free: nobody waits for it.
        self.has_freed = self.has_freed && self.give_back().unwrap_or(false);
    }

    /// All that waits, and, if some are expected, what comes within a part of a sync.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a sync takes is measured"
    )]
    fn gather(&mut self, first: Work) -> Vec<Work> {
        let mut batch = vec![first];
        let until = Instant::now() + (self.sync / LINGER).min(LONGEST_LINGER);
        while batch.len() < MOST_AT_ONCE {
            match self.work.try_recv() {
                Ok(work) => batch.push(work),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    if batch.len() >= self.expected || Instant::now() >= until {
                        break;
                    }
                    std::thread::yield_now();
                }
            }
        }
        batch
    }

    /// Writes all of it in one transaction. If that fails, each in its own, so that what cannot be
    /// written holds up nothing else.
    fn write(&mut self, batch: Vec<Work>) {
        if batch.is_empty() {
            return;
        }
        self.expected = batch.len();
        match self.transact(&batch) {
            Ok(came) => batch
                .into_iter()
                .zip(came)
                .for_each(|(work, came)| work.tell(Ok(came))),
            Err(failure) if batch.len() == 1 => {
                batch
                    .into_iter()
                    .for_each(|work| work.tell(Err(failure.clone())));
            }
            Err(_) => {
                for work in batch {
                    let came = self.transact(std::slice::from_ref(&work));
                    work.tell(came.map(|mut came| came.remove(0)));
                }
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "how long a sync takes is measured"
    )]
    fn transact(&mut self, batch: &[Work]) -> Result<Vec<Came>, StoreError> {
        let before = Instant::now();
        self.connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(error)?;
        let came: Result<Vec<Came>, StoreError> = batch.iter().map(|work| self.one(work)).collect();
        let committed = came.and_then(|came| {
            self.connection.execute_batch("COMMIT").map_err(error)?;
            Ok(came)
        });
        if committed.is_err() || self.places.len() > MOST_PLACES {
            self.places.clear();
        }
        if committed.is_err() && !self.connection.is_autocommit() {
            // It fails only if SQLite has rolled back by itself.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.sync = before.elapsed();
        committed
    }

    fn one(&mut self, work: &Work) -> Result<Came, StoreError> {
        match work {
            Work::Begin(saga, _) => self.begin(saga).map(Came::Begun),
            Work::Append(id, record, state, _) => self.append(id, record, *state),
            Work::Forget(before, most, _) => self.forget(*before, *most).map(Came::Forgotten),
            Work::Compact(before, most, _) => self.compact(*before, *most).map(Came::Forgotten),
            Work::Pause(pause, _) => self.pause(pause),
            Work::Message(work) => {
                let came = work.write(&self.connection)?;
                self.has_freed |= matches!(came, messages::Came::Forgotten(1..));
                Ok(Came::Message(came))
            }
            Work::Close(_) => unreachable!("nothing is written for it"),
        }
    }

    fn begin(&mut self, saga: &NewSaga) -> Result<Begun, StoreError> {
        let connection = &self.connection;
        let known = connection
            .prepare_cached("SELECT definition, input_hash FROM saga WHERE id = ?1")
            .and_then(|mut query| {
                let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
                query.query_row([&saga.id], row).optional()
            });
        if let Some((definition, input_hash)) = known.map_err(error)? {
            let (definition, input_hash): (String, String) = (definition, input_hash);
            let same = definition == saga.definition && input_hash == saga.input_hash;
            return Ok(if same { Begun::Same } else { Begun::Other });
        }
        let insert = connection.prepare_cached(
            "INSERT INTO saga (id, definition, version, hash, input_hash, state, began) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        );
        let place = insert
            .and_then(|mut insert| {
                insert.insert(params![
                    saga.id,
                    saga.definition,
                    saga.version,
                    saga.hash,
                    saga.input_hash,
                    saga.state.number(),
                    saga.record.at.0 as i64,
                ])
            })
            .map_err(error)?;
        self.insert(place, &saga.record)?;
        self.places.insert(saga.id.clone(), (place, 1));
        Ok(Begun::New)
    }

    fn append(&mut self, id: &str, record: &Record, state: State) -> Result<Came, StoreError> {
        let known = match self.places.get(id) {
            Some(known) => Some(*known),
            None => self.look_up(id)?,
        };
        let Some((place, length)) = known.filter(|known| known.1 == record.seq) else {
            return Ok(Came::Conflict(id.to_owned()));
        };
        self.insert(place, record)?;
        // Most transitions change nothing that is looked for.
        if state != State::Open || record.events.iter().any(is_by_hand) {
            let update = self
                .connection
                .prepare_cached("UPDATE saga SET state = ?2, ended = ?3 WHERE place = ?1");
            let ended = state.has_ended().then_some(record.at.0 as i64);
            let values = params![place, state.number(), ended];
            let update = update.and_then(|mut update| update.execute(values));
            update.map_err(error)?;
        }
        self.places.insert(id.to_owned(), (place, length + 1));
        if state.has_ended() {
            self.places.remove(id);
        }
        Ok(Came::Appended)
    }

    fn look_up(&self, id: &str) -> Result<Option<(i64, u64)>, StoreError> {
        let query = self.connection.prepare_cached(
            "SELECT place, (SELECT count(*) FROM record WHERE saga = place) FROM saga \
             WHERE id = ?1 AND dropped = 0",
        );
        let found = query.and_then(|mut query| {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64));
            query.query_row([id], row).optional()
        });
        found.map_err(error)
    }

    fn insert(&self, place: i64, record: &Record) -> Result<(), StoreError> {
        let events = serde_json::to_string(&record.events);
        let events = events.map_err(|error| StoreError::Failed(error.to_string()))?;
        let insert = self
            .connection
            .prepare_cached("INSERT INTO record (saga, seq, at, events) VALUES (?1, ?2, ?3, ?4)");
        let values = params![place, record.seq as i64, record.at.0 as i64, events];
        insert
            .and_then(|mut insert| insert.execute(values))
            .map_err(error)?;
        Ok(())
    }

    fn pause(&self, pause: &Pause) -> Result<Came, StoreError> {
        let put = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO pause (definition, paused, who, reason, at) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        );
        let values = params![
            pause.definition,
            pause.is_paused,
            pause.by,
            pause.reason,
            pause.at.0 as i64
        ];
        put.and_then(|mut put| put.execute(values)).map_err(error)?;
        Ok(Came::Paused)
    }

    fn forget(&mut self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        let old = self.ended_before("dropped IN (0, 1)", before, most)?;
        self.for_each("DELETE FROM record WHERE saga = ?1", &old)?;
        self.for_each("DELETE FROM saga WHERE place = ?1", &old)?;
        Ok(old.len())
    }

    fn compact(&mut self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        let old = self.ended_before("dropped = 0", before, most)?;
        self.for_each("DELETE FROM record WHERE saga = ?1", &old)?;
        self.for_each("UPDATE saga SET dropped = 1 WHERE place = ?1", &old)?;
        Ok(old.len())
    }

    /// Places of sagas that ended before a time, by the index of those.
    fn ended_before(
        &self,
        which: &str,
        before: Stamp,
        most: usize,
    ) -> Result<Vec<i64>, StoreError> {
        let text = format!(
            "SELECT place FROM saga WHERE state >= 20 AND {which} \
             AND coalesce(ended, began) < ?1 LIMIT ?2"
        );
        let places = self.connection.prepare_cached(&text).and_then(|mut query| {
            let values = params![before.0 as i64, most as i64];
            query.query_map(values, |row| row.get(0))?.collect()
        });
        places.map_err(error)
    }

    fn for_each(&mut self, text: &str, places: &[i64]) -> Result<(), StoreError> {
        self.has_freed |= !places.is_empty();
        let mut each = self.connection.prepare_cached(text).map_err(error)?;
        for place in places {
            each.execute([place]).map_err(error)?;
        }
        Ok(())
    }

    /// Gives some room back to the file system, if much is free; whether there is more to give. What
    /// is free otherwise is written to again, which costs less than to get it anew.
    fn give_back(&mut self) -> rusqlite::Result<bool> {
        let number = |name: &str| {
            let text = format!("PRAGMA {name}");
            self.connection
                .query_row(&text, [], |row| row.get::<_, i64>(0))
        };
        if number("auto_vacuum")? != INCREMENTAL {
            return Ok(false);
        }
        let spare = number("freelist_count")? - number("page_count")? / SPARE;
        if spare <= 0 {
            return Ok(false);
        }
        let pages = spare.min(GIVEN_BACK);
        let text = format!("PRAGMA incremental_vacuum({pages})");
        let mut statement = self.connection.prepare(&text)?;
        // Each step is a page.
        let mut steps = statement.query([])?;
        while steps.next()?.is_some() {}
        drop(steps);
        drop(statement);
        if spare > GIVEN_BACK {
            return Ok(true);
        }
        // Only when the log is in the file does the file end earlier. Readers may be in the way: later then.
        let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
        self.connection.query_row(checkpoint, [], |_| Ok(()))?;
        Ok(false)
    }
}

/// Somebody's hand lets a saga go on that waited.
fn is_by_hand(event: &crate::event::Event) -> bool {
    matches!(
        event,
        crate::event::Event::Handled { .. } | crate::event::Event::TurnedBack { .. }
    )
}

impl Work {
    /// Tells whoever waits; whoever does not any more need not be told.
    fn tell(self, came: Result<Came, StoreError>) {
        match (self, came) {
            (Work::Begin(_, done), Ok(Came::Begun(begun))) => drop(done.send(Ok(begun))),
            (Work::Append(_, _, _, done), Ok(Came::Appended)) => drop(done.send(Ok(()))),
            (Work::Append(_, _, _, done), Ok(Came::Conflict(id))) => {
                drop(done.send(Err(StoreError::Conflict { id })));
            }
            (Work::Forget(_, _, done) | Work::Compact(_, _, done), Ok(Came::Forgotten(count))) => {
                drop(done.send(Ok(count)));
            }
            (Work::Pause(_, done), Ok(Came::Paused)) => drop(done.send(Ok(()))),
            (Work::Pause(_, done), Err(failure)) => drop(done.send(Err(failure))),
            (Work::Message(work), Ok(Came::Message(came))) => work.tell(Ok(came)),
            (Work::Message(work), Err(failure)) => work.tell(Err(failure)),
            (Work::Close(done), Err(failure)) => drop(done.send(Err(failure))),
            (Work::Begin(_, done), Err(failure)) => drop(done.send(Err(failure))),
            (Work::Append(_, _, _, done), Err(failure)) => drop(done.send(Err(failure))),
            (Work::Forget(_, _, done) | Work::Compact(_, _, done), Err(failure)) => {
                drop(done.send(Err(failure)));
            }
            (work, Ok(_)) => unreachable!("{work:?} comes to something of its own kind"),
        }
    }
}

const MOST_QUEUED: usize = 4096;
/// Records of one transaction.
const MOST_AT_ONCE: usize = 2000;
/// Sagas whose place is remembered; others are looked up.
const MOST_PLACES: usize = 100_000;
/// It lingers for this part of a sync.
const LINGER: u32 = 6;
const LONGEST_LINGER: Duration = Duration::from_micros(500);
/// As SQLite numbers its ways of `auto_vacuum`.
const INCREMENTAL: i64 = 2;
/// This part of a file may be free.
const SPARE: i64 = 8;
/// Pages that are given back at once: a megabyte, which takes a few milliseconds.
const GIVEN_BACK: i64 = 256;
