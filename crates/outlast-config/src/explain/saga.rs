//! Sagas: their steps in order, how long each may take, and what is undone when one fails.

use std::time::Duration;

use super::line;
use crate::Loaded;
use crate::plan::{Saga, SagaRequest, SagaStep, SagaUnknown, Sagas};
use crate::read::saga::{sagas, steps};
use crate::sections::{QUERY, SAGAS, STEP, UNDO};
use crate::view::View;
use crate::yaml::Node;

pub(super) fn explain(page: &mut String, loaded: &Loaded, plan: &Sagas) {
    let Some(entry) = loaded.root.entry("sagas") else {
        return;
    };
    line(page, 0, format_args!("sagas"));
    let (running, bytes, resumed) = (plan.running, plan.bytes, plan.resumed_a_second);
    line(
        page,
        1,
        format_args!("at most {running} run at once; more are refused"),
    );
    line(
        page,
        1,
        format_args!("an input, and an answer, has at most {bytes} bytes"),
    );
    line(
        page,
        1,
        format_args!("after a crash {resumed} a second go on"),
    );
    let (keep, log) = (time(plan.keep), time(plan.keep_log.min(plan.keep)));
    line(
        page,
        1,
        format_args!("one that has ended is known for {keep}, and its log is kept for {log}"),
    );
    let beside = "`Retry-After` and bounds of all sagas together add to the times below";
    line(page, 1, format_args!("{beside}"));
    let nodes = sagas(View::new(&entry.node, &SAGAS));
    for (saga, (_, node)) in plan.definitions.iter().zip(nodes) {
        page.push('\n');
        let same = plan.definitions.iter().filter(|one| one.name == saga.name);
        let newest = same.map(|one| one.version).max();
        explain_one(page, loaded, saga, node, newest == Some(saga.version));
    }
}

fn explain_one(page: &mut String, loaded: &Loaded, saga: &Saga, node: &Node, is_newest: bool) {
    let starts = if is_newest {
        "starts new ones"
    } else {
        "ends those that have begun"
    };
    line(
        page,
        0,
        format_args!("saga {} v{}: {starts}", saga.name, saga.version),
    );
    match saga.deadline.map(time) {
        Some(deadline) => line(
            page,
            1,
            format_args!("{deadline} after its start it is undone, unless its pivot is done"),
        ),
        None => line(page, 1, format_args!("it has no deadline")),
    }
    let mut way = Way::default();
    for (number, (stage, nodes)) in saga.stages.iter().zip(steps(node)).enumerate() {
        let at_once = if stage.len() > 1 { ", at once" } else { "" };
        line(page, 1, format_args!("{}{at_once}", number + 1));
        for (step, node) in stage.iter().zip(nodes) {
            let fails = way.after(step, stage);
            explain_step(page, loaded, step, View::new(node, &STEP), &fails);
        }
        way.add(stage);
    }
}

/// What came before a step.
#[derive(Default)]
struct Way<'a> {
    /// What can be undone, in its order.
    undone: Vec<&'a str>,
    /// The pivot, if it has been.
    pivot: Option<&'a str>,
}

impl<'a> Way<'a> {
    fn add(&mut self, stage: &'a [SagaStep]) {
        for step in stage {
            if step.undo.is_some() {
                self.undone.push(&step.name);
            }
            if step.pivot {
                self.pivot = Some(&step.name);
            }
        }
    }

    /// What follows when a step of a stage is given up.
    fn after(&self, step: &SagaStep, stage: &[SagaStep]) -> String {
        if step.best_effort {
            return "nothing: it is best effort".to_owned();
        }
        if let Some(pivot) = self.pivot {
            return format!("it waits for somebody, because `{pivot}` is done for good");
        }
        // Those that run at once with it may have been done, too.
        let beside = stage.iter().filter(|other| other.name != step.name);
        let beside = beside.filter(|other| other.undo.is_some());
        let beside = beside.map(|other| &*other.name).rev();
        let undone: Vec<_> = beside.chain(self.undone.iter().rev().copied()).collect();
        match undone.as_slice() {
            [] => "the saga ends, and nothing has to be undone".to_owned(),
            [one] => format!("{one} is undone"),
            steps => format!("{} are undone, in this order", steps.join(", ")),
        }
    }
}

fn explain_step(page: &mut String, loaded: &Loaded, step: &SagaStep, view: View<'_>, fails: &str) {
    let request = |view: View<'_>, request: &SagaRequest| {
        let upstream = &loaded.plan.upstreams[request.upstream].name;
        format!("{} at {upstream}", view.text("request").unwrap_or_default())
    };
    line(
        page,
        2,
        format_args!("{}: {}", step.name, request(view, &step.act)),
    );
    line(page, 3, format_args!("{}", tried(&step.act)));
    if step.act.attempts > 1 {
        let given = view
            .node_of("retry")
            .and_then(|retry| retry.entry("budget"));
        let budget = match given.map(|given| super::shown(&given.node)) {
            None => "20% of what succeeds in 10s, and 100 (default)".to_owned(),
            Some(budget) => budget,
        };
        line(
            page,
            3,
            format_args!("retries of all sagas together: {budget}"),
        );
    }
    if step.pivot {
        line(
            page,
            3,
            format_args!("pivot: once it is done there is no way back"),
        );
    }
    let last = match (&step.undo, step.pivot) {
        (Some(_), _) => "undone as if it were done",
        (None, true) => "it waits for somebody",
        (None, false) => "taken for failed",
    };
    let unknown = match &step.on_unknown {
        SagaUnknown::Query(query) => {
            let asked = request(view.part("query", &QUERY), &query.request);
            format!(
                "asked by {asked}, {}, at last {last}",
                tried(&query.request)
            )
        }
        SagaUnknown::Retry if step.act.attempts > 1 => {
            format!("tried again with the same key, at last {last}")
        }
        SagaUnknown::Retry | SagaUnknown::Compensate => last.to_owned(),
    };
    line(
        page,
        3,
        format_args!("if nobody knows whether it was done: {unknown}"),
    );
    line(page, 3, format_args!("if it fails: {fails}"));
    match (&step.undo, view.given_part("undo", &UNDO)) {
        (Some(undo), Some(part)) => {
            line(page, 3, format_args!("undone by {}", request(part, undo)));
            line(page, 4, format_args!("{}", tried(undo)));
            let rate = step.undo_rate;
            line(
                page,
                4,
                format_args!("retries of all sagas together: {rate} a second"),
            );
            line(page, 4, format_args!("if it fails: it waits for somebody"));
        }
        _ => line(page, 3, format_args!("nothing has to undo it")),
    }
}

/// How often, and how long at most.
fn tried(request: &SagaRequest) -> String {
    let (attempts, timeout) = (request.attempts, request.timeout);
    if attempts == 1 {
        return format!("one attempt of {}", time(timeout));
    }
    // The longest of the random waits.
    let wait = |attempt| request.backoff.delay(attempt - 1, Duration::ZERO, 1.0);
    let longest = timeout.saturating_mul(attempts);
    let longest = (1..attempts)
        .map(wait)
        .fold(longest, Duration::saturating_add);
    let (timeout, longest) = (time(timeout), time(longest));
    format!("{attempts} attempts of {timeout}, {longest} in all at most")
}

/// As people say it, to the tenth of a second above one.
fn time(time: Duration) -> String {
    let (seconds, tenths) = (time.as_secs(), time.subsec_millis() / 100);
    if seconds == 0 {
        return format!("{time:?}");
    }
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let mut parts: Vec<_> = parts
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    match (seconds % 60, tenths) {
        (0, 0) => {}
        (seconds, 0) => parts.push(format!("{seconds}s")),
        (seconds, tenths) => parts.push(format!("{seconds}.{tenths}s")),
    }
    parts.join(" ")
}
