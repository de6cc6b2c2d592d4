//! Outlast's policies and the machine that walks one call through them, without I/O.
//!
//! An [`Upstream`](upstream::Upstream) is what calls to one dependency share; a
//! [`Call`](call::Call) is the machine of one of them. A driver asks it what to do and reports
//! what happened:
//!
//! ```
//! use outlast_core::call::{Call, Request, Step};
//! use outlast_core::outcome::Outcome;
//! use outlast_core::time::Time;
//! use outlast_core::upstream::{Config, Upstream};
//!
//! let upstream = Upstream::new(Config::standard("db"), 1).unwrap();
//! let mut now = Time::ZERO;
//! let mut call = Call::new(&upstream, Request::new(7), now);
//! let attempts = loop {
//!     match call.step(now) {
//!         Step::Attempt(attempt) => {
//!             // Here a driver starts the I/O. This dependency answers at the third attempt.
//!             let third = attempt.id.number() == 3;
//!             let outcome = if third { Outcome::Success } else { Outcome::Transient };
//!             call.outcome(attempt.id, outcome, now);
//!         }
//!         Step::Wait { until } => now = until,
//!         Step::Cancel { .. } => {}
//!         Step::Done { id, .. } => break id.number(),
//!         Step::Reject(rejection) => panic!("{rejection}"),
//!     }
//! };
//! assert_eq!(attempts, 3);
//! ```
//!
//! Nothing in this crate reads a clock, sleeps, spawns, logs or draws a random number by itself:
//! time and seeds are arguments. Applications use the `outlast` crate.

pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod call;
pub mod canary;
pub mod check;
pub mod config;
pub mod deadline;
pub mod degrade;
pub mod eject;
pub mod event;
pub mod failover;
pub mod fallback;
pub mod fault;
pub mod health;
pub mod hedge;
mod math;
pub mod outcome;
pub mod rate;
pub mod ratio;
pub mod reject;
pub mod retry;
pub mod rng;
mod seats;
pub mod shed;
mod sync;
pub mod tier;
pub mod time;
pub mod upstream;
mod waiting;
pub mod window;

#[cfg(all(test, loom))]
mod loom_tests;
