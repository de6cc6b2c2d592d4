//! What must hold for every saga, whatever happens: looked at in all runs, apart from what a scenario
//! promises.
//!
//! Nothing is begun before its record. A saga ends done or undone, or waits for somebody. One that is
//! done has done its steps and undone nothing; one that is undone has left nothing that something
//! undoes; behind a pivot nothing is undone; what was undone was undone in the reverse of the order in
//! which it began. What a service does that does not keep keys is no fault of the saga's.

use std::num::NonZeroU64;

use outlast_saga::store::State;
use outlast_saga::{At, Definition, Event, Record, Saga};

use super::ledger::{Ledger, Work};

/// A saga that rests.
pub(crate) struct AtRest<'a> {
    pub(crate) saga: &'a Saga,
    pub(crate) log: &'a [Record],
    pub(crate) ledger: &'a Ledger,
    /// How many records its log may have.
    pub(crate) records: NonZeroU64,
}

/// Whether a log says that an attempt begins.
pub(crate) fn has_record(log: &[Record], work: Work, step: usize, attempt: u32) -> bool {
    let says = match work {
        Work::Act => Event::Started { step, attempt },
        Work::Undo => Event::UndoStarted { step, attempt },
        Work::Query => Event::QueryStarted { step, attempt },
    };
    let mut events = log.iter().rev().flat_map(|record| &record.events);
    events.any(|event| *event == says)
}

/// What is wrong with a saga that has ended, or waits for somebody.
pub(crate) fn broken_at_rest(one: &AtRest<'_>) -> Option<String> {
    let definition = one.saga.definition();
    let replayed = Saga::replay(one.saga.id(), definition.clone(), one.log);
    let replayed = replayed.map(|saga| saga.bounded(one.records));
    if replayed.as_ref() != Ok(one.saga) {
        return Some("its log makes another saga than the one that ran".to_owned());
    }
    let mut steps = definition.steps().zip(one.saga.steps()).enumerate();
    let is_wrong =
        |(number, state): (usize, &At)| *state == At::Done && !one.ledger.was_done(number);
    let wrong = steps.find(|(number, (_, state))| is_wrong((*number, &state.at)));
    if let Some((_, (step, _))) = wrong {
        return Some(format!("`{}` is taken for done, and was not", step.name()));
    }
    let mut steps = definition.steps().zip(one.saga.steps());
    let is_past_pivot = steps.any(|(step, state)| step.is_pivot() && state.at == At::Done);
    if is_past_pivot && !one.ledger.undone().is_empty() {
        return Some("something was undone behind the pivot".to_owned());
    }
    if State::from(one.saga) == State::Completed && !one.ledger.undone().is_empty() {
        return Some("it is done, and something was undone".to_owned());
    }
    is_out_of_order(one).then(|| "its steps were not undone in reverse".to_owned())
}

/// Whether what was undone was undone in another order than the reverse of that in which it began.
fn is_out_of_order(one: &AtRest<'_>) -> bool {
    let events = one.log.iter().flat_map(|record| &record.events);
    let began: Vec<usize> = events
        .filter_map(|event| match event {
            Event::Started { step, attempt: 1 } => Some(*step),
            _ => None,
        })
        .collect();
    let undone = one.ledger.undone().iter().map(|step| usize::from(*step));
    // What was given up may be undone late, when others have been meanwhile.
    let is_dead = |step: usize| matches!(one.saga.steps()[step].at, At::Dead(_));
    let kept = undone.filter(|step| one.ledger.kept_key(*step) && !is_dead(*step));
    let places: Vec<_> = kept
        .map(|step| began.iter().position(|one| *one == step))
        .collect();
    // What somebody had tried again by hand comes when it comes.
    let is_handled = |event: &Event| matches!(event, Event::Handled { .. });
    let mut events = one.log.iter().flat_map(|record| &record.events);
    !events.any(is_handled) && !places.is_sorted_by(|one, other| one > other)
}

/// What is wrong with a saga when nothing is under way any more.
pub(crate) fn broken_in_the_end(
    definition: &Definition,
    state: State,
    ledger: &Ledger,
) -> Option<String> {
    match state {
        State::Open => Some("it is stuck: it neither ends nor waits for somebody".to_owned()),
        State::Compensated => {
            let mut steps = definition.steps().enumerate();
            let left = steps.find(|(number, step)| {
                step.undo_time().is_some() && ledger.kept_key(*number) && ledger.is_left(*number)
            });
            left.map(|(_, step)| format!("`{}` was not undone", step.name()))
        }
        State::Waiting | State::Completed => None,
    }
}
