//! What drivers and operators do about the endpoints' health: probes, evacuations, releases.
//!
//! All of it is for the newest membership. One that changes at the same moment hands over what it
//! knows, and whoever came a moment too late for it is heard by the next.

use super::{Members, Upstream};
use crate::balance::Balance;
use crate::check;
use crate::event::Event;
use crate::time::Time;

impl Upstream {
    /// How checks are made, if they are; [`check::Config::longest`] bounds a probe.
    pub fn checks(&self) -> Option<check::Config> {
        self.config.balance.as_ref()?.checks()
    }

    /// When to probe endpoint number `endpoint` next, asked at `now`: once at the start and after
    /// each probe. `unit` is a random number from `[0, 1)`. `None` if there are no checks, or the
    /// endpoint has left.
    pub fn next_check(&self, endpoint: usize, now: Time, unit: f64) -> Option<Time> {
        let members = self.roster.latest();
        let at = members.position(endpoint)?;
        members.balance.as_ref()?.next_check(at, now, unit)
    }

    /// The result of a probe of endpoint number `endpoint`. `false` if it has left, or there are no
    /// checks: nothing changed.
    pub fn checked(&self, endpoint: usize, ok: bool, now: Time) -> bool {
        self.checks().is_some() && self.decide(endpoint, |balance, at| balance.checked(at, ok, now))
    }

    /// Ends the ejection of endpoint number `endpoint`: an operator knows better. `false` if there
    /// is no such endpoint, or no choice.
    pub fn end_ejection(&self, endpoint: usize, now: Time) -> bool {
        self.decide(endpoint, |balance, at| balance.release(at, now))
    }

    /// No attempt goes to the endpoints of this zone any more; those that run may end. It lasts,
    /// also over changes of the membership, until [`Upstream::return_zone`]. `false` if there is no
    /// such zone, or 64 are evacuated already.
    pub fn evacuate_zone(&self, zone: &str, now: Time) -> bool {
        let done = self.decide_zone(|balance| balance.evacuate_zone(zone, now));
        if done {
            self.emit(|| Event::Evacuated { zone });
        }
        done
    }

    /// The zone gets traffic again, growing over the time of fail-back. `false` if it was not
    /// evacuated.
    pub fn return_zone(&self, zone: &str, now: Time) -> bool {
        let done = self.decide_zone(|balance| balance.return_zone(zone, now));
        if done {
            self.emit(|| Event::ZoneReturned { zone });
        }
        done
    }

    /// When [`Upstream::timeout`] has something to do; [`Time::MAX`] for never. Calls do it by the
    /// way; a driver needs it only to have changes on time where there are no calls.
    pub fn wakes(&self) -> Time {
        let members = self.roster.latest();
        members.balance.as_deref().map_or(Time::MAX, Balance::wakes)
    }

    /// Lets time do its work on the endpoints' health: ejections end, endpoints are compared,
    /// shares grow.
    pub fn timeout(&self, now: Time) {
        if let Some(balance) = &self.roster.latest().balance {
            balance.timeout(now);
        }
    }

    /// An endpoint failed too often in a row, in an older membership.
    #[cold]
    pub(crate) fn misbehaved(&self, endpoint: usize, now: Time) {
        self.decide(endpoint, |balance, at| balance.misbehaved(at, now));
    }

    /// Has the newest membership decide on one endpoint: `decide` gives `false` while a newer one
    /// takes over.
    fn decide(&self, endpoint: usize, decide: impl Fn(&Balance, usize) -> bool) -> bool {
        loop {
            let members = self.roster.latest();
            let Some(at) = members.position(endpoint) else {
                return false;
            };
            match &members.balance {
                None => return false,
                Some(balance) if decide(balance, at) => return true,
                Some(_) => self.expect_newer(&members),
            }
        }
    }

    fn decide_zone(&self, decide: impl Fn(&Balance) -> bool) -> bool {
        loop {
            let members = self.roster.latest();
            match &members.balance {
                None => return false,
                Some(balance) if decide(balance) => return true,
                Some(balance) if !balance.is_succeeded() => return false,
                Some(_) => self.expect_newer(&members),
            }
        }
    }

    /// A balance that decides no more has been followed, or the upstream would wait for ever.
    fn expect_newer(&self, members: &Members) {
        let newest = self.roster.latest();
        assert!(
            newest.version > members.version,
            "a membership that decides nothing has a successor"
        );
    }
}
