//! What an attempt's result means.
//!
//! A driver classifies each result once, and every policy reads the same [`Outcome`]: the breaker
//! asks whether the dependency is healthy, the retry policy whether another attempt could help,
//! the budget whether work got done. One taxonomy instead of a predicate per policy is what keeps
//! them from contradicting each other.

use std::time::Duration;

/// The judgement on one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The dependency did its work. Healthy for the breaker, deposits in the budget.
    Success,
    /// It failed in a way that another attempt may cure: a connection error, a timeout, a 503.
    /// A failure for the breaker.
    Transient,
    /// It failed before anything of the request was sent: a refused connection, a name that does
    /// not resolve. As `Transient`, except that even a call that may not be repeated may try again,
    /// if nothing of it was sent before.
    Unsent,
    /// It answered, and will answer the same again: a declined card, a 404 as an error. Healthy
    /// for the breaker, never retried, not covered by a fallback unless that is told so.
    Permanent,
    /// It is up but asks for less. A failure for the breaker. With a time, no extra attempt of
    /// *any* caller goes to that endpoint until the time has passed.
    Overload {
        /// The dependency's own hint (Retry-After, grpc-retry-pushback-ms).
        retry_after: Option<Duration>,
    },
    /// Says nothing about the dependency: the caller gave up early, a local error. Counted
    /// nowhere; a half-open trial's place is free again.
    Ignored,
}

impl Outcome {
    /// A stable snake_case name for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Transient => "transient",
            Outcome::Unsent => "unsent",
            Outcome::Permanent => "permanent",
            Outcome::Overload { .. } => "overload",
            Outcome::Ignored => "ignored",
        }
    }
}
