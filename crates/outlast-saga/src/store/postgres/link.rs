//! A connection that is made again when it is cut.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Row, Statement};

use super::super::StoreError;
use super::lease::Lease;
use super::settings::Settings;

/// Why the database did not do it.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// It may have: the connection was cut, or there was none.
    Cut(String),
    /// It did not, and may the next time.
    Again(String),
    /// It did not.
    Refused(StoreError),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        match failure {
            Failure::Cut(why) | Failure::Again(why) => StoreError::Failed(why),
            Failure::Refused(error) => error,
        }
    }
}

pub(super) struct Link {
    settings: Settings,
    /// Hears of sagas that are free.
    hears: Option<Arc<Lease>>,
    open: Option<Arc<Open>>,
}

impl Link {
    pub(super) fn new(settings: &Settings, hears: Option<Arc<Lease>>) -> Link {
        Link {
            settings: settings.clone(),
            hears,
            open: None,
        }
    }

    /// The connection; a new one if it was cut.
    pub(super) async fn open(&mut self) -> Result<Arc<Open>, Failure> {
        if let Some(open) = self.open.as_ref().filter(|open| !open.client.is_closed()) {
            return Ok(Arc::clone(open));
        }
        self.open = None;
        let opened = timeout(LONGEST_CONNECT, self.connect()).await;
        let open = Arc::new(opened.map_err(|_| Failure::Cut(LATE.to_owned()))??);
        self.open = Some(Arc::clone(&open));
        Ok(open)
    }

    /// What is under way on it is not waited for.
    pub(super) fn cut(&mut self) {
        self.open = None;
    }

    #[expect(clippy::disallowed_methods, reason = "a connection is a task")]
    async fn connect(&self) -> Result<Open, Failure> {
        let tls = self.settings.tls.clone();
        let connected = self.settings.client.connect(tls).await;
        let (client, mut connection) = connected.map_err(failure)?;
        let hears = self.hears.clone();
        tokio::spawn(async move {
            // It ends with an error, or when its client is dropped; the client tells of both.
            while let Some(Ok(message)) =
                std::future::poll_fn(|cx| connection.poll_message(cx)).await
            {
                let (AsyncMessage::Notification(told), Some(lease)) = (message, &hears) else {
                    continue;
                };
                match told.channel() {
                    "outlast_queue" => lease.hear_of_queue(told.payload()),
                    _ => lease.hear(),
                }
            }
        });
        let open = Open {
            client,
            known: Mutex::default(),
        };
        open.run(SETTINGS).await?;
        if self.hears.is_some() {
            open.run("LISTEN outlast_saga; LISTEN outlast_queue")
                .await?;
        }
        Ok(open)
    }
}

/// A connection that was open when it was last looked at.
pub(super) struct Open {
    client: Client,
    /// Statements that were prepared.
    known: Mutex<HashMap<&'static str, Statement>>,
}

impl Open {
    /// Runs a text, of a statement or some.
    pub(super) async fn run(&self, text: &str) -> Result<(), Failure> {
        let run = timeout(LONGEST, self.client.batch_execute(text)).await;
        run.map_err(|_| Failure::Cut(LATE.to_owned()))?
            .map_err(failure)
    }

    /// Prepares a statement, at its first use.
    pub(super) async fn prepare(&self, text: &'static str) -> Result<Statement, Failure> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = known().get(text) {
            return Ok(statement.clone());
        }
        let prepared = timeout(LONGEST, self.client.prepare(text)).await;
        let prepared = prepared.map_err(|_| Failure::Cut(LATE.to_owned()))?;
        let statement = prepared.map_err(failure)?;
        known().insert(text, statement.clone());
        Ok(statement)
    }

    pub(super) async fn rows(
        &self,
        text: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let statement = self.prepare(text).await?;
        let rows = timeout(LONGEST, self.client.query(&statement, values)).await;
        rows.map_err(|_| Failure::Cut(LATE.to_owned()))?
            .map_err(failure)
    }
}

impl Open {
    /// Two statements in one transaction, sent in one piece.
    pub(super) async fn both(
        &self,
        (first, values): Asked<'_>,
        (second, more): Asked<'_>,
    ) -> Result<(Vec<Row>, Vec<Row>), Failure> {
        let (first, second) = (self.prepare(first).await?, self.prepare(second).await?);
        let all = async {
            tokio::join!(
                biased;
                self.client.batch_execute("BEGIN"),
                self.client.query(&first, values),
                self.client.query(&second, more),
                self.client.batch_execute("COMMIT"),
            )
        };
        let all = timeout(LONGEST, all).await;
        let (begun, first, second, done) = all.map_err(|_| Failure::Cut(LATE.to_owned()))?;
        begun.map_err(failure)?;
        // After an error the end of a transaction is none, and says nothing.
        let rows = (first.map_err(failure)?, second.map_err(failure)?);
        done.map_err(failure)?;
        Ok(rows)
    }
}

/// A statement and its values.
pub(super) type Asked<'a> = (&'static str, &'a [&'a (dyn ToSql + Sync)]);

/// What an error means.
fn failure(error: tokio_postgres::Error) -> Failure {
    let Some(said) = error.as_db_error() else {
        // Nothing came back, or nothing that can be read.
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            text = format!("{text}: {source}");
        }
        if text.contains("invalid peer certificate") {
            text.push_str("; name the root of its certificate with sslrootcert=FILE");
        }
        return Failure::Cut(text);
    };
    let text = format!("{} ({})", said.message(), said.code().code());
    match said.code() {
        code if *code == SqlState::DISK_FULL => Failure::Refused(StoreError::Full(text)),
        // It starts, ends, has no more room for connections, or is not the one to write to any more.
        code if CUTS.iter().any(|class| code.code().starts_with(class)) => Failure::Cut(text),
        code if AGAIN.iter().any(|class| code.code().starts_with(class)) => Failure::Again(text),
        code if DAMAGED.contains(&code.code()) => Failure::Refused(StoreError::Corrupt(text)),
        _ => Failure::Refused(StoreError::Failed(text)),
    }
}

const CUTS: [&str; 5] = ["08", "53", "57", "58", "25006"];
/// Deadlocks, and locks that could not be had.
const AGAIN: [&str; 2] = ["40", "55"];
const DAMAGED: [&str; 2] = ["XX001", "XX002"];
const LATE: &str = "the database did not answer in time";
/// A database that takes longer is taken for one that is away.
const LONGEST: Duration = Duration::from_secs(15);
pub(super) const LONGEST_CONNECT: Duration = Duration::from_secs(5);
/// A server that would tell of commits that are not on its disk is asked to tell when they are; one
/// whose client is away holds no locks for long.
const SETTINGS: &str = "SELECT set_config('synchronous_commit', 'on', false) \
       WHERE current_setting('synchronous_commit') = 'off'; \
     SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'";
