//! The machine of one saga: events make its state, its state says what happens next.
//!
//! There is one function from an event and a state to a state, [`Saga::apply`]. A saga that runs, one
//! that is read again after a crash and one that somebody looks at have all gone through it, so they
//! cannot differ. What happens next is decided from the state and the time alone; nothing here sleeps,
//! calls or writes.
//!
//! The driver makes a record of the events that a method returns, and does what they say when the
//! record is on the disk: for [`Event::Started`] and [`Event::UndoStarted`] it makes the attempt, and
//! tells [`Saga::acted`] or [`Saga::undid`] what came of it; for [`Event::QueryStarted`] it asks, and
//! tells [`Saga::asked`].
//!
//! The laws: an attempt of which nobody knows whether it did its work is never taken for undone; once
//! a pivot is done nothing goes back; what has to be undone is undone in the reverse of the order in
//! which it began, each with the same key as often as it is tried; a saga never ends with something
//! that could not be undone, but waits for somebody; and its log has a bound, whatever happens.

mod apply;
mod decide;
mod hand;
mod turns;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use outlast_core::rng::mix;
use serde_json::Value;

use self::turns::Turns;
use crate::bounds::Bounds;
use crate::definition::Definition;
use crate::event::{Cause, Event, Hand, Outcome, Record, Stamp};

/// A saga, as its log says.
#[derive(Clone, Debug, PartialEq)]
pub struct Saga {
    id: String,
    definition: Arc<Definition>,
    phase: Phase,
    steps: Vec<StepState>,
    /// In which order steps began.
    order: Vec<usize>,
    input: Value,
    began: Stamp,
    /// When anything happened last.
    seen: Stamp,
    /// How many records its log has.
    length: u64,
    /// How often processes have begun to go on with it without any progress.
    recoveries: u32,
    /// How many records its log may have on the way forward, and as many again on the way back.
    bound: u64,
    /// How many more it may have because somebody had steps tried again.
    granted: u64,
    turns: Turns,
}

/// Where a saga is.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Nothing has happened yet.
    New,
    /// It goes on.
    Forward,
    /// It goes back.
    Back(Cause),
    /// It has ended.
    Ended(Outcome),
}

/// Where a step is.
#[derive(Clone, Debug, PartialEq)]
pub struct StepState {
    /// Where it is.
    pub at: At,
    /// What it gave.
    pub output: Option<Value>,
    /// Whether there was an attempt of which nobody knows whether it did its work.
    pub lost: bool,
    /// Attempts of this kind so far; of those to undo it once it goes back.
    pub attempts: u32,
    /// How often somebody was asked about the last attempt of which nobody knew.
    pub queries: u32,
    /// Attempts that do not count: those before somebody had it tried again, and those that processes cut
    /// short that died.
    forgiven: u32,
}

/// Where a step is.
#[derive(Clone, Debug, PartialEq)]
pub enum At {
    /// Not begun.
    Pending,
    /// An attempt is made.
    Running,
    /// The next attempt is made then.
    Waiting(Stamp),
    /// Somebody is asked whether it was done.
    Querying,
    /// Somebody is asked then.
    QueryWaiting(Stamp),
    /// It is done.
    Done,
    /// It is given up.
    GivenUp,
    /// It does not go on by itself, and somebody has to look.
    Stuck(String),
    /// It was best effort and is given up, or somebody skipped it.
    Skipped,
    /// It is being undone.
    Undoing,
    /// The next attempt to undo it is made then.
    UndoWaiting(Stamp),
    /// It is undone.
    Undone,
    /// It could not be undone.
    Dead(String),
    /// Somebody has undone it by other means.
    Resolved,
    /// It could not be undone, and somebody left it as it is.
    NotUndone,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Acted {
    /// It did its work, and gave this.
    Done(Value),
    /// It did not, and may the next time.
    Transient {
        /// Why.
        error: String,
        /// Not before this.
        after: Option<Duration>,
    },
    /// It did not, and never will.
    Permanent(String),
    /// Nobody knows.
    Unknown(String),
}

/// What came of asking whether a step was done.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It was, and gave this.
    Done(Value),
    /// It was not, and what is still under way for it will not do it either.
    NotDone,
    /// It is still not known.
    Open {
        /// Why.
        error: String,
        /// It is not asked again before this.
        after: Option<Duration>,
    },
    /// It will never be known.
    Never(String),
}

/// Why something cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Illegal(pub(crate) String);

impl std::fmt::Display for Illegal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Illegal {}

impl Saga {
    /// A saga before its first event.
    pub fn new(id: impl Into<String>, definition: Arc<Definition>) -> Saga {
        let steps: Vec<_> = definition.steps().map(|_| StepState::new()).collect();
        Saga {
            turns: Turns::new(steps.len()),
            id: id.into(),
            definition,
            phase: Phase::New,
            steps,
            order: Vec::new(),
            input: Value::Null,
            began: Stamp(0),
            seen: Stamp(0),
            length: 0,
            recoveries: 0,
            bound: DEFAULT_BOUND,
            granted: 0,
        }
    }

    /// Its log may have so many records on the way forward, and as many again on the way back. Then it
    /// waits for somebody. Default 1,000.
    pub fn bounded(mut self, records: NonZeroU64) -> Saga {
        self.bound = records.get();
        self
    }

    /// The saga of a log.
    ///
    /// # Errors
    /// If the log has a gap, or says what cannot have happened.
    pub fn replay(
        id: impl Into<String>,
        definition: Arc<Definition>,
        log: &[Record],
    ) -> Result<Saga, Illegal> {
        let mut saga = Saga::new(id, definition);
        for record in log {
            if record.seq != saga.length {
                let message = format!("record {} follows {}", record.seq, saga.length);
                return Err(Illegal(message));
            }
            for event in &record.events {
                saga.apply(record.at, event)?;
            }
            saga.length += 1;
        }
        Ok(saga)
    }

    /// It begins with this input.
    ///
    /// # Errors
    /// If it has begun.
    pub fn begin(&mut self, input: Value, now: Stamp) -> Result<Vec<Event>, Illegal> {
        let began = Event::Began {
            definition: self.definition.name().to_owned(),
            version: self.definition.version(),
            hash: self.definition.hash(),
            input,
        };
        self.go_on(vec![began], now)
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Stamp) -> Vec<Event> {
        self.go_on(Vec::new(), now).expect("what is decided can be")
    }

    /// An attempt of a step has ended; nothing happens if it is not the one that is made.
    pub fn acted(&mut self, step: usize, attempt: u32, acted: Acted, now: Stamp) -> Vec<Event> {
        let state = &self.steps[step];
        if state.at != At::Running || state.attempts != attempt {
            return Vec::new();
        }
        self.settle_turn(step, &acted, now);
        let events = self.after_action(step, acted);
        self.go_on(events, now).expect("a running attempt may end")
    }

    /// An attempt to undo a step has ended; nothing happens if it is not the one that is made.
    pub fn undid(&mut self, step: usize, attempt: u32, acted: Acted, now: Stamp) -> Vec<Event> {
        let state = &self.steps[step];
        if state.at != At::Undoing || state.attempts != attempt {
            return Vec::new();
        }
        let events = self.after_undo(step, acted);
        self.go_on(events, now).expect("an attempt to undo may end")
    }

    /// Whoever was asked whether a step was done has answered, or has not; nothing happens if it is not
    /// the question that is open.
    pub fn asked(&mut self, step: usize, attempt: u32, found: Found, now: Stamp) -> Vec<Event> {
        let state = &self.steps[step];
        if state.at != At::Querying || state.queries != attempt {
            return Vec::new();
        }
        let events = self.after_query(step, found);
        self.go_on(events, now).expect("a question may be answered")
    }

    /// A process goes on with it after another one has died: what was being done is not known.
    pub fn recover(&mut self, now: Stamp) -> Vec<Event> {
        if !matches!(self.phase, Phase::Forward | Phase::Back(_)) {
            return Vec::new();
        }
        self.put_back(now);
        if !self.steps.iter().any(StepState::is_running) {
            // It waited, and goes on to wait.
            return self.wake(now);
        }
        let count = self.recoveries + 1;
        let mut events = vec![Event::Recovered { count }];
        let next = |saga: &mut Saga, events: &[Event]| {
            let applied = events.iter().try_for_each(|event| saga.apply(now, event));
            applied.expect("a process may die at any time");
        };
        next(self, &events);
        for step in 0..self.steps.len() {
            // What one of them means may turn the saga back, and that is so for the next one.
            let more = self.after_death(step, count);
            next(self, &more);
            if !more.is_empty() {
                // How many go on after a crash has a bound of its own.
                self.turns.give(step, now.after(self.apart(step, count)));
            }
            events.extend(more);
        }
        events.extend(self.wake(now));
        events
    }

    /// Which of those that were there kills processes is not known: they go on apart, so that others get
    /// on before it.
    fn apart(&self, step: usize, count: u32) -> Duration {
        let rounds = count.saturating_sub(KILLED_BY_CHANCE);
        let spread = if rounds == 0 { Duration::ZERO } else { APART };
        spread.mul_f64(f64::from(rounds) * self.unit(step, count))
    }

    /// The record of these events; they are on its log from now on.
    pub fn record(&mut self, events: Vec<Event>, now: Stamp) -> Record {
        self.length += 1;
        Record {
            seq: self.length - 1,
            at: now,
            events,
        }
    }

    /// When [`Saga::wake`] has something to do; `None` for never.
    pub fn wakes(&self) -> Option<Stamp> {
        match self.phase {
            Phase::New | Phase::Ended(_) => None,
            Phase::Forward => {
                let waits = (0..self.steps.len()).filter_map(|step| self.due(step));
                let waits = waits.filter(|_| !self.is_paused());
                waits.chain(self.deadline()).min()
            }
            Phase::Back(_) => self.next_undo().and_then(|step| self.due(step)),
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it does.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// Where it is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Where its steps are.
    pub fn steps(&self) -> &[StepState] {
        &self.steps
    }

    /// What it began with.
    pub fn input(&self) -> &Value {
        &self.input
    }

    /// When it began.
    pub fn began(&self) -> Stamp {
        self.began
    }

    /// How many records its log has.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether somebody has to look: a step from which there is no way back was given up, or one could
    /// not be undone.
    pub fn needs_somebody(&self) -> bool {
        let needs = |step: &StepState| matches!(step.at, At::Stuck(_) | At::Dead(_));
        self.steps.iter().any(needs)
    }

    /// Nothing happens to it until somebody does something.
    pub fn is_at_rest(&self) -> bool {
        let runs = self.steps.iter().any(StepState::is_running);
        let goes_on = runs || self.waits() || self.wakes().is_some();
        self.needs_somebody() && !goes_on
    }

    fn is_past_pivot(&self) -> bool {
        let mut steps = self.definition.steps().zip(&self.steps);
        steps.any(|(step, state)| step.is_pivot() && state.at == At::Done)
    }

    /// The pivot may be done at this moment, or may have been: it has to settle before anything can be
    /// said.
    fn is_at_pivot(&self) -> bool {
        let is_open = |state: &StepState| match state.at {
            At::Running | At::Querying | At::QueryWaiting(_) => true,
            At::Waiting(_) => state.lost,
            _ => false,
        };
        let mut steps = self.definition.steps().zip(&self.steps);
        steps.any(|(step, state)| step.is_pivot() && is_open(state))
    }

    /// When it turns back by itself, if it may.
    fn deadline(&self) -> Option<Stamp> {
        let time = self.definition.time()?;
        // Nobody knows whether a pivot like that is done, and it cannot be undone: that is for a hand.
        let mut steps = self.definition.steps().zip(&self.steps);
        let waits_for_a_hand = steps.any(|(step, state)| {
            let is_stuck = matches!(state.at, At::Stuck(_)) && state.lost;
            is_stuck && step.is_pivot() && step.undo_tries().is_none()
        });
        let is_open = self.is_past_pivot() || self.is_at_pivot() || waits_for_a_hand;
        let may = self.phase == Phase::Forward && !is_open;
        may.then(|| self.began.after(time))
    }

    /// A clock that was put back while no process went on with it: nothing has passed meanwhile. What
    /// it waits for is as far away as it was when anything happened last, and not by an hour further.
    fn put_back(&mut self, now: Stamp) {
        let by = self.seen.since(now);
        if by.is_zero() {
            return;
        }
        self.seen = now;
        self.began = self.began.before(by);
        for step in &mut self.steps {
            if let At::Waiting(due) | At::QueryWaiting(due) | At::UndoWaiting(due) = &mut step.at {
                *due = due.before(by);
            }
        }
    }

    /// Applies what has happened, and then whatever follows from it now.
    fn go_on(&mut self, mut events: Vec<Event>, now: Stamp) -> Result<Vec<Event>, Illegal> {
        for event in &events {
            self.apply(now, event)?;
        }
        loop {
            self.take_turns(now);
            let next = self.decide(now);
            if next.is_empty() {
                return Ok(events);
            }
            for event in &next {
                self.apply(now, event)?;
            }
            events.extend(next);
        }
    }

    /// A random number that is the same for the same attempt.
    fn unit(&self, step: usize, attempt: u32) -> f64 {
        let id = self
            .id
            .bytes()
            .fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        let bits = mix(id ^ (step as u64) << 32 ^ u64::from(attempt));
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl StepState {
    fn new() -> StepState {
        StepState {
            at: At::Pending,
            output: None,
            lost: false,
            attempts: 0,
            queries: 0,
            forgiven: 0,
        }
    }

    /// Whether something is being done for it in the world.
    pub fn is_running(&self) -> bool {
        matches!(self.at, At::Running | At::Querying | At::Undoing)
    }

    fn counted(&self) -> u32 {
        self.attempts - self.forgiven
    }
}

const DEFAULT_BOUND: u64 = 1000;
/// So many processes in a row may end for reasons of their own.
const KILLED_BY_CHANCE: u32 = 2;
/// Longer than most steps take.
const APART: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
