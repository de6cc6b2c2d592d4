//! Starting attempts and settling what they leave behind.

use std::ops::Deref;
use std::time::Duration;

use super::entry::Entry;
use super::{Call, Phase, Step};
use crate::balance::Tried;
use crate::breaker::Permit;
use crate::bulkhead::{Admission, Seat, Ticket};
use crate::deadline::Cut;
use crate::event::Event;
use crate::fault::Fault;
use crate::outcome::Outcome;
use crate::reject::{Reason, Rejection};
use crate::sync::Ordering;
use crate::time::Time;
use crate::upstream::{Endpoint, Held, Upstream};

/// One attempt of a call: its number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId(std::num::NonZeroU32);

impl AttemptId {
    /// 1 for the first attempt of the call.
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The call itself.
    First,
    /// An earlier one failed; this comes after a wait.
    Retry,
    /// An earlier one is slow and still running.
    Hedge,
    /// An earlier one failed at another endpoint.
    Failover,
}

impl Kind {
    /// A stable snake_case name for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::First => "first",
            Kind::Retry => "retry",
            Kind::Hedge => "hedge",
            Kind::Failover => "failover",
        }
    }
}

/// An attempt that the driver has to start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attempt {
    /// What to call it when its result is reported.
    pub id: AttemptId,
    /// Why it is made.
    pub kind: Kind,
    /// The number of the endpoint it goes to. It means this endpoint for the life of the upstream,
    /// whatever the membership does.
    pub endpoint: usize,
    /// When it will be cut; [`Time::MAX`] for never. The driver need not watch it, but may tell
    /// the dependency.
    pub ends: Time,
    /// Harm to do to it first.
    pub fault: Option<Fault>,
}

/// An attempt that runs.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: AttemptId,
    pub(super) cut: Cut,
    pub(super) seat: Option<Seat>,
    /// The position of its endpoint in the membership that the call holds.
    pub(super) at: usize,
    permit: Option<Permit>,
    started: Time,
}

/// An attempt whose answer has begun and is not complete: its seat, and its permit. It has to be
/// given to [`Upstream::close`], or its seat is lost.
#[derive(Debug)]
#[must_use = "an open answer holds a seat until it is closed"]
pub struct Open {
    number: u32,
    endpoint: usize,
    held: Held,
    at: usize,
    permit: Option<Permit>,
    seat: Option<Seat>,
    entry: Entry,
    took: Duration,
    started: Time,
}

impl Open {
    /// The number of the endpoint that answers.
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// How long it took until the answer began.
    pub fn took(&self) -> Duration {
        self.took
    }
}

impl Upstream {
    /// The answer of an attempt is complete, or never will be: books what that teaches, and
    /// returns what the attempt held. An answer that was cut because its reader left, or had no
    /// more time, says nothing: [`Outcome::Ignored`].
    pub fn close(&self, mut open: Open, outcome: Outcome, now: Time) {
        let endpoint = self.roster.endpoint(&open.held, open.at);
        self.book(endpoint, open.permit, outcome, open.took, now);
        if let Some(balance) = self.roster.balance(&open.held)
            && !balance.closed(open.at, outcome, open.took, open.started, now)
        {
            self.misbehaved(endpoint.number, now);
        }
        if let Some(seat) = open.seat {
            let bulkhead = self.bulkhead.as_ref();
            bulkhead.expect("only a bulkhead has seats").release(seat);
        }
        open.entry.learn(outcome, open.took);
        self.leave(open.entry, now);
        self.emit(|| Event::Ended {
            number: open.number,
            endpoint: &endpoint.name,
            outcome,
            took: open.took,
            cancelled: false,
        });
    }

    /// Books what an attempt taught.
    #[inline(always)]
    fn book(
        &self,
        endpoint: &Endpoint,
        permit: Option<Permit>,
        outcome: Outcome,
        took: Duration,
        now: Time,
    ) {
        if let (Some(breaker), Some(permit)) = (&endpoint.breaker, permit) {
            breaker.record(permit, outcome, took, now);
        }
        endpoint.note(outcome);
        match outcome {
            Outcome::Success => {
                if let Some(budget) = &self.budget
                    && self.config.makes_extra_attempts()
                {
                    budget.deposit(now);
                }
            }
            Outcome::Overload {
                retry_after: Some(wait),
            } => endpoint.pause(wait, now),
            Outcome::Overload { retry_after: None }
            | Outcome::Transient
            | Outcome::Unsent
            | Outcome::Permanent
            | Outcome::Ignored => {}
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a result.
    Answered,
    /// Its time was up.
    Cut,
    /// Another was faster.
    Beaten,
    /// It had no result to give: an injected error.
    Lost,
    /// The caller went away.
    Abandoned,
}

impl Ended {
    /// Whether the time it took says how long the dependency takes, or at least how long it took
    /// no less than. A fast error does not, nor does a caller that left.
    fn tells_latency(self, outcome: Outcome) -> bool {
        match self {
            Ended::Answered => matches!(outcome, Outcome::Success | Outcome::Permanent),
            Ended::Cut | Ended::Beaten => true,
            Ended::Lost | Ended::Abandoned => false,
        }
    }
}

/// An endpoint that will take an attempt.
pub(super) struct Chosen {
    /// Its position in the membership that the call holds.
    pub(super) at: usize,
    pub(super) permit: Option<Permit>,
}

impl<U: Deref<Target = Upstream>> Call<U> {
    /// Starts an attempt, or finds out why not. `seat` is there if it came through the queue. Out of
    /// line: this is not the path of a call without a choice that succeeds at once.
    ///
    /// The call goes by the newest membership, except while it has an attempt running: a hedge stays
    /// with that of the attempt it helps, which offers nobody who has left.
    #[inline(never)]
    pub(super) fn start(&mut self, kind: Kind, seat: Option<Seat>) -> Option<Step> {
        if self.running == 0 {
            self.held = self.upstream.roster.hold();
        }
        let chosen = match self.upstream.roster.balance(&self.held) {
            Some(_) => self.choose(kind),
            None => self.choose_in_order(kind),
        };
        self.start_at(kind, chosen, seat).map(Step::Attempt)
    }

    /// Starts the first attempt where the endpoints' order decides.
    #[inline(always)]
    pub(super) fn start_first_in_order(&mut self) -> Option<Attempt> {
        let chosen = self.choose_in_order(Kind::First);
        self.start_at(Kind::First, chosen, None)
    }

    #[inline(always)]
    fn start_at(
        &mut self,
        kind: Kind,
        chosen: Result<Chosen, Rejection>,
        seat: Option<Seat>,
    ) -> Option<Attempt> {
        let chosen = match chosen {
            Ok(chosen) => chosen,
            Err(rejection) => {
                self.release(seat);
                self.not_started(kind, rejection);
                return None;
            }
        };
        let admission = match seat {
            Some(seat) => Ok(Some(Admission::Seat(seat))),
            None => self.ask_seat(kind),
        };
        let seat = match admission {
            Ok(Some(Admission::Seat(seat))) => Some(seat),
            Ok(None) => None,
            Ok(Some(Admission::Queued(ticket))) => {
                self.give_back(chosen);
                self.queue(kind, ticket);
                return None;
            }
            Err(rejection) => {
                self.give_back(chosen);
                self.not_started(kind, rejection);
                return None;
            }
        };
        Some(self.launch(kind, chosen, seat))
    }

    #[cold]
    fn queue(&mut self, kind: Kind, ticket: Ticket) {
        let bulkhead = self
            .upstream
            .bulkhead
            .as_ref()
            .expect("only a bulkhead queues");
        let until = self.now + bulkhead.queue_timeout();
        self.phase = Phase::Queued {
            kind,
            ticket,
            until,
        };
    }

    /// A hedge's time has come.
    pub(super) fn hedge(&mut self) -> Option<Step> {
        self.hedge_at = Time::MAX;
        let enforced = self
            .upstream
            .config
            .hedge
            .is_some_and(|hedge| hedge.is_enforced());
        if !enforced {
            self.hedges += 1;
            self.note_shadow_start(Kind::Hedge);
            return None;
        }
        match self.pay() {
            Ok(()) => self.start(Kind::Hedge, None),
            Err(_) => None,
        }
    }

    /// Cuts the attempt in this place, whose time is up.
    pub(super) fn cut(&mut self, at: usize) {
        let Some(live) = self.live[at].take() else {
            return;
        };
        self.cancels[at] = Some(live.id);
        self.losers = true;
        self.sent = true;
        self.running -= 1;
        if live.cut.at_share {
            self.last_cut = Some(Rejection::new(Reason::Deadline));
            if self.deadline_is_callers {
                self.settle_cancelled(live, Ended::Cut);
            } else {
                self.settle(live, Outcome::Transient, Ended::Cut);
            }
            self.end_without_time();
        } else {
            self.last_cut = Some(Rejection::new(Reason::Timeout));
            self.settle(live, Outcome::Transient, Ended::Cut);
            self.after_failure();
        }
    }

    /// What the deadline left for attempts is used up; the rest is for a fallback.
    fn end_without_time(&mut self) {
        if self.live.iter().all(Option::is_none) {
            self.reject(Rejection::new(Reason::Deadline));
        }
    }

    /// Books what an attempt taught, and returns what it held.
    #[inline]
    pub(super) fn settle(&mut self, live: Live, outcome: Outcome, ended: Ended) {
        let upstream = &*self.upstream;
        let held = &self.held;
        let endpoint = upstream.roster.endpoint(held, live.at);
        let took = self.now.since(live.started);
        if self.now >= live.cut.at && !upstream.config.deadline.is_enforced() {
            upstream.note_shadow(Rejection::new(Reason::Timeout));
        }
        upstream.book(endpoint, live.permit, outcome, took, self.now);
        if ended != Ended::Beaten {
            self.entry.learn(outcome, took);
        }
        if let Some(balance) = upstream.roster.balance(held)
            && !balance.ended(live.at, outcome, took, self.now)
        {
            upstream.misbehaved(endpoint.number, self.now);
        }
        if let Some(latency) = &upstream.latency
            && ended.tells_latency(outcome)
        {
            latency.record(took, self.now);
        }
        self.release(live.seat);
        upstream.emit(|| Event::Ended {
            number: live.id.number(),
            endpoint: &endpoint.name,
            outcome,
            took,
            cancelled: ended != Ended::Answered,
        });
    }

    /// What is left of an attempt whose answer has begun. The time to that counts, for hedges and
    /// for slow calls: how long a stream lasts says nothing.
    pub(super) fn opened(&mut self, live: Live, entry: Entry) -> Open {
        let took = self.now.since(live.started);
        if let Some(latency) = &self.upstream.latency {
            latency.record(took, self.now);
        }
        let held = std::mem::replace(&mut self.held, Held::FIRST);
        if let Some(balance) = self.upstream.roster.balance(&held) {
            balance.answered(live.at, took, self.now);
        }
        Open {
            number: live.id.number(),
            endpoint: self.upstream.roster.endpoint(&held, live.at).number,
            permit: live.permit,
            seat: live.seat,
            entry,
            took,
            started: live.started,
            at: live.at,
            held,
        }
    }

    /// Settles an attempt that somebody cut off: a failure only if it was slow enough to be one.
    fn settle_cancelled(&mut self, live: Live, ended: Ended) {
        let breaker = self.endpoint_of(&live).breaker.as_ref();
        let limit = self.upstream.config.deadline.patience();
        let patience = breaker.map_or(limit, |breaker| breaker.patience(limit));
        let ran = self.now.since(live.started);
        // One that was cut at its share had a caller who would have waited a ninth longer.
        let waited = if ended == Ended::Cut {
            ran.saturating_add(ran / 9)
        } else {
            ran
        };
        let hung = waited >= patience;
        let outcome = if hung {
            Outcome::Transient
        } else {
            Outcome::Ignored
        };
        self.settle(live, outcome, ended);
    }

    /// Settles all attempts that run; their results do not matter any more.
    #[cold]
    pub(super) fn cancel_live(&mut self, ended: Ended) {
        self.losers = true;
        self.running = 0;
        for at in 0..self.live.len() {
            if let Some(live) = self.live[at].take() {
                self.cancels[at] = Some(live.id);
                if ended == Ended::Cut && !self.deadline_is_callers {
                    self.settle(live, Outcome::Transient, ended);
                } else {
                    self.settle_cancelled(live, ended);
                }
            }
        }
    }

    #[inline]
    pub(super) fn take_live(&mut self, id: AttemptId) -> Option<Live> {
        let live = self
            .live
            .iter_mut()
            .find(|live| live.as_ref().is_some_and(|live| live.id == id))?
            .take();
        self.running -= 1;
        live
    }

    /// Draws an extra attempt from the budget.
    pub(super) fn pay(&mut self) -> Result<(), Rejection> {
        let Some(budget) = &self.upstream.budget else {
            return Ok(());
        };
        match budget.withdraw(self.now) {
            Ok(withdrawal) => {
                self.paid = Some(withdrawal);
                Ok(())
            }
            Err(rejection) => self
                .upstream
                .rule(self.upstream.config.budget_is_enforced(), rejection),
        }
    }

    #[inline]
    fn ask_seat(&self, kind: Kind) -> Result<Option<Admission>, Rejection> {
        let Some(bulkhead) = &self.upstream.bulkhead else {
            return Ok(None);
        };
        if kind == Kind::Hedge {
            // A hedge that finds no seat is not made; nobody was turned away.
            let seat = bulkhead.spare_seat().ok_or(Rejection::new(Reason::Full))?;
            return Ok(Some(Admission::Seat(seat)));
        }
        let enforced = self.upstream.config.bulkhead_is_enforced();
        if enforced {
            return bulkhead.admit(self.now).map(Some);
        }
        match bulkhead.try_admit() {
            Ok(seat) => Ok(Some(Admission::Seat(seat))),
            Err(rejection) => self.upstream.rule(enforced, rejection).map(|()| None),
        }
    }

    #[inline(always)]
    fn launch(&mut self, kind: Kind, chosen: Chosen, seat: Option<Seat>) -> Attempt {
        self.started += 1;
        self.paid = None;
        let id = AttemptId(std::num::NonZeroU32::new(self.started).expect("it counts from 1"));
        let fault = self.strike();
        let upstream = &*self.upstream;
        match kind {
            Kind::First => {}
            Kind::Retry => _ = upstream.counts.retries.fetch_add(1, Ordering::Relaxed),
            Kind::Hedge => _ = upstream.counts.hedges.fetch_add(1, Ordering::Relaxed),
            Kind::Failover => _ = upstream.counts.failovers.fetch_add(1, Ordering::Relaxed),
        }
        let held = &self.held;
        let endpoint = upstream.roster.endpoint(held, chosen.at);
        let number = endpoint.number;
        upstream.emit(|| Event::Started {
            number: id.number(),
            kind,
            endpoint: &endpoint.name,
        });
        match upstream.roster.balance(held) {
            None => self.cursor = chosen.at + 1,
            Some(balance) => {
                balance.started(chosen.at);
                if self.running == 0 && self.tried.contains(number) {
                    // A new round.
                    self.tried = Tried::default();
                }
                self.tried.insert(number);
            }
        }
        let cut = upstream.config.deadline.of_attempt(self.deadline, self.now);
        let enforced = upstream.config.deadline.is_enforced();
        match kind {
            Kind::Hedge => self.hedges += 1,
            Kind::First | Kind::Retry | Kind::Failover => self.tries += 1,
        }
        let free = self
            .live
            .iter()
            .position(Option::is_none)
            .expect("hedges are bounded");
        self.running += 1;
        self.live[free] = Some(Live {
            id,
            cut,
            seat,
            at: chosen.at,
            permit: chosen.permit,
            started: self.now,
        });
        self.schedule_hedge();
        self.phase = Phase::Running;
        let ends = if enforced { cut.at } else { Time::MAX };
        Attempt {
            id,
            kind,
            endpoint: number,
            ends,
            fault,
        }
    }

    fn schedule_hedge(&mut self) {
        let Some(hedge) = self.upstream.config.hedge else {
            return;
        };
        if self.hedges >= hedge.limit() || !self.request.repeatable {
            return;
        }
        let live = self.upstream.latency.as_ref();
        let delay = hedge
            .fixed()
            .or_else(|| live.and_then(|live| live.delay(self.now)));
        self.hedge_at = delay.map_or(Time::MAX, |delay| self.now + delay);
    }

    fn strike(&mut self) -> Option<Fault> {
        let fault = self.upstream.config.fault?;
        if self.upstream.faults_are_on() {
            fault.strike(self.rng.unit())
        } else {
            None
        }
    }

    fn not_started(&mut self, kind: Kind, rejection: Rejection) {
        self.return_unused();
        match kind {
            Kind::Hedge => self.phase = Phase::Running,
            // Somebody else took the last trial since it was planned.
            Kind::Failover => {
                self.cursor = self.upstream.roster.in_order().len();
                self.after_failure();
            }
            Kind::First | Kind::Retry => _ = self.reject(rejection),
        }
    }

    /// The permit of an attempt that is not made after all.
    fn give_back(&self, chosen: Chosen) {
        let held = &self.held;
        let endpoint = self.upstream.roster.endpoint(held, chosen.at);
        let breaker = endpoint.breaker.as_ref();
        if let (Some(breaker), Some(permit)) = (breaker, chosen.permit) {
            breaker.record(permit, Outcome::Ignored, Duration::ZERO, self.now);
        }
    }

    #[inline]
    fn release(&self, seat: Option<Seat>) {
        if let Some(seat) = seat {
            self.upstream
                .bulkhead
                .as_ref()
                .expect("only a bulkhead has seats")
                .release(seat);
        }
    }

    pub(super) fn note_shadow_start(&self, kind: Kind) {
        self.upstream
            .counts
            .would_start
            .fetch_add(1, Ordering::Relaxed);
        self.upstream.emit(|| Event::WouldStart(kind));
    }
}
