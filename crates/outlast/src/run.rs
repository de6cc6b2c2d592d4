//! The async driver: one future that walks a call through its machine.
//!
//! On the path of a call that succeeds at once it allocates nothing and arms no timer. The timer
//! is made at the first `Pending`; hedges, which run beside the first attempt, are boxed.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use outlast_core::call::{self, AttemptId, Call, Open, Step};
use outlast_core::fault::Fault;
use outlast_core::outcome::Outcome;
use outlast_core::reject::Reason;
use outlast_core::time::Time;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Clock;
use crate::attempt::{KeySource, Raw};
use crate::binding::Binding;
use crate::caller::Options;
use crate::classify::Classify;
use crate::clock::instant_of;
use crate::deadline::{Entered, current_time};
use crate::ending::{Ending, Latest};

/// Makes the attempts of one call.
pub(crate) trait Start {
    /// One attempt.
    type Future: Future;

    /// Starts an attempt. `call` lends the machine to those that take the seat with them.
    fn start<U: Deref<Target = outlast_core::upstream::Upstream>>(
        &mut self,
        raw: Raw<'_>,
        call: &mut Call<U>,
    ) -> Self::Future;
}

pin_project! {
    /// The future of one call. `U` is how it holds the upstream.
    //
    // The future of an attempt is a parameter of its own, not a projection of `S`: the compiler
    // could not prove a spawned call `Send` through the closure that makes it.
    pub(crate) struct Run<U, S, F, T, E, C>
    where
        U: Deref<Target = outlast_core::upstream::Upstream>,
    {
        progress: Progress<U>,
        clock: Clock,
        start: S,
        classify: C,
        #[pin]
        first: Slot<F>,
        hedges: Vec<Pin<Box<Slot<F>>>>,
        latest: Option<Latest<T, E>>,
        // Whether an attempt with a good answer stays open, and the one that does.
        opens: bool,
        opened: Option<Open>,
        // The attempt whose code runs, to tell a panic from a cancellation.
        running: Option<AttemptId>,
        #[pin]
        timer: Option<Sleep>,
        timer_at: Time,
    }

    impl<U, S, F, T, E, C> PinnedDrop for Run<U, S, F, T, E, C>
    where
        U: Deref<Target = outlast_core::upstream::Upstream>,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Progress::Runs { call, .. } = this.progress {
                let now = this.clock.now();
                if let Some(panicked) = this.running.take() {
                    call.outcome(panicked, Outcome::Transient, now);
                }
                call.cancel(now);
            }
        }
    }
}

/// How far the call has come.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives in the future; a box would allocate"
)]
enum Progress<U: Deref<Target = outlast_core::upstream::Upstream>> {
    /// Futures do nothing until they are polled.
    New {
        upstream: Option<U>,
        options: Options,
    },
    Runs {
        call: Call<U>,
        key: KeySource,
        /// Once set, the call may not be repeated.
        spent: Option<Arc<AtomicBool>>,
        binding: Option<Binding>,
    },
    Over,
}

pin_project! {
    /// One attempt in flight.
    #[project = SlotProject]
    enum Slot<F> {
        Empty,
        // Held back by an injected fault.
        Held { attempt: call::Attempt, until: Time },
        // Never answers, by an injected fault.
        Hangs { id: AttemptId },
        Runs { id: AttemptId, ends: Time, #[pin] future: F },
    }
}

impl<U, S, F, T, E, C> Run<U, S, F, T, E, C>
where
    U: Deref<Target = outlast_core::upstream::Upstream>,
{
    #[inline]
    pub(crate) fn new(upstream: U, clock: Clock, start: S, classify: C, options: Options) -> Self {
        Run {
            progress: Progress::New {
                upstream: Some(upstream),
                options,
            },
            clock,
            start,
            classify,
            first: Slot::Empty,
            hedges: Vec::new(),
            latest: None,
            opens: false,
            opened: None,
            running: None,
            timer: None,
            timer_at: Time::MAX,
        }
    }

    /// An attempt with a good answer stays open; see [`Run::take_open`].
    pub(crate) fn opening(mut self) -> Self {
        self.opens = true;
        self
    }

    /// The attempt that was left open, once the call has ended.
    pub(crate) fn take_open(self: Pin<&mut Self>) -> Option<Open> {
        self.project().opened.take()
    }
}

impl<U, S, F, T, E, C> Future for Run<U, S, F, T, E, C>
where
    U: Deref<Target = outlast_core::upstream::Upstream>,
    S: Start<Future = F>,
    F: Future<Output = Result<T, E>>,
    C: Classify<Result<T, E>>,
{
    type Output = Ending<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending<T, E>> {
        let mut now = self.clock.now();
        // The latest result is kept on the stack while the call runs, and in the future only
        // while it waits: a call that succeeds at once never stores it.
        let mut latest = None;
        if !self.as_mut().begin(now) {
            latest = self.as_mut().project().latest.take();
            // Before the machine looks at its timers: what has arrived in time is not cut because
            // this task was late.
            now = self.as_mut().poll_attempts(now, &mut latest, cx);
        }
        for _ in 0..STEPS_PER_POLL {
            let this = self.as_mut().project();
            let Progress::Runs { call, binding, .. } = this.progress else {
                panic!("a call was polled after it had ended");
            };
            if let Some(binding) = binding {
                call.stay(binding.endpoint());
            }
            match &call.step(now) {
                Step::Attempt(attempt) => {
                    now = self.as_mut().launch(attempt, now, &mut latest, cx);
                }
                Step::Cancel { id } => self.as_mut().drop_attempt(*id),
                Step::Wait { until } => {
                    now = match self.as_mut().take_held(now) {
                        Some(attempt) => {
                            self.as_mut().start_attempt(&attempt, now, &mut latest, cx)
                        }
                        None => match self.as_mut().poll_wait(now, *until, cx) {
                            Poll::Ready(now) => now,
                            Poll::Pending => {
                                *self.project().latest = latest;
                                return Poll::Pending;
                            }
                        },
                    }
                }
                Step::Done { id, stop } => {
                    let attempts = call.attempts();
                    let deadline = call.deadline();
                    let latest = latest.expect("a result that was reported");
                    *this.progress = Progress::Over;
                    return Poll::Ready(Ending::done(latest, *id, *stop, attempts, deadline));
                }
                Step::Reject(rejection) => {
                    let attempts = call.attempts();
                    let deadline = call.deadline();
                    *this.progress = Progress::Over;
                    return Poll::Ready(Ending::rejected(*rejection, attempts, deadline));
                }
            }
        }
        // Retries without a wait must not keep the thread from its other tasks.
        cx.waker().wake_by_ref();
        *self.project().latest = latest;
        Poll::Pending
    }
}

impl<U, S, F, T, E, C> Run<U, S, F, T, E, C>
where
    U: Deref<Target = outlast_core::upstream::Upstream>,
    S: Start<Future = F>,
    F: Future<Output = Result<T, E>>,
    C: Classify<Result<T, E>>,
{
    /// Begins the call at its first poll; `false` if it runs already.
    #[inline(always)]
    fn begin(self: Pin<&mut Self>, now: Time) -> bool {
        let this = self.project();
        let Progress::New { upstream, options } = this.progress else {
            return false;
        };
        let upstream = upstream.take().expect("it is taken once");
        let (request, key) = options.request(now);
        *this.progress = Progress::Runs {
            call: Call::new(upstream, request, now),
            key,
            spent: options.spent.take(),
            binding: options.binding.take(),
        };
        true
    }

    /// Starts an attempt, or does the harm that is asked for instead.
    #[inline(always)]
    fn launch(
        self: Pin<&mut Self>,
        attempt: &call::Attempt,
        now: Time,
        latest: &mut Option<Latest<T, E>>,
        cx: &mut Context<'_>,
    ) -> Time {
        match attempt.fault {
            None => self.start_attempt(attempt, now, latest, cx),
            Some(fault) => {
                self.harm(attempt, fault, now);
                now
            }
        }
    }

    #[cold]
    fn harm(self: Pin<&mut Self>, attempt: &call::Attempt, fault: Fault, now: Time) {
        match fault {
            Fault::Delay(delay) => {
                self.put(Slot::Held {
                    attempt: *attempt,
                    until: now + delay,
                });
            }
            Fault::Hang => {
                self.put(Slot::Hangs { id: attempt.id });
            }
            Fault::Error => {
                if let Progress::Runs { call, .. } = self.project().progress {
                    call.lost(attempt.id, Reason::Fault, now);
                }
            }
        }
    }

    #[inline(always)]
    fn start_attempt(
        mut self: Pin<&mut Self>,
        attempt: &call::Attempt,
        now: Time,
        latest: &mut Option<Latest<T, E>>,
        cx: &mut Context<'_>,
    ) -> Time {
        let this = self.as_mut().project();
        let Progress::Runs { call, key, .. } = this.progress else {
            return now;
        };
        let (id, deadline) = (attempt.id, call.deadline());
        let ends = attempt.ends.min(deadline).min(current_time());
        *this.running = Some(id);
        let entered = Entered::new(ends);
        let future = this.start.start(
            Raw {
                attempt,
                deadline,
                key,
            },
            call,
        );
        drop(entered);
        *this.running = None;
        let slot = self.as_mut().put(Slot::Runs { id, ends, future });
        self.poll_slot(slot, now, latest, cx)
    }

    /// Puts an attempt where there is room; where that is.
    #[inline(always)]
    fn put(self: Pin<&mut Self>, slot: Slot<F>) -> Place {
        let mut this = self.project();
        if matches!(this.first.as_mut().project(), SlotProject::Empty) {
            this.first.set(slot);
            return Place::First;
        }
        let empty =
            |hedge: &mut Pin<Box<Slot<F>>>| matches!(hedge.as_mut().project(), SlotProject::Empty);
        match this.hedges.iter_mut().position(empty) {
            Some(free) => {
                this.hedges[free].set(slot);
                Place::Hedge(free)
            }
            None => {
                this.hedges.push(Box::pin(slot));
                Place::Hedge(this.hedges.len() - 1)
            }
        }
    }

    /// Polls all attempts once.
    fn poll_attempts(
        mut self: Pin<&mut Self>,
        mut now: Time,
        latest: &mut Option<Latest<T, E>>,
        cx: &mut Context<'_>,
    ) -> Time {
        now = self.as_mut().poll_slot(Place::First, now, latest, cx);
        for hedge in 0..self.hedges.len() {
            now = self
                .as_mut()
                .poll_slot(Place::Hedge(hedge), now, latest, cx);
        }
        now
    }

    /// An attempt that was held back and may start now.
    fn take_held(self: Pin<&mut Self>, now: Time) -> Option<call::Attempt> {
        let this = self.project();
        let hedges = this.hedges.iter_mut().map(|hedge| hedge.as_mut());
        for mut slot in std::iter::once(this.first).chain(hedges) {
            if let SlotProject::Held { attempt, until } = slot.as_mut().project()
                && *until <= now
            {
                let attempt = *attempt;
                slot.set(Slot::Empty);
                return Some(attempt);
            }
        }
        None
    }

    #[inline(always)]
    fn poll_slot(
        mut self: Pin<&mut Self>,
        place: Place,
        now: Time,
        latest: &mut Option<Latest<T, E>>,
        cx: &mut Context<'_>,
    ) -> Time {
        let this = self.as_mut().project();
        let mut slot = match place {
            Place::First => this.first,
            Place::Hedge(hedge) => this.hedges[hedge].as_mut(),
        };
        match slot.as_mut().project() {
            SlotProject::Empty | SlotProject::Held { .. } | SlotProject::Hangs { .. } => now,
            SlotProject::Runs { id, ends, future } => {
                let id = *id;
                *this.running = Some(id);
                let entered = Entered::new(*ends);
                let polled = future.poll(cx);
                drop(entered);
                let Poll::Ready(result) = polled else {
                    *this.running = None;
                    return now;
                };
                let outcome = this.classify.classify(&result);
                slot.set(Slot::Empty);
                *this.running = None;
                let now = this.clock.now();
                // Another may have ended the call in this very poll.
                let Progress::Runs {
                    call,
                    spent,
                    binding,
                    ..
                } = this.progress
                else {
                    return now;
                };
                if let Some(binding) = binding {
                    call.stay(binding.endpoint());
                }
                let spent = spent.as_deref();
                let counts = report(call, spent, id, outcome, *this.opens, this.opened, now);
                if counts {
                    *latest = Some(Latest {
                        id,
                        outcome,
                        result,
                    });
                }
                now
            }
        }
    }

    fn drop_attempt(self: Pin<&mut Self>, lost: AttemptId) {
        let mut this = self.project();
        let is_lost = |slot: Pin<&mut Slot<F>>| match slot.project() {
            SlotProject::Empty => false,
            SlotProject::Held { attempt, .. } => attempt.id == lost,
            SlotProject::Hangs { id } | SlotProject::Runs { id, .. } => *id == lost,
        };
        if is_lost(this.first.as_mut()) {
            this.first.set(Slot::Empty);
        }
        this.hedges.retain_mut(|hedge| !is_lost(hedge.as_mut()));
    }

    /// Waits until `until`, until a seat is granted or an attempt that is held back may start;
    /// the time then.
    fn poll_wait(
        mut self: Pin<&mut Self>,
        now: Time,
        until: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Time> {
        let until = until.min(self.as_mut().held_until());
        let this = self.as_mut().project();
        if let Progress::Runs { call, .. } = this.progress
            && let Some(ticket) = call.ticket()
        {
            ticket.wake(cx.waker());
        }
        if until <= now {
            return Poll::Ready(now);
        }
        ready!(self.as_mut().poll_timer(until, cx));
        Poll::Ready(self.clock.now().max(until))
    }

    fn held_until(self: Pin<&mut Self>) -> Time {
        let this = self.project();
        let until = |slot: Pin<&mut Slot<F>>| match slot.project() {
            SlotProject::Held { until, .. } => *until,
            SlotProject::Empty | SlotProject::Hangs { .. } | SlotProject::Runs { .. } => Time::MAX,
        };
        let hedges = this
            .hedges
            .iter_mut()
            .map(|hedge| until(hedge.as_mut()))
            .min();
        until(this.first).min(hedges.unwrap_or(Time::MAX))
    }

    fn poll_timer(self: Pin<&mut Self>, until: Time, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(instant) = instant_of(until).map(Instant::from_std) else {
            return Poll::Pending;
        };
        match this.timer.as_mut().as_pin_mut() {
            None => this.timer.set(Some(sleep_until(instant))),
            Some(timer) if *this.timer_at != until => timer.reset(instant),
            Some(_) => {}
        }
        *this.timer_at = until;
        this.timer.as_pin_mut().expect("it was just set").poll(cx)
    }
}

/// Reports a result to the machine; whether it counts.
#[inline(always)]
fn report<U: Deref<Target = outlast_core::upstream::Upstream>>(
    call: &mut Call<U>,
    spent: Option<&AtomicBool>,
    id: AttemptId,
    outcome: Outcome,
    opens: bool,
    opened: &mut Option<Open>,
    now: Time,
) -> bool {
    if spent.is_some_and(|spent| spent.load(Ordering::Relaxed)) {
        call.forbid_repeat();
    }
    if opens && matches!(outcome, Outcome::Success | Outcome::Permanent) {
        *opened = call.open(id, now);
        return opened.is_some();
    }
    call.outcome(id, outcome, now)
}

/// Where an attempt is kept.
#[derive(Clone, Copy)]
enum Place {
    First,
    Hedge(usize),
}

/// Enough for every sensible call to go through in one poll.
const STEPS_PER_POLL: usize = 64;
