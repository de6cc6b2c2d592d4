//! The endpoints that an upstream has now, and who decides among them.
//!
//! Most upstreams keep the endpoints they were built with, and must not pay for those that do not.
//! So the first membership is a plain field, and only when another one follows does a call look
//! further: it finds the newest in one of a few copies, one per thread or so, behind a lock that
//! only a change takes for writing. Each copy has a reference count of its own, so busy threads
//! share no line of memory. An upstream that never changes pays one load and a branch an attempt;
//! one that has changed pays about 20 ns more.
//!
//! **An attempt holds the membership in which it began**, and settles there: a change drops
//! nothing. The endpoints themselves are shared by all memberships of which they are a part.
//!
//! **Numbers.** Each endpoint has a number that no other one of the upstream ever gets, so it means
//! the same for as long as somebody remembers it, in whatever membership. Those that the upstream
//! was built with are numbered in their order. (A place that is used again would be ambiguous in
//! the hands of a driver: the connection pool of an endpoint that left would serve its successor.)
//!
//! An append-only list of endpoints would spare the reference counts, but a membership that changes
//! a hundred times a second would fill it; here what nobody holds any more is freed.

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::endpoint::Endpoint;
use crate::balance::{self, Balance};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, Padded, STRIPES, lock, stripe};

/// One set of endpoints.
pub(crate) struct Members {
    pub(crate) version: u64,
    pub(crate) endpoints: Box<[Arc<Endpoint>]>,
    /// Who chooses; none for an order of preference, nor where there never was a choice.
    pub(crate) balance: Option<Box<Balance>>,
    /// Where each stands, by number: those of one priority and zone are likely to fail together.
    pub(crate) places: Box<[u16]>,
    pub(crate) has_places: bool,
}

impl Members {
    pub(super) fn new(
        version: u64,
        endpoints: Box<[Arc<Endpoint>]>,
        balance: Option<Box<Balance>>,
        described: &[balance::Endpoint],
    ) -> Members {
        let mut known: Vec<_> = described.iter().map(balance::Endpoint::place).collect();
        known.sort_unstable();
        known.dedup();
        let place = |one: &balance::Endpoint| {
            let found = known.binary_search(&one.place());
            found.expect("it is one of them") as u16
        };
        Members {
            version,
            endpoints,
            balance,
            places: described.iter().map(place).collect(),
            has_places: known.len() > 1,
        }
    }

    /// The position of the endpoint with this number.
    pub(crate) fn position(&self, number: usize) -> Option<usize> {
        let is_it = |at: usize| {
            let endpoint = self.endpoints.get(at);
            endpoint.is_some_and(|endpoint| endpoint.number == number)
        };
        if is_it(number) {
            return Some(number);
        }
        (0..self.endpoints.len()).find(|&at| is_it(at))
    }

    /// The endpoint of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Endpoint>> {
        self.endpoints
            .iter()
            .find(|endpoint| &*endpoint.name == name)
    }
}

/// The membership that holds now, and how it changes.
pub(crate) struct Roster {
    /// The endpoints that the upstream was built with, at hand.
    endpoints: Box<[Arc<Endpoint>]>,
    /// Whether there was a choice among them.
    balances: bool,
    first: Arc<Members>,
    later: OnceLock<Box<Copies>>,
    /// Odd while it changes.
    sequence: AtomicU64,
    latest: Mutex<Latest>,
}

type Copies = [Padded<RwLock<Arc<Counted>>>; STRIPES];

/// A membership that is counted apart from its other copies.
struct Counted(Arc<Members>);

/// What a change begins with.
pub(super) struct Latest {
    pub(super) members: Arc<Members>,
    pub(super) described: Vec<balance::Endpoint>,
    /// How many endpoints there have ever been.
    pub(super) numbers: usize,
}

/// A membership, for as long as an attempt needs it; `None` is the first.
#[derive(Clone)]
pub(crate) struct Held(Option<Arc<Counted>>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.0.as_ref().map_or(0, |counted| counted.0.version);
        f.debug_tuple("Held").field(&version).finish()
    }
}

impl Held {
    /// The membership that the upstream was built with.
    pub(crate) const FIRST: Held = Held(None);
}

impl Roster {
    pub(super) fn new(first: Members, described: Vec<balance::Endpoint>) -> Roster {
        let first = Arc::new(first);
        Roster {
            endpoints: first.endpoints.clone(),
            balances: first.balance.is_some(),
            later: OnceLock::new(),
            sequence: AtomicU64::new(0),
            latest: Mutex::new(Latest {
                members: Arc::clone(&first),
                numbers: described.len(),
                described,
            }),
            first,
        }
    }

    /// The membership for an attempt.
    #[inline]
    pub(crate) fn hold(&self) -> Held {
        match self.later.get() {
            None => Held(None),
            Some(copies) => Held(Some(copy(copies))),
        }
    }

    /// Whether endpoints are chosen, and not taken in their order.
    #[inline]
    pub(crate) fn balances(&self) -> bool {
        self.balances || self.later.get().is_some()
    }

    /// The endpoints, where they are taken in their order.
    #[inline]
    pub(crate) fn in_order(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The endpoint in this position of what is held.
    #[inline]
    pub(crate) fn endpoint<'a>(&'a self, held: &'a Held, at: usize) -> &'a Endpoint {
        match &held.0 {
            None => &self.endpoints[at],
            Some(counted) => &counted.0.endpoints[at],
        }
    }

    /// Who chose it, if it was a choice.
    #[inline]
    pub(crate) fn balance<'a>(&'a self, held: &'a Held) -> Option<&'a Balance> {
        match &held.0 {
            None if !self.balances => None,
            None => self.first.balance.as_deref(),
            Some(counted) => counted.0.balance.as_deref(),
        }
    }

    /// What is held.
    #[inline]
    pub(crate) fn members<'a>(&'a self, held: &'a Held) -> &'a Members {
        match &held.0 {
            None => &self.first,
            Some(counted) => &counted.0,
        }
    }

    /// The newest membership; waits for a change that is being made.
    pub(crate) fn latest(&self) -> Arc<Members> {
        Arc::clone(&lock(&self.latest).members)
    }

    /// As [`Roster::latest`], for an attempt.
    #[cold]
    pub(crate) fn hold_latest(&self) -> Held {
        Held(Some(Arc::new(Counted(self.latest()))))
    }

    /// Whether this is still the membership that holds.
    #[inline]
    pub(crate) fn is_current(&self, held: &Held) -> bool {
        self.sequence.load(Ordering::Acquire) == self.members(held).version * 2
    }

    /// How often the membership has changed.
    pub(super) fn version(&self) -> u64 {
        self.sequence.load(Ordering::Acquire) / 2
    }

    /// Makes the next membership and publishes it, unless `next` fails.
    pub(super) fn change<E>(
        &self,
        next: impl FnOnce(&mut Latest) -> Result<Option<Members>, E>,
    ) -> Result<Arc<Members>, E> {
        let mut latest = lock(&self.latest);
        let changing = Changing::begin(&self.sequence, &latest);
        if let Some(members) = next(&mut latest)? {
            latest.members = Arc::new(members);
            self.publish(&latest.members);
        }
        changing.end(&latest);
        Ok(Arc::clone(&latest.members))
    }

    fn publish(&self, members: &Arc<Members>) {
        let copy = || Arc::new(Counted(Arc::clone(members)));
        let first = || Box::new(std::array::from_fn(|_| Padded(RwLock::new(copy()))));
        for stripe in self.later.get_or_init(first).iter() {
            *stripe.0.write().unwrap_or_else(PoisonError::into_inner) = copy();
        }
    }
}

#[inline(never)]
fn copy(copies: &Copies) -> Arc<Counted> {
    let copy = copies[stripe()].0.read();
    Arc::clone(&copy.unwrap_or_else(PoisonError::into_inner))
}

/// Whoever finds nobody while a change is made has to look again. However the change ends, it is
/// over.
struct Changing<'a> {
    sequence: &'a AtomicU64,
    before: u64,
}

impl Changing<'_> {
    fn begin<'a>(sequence: &'a AtomicU64, latest: &MutexGuard<'_, Latest>) -> Changing<'a> {
        let before = latest.members.version * 2;
        sequence.store(before + 1, Ordering::Release);
        Changing { sequence, before }
    }

    fn end(mut self, latest: &MutexGuard<'_, Latest>) {
        self.before = latest.members.version * 2;
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.sequence.store(self.before, Ordering::Release);
    }
}
