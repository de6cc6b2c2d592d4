//! The gateway with real clients and real upstreams, on real sockets.

#![allow(
    clippy::disallowed_methods,
    reason = "tests are drivers: they wait for conditions"
)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod admin;
mod canaries;
mod clients;
mod corpora;
mod degrade;
mod discovery;
mod fallbacks;
mod forwarding;
mod health;
mod lifecycle;
mod limits;
mod name_server;
mod outages;
mod overload;
mod priorities;
mod providers;
mod queues;
mod redundancy;
mod repeats;
mod sagas;
mod support;
