//! The core's public behaviour, under virtual time.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a test binary has no public items"
)]

mod calls;
mod world;
