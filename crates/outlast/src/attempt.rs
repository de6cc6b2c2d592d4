//! What an attempt knows of itself.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outlast_core::call::{self, AttemptId, Call, Kind};
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
    endpoint_index: usize,
    id: AttemptId,
    kind: Kind,
    ends: Time,
    deadline: Time,
    clock: Clock,
    key: KeySource,
}

/// An attempt, as the machine and its driver know it. By reference, because copying what has just
/// been written in small pieces stalls the processor, once for each copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a> {
    pub(crate) attempt: &'a call::Attempt,
    pub(crate) deadline: Time,
    pub(crate) key: &'a KeySource,
}

/// Where the idempotency key comes from: formatting one that nobody asks for would cost more
/// than the call.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    Made(Seed),
    Given(IdempotencyKey),
}

impl Attempt {
    #[inline(always)]
    pub(crate) fn new<U>(inner: &Inner, raw: Raw<'_>, call: &Call<U>) -> Attempt
    where
        U: Deref<Target = outlast_core::upstream::Upstream>,
    {
        let endpoint = match inner.endpoints.get(raw.attempt.endpoint) {
            Some(name) => name.clone(),
            None => newcomer(call, raw.attempt.id),
        };
        Attempt {
            endpoint,
            endpoint_index: raw.attempt.endpoint,
            id: raw.attempt.id,
            kind: raw.attempt.kind,
            ends: raw.attempt.ends,
            deadline: raw.deadline,
            clock: inner.clock,
            key: raw.key.clone(),
        }
    }

    /// Its number within the call, from 1.
    pub fn number(&self) -> u32 {
        self.id.number()
    }

    /// Why it is made.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name of the endpoint to call.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The number of the endpoint to call: those that the upstream was built with are numbered in
    /// the order in which they were added, later ones from there on, and no number is given twice.
    pub fn endpoint_index(&self) -> usize {
        self.endpoint_index
    }

    /// When the whole call ends; `None` without a deadline.
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.deadline)
            .filter(|&deadline| deadline < Time::MAX)
            .and_then(instant_of)
    }

    /// How long this attempt may still take; `None` for without end. What to send the dependency
    /// as its deadline, or to set as a socket's timeout.
    pub fn remaining(&self) -> Option<Duration> {
        (self.ends < Time::MAX).then(|| self.ends.since(self.clock.now()))
    }

    /// What makes a repeated attempt recognisable to the dependency: the same for all attempts
    /// of a call.
    pub fn idempotency_key(&self) -> IdempotencyKey {
        match &self.key {
            KeySource::Made(seed) => seed.key(),
            KeySource::Given(key) => key.clone(),
        }
    }
}

/// The name of an endpoint that the upstream was not built with.
#[cold]
fn newcomer<U>(call: &Call<U>, attempt: AttemptId) -> SmolStr
where
    U: Deref<Target = outlast_core::upstream::Upstream>,
{
    let name = call.endpoint(attempt).expect("the attempt runs");
    SmolStr::from(Arc::clone(name))
}
