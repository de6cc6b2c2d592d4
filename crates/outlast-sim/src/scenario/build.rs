//! From a scenario to a model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outlast_config::plan::{Saga, SagaRequest, SagaStep, SagaUnknown};
use outlast_config::scenario::{self as file, Effect, Load, Scenario, Target};
use outlast_core::upstream::Config;
use outlast_saga::{Definition, OnUnknown, Query, Step, Tries, Undo};

use crate::{
    Change, Client, ClientId, Curve, Gone, Law, Liveness, Model, Order, Place, Refusal, Runner,
    Sagas, SagasId, Service, ServiceId, UpstreamId,
};

/// What of the model is what of the scenario.
pub(super) struct Numbers {
    pub(super) services: Vec<ServiceId>,
    pub(super) clients: Vec<ClientId>,
    pub(super) sagas: Vec<SagasId>,
    /// All upstreams of the model with those policies, by the plan's upstreams.
    pub(super) upstreams: Vec<Vec<UpstreamId>>,
}

/// The world of a seed. Everything a scenario says has been checked when it was bound.
pub(super) fn model(scenario: &Scenario, policies: &[Config], seed: u64) -> (Model, Numbers) {
    let mut model = Model::new(seed);
    model.warm_up(scenario.warm_up);
    model.sample(SECOND);
    model.most_events(scenario.most_events);
    model.most_present(scenario.most_present);
    let mut builder = Builder {
        scenario,
        policies,
        model,
        numbers: Numbers {
            services: Vec::new(),
            clients: Vec::new(),
            sagas: Vec::new(),
            upstreams: vec![Vec::new(); policies.len()],
        },
        processes: BTreeMap::new(),
    };
    for service in &scenario.services {
        builder.service(service);
    }
    for (number, client) in scenario.clients.iter().enumerate() {
        builder.client(number, client);
    }
    builder.sagas();
    // At one time, what is planned first comes first: the end of what began before.
    let mut timeline: Vec<_> = scenario.timeline.iter().collect();
    timeline.sort_by_key(|change| change.from);
    for change in timeline {
        builder.change(change);
    }
    (builder.model, builder.numbers)
}

struct Builder<'a> {
    scenario: &'a Scenario,
    policies: &'a [Config],
    model: Model,
    numbers: Numbers,
    /// Upstreams of processes that several clients are in: by name, the plan's upstream, and copy.
    processes: BTreeMap<(String, usize, u32), UpstreamId>,
}

impl Builder<'_> {
    fn service(&mut self, from: &file::Service) {
        let mut service = Service::new(law(&from.work))
            .replicas(from.replicas)
            .failures(from.failures)
            .declines(from.declines)
            .lost(from.lost)
            .order(if from.lifo { Order::Lifo } else { Order::Fifo })
            .gone(match from.gone {
                file::Gone::WorksOn => Gone::WorksOn,
                file::Gone::Skips => Gone::Skips,
                file::Gone::Stops => Gone::Stops,
            })
            .refusal(match from.refusal {
                file::Refusal::Unsent => Refusal::Unsent,
                file::Refusal::Overload => Refusal::Overload,
                file::Refusal::ComeBack { after, spread } => Refusal::ComeBack { after, spread },
            })
            .ready_with(&Self::services(&from.ready_with));
        if let Some(workers) = from.workers {
            service = service.workers(workers);
        }
        if let Some(queue) = from.queue {
            service = service.queue(queue);
        }
        if !from.idempotent {
            service = service.forgets_keys();
        }
        if let Some(liveness) = &from.liveness {
            service = service.liveness(Self::liveness(liveness));
        }
        for (kind, calls) in from.calls.iter().enumerate() {
            if kind > 0 {
                service = service.another_kind();
            }
            service = self.calls(service, from, &calls.steps);
        }
        let number = self.model.service(service);
        self.numbers.services.push(number);
    }

    /// Adds these calls, of which each replica makes its own.
    fn calls(
        &mut self,
        mut service: Service,
        from: &file::Service,
        steps: &[Vec<usize>],
    ) -> Service {
        for at_once in steps {
            let calls: Vec<Vec<UpstreamId>> = at_once
                .iter()
                .map(|upstream| {
                    let own = |replica| self.upstream(*upstream, from.zone(replica));
                    (0..from.replicas).map(own).collect()
                })
                .collect();
            service = service.calls_at_once(&calls);
        }
        service
    }

    fn services(numbers: &[usize]) -> Vec<ServiceId> {
        // They are made in the scenario's order.
        numbers.iter().map(|number| ServiceId(*number)).collect()
    }

    fn liveness(from: &file::Liveness) -> Liveness {
        let liveness = Liveness::new(&Self::services(&from.needs))
            .every(from.every)
            .failures(from.failures)
            .restart(from.restart);
        match from.warms {
            Some(warms) => liveness.warms(warms.from, warms.over),
            None => liveness,
        }
    }

    /// An upstream of one caller, which is in this zone.
    fn upstream(&mut self, number: usize, zone: Option<&str>) -> UpstreamId {
        let scenario = self.scenario;
        let places = scenario.upstreams[number].as_ref().expect("it is used");
        let place = |place: &file::Place| {
            let service = ServiceId(place.service);
            let there = &scenario.services[place.service];
            let (made, replica) = match place.replica {
                Some(replica) => (Place::replica(service, replica), replica),
                None => (Place::any(service), 0),
            };
            let distance = scenario.distance(zone, there.zone(replica));
            made.distance(distance).kind(there.kind(number))
        };
        let places: Vec<_> = places.iter().map(place).collect();
        let made = self
            .model
            .upstream_at(self.policies[number].clone(), &places);
        let made = made.expect("a plan's policies can work");
        self.numbers.upstreams[number].push(made);
        made
    }

    /// That of a copy of a client, which others may have as well.
    fn upstream_of(&mut self, client: &file::Client, copy: u32) -> UpstreamId {
        let zone = client.zone.as_deref();
        let Some(process) = &client.process else {
            return self.upstream(client.upstream, zone);
        };
        let key = (process.clone(), client.upstream, copy);
        if let Some(shared) = self.processes.get(&key) {
            return *shared;
        }
        let made = self.upstream(client.upstream, zone);
        self.processes.insert(key, made);
        made
    }

    fn client(&mut self, number: usize, from: &file::Client) {
        let first = self.upstream_of(from, 0);
        let others: Vec<_> = (1..from.copies)
            .map(|copy| self.upstream_of(from, copy))
            .collect();
        let client = match &from.load {
            Load::Open(points) => Client::open(first, self.load(Some(number), points)),
            Load::Steady(interval) => Client::steady(first, *interval),
            Load::Closed(users, thinks) => Client::closed(first, *users, law(thinks)),
        };
        let mut client = client
            .or_through(&others)
            .tier(from.tier)
            .repeatable(from.repeatable);
        if let Some(deadline) = from.deadline {
            client = client.deadline(deadline);
        }
        let made = self.model.client(client);
        self.numbers.clients.push(made);
    }

    /// Sagas, through upstreams of their runner's own.
    fn sagas(&mut self) {
        let scenario = self.scenario;
        let zone = scenario.runner.zone.as_deref();
        let requests = scenario
            .sagas
            .iter()
            .flat_map(|beginning| beginning.saga.requests());
        let used: BTreeSet<usize> = requests.map(|request| request.upstream).collect();
        let through = used
            .into_iter()
            .map(|number| (number, self.upstream(number, zone)));
        let through: BTreeMap<usize, UpstreamId> = through.collect();
        for beginning in &scenario.sagas {
            let steps = beginning.saga.stages.iter().flatten();
            let acts: Vec<_> = steps
                .clone()
                .map(|step| through[&step.act.upstream])
                .collect();
            let definition = definition(&beginning.saga);
            let mut sagas = match &beginning.load {
                Load::Open(points) => Sagas::open(definition, &acts, self.load(None, points)),
                Load::Steady(interval) => Sagas::steady(definition, &acts, *interval),
                Load::Closed(..) => unreachable!("nobody waits for sagas"),
            };
            for step in steps {
                if let Some(undo) = &step.undo {
                    sagas = sagas.undone_through(&step.name, through[&undo.upstream]);
                }
                if let SagaUnknown::Query(query) = &step.on_unknown {
                    sagas = sagas.asked_through(&step.name, through[&query.request.upstream]);
                }
            }
            let made = sagas.cancels(beginning.cancels, law(&beginning.cancels_after));
            let made = self.model.sagas(made);
            self.numbers.sagas.push(made);
        }
        let from = &scenario.runner;
        let mut runner = Runner::new()
            .running(from.running)
            .resumed_a_second(from.resumed_a_second)
            .records(from.records)
            .restart(from.restart)
            .crashes(from.crashes);
        if let Some(every) = from.crashes_every {
            runner = runner.crashes_every(u64::from(every));
        }
        if let Some(after) = from.hands {
            runner = runner.hands(after);
        }
        self.model.runner(runner);
    }

    /// The load of a client, with all that happens to it; or of sagas.
    fn load(&self, client: Option<usize>, points: &[(Duration, f64)]) -> Curve {
        let first = points.first().map_or(0.0, |point| point.1);
        let line = |curve: Curve, (at, rate): &(Duration, f64)| curve.line(*at, *rate);
        let mut curve = points.iter().fold(Curve::level(first), line);
        for change in &self.scenario.timeline {
            if client.is_none_or(|client| change.target != Target::Client(client)) {
                continue;
            }
            for effect in &change.effects {
                if let Effect::Load(times) = effect {
                    let to = change.to.unwrap_or(self.scenario.lasts);
                    curve = curve.times(*times, change.from, to);
                }
            }
        }
        curve
    }

    fn change(&mut self, change: &file::Change) {
        let all = match (&change.target, change.to) {
            (Target::Replicas { all, .. }, _) => all,
            (Target::Runner, Some(to)) => {
                return self.model.crash(change.from, to - change.from);
            }
            (Target::Sagas(sagas), Some(to)) => {
                let sagas = self.numbers.sagas[*sagas];
                return self.model.pause(sagas, change.from, to - change.from);
            }
            (Target::Client(_) | Target::Runner | Target::Sagas(_), _) => return,
        };
        for (service, replica) in all {
            let id = self.numbers.services[*service];
            let usual = &self.scenario.services[*service];
            for effect in &change.effects {
                let (begins, ends) = match effect {
                    Effect::Away => (Change::Refuses(true), Change::Refuses(false)),
                    Effect::Hangs => (Change::Holds(true), Change::Holds(false)),
                    Effect::Failures(share) => {
                        (Change::Failures(*share), Change::Failures(usual.failures))
                    }
                    Effect::Declines(share) => {
                        (Change::Declines(*share), Change::Declines(usual.declines))
                    }
                    Effect::Lost(share) => (Change::Lost(*share), Change::Lost(usual.lost)),
                    Effect::Speed(share) => (Change::Speed(*share), Change::Speed(1.0)),
                    Effect::Load(_) | Effect::Crashes | Effect::Paused => continue,
                };
                self.model.change_one(change.from, id, *replica, begins);
                if let Some(to) = change.to {
                    self.model.change_one(to, id, *replica, ends);
                }
            }
            if let (Some(to), Some(file::Warms { from, over })) = (change.to, change.warms) {
                let warms = Change::Warms { from, over };
                self.model.change_one(to, id, *replica, warms);
            }
        }
    }
}

/// What a saga of the plan does, as the gateway has it.
fn definition(saga: &Saga) -> Definition {
    let mut definition = Definition::new(&saga.name, saga.version).source(&saga.source);
    for stage in &saga.stages {
        definition = definition.at_once(stage.iter().map(step));
    }
    match saga.deadline {
        Some(deadline) => definition.deadline(deadline),
        None => definition,
    }
}

fn step(from: &SagaStep) -> Step {
    let tries = |request: &SagaRequest| Tries::new(request.attempts).backoff(request.backoff);
    let mut step = Step::new(&from.name)
        .timeout(from.act.timeout)
        .tries(tries(&from.act))
        .budget(from.budget);
    if let Some(undo) = &from.undo {
        let undo = Undo::new().timeout(undo.timeout).tries(tries(undo));
        step = step.undo(undo.retries_a_second(from.undo_rate));
    }
    if from.best_effort {
        step = step.best_effort();
    }
    if from.pivot {
        step = step.pivot();
    }
    step.on_unknown(match &from.on_unknown {
        SagaUnknown::Retry => OnUnknown::Retry,
        SagaUnknown::Compensate => OnUnknown::Compensate,
        SagaUnknown::Query(query) => {
            let request = &query.request;
            let query = Query::new().timeout(request.timeout);
            OnUnknown::Query(query.tries(tries(request)))
        }
    })
}

fn law(from: &file::Law) -> Law {
    match from {
        file::Law::Fixed(duration) => Law::fixed(*duration),
        file::Law::Exponential(mean) => Law::exponential(*mean),
        file::Law::Uniform(from, to) => Law::uniform(*from, *to),
        file::Law::Lognormal { median, sigma } => {
            Law::lognormal(*median, *sigma).expect("sigma was checked")
        }
        file::Law::TwoKinds {
            share,
            first,
            second,
        } => Law::hyperexponential(*share, *first, *second).expect("a share was checked"),
        file::Law::Measured(counts) => Law::measured(counts).expect("a histogram was checked"),
    }
}

const SECOND: Duration = Duration::from_secs(1);
