//! Those who wait for a seat: by tier, first come first served, until there are too many.
//!
//! A tier whose queue is empty now and then absorbs bursts, and the first come is served first. One that
//! has not been empty for an interval is a standing queue: all of that tier wait, and the longer somebody
//! has waited the less likely is his answer still wanted. From then on the *latest* comes first
//! and nobody waits longer than the target (CoDel and adaptive LIFO, Nichols and Jacobson 2012,
//! Maurer, "Fail at Scale", 2015: 100 ms and 5 ms). The target is never less than the time between
//! two completions: below that, seats would idle while callers are turned away.
//!
//! When it is full, somebody of the lowest tier goes: the one with the least hope.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::ratio::Ratio;
use crate::tier::Tier;
use crate::time::{Time, nanos};
use crate::waiting::Waiter;

#[derive(Debug)]
pub(super) struct Line {
    tiers: [VecDeque<Entry>; 3],
    /// When nobody of a tier waited, last.
    empty_at: [Time; 3],
    /// Seats that lower tiers have saved up, in millionths.
    saved: [u64; 3],
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) waiter: Arc<Waiter>,
    pub(super) since: Time,
    /// When it has to start to be in time.
    pub(super) latest: Time,
}

/// What is known when somebody leaves the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// A queue that has not been empty for this long is a standing one.
    pub(super) interval: Duration,
    /// The longest wait in a standing queue.
    pub(super) target: Duration,
    /// The longest wait in any other.
    pub(super) patience: Duration,
    /// The share of seats that each lower tier gets, whoever else waits.
    pub(super) reserve: Ratio,
}

/// Who comes next.
#[derive(Debug)]
pub(super) enum Next {
    Seat(Arc<Waiter>, Tier),
    /// It is too late for this one.
    Late(Arc<Waiter>, Tier),
    Nobody,
}

impl Line {
    /// A line with room for the first few; it never grows beyond the shedder's bound.
    pub(super) fn new(bound: u32) -> Line {
        let room = bound.min(16) as usize;
        Line {
            tiers: std::array::from_fn(|_| VecDeque::with_capacity(room)),
            empty_at: [Time::ZERO; 3],
            saved: [0; 3],
        }
    }

    fn is_standing(&self, tier: Tier, pace: &Pace, now: Time) -> bool {
        let at = tier.index();
        !self.tiers[at].is_empty() && now.since(self.empty_at[at]) >= pace.interval
    }

    /// How many are served before a newcomer of this tier.
    pub(super) fn ahead(&self, tier: Tier, pace: &Pace, now: Time) -> usize {
        let end = tier.index() + usize::from(!self.is_standing(tier, pace, now));
        self.tiers[..end].iter().map(VecDeque::len).sum()
    }

    /// Whether somebody of this tier or a higher one waits.
    pub(super) fn holds_back(&self, tier: Tier) -> bool {
        let mut before = self.tiers[..=tier.index()].iter();
        before.any(|entries| !entries.is_empty())
    }

    pub(super) fn push(&mut self, tier: Tier, entry: Entry) {
        let at = tier.index();
        if self.tiers[at].is_empty() {
            self.empty_at[at] = entry.since;
        }
        self.tiers[at].push_back(entry);
    }

    pub(super) fn remove(&mut self, tier: Tier, waiter: &Arc<Waiter>) {
        self.tiers[tier.index()].retain(|entry| !Arc::ptr_eq(&entry.waiter, waiter));
    }

    /// Who gets the seat that is free, of those tiers that `may` have it.
    pub(super) fn next(&mut self, pace: &Pace, now: Time, may: impl Fn(Tier) -> bool) -> Next {
        let waits = |tier: &Tier| !self.tiers[tier.index()].is_empty() && may(*tier);
        let saved = |tier: &Tier| self.saved[tier.index()] >= WHOLE;
        let lowest_first = Tier::ALL.into_iter().rev();
        let owed = lowest_first.filter(saved).find(waits);
        let Some(tier) = owed.or_else(|| Tier::ALL.into_iter().find(waits)) else {
            return Next::Nobody;
        };
        let is_standing = self.is_standing(tier, pace, now);
        let entries = &mut self.tiers[tier.index()];
        let entry = if is_standing {
            entries.pop_back()
        } else {
            entries.pop_front()
        };
        let entry = entry.expect("somebody of this tier waits");
        let longest = if is_standing {
            pace.target
        } else {
            pace.patience
        };
        if now > entry.latest || now.since(entry.since) > longest {
            return Next::Late(entry.waiter, tier);
        }
        self.save(pace.reserve, owed);
        Next::Seat(entry.waiter, tier)
    }

    /// Makes room for a newcomer: who goes. `None`: everybody here has the better claim.
    pub(super) fn give_way(
        &mut self,
        tier: Tier,
        pace: &Pace,
        now: Time,
    ) -> Option<(Arc<Waiter>, Tier)> {
        let waits = |tier: &Tier| !self.tiers[tier.index()].is_empty();
        let lowest = Tier::ALL.into_iter().rev().find(waits)?;
        let is_standing = self.is_standing(lowest, pace, now);
        let entries = &mut self.tiers[lowest.index()];
        let oldest = entries.front().expect("somebody of this tier waits");
        let is_late = now > oldest.latest;
        let entry = if is_late || is_standing && lowest.index() >= tier.index() {
            entries.pop_front()
        } else if lowest.index() > tier.index() {
            entries.pop_back()
        } else {
            None
        };
        entry.map(|entry| (entry.waiter, lowest))
    }

    /// A seat was given: each lower tier that goes on waiting saves its share of it.
    fn save(&mut self, reserve: Ratio, owed: Option<Tier>) {
        if let Some(tier) = owed {
            self.saved[tier.index()] -= WHOLE;
        }
        for tier in [Tier::Important, Tier::Optional] {
            let at = tier.index();
            self.saved[at] = if self.tiers[at].is_empty() {
                0
            } else {
                (self.saved[at] + reserve.of(WHOLE)).min(WHOLE)
            };
        }
    }
}

/// One seat in millionths.
const WHOLE: u64 = 1_000_000;

/// When a call has to start that takes `service` and must end by `deadline`.
pub(super) fn latest_start(deadline: Time, service: Duration) -> Time {
    if deadline == Time::MAX {
        return Time::MAX;
    }
    Time::from_nanos(deadline.as_nanos().saturating_sub(nanos(service)))
}
