//! Outlast's policies in virtual time: the same machine per call as in production, against modelled
//! services, clients and faults.
//!
//! ```
//! use std::time::Duration;
//! use outlast_core::{bulkhead, upstream::Config};
//! use outlast_sim::{Client, Curve, Law, Model, Service};
//!
//! let mut model = Model::new(42);
//! let work = Law::exponential(Duration::from_millis(10));
//! let db = model.service(Service::new(work).workers(8));
//! let config = Config::new("db").bulkhead(bulkhead::Config::new(20));
//! let through = model.upstream(config, &[db])?;
//! let shop = model.client(Client::open(through, Curve::level(640.0)));
//! let report = model.run(Duration::from_secs(10))?;
//! assert!(report.client(shop).success() > 0.99);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! No run reads a clock, sleeps, spawns or draws randomness: equal seeds give equal runs, to
//! the last bit of the trace's hash, on every platform.

pub mod advise;
mod agenda;
mod client;
mod curve;
mod draws;
mod law;
mod model;
mod plain;
mod saga;
pub mod scenario;
mod service;
mod slab;
pub mod slo;
pub mod statistics;
mod times;
pub mod tune;
mod world;

pub use crate::client::{Client, ClientReport, Latency, Second};
pub use crate::curve::Curve;
pub use crate::law::{Law, LawError};
pub use crate::model::{
    ClientId, Model, Place, Report, RunError, SagasId, Sample, ServiceId, UpstreamId,
};
pub use crate::plain::{Allowance, Deposit, Plain, Wait};
pub use crate::saga::{Runner, SagaReport, SagaSecond, Sagas, SagasReport, StepReport};
pub use crate::service::{Change, Gone, Liveness, Order, Refusal, Service, ServiceReport};
pub use crate::times::Times;

/// Runs the code of the guides.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/simulation.md")]
#[doc = include_str!("../../../docs/slo.md")]
struct Guide;

/// Runs the code of the page on advice.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/advise.md")]
struct AdviceGuide;
