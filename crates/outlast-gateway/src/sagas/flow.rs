//! From a saga of the plan to a flow: each step is the code that makes its request.

use std::sync::Arc;

use outlast_config::plan::{Plan, Saga, SagaQuery, SagaRequest, SagaStep, SagaUnknown};
use outlast_saga::{Flow, OnUnknown, Query, Step, Tries, Undo};

use super::call::To;
use super::step::{self, Callers, Made};

/// The flow of a saga.
pub(super) fn of(saga: &Saga, plan: &Plan, callers: &Arc<Callers>) -> Flow {
    let names = saga.stages.iter().flatten().map(|step| step.name.clone());
    let names: Arc<[String]> = names.collect();
    let made = |step: &SagaStep, request: &SagaRequest| {
        Arc::new(Made {
            to: Arc::new(To {
                upstream: plan.upstreams[request.upstream].name.clone(),
                outcomes: request.outcomes.clone(),
                bytes: plan.sagas.as_ref().map_or(0, |sagas| sagas.bytes),
            }),
            request: request.clone(),
            step: step.name.clone(),
            steps: Arc::clone(&names),
        })
    };
    let add = |flow: Flow, step: &SagaStep| {
        let described = described(step);
        let (act, calls) = (made(step, &step.act), Arc::clone(callers));
        let act = move |attempt| step::make(Arc::clone(&act), Arc::clone(&calls), attempt);
        let flow = match &step.undo {
            None => flow.step(described, act),
            Some(undo) => {
                let (undo, calls) = (made(step, undo), Arc::clone(callers));
                flow.step_with_undo(described, act, move |attempt| {
                    let undoing = step::make(Arc::clone(&undo), Arc::clone(&calls), attempt);
                    async move { undoing.await.map(drop) }
                })
            }
        };
        let SagaUnknown::Query(query) = &step.on_unknown else {
            return flow;
        };
        let (asked, calls) = (made(step, &query.request), Arc::clone(callers));
        let query = Arc::new(SagaQuery::clone(query));
        flow.query(move |attempt| {
            let query = Arc::clone(&query);
            step::ask(query, Arc::clone(&asked), Arc::clone(&calls), attempt)
        })
    };
    let mut flow = Flow::new(&saga.name, saga.version).source(&saga.source);
    for stage in &saga.stages {
        flow = match stage.as_slice() {
            [step] => add(flow, step),
            steps => flow.at_once(|group| steps.iter().fold(group, add)),
        };
    }
    match saga.deadline {
        Some(deadline) => flow.deadline(deadline),
        None => flow,
    }
}

fn described(step: &SagaStep) -> Step {
    let mut described = Step::new(&step.name)
        .timeout(step.act.timeout)
        .tries(tries(&step.act))
        .budget(step.budget);
    if let Some(undo) = &step.undo {
        let undo = Undo::new().timeout(undo.timeout).tries(tries(undo));
        described = described.undo(undo.retries_a_second(step.undo_rate));
    }
    if step.best_effort {
        described = described.best_effort();
    }
    if step.pivot {
        described = described.pivot();
    }
    described.on_unknown(match &step.on_unknown {
        SagaUnknown::Retry => OnUnknown::Retry,
        SagaUnknown::Compensate => OnUnknown::Compensate,
        SagaUnknown::Query(query) => {
            let request = &query.request;
            let query = Query::new().timeout(request.timeout);
            OnUnknown::Query(query.tries(tries(request)))
        }
    })
}

fn tries(request: &SagaRequest) -> Tries {
    Tries::new(request.attempts).backoff(request.backoff)
}
