//! Sagas: how many there are, what was done since the start, and what holds them.
//!
//! Names of definitions and of steps are the policy file's, so their number is bounded by it.

use std::time::Duration;

use outlast_saga::store::{Count, State as At};
use outlast_saga::{Durations, Left, Overview, Ways};

use super::Page;

pub(super) fn of_sagas(
    page: &mut Page,
    definitions: &[Overview],
    counts: Option<&[Count]>,
    writes: &Durations,
) {
    if let Some(counts) = counts {
        of_counts(page, definitions, counts);
    }
    let mut family = |name: &str, kind: &str, help: &str, of: &dyn Fn(&Overview) -> u64| {
        page.family(name, kind, help);
        for one in definitions {
            page.sample(name, &[("definition", &one.name)], of(one));
        }
    };
    family(
        "outlast_saga_paused",
        "gauge",
        "1 while nothing of a definition begins",
        &|one| u64::from(one.is_paused()),
    );
    family(
        "outlast_saga_in_flight",
        "gauge",
        "sagas that go on here, also while they are paused",
        &|one| one.done.in_flight,
    );
    family(
        "outlast_saga_started_total",
        "counter",
        "sagas begun here",
        &|one| one.done.started,
    );
    family(
        "outlast_saga_resumed_total",
        "counter",
        "sagas that went on here after a process had ended",
        &|one| one.done.resumed,
    );
    family(
        "outlast_saga_turned_back_total",
        "counter",
        "sagas that went back",
        &|one| one.done.turned_back,
    );
    family(
        "outlast_saga_dead_letters_total",
        "counter",
        "steps that came to need somebody",
        &|one| one.done.dead_letters,
    );
    page.family("outlast_saga_ended_total", "counter", "sagas by their end");
    for one in definitions {
        let ends = [
            (At::Completed, one.done.completed),
            (At::Compensated, one.done.compensated),
        ];
        for (state, count) in ends {
            let labels = [("definition", &*one.name), ("state", state.name())];
            page.sample("outlast_saga_ended_total", &labels, count);
        }
    }
    let help = "from the begin of a saga to its end";
    page.family("outlast_saga_seconds", "histogram", help);
    for one in definitions {
        let labels = [("definition", &*one.name)];
        durations(page, "outlast_saga_seconds", &labels, &one.done.took);
    }
    of_steps(page, definitions);
    let help = "how long a record took to be on the disk";
    page.family("outlast_saga_write_seconds", "histogram", help);
    durations(page, "outlast_saga_write_seconds", &[], writes);
}

/// Those of definitions that are not in the file any more are one.
fn of_counts(page: &mut Page, definitions: &[Overview], counts: &[Count]) {
    let help = "sagas that have not ended, of all gateways on the store";
    page.family("outlast_sagas", "gauge", help);
    let names: Vec<&str> = definitions.iter().map(|one| &*one.name).collect();
    let is_known = |count: &&Count| names.contains(&&*count.definition);
    for state in [At::Open, At::Waiting] {
        for name in &names {
            let of_name = counts.iter().filter(|count| count.definition == *name);
            let sagas: u64 = of_name
                .filter(|count| count.state == state)
                .map(|count| count.sagas)
                .sum();
            let labels = [("definition", *name), ("state", state.name())];
            page.sample("outlast_sagas", &labels, sagas);
        }
        let gone = counts.iter().filter(|count| !is_known(count));
        let gone: u64 = gone
            .filter(|count| count.state == state)
            .map(|count| count.sagas)
            .sum();
        let labels = [("definition", "-"), ("state", state.name())];
        page.sample("outlast_sagas", &labels, gone);
    }
}

fn of_steps(page: &mut Page, definitions: &[Overview]) {
    let help = "attempts of steps, by what came of them";
    page.family("outlast_saga_attempts_total", "counter", help);
    for one in definitions {
        for step in &one.done.steps {
            for (kind, ways) in [("do", step.acts), ("undo", step.undoes)] {
                for (outcome, count) in named(ways) {
                    let labels = [
                        ("definition", &*one.name),
                        ("step", &step.name),
                        ("kind", kind),
                        ("outcome", outcome),
                    ];
                    page.sample("outlast_saga_attempts_total", &labels, count);
                }
            }
        }
    }
    let help = "how long attempts of steps took";
    page.family("outlast_saga_attempt_seconds", "histogram", help);
    for one in definitions {
        for step in &one.done.steps {
            let labels = [("definition", &*one.name), ("step", &*step.name)];
            durations(page, "outlast_saga_attempt_seconds", &labels, &step.took);
        }
    }
    of_bounds(page, definitions);
}

fn of_bounds(page: &mut Page, definitions: &[Overview]) {
    let mut family = |name: &str, kind: &str, help: &str, of: &dyn Fn(&Left) -> u64| {
        page.family(name, kind, help);
        for one in definitions {
            for (step, left) in &one.left {
                let labels = [("definition", &*one.name), ("step", &**step)];
                page.sample(name, &labels, of(left));
            }
        }
    };
    family(
        "outlast_saga_budget_available",
        "gauge",
        "retries of a step that could begin now",
        &|left| left.retries,
    );
    family(
        "outlast_saga_held_total",
        "counter",
        "how often a retry, or an attempt to undo, had to wait for its turn",
        &|left| left.held,
    );
}

fn named(ways: Ways) -> [(&'static str, u64); 4] {
    [
        ("done", ways.done),
        ("transient", ways.transient),
        ("permanent", ways.permanent),
        ("unknown", ways.unknown),
    ]
}

fn durations(page: &mut Page, name: &str, labels: &[(&str, &str)], durations: &Durations) {
    let bucket = format!("{name}_bucket");
    let bounds = Durations::BOUNDS.map(|bound: Duration| bound.as_secs_f64().to_string());
    let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
    let mut total = 0;
    for (bound, count) in bounds.zip(durations.counts) {
        total += count;
        page.sample(&bucket, &[labels, &[("le", bound)]].concat(), total);
    }
    let sum = durations.sum.as_secs_f64();
    page.sample(&format!("{name}_sum"), labels, sum);
    page.sample(&format!("{name}_count"), labels, total);
}
