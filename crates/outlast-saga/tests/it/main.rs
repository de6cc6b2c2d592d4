//! Sagas and queues through their public interface: stores, runners, and processes that are killed.

#![allow(
    clippy::disallowed_methods,
    reason = "tests are drivers: they wait for conditions"
)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a test binary has no public items"
)]

mod bounds;
mod clock;
mod conformance;
mod crash;
mod damage;
mod files;
mod full;
mod many;
mod messages;
mod pauses;
mod poison;
#[cfg(feature = "postgres")]
mod postgres;
mod proofs;
mod queues;
mod queues_crash;
mod runs;
mod stories;
mod walks;
