//! Finding the endpoints of an upstream while the gateway runs.
//!
//! Names are looked up and files are read in the background, by the first worker's runtime; an
//! operator tells endpoints on the admin listener. Whatever fails, and whatever comes that cannot
//! work, the last good endpoints stay: an empty answer of a name server, a file that is half
//! written. It is said once in the log, and for as long as it lasts in `/status`.

mod file;
mod names;
mod resolve;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use outlast_config::plan;
use tokio::task::JoinHandle;

use self::names::Lookup;
use crate::attempt::wall;
use crate::members::Changed;
use crate::table::Upstream;

/// Where the endpoints of an upstream come from, and what came last.
#[derive(Debug)]
pub(crate) struct Discovery {
    pub(crate) plan: plan::Discovery,
    latest: Mutex<Latest>,
}

/// What came last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latest {
    /// The endpoints, unless there are only those of the plan.
    pub(crate) endpoints: Option<Vec<plan::Endpoint>>,
    /// Which membership they are.
    version: u64,
    pub(crate) changed: Option<SystemTime>,
    /// Why there was nothing that could be used since.
    pub(crate) error: Option<String>,
}

impl Discovery {
    pub(crate) fn new(plan: plan::Discovery) -> Discovery {
        Discovery {
            plan,
            latest: Mutex::default(),
        }
    }

    /// Its name in policy files.
    pub(crate) fn from(&self) -> &'static str {
        match &self.plan {
            plan::Discovery::Names(names) => match names.record {
                plan::Record::Address => "dns",
                plan::Record::Service => "srv",
            },
            plan::Discovery::File(_) => "file",
            plan::Discovery::Admin => "admin",
        }
    }

    pub(crate) fn latest(&self) -> Latest {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    /// Goes on with these endpoints; an error says why it cannot, and the last ones stay.
    pub(crate) fn take(&self, endpoints: &[plan::Endpoint]) -> Result<Option<Changed>, String> {
        let changed = self.members.change(&self.policies, endpoints)?;
        if let Some(changed) = changed {
            if let Some(discovery) = &self.discovery {
                let mut latest = discovery.lock();
                // Another one that came later may have been quicker to say so.
                if changed.version > latest.version {
                    latest.version = changed.version;
                    latest.changed = Some(wall());
                    latest.endpoints = Some(endpoints.to_vec());
                }
            }
            let Changed {
                endpoints,
                joined,
                left,
                ..
            } = changed;
            let upstream = self.plan.name.as_str();
            tracing::info!(upstream, endpoints, joined, left, "its endpoints changed");
        }
        Ok(changed)
    }

    /// What was wrong when it was looked last, if anything was.
    fn looked(&self, error: Option<String>) {
        let Some(discovery) = &self.discovery else {
            return;
        };
        let upstream = self.plan.name.as_str();
        let mut latest = discovery.lock();
        match &error {
            Some(error) if latest.error.as_ref() != Some(error) => {
                tracing::warn!(
                    upstream,
                    error,
                    "endpoints are not found; the last ones stay"
                );
            }
            None if latest.error.is_some() => {
                tracing::info!(upstream, "endpoints are found again");
            }
            Some(_) | None => {}
        }
        latest.error = error;
    }

    /// As far as both are discovered in the same way, goes on with what `former` has found. How often
    /// and whom it asks makes no difference.
    pub(crate) fn go_on_from(&self, former: &Upstream) {
        let (Some(own), Some(other)) = (&self.discovery, &former.discovery) else {
            return;
        };
        let is_alike = match (&own.plan, &other.plan) {
            (plan::Discovery::Names(own), plan::Discovery::Names(other)) => {
                own.record == other.record
            }
            // What a file says was read anew with the plan.
            (plan::Discovery::File(_), _) => false,
            (own, other) => own == other,
        };
        let is_same = is_alike && self.plan.endpoints == former.plan.endpoints;
        let endpoints = other.latest().endpoints;
        if let Some(endpoints) = endpoints.filter(|_| is_same)
            && let Err(error) = self.take(&endpoints)
        {
            self.looked(Some(error));
        }
    }
}

/// The task that looks again and again; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Discovering(JoinHandle<()>);

impl Drop for Discovering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Discovering {
    /// Begins to look; `None` if there is nothing to look at.
    pub(crate) fn start(upstream: &Arc<Upstream>) -> Option<Discovering> {
        let owner = Arc::clone(upstream);
        let task = match upstream.discovery.as_ref()?.plan.clone() {
            plan::Discovery::Admin => return None,
            plan::Discovery::File(path) => tokio::task::spawn_local(file::follow(owner, path)),
            plan::Discovery::Names(names) => tokio::task::spawn_local(names::follow(owner, names)),
        };
        Some(Discovering(task))
    }
}

/// Looks the names of upstreams up that have just been made, so that they begin with addresses.
/// Whatever cannot be found in a moment is left to be found later.
pub(crate) fn look_first(upstreams: &[Arc<Upstream>]) {
    let lookups: Vec<_> = upstreams.iter().filter_map(first_of).collect();
    if lookups.is_empty() {
        return;
    }
    // A thread of its own, because the caller's may have a runtime, which cannot be waited in.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(names::look_once(lookups, FIRST_LOOK)),
                Err(error) => tracing::warn!(%error, "names are looked up later"),
            }
        });
    });
}

fn first_of(upstream: &Arc<Upstream>) -> Option<(Arc<Upstream>, Lookup)> {
    let discovery = upstream.discovery.as_ref()?;
    let is_known = discovery.latest().endpoints.is_some();
    match &discovery.plan {
        plan::Discovery::Names(names) if !is_known => {
            let lookup = Lookup::new(names.clone(), &upstream.plan.endpoints);
            Some((Arc::clone(upstream), lookup))
        }
        _ => None,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is what looks from time to time"
)]
async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

/// A time that is up to a tenth shorter or longer, so that many gateways do not ask at once.
fn spread(every: Duration) -> Duration {
    let drawn = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    every.mul_f64(0.9 + 0.2 * drawn)
}

/// How long the start waits for name servers.
const FIRST_LOOK: Duration = Duration::from_secs(2);
