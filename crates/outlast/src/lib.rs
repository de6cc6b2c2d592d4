//! Keeps a service answering while the things it depends on fail.
//!
//! An [`Upstream`] is one dependency with its policies; every call on it walks through all of
//! them in one fixed order:
//!
//! ```text
//! call     deadline > throttle > shed > rate > [ attempts: retry | hedge | failover ] > fallback
//! attempt  budget > endpoint choice (health, pause, breaker) > bulkhead seat > timeout > I/O
//! ```
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use outlast::{Config, Upstream};
//!
//! let inventory = Upstream::new(Config::standard("inventory"))?;
//! let stock = inventory.call(|attempt| async move { count(attempt.number()) }).await?;
//! assert_eq!(stock, 7);
//! # fn count(_attempt: u32) -> Result<u32, std::io::Error> { Ok(7) }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Upstream::call`] for futures, [`Upstream::call_blocking`] for the caller's thread,
//!   `Upstream::layer` for tower services, [`Upstream::pool`] for threads of its own.
//! - [`Upstream::caller`] for the settings of single calls: deadline, whether they may be
//!   repeated, what their results mean.
//! - [`Bulkhead`] and [`Breaker`] by themselves; [`Features`] that are switched off under stress.
//! - `Health`: checks of what this instance depends on, and what it says of itself.
//! - Each policy has a module with its `Config`: [`breaker`], [`retry`], [`budget`],
//!   [`bulkhead`], [`rate`], [`hedge`], [`failover`], [`balance`], [`check`], [`eject`],
//!   [`deadline`], [`fallback`], [`fault`].
//!
//! An async call needs a tokio runtime with its time driver once it has to wait.

mod affinity;
mod attempt;
#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "tokio")]
mod binding;
mod blocking;
pub mod breaker;
pub mod bulkhead;
mod caller;
#[cfg(feature = "tokio")]
mod calling;
#[cfg(feature = "tokio")]
mod checking;
mod classify;
mod clock;
pub mod deadline;
mod ending;
mod error;
pub mod features;
#[cfg(feature = "tonic")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod headers;
#[cfg(feature = "health")]
pub mod health;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "tower")]
mod layer;
pub mod observe;
#[cfg(feature = "open-feature")]
pub mod open_feature;
#[cfg(feature = "tokio")]
mod opening;
#[cfg(feature = "tokio")]
mod pool;
#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "tokio")]
mod run;
mod seed;
#[cfg(feature = "tokio")]
mod shield;
mod stale;
mod upstream;

pub use self::breaker::Breaker;
pub use self::bulkhead::Bulkhead;
#[cfg(feature = "health")]
pub use self::health::Health;
pub use attempt::Attempt;
#[cfg(feature = "tokio")]
pub use binding::Binding;
pub use caller::Caller;
#[cfg(feature = "tokio")]
pub use calling::Calling;
#[cfg(feature = "tokio")]
pub use checking::Probe;
pub use classify::{ByResult, Classify};
pub use clock::{Clock, instant_of};
pub use error::Error;
pub use features::Features;
#[cfg(feature = "tower")]
pub use layer::{Cloned, Layer, Once, Protected, Protecting, Repeat};
#[cfg(feature = "tokio")]
pub use opening::{OpenAnswer, Opened, Opening};
pub use outlast_core::config::ConfigError;
pub use outlast_core::upstream::{Config, EndpointStats, Membership, Stats};
pub use outlast_core::{
    backoff, balance, budget, call, canary, check, degrade, eject, event, failover, fallback,
    fault, hedge, outcome, rate, ratio, reject, retry, shed, tier, time, window,
};
#[cfg(feature = "tokio")]
pub use pool::{Pool, PoolCall};
pub use seed::IdempotencyKey;
#[cfg(feature = "tokio")]
pub use shield::{Shield, StillRunning};
pub use stale::{Answer, Stale};
pub use upstream::{Setup, Upstream};

/// Runs the code of the README and of the guide.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/policies.md")]
    struct Policies;

    #[cfg(all(feature = "axum", feature = "grpc-health", feature = "postgres"))]
    #[doc = include_str!("../../../docs/health.md")]
    struct Health;

    #[doc = include_str!("../../../docs/degradation.md")]
    struct Degradation;
}
