//! The driver for blocking code: attempts run on the caller's thread, one after another.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use outlast_core::call::{self, AttemptId, Call, Step};
use outlast_core::fault::Fault;
use outlast_core::outcome::Outcome;
use outlast_core::reject::Reason;
use outlast_core::time::Time;

use crate::attempt::{Attempt, KeySource, Raw};
use crate::caller::Options;
use crate::classify::Classify;
use crate::deadline::{Entered, current_time};
use crate::ending::{Ending, Latest};
use crate::upstream::Inner;

/// Walks one call through its machine.
pub(crate) fn run<T, E>(
    inner: &Inner,
    options: &Options,
    classify: &impl Classify<Result<T, E>>,
    attempt: &mut impl FnMut(Attempt) -> Result<T, E>,
) -> Ending<T, E> {
    let now = inner.clock.now();
    let (request, key) = options.request(now);
    let mut run = Run {
        inner,
        key,
        call: Call::new(&inner.core, request, now),
        running: None,
    };
    let mut latest = None;
    let mut now = now;
    loop {
        match run.call.step(now) {
            Step::Attempt(next) => {
                if let Some(result) = run.attempt(next, classify, attempt) {
                    latest = Some(result);
                }
                now = inner.clock.now();
            }
            Step::Wait { until } => now = run.wait(now, until),
            Step::Cancel { .. } => {}
            Step::Done { id, stop } => {
                let latest = latest.expect("the machine asks for a result that was reported");
                return Ending::done(latest, id, stop, run.call.attempts(), run.call.deadline());
            }
            Step::Reject(rejection) => {
                let (attempts, deadline) = (run.call.attempts(), run.call.deadline());
                return Ending::rejected(rejection, attempts, deadline);
            }
        }
    }
}

struct Run<'a> {
    inner: &'a Inner,
    key: KeySource,
    call: Call<&'a outlast_core::upstream::Upstream>,
    /// The attempt whose closure runs, to tell a panic from a result.
    running: Option<AttemptId>,
}

impl<'a> Run<'a> {
    fn attempt<T, E>(
        &mut self,
        next: call::Attempt,
        classify: &impl Classify<Result<T, E>>,
        attempt: &mut impl FnMut(Attempt) -> Result<T, E>,
    ) -> Option<Latest<T, E>> {
        match next.fault {
            None => {}
            Some(Fault::Delay(delay)) => {
                let now = self.inner.clock.now();
                pause(delay.min(next.ends.since(now)));
                if now + delay >= next.ends {
                    return None;
                }
            }
            Some(Fault::Error) => {
                self.call
                    .lost(next.id, Reason::Fault, self.inner.clock.now());
                return None;
            }
            // Until its timeout: the machine is asked again then, and cuts it.
            Some(Fault::Hang) => return None,
        }
        self.running = Some(next.id);
        let raw = Raw {
            attempt: &next,
            deadline: self.call.deadline(),
            key: &self.key,
        };
        let ends = next.ends.min(self.call.deadline()).min(current_time());
        let entered = Entered::new(ends);
        let result = attempt(Attempt::new(self.inner, raw, &self.call));
        drop(entered);
        let outcome = classify.classify(&result);
        self.running = None;
        self.call.outcome(next.id, outcome, self.inner.clock.now());
        Some(Latest {
            id: next.id,
            outcome,
            result,
        })
    }

    /// Waits until `until`, or until a seat in the bulkhead is granted.
    fn wait(&self, now: Time, until: Time) -> Time {
        match self.call.ticket() {
            Some(ticket) => {
                ticket.wake(&Waker::from(Arc::new(Unpark(thread::current()))));
                thread::park_timeout(until.since(now));
                self.inner.clock.now()
            }
            None => {
                pause(until.since(now));
                self.inner.clock.now().max(until)
            }
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let now = self.inner.clock.now();
        if let Some(panicked) = self.running.take() {
            self.call.outcome(panicked, Outcome::Transient, now);
        }
        self.call.cancel(now);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "waiting is what the blocking driver is for"
)]
fn pause(time: Duration) {
    thread::sleep(time);
}
