//! What comes after a failed attempt.

use std::ops::Deref;
use std::time::Duration;

use super::{Call, Kind, Phase, Step};
use crate::event::Event;
use crate::reject::{Reason, Rejection};
use crate::time::Time;
use crate::upstream::Upstream;

/// Why there is no further attempt.
enum Stop {
    /// None was ever wanted: the result stands as it is.
    NotWanted,
    /// One was wanted.
    Rejected(Rejection),
}

impl<U: Deref<Target = Upstream>> Call<U> {
    /// An attempt failed: leave it to those that still run, or plan another.
    pub(super) fn after_failure(&mut self) {
        if self.live.iter().any(Option::is_some) {
            self.hurry_hedge();
            self.phase = Phase::Running;
            return;
        }
        self.hedge_at = Time::MAX;
        match self.plan() {
            Ok((kind, wait)) => {
                let number = self.started + 1;
                self.upstream.emit(|| Event::Waits {
                    number,
                    delay: wait,
                });
                self.phase = Phase::Backoff {
                    kind,
                    until: self.now + wait,
                };
            }
            Err(Stop::Rejected(rejection)) => _ = self.reject(rejection),
            Err(Stop::NotWanted) => match (self.last_result, self.last_cut) {
                (Some(id), _) => self.end(Step::Done { id, stop: None }),
                (None, cut) => _ = self.reject(cut.expect("an attempt without a result was cut")),
            },
        }
    }

    /// While another attempt runs, a failure starts the next hedge at once.
    fn hurry_hedge(&mut self) {
        let wanted = self
            .upstream
            .config
            .hedge
            .is_some_and(|hedge| self.hedges < hedge.limit());
        if wanted && self.request.repeatable {
            self.hedge_at = self.now;
        }
    }

    /// The next attempt and the wait before it; paid for.
    fn plan(&mut self) -> Result<(Kind, Duration), Stop> {
        let config = &self.upstream.config;
        let limit = config.attempts(|| self.upstream.roster.in_order().len());
        if limit <= 1 {
            return Err(Stop::NotWanted);
        }
        if !config.extra_attempts_are_enforced() {
            if (self.request.repeatable || !self.sent) && self.tries < limit {
                let is_ordered = config.failover.is_some();
                self.note_shadow_start(if is_ordered {
                    Kind::Failover
                } else {
                    Kind::Retry
                });
            }
            return Err(Stop::NotWanted);
        }
        let pause = self.shortest_pause();
        let stop = |reason| Stop::Rejected(hinted(reason, pause));
        if self.sent && !self.request.repeatable {
            return Err(stop(Reason::NotIdempotent));
        }
        if self.tries >= limit {
            return Err(stop(Reason::Attempts));
        }
        let (kind, wait) = match self.next_in_order() {
            Some(offset) => {
                self.cursor = offset;
                (Kind::Failover, Duration::ZERO)
            }
            None => (Kind::Retry, self.wait_before_retry(pause)?),
        };
        if wait > Duration::ZERO && self.now + wait >= self.deadline {
            return Err(stop(Reason::Deadline));
        }
        self.pay().map_err(|denied| stop(denied.reason))?;
        Ok((kind, wait))
    }

    /// The next endpoint of an order of preference, if one that this call has not tried will take
    /// an attempt.
    fn next_in_order(&self) -> Option<usize> {
        let failover = self.upstream.config.failover?;
        if self.only.is_some() {
            return None;
        }
        let endpoints = self.upstream.roster.in_order();
        let willing = |&offset: &usize| {
            let endpoint = &endpoints[offset];
            endpoint.paused_until() <= self.now && endpoint.is_willing(self.now)
        };
        let offset = (self.cursor..endpoints.len()).find(willing)?;
        if !failover.is_enforced() {
            self.note_shadow_start(Kind::Failover);
            return None;
        }
        Some(offset)
    }

    /// The wait that the dependency asked for, exactly, or else that of the backoff. A hint
    /// starts the backoff's series anew (as gRPC A6 does).
    fn wait_before_retry(&mut self, pause: Duration) -> Result<Duration, Stop> {
        let Some(retry) = self.upstream.config.retry else {
            return Err(Stop::Rejected(hinted(Reason::Attempts, pause)));
        };
        if !retry.is_enforced() {
            self.note_shadow_start(Kind::Retry);
            return Err(Stop::NotWanted);
        }
        if self.upstream.config.failover.is_some() {
            self.cursor = 0;
        }
        if pause > retry.longest_hint_waited_for() {
            return Err(Stop::Rejected(Rejection::after(Reason::Overload, pause)));
        }
        if !pause.is_zero() {
            (self.waits, self.last_wait) = (0, Duration::ZERO);
            return Ok(pause);
        }
        let wait = retry
            .waits()
            .delay(self.waits, self.last_wait, self.rng.unit());
        self.waits = self.waits.saturating_add(1);
        self.last_wait = wait;
        Ok(wait)
    }

    /// How long until an endpoint that its breaker would let through may have extra attempts again;
    /// zero if one may now, or if there is none. A call that stays asks the one it stays at.
    fn shortest_pause(&self) -> Duration {
        let held = self.upstream.roster.hold();
        let members = self.upstream.roster.members(&held);
        let mut shortest = None;
        for (at, endpoint) in members.endpoints.iter().enumerate() {
            let balance = members.balance.as_ref();
            let offered = balance.is_none_or(|balance| balance.offers(at));
            if offered && self.may_go_to(endpoint) && endpoint.is_willing(self.now) {
                let pause = endpoint.paused_until().since(self.now);
                if pause.is_zero() {
                    return pause;
                }
                shortest = Some(shortest.map_or(pause, |known| pause.min(known)));
            }
        }
        shortest.unwrap_or_default()
    }
}

fn hinted(reason: Reason, pause: Duration) -> Rejection {
    if pause.is_zero() {
        Rejection::new(reason)
    } else {
        Rejection::after(reason, pause)
    }
}
