//! Outlast's policies and the machine that walks one call through them.
//!
//! (filled in below)

pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod call;
pub mod config;
pub mod deadline;
pub mod event;
pub mod failover;
pub mod fallback;
pub mod fault;
pub mod hedge;
pub mod outcome;
pub mod rate;
pub mod ratio;
pub mod reject;
pub mod retry;
pub mod rng;
mod sync;
pub mod time;
pub mod upstream;
pub mod window;

#[cfg(all(test, loom))]
mod loom_tests;
