//! The store of the policy file, and the thread on which everything is done that is kept there.
//!
//! A database is shared by several gateways. Each has its own work, and takes over that of one that is
//! not heard of any more; one that stops leaves, so that others need not wait for that.

mod chosen;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use outlast_config::plan::{self, Plan, Setting};
use outlast_saga::store::postgres::{Config, Postgres};
use outlast_saga::store::sqlite::Sqlite;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::admin::read_secret;
use crate::worker::Phase;

/// The store that the policy file names.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    kind: Kind,
    writes: Arc<chosen::Writes>,
}

#[derive(Clone, Debug)]
enum Kind {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// A store that is open, and where work on it goes on.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) store: Chosen,
    pub(crate) handle: Handle,
}

/// Opens the store of a plan on a thread of its own, which ends with the gateway. An error names what is
/// wrong.
pub(crate) fn start(
    plan: &Plan,
    phases: watch::Receiver<Phase>,
) -> Result<(Opened, JoinHandle<()>), String> {
    let failed = |error: std::io::Error| format!("store: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let handle = runtime.handle().clone();
    let (sender, receiver) = mpsc::sync_channel(1);
    let name = name(plan);
    let store = plan.store.clone();
    let work = async move {
        match Chosen::open(&store, &name).await {
            Ok(store) => {
                // Whoever waits for it is there.
                let _ = sender.send(Ok(store.clone()));
                stay(store, phases).await;
            }
            Err(error) => drop(sender.send(Err(error))),
        }
    };
    let thread = std::thread::Builder::new()
        .name("outlast-store".to_owned())
        .spawn(move || runtime.block_on(work))
        .map_err(failed)?;
    let store = receiver
        .recv()
        .map_err(|_| "store: its thread has ended".to_owned())??;
    Ok((Opened { store, handle }, thread))
}

/// Until the gateway has stopped.
async fn stay(store: Chosen, mut phases: watch::Receiver<Phase>) {
    // It is told in vain only when the gateway is gone.
    let _ = phases.wait_for(|phase| *phase == Phase::Stopped).await;
    if tokio::time::timeout(LONGEST_WRITE, store.settled())
        .await
        .is_err()
    {
        tracing::warn!("what came of the last calls is not written; they are made again");
    }
    match store.kind {
        Kind::Postgres(store) => match tokio::time::timeout(LONGEST_LEAVE, store.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "others take sagas over when the lease has ended");
            }
            Err(_) => tracing::warn!("others take sagas over when the lease has ended"),
        },
        // Whatever it was told is on the disk already; this is for whoever copies the file.
        Kind::Sqlite(store) => match tokio::time::timeout(LONGEST_LEAVE, store.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the store was left with its log"),
            Err(_) => tracing::warn!("the store was left with its log"),
        },
    }
}

/// What others call this gateway.
fn name(plan: &Plan) -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    match &plan.gateway.admin {
        Some(admin) => format!("{host}, admin {}", admin.address),
        None => host,
    }
}

impl Chosen {
    fn new(kind: Kind) -> Chosen {
        Chosen {
            kind,
            writes: Arc::default(),
        }
    }

    /// Until what the workers have answered is written. They have ended, so whoever waits for an answer
    /// has been woken, and only needs turns to take it to the store.
    async fn settled(&self) {
        let mut turns = 0;
        while turns < TURNS {
            tokio::task::yield_now().await;
            let has_waited = self.writes.end().await;
            turns = if has_waited { 0 } else { turns + 1 };
        }
    }

    async fn open(store: &plan::Store, name: &str) -> Result<Chosen, String> {
        match store {
            plan::Store::Sqlite(path) => Chosen::file(path),
            plan::Store::Postgres(postgres) => Chosen::database(postgres, name).await,
        }
    }

    fn file(path: &Path) -> Result<Chosen, String> {
        let store = Sqlite::open(path);
        store
            .map(|store| Chosen::new(Kind::Sqlite(store)))
            .map_err(|error| format!("store.sqlite: {}: {error}", path.display()))
    }

    async fn database(postgres: &plan::Postgres, name: &str) -> Result<Chosen, String> {
        let settings = match &postgres.settings {
            Setting::Plain(text) => text.clone(),
            Setting::Kept(secret) => {
                read_secret(secret).map_err(|error| format!("store.postgres: {error}"))?
            }
        };
        let mut config = Config::default()
            .name(postgres.name.as_deref().unwrap_or(name))
            .lease(postgres.lease);
        let password = postgres.password.as_ref().map(read_secret).transpose();
        let password = password.map_err(|error| format!("store.password: {error}"))?;
        if let Some(password) = password {
            config = config.password(password);
        } else if let Ok(password) = std::env::var("PGPASSWORD") {
            config = config.default_password(password);
        }
        let store = Postgres::connect(&settings, config).await;
        store
            .map(|store| Chosen::new(Kind::Postgres(store)))
            .map_err(|error| format!("store.postgres: {error}"))
    }
}

/// A store that is away must not keep the gateway from stopping.
const LONGEST_WRITE: Duration = Duration::from_secs(3);
/// In each some sixty of those that were woken go on.
const TURNS: u32 = 64;
/// A database that is away is left when the lease ends.
const LONGEST_LEAVE: Duration = Duration::from_secs(3);
