//! A driver in virtual time: many calls against a scripted dependency, no clock, no sleeping.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use outlast_core::call::{Attempt, AttemptId, Call, Kind, Request, Step};
use outlast_core::fault::Fault;
use outlast_core::outcome::Outcome;
use outlast_core::reject::Reason;
use outlast_core::time::Time;
use outlast_core::upstream::Upstream;

/// What the dependency does with an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// Answers after this time.
    After(Duration, Outcome),
    /// Never answers.
    Hangs,
}

/// Answers at once.
pub fn at_once(outcome: Outcome) -> Reply {
    Reply::After(Duration::ZERO, outcome)
}

/// One attempt as the dependency saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    pub call: usize,
    pub at: Time,
    pub endpoint: usize,
    pub kind: Kind,
    pub id: AttemptId,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    pub step: Step,
    pub at: Time,
    /// The outcome that the driver would return.
    pub outcome: Option<Outcome>,
}

/// Calls in flight, and everything that happened.
pub struct World<'u> {
    upstream: &'u Upstream,
    script: Box<dyn FnMut(Seen) -> Reply + 'u>,
    pub now: Time,
    calls: Vec<Option<Call<&'u Upstream>>>,
    results: Vec<Option<(AttemptId, Outcome)>>,
    pub ended: Vec<Option<Ended>>,
    pub seen: Vec<Seen>,
    pub cancelled: Vec<(usize, AttemptId, Time)>,
    events: BTreeMap<(Time, u64), (usize, Happening)>,
    woken: Arc<Mutex<Vec<usize>>>,
    order: u64,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Answer(AttemptId, Outcome),
    Timer,
    GoesAway,
}

struct Woken(usize, Arc<Mutex<Vec<usize>>>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

impl<'u> World<'u> {
    pub fn new(upstream: &'u Upstream, script: impl FnMut(Seen) -> Reply + 'u) -> World<'u> {
        World {
            upstream,
            script: Box::new(script),
            now: Time::ZERO,
            calls: Vec::new(),
            results: Vec::new(),
            ended: Vec::new(),
            seen: Vec::new(),
            cancelled: Vec::new(),
            events: BTreeMap::new(),
            woken: Arc::default(),
            order: 0,
        }
    }

    /// Makes a call now; its number.
    pub fn call(&mut self, request: Request) -> usize {
        let number = self.calls.len();
        self.calls
            .push(Some(Call::new(self.upstream, request, self.now)));
        self.results.push(None);
        self.ended.push(None);
        self.drive(number);
        self.drive_woken();
        number
    }

    /// Makes a call now and runs until it has ended.
    pub fn run_call(&mut self, request: Request) -> Ended {
        let number = self.call(request);
        while self.ended[number].is_none() {
            assert!(
                self.advance(),
                "the call waits for something that never comes"
            );
        }
        self.ended[number].expect("it ended")
    }

    /// The caller of a call goes away at `at`.
    pub fn cancel_at(&mut self, call: usize, at: Time) {
        self.schedule(at, call, Happening::GoesAway);
    }

    /// Runs everything that happens until `end`, and stands there.
    pub fn run_until(&mut self, end: Time) {
        while self
            .events
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= end)
        {
            self.advance();
        }
        self.now = self.now.max(end);
    }

    /// Runs until nothing is left to happen.
    pub fn run(&mut self) {
        while self.advance() {}
    }

    fn advance(&mut self) -> bool {
        let Some(((at, _), (call, happening))) = self.events.pop_first() else {
            return false;
        };
        self.now = self.now.max(at);
        match happening {
            Happening::Timer => self.drive(call),
            Happening::Answer(id, outcome) => self.answer(call, id, outcome),
            Happening::GoesAway => {
                if let Some(mut gone) = self.calls[call].take() {
                    gone.cancel(self.now);
                }
            }
        }
        self.drive_woken();
        true
    }

    fn answer(&mut self, call: usize, id: AttemptId, outcome: Outcome) {
        let was_cancelled = self
            .cancelled
            .iter()
            .any(|&(other, lost, _)| (other, lost) == (call, id));
        let Some(machine) = self.calls[call].as_mut().filter(|_| !was_cancelled) else {
            return;
        };
        if machine.outcome(id, outcome, self.now) {
            self.results[call] = Some((id, outcome));
        }
        self.drive(call);
    }

    fn drive(&mut self, number: usize) {
        while let Some(call) = self.calls[number].as_mut() {
            match call.step(self.now) {
                Step::Attempt(attempt) => self.start(number, attempt),
                Step::Wait { until } => {
                    if let Some(ticket) = call.ticket() {
                        ticket.wake(&Waker::from(Arc::new(Woken(
                            number,
                            Arc::clone(&self.woken),
                        ))));
                    }
                    if until < Time::MAX {
                        self.schedule(until, number, Happening::Timer);
                    }
                    return;
                }
                Step::Cancel { id } => self.cancelled.push((number, id, self.now)),
                step @ (Step::Done { .. } | Step::Reject(_)) => {
                    let outcome = match step {
                        Step::Done { id, .. } => {
                            let (last, outcome) = self.results[number].expect("a result");
                            assert_eq!(last, id, "only the last result is ever asked for");
                            Some(outcome)
                        }
                        _ => None,
                    };
                    self.ended[number] = Some(Ended {
                        step,
                        at: self.now,
                        outcome,
                    });
                    self.calls[number] = None;
                }
            }
        }
    }

    fn start(&mut self, call: usize, attempt: Attempt) {
        let Attempt {
            id, kind, endpoint, ..
        } = attempt;
        let held_back = match attempt.fault {
            None => Duration::ZERO,
            Some(Fault::Delay(delay)) => delay,
            Some(Fault::Error) => {
                let machine = self.calls[call].as_mut().expect("it runs");
                return machine.lost(id, Reason::Fault, self.now);
            }
            Some(Fault::Hang) => return,
        };
        let seen = Seen {
            call,
            at: self.now + held_back,
            endpoint,
            kind,
            id,
        };
        self.seen.push(seen);
        if let Reply::After(took, outcome) = (self.script)(seen) {
            self.schedule(seen.at + took, call, Happening::Answer(id, outcome));
        }
    }

    fn schedule(&mut self, at: Time, call: usize, happening: Happening) {
        self.order += 1;
        self.events.insert((at, self.order), (call, happening));
    }

    fn drive_woken(&mut self) {
        loop {
            let Some(call) = self.woken.lock().unwrap().pop() else {
                return;
            };
            self.drive(call);
        }
    }
}
