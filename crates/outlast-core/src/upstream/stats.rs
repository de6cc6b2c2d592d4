//! Snapshots for people and metrics.

use super::Upstream;
use crate::outcome::Outcome;
use crate::reject::Reason;
use crate::sync::{AtomicU64, Ordering, Padded, STRIPES, stripe};
use crate::time::Time;
use crate::{balance, breaker, budget, bulkhead, shed};

/// How an upstream is doing. Counters start at zero when it is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// One entry per endpoint, in their order.
    pub endpoints: Vec<EndpointStats>,
    /// How often the endpoints have changed.
    pub version: u64,
    /// The levels of preference among the endpoints, the most preferred first; none without a
    /// choice.
    pub levels: Vec<balance::LevelStats>,
    /// Zones that are evacuated.
    pub evacuated: Vec<String>,
    /// How often an endpoint would have been ejected if enough of them had been left.
    pub spared: u64,
    /// The bulkhead, if one is configured.
    pub bulkhead: Option<bulkhead::Stats>,
    /// The shedder, if one is configured.
    pub shed: Option<shed::Stats>,
    /// The throttle, if one is configured.
    pub throttle: Option<shed::throttle::Stats>,
    /// The budget for extra attempts, unless it was switched off.
    pub budget: Option<budget::Stats>,
    /// Second and further attempts after a wait.
    pub retries: u64,
    /// Attempts against a slow one.
    pub hedges: u64,
    /// Attempts at the next endpoint.
    pub failovers: u64,
    /// Answers by a fallback.
    pub fallbacks: u64,
    /// Extra attempts that policies in shadow mode would have made.
    pub would_start: u64,
    /// Answers that a fallback in shadow mode would have given.
    pub would_fall_back: u64,
    rejected: [u64; Reason::ALL.len()],
    would_reject: [u64; Reason::ALL.len()],
}

impl Stats {
    /// Calls that ended with this rejection, also after attempts.
    pub fn rejected(&self, reason: Reason) -> u64 {
        self.rejected[reason.index()]
    }

    /// Calls that policies in shadow mode would have ended with this rejection.
    pub fn would_reject(&self, reason: Reason) -> u64 {
        self.would_reject[reason.index()]
    }

    /// The endpoint with this name.
    pub fn endpoint(&self, name: &str) -> Option<&EndpointStats> {
        self.endpoints.iter().find(|endpoint| endpoint.name == name)
    }

    /// Attempts that have ended, at all endpoints.
    pub fn attempts(&self) -> u64 {
        self.endpoints.iter().map(EndpointStats::attempts).sum()
    }
}

/// How one endpoint is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointStats {
    /// Its number, which no other endpoint of the upstream ever has.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Its breaker, if breakers are configured.
    pub breaker: Option<breaker::Stats>,
    /// Attempts that succeeded.
    pub successes: u64,
    /// Attempts that failed in a way that another may cure.
    pub transient: u64,
    /// Attempts that were answered with a definite no.
    pub permanent: u64,
    /// Attempts that were asked to come less often.
    pub overloads: u64,
    /// Attempts that say nothing about it: cancelled early, cut by an impatient caller.
    pub ignored: u64,
    /// Until when it asked to be spared of extra attempts, if that lies ahead.
    pub paused_until: Option<Time>,
    /// What its share of the traffic depends on, if there is a choice: health, weight, load.
    pub balance: Option<balance::EndpointStats>,
}

impl EndpointStats {
    /// Attempts that have ended.
    pub fn attempts(&self) -> u64 {
        self.successes + self.transient + self.permanent + self.overloads + self.ignored
    }
}

impl Upstream {
    /// A snapshot. It is taken counter by counter, so calls in flight may show in one and not
    /// yet in another.
    pub fn stats(&self, now: Time) -> Stats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        let members = self.roster.latest();
        let balance = members.balance.as_ref().map(|balance| balance.stats(now));
        let (views, levels, evacuated, spared) = match balance {
            None => Default::default(),
            Some(it) => (it.endpoints, it.levels, it.evacuated, it.spared),
        };
        let mut views = views.into_iter();
        Stats {
            endpoints: members
                .endpoints
                .iter()
                .map(|endpoint| endpoint.stats(views.next(), now))
                .collect(),
            version: members.version,
            levels,
            evacuated,
            spared,
            bulkhead: self.bulkhead.as_ref().map(|bulkhead| bulkhead.stats()),
            shed: self.shed.as_ref().map(|shed| shed.stats()),
            throttle: self.throttle.as_ref().map(|throttle| throttle.stats(now)),
            budget: self.budget.as_ref().map(|budget| budget.stats(now)),
            retries: read(&counts.retries),
            hedges: read(&counts.hedges),
            failovers: read(&counts.failovers),
            fallbacks: read(&counts.fallbacks),
            would_start: read(&counts.would_start),
            would_fall_back: read(&counts.would_fall_back),
            rejected: std::array::from_fn(|at| read(&counts.rejected[at])),
            would_reject: std::array::from_fn(|at| read(&counts.would_reject[at])),
        }
    }
}

impl super::Endpoint {
    fn stats(&self, balance: Option<balance::EndpointStats>, now: Time) -> EndpointStats {
        let [successes, transient, permanent, overloads, ignored] = self.outcomes.read();
        EndpointStats {
            number: self.number,
            name: self.name.to_string(),
            breaker: self.breaker.as_ref().map(|breaker| breaker.stats(now)),
            successes,
            transient,
            permanent,
            overloads,
            ignored,
            paused_until: Some(self.paused_until()).filter(|&until| until > now),
            balance,
        }
    }
}

/// Outcomes by kind, striped by thread.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    stripes: [Padded<[AtomicU64; KINDS]>; STRIPES],
}

const KINDS: usize = 5;

impl Outcomes {
    #[inline]
    pub(super) fn note(&self, outcome: Outcome) {
        let kind = match outcome {
            Outcome::Success => 0,
            Outcome::Transient | Outcome::Unsent => 1,
            Outcome::Permanent => 2,
            Outcome::Overload { .. } => 3,
            Outcome::Ignored => 4,
        };
        self.stripes[stripe()].0[kind].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> [u64; KINDS] {
        std::array::from_fn(|kind| {
            self.stripes
                .iter()
                .map(|stripe| stripe.0[kind].load(Ordering::Relaxed))
                .sum()
        })
    }
}
