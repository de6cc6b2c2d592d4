//! The library's public behaviour, with real futures, threads and services.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a test binary has no public items"
)]

mod calls;
mod cancellation;
