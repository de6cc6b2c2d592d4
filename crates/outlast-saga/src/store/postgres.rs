//! Logs in PostgreSQL: several runners on one database.
//!
//! One task writes. It takes whatever waits for it and writes it with one statement for each kind, all
//! rows at once, in one transaction that is sent in one piece: a commit carries many sagas. When the
//! connection is cut, nobody knows whether what was sent was committed; the same statements are sent
//! again, and a record that is already there in its place counts as written.
//!
//! Each runner has a row with a lease, by the clock of the database, which it renews three times while
//! the lease lasts. An open saga belongs to a runner, under an epoch that grows whenever it changes
//! hands. A runner whose lease has ended is struck off by another one that looks for work, and its
//! sagas are free. An append names the runner and the epoch, and writes nothing if they are not those
//! of the saga: so a runner that stood still and comes back cannot write. Nor does it begin anything in
//! the world, because when it last renewed its lease it knows by its own clock, which only goes on;
//! with less than a third left it waits for the next renewal. If nobody has struck it off meanwhile,
//! say because the database was away, it goes on where it was.
//!
//! That sagas are free is told to others with NOTIFY, so that they look at once. They look from time
//! to time anyway: whatever gets lost, it is found.

mod lease;
mod link;
mod messages;
mod schema;
mod settings;
mod statements;
mod tls;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_postgres::Row;

use self::lease::Lease;
use self::link::{Failure, Link};
use self::messages::Messages;
use self::settings::Settings;
use self::writer::{Work, Writer};
use super::{Begun, Count, Known, Listed, NewSaga, Pause, State, Store, StoreError, read_record};
use crate::event::{Record, Stamp};

/// How a runner shares a database with others.
#[derive(Clone)]
pub struct Config {
    name: String,
    lease: Duration,
    password: Option<String>,
    default_password: Option<String>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Passwords are nobody's business.
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: String::new(),
            lease: LEASE,
            password: None,
            default_password: None,
        }
    }
}

impl Config {
    /// Who it is, for people who look into the table of runners. Empty by default. Two may have the
    /// same name.
    pub fn name(mut self, name: impl Into<String>) -> Config {
        self.name = name.into();
        self
    }

    /// How long a runner may not be heard of before others take its sagas over; 30 s by default, and
    /// 1 s at least. It is renewed every third of it. When a runner dies its sagas stand still for
    /// this long, and a quarter more until somebody looks.
    pub fn lease(mut self, lease: Duration) -> Config {
        self.lease = lease;
        self
    }

    /// The password, whatever the settings say. Default: that of the settings.
    pub fn password(mut self, password: impl Into<String>) -> Config {
        self.password = Some(password.into());
        self
    }

    /// The password if the settings have none. Default: none.
    pub fn default_password(mut self, password: impl Into<String>) -> Config {
        self.default_password = Some(password.into());
        self
    }
}

/// Logs in PostgreSQL. Clones share it. It is used within the Tokio runtime in which it was made.
#[derive(Clone, Debug)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Writer,
    messages: Messages,
    lease: Arc<Lease>,
    reader: tokio::sync::Mutex<Link>,
    keeper: AbortHandle,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends by itself, when what waits is written.
        self.keeper.abort();
    }
}

impl Postgres {
    /// Connects, makes tables or brings them up to date, and enters as a runner. `settings` is a
    /// connection string, `postgres://user:password@host/database` or `host=.. user=..`; tables are in
    /// the first schema of its search path. `sslmode`, `sslrootcert`, `sslcert` and `sslkey` are as in
    /// libpq; `sslmode` is `prefer` by default.
    ///
    /// # Errors
    /// If `settings` is no connection string, names files that cannot be read, the lease is too short, the database does not answer, or
    /// its tables are of a newer version.
    pub async fn connect(settings: &str, config: Config) -> Result<Postgres, StoreError> {
        if config.lease < SHORTEST_LEASE {
            let message = format!("a lease of {:?} is too short: give it 1 s", config.lease);
            return Err(StoreError::Failed(message));
        }
        let lease = Arc::new(Lease::new(config.lease));
        let settings = &Settings::read(settings, &config)?;
        let mut keeper = Link::new(settings, Some(Arc::clone(&lease)));
        schema::migrate(&mut keeper).await?;
        lease.enter(&mut keeper, &config.name).await?;
        let keeper = lease::keep(&lease, keeper, config.name);
        Ok(Postgres {
            inner: Arc::new(Inner {
                writer: Writer::start(Link::new(settings, None), Arc::clone(&lease)),
                messages: Messages::new(settings, &lease),
                lease,
                reader: tokio::sync::Mutex::new(Link::new(settings, None)),
                keeper,
            }),
        })
    }

    /// Leaves before this process ends: sagas are free at once, and not when a lease has ended. Sagas
    /// that are in flight here stop, and nothing begins here any more.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn leave(&self) -> Result<(), StoreError> {
        self.write(Work::Leave).await
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

    /// Reads, and if the connection is cut once more, for a time.
    #[expect(
        clippy::disallowed_methods,
        reason = "a database that is away is asked again"
    )]
    async fn read(
        &self,
        text: &'static str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let end = Instant::now() + PATIENCE;
        let mut wait = SHORTEST_WAIT;
        loop {
            let open = self.inner.reader.lock().await.open().await;
            let read = match open {
                Ok(open) => open.rows(text, values).await,
                Err(failure) => Err(failure),
            };
            match read {
                Err(Failure::Cut(_) | Failure::Again(_)) if Instant::now() < end => {
                    self.inner.reader.lock().await.cut();
                }
                read => return read.map_err(StoreError::from),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

impl Store for Postgres {
    fn time(&self) -> Stamp {
        self.inner.lease.time()
    }

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
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (seq, most) = (number(seq), number(most as u64));
        let rows = self.read(statements::LOG, &[&id, &seq, &most]).await?;
        let record = |row: Row| {
            let (seq, at): (i64, i64) = (row.get(0), row.get(1));
            read_record(id, seq, at, row.get(2))
        };
        rows.into_iter().map(record).collect()
    }

    async fn count(&self) -> Result<Vec<Count>, StoreError> {
        let rows = self.read(statements::COUNT, &[]).await?;
        let count = |row: &Row| {
            let number: i16 = row.get(2);
            let unknown = || StoreError::Corrupt(format!("there is an unknown state, {number}"));
            Ok(Count {
                definition: row.get(0),
                version: row.get::<_, i64>(1) as u32,
                state: State::of(number.into()).ok_or_else(unknown)?,
                sagas: row.get::<_, i64>(3) as u64,
            })
        };
        rows.iter().map(count).collect()
    }

    async fn pause(&self, pause: Pause) -> Result<(), StoreError> {
        self.write(|done| Work::Pause(Box::new(pause), done)).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        let rows = self.read(statements::PAUSES, &[]).await?;
        let pause = |row: &Row| Pause {
            definition: row.get(0),
            is_paused: row.get(1),
            by: row.get(2),
            reason: row.get(3),
            at: Stamp(row.get::<_, i64>(4) as u64),
        };
        Ok(rows.iter().map(pause).collect())
    }

    async fn find(&self, id: &str) -> Result<Option<Listed>, StoreError> {
        let rows = self.read(statements::FIND, &[&id]).await?;
        rows.first().map(listed).transpose()
    }

    async fn list(
        &self,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let most = most as i64;
        let rows = match state.map(statements::number) {
            Some(state) => {
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                    [&after, &most, &state];
                self.read(statements::LIST_OF_STATE, &values).await?
            }
            None => self.read(statements::LIST, &[&after, &most]).await?,
        };
        rows.iter().map(listed).collect()
    }

    async fn forget(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        self.write(|done| Work::Forget(before, most, done)).await
    }

    async fn compact(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        self.write(|done| Work::Compact(before, most, done)).await
    }

    async fn claim(
        &self,
        known: &[Known],
        after: i64,
        most: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let known = known.to_vec();
        self.write(|done| Work::Claim(known, after, most.min(MOST_CLAIMED), done))
            .await
    }

    async fn take(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write(|done| Work::Take(id, done)).await
    }

    async fn release(&self, id: &str) {
        if self.inner.lease.holds_open(id) {
            // If it fails the saga is found by the next claim of this runner.
            let _ = self.write(|done| Work::Release(id.to_owned(), done)).await;
        }
    }

    async fn ready(&self, id: &str, length: u64) -> Result<(), StoreError> {
        self.inner.lease.ready(id, length).await
    }

    async fn freed(&self) {
        self.inner.lease.freed().await;
    }

    async fn runner_of(&self, id: &str) -> Result<Option<String>, StoreError> {
        let rows = self.read(statements::RUNNER_OF, &[&id]).await?;
        Ok(rows.first().map(|row| {
            let (runner, name): (i64, &str) = (row.get(0), row.get(1));
            match name {
                "" => format!("runner {runner}"),
                name => name.to_owned(),
            }
        }))
    }
}

fn listed(row: &Row) -> Result<Listed, StoreError> {
    let id: String = row.get(0);
    let (version, number, began): (i64, i16, i64) = (row.get(3), row.get(5), row.get(6));
    let unknown = || StoreError::Corrupt(format!("{id} has an unknown state, {number}"));
    Ok(Listed {
        state: State::of(number.into()).ok_or_else(unknown)?,
        id,
        place: row.get(1),
        definition: row.get(2),
        version: version as u32,
        hash: row.get(4),
        began: Stamp(began as u64),
        input_hash: row.get(7),
        ended: row
            .get::<_, Option<i64>>(8)
            .map(|millis| Stamp(millis as u64)),
        has_log: !row.get::<_, bool>(9),
    })
}

const LEASE: Duration = Duration::from_secs(30);
/// Below it a busy machine loses its sagas to others all the time.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// The others have room, too.
const MOST_CLAIMED: usize = 64;
/// A database that is away for longer is told of. Restarting one takes less.
const PATIENCE: Duration = Duration::from_secs(5);
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(500);
