//! A world that runs: the driver of all calls, and what services do with their attempts.
//!
//! It is the same driver as that of the library, in virtual time: it asks a call for its next step
//! until that is to wait, starts what has to be started, and reports what becomes of it.

mod driving;
mod looking;
mod plain;
mod sagas;
mod serving;

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use outlast_core::call::{AttemptId, Call};
use outlast_core::outcome::Outcome;
use outlast_core::rng::mix;
use outlast_core::tier::Tier;
use outlast_core::time::Time;
use outlast_core::upstream::Upstream;

use self::sagas::{Act, SagaEvent, Sagas};
use crate::agenda::{Agenda, Class};
use crate::client::{ClientReport, Load};
use crate::draws::{Draws, Purpose};
use crate::model::{Happens, Model, Policies, Report, RunError, Sample, Through};
use crate::plain::{Memory, Plain, PlainCall};
use crate::saga::{Mark, Work};
use crate::service::{Meter, Replica};
use crate::slab::{Ref, Slab};

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Something that was planned for the world, by its number.
    Change(usize),
    /// A request has been worked on.
    Worked(Ref),
    /// A request comes to its service after its way there.
    Arrives(Ref),
    /// An answer comes after its way back.
    Answers(Ref),
    /// A replica that could begin nothing looks again.
    Looks { service: usize, replica: u32 },
    /// An endpoint of an upstream is checked.
    Checks { upstream: usize, endpoint: usize },
    /// A check gets no answer.
    Unanswered { upstream: usize, endpoint: usize },
    /// A replica is asked whether it is alive.
    Lives { service: usize, replica: u32 },
    /// A replica has been restarted.
    Restarted { service: usize, replica: u32 },
    /// Somebody looks at how everything is.
    Samples,
    /// Something happens to sagas.
    Saga(SagaEvent),
    /// A call wants to go on.
    Wakes(Ref),
    /// A client calls.
    Calls { client: u32, index: u64 },
}

/// A call under way.
#[derive(Debug)]
struct Caller {
    /// Taken out while it is driven; none for a client without Outlast.
    call: Option<Call<Arc<Upstream>>>,
    plain: Option<PlainCall>,
    upstream: usize,
    owner: Owner,
    began: Time,
    deadline: Time,
    tier: Tier,
    /// Attempts of which it is not known whether they did their work.
    lost: u32,
    /// What its attempts are worked on as.
    live: [Option<Live>; MOST_LIVE],
    /// The last result that counted.
    result: Option<Outcome>,
    /// A plain call's that has not been looked at.
    outcome: Option<Outcome>,
    /// When a plain call goes on by itself.
    due: Time,
    /// For when a wake-up is planned that counts.
    wakes: Time,
    waker: Option<Waker>,
}

/// An attempt that runs.
#[derive(Clone, Copy, Debug)]
struct Live {
    /// From 1 on.
    number: u32,
    /// As Outlast knows it.
    id: Option<AttemptId>,
    request: Ref,
}

/// Whose call it is.
#[derive(Clone, Copy, Debug)]
enum Owner {
    /// A client's, with its index; counted only after the warm-up.
    Client {
        client: u32,
        index: u64,
        counts: bool,
    },
    /// A request's, which waits for it: the call of its own with this number.
    Request { request: Ref, number: usize },
    /// An attempt of a saga's step.
    Step(Act),
}

/// An attempt at a service.
#[derive(Debug)]
struct Request {
    /// Who made it; nobody waits any more if it is `None`.
    caller: Option<(Ref, u32)>,
    service: usize,
    replica: u32,
    /// Which of its service's calls it makes.
    kind: u32,
    /// Of which step of a saga it is, if it is of one.
    mark: Option<Mark>,
    /// Its answer is cut off: nobody is told whether it was worked on.
    cut: bool,
    /// How critical its call is, and so are those that it makes.
    tier: Tier,
    /// Random numbers are drawn by it: equal for the same attempt in another configuration.
    key: u64,
    came: Time,
    deadline: Time,
    /// One way between its caller and its service.
    distance: Duration,
    stage: Stage,
    /// At which of those calls it is, and how many of those at once have not ended.
    step: usize,
    pending: usize,
    calls: Vec<Ref>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Before the service, while nothing comes through.
    Outside,
    Waiting,
    Working,
    /// Waits for calls of its own.
    Calling,
    /// Worked on, with this outcome, and not with its caller yet.
    Done(Outcome),
}

pub(crate) struct World {
    model: Model,
    draws: Draws,
    now: Time,
    end: Time,
    from: Time,
    agenda: Agenda<Event>,
    callers: Slab<Caller>,
    requests: Slab<Request>,
    replicas: Vec<Vec<Replica>>,
    /// Which replica gets the next request that may go to any.
    turns: Vec<u32>,
    meters: Vec<Meter>,
    reports: Vec<ClientReport>,
    /// What upstreams without Outlast remember.
    memories: Vec<Memory>,
    changes: Vec<Happens>,
    sagas: Sagas,
    woken: Arc<Mutex<Vec<Ref>>>,
    samples: Vec<Sample>,
    hash: u64,
    events: u64,
}

/// Attempts of one call at once: the first and its hedges.
const MOST_LIVE: usize = 4;

struct Woken(Ref, Arc<Mutex<Vec<Ref>>>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        let mut woken = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        woken.push(self.0);
    }
}

impl World {
    pub(crate) fn new(mut model: Model, end: Time) -> World {
        let replicas = |service: &crate::Service| {
            let replica = |_| Replica::new(service);
            (0..service.replicas).map(replica).collect()
        };
        let mut agenda = Agenda::new();
        let changes = std::mem::take(&mut model.changes);
        for (number, (at, _)) in changes.iter().enumerate() {
            agenda.plan(*at, Class::Change, Event::Change(number));
        }
        World {
            draws: Draws::new(model.seed),
            now: Time::ZERO,
            end,
            from: Time::ZERO + model.warm_up,
            agenda,
            callers: Slab::new(),
            requests: Slab::new(),
            turns: vec![0; model.services.len()],
            replicas: model.services.iter().map(replicas).collect(),
            meters: model
                .services
                .iter()
                .map(|_| Meter::new(Time::ZERO + model.warm_up, end))
                .collect(),
            reports: model.clients.iter().map(|_| ClientReport::new()).collect(),
            memories: model.upstreams.iter().map(memory).collect(),
            changes: changes.into_iter().map(|(_, happens)| happens).collect(),
            sagas: Sagas::new(&model),
            woken: Arc::default(),
            samples: Vec::new(),
            hash: mix(model.seed),
            events: 0,
            model,
        }
    }

    pub(crate) fn run(mut self) -> Result<Report, RunError> {
        for client in 0..self.model.clients.len() as u32 {
            match self.model.clients[client as usize].load {
                Load::Closed { users, .. } => {
                    // Each user's calls have indices of their own.
                    for user in 0..u64::from(users) {
                        self.thinks(client, user << USER_SHIFT);
                    }
                }
                Load::Open(_) | Load::Steady(_) => self.plan_call(client, 0),
            }
        }
        self.begin_sagas();
        self.begin_looking();
        while let Some((at, event)) = self.agenda.next() {
            self.now = at;
            self.note(event);
            self.check_bounds()?;
            self.happen(event);
            self.drive_woken();
            self.go_on_with_sagas();
            // What is left are timers of what has ended.
            let present = self.callers.len() + self.requests.len() + self.sagas.open();
            if at >= self.end && present == 0 {
                break;
            }
        }
        Ok(self.report())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Change(number) => self.change(self.changes[number]),
            Event::Worked(request) => self.worked(request),
            Event::Arrives(request) => self.arrives_after_its_way(request),
            Event::Answers(request) => self.answers(request),
            Event::Looks { service, replica } => self.looks(service, replica),
            Event::Checks { upstream, endpoint } => self.checks(upstream, endpoint),
            Event::Unanswered { upstream, endpoint } => self.checked(upstream, endpoint, false),
            Event::Lives { service, replica } => self.lives(service, replica),
            Event::Restarted { service, replica } => self.restarted(service, replica),
            Event::Samples => self.take_sample(),
            Event::Saga(event) => self.saga_happens(event),
            Event::Wakes(caller) => self.wakes(caller),
            Event::Calls { client, index } => {
                self.calls(client, index);
                if !matches!(
                    self.model.clients[client as usize].load,
                    Load::Closed { .. }
                ) {
                    self.plan_call(client, index + 1);
                }
            }
        }
    }

    /// Makes it a part of the trace.
    fn note(&mut self, event: Event) {
        let bits = match event {
            Event::Change(number) => number as u64,
            Event::Worked(request) => 1 << 60 | request.bits(),
            Event::Looks { service, replica } => 2 << 60 | pair(service, replica),
            Event::Wakes(caller) => 3 << 60 | caller.bits(),
            Event::Calls { client, index } => 4 << 60 | u64::from(client) << 40 ^ index,
            Event::Arrives(request) => 5 << 60 | request.bits(),
            Event::Answers(request) => 6 << 60 | request.bits(),
            Event::Checks { upstream, endpoint } => 7 << 60 | pair(upstream, endpoint as u32),
            Event::Unanswered { upstream, endpoint } => 8 << 60 | pair(upstream, endpoint as u32),
            Event::Lives { service, replica } => 9 << 60 | pair(service, replica),
            Event::Restarted { service, replica } => 10 << 60 | pair(service, replica),
            Event::Saga(event) => 11 << 60 ^ event.bits(),
            // Looking changes nothing.
            Event::Samples => return,
        };
        self.hash = mix(self.hash ^ self.now.as_nanos().rotate_left(32) ^ bits);
        self.events += 1;
    }

    fn check_bounds(&self) -> Result<(), RunError> {
        let at = self.now.since(Time::ZERO);
        let Model {
            most_events: events,
            most_present: present,
            ..
        } = self.model;
        if self.events > events {
            return Err(RunError::Events { most: events, at });
        }
        let there = self.callers.len() + self.requests.len() + self.sagas.open();
        if there > present || self.agenda.len() > present * 4 {
            return Err(RunError::Present { most: present, at });
        }
        Ok(())
    }

    /// Plans the next call of a client that does not wait for answers.
    fn plan_call(&mut self, client: u32, index: u64) {
        let next = match &self.model.clients[client as usize].load {
            Load::Open(rate) => {
                let unit = self.draws.unit(client, Purpose::Gap, index);
                rate.reaches(self.now, -libm::log(unit))
            }
            Load::Steady(interval) if index == 0 => Some(self.now).filter(|_| !interval.is_zero()),
            Load::Steady(interval) => Some(self.now + *interval),
            Load::Closed { .. } => None,
        };
        self.plan_until_end(next, Event::Calls { client, index });
    }

    /// A user thinks, and calls.
    fn thinks(&mut self, client: u32, index: u64) {
        let Load::Closed { thinks, .. } = &self.model.clients[client as usize].load else {
            return;
        };
        let unit = self.draws.unit(client, Purpose::Thought, index);
        let next = self.now + thinks.quantile(unit);
        self.plan_until_end(Some(next), Event::Calls { client, index });
    }

    fn plan_until_end(&mut self, at: Option<Time>, event: Event) {
        if let Some(at) = at.filter(|at| *at < self.end) {
            self.agenda.plan(at, Class::Begin, event);
        }
    }

    fn report(mut self) -> Report {
        let sagas = self.sagas_report();
        let end = self.now.max(self.end);
        Report {
            services: self.meters.into_iter().map(Meter::end).collect(),
            clients: self.reports,
            upstreams: self
                .model
                .upstreams
                .iter()
                .map(|through| match &through.policies {
                    Policies::Outlast(policies) => Some(policies.stats(end)),
                    Policies::Plain(_) => None,
                })
                .collect(),
            samples: self.samples,
            sagas,
            hash: self.hash,
            events: self.events,
            measured: self.end.since(self.from),
        }
    }
}

fn pair(one: usize, other: u32) -> u64 {
    (one as u64) << 32 | u64::from(other)
}

fn memory(through: &Through) -> Memory {
    match &through.policies {
        Policies::Plain(plain) => Memory::new(plain),
        Policies::Outlast(_) => Memory::new(&Plain::new()),
    }
}

/// Room for the calls of one user.
const USER_SHIFT: u32 = 32;

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// How long something takes that takes `work` at full speed.
fn at_speed(work: Duration, speed: f64) -> Duration {
    crate::law::times(work, 1.0 / speed)
}
