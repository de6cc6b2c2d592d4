//! Which endpoint an attempt goes to.
//!
//! Where the endpoints' order is one of preference, it is the next one that its breaker lets
//! through. Elsewhere the [`Balance`](crate::balance::Balance) chooses, and what this call has tried
//! is spared: see [`Spare`](super::spare::Spare).

use std::ops::Deref;
use std::time::Duration;

use super::Call;
use super::attempt::{Chosen, Kind, Live};
use super::spare::{Place, Spare};
use crate::balance::{Balance, Wish};
use crate::breaker::Permit;
use crate::reject::{Reason, Rejection};
use crate::rng::mix;
use crate::upstream::{Endpoint, Members, Upstream};

impl<U: Deref<Target = Upstream>> Call<U> {
    /// The endpoint for an attempt among several, and the permit of its breaker.
    pub(super) fn choose(&mut self, kind: Kind) -> Result<Chosen, Rejection> {
        let mut picked = self.pick(kind);
        if picked.is_err() && self.running == 0 {
            picked = self.pick_again(kind, picked);
        }
        picked
    }

    /// Nobody was found: if the membership changes at this moment, that may be an accident of
    /// timing.
    #[cold]
    fn pick_again(
        &mut self,
        kind: Kind,
        mut picked: Result<Chosen, Rejection>,
    ) -> Result<Chosen, Rejection> {
        for _ in 0..CHANGES {
            if picked.is_ok() || self.upstream.roster.is_current(&self.held) {
                break;
            }
            self.held = self.upstream.roster.hold_latest();
            picked = self.pick(kind);
        }
        picked
    }

    /// The endpoint of an attempt that runs.
    #[inline]
    pub(super) fn endpoint_of(&self, live: &Live) -> &Endpoint {
        self.upstream.roster.endpoint(&self.held, live.at)
    }

    #[inline]
    fn pick(&self, kind: Kind) -> Result<Chosen, Rejection> {
        let members = self.upstream.roster.members(&self.held);
        let balance = members.balance.as_ref().expect("there is a choice");
        // Other bits than those that decide about faults and jitter.
        let mut wish = Wish::new(mix(mix(self.request.seed) ^ u64::from(self.started)));
        if let Some(key) = self.request.affinity {
            wish = wish.key(key);
        }
        for &spare in Spare::wishes(kind, self.tries, members) {
            let refuses = self.spared(spare, members);
            for _ in 0..TRIALS_LOST {
                let Some(at) = balance.choose(wish, self.now, &refuses) else {
                    break;
                };
                // Somebody else may have taken the last trial since it was asked.
                if let Ok(permit) = self.ask_breaker(&members.endpoints[at]) {
                    return Ok(Chosen { at, permit });
                }
            }
        }
        Err(self.refusal(members, balance))
    }

    /// Whether an endpoint is refused, by its position: this call spares it, or its breaker would
    /// not let it pass.
    #[inline]
    fn spared<'a>(&'a self, spare: Spare, members: &'a Members) -> impl Fn(usize) -> bool + 'a {
        let enforced = self.upstream.config.breaker_is_enforced();
        let places = match spare {
            Spare::Places => Place::tried(members, &self.tried),
            Spare::Tried | Spare::Live | Spare::Paused | Spare::Nobody => Place::NONE,
        };
        move |at| {
            let endpoint = &members.endpoints[at];
            let is_spared = match spare {
                _ if self.only.is_some() => !self.may_go_to(endpoint),
                Spare::Places => {
                    self.tried.contains(endpoint.number) || places.contains(members.places[at])
                }
                Spare::Tried => self.tried.contains(endpoint.number),
                Spare::Live => self.runs_at(endpoint),
                Spare::Paused | Spare::Nobody => false,
            };
            is_spared
                || (spare != Spare::Nobody && endpoint.paused_until() > self.now)
                || (enforced && !endpoint.is_willing(self.now))
        }
    }

    /// Whether a call that stays at one endpoint stays at this one.
    pub(super) fn may_go_to(&self, endpoint: &Endpoint) -> bool {
        self.only.is_none_or(|only| only == endpoint.number)
    }

    fn runs_at(&self, endpoint: &Endpoint) -> bool {
        let mut live = self.live.iter().flatten();
        live.any(|live| self.endpoint_of(live).number == endpoint.number)
    }

    /// Why nobody takes an attempt, and when the first one might.
    #[cold]
    fn refusal(&self, members: &Members, balance: &Balance) -> Rejection {
        let mut soonest = Soonest::new();
        let mut reason = Reason::Unhealthy;
        let enforced = self.upstream.config.breaker_is_enforced();
        for (at, endpoint) in members.endpoints.iter().enumerate() {
            if balance.offers(at) && self.may_go_to(endpoint) {
                reason = Reason::Open;
                let pause = endpoint.paused_until().since(self.now);
                let breaker = endpoint.breaker.as_ref().filter(|_| enforced);
                let refusal = breaker.and_then(|breaker| breaker.refusal(self.now));
                match refusal {
                    Some(refusal) => soonest.hear(Rejection {
                        retry_after: refusal.retry_after.map(|wait| wait.max(pause)),
                        ..refusal
                    }),
                    None if pause.is_zero() => {}
                    None => soonest.hear(Rejection::after(Reason::Overload, pause)),
                }
            }
        }
        if let Some(end) = balance.returns() {
            soonest.hear(Rejection::after(Reason::Unhealthy, end.since(self.now)));
        }
        soonest.heard().unwrap_or(Rejection::new(reason))
    }

    /// The next endpoint of an order of preference. Extra attempts spare those that asked for a
    /// pause; a first one goes there only if no other is left.
    #[inline(always)]
    pub(super) fn choose_in_order(&self, kind: Kind) -> Result<Chosen, Rejection> {
        match self.search(kind, false) {
            Err(_) if kind == Kind::First && self.some_endpoint_is_paused() => {
                self.search(kind, true)
            }
            found => found,
        }
    }

    fn some_endpoint_is_paused(&self) -> bool {
        let mut endpoints = self.upstream.roster.in_order().iter();
        endpoints.any(|endpoint| endpoint.paused_until() > self.now)
    }

    #[inline(always)]
    fn search(&self, kind: Kind, paused: bool) -> Result<Chosen, Rejection> {
        let endpoints = self.upstream.roster.in_order();
        let mut soonest = Soonest::new();
        for at in self.offsets(kind, endpoints.len()) {
            let endpoint = &endpoints[at];
            let until = endpoint.paused_until();
            if until > self.now && !paused {
                soonest.hear(Rejection::after(Reason::Overload, until.since(self.now)));
                continue;
            }
            match self.ask_breaker(endpoint) {
                Ok(permit) => {
                    return Ok(Chosen { at, permit });
                }
                Err(rejection) => soonest.hear(rejection),
            }
        }
        Err(soonest.heard().unwrap_or(Rejection::new(Reason::Open)))
    }

    /// The endpoints in the order in which this call tries them, from where it stands. A failover
    /// does not come back to those it has left; a call that stays knows one.
    fn offsets(&self, kind: Kind, endpoints: usize) -> impl Iterator<Item = usize> + use<U> {
        let (cursor, steps) = match self.only {
            Some(only) => (only, usize::from(only < endpoints)),
            None if kind == Kind::Failover => (self.cursor, endpoints - self.cursor),
            None => (self.cursor, endpoints),
        };
        (0..steps).map(move |step| {
            let offset = cursor + step;
            if offset < endpoints {
                offset
            } else {
                offset % endpoints
            }
        })
    }

    #[inline]
    fn ask_breaker(&self, endpoint: &Endpoint) -> Result<Option<Permit>, Rejection> {
        let Some(breaker) = &endpoint.breaker else {
            return Ok(None);
        };
        match breaker.admit(self.now) {
            Ok(permit) => Ok(Some(permit)),
            Err(rejection) => {
                let enforced = self.upstream.config.breaker_is_enforced();
                self.upstream.rule(enforced, rejection)?;
                Ok(Some(Permit::UNRECORDED))
            }
        }
    }
}

/// The rejection that ends first.
struct Soonest(Option<(Duration, Rejection)>);

impl Soonest {
    fn new() -> Soonest {
        Soonest(None)
    }

    /// One without a time is none to wait for.
    fn hear(&mut self, rejection: Rejection) {
        if let Some(wait) = rejection.retry_after
            && self.0.is_none_or(|(known, _)| wait < known)
        {
            self.0 = Some((wait, rejection));
        }
    }

    fn heard(self) -> Option<Rejection> {
        self.0.map(|(_, rejection)| rejection)
    }
}

/// How many changes of the membership in a row a search for an endpoint follows.
const CHANGES: u32 = 8;
/// How many half-open endpoints in a row may lose their last trial to others between the question
/// and the choice.
const TRIALS_LOST: u32 = 8;
