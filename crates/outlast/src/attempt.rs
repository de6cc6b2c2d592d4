//! What an attempt knows of itself.

use std::time::{Duration, Instant};

use outlast_core::call::{self, Kind};
use outlast_core::time::Time;
use smol_str::SmolStr;

use crate::Clock;
use crate::clock::instant_of;
use crate::seed::{IdempotencyKey, Seed};
use crate::upstream::Inner;

/// One attempt of a call, given to the closure that makes it. It borrows nothing, so that the
/// future of a call can be spawned.
#[derive(Clone, Debug)]
pub struct Attempt {
    endpoint: SmolStr,
    clock: Clock,
    raw: Raw,
}

/// An attempt, without the upstream it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) attempt: call::Attempt,
    pub(crate) deadline: Time,
    pub(crate) key: KeySource,
}

/// Where the idempotency key comes from: formatting one that nobody asks for would cost more
/// than the call.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    Made(Seed),
    Given(IdempotencyKey),
}

impl Attempt {
    #[inline]
    pub(crate) fn new(inner: &Inner, raw: Raw) -> Attempt {
        let endpoint = inner.endpoints[raw.attempt.endpoint].clone();
        Attempt {
            endpoint,
            clock: inner.clock,
            raw,
        }
    }

    /// Its number within the call, from 1.
    pub fn number(&self) -> u32 {
        self.raw.attempt.id.number()
    }

    /// Why it is made.
    pub fn kind(&self) -> Kind {
        self.raw.attempt.kind
    }

    /// The name of the endpoint to call.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The number of the endpoint to call, in the order in which they were added.
    pub fn endpoint_index(&self) -> usize {
        self.raw.attempt.endpoint
    }

    /// When the whole call ends; `None` without a deadline.
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.raw.deadline)
            .filter(|&deadline| deadline < Time::MAX)
            .and_then(instant_of)
    }

    /// How long this attempt may still take; `None` for without end. What to send the dependency
    /// as its deadline, or to set as a socket's timeout.
    pub fn remaining(&self) -> Option<Duration> {
        let ends = self.raw.attempt.ends;
        (ends < Time::MAX).then(|| ends.since(self.clock.now()))
    }

    /// What makes a repeated attempt recognisable to the dependency: the same for all attempts
    /// of a call.
    pub fn idempotency_key(&self) -> IdempotencyKey {
        match &self.raw.key {
            KeySource::Made(seed) => seed.key(),
            KeySource::Given(key) => key.clone(),
        }
    }
}
