//! The library's public behaviour, with real futures, threads, services and sockets.

#![allow(
    clippy::disallowed_methods,
    reason = "tests are drivers; sleeping is in paused time"
)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a test binary has no public items"
)]
#![cfg(all(
    feature = "axum",
    feature = "grpc-health",
    feature = "metrics",
    feature = "postgres",
    feature = "tonic",
    feature = "tracing"
))]

mod allocations;
mod alone;
mod calls;
mod cancellation;
mod features;
#[cfg(feature = "open-feature")]
mod flags;
mod health;
mod layer;
mod observers;
#[cfg(feature = "tokio")]
mod opening;
mod parity;
mod pool;
mod redundancy;
mod services;
mod shield;
mod vectors;
#[expect(dead_code, reason = "the core's own tests use more of it")]
#[path = "../../../outlast-core/tests/it/world.rs"]
mod world;
