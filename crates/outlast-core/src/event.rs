//! What happened, for whoever listens.
//!
//! Events are small values without owned strings, built only when there is an observer. An
//! observer runs on the thread of the call, outside of every lock; it should count or log, and
//! return.

use std::sync::Arc;
use std::time::Duration;

use crate::breaker::Change;
use crate::call::Kind;
use crate::fallback::Why;
use crate::outcome::Outcome;
use crate::reject::Rejection;
use crate::time::Time;
use crate::{check, eject};

/// Something that happened to a call or to a policy.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A policy said no, and the call ended without reaching the dependency (again).
    Rejected(Rejection),
    /// A policy in shadow mode would have said no.
    WouldReject(Rejection),
    /// A policy in shadow mode would have made this extra attempt.
    WouldStart(Kind),
    /// An attempt started.
    Started {
        /// Its number within the call, from 1.
        number: u32,
        /// Why it was made.
        kind: Kind,
        /// The endpoint it goes to.
        endpoint: &'a str,
    },
    /// An attempt ended, or was cancelled.
    Ended {
        /// Its number within the call, from 1.
        number: u32,
        /// The endpoint it went to.
        endpoint: &'a str,
        /// How it was judged.
        outcome: Outcome,
        /// How long it ran.
        took: Duration,
        /// Whether it was cut off before it had a result.
        cancelled: bool,
    },
    /// The call will try again.
    Waits {
        /// The number of the coming attempt.
        number: u32,
        /// How long it waits before.
        delay: Duration,
    },
    /// An endpoint's breaker changed its state.
    Breaker {
        /// The endpoint.
        endpoint: &'a str,
        /// The change.
        change: Change,
    },
    /// An endpoint's check changed its mind.
    Check {
        /// The endpoint.
        endpoint: &'a str,
        /// Up or down.
        change: check::Change,
    },
    /// An endpoint was ejected: no attempt goes there for a while.
    Ejected {
        /// The endpoint.
        endpoint: &'a str,
        /// Why.
        reason: eject::Reason,
        /// When it returns.
        until: Time,
    },
    /// Ejection in shadow mode would have ejected this endpoint.
    WouldEject {
        /// The endpoint.
        endpoint: &'a str,
        /// Why.
        reason: eject::Reason,
    },
    /// An endpoint's ejection is over.
    Returned {
        /// The endpoint.
        endpoint: &'a str,
    },
    /// A zone was evacuated: no attempt goes there any more.
    Evacuated {
        /// The zone.
        zone: &'a str,
    },
    /// An evacuated zone gets traffic again, more and more.
    ZoneReturned {
        /// The zone.
        zone: &'a str,
    },
    /// The endpoints changed.
    Membership {
        /// How often they have changed.
        version: u64,
        /// How many there are now.
        endpoints: usize,
        /// How many of them are new.
        joined: usize,
        /// How many have left.
        left: usize,
    },
    /// A fallback answered instead of the dependency.
    FellBack(Why),
    /// A fallback in shadow mode would have answered.
    WouldFallBack(Why),
}

/// Listens to the events of an upstream.
pub trait Observer: Send + Sync {
    /// Something happened to `upstream`.
    fn event(&self, upstream: &str, event: &Event<'_>);
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn event(&self, upstream: &str, event: &Event<'_>) {
        (**self).event(upstream, event);
    }
}
