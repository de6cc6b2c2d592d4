//! Sagas and their logs as JSON for callers and support staff.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use outlast_saga::store::Listed;
use outlast_saga::{At, Cause, Event, Phase, Record, Saga, Stamp, StepState};
use serde_json::{Map, Value, json};

/// An id that nobody has: 128 random bits.
pub(super) fn new_id() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

pub(super) fn listed(listed: &Listed) -> Value {
    json!({
        "id": listed.id,
        "definition": listed.definition,
        "version": listed.version,
        "state": listed.state.name(),
        "began": time(listed.began),
        "place": listed.place,
    })
}

/// One whose definition is not there.
pub(super) fn blocked(saga: &Listed) -> Value {
    let mut told = listed(saga);
    let (name, version) = (&saga.definition, saga.version);
    told["waiting_for"] = json!(format!(
        "version {version} of `{name}` as it was when it began: put it back into the policy file"
    ));
    told
}

/// All that there is to know.
pub(super) fn saga(at: &Listed, saga: &Saga, log: &[Record]) -> Value {
    let names: Vec<String> = names(saga);
    let mut told = listed(at);
    told["direction"] = json!(match saga.phase() {
        Phase::New | Phase::Forward => Some("forward"),
        Phase::Back(_) => Some("back"),
        Phase::Ended(_) => None,
    });
    let cause = log.iter().flat_map(|record| &record.events);
    let cause = cause.rev().find_map(|event| match event {
        Event::TurnedBack { cause } => Some(of_cause(cause, &names)),
        _ => None,
    });
    told["cause"] = json!(cause);
    told["waiting_for"] = json!(waiting_for(saga, &names));
    told["input"] = saga.input().clone();
    told["ended"] = json!(
        matches!(saga.phase(), Phase::Ended(_))
            .then(|| log.last().map(|record| time(record.at)))
            .flatten()
    );
    let states = names.iter().zip(saga.steps()).enumerate();
    let states = states.map(|(number, (name, state))| step(number, name, state, log));
    told["steps"] = states.collect();
    told
}

fn names(saga: &Saga) -> Vec<String> {
    let steps = saga.definition().steps();
    steps.map(|step| step.name().to_owned()).collect()
}

fn step(number: usize, name: &str, state: &StepState, log: &[Record]) -> Value {
    let (at, due) = match &state.at {
        At::Pending => ("pending", None),
        At::Running => ("running", None),
        At::Waiting(due) => ("waiting", Some(*due)),
        At::Querying => ("querying", None),
        At::QueryWaiting(due) => ("query_waiting", Some(*due)),
        At::Done => ("done", None),
        At::GivenUp => ("given_up", None),
        At::Stuck(_) => ("stuck", None),
        At::Skipped => ("skipped", None),
        At::Undoing => ("undoing", None),
        At::UndoWaiting(due) => ("undo_waiting", Some(*due)),
        At::Undone => ("undone", None),
        At::Dead(_) => ("dead", None),
        At::Resolved => ("resolved", None),
        At::NotUndone => ("not_undone", None),
    };
    let (mut attempts, mut undo_attempts, mut error) = (0, 0, None);
    for event in log.iter().flat_map(|record| &record.events) {
        match event {
            Event::Started { step, attempt } if *step == number => attempts = *attempt,
            Event::UndoStarted { step, attempt } if *step == number => undo_attempts = *attempt,
            Event::Failed {
                step, error: why, ..
            }
            | Event::Lost {
                step, error: why, ..
            }
            | Event::UndoFailed {
                step, error: why, ..
            }
            | Event::DeadLettered { step, error: why }
            | Event::Parked { step, error: why }
                if *step == number =>
            {
                error = Some(why);
            }
            _ => {}
        }
    }
    json!({
        "name": name,
        "state": at,
        "attempts": attempts,
        "undo_attempts": undo_attempts,
        "next": due.map(time),
        "may_be_done": state.lost,
        "error": error,
        "output": state.output,
    })
}

/// In a sentence, what has to happen for it to go on.
fn waiting_for(saga: &Saga, names: &[String]) -> Option<String> {
    let steps = || names.iter().zip(saga.steps());
    if let Phase::Ended(_) = saga.phase() {
        return None;
    }
    let needs = steps().find_map(|(name, state)| match &state.at {
        At::Dead(error) => Some(format!("somebody: `{name}` could not be undone: {error}")),
        At::Stuck(error) => Some(format!("somebody: `{name}` could not be done: {error}")),
        _ => None,
    });
    let runs = || {
        steps().find_map(|(name, state)| match state.at {
            At::Running => Some(format!("the answer to `{name}`")),
            At::Undoing => Some(format!("the answer to undoing `{name}`")),
            At::Waiting(due) => Some(format!("{}: `{name}` is tried again", time(due))),
            At::Querying => Some(format!("the answer whether `{name}` was done")),
            At::QueryWaiting(due) => Some(format!(
                "{}: it is asked whether `{name}` was done",
                time(due)
            )),
            At::UndoWaiting(due) => Some(format!("{}: undoing `{name}` is tried again", time(due))),
            _ => None,
        })
    };
    runs().or(needs)
}

/// One entry of a log, with the names of steps.
pub(super) fn record(record: &Record, names: &[String]) -> Value {
    let events = record.events.iter().map(|event| of_event(event, names));
    json!({
        "seq": record.seq,
        "at": time(record.at),
        "events": events.collect::<Vec<_>>(),
    })
}

fn of_event(event: &Event, names: &[String]) -> Value {
    let Ok(Value::Object(mut told)) = serde_json::to_value(event) else {
        return Value::Null;
    };
    name_step(&mut told, names);
    if let Event::TurnedBack { cause } = event {
        told.insert("cause".to_owned(), of_cause(cause, names));
    }
    let again = match event {
        Event::Failed { again, .. }
        | Event::Lost { again, .. }
        | Event::FoundNotDone { again, .. }
        | Event::QueryFailed { again, .. } => *again,
        Event::UndoFailed { again, .. } => Some(*again),
        _ => None,
    };
    if told.remove("again").is_some() {
        let millis = again.map(|again| again.as_millis() as u64);
        told.insert("again_ms".to_owned(), json!(millis));
    }
    Value::Object(told)
}

fn of_cause(cause: &Cause, names: &[String]) -> Value {
    let Ok(Value::Object(mut told)) = serde_json::to_value(cause) else {
        return Value::Null;
    };
    name_step(&mut told, names);
    Value::Object(told)
}

/// Logs number the steps; people name them.
fn name_step(told: &mut Map<String, Value>, names: &[String]) {
    let number = told.get("step").and_then(Value::as_u64);
    let name = number.and_then(|number| names.get(number as usize));
    if let Some(name) = name {
        told.insert("step".to_owned(), json!(name));
    }
}

/// RFC 3339, in UTC, to the millisecond.
pub(super) fn time(stamp: Stamp) -> String {
    let (seconds, millis) = (stamp.0 / 1000, stamp.0 % 1000);
    let (days, second) = (seconds / 86400, seconds % 86400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Days since 1970 in the Gregorian calendar, by eras of 400 years that begin in March (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_people_write_them() {
        let check = |millis: u64, expected: &str| assert_eq!(time(Stamp(millis)), expected);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_709_251_199_999, "2024-02-29T23:59:59.999Z");
        check(1_709_251_200_000, "2024-03-01T00:00:00.000Z");
        check(4_102_444_799_001, "2099-12-31T23:59:59.001Z");
        assert_ne!(new_id(), new_id());
    }
}
