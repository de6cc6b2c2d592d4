//! Sagas and their logs as JSON for callers and support staff.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use outlast_saga::store::Listed;
use outlast_saga::{At, Cause, Event, Hand, Phase, Record, Saga, Stamp};
use serde_json::{Map, Value, json};

/// An id that nobody has: 128 random bits.
pub(crate) fn new_id() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

pub(super) fn listed(listed: &Listed) -> Value {
    let mut told = json!({
        "id": listed.id,
        "definition": listed.definition,
        "version": listed.version,
        "state": listed.state.name(),
        "began": time(listed.began),
        "place": listed.place,
    });
    if !listed.has_log {
        told["log_dropped"] = json!(true);
    }
    told
}

/// One that ended so long ago that its log is not there any more.
pub(super) fn without_log(saga: &Listed) -> Value {
    let mut told = listed(saga);
    told["ended"] = json!(saga.ended.map(time));
    told["note"] = json!(NO_LOG);
    told
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
    told["may_cancel"] = json!(saga.may_cancel());
    told["not_undone"] = saga.not_undone().map(|step| json!(names[step])).collect();
    let steps = names.iter().enumerate();
    told["steps"] = steps
        .map(|(number, name)| step(saga, number, name, log))
        .collect();
    told
}

fn names(saga: &Saga) -> Vec<String> {
    let steps = saga.definition().steps();
    steps.map(|step| step.name().to_owned()).collect()
}

fn step(saga: &Saga, number: usize, name: &str, log: &[Record]) -> Value {
    let state = &saga.steps()[number];
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
    let way = Way::of(number, log);
    let waits = matches!(state.at, At::Stuck(_) | At::Dead(_));
    let undo = if way.undo_attempts > 0 || matches!(state.at, At::Dead(_)) {
        "/undo"
    } else {
        ""
    };
    let hands: Vec<_> = saga.hands(number).into_iter().map(Hand::name).collect();
    json!({
        "name": name,
        "state": at,
        "key": format!("{}/{name}{undo}", saga.id()),
        "attempts": way.attempts,
        "queries": way.queries,
        "undo_attempts": way.undo_attempts,
        "next": due.map(time),
        "may_be_done": state.lost,
        "error": way.error(),
        "output": state.output,
        "since": waits.then(|| way.parked.map(|(at, _)| time(at))).flatten(),
        "hands": hands,
    })
}

/// What a log says of a step.
#[derive(Default)]
struct Way<'a> {
    attempts: u32,
    queries: u32,
    undo_attempts: u32,
    /// Why the last attempt failed.
    failed: Option<&'a str>,
    /// When and why it began to wait for somebody.
    parked: Option<(Stamp, &'a str)>,
}

impl Way<'_> {
    fn of(number: usize, log: &[Record]) -> Way<'_> {
        let mut way = Way::default();
        let events = log.iter().flat_map(|record| {
            let at = record.at;
            record.events.iter().map(move |event| (at, event))
        });
        for (at, event) in events {
            match event {
                Event::Started { step, attempt } if *step == number => way.attempts = *attempt,
                Event::QueryStarted { step, .. } if *step == number => way.queries += 1,
                Event::UndoStarted { step, attempt } if *step == number => {
                    way.undo_attempts = *attempt;
                }
                Event::Failed { step, error, .. }
                | Event::Lost { step, error, .. }
                | Event::QueryFailed { step, error, .. }
                | Event::UndoFailed { step, error, .. }
                    if *step == number =>
                {
                    way.failed = Some(error);
                    way.parked = None;
                }
                Event::DeadLettered { step, error } | Event::Parked { step, error }
                    if *step == number =>
                {
                    way.parked = Some((at, error));
                }
                _ => {}
            }
        }
        way
    }

    /// Why it waits, and what happened before if that is something else.
    fn error(&self) -> Option<String> {
        match (self.parked, self.failed) {
            (Some((_, why)), Some(before)) if why != before => Some(format!("{why}; {before}")),
            (Some((_, why)), _) => Some(why.to_owned()),
            (None, failed) => failed.map(str::to_owned),
        }
    }
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
    let paused = || {
        let begins = steps().any(|(_, state)| matches!(state.at, At::Pending | At::Waiting(_)));
        let forward = matches!(saga.phase(), Phase::Forward | Phase::New);
        let is_held = saga.is_paused() && forward && begins;
        let runs = steps().any(|(_, state)| matches!(state.at, At::Running));
        let name = saga.definition().name();
        (is_held && !runs).then(|| format!("`{name}` to be resumed: it is paused"))
    };
    paused().or_else(runs).or(needs)
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
pub(crate) fn time(stamp: Stamp) -> String {
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

/// What is said in place of a log.
pub(super) const NO_LOG: &str = "it ended, and its log was dropped, with its input and outputs, when it had been \
    kept for `sagas.keep_log`; its id stays taken for `sagas.keep`";

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
