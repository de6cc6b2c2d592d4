//! Driving calls of clients without Outlast.

use super::*;
use crate::model::Policies;
use crate::plain::{Plain, PlainCall, Wait};

impl World {
    pub(super) fn begin_plain(&mut self, at: Ref) {
        let (plain, upstream) = self.plain_of(at);
        self.memories[upstream].calls(&plain);
        self.attempt_plain(at, &plain);
        self.drive_plain(at);
    }

    /// Goes on with what has happened: an outcome, or a time that has come.
    pub(super) fn drive_plain(&mut self, at: Ref) {
        while let Some(caller) = self.callers.get_mut(at) {
            let (Some(call), result) = (caller.plain, caller.outcome.take()) else {
                return;
            };
            let (plain, upstream) = self.plain_of(at);
            match result {
                Some(Outcome::Success) => {
                    self.memories[upstream].succeeds(&plain);
                    return self.ended(at, Ok(Outcome::Success));
                }
                Some(outcome) => self.fail_plain(at, &plain, call, outcome),
                None if !call.runs && self.is_due(at) => self.attempt_plain(at, &plain),
                None if call.runs && self.is_due(at) => {
                    self.abandon_all(at);
                    self.fail_plain(at, &plain, call, Outcome::Transient);
                }
                None => return,
            }
        }
    }

    fn is_due(&self, at: Ref) -> bool {
        let caller = self.callers.get(at);
        caller.is_some_and(|caller| caller.due <= self.now)
    }

    fn plain_of(&self, at: Ref) -> (Plain, usize) {
        let upstream = self.callers.get(at).expect("it is driven").upstream;
        match &self.model.upstreams[upstream].policies {
            Policies::Plain(plain) => (plain.clone(), upstream),
            Policies::Outlast(_) => unreachable!("only plain calls come here"),
        }
    }

    /// An attempt has failed: another one comes later, or the call has.
    fn fail_plain(&mut self, at: Ref, plain: &Plain, mut call: PlainCall, outcome: Outcome) {
        let upstream = self.callers.get(at).expect("it failed").upstream;
        self.memories[upstream].fails(plain);
        if call.attempts >= plain.attempts || !self.memories[upstream].allows(plain) {
            return self.ended(at, Ok(outcome));
        }
        let owner = self.callers.get(at).expect("it failed").owner;
        let key = self.key_of(owner).wrapping_add(u64::from(call.attempts));
        let unit = self.draws.unit(upstream as u32, Purpose::Wait, key);
        let due = match plain.wait {
            Wait::FromStart(interval) => (call.began + interval).max(self.now),
            Wait::Between(least, spread) => self.now + least + crate::law::times(spread, unit),
            Wait::Backoff(backoff) => {
                call.waited = backoff.delay(call.attempts - 1, call.waited, unit);
                self.now + call.waited
            }
        };
        call.runs = false;
        self.plan_plain(at, call, due);
    }

    fn attempt_plain(&mut self, at: Ref, plain: &Plain) {
        let now = self.now;
        let due = plain.timeout.map_or(Time::MAX, |timeout| now + timeout);
        let caller = self.callers.get_mut(at).expect("it makes an attempt");
        let attempts = caller.plain.map_or(0, |call| call.attempts) + 1;
        let call = PlainCall {
            attempts,
            began: now,
            waited: caller.plain.map_or(Duration::ZERO, |call| call.waited),
            runs: true,
        };
        let places = self.model.upstreams[caller.upstream].places.len();
        let place = self.memories[caller.upstream].tries() as usize % places;
        self.plan_plain(at, call, due);
        self.count_attempt(at);
        self.send(at, attempts, None, place, due);
    }

    /// Sleeps until `due`, unless something happens before.
    fn plan_plain(&mut self, at: Ref, call: PlainCall, due: Time) {
        let caller = self.callers.get_mut(at).expect("it goes on");
        (caller.plain, caller.due) = (Some(call), due);
        if due < Time::MAX {
            self.agenda.plan(due, Class::Timer, Event::Wakes(at));
        }
    }
}
