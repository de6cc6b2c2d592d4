//! One call, walked through all policies of its upstream.
//!
//! ```text
//! call     deadline > throttle > shed > rate > [ attempts: retry | hedge | failover ] > (fallback, by the driver)
//! attempt  budget > endpoint (health, pause, breaker) > bulkhead seat > timeout > I/O
//! ```
//!
//! A [`Call`] is a machine without I/O. Its driver asks [`Call::step`] what to do until the
//! answer is [`Step::Wait`] or an end, and reports back with [`Call::outcome`]. `step` takes the
//! time, so the same question serves after a timer, after a seat was granted, and at the start.
//!
//! The laws it keeps:
//! - an open breaker never takes a seat nor waits in a queue; a seat is held per attempt and
//!   free during backoff;
//! - nothing that Outlast itself refused is recorded as a failure of the dependency;
//! - no attempt starts at or after the deadline, and no wait that would cross it is begun;
//! - dropping the call cancels it: every permit, seat, place in a queue and unused budget is
//!   returned. A cancelled attempt counts as a failure only if it ran longer than the breaker's
//!   patience: a hundred hung calls that somebody else's timeout cuts must open it, a hundred
//!   hasty callers must not.

mod attempt;
mod choice;
mod entry;
mod plan;
mod spare;

use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

pub use self::attempt::{Attempt, AttemptId, Kind, Open};
use self::attempt::{Ended, Live};
use self::entry::Entry;
pub use self::entry::Queued;
use crate::balance::Tried;
use crate::budget::Withdrawal;
use crate::bulkhead::{Seat, Ticket};
use crate::hedge::MAX_HEDGES;
use crate::outcome::Outcome;
use crate::reject::{Reason, Rejection};
use crate::rng::Rng;
use crate::shed;
use crate::tier::Tier;
use crate::time::Time;
use crate::upstream::{Held, Pace, Upstream};

/// What a caller asks of one call.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    deadline: Time,
    repeatable: bool,
    key: u64,
    tier: Tier,
    affinity: Option<u64>,
    seed: u64,
}

impl Request {
    /// A call that may be repeated and has no deadline of its own. `seed` feeds its jitter and
    /// its choices; equal seeds replay equal decisions.
    #[inline]
    pub fn new(seed: u64) -> Request {
        Request {
            deadline: Time::MAX,
            repeatable: true,
            key: 0,
            tier: Tier::default(),
            affinity: None,
            seed,
        }
    }

    /// When the caller stops waiting. Default: never.
    pub fn deadline(mut self, deadline: Time) -> Request {
        self.deadline = deadline;
        self
    }

    /// Whether making it twice does no harm. If not, there is one attempt. Default `true`.
    pub fn repeatable(mut self, repeatable: bool) -> Request {
        self.repeatable = repeatable;
        self
    }

    /// How much it matters when not all calls can be served. Default [`Tier::Important`].
    pub fn tier(mut self, tier: Tier) -> Request {
        self.tier = tier;
        self
    }

    /// A hash of what a rate limit per key counts by. Default 0.
    pub fn key(mut self, key: u64) -> Request {
        self.key = key;
        self
    }

    /// A hash of what should meet the same endpoint again, where endpoints are chosen by hash
    /// ([`Kind::Hash`](crate::balance::Kind::Hash)). Default: none, and it goes anywhere.
    pub fn affinity(mut self, affinity: u64) -> Request {
        self.affinity = Some(affinity);
        self
    }
}

/// What the driver has to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Start this attempt, and ask again at once.
    Attempt(Attempt),
    /// Ask again at this time, or when an attempt has ended, or when the seat of
    /// [`Call::ticket`] is granted.
    Wait {
        /// [`Time::MAX`] when only an attempt can bring it on.
        until: Time,
    },
    /// Drop this attempt without waiting for its result, and ask again at once.
    Cancel {
        /// Which one.
        id: AttemptId,
    },
    /// Return the result of this attempt: the one that was reported last.
    Done {
        /// Which one.
        id: AttemptId,
        /// Why there was not another attempt, although this one failed and more were wanted.
        stop: Option<Rejection>,
    },
    /// Return this rejection: there is no result.
    Reject(Rejection),
}

/// The machine of one call. `U` is how the driver holds the upstream: a reference, an `Arc`.
#[derive(Debug)]
pub struct Call<U: Deref<Target = Upstream>> {
    upstream: U,
    request: Request,
    rng: Rng,
    now: Time,
    /// The end of the call; never, if the deadline policy is in shadow mode.
    deadline: Time,
    /// Whether that is the caller's own end, and not the upstream's limit on calls.
    deadline_is_callers: bool,
    /// The end that a deadline policy in shadow mode would have set.
    shadow_deadline: Time,
    phase: Phase,
    live: [Option<Live>; MAX_LIVE],
    /// The membership in which all that run began. (One for all of them, and apart from them,
    /// because what has nothing to drop is moved for less.)
    held: Held,
    cancels: [Option<AttemptId>; MAX_LIVE],
    losers: bool,
    running: u32,
    started: u32,
    tries: u32,
    hedges: u32,
    hedge_at: Time,
    /// How far the search has come in this round, where the endpoints' order is one of preference.
    cursor: usize,
    /// Where this round has been, where there is a choice.
    tried: Tried,
    /// The only endpoint that further attempts may go to.
    only: Option<usize>,
    waits: u32,
    last_wait: Duration,
    /// Whether an attempt may have sent something.
    sent: bool,
    /// The latest attempt whose result the driver holds.
    last_result: Option<AttemptId>,
    /// How the latest attempt without a result ended.
    last_cut: Option<Rejection>,
    paid: Option<Withdrawal>,
    entry: Entry,
}

/// The first attempt and its hedges.
const MAX_LIVE: usize = 1 + MAX_HEDGES as usize;

#[derive(Debug)]
enum Phase {
    /// Nothing has been asked yet.
    Arrived,
    /// The shedder lets it wait.
    Entering { ticket: shed::Ticket },
    /// The rate limit gave a later turn.
    Paced { until: Time },
    /// An attempt may start; the seat is there if it came through the queue.
    Ready { kind: Kind, seat: Option<Seat> },
    /// All seats are taken.
    Queued {
        kind: Kind,
        ticket: Ticket,
        until: Time,
    },
    /// Waiting between attempts.
    Backoff { kind: Kind, until: Time },
    /// At least one attempt runs.
    Running,
    /// `Done` or `Reject`.
    Ended(Step),
}

impl<U: Deref<Target = Upstream>> Call<U> {
    /// A call that arrives at `now`.
    #[inline]
    pub fn new(upstream: U, request: Request, now: Time) -> Call<U> {
        let limits = &upstream.config.deadline;
        let end = limits.of_call(request.deadline, now);
        let deadline_is_callers = !limits.limits_call_to(end, now);
        let (deadline, shadow_deadline) = if limits.is_enforced() {
            (end, Time::MAX)
        } else {
            (Time::MAX, end)
        };
        Call {
            upstream,
            request,
            rng: Rng::new(request.seed),
            now,
            deadline,
            deadline_is_callers,
            shadow_deadline,
            phase: Phase::Arrived,
            live: [None, None, None, None],
            held: Held::FIRST,
            cancels: [None; MAX_LIVE],
            losers: false,
            running: 0,
            started: 0,
            tries: 0,
            hedges: 0,
            hedge_at: Time::MAX,
            cursor: 0,
            tried: Tried::default(),
            only: None,
            waits: 0,
            last_wait: Duration::ZERO,
            sent: false,
            last_result: None,
            last_cut: None,
            paid: None,
            entry: Entry::NONE,
        }
    }

    /// What to do now. After an end it keeps giving that end.
    #[inline]
    pub fn step(&mut self, now: Time) -> Step {
        self.now = now;
        loop {
            if self.losers
                && let Some(id) = self.next_cancel()
            {
                return Step::Cancel { id };
            }
            if now >= self.deadline && !matches!(self.phase, Phase::Ended(_)) {
                self.end_at_deadline();
                continue;
            }
            match &self.phase {
                // By field: copying the whole of what was just written piecemeal would stall.
                Phase::Ended(Step::Done { id, stop: None }) => {
                    return Step::Done {
                        id: *id,
                        stop: None,
                    };
                }
                Phase::Ended(end) => return *end,
                Phase::Arrived => {
                    self.phase = Phase::Running;
                    if !(self.is_let_in() && self.is_admitted()) {
                        continue;
                    }
                    // Two ways out: brought together, the attempt would be copied once more.
                    if self.upstream.roster.balances() {
                        if let Some(step) = self.start(Kind::First, None) {
                            return step;
                        }
                    } else if let Some(attempt) = self.start_first_in_order() {
                        return Step::Attempt(attempt);
                    }
                }
                Phase::Entering { .. }
                | Phase::Paced { .. }
                | Phase::Ready { .. }
                | Phase::Queued { .. }
                | Phase::Backoff { .. }
                | Phase::Running => {
                    if let Some(step) = self.go_on(now) {
                        return step;
                    }
                }
            }
        }
    }

    /// A step of a call that has been admitted and has not ended.
    fn go_on(&mut self, now: Time) -> Option<Step> {
        match std::mem::replace(&mut self.phase, Phase::Running) {
            Phase::Entering { ticket } => self.wait_to_enter(ticket),
            Phase::Paced { until } if now < until => self.wait(Phase::Paced { until }, until),
            Phase::Paced { .. } => self.ready(Kind::First),
            Phase::Ready { kind, seat } => self.start(kind, seat),
            Phase::Queued {
                kind,
                ticket,
                until,
            } => self.wait_in_queue(kind, ticket, until),
            Phase::Backoff { kind, until } if now < until => {
                self.wait(Phase::Backoff { kind, until }, until)
            }
            Phase::Backoff { kind, .. } => self.ready(kind),
            Phase::Running => self.watch(),
            phase @ (Phase::Arrived | Phase::Ended(_)) => {
                self.phase = phase;
                None
            }
        }
    }

    /// Reports the result of an attempt. `true`: the driver keeps it until the end of the call or
    /// the next result that counts. `false`: the attempt had been cancelled, and its result changes
    /// nothing.
    #[inline]
    pub fn outcome(&mut self, id: AttemptId, outcome: Outcome, now: Time) -> bool {
        self.now = now;
        let Some(live) = self.take_live(id) else {
            return false;
        };
        self.sent |= outcome != Outcome::Unsent;
        self.settle(live, outcome, Ended::Answered);
        self.last_result = Some(id);
        match outcome {
            Outcome::Success | Outcome::Permanent => self.end(Step::Done { id, stop: None }),
            // It says nothing, so it does not end what still runs.
            Outcome::Ignored if self.running > 0 => {}
            Outcome::Ignored => self.end(Step::Done { id, stop: None }),
            Outcome::Transient | Outcome::Unsent | Outcome::Overload { .. } => {
                self.after_failure();
            }
        }
        true
    }

    /// The answer of an attempt has begun, and it is the call's: others are cancelled, and the call
    /// is done. What the attempt taught is known when the answer is complete; until then it keeps
    /// its seat, and the breaker waits for its outcome. `None`: it had been cancelled.
    pub fn open(&mut self, id: AttemptId, now: Time) -> Option<Open> {
        self.now = now;
        let live = self.take_live(id)?;
        self.last_result = Some(id);
        let entry = std::mem::replace(&mut self.entry, Entry::NONE);
        self.end(Step::Done { id, stop: None });
        Some(self.opened(live, entry))
    }

    /// The call can no longer be repeated: what it sends is not there any more.
    pub fn forbid_repeat(&mut self) {
        self.request.repeatable = false;
    }

    /// From now on attempts go to this endpoint alone; `None`: to any again. For work that two
    /// providers must not both do: a driver binds the call before it sends something to an
    /// endpoint, and frees it when that endpoint has definitely refused. A failure in between,
    /// be it a timeout, leads to no failover, but to a retry there, or to the end of the call.
    /// If that endpoint has left, there is no further attempt. Default: any.
    #[inline]
    pub fn stay(&mut self, endpoint: Option<usize>) {
        self.only = endpoint;
    }

    /// Reports that an attempt ended without a result to return: an injected error, a panic. It
    /// counts as a transient failure.
    pub fn lost(&mut self, id: AttemptId, reason: Reason, now: Time) {
        self.now = now;
        if let Some(live) = self.take_live(id) {
            self.sent = true;
            self.settle(live, Outcome::Transient, Ended::Lost);
            self.last_cut = Some(Rejection::new(reason));
            self.after_failure();
        }
    }

    /// The caller went away. Dropping the call does the same at the time of its last step; a
    /// driver that knows the time says so, because it decides whether a hung attempt counts.
    #[inline]
    pub fn cancel(&mut self, now: Time) {
        self.now = now;
        self.cancel_live(Ended::Abandoned);
        self.give_up_entry();
        self.return_unused();
        if !matches!(self.phase, Phase::Ended(_)) {
            self.leave();
            self.phase = Phase::Ended(Step::Reject(Rejection::new(Reason::Deadline)));
        }
    }

    /// The queue in which the call waits, if it does: give it a waker.
    pub fn ticket(&self) -> Option<Queued<'_>> {
        match &self.phase {
            Phase::Queued { ticket, .. } => Some(Queued::Seat(ticket)),
            Phase::Entering { ticket } => Some(Queued::Entry(ticket)),
            _ => None,
        }
    }

    /// Takes over the seat of a running attempt, for work that goes on when the attempt is
    /// cancelled (a thread cannot be interrupted). Whoever takes it returns it to the bulkhead.
    pub fn take_seat(&mut self, id: AttemptId) -> Option<Seat> {
        self.live
            .iter_mut()
            .flatten()
            .find(|live| live.id == id)?
            .seat
            .take()
    }

    /// The name of the endpoint of a running attempt, also if it has left the upstream since.
    pub fn endpoint(&self, id: AttemptId) -> Option<&Arc<str>> {
        let mut live = self.live.iter().flatten();
        let live = live.find(|live| live.id == id)?;
        Some(&self.endpoint_of(live).name)
    }

    /// How many attempts have been started.
    pub fn attempts(&self) -> u32 {
        self.started
    }

    /// When the call ends at the latest; [`Time::MAX`] for never.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// The upstream, as the driver holds it.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    #[cold]
    fn next_cancel(&mut self) -> Option<AttemptId> {
        let id = self.cancels.iter_mut().find_map(Option::take);
        self.losers = id.is_some();
        id
    }

    #[inline]
    fn ready(&mut self, kind: Kind) -> Option<Step> {
        self.phase = Phase::Ready { kind, seat: None };
        None
    }

    #[inline]
    fn wait(&mut self, phase: Phase, until: Time) -> Option<Step> {
        self.phase = phase;
        Some(Step::Wait {
            until: until.min(self.deadline),
        })
    }

    /// Asks the rate limit; `false` if the call now waits for its turn or has ended.
    #[inline]
    fn is_admitted(&mut self) -> bool {
        let admitted = match &self.upstream.pace {
            Pace::Free => return true,
            Pace::Shared(rate) => rate.admit_many(NonZeroU32::MIN, self.now),
            Pace::Keyed(keyed) => keyed.admit(self.request.key, self.now),
        };
        match admitted {
            Ok(Duration::ZERO) => true,
            admitted => self.pace(admitted),
        }
    }

    /// What to do with a call that comes too early.
    #[cold]
    fn pace(&mut self, admitted: Result<Duration, Rejection>) -> bool {
        let enforced = self.upstream.config.rate_is_enforced();
        let wait = match admitted {
            Ok(wait) => wait,
            Err(rejection) => match self.upstream.rule(enforced, rejection) {
                Ok(()) => return true,
                Err(rejection) => {
                    self.reject(rejection);
                    return false;
                }
            },
        };
        if !enforced {
            return true;
        }
        if self.now + wait < self.deadline {
            self.phase = Phase::Paced {
                until: self.now + wait,
            };
        } else {
            self.refund_rate(self.now + wait);
            self.reject(Rejection::after(Reason::Deadline, wait));
        }
        false
    }

    fn wait_in_queue(&mut self, kind: Kind, ticket: Ticket, until: Time) -> Option<Step> {
        let bulkhead = self
            .upstream
            .bulkhead
            .as_ref()
            .expect("only a bulkhead queues");
        let since = ticket.since();
        match bulkhead.redeem(ticket, self.now) {
            Ok(seat) => {
                self.entry.waited(self.now.since(since));
                self.phase = Phase::Ready {
                    kind,
                    seat: Some(seat),
                };
                None
            }
            Err(ticket) if self.now < until => self.wait(
                Phase::Queued {
                    kind,
                    ticket,
                    until,
                },
                until,
            ),
            Err(ticket) => {
                let rejection = bulkhead.leave(ticket, true).expect("it timed out");
                self.reject(rejection)
            }
        }
    }

    /// Looks after the attempts that run: cuts those whose time is up, hedges the slow ones.
    fn watch(&mut self) -> Option<Step> {
        let enforced = self.upstream.config.deadline.is_enforced();
        for at in 0..MAX_LIVE {
            if enforced
                && self.live[at]
                    .as_ref()
                    .is_some_and(|live| live.cut.at <= self.now)
            {
                self.cut(at);
                return None;
            }
        }
        if self.now >= self.hedge_at {
            return self.hedge();
        }
        let ends = self.live.iter().flatten().map(|live| live.cut.at);
        let first_end = ends.filter(|_| enforced).min().unwrap_or(Time::MAX);
        self.wait(Phase::Running, first_end.min(self.hedge_at))
    }

    /// Ends the call with a rejection: the result of the last attempt, if there is one.
    fn reject(&mut self, rejection: Rejection) -> Option<Step> {
        let cut = self.last_cut.filter(|_| self.last_result.is_none());
        let rejection = match cut {
            Some(cut) => Rejection {
                retry_after: rejection.retry_after,
                ..cut
            },
            None => rejection,
        };
        self.upstream.note_rejected(rejection);
        self.end(match self.last_result {
            Some(id) => Step::Done {
                id,
                stop: Some(rejection),
            },
            None => Step::Reject(rejection),
        });
        None
    }

    fn end_at_deadline(&mut self) {
        self.leave();
        self.cancel_live(Ended::Cut);
        self.last_cut = None;
        self.reject(Rejection::new(Reason::Deadline));
    }

    #[inline]
    fn end(&mut self, end: Step) {
        self.give_up_entry();
        if self.running > 0 {
            self.cancel_live(Ended::Beaten);
        }
        self.return_unused();
        if self.now >= self.shadow_deadline {
            self.upstream.note_shadow(Rejection::new(Reason::Deadline));
        }
        self.phase = Phase::Ended(end);
    }

    fn return_unused(&mut self) {
        if let (Some(paid), Some(budget)) = (self.paid.take(), &self.upstream.budget) {
            budget.refund(paid);
        }
    }

    /// Gives up the place where the call waits, or the seat it has not used.
    fn leave(&mut self) {
        let bulkhead = self.upstream.bulkhead.as_ref();
        match std::mem::replace(&mut self.phase, Phase::Running) {
            Phase::Queued { ticket, .. } => {
                bulkhead
                    .expect("only a bulkhead queues")
                    .leave(ticket, false);
            }
            Phase::Entering { ticket } => {
                let shed = self.upstream.shed.as_ref();
                shed.expect("only a shedder lets calls wait to enter")
                    .leave(ticket, false, self.now);
            }
            Phase::Ready {
                seat: Some(seat), ..
            } => {
                bulkhead.expect("only a bulkhead has seats").release(seat);
            }
            Phase::Paced { until } => self.refund_rate(until),
            phase => self.phase = phase,
        }
    }

    /// Gives back the turn at `turn`, which will not be used.
    fn refund_rate(&self, turn: Time) {
        match &self.upstream.pace {
            Pace::Free => {}
            Pace::Shared(rate) => rate.refund(turn),
            Pace::Keyed(keyed) => keyed.refund(self.request.key, turn),
        }
    }
}

impl<U: Deref<Target = Upstream>> Drop for Call<U> {
    #[inline]
    fn drop(&mut self) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.cancel(self.now);
        }
    }
}
