//! Published and exact results, reproduced by the simulator.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a test binary has no public items"
)]

mod advise;
mod availability;
mod balancing;
mod chains;
mod contention;
mod determinism;
mod faults;
mod metastable;
mod overload;
mod peers;
mod proofs;
mod queues;
mod retries;
mod rows;
mod sagas;
mod scenarios;
mod shed;
mod slo;
mod storm;
mod tails;
mod trial;
mod worlds;
