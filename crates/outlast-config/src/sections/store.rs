//! The keys of the store.

use super::{SECRET, key};
use crate::shape::Default::{Is, Means};
use crate::shape::{Kind, Section};

pub(crate) static STORE: Section = Section {
    name: "store",
    doc: "Where sagas and queues are kept. It takes effect at the next start.",
    keys: &[
        key(
            "sqlite",
            Kind::Text,
            Means("`outlast.db`, unless `postgres` is given"),
            "the path of an SQLite file that is this gateway's alone",
        ),
        key(
            "postgres",
            Kind::AnyOf(&[Kind::Text, Kind::Part(&SECRET)]),
            Means("not in PostgreSQL"),
            "`postgres://USER@HOST/DATABASE`, which several gateways share; with a password in it, where that is kept",
        ),
        key(
            "password",
            Kind::Part(&SECRET),
            Means("that of the URL, or `PGPASSWORD` of the environment"),
            "where the password for PostgreSQL is kept",
        ),
        key(
            "name",
            Kind::Text,
            Means("host and admin address"),
            "what gateways that share a database call this one when they are asked for what it does",
        ),
        key(
            "lease",
            Kind::Duration,
            Is("30s"),
            "how long it may not be heard of before others take its work over; `1s` to `1h`",
        ),
    ],
};
