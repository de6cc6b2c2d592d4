//! All drivers decide alike: the same script through virtual time, futures, threads and tower.
//!
//! Scripts leave out what a driver cannot do (a blocking call is not cut or hedged) and what
//! depends on how fast a machine is (cooldowns are an hour and ended by hand).

use std::cell::RefCell;
use std::future::ready;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast::backoff::Backoff;
use outlast::breaker::Manual;
use outlast::call::Kind;
use outlast::outcome::Outcome;
use outlast::ratio::Ratio;
use outlast::reject::Reason;
use outlast::{Attempt, Config, Error, Repeat, Upstream};
use outlast::{balance, breaker, budget, bulkhead, eject, failover, rate, retry};
use outlast_core::call::{Request, Step};
use proptest::prelude::*;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::world::{World, at_once};

const HOUR: Duration = Duration::from_secs(3600);

/// Makes the settings of a script.
type Make = fn() -> Config;

/// What happens in a script.
#[derive(Clone, Debug)]
enum Scene {
    /// A call whose attempts have these outcomes; further ones succeed.
    Call {
        outcomes: Vec<Outcome>,
        repeatable: bool,
    },
    /// An operator ends the cooldown of this endpoint's breaker.
    Trial(usize),
}

/// What a driver did with a call.
#[derive(Clone, Debug, PartialEq)]
struct Trace {
    attempts: Vec<(u32, Kind, usize)>,
    outcome: Option<Outcome>,
    stop: Option<Reason>,
}

/// In order of preference.
fn ordered() -> Config {
    config().failover(failover::Config::ordered())
}

/// In turn, which is the one way to choose that looks neither at seeds nor at times.
fn in_turn() -> Config {
    // Longer than a cooldown: which of both ends first must not depend on how long a scene takes.
    let eject = eject::Config::default()
        .consecutive(3)
        .base(3 * HOUR)
        .max(3 * HOUR);
    let balance = balance::Config::new(balance::Kind::RoundRobin);
    config().balance(balance.eject(eject))
}

fn config() -> Config {
    Config::new("pay")
        .endpoint("a")
        .endpoint("b")
        .endpoint("c")
        .breaker(
            breaker::Config::consecutive(2)
                .cooldown(2 * HOUR)
                .lease(HOUR),
        )
        .retry(
            retry::Config::attempts(5)
                .backoff(Backoff::constant(Duration::from_micros(10)).max(Duration::from_secs(1))),
        )
        .budget(
            budget::Config::new(Ratio::percent(50))
                .window(HOUR)
                .reserve(4),
        )
        .bulkhead(bulkhead::Config::new(1))
        .rate(rate::Config::new(25, 24 * HOUR))
}

fn outcome_at(outcomes: &[Outcome], number: u32) -> Outcome {
    outcomes
        .get(number as usize - 1)
        .copied()
        .unwrap_or(Outcome::Success)
}

fn virtual_time(config: Make, scenes: &[Scene]) -> Vec<Trace> {
    let upstream = outlast_core::upstream::Upstream::new(config(), 1).unwrap();
    let script = Rc::new(RefCell::new(Vec::new()));
    let current = Rc::clone(&script);
    let mut world = World::new(&upstream, move |seen| {
        at_once(outcome_at(&current.borrow(), seen.id.number()))
    });
    let mut traces = Vec::new();
    for scene in scenes {
        match scene {
            Scene::Trial(endpoint) => {
                upstream
                    .breaker(*endpoint)
                    .unwrap()
                    .force(Manual::Trial, world.now);
            }
            Scene::Call {
                outcomes,
                repeatable,
            } => {
                script.replace(outcomes.clone());
                world.seen.clear();
                let ended = world.run_call(Request::new(7).repeatable(*repeatable));
                let seen = world.seen.iter();
                traces.push(Trace {
                    attempts: seen
                        .map(|seen| (seen.id.number(), seen.kind, seen.endpoint))
                        .collect(),
                    outcome: ended.outcome,
                    stop: match ended.step {
                        Step::Done { stop, .. } => stop.map(|stop| stop.reason),
                        Step::Reject(rejection) => Some(rejection.reason),
                        _ => None,
                    },
                });
            }
        }
    }
    traces
}

type Result<T = Outcome, E = Outcome> = std::result::Result<T, E>;

/// A result that carries its own outcome.
fn result_of(outcome: Outcome) -> Result {
    if outcome == Outcome::Success {
        Ok(outcome)
    } else {
        Err(outcome)
    }
}

fn classify(result: &Result) -> Outcome {
    match result {
        Ok(outcome) | Err(outcome) => *outcome,
    }
}

fn trace(attempts: Vec<(u32, Kind, usize)>, result: Result<Outcome, Error<Outcome>>) -> Trace {
    let (outcome, stop) = match result {
        Ok(outcome) => (Some(outcome), None),
        Err(error) => (
            error.inner().copied(),
            error.rejection().map(|stop| stop.reason),
        ),
    };
    Trace {
        attempts,
        outcome,
        stop,
    }
}

/// Runs a script with `call` on an upstream of the library.
fn with_library(
    config: Make,
    scenes: &[Scene],
    mut call: impl FnMut(&Upstream, &[Outcome], bool) -> Trace,
) -> Vec<Trace> {
    let upstream = Upstream::new(config()).unwrap();
    let mut traces = Vec::new();
    for scene in scenes {
        match scene {
            Scene::Trial(endpoint) => {
                assert!(upstream.force_breaker(["a", "b", "c"][*endpoint], Manual::Trial));
            }
            Scene::Call {
                outcomes,
                repeatable,
            } => {
                traces.push(call(&upstream, outcomes, *repeatable));
            }
        }
    }
    traces
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

fn futures(config: Make, scenes: &[Scene]) -> Vec<Trace> {
    let runtime = runtime();
    with_library(config, scenes, |upstream, outcomes, repeatable| {
        let mut attempts = Vec::new();
        let caller = upstream.caller().classify(classify).repeatable(repeatable);
        let call = caller.call(|attempt| {
            attempts.push((attempt.number(), attempt.kind(), attempt.endpoint_index()));
            ready(result_of(outcome_at(outcomes, attempt.number())))
        });
        let result = runtime.block_on(call);
        trace(attempts, result)
    })
}

fn threads(config: Make, scenes: &[Scene]) -> Vec<Trace> {
    with_library(config, scenes, |upstream, outcomes, repeatable| {
        let mut attempts = Vec::new();
        let caller = upstream.caller().classify(classify).repeatable(repeatable);
        let result = caller.call_blocking(|attempt| {
            attempts.push((attempt.number(), attempt.kind(), attempt.endpoint_index()));
            result_of(outcome_at(outcomes, attempt.number()))
        });
        trace(attempts, result)
    })
}

/// Writes down the attempts, and repeats a request if it says so.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<(u32, Kind, usize)>>>);

impl Repeat<(bool, u32)> for Record {
    fn copy(&self, request: &(bool, u32)) -> Option<(bool, u32)> {
        request.0.then_some(*request)
    }

    fn prepare(&self, request: &mut (bool, u32), attempt: &Attempt) {
        request.1 = attempt.number();
        let seen = (attempt.number(), attempt.kind(), attempt.endpoint_index());
        self.0.lock().unwrap().push(seen);
    }
}

fn tower_layer(config: Make, scenes: &[Scene]) -> Vec<Trace> {
    let runtime = runtime();
    with_library(config, scenes, |upstream, outcomes, repeatable| {
        let record = Record::default();
        let layer = upstream.layer().classify(classify).repeat(record.clone());
        let mut service =
            ServiceBuilder::new()
                .layer(layer)
                .service(service_fn(|(_, number): (bool, u32)| {
                    ready(result_of(outcome_at(outcomes, number)))
                }));
        let result =
            runtime.block_on(async { service.ready().await.unwrap().call((repeatable, 0)).await });
        let attempts = record.0.lock().unwrap().clone();
        trace(attempts, result)
    })
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Success),
        6 => Just(Outcome::Transient),
        1 => Just(Outcome::Permanent),
        1 => Just(Outcome::Ignored),
        1 => Just(Outcome::Overload { retry_after: None }),
        1 => Just(Outcome::Overload { retry_after: Some(HOUR) }),
    ];
    prop_oneof![
        6 => (proptest::collection::vec(outcome, 0..5), prop::bool::weighted(0.9))
            .prop_map(|(outcomes, repeatable)| Scene::Call { outcomes, repeatable }),
        1 => (0usize..3).prop_map(Scene::Trial),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn all_drivers_decide_alike(scenes in proptest::collection::vec(any_scene(), 1..40)) {
        for config in [ordered as Make, in_turn] {
            let expected = virtual_time(config, &scenes);
            prop_assert_eq!(&futures(config, &scenes), &expected);
            prop_assert_eq!(&threads(config, &scenes), &expected);
            prop_assert_eq!(&tower_layer(config, &scenes), &expected);
        }
    }
}
