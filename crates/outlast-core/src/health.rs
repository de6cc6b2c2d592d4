//! Which dependencies answer, and what an instance says of itself.
//!
//! A *check* asks a dependency again and again whether it works. Its results become a [`Status`]
//! by two thresholds, as in Kubernetes: so many failures in a row make it down, so many successes
//! in a row make it up, so a single lost packet takes nobody out of service. A check without a
//! result is pending, and its first failure makes it down at once: nothing good is known that one
//! failure could put in doubt.
//!
//! Probes are spread by jitter that only ever lengthens the interval. So a check is probed at most
//! once per interval, whoever asks for it; and instances that were started together, or that a
//! dependency's return woke together, drift apart instead of arriving as a herd.
//!
//! A [`Registry`] holds the checks of one instance and what the application says of itself (warm-up,
//! drain), and answers four questions:
//!
//! - *Is it alive?* Never looks at a dependency: a database that is down must not restart every
//!   instance that uses it. Only a stuck executor says no.
//! - *Has it started?* Once warm and with a first result, good or bad, for every critical check.
//!   It never becomes false again.
//! - *Is it ready?* Warm, not draining, not stuck, and every critical check is up. One group of
//!   dependencies is ready when all its checks are up, critical or not: what one feature cannot
//!   work without, the instance can.
//! - *How is everything?* Every check with its latency, for people and alerts.
//!
//! It probes nothing itself, and keeps no time: the driver asks [`Check::next`] when, probes, and
//! records.

mod check;
mod config;
mod registry;

pub use check::{Change, Check, Last, Status};
pub use config::Config;
pub use registry::{Id, Registry, Warmup};

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
