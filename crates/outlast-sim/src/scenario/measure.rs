//! What a run shows, in numbers, and whether it keeps its promises.

use std::ops::Range;
use std::time::Duration;

use outlast_config::scenario::{Measure, Promise, Scenario, Window};

use super::build::Numbers;
use super::course::{CourseSecond, seconds};
use super::recovery::{Recovery, recovery};
use super::sagas::{self, RunnerRun, SagaRun};
use crate::{ClientReport, Report, SagaReport, ServiceReport, Times};

/// What one run shows.
#[derive(Clone, Debug)]
pub struct Run {
    /// What chance was drawn from.
    pub seed: u64,
    /// Equal for equal runs.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// Calls of all clients.
    pub calls: u64,
    /// The share of calls that were answered well and in time.
    pub goodput: f64,
    /// The share of seconds in which at least 99 % of the calls were.
    pub availability: f64,
    /// The share of calls that a policy ended.
    pub rejected: f64,
    /// Attempts a call.
    pub attempts: f64,
    /// The most attempts that were made in one second.
    pub peak_attempts: u64,
    /// Of good calls, in seconds: half took longer, one in a hundred, one in a thousand.
    pub quantiles: [f64; 3],
    /// The share of services' answers that nobody waited for.
    pub wasted: f64,
    /// Requests that were begun after their deadline.
    pub late: u64,
    /// By the scenario's clients.
    pub clients: Vec<ClientRun>,
    /// By the scenario's sagas.
    pub sagas: Vec<SagaRun>,
    /// How their runner fared.
    pub runner: RunnerRun,
    /// The most requests at once, by the scenario's services.
    pub peaks: Vec<u64>,
    /// How it recovered, if something happens that is over.
    pub recovery: Option<Recovery>,
    /// What was measured for each promise; `None` where there is nothing to measure.
    pub measured: Vec<Option<f64>>,
}

/// How a client fared in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientRun {
    /// The share of its calls that were answered well and in time; not a number if it made none.
    pub goodput: f64,
    /// In seconds, what one in a hundred of its good calls exceeds; not a number if there is none.
    pub p99: f64,
}

impl Run {
    /// Whether a promise, by its number, was kept. What could not be measured was not.
    pub fn keeps(&self, number: usize, promise: &Promise) -> bool {
        let measured = self.measured.get(number).copied().flatten();
        measured.is_some_and(|value| promise.limit.holds(value))
    }
}

pub(super) fn measure(seed: u64, report: &Report, numbers: &Numbers, scenario: &Scenario) -> Run {
    let clients: Vec<_> = numbers
        .clients
        .iter()
        .map(|id| report.client(*id))
        .collect();
    let services: Vec<_> = numbers
        .services
        .iter()
        .map(|id| report.service(*id))
        .collect();
    let seconds = seconds(&clients, scenario);
    let sagas: Vec<_> = numbers.sagas.iter().map(|id| report.saga(*id)).collect();
    // It is that of calls.
    let recovery = (!clients.is_empty())
        .then(|| recovery(scenario, &seconds, last_attempt(&clients, scenario)))
        .flatten();
    let calls: u64 = clients.iter().map(|client| client.calls).sum();
    let per_call = |sum: u64| sum as f64 / calls.max(1) as f64;
    let mut run = Run {
        seed,
        hash: report.hash,
        events: report.events,
        calls,
        goodput: per_call(clients.iter().map(|client| client.good).sum()),
        availability: availability(&seconds),
        rejected: per_call(clients.iter().map(|client| client.rejections()).sum()),
        attempts: per_call(clients.iter().map(|client| client.attempts).sum()),
        peak_attempts: seconds
            .iter()
            .map(|second| second.attempts)
            .max()
            .unwrap_or(0),
        quantiles: [0.5, 0.99, 0.999].map(|share| quantile(&clients, share).unwrap_or(f64::NAN)),
        wasted: wasted(&services),
        late: services.iter().map(|service| service.late).sum(),
        clients: clients
            .iter()
            .map(|client| ClientRun {
                goodput: client.success(),
                p99: quantile(&[client], 0.99).unwrap_or(f64::NAN),
            })
            .collect(),
        sagas: sagas.iter().map(|saga| SagaRun::new(saga)).collect(),
        runner: RunnerRun::new(report.sagas()),
        peaks: services.iter().map(|service| service.peak).collect(),
        recovery,
        measured: Vec::new(),
    };
    let world = World {
        scenario,
        clients: &clients,
        services: &services,
        sagas: &sagas,
    };
    run.measured = scenario
        .promises
        .iter()
        .map(|promise| world.measured(promise, &run))
        .collect();
    run
}

struct World<'a> {
    scenario: &'a Scenario,
    clients: &'a [&'a ClientReport],
    services: &'a [&'a ServiceReport],
    sagas: &'a [&'a SagaReport],
}

impl World<'_> {
    /// What a promise is about, as a number; `None` if there is nothing to measure.
    fn measured(&self, promise: &Promise, run: &Run) -> Option<f64> {
        let of = promise.of.as_deref();
        let sagas = self.sagas.iter().zip(&self.scenario.sagas);
        let sagas = sagas.filter(|(_, beginning)| of.is_none_or(|of| beginning.saga.name == of));
        let sagas: Vec<_> = sagas.map(|(report, _)| *report).collect();
        let is_of_sagas = promise.measure.is_of_sagas() || of.is_some() && !sagas.is_empty();
        if is_of_sagas {
            let range = (promise.window != Window::Always).then(|| self.range(promise.window));
            return sagas::measured(promise.measure, &sagas, range);
        }
        let clients = self.clients.iter().zip(&self.scenario.clients);
        let clients = clients.filter(|(_, client)| of.is_none_or(|of| client.name == of));
        let clients: Vec<_> = clients.map(|(report, _)| *report).collect();
        let services = self.services.iter().zip(&self.scenario.services);
        let services = services.filter(|(_, service)| of.is_none_or(|of| service.name == of));
        let services: Vec<_> = services.map(|(report, _)| *report).collect();
        let seconds = seconds(&clients, self.scenario);
        let seconds = seconds.get(self.range(promise.window)).unwrap_or_default();
        let sum = |of: fn(&CourseSecond) -> u64| seconds.iter().map(of).sum::<u64>() as f64;
        let calls = sum(|second| second.calls);
        let per_call = |sum: f64| (calls > 0.0).then(|| sum / calls);
        let of_all = |of: fn(&ClientReport) -> u64| {
            let sum: u64 = clients.iter().map(|client| of(client)).sum();
            let calls: u64 = clients.iter().map(|client| client.calls).sum();
            (calls > 0).then(|| sum as f64 / calls as f64)
        };
        match promise.measure {
            // Of the whole run they are what the run itself says.
            Measure::Goodput if promise.window == Window::Always => of_all(|client| client.good),
            Measure::Attempts if promise.window == Window::Always => {
                of_all(|client| client.attempts)
            }
            Measure::Goodput => per_call(sum(|second| second.good)),
            Measure::Attempts => per_call(sum(|second| second.attempts)),
            Measure::Availability => per_call(calls).map(|_| availability(seconds)),
            Measure::Rejected => of_all(ClientReport::rejections),
            Measure::Quantile(share) if promise.window == Window::Always => {
                quantile(&clients, share)
            }
            Measure::Quantile(share) => {
                let mut times = Times::default();
                seconds.iter().for_each(|second| times.add(&second.times));
                times.quantile(share).map(|took| took.as_secs_f64())
            }
            Measure::Recovery => Some(match run.recovery? {
                recovery if recovery.recovered => recovery.time().as_secs_f64(),
                // It is not known how long it would have taken.
                _ => f64::INFINITY,
            }),
            Measure::Peak => services
                .iter()
                .map(|service| service.peak as f64)
                .reduce(f64::max),
            Measure::Wasted => Some(wasted(&services)),
            Measure::Late => Some(services.iter().map(|service| service.late).sum::<u64>() as f64),
            Measure::Settled
            | Measure::Completed
            | Measure::Compensated
            | Measure::Refused
            | Measure::Waiting
            | Measure::HalfDone
            | Measure::Twice => None,
        }
    }

    /// The seconds of a window that lie in it as a whole.
    fn range(&self, window: Window) -> Range<usize> {
        let scenario = self.scenario;
        let (warm_up, lasts) = (scenario.warm_up, scenario.lasts);
        let begins = scenario.begins().unwrap_or(lasts);
        let over = scenario.over().unwrap_or(lasts);
        let (from, to) = match window {
            Window::Always => (warm_up, lasts),
            Window::Recovered(after) => (over + after, lasts),
            Window::During => (begins, over),
            Window::Before => (warm_up, begins),
            Window::Between(span) => (span.from, span.to.min(lasts)),
        };
        let first = from.as_nanos().div_ceil(SECOND.as_nanos()) as usize;
        first..(to.as_secs() as usize).max(first)
    }
}

/// When the last attempt was made of a call that began before the end of the faults.
fn last_attempt(clients: &[&ClientReport], scenario: &Scenario) -> Duration {
    let Some(over) = scenario.over() else {
        return Duration::ZERO;
    };
    let before = over.as_nanos().div_ceil(SECOND.as_nanos()) as usize;
    let seconds = clients
        .iter()
        .flat_map(|client| client.seconds.iter().take(before));
    seconds
        .map(|second| second.last_attempt)
        .max()
        .unwrap_or_default()
}

fn availability(seconds: &[CourseSecond]) -> f64 {
    let busy = seconds.iter().filter(|second| second.calls > 0);
    let good = busy
        .clone()
        .filter(|second| second.good * 100 >= second.calls * 99);
    good.count() as f64 / busy.count().max(1) as f64
}

/// Over all of these clients, in seconds.
fn quantile(clients: &[&ClientReport], share: f64) -> Option<f64> {
    let (first, rest) = clients.split_first()?;
    let mut all = first.latency.clone();
    rest.iter().for_each(|client| all.add(&client.latency));
    (all.count() > 0).then(|| all.quantile(share).as_secs_f64())
}

fn wasted(services: &[&ServiceReport]) -> f64 {
    let answered: u64 = services.iter().map(|service| service.answered).sum();
    let wasted: u64 = services.iter().map(|service| service.wasted).sum();
    wasted as f64 / answered.max(1) as f64
}

const SECOND: Duration = Duration::from_secs(1);
