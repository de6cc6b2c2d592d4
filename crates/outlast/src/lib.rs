//! (docs below)

mod attempt;
#[cfg(feature = "axum")]
pub mod axum;
mod blocking;
pub mod breaker;
pub mod bulkhead;
mod caller;
#[cfg(feature = "tokio")]
mod calling;
mod classify;
mod clock;
pub mod deadline;
mod ending;
mod error;
#[cfg(feature = "tonic")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod headers;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "tower")]
mod layer;
pub mod observe;
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
pub use attempt::Attempt;
pub use caller::Caller;
#[cfg(feature = "tokio")]
pub use calling::Calling;
pub use classify::{ByResult, Classify};
pub use clock::{Clock, instant_of};
pub use error::Error;
#[cfg(feature = "tower")]
pub use layer::{Cloned, Layer, Once, Protected, Protecting, Repeat};
pub use outlast_core::config::ConfigError;
pub use outlast_core::upstream::{Config, EndpointStats, Stats};
pub use outlast_core::{
    backoff, budget, call, event, failover, fallback, fault, hedge, outcome, rate, ratio, reject,
    retry, time, window,
};
#[cfg(feature = "tokio")]
pub use pool::{Pool, PoolCall};
pub use seed::IdempotencyKey;
#[cfg(feature = "tokio")]
pub use shield::{Shield, StillRunning};
pub use stale::{Answer, Stale};
pub use upstream::{Setup, Upstream};
