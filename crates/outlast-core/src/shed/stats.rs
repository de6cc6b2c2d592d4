//! A snapshot for people and metrics.

use std::time::Duration;

use super::Shed;
use crate::sync::Ordering;
use crate::tier::Tier;

/// A snapshot of a shedder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// Calls that may be in flight at once, as it stands.
    pub limit: u32,
    /// Calls in flight now.
    pub in_flight: u32,
    /// The most there ever were.
    pub peak: u32,
    /// Callers waiting now.
    pub queued: u32,
    /// Calls that were let in, since the start.
    pub admitted: u64,
    /// How long a call usually takes; zero while unknown.
    pub service: Duration,
    /// Calls that the limit was learnt from, since the start.
    pub samples: u64,
    shed: [u64; 3],
}

impl Stats {
    /// Calls of this tier that were refused, since the start.
    pub fn shed(&self, tier: Tier) -> u64 {
        self.shed[tier.index()]
    }

    /// `in_flight / limit`: above 1 for a moment when the limit has fallen. What an autoscaler
    /// wants to keep below its target.
    pub fn utilisation(&self) -> f64 {
        f64::from(self.in_flight) / f64::from(self.limit)
    }
}

impl Shed {
    /// A snapshot, taken number by number.
    pub fn stats(&self) -> Stats {
        Stats {
            limit: self.seats.limit(),
            in_flight: self.seats.active(),
            peak: self.seats.peak(),
            queued: self.seats.waiting(),
            admitted: self.seats.accepted(),
            service: self.service(),
            samples: self.samples.load(Ordering::Relaxed),
            shed: std::array::from_fn(|at| self.shed[at].load(Ordering::Relaxed)),
        }
    }
}
