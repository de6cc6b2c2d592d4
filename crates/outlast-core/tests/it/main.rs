//! The core's public behaviour, under virtual time.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a test binary has no public items"
)]

mod calls;
mod canaries;
mod entry;
mod laws;
mod membership;
mod open;
mod overload;
mod peers;
mod queues;
mod redundancy;
mod seats;
mod staying;
mod vectors;
mod world;
