//! What changes the health of endpoints: probes, failures, operators and time.
//!
//! All of it happens under the balancer's lock, is published before the lock is released, and is
//! told to the listener after that.

use super::Balance;
use super::config::MAX_ZONES;
use super::health::Health;
use crate::sync::{MutexGuard, Ordering, lock};
use crate::time::Time;
use crate::{check, eject};

/// The health of an endpoint changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Its check changed its mind.
    Check {
        /// The number of the endpoint.
        endpoint: usize,
        /// Up or down.
        change: check::Change,
    },
    /// It was ejected; in shadow mode, would have been.
    Ejected {
        /// The number of the endpoint.
        endpoint: usize,
        /// Why.
        reason: eject::Reason,
        /// When it returns.
        until: Time,
        /// `false` in shadow mode.
        enforced: bool,
    },
    /// Its ejection is over.
    Returned {
        /// The number of the endpoint.
        endpoint: usize,
    },
}

impl Balance {
    /// When to probe this endpoint next, asked at `now`; `unit` is a random number from `[0, 1)`.
    /// `None` if there are no checks, or no such endpoint.
    pub fn next_check(&self, endpoint: usize, now: Time, unit: f64) -> Option<Time> {
        let health = lock(&self.health);
        let checker = health.members.get(endpoint)?.checker.as_ref()?;
        Some(checker.next(now, unit))
    }

    /// The result of a probe. `false`: a newer membership decides now, and has to be told.
    pub fn checked(&self, endpoint: usize, ok: bool, now: Time) -> bool {
        self.act(now, |health| {
            let checker = health.members.get_mut(endpoint)?.checker.as_mut()?;
            let change = checker.record(ok, now)?;
            Some(Change::Check { endpoint, change })
        })
    }

    /// Ends the ejection of an endpoint: an operator knows better. `false`: a newer membership
    /// decides now, and has to be told.
    pub fn release(&self, endpoint: usize, now: Time) -> bool {
        self.act(now, |health| {
            let known = endpoint < health.members.len();
            let ejector = health.ejector.as_mut().filter(|_| known)?;
            ejector.release(endpoint, now)?;
            self.slots[endpoint].0.tally.reset(now);
            Some(Change::Returned { endpoint })
        })
    }

    /// An endpoint failed too often in a row, as [`Balance::ended`] of an older membership found.
    /// `false`: a newer membership decides now, and has to be told.
    #[cold]
    pub fn misbehaved(&self, endpoint: usize, now: Time) -> bool {
        self.act(now, |health| {
            let ejector = health.ejector.as_mut()?;
            let change = ejector.misbehaved(endpoint, now)?;
            Some(self.ejection(endpoint, change, ejector.is_enforced(), now))
        })
    }

    /// No attempt goes to the endpoints of this zone any more, those in flight may end. `false` if
    /// there is no such zone, or 64 are evacuated already.
    pub fn evacuate_zone(&self, zone: &str, now: Time) -> bool {
        let mut health = lock(&self.health);
        let is_known = self
            .endpoints
            .iter()
            .any(|one| one.zone.as_deref() == Some(zone));
        if health.evacuated.iter().any(|one| &**one == zone) {
            return true;
        }
        if !is_known || health.retired || health.evacuated.len() >= MAX_ZONES {
            return false;
        }
        health.evacuated.push(zone.into());
        self.publish(&mut health, now);
        true
    }

    /// The zone gets traffic again, growing over the time of fail-back. `false` if it was not
    /// evacuated.
    pub fn return_zone(&self, zone: &str, now: Time) -> bool {
        let mut health = lock(&self.health);
        let before = health.evacuated.len();
        if health.retired {
            return false;
        }
        health.evacuated.retain(|one| &**one != zone);
        if health.evacuated.len() == before {
            return false;
        }
        health.welcome_back(zone, &self.endpoints);
        self.publish(&mut health, now);
        true
    }

    pub(super) fn pass(&self, mut health: MutexGuard<'_, Health>, now: Time) {
        if health.retired || now < self.wakes() {
            return;
        }
        let mut changes = Vec::new();
        if let Some(ejector) = &mut health.ejector {
            let enforced = ejector.is_enforced();
            let take = |endpoint: usize| self.slots[endpoint].0.tally.take();
            ejector.timeout(now, take, |endpoint, change| {
                changes.push(self.ejection(endpoint, change, enforced, now));
            });
        }
        self.publish(&mut health, now);
        drop(health);
        changes.into_iter().for_each(|change| self.tell(change));
    }

    /// What an ejector's change means here. An endpoint starts anew both when it is ejected and when
    /// it returns.
    fn ejection(
        &self,
        endpoint: usize,
        change: eject::Change,
        enforced: bool,
        now: Time,
    ) -> Change {
        self.slots[endpoint].0.tally.reset(now);
        match change {
            eject::Change::Ejected { reason, until } => Change::Ejected {
                endpoint,
                reason,
                until,
                enforced,
            },
            eject::Change::Returned => Change::Returned { endpoint },
        }
    }

    /// Changes the health of one endpoint; `false`, and nothing, if a newer membership has taken
    /// over.
    fn act(&self, now: Time, act: impl FnOnce(&mut Health) -> Option<Change>) -> bool {
        let mut health = lock(&self.health);
        if health.retired {
            return false;
        }
        let Some(change) = act(&mut health) else {
            return true;
        };
        self.publish(&mut health, now);
        drop(health);
        self.tell(change);
        true
    }

    pub(super) fn publish(&self, health: &mut Health, now: Time) {
        let signals = &self.signals.0;
        let set_weight = |at: usize, weight| self.slots[at].0.set_weight(weight);
        signals.version.fetch_add(1, Ordering::AcqRel);
        let due = health.publish(&self.endpoints, &self.levels, &self.config, now, set_weight);
        signals.version.fetch_add(1, Ordering::AcqRel);
        signals.due.store(due.as_nanos(), Ordering::Relaxed);
    }

    fn tell(&self, change: Change) {
        if let Some(listener) = &self.listener {
            listener(change);
        }
    }
}
