//! Letting a call in, before anything else of it happens: throttle, then shedder.
//!
//! Both judge calls, not attempts: a call that is in may retry. What they learn is how its last
//! attempt went, and how long that took with its wait for a seat: a queue in front of the dependency
//! grows with the calls that are in just as one within it does. The waits between attempts say
//! nothing of the dependency.
//! A call that our own policies ended teaches nothing.

use std::ops::Deref;
use std::task::Waker;
use std::time::Duration;

use super::{Call, Kind, Phase, Step};
use crate::outcome::Outcome;
use crate::time::Time;
use crate::upstream::Upstream;
use crate::{bulkhead, shed};

/// What a call that is in has to return, and what it has learnt.
#[derive(Debug)]
pub(super) struct Entry {
    permit: Option<shed::Permit>,
    /// Whether the throttle has counted it.
    throttled: bool,
    /// How long the attempt that is made now had to wait for its seat.
    waited: Duration,
    last: (Outcome, Duration),
}

impl Entry {
    /// Of a call that has not asked yet.
    pub(super) const NONE: Entry = Entry {
        permit: None,
        throttled: false,
        waited: Duration::ZERO,
        last: (Outcome::Ignored, Duration::ZERO),
    };

    /// An attempt of it got its seat after a while.
    pub(super) fn waited(&mut self, wait: Duration) {
        self.waited = wait;
    }

    /// An attempt of it has ended.
    #[inline]
    pub(super) fn learn(&mut self, outcome: Outcome, took: Duration) {
        self.last = (outcome, took.saturating_add(self.waited));
        self.waited = Duration::ZERO;
    }
}

/// Where a call waits for others to end.
#[derive(Clone, Copy, Debug)]
pub enum Queued<'a> {
    /// In the bulkhead's queue.
    Seat(&'a bulkhead::Ticket),
    /// In the shedder's queue.
    Entry(&'a shed::Ticket),
}

impl Queued<'_> {
    /// Wakes `waker` when it is the call's turn; the last one set counts. If it is its turn
    /// already, `waker` is woken at once.
    pub fn wake(&self, waker: &Waker) {
        match self {
            Queued::Seat(ticket) => ticket.wake(waker),
            Queued::Entry(ticket) => ticket.wake(waker),
        }
    }

    /// Whether the wait is over.
    pub fn is_granted(&self) -> bool {
        match self {
            Queued::Seat(ticket) => ticket.is_granted(),
            Queued::Entry(ticket) => ticket.is_decided(),
        }
    }
}

impl<U: Deref<Target = Upstream>> Call<U> {
    /// Asks throttle and shedder; `false` if the call now waits or has ended.
    #[inline]
    pub(super) fn is_let_in(&mut self) -> bool {
        if self.upstream.throttle.is_none() && self.upstream.shed.is_none() {
            return true;
        }
        self.is_not_throttled() && self.is_not_shed()
    }

    fn is_not_throttled(&mut self) -> bool {
        let Some(throttle) = &self.upstream.throttle else {
            return true;
        };
        let asked = throttle.admit(self.request.tier, self.rng.unit(), self.now);
        let enforced = self.upstream.config.throttle_is_enforced();
        let ruled = asked.or_else(|rejection| self.upstream.rule(enforced, rejection));
        match ruled {
            Ok(()) => {
                self.entry.throttled = true;
                true
            }
            Err(rejection) => {
                self.reject(rejection);
                false
            }
        }
    }

    fn is_not_shed(&mut self) -> bool {
        let Some(shed) = &self.upstream.shed else {
            return true;
        };
        let tier = self.request.tier;
        if !shed.config().is_enforced() {
            let (permit, rejection) = shed.pass(tier);
            if let Some(rejection) = rejection {
                self.upstream.note_shadow(rejection);
            }
            self.entry.permit = Some(permit);
            return true;
        }
        match shed.admit(tier, self.deadline, self.now) {
            Ok(shed::Admission::Permit(permit)) => {
                self.entry.permit = Some(permit);
                true
            }
            Ok(shed::Admission::Queued(ticket)) => {
                self.phase = Phase::Entering { ticket };
                false
            }
            Err(rejection) => {
                let rejection = rejection.jittered(self.rng.unit());
                self.reject(rejection);
                false
            }
        }
    }

    /// What has become of a call that waits to be let in.
    pub(super) fn wait_to_enter(&mut self, ticket: shed::Ticket) -> Option<Step> {
        let shed = self.upstream.shed.as_ref();
        let shed = shed.expect("only a shedder lets calls wait to enter");
        let rejection = match shed.redeem(ticket) {
            shed::Turn::Permit(permit) => {
                self.entry.permit = Some(permit);
                return if self.is_admitted() {
                    self.ready(Kind::First)
                } else {
                    None
                };
            }
            shed::Turn::Refused(rejection) => rejection,
            shed::Turn::Queued(ticket) if self.now < ticket.until() => {
                let until = ticket.until();
                return self.wait(Phase::Entering { ticket }, until);
            }
            shed::Turn::Queued(ticket) => {
                let left = shed.leave(ticket, true, self.now);
                left.expect("it timed out")
            }
        };
        let rejection = rejection.jittered(self.rng.unit());
        self.reject(rejection)
    }

    /// The call is over, with what it has learnt.
    #[inline]
    pub(super) fn give_up_entry(&mut self) {
        if self.entry.throttled || self.entry.permit.is_some() {
            let entry = std::mem::replace(&mut self.entry, Entry::NONE);
            self.upstream.leave(entry, self.now);
        }
    }
}

impl Upstream {
    /// A call that was let in is over.
    pub(super) fn leave(&self, entry: Entry, now: Time) {
        let (outcome, took) = entry.last;
        if let (Some(shed), Some(permit)) = (&self.shed, entry.permit) {
            shed.record(permit, outcome, took, now);
        }
        if let Some(throttle) = self.throttle.as_ref().filter(|_| entry.throttled) {
            throttle.record(outcome, now);
        }
    }
}
