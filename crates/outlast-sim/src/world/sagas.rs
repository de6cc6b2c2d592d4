//! The runner of sagas: it writes what happens, does what its records say, and may end at any time.
//!
//! It does what the runner of production does, in the same order: events are on the log before anything
//! is done about them; after a crash whatever is open is read again and goes on, at a bounded pace.
//! What comes of attempts is taken in one at a time, never within one another.

mod ends;

use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::task::{Context, Poll};

use outlast_core::call::Request as Asked;
use outlast_core::reject::Rejection;
use outlast_saga::store::{Memory as Logs, NewSaga, State, Store};
use outlast_saga::{Acted, Event as Fact, Hand, Saga, Stamp};
use serde_json::Value;

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
    inbox: VecDeque<Came>,
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
    calls: Vec<Ref>,
    ledger: Ledger,
    state: State,
}

/// What came of an attempt.
#[derive(Debug)]
struct Came {
    act: Act,
    acted: Acted,
}

/// An attempt of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Act {
    pub(super) mark: Mark,
    attempt: u32,
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
        }
    }

    /// Takes in what came of attempts, until nothing has.
    pub(super) fn go_on_with_sagas(&mut self) {
        while let Some(Came { act, acted }) = self.sagas.inbox.pop_front() {
            let (step, now) = (usize::from(act.mark.step), self.stamp());
            let one = &mut self.sagas.all[act.mark.saga as usize];
            let Some(saga) = &mut one.saga else {
                continue;
            };
            let events = if act.mark.undoes {
                saga.undid(step, act.attempt, acted, now)
            } else {
                saga.acted(step, act.attempt, acted, now)
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
        let mut saga = Saga::new(&id, Arc::clone(&definition));
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
                Fact::Started { step, attempt } => self.act(number, *step, *attempt, false),
                Fact::UndoStarted { step, attempt } => self.act(number, *step, *attempt, true),
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

    /// Makes an attempt: a call through its upstream.
    fn act(&mut self, number: u32, step: usize, attempt: u32, undoes: bool) {
        let one = &self.sagas.all[number as usize];
        let (kind, saga) = (one.kind, one.saga.as_ref().expect("it is in memory"));
        let log = at_once(self.sagas.logs.log(saga.id())).expect("memory has it");
        if !has_record(&log, step, attempt, undoes) {
            let what = format!("{}: an attempt is made without a record", saga.id());
            self.sagas.report.breaks(what);
        }
        let described = saga.definition().steps().nth(step);
        let described = described.expect("a step of the definition");
        let timeout = match undoes {
            true => described.undo_time().unwrap_or_default(),
            false => described.time(),
        };
        let act = Act {
            mark: Mark {
                saga: number,
                step: u16::try_from(step).expect("steps are bounded"),
                undoes,
            },
            attempt,
        };
        let upstream = self.model.sagas[kind as usize].through[step][usize::from(undoes)];
        let seed = self
            .draws
            .bits(kind, Purpose::Step, self.key_of(Owner::Step(act)));
        let ends = self.now + timeout;
        let owner = Owner::Step(act);
        let said = (ends, Tier::default());
        let call = self.call(upstream, owner, Asked::new(seed), said);
        if self.callers.get(call).is_some() {
            self.sagas.all[number as usize].calls.push(call);
            let event = Event::Saga(SagaEvent::TimesOut(call));
            self.agenda.plan(ends, Class::Timer, event);
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

    /// The policies have not ended a call in the time that its step has.
    fn times_out(&mut self, at: Ref) {
        let Some(Caller {
            owner: Owner::Step(act),
            ..
        }) = self.callers.get(at)
        else {
            return;
        };
        let act = *act;
        self.give_up(at);
        let acted = Acted::Unknown("no answer in time".to_owned());
        self.step_ended(at, act, acted);
    }

    /// An attempt has ended.
    pub(super) fn step_ended(&mut self, at: Ref, act: Act, acted: Acted) {
        let one = &mut self.sagas.all[act.mark.saga as usize];
        one.calls.retain(|call| *call != at);
        self.sagas.inbox.push_back(Came { act, acted });
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

    /// Somebody has whatever waits of a saga tried again.
    fn is_handled(&mut self, number: u32) {
        if self.now < self.sagas.back {
            let event = Event::Saga(SagaEvent::IsHandled(number));
            return self.agenda.plan(self.now + A_SECOND, Class::Begin, event);
        }
        let now = self.stamp();
        let saga = self.read(number);
        let needs = |saga: &Saga| {
            let mut steps = saga.steps().iter();
            use outlast_saga::At;
            steps.position(|step| matches!(step.at, At::Stuck(_) | At::Dead(_)))
        };
        let Some(step) = needs(&saga) else {
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
        Saga::replay(id, definition, &log).expect("what was written can be read")
    }

    fn enter(&mut self, number: u32, saga: Saga) {
        let one = &mut self.sagas.all[number as usize];
        (one.saga, one.wakes) = (Some(saga), Time::MAX);
        self.sagas.running.insert(number);
    }

    /// Counts an attempt that an upstream's policies make for a step.
    pub(super) fn count_request(&mut self, act: Act) {
        let One { kind, counts, .. } = self.sagas.all[act.mark.saga as usize];
        let report = &mut self.sagas.report.sagas[kind as usize];
        report.steps[usize::from(act.mark.step)].requests += u64::from(counts);
    }

    /// What random numbers of an attempt are drawn by: equal in another configuration.
    pub(super) fn key_of_step(&self, act: Act) -> u64 {
        mix(self.key_of_mark(act.mark) ^ u64::from(act.attempt).rotate_left(40))
    }

    /// That of all attempts of a step.
    pub(super) fn key_of_mark(&self, mark: Mark) -> u64 {
        let One { kind, index, .. } = self.sagas.all[mark.saga as usize];
        let saga = mix(index ^ mix(u64::from(kind) << 32 | SAGAS));
        mix(saga ^ u64::from(mark.step) << 1 ^ u64::from(mark.undoes))
    }

    /// The time as a log keeps it.
    fn stamp(&self) -> Stamp {
        Stamp(self.now.as_nanos() / 1_000_000)
    }
}

/// What a call that has ended means for its step. `lost`: an attempt of it may have done the work.
pub(super) fn acted(result: Result<Outcome, Rejection>, lost: bool) -> Acted {
    let after = match result {
        Ok(Outcome::Success) => return Acted::Done(Value::Bool(true)),
        _ if lost => return Acted::Unknown("an attempt got no answer".to_owned()),
        Ok(Outcome::Permanent) => return Acted::Permanent("declined".to_owned()),
        Ok(Outcome::Overload { retry_after }) => retry_after,
        Ok(Outcome::Transient | Outcome::Unsent | Outcome::Ignored) => None,
        Err(rejection) => rejection.retry_after,
    };
    Acted::Transient {
        error: match result {
            Ok(_) => "it failed".to_owned(),
            Err(rejection) => rejection.to_string(),
        },
        after: after.map(|after| after.min(LONGEST_PAUSE)),
    }
}

/// The log in memory never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("memory does not wait"),
    }
}

/// As in the gateway: who asks for a longer pause is asked again all the same.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Keys of sagas are not those of clients.
const SAGAS: u64 = 0x5a9a;
const A_SECOND: Duration = Duration::from_secs(1);
