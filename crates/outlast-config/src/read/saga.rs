//! Sagas: steps, and the requests that they are.

mod query;
mod request;

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use outlast_core::backoff::Backoff;
use outlast_core::budget::{self, Budget};

use self::request::Scope;
pub(super) use self::request::outcomes;
pub(crate) use self::request::places;
use super::Reader;
use crate::plan::{Saga, SagaRequest, SagaStep, Sagas};
use crate::policies;
use crate::problem::Place;
use crate::sections::{SAGA, SAGA_BUDGET, SAGA_RETRY, SAGAS, STEP, UNDO, UNDO_RETRY};
use crate::view::View;
use crate::yaml::{Entry, Node, Value};

impl<'a> Reader<'a, '_> {
    /// Reads `sagas`, if there are any.
    pub(super) fn sagas(&mut self, file: View<'a>, has_admin: bool) -> Option<Sagas> {
        file.entry("sagas")?;
        let view = file.part("sagas", &SAGAS);
        if !has_admin {
            self.problem(
                file.place_of("sagas"),
                "sagas are started at the admin listener, and there is none",
                "give `gateway.admin` an address",
            );
        }
        let limits = view.part("limits", policies::section_of(&SAGAS, "limits"));
        let count = |key: &str| NonZeroUsize::new(limits.count(key)? as usize);
        self.refuse_no_time(view, "keep");
        self.refuse_no_time(view, "keep_log");
        let mut definitions: Vec<Saga> = Vec::new();
        for (entry, node) in sagas(view) {
            let Some(saga) = self.saga(entry, node) else {
                continue;
            };
            let is_it = |other: &Saga| other.name == saga.name && other.version == saga.version;
            if definitions.iter().any(is_it) {
                let message = format!("version {} of `{}` is there twice", saga.version, saga.name);
                let place = View::new(node, &SAGA).value_place("version");
                self.problem(place, message, "give one another version");
            }
            definitions.push(saga);
        }
        let bytes = limits.size("bytes").unwrap_or_default();
        if !(1024..=64 << 20).contains(&bytes) {
            let mend = "write a size from `1KiB` to `64MiB`";
            let place = limits.value_place("bytes");
            self.problem(place, "inputs and answers are not kept by this size", mend);
        }
        Some(Sagas {
            running: count("running")?,
            bytes,
            resumed_a_second: count("resumed_a_second")?,
            records: NonZeroU64::new(limits.count("records")?.into())?,
            keep: view.duration("keep")?,
            keep_log: view.duration("keep_log")?,
            definitions,
        })
    }

    fn saga(&mut self, entry: &Entry, node: &'a Node) -> Option<Saga> {
        let view = View::new(node, &SAGA);
        self.check_step_name(&entry.key, entry.key_place);
        self.refuse_no_time(view, "deadline");
        let stages = steps(node);
        let all: Vec<&str> = stages
            .iter()
            .flatten()
            .filter_map(|step| View::new(step, &STEP).text("name"))
            .collect();
        if stages.is_empty() || stages.iter().any(Vec::is_empty) {
            let place = view.value_place("steps");
            let mend = "give it one, or leave the empty list out";
            self.problem(place, "nothing is done here", mend);
        }
        if all.len() > MOST_STEPS {
            let message = format!("a saga has at most {MOST_STEPS} steps");
            let mend = "start another saga from its last step";
            self.problem(view.value_place("steps"), message, mend);
        }
        let (mut before, mut pivot) = (Vec::new(), None);
        let mut read = Vec::new();
        for stage in stages {
            let names = stage
                .iter()
                .filter_map(|step| View::new(step, &STEP).text("name"));
            let names: Vec<&str> = names.collect();
            let mut steps = Vec::new();
            for (at, node) in stage.iter().enumerate() {
                let view = View::new(node, &STEP);
                let twice = |name: &str| before.contains(&name) || names[..at].contains(&name);
                if let Some(name) = view.text("name").filter(|name| twice(name)) {
                    let message = format!("two steps are called `{name}`");
                    self.problem(view.value_place("name"), message, "rename one");
                }
                if view.truth("pivot") == Some(true) && pivot.replace(node.place).is_some() {
                    self.problem(
                        view.place_of("pivot"),
                        "there are two pivots, and what is behind the first cannot be undone",
                        "leave one of them out",
                    );
                }
                let during: Vec<&str> = before.iter().chain(&names).copied().collect();
                let act = Scope {
                    there: before.clone(),
                    all: &all,
                };
                let undo = Scope {
                    there: during,
                    all: &all,
                };
                steps.extend(self.step(view, &act, &undo));
            }
            before.extend(names);
            read.push(steps);
        }
        Some(Saga {
            name: entry.key.clone(),
            version: view.count("version")?,
            deadline: view.duration("deadline"),
            stages: read,
            source: without_bounds(node).canonical(),
        })
    }

    fn step(&mut self, view: View<'_>, act: &Scope<'_>, undo: &Scope<'_>) -> Option<SagaStep> {
        let name = view.text("name")?;
        self.check_step_name(name, view.value_place("name"));
        let (best_effort, pivot) = (
            view.truth("best_effort") == Some(true),
            view.truth("pivot") == Some(true),
        );
        if best_effort && pivot {
            self.problem(
                view.place_of("best_effort"),
                "this is the pivot, so its failure matters",
                "leave one of both out",
            );
        }
        let upstream = self.upstream_named(view, "upstream");
        let backoff = Backoff::quadratic(Duration::from_millis(50)).max(Duration::from_secs(5));
        let with_outcomes = |request: Option<SagaRequest>, view: View<'_>| {
            let outcomes = outcomes(view);
            request.map(|request| SagaRequest {
                outcomes,
                ..request
            })
        };
        let acts = self.saga_request(view, upstream, act, (&SAGA_RETRY, (None, backoff)));
        let acts = with_outcomes(acts, view);
        let tries = acts.as_ref().map(|acts| (acts.attempts, acts.backoff));
        let tries = tries.unwrap_or((1, backoff));
        let on_unknown = self.on_unknown(view, upstream, act, tries);
        let undoes = view.given_part("undo", &UNDO);
        let undoes = undoes.map(|part| {
            let own = part.node_of("upstream").is_some();
            let upstream = if own {
                self.upstream_named(part, "upstream")
            } else {
                upstream
            };
            let backoff = Backoff::exponential(Duration::from_secs(1)).max(Duration::from_secs(60));
            let request = self.saga_request(part, upstream, undo, (&UNDO_RETRY, (None, backoff)));
            with_outcomes(request, part)
        });
        Some(SagaStep {
            name: name.to_owned(),
            act: acts?,
            undo: match undoes {
                Some(undo) => Some(undo?),
                None => None,
            },
            best_effort,
            pivot,
            on_unknown: on_unknown?,
            budget: self.saga_budget(view.part("retry", &SAGA_RETRY)),
            undo_rate: undo_rate(view),
        })
    }

    /// The budget of a step's retries.
    fn saga_budget(&mut self, retry: View<'_>) -> budget::Config {
        let part = retry.part("budget", &SAGA_BUDGET);
        let ratio = retry.share("budget").or(part.share("ratio"));
        let mut config = ratio.map_or(budget::Config::default(), budget::Config::new);
        if let Some(window) = part.duration("window") {
            config = config.window(window);
        }
        if let Some(reserve) = part.count("reserve") {
            config = config.reserve(reserve);
        }
        if let Err(error) = Budget::new(config) {
            let mend = "write another one, or leave it out";
            self.problem(retry.place_of("budget"), error.to_string(), mend);
        }
        config.enforce(retry.text("budget") != Some("off"))
    }

    pub(super) fn refuse_no_time(&mut self, view: View<'_>, key: &str) {
        if view.duration(key) == Some(Duration::ZERO) {
            let place = view.value_place(key);
            self.problem(place, "nothing ends in no time", "write a longer one");
        }
    }

    pub(super) fn check_step_name(&mut self, name: &str, place: Place) {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=64).contains(&name.len()) || !name.bytes().all(fine) {
            let mend = "use up to 64 letters, digits, `-` and `_`: it is part of keys";
            self.problem(place, format!("`{name}` cannot be a name"), mend);
        }
    }
}

/// Retries a second of what undoes a step.
fn undo_rate(step: View<'_>) -> NonZeroU32 {
    let undo = step.part("undo", &UNDO);
    let rate = undo.part("retry", &UNDO_RETRY).count("rate");
    rate.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

/// A saga without what all sagas together may do: that may be changed while some run.
fn without_bounds(saga: &Node) -> Node {
    let mut saga = saga.clone();
    let entry = |node: &mut Node, key: &str, work: &dyn Fn(&mut Node)| {
        if let Value::Map(entries) = &mut node.value {
            let found = entries.iter_mut().find(|entry| entry.key == key);
            found.into_iter().for_each(|entry| work(&mut entry.node));
        }
    };
    let drop_key = |node: &mut Node, key: &str| {
        if let Value::Map(entries) = &mut node.value {
            entries.retain(|entry| entry.key != key);
        }
    };
    // Where the bound was all that is said of retries, nothing is.
    let drop_bound = |node: &mut Node, bound: &str| {
        entry(node, "retry", &|retry| drop_key(retry, bound));
        if let Value::Map(entries) = &mut node.value {
            let is_empty = |node: &Node| matches!(&node.value, Value::Map(left) if left.is_empty());
            entries.retain(|entry| entry.key != "retry" || !is_empty(&entry.node));
        }
    };
    let of_step = |step: &mut Node| {
        drop_bound(step, "budget");
        entry(step, "undo", &|undo| drop_bound(undo, "rate"));
    };
    entry(&mut saga, "steps", &|steps| {
        let Value::List(items) = &mut steps.value else {
            return;
        };
        for item in items {
            match &mut item.value {
                Value::List(steps) => steps.iter_mut().for_each(of_step),
                _ => of_step(item),
            }
        }
    });
    saga
}

/// The versions of all sagas, with their entries.
pub(crate) fn sagas(view: View<'_>) -> Vec<(&Entry, &Node)> {
    let mut found = Vec::new();
    for entry in view.names("definitions") {
        match &entry.node.value {
            Value::List(versions) => found.extend(versions.iter().map(|node| (entry, node))),
            _ => found.push((entry, &entry.node)),
        }
    }
    found
}

/// The steps of a saga, those that run at once together.
pub(crate) fn steps(saga: &Node) -> Vec<Vec<&Node>> {
    let items = match saga.entry("steps").map(|entry| &entry.node.value) {
        Some(Value::List(items)) => items.as_slice(),
        _ => &[],
    };
    items
        .iter()
        .map(|node| match &node.value {
            Value::List(steps) => steps.iter().collect(),
            _ => vec![node],
        })
        .collect()
}

/// As many as a definition may have.
const MOST_STEPS: usize = 100;
