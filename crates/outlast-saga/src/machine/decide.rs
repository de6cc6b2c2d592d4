//! What happens next, and what follows from how an attempt ended.

use super::*;
use crate::definition::Step;

impl Saga {
    /// What becomes true now, if nothing else happens.
    pub(super) fn decide(&self, now: Stamp) -> Vec<Event> {
        match &self.phase {
            Phase::Forward => self.decide_forward(now),
            Phase::Back(_) => self.decide_back(now),
            Phase::New | Phase::Ended(_) => Vec::new(),
        }
    }

    fn decide_forward(&self, now: Stamp) -> Vec<Event> {
        let late = self
            .definition
            .time()
            .is_some_and(|time| now >= self.began.after(time));
        if late && !self.is_past_pivot() && !self.is_at_pivot() {
            return vec![Event::TurnedBack {
                cause: Cause::Deadline,
            }];
        }
        let has_ended = |step: &usize| matches!(self.steps[*step].at, At::Done | At::Skipped);
        let stage = self
            .definition
            .stages()
            .find(|stage| !stage.clone().all(|step| has_ended(&step)));
        let Some(stage) = stage else {
            let outcome = Outcome::Completed;
            return vec![Event::Ended { outcome }];
        };
        let is_due = |step: &usize| match self.steps[*step].at {
            At::Pending => true,
            At::Waiting(due) => due <= now,
            _ => false,
        };
        let started = |step: usize| Event::Started {
            step,
            attempt: self.steps[step].attempts + 1,
        };
        stage.filter(is_due).map(started).collect()
    }

    /// One after the other, in the reverse of the order in which they began, when nothing runs any
    /// more.
    fn decide_back(&self, now: Stamp) -> Vec<Event> {
        let is_busy = |step: &StepState| matches!(step.at, At::Running | At::Undoing);
        if self.steps.iter().any(is_busy) {
            return Vec::new();
        }
        for &step in self.order.iter().rev() {
            let state = &self.steps[step];
            let attempt = match state.at {
                At::UndoWaiting(due) if due > now => return Vec::new(),
                At::UndoWaiting(_) => state.attempts + 1,
                _ if self.has_to_be_undone(step) => 1,
                _ => continue,
            };
            return vec![Event::UndoStarted { step, attempt }];
        }
        if self.needs_somebody() {
            return Vec::new();
        }
        let outcome = Outcome::Compensated;
        vec![Event::Ended { outcome }]
    }

    /// It is done, or may be, and there is something that undoes it.
    fn has_to_be_undone(&self, step: usize) -> bool {
        let state = &self.steps[step];
        let may_be_done = match state.at {
            At::Done => true,
            At::GivenUp | At::Skipped => state.lost,
            _ => false,
        };
        may_be_done && self.step_of(step).undo_tries().is_some()
    }

    /// What follows from how an attempt of a step ended.
    pub(super) fn after_action(&self, step: usize, acted: Acted) -> Vec<Event> {
        let tries = self.step_of(step).own_tries();
        let state = &self.steps[step];
        let goes_forward = self.phase == Phase::Forward;
        let has_more = goes_forward && state.counted() < tries.attempts();
        let wait = tries.wait(state.counted(), self.unit(step, state.attempts));
        let (event, error) = match acted {
            Acted::Done(output) => return vec![Event::Succeeded { step, output }],
            Acted::Transient { error, after } => {
                let wait = after.map_or(wait, |after| after.max(wait));
                let again = has_more.then_some(wait);
                let text = error.clone();
                (
                    Event::Failed { step, error, again },
                    again.is_none().then_some(text),
                )
            }
            Acted::Permanent(error) => {
                let text = error.clone();
                let again = None;
                (Event::Failed { step, error, again }, Some(text))
            }
            Acted::Unknown(error) => {
                let may = has_more && !self.step_of(step).compensates_unknown();
                let again = may.then_some(wait);
                let text = error.clone();
                (
                    Event::Lost { step, error, again },
                    again.is_none().then_some(text),
                )
            }
        };
        let lost = state.lost || matches!(event, Event::Lost { .. });
        let mut events = vec![event];
        events.extend(error.and_then(|error| self.given_up(step, error, lost)));
        events
    }

    /// What it means that a step is given up.
    fn given_up(&self, step: usize, error: String, lost: bool) -> Option<Event> {
        if self.phase != Phase::Forward {
            return None;
        }
        let how = self.step_of(step);
        // A pivot that may be done, and cannot be undone: either way may be wrong.
        let is_open = how.is_pivot() && lost && how.undo_tries().is_none();
        Some(if how.is_best_effort() {
            Event::Skipped { step }
        } else if self.is_past_pivot() || is_open {
            Event::Parked { step, error }
        } else {
            let cause = Cause::Step { step };
            Event::TurnedBack { cause }
        })
    }

    /// What follows from how an attempt to undo a step ended.
    pub(super) fn after_undo(&self, step: usize, acted: Acted) -> Vec<Event> {
        let tries = self
            .step_of(step)
            .undo_tries()
            .expect("it has something that undoes it");
        let state = &self.steps[step];
        let (error, after, again) = match acted {
            Acted::Done(_) => return vec![Event::Undone { step }],
            Acted::Transient { error, after } => (error, after, true),
            Acted::Unknown(error) => (error, None, true),
            Acted::Permanent(error) => (error, None, false),
        };
        if !again || state.counted() >= tries.attempts() {
            return vec![Event::DeadLettered { step, error }];
        }
        let wait = tries.wait(state.counted(), self.unit(step, state.attempts));
        let again = after.map_or(wait, |after| after.max(wait));
        vec![Event::UndoFailed { step, error, again }]
    }

    /// What follows for a step from the death of the process that went on with it.
    pub(super) fn after_death(&self, step: usize, count: u32) -> Vec<Event> {
        let error = || "the process ended".to_owned();
        match self.steps[step].at {
            At::Running if count > MOST_RECOVERIES && self.phase == Phase::Forward => {
                let error = format!("{count} processes ended while it was done");
                let lost = Event::Lost {
                    step,
                    error: error.clone(),
                    again: None,
                };
                vec![lost, Event::Parked { step, error }]
            }
            At::Running => self.after_action(step, Acted::Unknown(error())),
            At::Undoing if count > MOST_RECOVERIES => {
                let error = format!("{count} processes ended while it was undone");
                vec![Event::DeadLettered { step, error }]
            }
            At::Undoing => self.after_undo(step, Acted::Unknown(error())),
            _ => Vec::new(),
        }
    }

    pub(super) fn step_of(&self, step: usize) -> &Step {
        self.definition
            .steps()
            .nth(step)
            .expect("a step of the definition")
    }
}

/// Whoever has killed so many processes is not given another one. Others, who were only there, get on
/// in between.
const MOST_RECOVERIES: u32 = 10;
