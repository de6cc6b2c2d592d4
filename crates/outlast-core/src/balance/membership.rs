//! Making a set of endpoints, and the next one of it.
//!
//! What attempts count into lies behind references that both memberships share, so nothing in
//! flight is lost; what is decided about health moves to the new one, and the old one decides
//! nothing any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::config::{Config, Endpoint};
use super::health::{Health, Member};
use super::level::Level;
use super::pick::hash_of_name;
use super::shares::Damper;
use super::slot::Decay;
use super::{Balance, MAX_ENDPOINTS, Signals};
use crate::check::Checker;
use crate::config::ConfigError;
use crate::eject::Ejector;
use crate::sync::{AtomicU64, Mutex, Ordering, Padded, lock};
use crate::time::Time;

impl Balance {
    /// The next membership, and perhaps other settings. Endpoints whose names and addresses stay keep
    /// all that is known of them and what they have in flight; others start as newcomers. Evacuated
    /// zones stay so. From then on `self` only serves the calls that still hold it.
    ///
    /// It is for one caller at a time: of two that succeed the same balance only the first counts.
    ///
    /// # Errors
    /// As [`Balance::new`], and if `self` has been succeeded before; `self` goes on unchanged.
    pub fn succeed(
        &self,
        config: Config,
        endpoints: impl IntoIterator<Item = Endpoint>,
        now: Time,
    ) -> Result<Balance, ConfigError> {
        let mut next = Balance::build(config, endpoints, now)?;
        let mut old = lock(&self.health);
        if old.retired {
            return Err(ConfigError::new(
                "endpoints",
                "must follow the latest membership; another one came first",
            ));
        }
        next.listener = self.listener.clone();
        next.running = Arc::clone(&self.running);
        let stays = next.inherit(self, &old);
        old.retired = true;
        self.signals.0.due.store(u64::MAX, Ordering::Relaxed);
        next.publish(&mut lock(&next.health), now);
        for (slot, _) in self.slots.iter().zip(stays).filter(|(_, stays)| !stays) {
            slot.0.set_weight(0);
        }
        Ok(next)
    }

    /// Whether a newer membership has taken over. A call that finds nobody in an old one asks the
    /// new one.
    pub fn is_succeeded(&self) -> bool {
        lock(&self.health).retired
    }

    /// How many endpoints there are.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// The name of an endpoint.
    pub fn name(&self, endpoint: usize) -> Option<&str> {
        self.endpoints.get(endpoint).map(|endpoint| &*endpoint.name)
    }

    /// The number of the endpoint of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.endpoints.iter().position(|one| &*one.name == name)
    }

    pub(super) fn build(
        config: Config,
        endpoints: impl IntoIterator<Item = Endpoint>,
        now: Time,
    ) -> Result<Balance, ConfigError> {
        let endpoints: Box<[_]> = endpoints.into_iter().take(MAX_ENDPOINTS + 1).collect();
        config.validate(&endpoints)?;
        let levels = arrange(&config, &endpoints);
        let checker = config.check.map(Checker::new).transpose()?;
        let ejector = config
            .eject
            .map(|eject| Ejector::new(eject, endpoints.len(), now));
        let health = Health {
            members: vec![Member::at_start(checker); endpoints.len()],
            ejector: ejector.transpose()?,
            evacuated: Vec::new(),
            dampers: vec![Damper::Steady { at: 1.0 }; levels.len()],
            retired: false,
        };
        Ok(Balance {
            names: endpoints
                .iter()
                .map(|one| hash_of_name(&one.name))
                .collect(),
            slots: endpoints.iter().map(|_| Arc::default()).collect(),
            levels,
            decay: Decay::new(config.kind.decay().unwrap_or(Duration::MAX)),
            running: Arc::default(),
            signals: Padded(Signals {
                due: AtomicU64::new(u64::MAX),
                version: AtomicU64::new(0),
            }),
            health: Mutex::new(health),
            listener: None,
            endpoints,
            config,
        })
    }

    /// Takes over what `old` knows of the endpoints and levels that stay; which of the endpoints do.
    fn inherit(&mut self, old: &Balance, known: &Health) -> Vec<bool> {
        let mut health = lock(&self.health);
        health.evacuated.clone_from(&known.evacuated);
        let known_as = old.endpoints.iter().map(Endpoint::identity);
        let there: HashMap<_, _> = known_as.zip(0..).collect();
        let mut places = Vec::new();
        for (here, endpoint) in self.endpoints.iter().enumerate() {
            let checker = health.members[here].checker.take();
            health.members[here] = match there.get(&endpoint.identity()) {
                None => Member::newcomer(checker),
                Some(&there) => {
                    places.push((here, there));
                    self.slots[here] = Arc::clone(&old.slots[there]);
                    known.members[there].under(checker)
                }
            };
        }
        if let (Some(ejector), Some(other)) = (&mut health.ejector, &known.ejector) {
            ejector.follow(other, &places);
        }
        for (damper, level) in health.dampers.iter_mut().zip(&self.levels) {
            let same = |one: &Level| (one.priority, one.rank) == (level.priority, level.rank);
            let before = old.levels.iter().position(same);
            let new = Damper::Steady { at: 0.0 };
            *damper = before.map_or(new, |before| known.dampers[before]);
        }
        let mut stays = vec![false; old.len()];
        places.iter().for_each(|&(_, there)| stays[there] = true);
        stays
    }
}

/// The levels, most preferred first.
fn arrange(config: &Config, endpoints: &[Endpoint]) -> Box<[Level]> {
    let rank = |endpoint: &Endpoint| match &endpoint.zone {
        _ if config.zones.is_empty() => 0,
        None => 0, // near
        Some(zone) => {
            let place = config.zones.iter().position(|one| one == zone);
            place.unwrap_or(config.zones.len()) as u16
        }
    };
    let key = |at: &u32| {
        let endpoint = &endpoints[*at as usize];
        (endpoint.priority, rank(endpoint))
    };
    let mut order: Vec<_> = (0..endpoints.len() as u32).collect();
    order.sort_by_key(key);
    order
        .chunk_by(|one, other| key(one) == key(other))
        .map(|members| {
            let (priority, rank) = key(&members[0]);
            Level::new(priority, rank, members.to_vec())
        })
        .collect()
}
