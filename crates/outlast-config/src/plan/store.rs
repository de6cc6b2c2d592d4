//! Where what must not be lost is kept.

use std::path::PathBuf;
use std::time::Duration;

use super::{Secret, Setting};

/// Where sagas and queues are kept. Default: the SQLite file `outlast.db` beside the policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In a file of this gateway.
    Sqlite(PathBuf),
    /// In a database that several gateways share.
    Postgres(Postgres),
}

/// A PostgreSQL, and how it is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// How to get there: `postgres://USER@HOST/DATABASE`.
    pub settings: Setting,
    /// The password. Default: that of the settings, or `PGPASSWORD` of the environment.
    pub password: Option<Secret>,
    /// What others call this gateway. Default: its host and admin address.
    pub name: Option<String>,
    /// How long it may not be heard of before others take its work over. Default 30 s.
    pub lease: Duration,
}
