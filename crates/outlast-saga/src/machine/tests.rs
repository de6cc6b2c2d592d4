use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::definition::{OnUnknown, Query, Step, Tries, Undo};

const SECOND: Duration = Duration::from_secs(1);

fn tries(attempts: u32) -> Tries {
    Tries::new(attempts).backoff(SECOND)
}

/// The five steps of an order.
fn order() -> Definition {
    let undo = || Undo::new().tries(tries(2));
    Definition::new("order", 1)
        .step(Step::new("create").tries(tries(2)).undo(undo()))
        .step(Step::new("reserve").tries(tries(2)).undo(undo()))
        .step(Step::new("charge").tries(tries(2)).undo(undo()))
        .step(Step::new("ship").tries(tries(2)))
        .step(Step::new("notify").tries(tries(2)).best_effort())
}

/// A log in short: `+0.1` is that attempt 1 of step 0 begins, `0 ok` that it succeeded.
fn short(events: &[Event]) -> String {
    let one = |event: &Event| match event {
        Event::Began { .. } => "began".to_owned(),
        Event::Started { step, attempt } => format!("+{step}.{attempt}"),
        Event::Succeeded { step, .. } => format!("{step} ok"),
        Event::Failed { step, again, .. } => format!("{step} {}", after("failed", again)),
        Event::Lost {
            step, asks: true, ..
        } => format!("{step} lost, asks"),
        Event::Lost { step, again, .. } => format!("{step} {}", after("lost", again)),
        Event::QueryStarted { step, attempt } => format!("?{step}.{attempt}"),
        Event::FoundDone { step, .. } => format!("{step} was done"),
        Event::FoundNotDone { step, again } => format!("{step} {}", after("was not done", again)),
        Event::QueryFailed { step, again, .. } => format!("{step} {}", after("open", again)),
        Event::Skipped { step } => format!("{step} skipped"),
        Event::TurnedBack { cause } => match cause {
            Cause::Step { step } => format!("back from {step}"),
            Cause::Cancelled { by, .. } => format!("back for {by}"),
            Cause::Deadline => "back, late".to_owned(),
        },
        Event::UndoStarted { step, attempt } => format!("-{step}.{attempt}"),
        Event::Undone { step } => format!("{step} undone"),
        Event::UndoFailed { step, .. } => format!("{step} not undone"),
        Event::DeadLettered { step, .. } => format!("{step} dead"),
        Event::Parked { step, .. } => format!("{step} stuck"),
        Event::Handled { step, how, .. } => format!("{step} {how:?}").to_lowercase(),
        Event::Recovered { count } => format!("recovered {count}"),
        Event::Ended { outcome } => format!("{outcome:?}").to_lowercase(),
    };
    events.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn after(what: &str, again: &Option<Duration>) -> String {
    match again {
        Some(_) => format!("{what} for now"),
        None => what.to_owned(),
    }
}

/// Runs a saga by a script of what comes of attempts, and checks that its log makes the same saga.
struct Stage {
    saga: Saga,
    log: Vec<Record>,
    now: Stamp,
    records: NonZeroU64,
}

impl Stage {
    fn new(definition: Definition) -> Stage {
        Stage::bounded(definition, 1000)
    }

    fn bounded(definition: Definition, records: u64) -> Stage {
        definition.check().unwrap();
        let records = NonZeroU64::new(records).unwrap();
        let mut stage = Stage {
            saga: Saga::new("s-1", Arc::new(definition)).bounded(records),
            log: Vec::new(),
            now: Stamp(1_000_000),
            records,
        };
        let events = stage.saga.begin(json!({ "item": 7 }), stage.now).unwrap();
        stage.write(events);
        stage
    }

    fn write(&mut self, events: Vec<Event>) -> String {
        let told = short(&events);
        if !events.is_empty() {
            self.log.push(self.saga.record(events, self.now));
        }
        assert_eq!(self.replay(), self.saga, "the log makes the same saga");
        told
    }

    fn replay(&self) -> Saga {
        let definition = Arc::clone(self.saga.definition());
        let saga = Saga::replay("s-1", definition, &self.log).unwrap();
        saga.bounded(self.records)
    }

    fn act(&mut self, step: usize, acted: Acted) -> String {
        let attempt = self.saga.steps()[step].attempts;
        let events = self.saga.acted(step, attempt, acted, self.now);
        self.write(events)
    }

    fn undo(&mut self, step: usize, acted: Acted) -> String {
        let attempt = self.saga.steps()[step].attempts;
        let events = self.saga.undid(step, attempt, acted, self.now);
        self.write(events)
    }

    fn ask(&mut self, step: usize, found: Found) -> String {
        let attempt = self.saga.steps()[step].queries;
        let events = self.saga.asked(step, attempt, found, self.now);
        self.write(events)
    }

    fn hand(&mut self, step: usize, how: Hand) -> Result<String, String> {
        self.give(step, how, None)
    }

    /// What may be done is what is told that may be.
    fn give(&mut self, step: usize, how: Hand, output: Option<Value>) -> Result<String, String> {
        let may = self.saga.hands(step).contains(&how);
        let handled = self
            .saga
            .handle_giving(step, how, output, "ann", "mended", self.now);
        assert_eq!(handled.is_ok(), may, "{how:?}");
        let events = handled.map_err(|error| error.to_string())?;
        Ok(self.write(events))
    }

    fn cancel(&mut self) -> Result<String, String> {
        let may = self.saga.may_cancel();
        let cancelled = self.saga.cancel("eve", "not wanted", self.now);
        let events = cancelled.map_err(|error| error.to_string())?;
        assert_eq!(may, !events.is_empty());
        Ok(self.write(events))
    }

    fn pass(&mut self, time: Duration) -> String {
        self.now = self.now.after(time);
        let events = self.saga.wake(self.now);
        self.write(events)
    }

    fn die(&mut self) -> String {
        self.saga = self.replay();
        let events = self.saga.recover(self.now);
        self.write(events)
    }
}

fn done() -> Acted {
    Acted::Done(json!("done"))
}

fn broken() -> Acted {
    Acted::Permanent("no".to_owned())
}

fn busy() -> Acted {
    let error = "busy".to_owned();
    Acted::Transient { error, after: None }
}

fn unknown() -> Acted {
    Acted::Unknown("cut".to_owned())
}

#[test]
fn an_order_goes_through() {
    let mut stage = Stage::new(order());
    assert_eq!(short(&stage.log[0].events), "began, +0.1");
    assert_eq!(stage.act(0, done()), "0 ok, +1.1");
    assert_eq!(stage.act(1, done()), "1 ok, +2.1");
    assert_eq!(stage.act(2, done()), "2 ok, +3.1");
    assert_eq!(stage.act(3, done()), "3 ok, +4.1");
    assert_eq!(stage.act(4, done()), "4 ok, completed");
    assert_eq!(
        stage.saga.length(),
        6,
        "one record a step, and one to begin"
    );
    assert_eq!(stage.saga.wakes(), None);
}

#[test]
fn what_was_done_is_undone_in_reverse() {
    let mut stage = Stage::new(order());
    for step in 0..3 {
        stage.act(step, done());
    }
    assert_eq!(stage.act(3, broken()), "3 failed, back from 3, -2.1");
    assert_eq!(stage.undo(2, done()), "2 undone, -1.1");
    assert_eq!(stage.undo(1, done()), "1 undone, -0.1");
    assert_eq!(stage.undo(0, done()), "0 undone, compensated");
    assert_eq!(stage.act(3, done()), "", "what comes late changes nothing");
}

#[test]
fn what_fails_for_now_is_tried_again_after_a_wait() {
    let mut stage = Stage::new(order());
    assert_eq!(stage.act(0, busy()), "0 failed for now");
    assert_eq!(stage.saga.wakes(), Some(stage.now.after(SECOND)));
    assert_eq!(stage.pass(SECOND / 2), "");
    assert_eq!(stage.pass(SECOND / 2), "+0.2");
    let error = "busy".to_owned();
    let after = Some(5 * SECOND);
    assert_eq!(stage.act(0, done()), "0 ok, +1.1");
    assert_eq!(
        stage.act(1, Acted::Transient { error, after }),
        "1 failed for now"
    );
    assert_eq!(stage.pass(4 * SECOND), "", "it was asked to come later");
    assert_eq!(stage.pass(SECOND), "+1.2");
    assert_eq!(stage.act(1, busy()), "1 failed, back from 1, -0.1");
}

#[test]
fn what_is_not_known_is_undone_as_if_it_had_been_done() {
    let mut stage = Stage::new(order());
    stage.act(0, done());
    assert_eq!(stage.act(1, unknown()), "1 lost for now");
    assert_eq!(stage.pass(SECOND), "+1.2");
    assert_eq!(
        stage.act(1, busy()),
        "1 failed, back from 1, -1.1",
        "the first may have done it"
    );
    assert_eq!(stage.undo(1, done()), "1 undone, -0.1");
    assert_eq!(stage.undo(0, done()), "0 undone, compensated");
    let compensates = Step::new("a")
        .undo(Undo::new())
        .on_unknown(OnUnknown::Compensate);
    let mut stage = Stage::new(Definition::new("one", 1).step(compensates));
    assert_eq!(stage.act(0, unknown()), "0 lost, back from 0, -0.1");
}

#[test]
fn best_effort_fails_nothing() {
    let mut stage = Stage::new(order());
    (0..4).for_each(|step| drop(stage.act(step, done())));
    assert_eq!(stage.act(4, broken()), "4 failed, 4 skipped, completed");
}

#[test]
fn behind_the_pivot_there_is_no_way_back() {
    let pivot = Definition::new("pay", 1)
        .step(Step::new("reserve").undo(Undo::new()))
        .step(Step::new("charge").pivot())
        .at_once([
            Step::new("ship").tries(tries(2)),
            Step::new("book").tries(tries(2)),
        ]);
    let mut stage = Stage::new(pivot.clone());
    stage.act(0, done());
    assert_eq!(stage.act(1, done()), "1 ok, +2.1, +3.1");
    assert_eq!(stage.act(2, broken()), "2 failed, 2 stuck");
    assert!(stage.saga.needs_somebody());
    let error = stage
        .saga
        .cancel("eve", "wants her money", stage.now)
        .unwrap_err();
    assert!(error.to_string().contains("pivot is done"), "{error}");
    assert_eq!(stage.act(3, busy()), "3 failed for now", "others go on");
    assert_eq!(stage.pass(SECOND), "+3.2");
    assert_eq!(stage.act(3, done()), "3 ok");
    let handled = stage
        .saga
        .handle(2, Hand::Retry, "ann", "mended", stage.now)
        .unwrap();
    assert_eq!(stage.write(handled), "2 retry, +2.2");
    assert_eq!(stage.act(2, broken()), "2 failed, 2 stuck");
    let handled = stage
        .saga
        .handle(2, Hand::Resolve, "ann", "sent it by hand", stage.now)
        .unwrap();
    assert_eq!(stage.write(handled), "2 resolve, completed");
    // If it is not known whether the pivot is done, neither way is right.
    let mut stage = Stage::new(pivot);
    stage.act(0, done());
    stage.act(1, unknown());
    stage.pass(SECOND);
    stage.act(1, unknown());
    stage.pass(SECOND);
    assert_eq!(stage.act(1, unknown()), "1 lost, 1 stuck");
    let cancelled = stage
        .saga
        .cancel("ann", "the bank says no", stage.now)
        .unwrap();
    assert_eq!(stage.write(cancelled), "back for ann, -0.1");
}

#[test]
fn what_cannot_be_undone_waits_for_somebody_and_the_others_are() {
    let mut stage = Stage::new(order());
    (0..3).for_each(|step| drop(stage.act(step, done())));
    stage.act(3, broken());
    assert_eq!(stage.undo(2, busy()), "2 not undone");
    assert_eq!(stage.pass(SECOND), "-2.2");
    assert_eq!(stage.undo(2, busy()), "2 dead, -1.1");
    stage.undo(1, done());
    assert_eq!(stage.undo(0, done()), "0 undone");
    assert!(stage.saga.needs_somebody());
    let handled = stage
        .saga
        .handle(2, Hand::Retry, "ann", "it is back", stage.now)
        .unwrap();
    assert_eq!(stage.write(handled), "2 retry, -2.3");
    assert_eq!(
        stage.undo(2, busy()),
        "2 not undone",
        "as often as at first"
    );
    assert_eq!(stage.pass(SECOND), "-2.4");
    assert_eq!(stage.undo(2, broken()), "2 dead");
    let handled = stage
        .saga
        .handle(2, Hand::Resolve, "ann", "by hand", stage.now)
        .unwrap();
    assert_eq!(stage.write(handled), "2 resolve, compensated");
    assert!(
        stage
            .saga
            .handle(2, Hand::Resolve, "ann", "again", stage.now)
            .is_err()
    );
}

#[test]
fn a_cancelled_saga_settles_before_it_goes_back() {
    let mut stage = Stage::new(order());
    stage.act(0, done());
    let cancelled = stage
        .saga
        .cancel("eve", "changed her mind", stage.now)
        .unwrap();
    assert_eq!(stage.write(cancelled), "back for eve", "an attempt is made");
    assert_eq!(stage.act(1, done()), "1 ok, -1.1", "and has to be undone");
    assert_eq!(stage.saga.cancel("eve", "again", stage.now).unwrap(), []);
    stage.undo(1, done());
    assert_eq!(stage.undo(0, done()), "0 undone, compensated");
    assert!(stage.saga.cancel("eve", "late", stage.now).is_err());
}

/// The process ends, and when the next one goes on the clock is behind.
#[test]
fn a_clock_that_was_put_back_holds_up_nothing_and_hurries_nothing() {
    let back = 900 * SECOND;
    let ask = Step::new("ask").tries(tries(9));
    let definition = Definition::new("ask", 1).step(ask).deadline(60 * SECOND);
    let mut stage = Stage::new(definition);
    stage.now = stage.now.after(20 * SECOND);
    assert_eq!(stage.act(0, busy()), "0 failed for now");
    let due = stage.saga.wakes().unwrap();
    stage.now = stage.now.before(back);
    let definition = Arc::clone(stage.saga.definition());
    stage.saga = Saga::replay("s-1", definition, &stage.log).unwrap();
    assert_eq!(stage.saga.recover(stage.now), []);
    let waits = Some(due.before(back));
    assert_eq!(stage.saga.wakes(), waits, "as far away as it was");
    stage.now = due.before(back);
    let events = stage.saga.wake(stage.now);
    assert_eq!(short(&events), "+0.2");
    stage.log.push(stage.saga.record(events, stage.now));
    // 20 s of its minute had passed; those in which it waited then are not on the log.
    stage.now = stage.now.after(30 * SECOND);
    assert_eq!(stage.die(), "recovered 1, 0 lost for now");
    assert_eq!(stage.pass(15 * SECOND), "back, late, compensated");
}

#[test]
fn a_deadline_turns_it_back() {
    let definition = order().deadline(10 * SECOND);
    let mut stage = Stage::new(definition);
    stage.act(0, done());
    assert_eq!(stage.act(1, busy()), "1 failed for now");
    assert_eq!(stage.pass(SECOND), "+1.2");
    assert_eq!(
        stage.saga.wakes(),
        Some(Stamp(1_000_000).after(10 * SECOND))
    );
    assert_eq!(stage.pass(9 * SECOND), "back, late");
    assert_eq!(stage.act(1, busy()), "1 failed, -0.1");
}

#[test]
fn steps_at_once_begin_and_settle_together() {
    let undone = |name| Step::new(name).undo(Undo::new());
    let definition = Definition::new("both", 1)
        .at_once([undone("a"), undone("b")])
        .step(Step::new("c"));
    let mut stage = Stage::new(definition);
    assert_eq!(short(&stage.log[0].events), "began, +0.1, +1.1");
    assert_eq!(stage.act(1, done()), "1 ok");
    assert_eq!(stage.act(0, broken()), "0 failed, back from 0, -1.1");
    assert_eq!(
        stage.undo(1, done()),
        "1 undone, compensated",
        "the other was not done"
    );
}

#[test]
fn who_dies_leaves_attempts_that_nobody_knows_of() {
    let mut stage = Stage::new(order());
    stage.act(0, done());
    assert_eq!(stage.die(), "recovered 1, 1 lost for now");
    assert_eq!(stage.pass(SECOND), "+1.2", "with the same key");
    assert_eq!(stage.die(), "recovered 2, 1 lost for now");
    assert_eq!(stage.pass(SECOND), "+1.3", "those did not count");
    assert_eq!(stage.act(1, unknown()), "1 lost for now");
    assert_eq!(stage.pass(SECOND), "+1.4");
    assert_eq!(stage.act(1, unknown()), "1 lost, back from 1, -1.1");
    assert_eq!(stage.die(), "recovered 3, 1 not undone");
    assert_eq!(stage.pass(SECOND), "-1.2");
    assert_eq!(stage.undo(1, done()), "1 undone, -0.1");
    assert_eq!(stage.undo(0, done()), "0 undone, compensated");
    assert_eq!(stage.die(), "", "it has ended");
}

#[test]
fn an_only_attempt_is_not_repeated_when_its_process_dies() {
    let once = Undo::new().tries(tries(1));
    let step = Step::new("once").tries(tries(1)).undo(once);
    let mut stage = Stage::new(Definition::new("one", 1).step(step));
    assert_eq!(stage.die(), "recovered 1, 0 lost, back from 0, -0.1");
    assert_eq!(stage.die(), "recovered 2, 0 dead");
}

#[test]
fn what_kills_its_processes_is_set_aside() {
    let deadly = Step::new("deadly").tries(tries(1000)).undo(Undo::new());
    let mut stage = Stage::new(Definition::new("poison", 1).step(deadly));
    for count in 1..=10 {
        assert_eq!(stage.die(), format!("recovered {count}, 0 lost for now"));
        // It goes on later each time, for the sake of those that were only there.
        assert_eq!(stage.pass(5 * SECOND), format!("+0.{}", count + 1));
    }
    assert_eq!(stage.die(), "recovered 11, 0 lost, 0 stuck");
    assert!(stage.saga.needs_somebody() && stage.saga.wakes().is_none());
    let cancelled = stage.saga.cancel("ann", "it kills", stage.now).unwrap();
    assert_eq!(
        stage.write(cancelled),
        "back for ann, -0.1",
        "as if it had been done"
    );
}

#[test]
fn a_log_that_cannot_be_is_refused() {
    let definition = Arc::new(order());
    let refused = |events: Vec<Event>, part: &str| {
        let mut saga = Saga::new("s", Arc::clone(&definition));
        let mut all = saga.begin(json!(1), Stamp(1)).unwrap();
        all.extend(events);
        let log = [Record {
            seq: 0,
            at: Stamp(1),
            events: all,
        }];
        let error = Saga::replay("s", Arc::clone(&definition), &log).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    };
    refused(
        vec![Event::Started {
            step: 0,
            attempt: 1,
        }],
        "Running",
    );
    refused(
        vec![Event::Undone { step: 0 }],
        "cannot happen to a saga in Forward",
    );
    refused(vec![Event::Skipped { step: 9 }], "cannot happen");
    let gap = [Record {
        seq: 1,
        at: Stamp(1),
        events: Vec::new(),
    }];
    assert!(Saga::replay("s", Arc::clone(&definition), &gap).is_err());
    let began = Saga::new(
        "s",
        Arc::new(Definition::new("order", 1).step(Step::new("x"))),
    )
    .begin(json!(1), Stamp(1))
    .unwrap();
    let log = [Record {
        seq: 0,
        at: Stamp(1),
        events: began,
    }];
    let error = Saga::replay("s", definition, &log).unwrap_err();
    assert!(error.to_string().contains("another definition"), "{error}");
}

#[test]
fn a_pivot_settles_before_anything_turns_back() {
    let definition = Definition::new("pay", 1)
        .step(Step::new("reserve").undo(Undo::new()))
        .step(Step::new("charge").pivot().tries(tries(3)))
        .step(Step::new("ship"))
        .deadline(10 * SECOND);
    let mut stage = Stage::new(definition);
    stage.act(0, done());
    let error = stage.saga.cancel("eve", "now", stage.now).unwrap_err();
    assert!(error.to_string().contains("is being done"), "{error}");
    assert_eq!(stage.act(1, unknown()), "1 lost for now");
    assert!(
        stage.saga.cancel("eve", "now", stage.now).is_err(),
        "it may have been"
    );
    assert_eq!(stage.pass(SECOND), "+1.2");
    assert_eq!(
        stage.pass(20 * SECOND),
        "",
        "late, and it may be done at this moment"
    );
    assert_eq!(
        stage.act(1, done()),
        "1 ok, +2.1",
        "it was, and there is no way back"
    );
    // What is known not to be done may be cancelled.
    let pivot = || Definition::new("pay", 1).step(Step::new("charge").pivot());
    let mut stage = Stage::new(pivot());
    assert_eq!(stage.act(0, busy()), "0 failed for now");
    let cancelled = stage.saga.cancel("eve", "now", stage.now).unwrap();
    assert_eq!(stage.write(cancelled), "back for eve, compensated");
    let shared = pivot().at_once([Step::new("a"), Step::new("b").pivot()]);
    let error = shared.check().unwrap_err().to_string();
    assert!(error.contains("`b` is a pivot and runs alone"), "{error}");
}

/// Three steps, of which the second asks when nobody knows.
fn asking(attempts: u32, how: impl Fn(Step) -> Step) -> Definition {
    let query = OnUnknown::Query(Query::new().tries(tries(2)));
    let charge = Step::new("charge").tries(tries(attempts)).on_unknown(query);
    Definition::new("pay", 1)
        .step(Step::new("reserve").undo(Undo::new().tries(tries(2))))
        .step(how(charge))
        .step(Step::new("ship").tries(tries(1)))
}

fn open() -> Found {
    let error = "no answer".to_owned();
    Found::Open { error, after: None }
}

fn undone(step: Step) -> Step {
    step.undo(Undo::new().tries(tries(2)))
}

#[test]
fn whoever_knows_is_asked_whether_it_was_done() {
    let begin = |definition: Definition| {
        let mut stage = Stage::new(definition);
        stage.act(0, done());
        stage
    };
    // It was: the saga goes on as if the attempt had succeeded, with what it gave.
    let mut stage = begin(asking(2, undone));
    assert_eq!(stage.act(1, unknown()), "1 lost, asks, ?1.1");
    assert_eq!(stage.ask(1, open()), "1 open for now");
    assert_eq!(stage.pass(SECOND / 2), "");
    assert_eq!(stage.pass(SECOND), "?1.2");
    let found = Found::Done(json!("receipt"));
    assert_eq!(stage.ask(1, found), "1 was done, +2.1");
    assert_eq!(stage.saga.steps()[1].output, Some(json!("receipt")));
    assert_eq!(
        stage.ask(1, Found::NotDone),
        "",
        "what comes late changes nothing"
    );
    assert_eq!(stage.act(2, broken()), "2 failed, back from 2, -1.1");

    // It was not: another attempt, and when there are no more there is nothing to undo.
    let mut stage = begin(asking(2, undone));
    stage.act(1, unknown());
    assert_eq!(stage.ask(1, Found::NotDone), "1 was not done for now");
    assert!(!stage.saga.steps()[1].lost);
    assert_eq!(stage.pass(SECOND), "+1.2");
    assert_eq!(
        stage.act(1, unknown()),
        "1 lost, asks, ?1.1",
        "counted anew"
    );
    assert_eq!(
        stage.ask(1, Found::NotDone),
        "1 was not done, back from 1, -0.1"
    );

    // It stays open: undone as if it had been done, though there were attempts left.
    let mut stage = begin(asking(5, undone));
    stage.act(1, unknown());
    stage.ask(1, open());
    stage.pass(SECOND);
    assert_eq!(stage.ask(1, open()), "1 open, back from 1, -1.1");
    let mut stage = begin(asking(5, undone));
    stage.act(1, unknown());
    let never = Found::Never("nobody keeps it".to_owned());
    assert_eq!(stage.ask(1, never), "1 open, back from 1, -1.1");
    // It is not asked sooner than it was told to.
    let mut stage = begin(asking(5, undone));
    stage.act(1, unknown());
    let (error, after) = ("busy".to_owned(), Some(3 * SECOND));
    stage.ask(1, Found::Open { error, after });
    assert_eq!(stage.pass(2 * SECOND), "");
    assert_eq!(stage.pass(SECOND), "?1.2");
    let best_effort = Step::best_effort;
    let mut stage = begin(asking(1, best_effort));
    stage.act(1, unknown());
    let never = Found::Never("gone".to_owned());
    assert_eq!(stage.ask(1, never), "1 open, 1 skipped, +2.1");
}

#[test]
fn a_question_survives_its_process_and_settles_before_anything_turns_back() {
    let begin = |definition: Definition| {
        let mut stage = Stage::new(definition);
        stage.act(0, done());
        stage
    };
    let mut stage = begin(asking(2, undone));
    assert_eq!(stage.die(), "recovered 1, 1 lost, asks, ?1.1");
    assert_eq!(stage.die(), "recovered 2, 1 open for now");
    assert_eq!(stage.die(), "", "it waits");
    assert_eq!(stage.pass(SECOND), "?1.2");
    assert_eq!(stage.die(), "recovered 3, 1 open, back from 1, -1.1");

    // A question that is open is answered first, and one that waits is not asked.
    let mut stage = begin(asking(2, undone));
    stage.act(1, unknown());
    assert_eq!(stage.cancel().unwrap(), "back for eve");
    assert_eq!(stage.ask(1, Found::NotDone), "1 was not done, -0.1");
    let mut stage = begin(asking(2, undone));
    stage.act(1, unknown());
    stage.cancel().unwrap();
    assert_eq!(stage.ask(1, done_before()), "1 was done, -1.1");
    let mut stage = begin(asking(2, undone));
    stage.act(1, unknown());
    stage.cancel().unwrap();
    assert_eq!(stage.ask(1, open()), "1 open, -1.1");
    let mut stage = begin(asking(2, undone));
    stage.act(1, unknown());
    stage.ask(1, open());
    assert_eq!(stage.cancel().unwrap(), "back for eve, -1.1");
    // When it goes back already, nobody is asked: it is undone as if it had been done.
    let mut stage = begin(asking(2, undone));
    stage.cancel().unwrap();
    assert_eq!(stage.act(1, unknown()), "1 lost, -1.1");

    // A clock that was put back holds no question up.
    let mut stage = begin(asking(2, undone));
    stage.act(1, unknown());
    stage.ask(1, open());
    let mut saga = stage.replay();
    assert_eq!(saga.recover(Stamp(1000)), []);
    assert_eq!(saga.wakes(), Some(Stamp(1000).after(SECOND)));

    // What kills whoever asks is set aside.
    let many = OnUnknown::Query(Query::new().tries(tries(1000)));
    let deadly = Step::new("deadly").on_unknown(many);
    let mut stage = Stage::new(Definition::new("poison", 1).step(deadly));
    stage.act(0, unknown());
    for count in 1..=10 {
        assert_eq!(stage.die(), format!("recovered {count}, 0 open for now"));
        assert_eq!(stage.pass(SECOND), format!("?0.{}", count + 1));
    }
    assert_eq!(stage.die(), "recovered 11, 0 open, 0 stuck");
}

fn done_before() -> Found {
    Found::Done(json!("before"))
}

#[test]
fn a_pivot_that_is_asked_about_may_be_done() {
    let definition = || asking(2, Step::pivot).deadline(10 * SECOND);
    let mut stage = Stage::new(definition());
    stage.act(0, done());
    assert_eq!(stage.act(1, unknown()), "1 lost, asks, ?1.1");
    assert!(stage.cancel().unwrap_err().contains("is being done"));
    assert_eq!(stage.ask(1, open()), "1 open for now");
    assert!(stage.cancel().unwrap_err().contains("is being done"));
    assert_eq!(stage.saga.wakes(), Some(stage.now.after(SECOND)));
    assert_eq!(stage.pass(20 * SECOND), "?1.2", "late, and it may be done");
    assert_eq!(stage.ask(1, open()), "1 open, 1 stuck");
    // Nor does its deadline decide what nobody knows.
    assert_eq!(
        (stage.saga.wakes(), stage.pass(60 * SECOND)),
        (None, String::new())
    );
    let error = stage.hand(1, Hand::Skip).unwrap_err();
    assert!(error.contains("`charge` is the pivot"), "{error}");
    assert_eq!(stage.hand(1, Hand::Resolve).unwrap(), "1 resolve, +2.1");
    // What was not done may be cancelled, and is late.
    let mut stage = Stage::new(definition());
    stage.act(0, done());
    stage.act(1, unknown());
    stage.now = stage.now.after(20 * SECOND);
    assert_eq!(
        stage.ask(1, Found::NotDone),
        "1 was not done for now, back, late, -0.1"
    );
}

#[test]
fn a_step_is_skipped_by_hand_with_or_without_an_output() {
    let definition = || {
        Definition::new("pay", 1)
            .step(Step::new("charge").pivot().tries(tries(1)))
            .step(Step::new("ship").tries(tries(1)))
            .step(Step::new("notify").tries(tries(1)))
    };
    let begin = || {
        let mut stage = Stage::new(definition());
        stage.act(0, done());
        assert_eq!(stage.act(1, broken()), "1 failed, 1 stuck");
        stage
    };
    let mut stage = begin();
    assert_eq!(
        stage.saga.hands(1),
        [Hand::Retry, Hand::Skip, Hand::Resolve]
    );
    assert_eq!((stage.saga.hands(0), stage.saga.hands(2)), (vec![], vec![]));
    assert_eq!(stage.hand(1, Hand::Skip).unwrap(), "1 skip, +2.1");
    let state = &stage.saga.steps()[1];
    assert_eq!((&state.at, &state.output), (&At::Skipped, &None));
    assert_eq!(stage.act(2, done()), "2 ok, completed");
    let mut stage = begin();
    let output = Some(json!({ "parcel": 7 }));
    assert_eq!(
        stage.give(1, Hand::Skip, output.clone()).unwrap(),
        "1 skip, +2.1"
    );
    assert_eq!(stage.saga.steps()[1].output, output);
    let mut stage = begin();
    assert_eq!(
        stage.give(1, Hand::Resolve, output.clone()).unwrap(),
        "1 resolve, +2.1"
    );
    let state = &stage.saga.steps()[1];
    assert_eq!((&state.at, &state.output), (&At::Done, &output));
    let mut stage = begin();
    stage.hand(1, Hand::Resolve).unwrap();
    assert_eq!(stage.saga.steps()[1].output, Some(Value::Null));
    let mut stage = begin();
    let refused = stage
        .saga
        .handle_giving(1, Hand::Retry, output, "ann", "?", stage.now);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("an output is what a step gave")
    );
    let error = stage.hand(0, Hand::Skip).unwrap_err();
    assert_eq!(error, "`charge` does not wait for anybody");
}

#[test]
fn what_is_left_as_it_is_is_told_to_be_not_undone() {
    let mut stage = Stage::new(order());
    (0..3).for_each(|step| drop(stage.act(step, done())));
    stage.act(3, broken());
    assert_eq!(stage.undo(2, broken()), "2 dead, -1.1");
    stage.undo(1, done());
    stage.undo(0, done());
    let output = Some(json!(1));
    let refused = stage
        .saga
        .handle_giving(2, Hand::Skip, output, "ann", "?", stage.now);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("an output is what a step gave")
    );
    assert_eq!(stage.saga.not_undone().count(), 0);
    assert_eq!(stage.hand(2, Hand::Skip).unwrap(), "2 skip, compensated");
    assert_eq!(stage.saga.not_undone().collect::<Vec<_>>(), [2]);
    assert!(stage.hand(2, Hand::Resolve).is_err(), "it has ended");
}

/// What may have been done is undone as if it had been, although somebody went on without it.
#[test]
fn what_was_skipped_and_may_be_done_is_undone() {
    let deadly = Step::new("deadly").tries(tries(1000)).undo(Undo::new());
    let definition = Definition::new("poison", 1)
        .step(deadly)
        .step(Step::new("ship"));
    let mut stage = Stage::new(definition);
    for _ in 1..=10 {
        stage.die();
        stage.pass(5 * SECOND);
    }
    assert_eq!(stage.die(), "recovered 11, 0 lost, 0 stuck");
    assert_eq!(stage.hand(0, Hand::Skip).unwrap(), "0 skip, +1.1");
    assert_eq!(stage.act(1, broken()), "1 failed, back from 1, -0.1");
}

impl Stage {
    /// Has a step fail for as long as it is tried; how many records that makes.
    fn fails_for_ever(&mut self, step: usize) -> u64 {
        let before = self.saga.length();
        loop {
            let told = match self.saga.steps()[step].at {
                At::Running => self.act(step, busy()),
                At::Undoing => self.undo(step, busy()),
                At::Waiting(_) | At::UndoWaiting(_) => self.pass(SECOND),
                _ => return self.saga.length() - before,
            };
            assert_ne!(told, "");
        }
    }
}

#[test]
fn a_log_has_a_bound_and_hands_have_one_too() {
    let definition = || {
        Definition::new("long", 1)
            .step(undone(Step::new("a")))
            .step(
                Step::new("b")
                    .tries(tries(1000))
                    .undo(Undo::new().tries(tries(1000))),
            )
            .step(Step::new("c").best_effort())
    };
    let mut stage = Stage::bounded(definition(), 40);
    stage.act(0, done());
    stage.fails_for_ever(1);
    let is_stuck = |stage: &Stage, step: usize| match &stage.saga.steps()[step].at {
        At::Stuck(why) | At::Dead(why) => why.contains("records, and"),
        _ => false,
    };
    assert!(is_stuck(&stage, 1) && stage.saga.wakes().is_none());
    let length = stage.saga.length();
    assert_eq!(length, 42, "how the last one ended, and that it waits");
    assert_eq!(stage.die(), "", "who dies adds nothing");
    // Each time it is tried again it may have some more, and all of them as much as the bound.
    let mut times = 0;
    while stage.hand(1, Hand::Retry).is_ok() {
        let more = 1 + stage.fails_for_ever(1);
        assert!((2..=12).contains(&more), "{more}");
        times += 1;
    }
    assert_eq!(times, 4);
    assert!(stage.saga.length() <= 2 * 40 + 2, "{}", stage.saga.length());
    assert_eq!(stage.saga.hands(1), [Hand::Skip, Hand::Resolve]);
    let error = stage.hand(1, Hand::Retry).unwrap_err();
    assert!(
        error.contains("skip `b` or resolve it, or cancel"),
        "{error}"
    );
    // There is room to go back, and it is as bounded.
    assert_eq!(stage.cancel().unwrap(), "back for eve, -0.1");
    stage.fails_for_ever(0);
    assert!(matches!(stage.saga.steps()[0].at, At::Dead(_)));
    while stage.hand(0, Hand::Retry).is_ok() {
        stage.fails_for_ever(0);
    }
    assert!(is_stuck(&stage, 0));
    assert!(stage.saga.length() <= 3 * 40 + 3, "{}", stage.saga.length());
    assert_eq!(
        stage.hand(0, Hand::Resolve).unwrap(),
        "0 resolve, compensated"
    );

    // Without the step it goes on to the others, which are best effort: it ends.
    let mut stage = Stage::bounded(definition(), 40);
    stage.act(0, done());
    stage.fails_for_ever(1);
    assert_eq!(
        stage.hand(1, Hand::Skip).unwrap(),
        "1 skip, 2 skipped, completed"
    );
}

/// What never began because the log had no room, and is done by other means, is undone like others.
#[test]
fn at_the_bound_nothing_begins_and_what_is_done_is_undone_all_the_same() {
    let definition = Definition::new("short", 1)
        .step(undone(Step::new("a")))
        .at_once([undone(Step::new("b")), undone(Step::new("c"))])
        .step(Step::new("d").tries(tries(1)));
    let mut stage = Stage::bounded(definition, 1);
    assert_eq!(stage.act(0, done()), "0 ok, 1 stuck, 2 stuck");
    assert_eq!(stage.hand(1, Hand::Resolve).unwrap(), "1 resolve");
    assert_eq!(stage.hand(2, Hand::Resolve).unwrap(), "2 resolve, 3 stuck");
    assert_eq!(
        stage.cancel().unwrap(),
        "back for eve, 2 dead, 1 dead, 0 dead"
    );
    for step in 0..3 {
        assert_eq!(stage.saga.steps()[step].attempts, 0);
    }
    // With a larger bound there is room again.
    stage.records = NonZeroU64::new(100).unwrap();
    stage.saga = stage.replay();
    assert_eq!(stage.hand(2, Hand::Retry).unwrap(), "2 retry, -2.1");
    assert_eq!(stage.undo(2, busy()), "2 not undone");
    assert_eq!(stage.pass(SECOND), "-2.2");
    assert_eq!(stage.undo(2, done()), "2 undone");
    stage.hand(1, Hand::Skip).unwrap();
    assert_eq!(
        stage.hand(0, Hand::Resolve).unwrap(),
        "0 resolve, compensated"
    );
}

/// Hashes are on disks: with another one for the same definition every saga in flight would be blocked.
#[test]
fn what_says_nothing_new_keeps_its_hash() {
    assert_eq!(
        order().hash(),
        "584cdd97121846c77dff76c486fe7580de1b1ce573a2e2763a45be0862ee8319"
    );
    let retried = asking(2, |step| step.on_unknown(OnUnknown::Retry));
    let other = |query| asking(2, move |step| step.on_unknown(OnUnknown::Query(query)));
    let hashes = [
        retried.hash(),
        asking(2, undone).hash(),
        asking(2, |step| step).hash(),
        other(Query::new().tries(tries(3))).hash(),
        other(Query::new().tries(tries(2)).timeout(SECOND)).hash(),
    ];
    for (number, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..number].contains(hash), "{number}");
    }
}
