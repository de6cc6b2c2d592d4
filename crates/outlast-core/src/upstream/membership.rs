//! Endpoints that come and go while calls run.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::endpoint::{Endpoint, observe};
use super::members::{Latest, Members, Roster};
use super::{Config, Upstream};
use crate::balance::{self, Balance, Change};
use crate::breaker::Breaker;
use crate::config::ConfigError;
use crate::event::{Event, Observer};
use crate::time::Time;

/// The endpoints of an upstream at one time. Cheap to clone; it changes no more.
///
/// A driver that keeps something per endpoint (a pool of connections) keeps it by number, makes it
/// when an attempt has a number it does not know, and drops what a newer membership no longer has
/// when nothing is in flight there any more.
#[derive(Clone)]
pub struct Membership(Arc<Members>);

impl Membership {
    /// 0 for the endpoints that the upstream was built with; one more for each change.
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// How many endpoints there are.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.0.endpoints.len()
    }

    /// The number and the name of each endpoint, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &str)> {
        let endpoints = self.0.endpoints.iter();
        endpoints.map(|endpoint| (endpoint.number, &*endpoint.name))
    }

    /// The name of the endpoint with this number, if it is one of them.
    pub fn name(&self, number: usize) -> Option<&str> {
        let at = self.0.position(number)?;
        Some(&self.0.endpoints[at].name)
    }

    /// The number of the endpoint with this name.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.0.named(name).map(|endpoint| endpoint.number)
    }

    /// The attempts that run now at the endpoint with this number, whichever membership they began
    /// in. `None` if it is none of these, or nobody counts because there is no choice.
    pub fn in_flight(&self, number: usize) -> Option<u32> {
        let at = self.0.position(number)?;
        let balance = self.0.balance.as_ref()?;
        Some(balance.in_flight(at))
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("version", &self.version())
            .field("endpoints", &self.iter().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// The endpoints it has now.
    pub fn members(&self) -> Membership {
        Membership(self.roster.latest())
    }

    /// [`Membership::version`] of the endpoints it has now: one atomic load, to notice a change.
    pub fn version(&self) -> u64 {
        self.roster.version()
    }

    /// Replaces the endpoints, while calls run. Those whose names, and addresses if they have one,
    /// stay keep their number and all that is known of them (breaker, latency, ejection, checks,
    /// statistics); others are newcomers. Attempts that run, and answers that are open, end where
    /// they began. The same endpoints once
    /// more, in whatever order, change nothing. Budget, bulkhead, rate limit and the latency that
    /// hedges go by are the upstream's, and stay.
    ///
    /// A call that has no attempt running goes by the new endpoints from its next attempt on.
    ///
    /// # Errors
    /// If there are none, too many, or two of one name, or if a weight cannot be: the present ones
    /// stay. And with failover, whose order is fixed.
    pub fn set_endpoints(
        &self,
        endpoints: Vec<balance::Endpoint>,
        now: Time,
    ) -> Result<Membership, ConfigError> {
        if self.config.failover.is_some() {
            return Err(ConfigError::new(
                "failover",
                "keeps the endpoints it was built with; to change them, leave it out, and give \
                 endpoints a priority",
            ));
        }
        balance::validate_endpoints(&endpoints)?;
        let mut counts = None;
        let members = self.roster.change(|latest| {
            if is_same(&latest.described, &endpoints) {
                return Ok(None);
            }
            let next = self.next_members(latest, &endpoints, now)?;
            let before = latest.members.endpoints.iter();
            let before: HashSet<_> = before.map(|one| one.number).collect();
            let kept = |one: &&Arc<Endpoint>| before.contains(&one.number);
            let stay = next.endpoints.iter().filter(kept).count();
            counts = Some((
                next.endpoints.len() - stay,
                latest.members.endpoints.len() - stay,
            ));
            latest.described = endpoints;
            Ok(Some(next))
        })?;
        if let Some((joined, left)) = counts {
            self.emit(|| Event::Membership {
                version: members.version,
                endpoints: members.endpoints.len(),
                joined,
                left,
            });
        }
        Ok(Membership(members))
    }

    /// The membership after the latest one.
    fn next_members(
        &self,
        latest: &mut Latest,
        described: &[balance::Endpoint],
        now: Time,
    ) -> Result<Members, ConfigError> {
        let old = &latest.members;
        let known_as = latest.described.iter().map(balance::Endpoint::identity);
        let known: HashMap<_, _> = known_as.zip(&old.endpoints).collect();
        let mut numbers = latest.numbers;
        let endpoint = |one: &balance::Endpoint| match known.get(&one.identity()) {
            Some(&endpoint) => Ok(Arc::clone(endpoint)),
            None => {
                numbers += 1;
                self.newcomer(numbers - 1, one.name())
            }
        };
        let endpoints: Box<[_]> = described.iter().map(endpoint).collect::<Result<_, _>>()?;
        let config = self.config.balance.as_deref().cloned().unwrap_or_default();
        // Last, because from here on the old one decides nothing.
        let balance = match &old.balance {
            Some(balance) => balance.succeed(config, described.iter().cloned(), now)?,
            None => Balance::new(config, described.iter().cloned(), now)?,
        };
        let balance = listened(balance, &self.config, &endpoints, self.observer.as_ref());
        latest.numbers = numbers;
        let version = latest.members.version + 1;
        let balance = Some(Box::new(balance));
        Ok(Members::new(version, endpoints, balance, described))
    }

    fn newcomer(&self, number: usize, name: &str) -> Result<Arc<Endpoint>, ConfigError> {
        endpoint(
            &self.config,
            number,
            name,
            self.seed,
            self.observer.as_ref(),
        )
    }
}

/// The membership that an upstream is built with.
pub(super) fn first(
    config: &Config,
    described: Vec<balance::Endpoint>,
    seed: u64,
    observer: Option<&Arc<dyn Observer>>,
) -> Result<Roster, ConfigError> {
    let endpoints: Box<[_]> = described
        .iter()
        .enumerate()
        .map(|(number, one)| endpoint(config, number, one.name(), seed, observer))
        .collect::<Result<_, _>>()?;
    let balance = match config.balances(&described) {
        None => None,
        Some(balance) => {
            // Whatever the time is: nothing has happened yet.
            let balance = Balance::new(balance, described.iter().cloned(), Time::ZERO)?;
            Some(Box::new(listened(balance, config, &endpoints, observer)))
        }
    };
    let members = Members::new(0, endpoints, balance, &described);
    Ok(Roster::new(members, described))
}

fn endpoint(
    config: &Config,
    number: usize,
    name: &str,
    seed: u64,
    observer: Option<&Arc<dyn Observer>>,
) -> Result<Arc<Endpoint>, ConfigError> {
    let name: Arc<str> = name.into();
    let breaker = match &config.breaker {
        None => None,
        Some(breaker) => {
            let breaker = Breaker::new(breaker.clone(), seed.wrapping_add(number as u64))?;
            Some(observe(breaker, &config.name, &name, observer))
        }
    };
    Ok(Arc::new(Endpoint::new(number, name, breaker)))
}

/// Lets the observer hear of changes in the endpoints' health.
fn listened(
    balance: Balance,
    config: &Config,
    endpoints: &[Arc<Endpoint>],
    observer: Option<&Arc<dyn Observer>>,
) -> Balance {
    let Some(observer) = observer.cloned() else {
        return balance;
    };
    let upstream = config.name.clone();
    let names: Box<[Arc<str>]> = endpoints
        .iter()
        .map(|endpoint| Arc::clone(&endpoint.name))
        .collect();
    balance.on_change(move |change| {
        let event = match change {
            Change::Check { endpoint, change } => Event::Check {
                endpoint: &names[endpoint],
                change,
            },
            Change::Ejected {
                endpoint,
                reason,
                until,
                enforced: true,
            } => Event::Ejected {
                endpoint: &names[endpoint],
                reason,
                until,
            },
            Change::Ejected {
                endpoint, reason, ..
            } => Event::WouldEject {
                endpoint: &names[endpoint],
                reason,
            },
            Change::Returned { endpoint } => Event::Returned {
                endpoint: &names[endpoint],
            },
        };
        observer.event(&upstream, &event);
    })
}

/// Whether two descriptions differ in their order at most.
fn is_same(one: &[balance::Endpoint], other: &[balance::Endpoint]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let known: HashMap<_, _> = one
        .iter()
        .map(|endpoint| (endpoint.name(), endpoint))
        .collect();
    let is_known = |endpoint: &balance::Endpoint| known.get(endpoint.name()) == Some(&endpoint);
    other.iter().all(is_known)
}
