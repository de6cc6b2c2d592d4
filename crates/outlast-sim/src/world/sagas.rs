//! The runner of sagas: it writes what happens, does what its records say, and may end at any time.
//!
//! It does what the runner of production does, in the same order: events are on the log before anything
//! is done about them; after a crash whatever is open is read again and goes on, at a bounded pace.
//! What comes of attempts is taken in one at a time, never within one another.

mod acts;
mod ends;
mod shared;

use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::task::{Context, Poll};

use outlast_core::call::Request as Asked;
use outlast_core::reject::Rejection;
use outlast_saga::store::{Memory as Logs, NewSaga, State, Store};
use outlast_saga::{Acted, Event as Fact, Found, Hand, Saga, Stamp};
use serde_json::Value;

pub(super) use self::acts::{Act, Came};
use self::shared::Shared;
use super::*;
use crate::saga::{Ledger, Mark, SagaReport, SagasReport, has_record};

/// What happens to sagas.
#[derive(Clone, Copy, Debug)]
pub(super) enum SagaEvent {
    /// One is to begin.
    Begins { kind: u32, index: u64 },
    /// One has something to do by now.
    Wakes(u32),
    /// The time of an attempt is over.
    TimesOut(Ref),
    /// Somebody does not want one any more.
    IsCancelled(u32),
    /// Somebody looks at one that waits for that.
    IsHandled(u32),
    /// The runner ends; which of those that were planned.
    Crashes(usize),
    /// The runner goes on with what is open behind a place, unless it has crashed since.
    Resumes { life: u32, after: u32 },
    /// Somebody says whether sagas go on; which of those words that were planned.
    IsTold(usize),
    /// One that was paused has its turn to go on.
    GoesOn(u32),
}

impl SagaEvent {
    /// For the trace.
    pub(super) fn bits(self) -> u64 {
        match self {
            SagaEvent::Begins { kind, index } => u64::from(kind) << 40 ^ index,
            SagaEvent::Wakes(saga) => 1 << 56 | u64::from(saga),
            SagaEvent::TimesOut(caller) => 2 << 56 ^ caller.bits(),
            SagaEvent::IsCancelled(saga) => 3 << 56 | u64::from(saga),
            SagaEvent::IsHandled(saga) => 4 << 56 | u64::from(saga),
            SagaEvent::Crashes(number) => 5 << 56 | number as u64,
            SagaEvent::Resumes { life, after } => 6 << 56 | pair(life as usize, after),
            SagaEvent::IsTold(number) => 7 << 56 | number as u64,
            SagaEvent::GoesOn(saga) => 8 << 56 | u64::from(saga),
        }
    }
}

/// The runner and its log.
#[derive(Debug)]
pub(super) struct Sagas {
    logs: Logs,
    all: Vec<One>,
    /// Those that are in memory.
    running: BTreeSet<u32>,
    /// What has come of attempts, and has not been taken in.
    inbox: VecDeque<(Act, Came)>,
    /// By the model's sagas.
    shared: Vec<Shared>,
    /// Until when it is away.
    back: Time,
    /// How often it has begun.
    life: u32,
    /// At how many instants it might have crashed.
    instants: u64,
    /// How many have neither ended nor wait for somebody who does not come.
    open: usize,
    /// How many have ended whose logs are still there.
    ended: usize,
    pub(super) report: SagasReport,
}

/// One saga.
#[derive(Debug)]
struct One {
    kind: u32,
    index: u64,
    began: Time,
    /// It began after the warm-up.
    counts: bool,
    /// Its machine, while it is in memory.
    saga: Option<Saga>,
    /// For when a wake-up is planned that counts.
    wakes: Time,
    /// It was paused, and goes on then.
    goes_on: Time,
    calls: Vec<Ref>,
    ledger: Ledger,
    state: State,
}

impl Sagas {
    pub(super) fn new(model: &Model) -> Sagas {
        let report = |sagas: &crate::saga::Sagas| {
            let steps = sagas.definition.steps();
            SagaReport::new(steps.map(outlast_saga::Step::name))
        };
        Sagas {
            logs: Logs::new(),
            all: Vec::new(),
            running: BTreeSet::new(),
            inbox: VecDeque::new(),
            shared: model
                .sagas
                .iter()
                .map(|sagas| Shared::new(&sagas.definition, &model.runner))
                .collect(),
            back: Time::ZERO,
            life: 0,
            instants: 0,
            open: 0,
            ended: 0,
            report: SagasReport {
                sagas: model.sagas.iter().map(report).collect(),
                ..SagasReport::default()
            },
        }
    }

    /// How many go on by themselves, or will when the runner is back.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// A service has worked on a request of a step; whether the step is done, or undone, by now.
    pub(super) fn works(&mut self, mark: Mark, keeps_keys: bool) -> bool {
        self.all[mark.saga as usize].ledger.works(mark, keeps_keys)
    }
}

impl World {
    pub(super) fn begin_sagas(&mut self) {
        for kind in 0..self.model.sagas.len() as u32 {
            self.plan_saga(kind, 0);
        }
        let crashes: Vec<_> = self.model.crashes.iter().map(|crash| crash.0).collect();
        for (number, at) in crashes.into_iter().enumerate() {
            let event = Event::Saga(SagaEvent::Crashes(number));
            self.agenda.plan(at, Class::Change, event);
        }
        for number in 0..self.model.pauses.len() {
            let event = Event::Saga(SagaEvent::IsTold(number));
            let at = self.model.pauses[number].0;
            self.agenda.plan(at, Class::Change, event);
        }
    }

    pub(super) fn saga_happens(&mut self, event: SagaEvent) {
        match event {
            SagaEvent::Begins { kind, index } => {
                self.begins(kind, index);
                self.plan_saga(kind, index + 1);
            }
            SagaEvent::Wakes(saga) => self.saga_wakes(saga),
            SagaEvent::TimesOut(caller) => self.times_out(caller),
            SagaEvent::IsCancelled(saga) => self.is_cancelled(saga),
            SagaEvent::IsHandled(saga) => self.is_handled(saga),
            SagaEvent::Crashes(number) => self.crash(self.model.crashes[number].1),
            SagaEvent::Resumes { life, after } => self.resumes(life, after),
            SagaEvent::IsTold(number) => self.is_told(number),
            SagaEvent::GoesOn(saga) => self.goes_on(saga),
        }
    }

    /// Takes in what came of attempts, until nothing has.
    pub(super) fn go_on_with_sagas(&mut self) {
        while let Some((act, came)) = self.sagas.inbox.pop_front() {
            let (step, now) = (usize::from(act.mark.step), self.stamp());
            let one = &mut self.sagas.all[act.mark.saga as usize];
            let Some(saga) = &mut one.saga else {
                continue;
            };
            let events = match came {
                Came::Acted(acted) if act.mark.work == Work::Undo => {
                    saga.undid(step, act.attempt, acted, now)
                }
                Came::Acted(acted) => saga.acted(step, act.attempt, acted, now),
                Came::Found(found) => saga.asked(step, act.attempt, found, now),
            };
            self.commit(act.mark.saga, events);
            self.drive_woken();
        }
    }

    /// Plans the next beginning of a saga.
    fn plan_saga(&mut self, kind: u32, index: u64) {
        let next = match &self.model.sagas[kind as usize].load {
            Load::Open(rate) => {
                let unit = self.draws.unit(kind, Purpose::SagaGap, index);
                rate.reaches(self.now, -libm::log(unit))
            }
            Load::Steady(interval) if index == 0 => Some(self.now).filter(|_| !interval.is_zero()),
            Load::Steady(interval) => Some(self.now + *interval),
            Load::Closed { .. } => None,
        };
        let event = Event::Saga(SagaEvent::Begins { kind, index });
        self.plan_until_end(next, event);
    }

    /// A saga is to begin.
    fn begins(&mut self, kind: u32, index: u64) {
        let (now, counts) = (self.now, self.now >= self.from);
        let is_away = now < self.sagas.back;
        let is_full = self.sagas.running.len() >= self.model.runner.running.get();
        if counts {
            let report = &mut self.sagas.report.sagas[kind as usize];
            report.asked += 1;
            report.second(now).refused += 1;
            report.refused += 1;
        }
        if is_away || is_full {
            return;
        }
        let definition = Arc::clone(&self.model.sagas[kind as usize].definition);
        let id = format!("{}-{}-{index}", definition.name(), self.model.seed);
        let mut saga = Saga::new(&id, Arc::clone(&definition)).bounded(self.model.runner.records);
        self.sagas.shared[kind as usize].adopt(&mut saga);
        let stamp = self.stamp();
        let begun = saga.begin(Value::from(index), stamp);
        let events = begun.expect("it is new");
        if self.crashes_here() {
            return;
        }
        let record = saga.record(events.clone(), stamp);
        let new = NewSaga {
            id,
            definition: definition.name().to_owned(),
            version: definition.version(),
            hash: definition.hash(),
            input_hash: index.to_string(),
            record,
            state: State::from(&saga),
        };
        at_once(self.sagas.logs.begin(new)).expect("memory takes everything");
        let number = u32::try_from(self.sagas.all.len()).expect("the world is bounded before");
        self.sagas.all.push(One {
            kind,
            index,
            began: now,
            counts,
            ledger: Ledger::new(definition.steps().count()),
            saga: Some(saga),
            wakes: Time::MAX,
            goes_on: Time::MAX,
            calls: Vec::new(),
            state: State::Open,
        });
        self.sagas.running.insert(number);
        self.sagas.open += 1;
        if counts {
            let report = &mut self.sagas.report.sagas[kind as usize];
            report.started += 1;
            report.refused -= 1;
            let second = report.second(now);
            (second.started, second.refused) = (second.started + 1, second.refused - 1);
        }
        self.count(number, &events);
        self.plan_cancel(number);
        if !self.crashes_here() {
            self.perform(number, &events);
        }
    }

    fn plan_cancel(&mut self, number: u32) {
        let One { kind, index, .. } = self.sagas.all[number as usize];
        let sagas = &self.model.sagas[kind as usize];
        if self.draws.unit(kind, Purpose::Cancel, index) < sagas.cancels {
            let unit = self.draws.unit(kind, Purpose::CancelTime, index);
            let at = self.now + sagas.cancels_after.quantile(unit);
            let event = Event::Saga(SagaEvent::IsCancelled(number));
            self.agenda.plan(at, Class::Begin, event);
        }
    }

    /// Puts events on the log, and does what they say; the runner may crash before and in between.
    fn commit(&mut self, number: u32, events: Vec<Fact>) {
        if !events.is_empty() {
            if self.crashes_here() {
                return;
            }
            let now = self.stamp();
            let one = &mut self.sagas.all[number as usize];
            let saga = one.saga.as_mut().expect("it is in memory");
            let record = saga.record(events.clone(), now);
            let appended = self
                .sagas
                .logs
                .append(saga.id(), record, State::from(&*saga));
            at_once(appended).expect("nobody else writes it");
            one.state = State::from(&*saga);
            self.count(number, &events);
            if self.crashes_here() {
                return;
            }
        }
        self.perform(number, &events);
    }

    /// Does what events say that are on the log.
    fn perform(&mut self, number: u32, events: &[Fact]) {
        for event in events {
            match event {
                Fact::Started { step, attempt } => self.act(number, *step, *attempt, Work::Act),
                Fact::UndoStarted { step, attempt } => {
                    self.act(number, *step, *attempt, Work::Undo);
                }
                Fact::QueryStarted { step, attempt } => {
                    self.act(number, *step, *attempt, Work::Query);
                }
                _ => {}
            }
        }
        let one = &mut self.sagas.all[number as usize];
        if one.state != State::Open {
            return self.rests(number);
        }
        let saga = one.saga.as_ref().expect("it is in memory");
        let wakes = saga
            .wakes()
            .map_or(Time::MAX, |due| Time::from_millis(due.0));
        if wakes < one.wakes {
            one.wakes = wakes;
            let event = Event::Saga(SagaEvent::Wakes(number));
            self.agenda.plan(wakes.max(self.now), Class::Timer, event);
        }
    }

    /// A planned wake-up, unless another one has taken its place.
    fn saga_wakes(&mut self, number: u32) {
        let (now, stamp) = (self.now, self.stamp());
        let one = &mut self.sagas.all[number as usize];
        let Some(saga) = one.saga.as_mut().filter(|_| one.wakes <= now) else {
            return;
        };
        one.wakes = Time::MAX;
        let events = saga.wake(stamp);
        self.commit(number, events);
    }

    /// Somebody who finds the runner away, or the saga not in memory yet, comes back a second later.
    fn is_cancelled(&mut self, number: u32) {
        let now = self.stamp();
        let one = &mut self.sagas.all[number as usize];
        match &mut one.saga {
            // What cannot be cancelled is not.
            Some(saga) => {
                if let Ok(events) = saga.cancel("somebody", "it is not wanted any more", now) {
                    self.commit(number, events);
                }
            }
            None if one.state == State::Open => {
                let event = Event::Saga(SagaEvent::IsCancelled(number));
                self.agenda.plan(self.now + A_SECOND, Class::Begin, event);
            }
            None => {}
        }
    }

    /// Somebody has whatever waits of a saga tried again, if its log has room for that.
    fn is_handled(&mut self, number: u32) {
        if self.now < self.sagas.back {
            let event = Event::Saga(SagaEvent::IsHandled(number));
            return self.agenda.plan(self.now + A_SECOND, Class::Begin, event);
        }
        let now = self.stamp();
        let saga = self.read(number);
        let mut steps = 0..saga.steps().len();
        let Some(step) = steps.find(|step| saga.hands(*step).contains(&Hand::Retry)) else {
            // It waits for somebody who does more than that.
            self.sagas.open -= 1;
            return;
        };
        self.enter(number, saga);
        let one = &mut self.sagas.all[number as usize];
        let saga = one.saga.as_mut().expect("it has just entered");
        let handled = saga.handle(step, Hand::Retry, "somebody", "tried again", now);
        let events = handled.expect("it waits for somebody");
        self.commit(number, events);
    }

    /// A saga as its log says.
    fn read(&self, number: u32) -> Saga {
        let one = &self.sagas.all[number as usize];
        let definition = Arc::clone(&self.model.sagas[one.kind as usize].definition);
        let id = format!("{}-{}-{}", definition.name(), self.model.seed, one.index);
        let log = at_once(self.sagas.logs.log(&id)).expect("memory has it");
        let saga = Saga::replay(id, definition, &log).expect("what was written can be read");
        let mut saga = saga.bounded(self.model.runner.records);
        self.sagas.shared[one.kind as usize].adopt(&mut saga);
        saga
    }

    fn enter(&mut self, number: u32, saga: Saga) {
        let one = &mut self.sagas.all[number as usize];
        (one.saga, one.wakes, one.goes_on) = (Some(saga), Time::MAX, Time::MAX);
        self.sagas.running.insert(number);
    }

    /// The time as a log keeps it.
    fn stamp(&self) -> Stamp {
        Stamp(self.now.as_nanos() / 1_000_000)
    }
}

/// The log in memory never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("memory does not wait"),
    }
}

const A_SECOND: Duration = Duration::from_secs(1);
