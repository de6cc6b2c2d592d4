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
        if self.is_late(now) {
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
        if self.is_paused() {
            return Vec::new();
        }
        let begins = |step: usize| {
            let state = &self.steps[step];
            let begins = match state.at {
                At::Pending => Event::Started { step, attempt: 1 },
                At::Waiting(_) if self.has_turn(step, now) => Event::Started {
                    step,
                    attempt: state.attempts + 1,
                },
                At::QueryWaiting(due) if due <= now => Event::QueryStarted {
                    step,
                    attempt: state.queries + 1,
                },
                _ => return None,
            };
            Some(
                match (self.is_full(), self.step_of(step).is_best_effort()) {
                    (false, _) => begins,
                    (true, true) => Event::Skipped { step },
                    (true, false) => Event::Parked {
                        step,
                        error: self.full(),
                    },
                },
            )
        };
        stage.filter_map(begins).collect()
    }

    /// Whether it is to be given up.
    pub(super) fn is_late(&self, now: Stamp) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// One after the other, in the reverse of the order in which they began, when nothing runs any
    /// more.
    fn decide_back(&self, now: Stamp) -> Vec<Event> {
        if self.steps.iter().any(StepState::is_running) {
            return Vec::new();
        }
        for &step in self.order.iter().rev() {
            let state = &self.steps[step];
            let attempt = match state.at {
                At::UndoWaiting(_) if !self.has_turn(step, now) => return Vec::new(),
                At::UndoWaiting(_) => state.attempts + 1,
                _ if self.has_to_be_undone(step) => 1,
                _ => continue,
            };
            return vec![match self.is_full() {
                false => Event::UndoStarted { step, attempt },
                true => Event::DeadLettered {
                    step,
                    error: self.full(),
                },
            }];
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
        let has_more =
            goes_forward && state.counted() < tries.attempts() && !self.has_no_turn(step);
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
                let how = self.step_of(step);
                let asks = goes_forward && how.query_tries().is_some();
                let may = has_more && !asks && !how.compensates_unknown();
                let again = may.then_some(wait);
                let text = error.clone();
                let lost = Event::Lost {
                    step,
                    error,
                    again,
                    asks,
                };
                (lost, (again.is_none() && !asks).then_some(text))
            }
        };
        let lost = state.lost || matches!(event, Event::Lost { .. });
        let mut events = vec![event];
        events.extend(error.and_then(|error| self.given_up(step, error, lost)));
        events
    }

    /// What follows from what was found out about a step.
    pub(super) fn after_query(&self, step: usize, found: Found) -> Vec<Event> {
        let state = &self.steps[step];
        let how = self.step_of(step);
        let goes_forward = self.phase == Phase::Forward;
        let (error, again) = match found {
            Found::Done(output) => return vec![Event::FoundDone { step, output }],
            Found::NotDone => return self.after_not_done(step),
            Found::Open { error, after } => {
                let tries = how.query_tries().expect("it says how it is asked about");
                let has_more = goes_forward && state.queries < tries.attempts();
                let wait = tries.wait(state.queries, self.unit(step, state.queries));
                let wait = after.map_or(wait, |after| after.max(wait));
                (error, has_more.then_some(wait))
            }
            Found::Never(error) => (error, None),
        };
        let text = error.clone();
        let mut events = vec![Event::QueryFailed { step, error, again }];
        if again.is_none() {
            events.extend(self.given_up(step, text, true));
        }
        events
    }

    fn after_not_done(&self, step: usize) -> Vec<Event> {
        let state = &self.steps[step];
        let tries = self.step_of(step).own_tries();
        let has_more = self.phase == Phase::Forward && state.counted() < tries.attempts();
        let wait = tries.wait(state.counted(), self.unit(step, state.attempts));
        let again = has_more.then_some(wait);
        let mut events = vec![Event::FoundNotDone { step, again }];
        if again.is_none() {
            let error = format!("it was not done in {} attempts", state.counted());
            events.extend(self.given_up(step, error, false));
        }
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
        let is_poison = count > MOST_RECOVERIES && self.phase == Phase::Forward;
        match self.steps[step].at {
            At::Running | At::Querying if is_poison => {
                let error = format!("{count} processes ended while it was done");
                let (why, again) = (error.clone(), None);
                let open = match self.steps[step].at {
                    At::Running => Event::Lost {
                        step,
                        error: why,
                        again,
                        asks: false,
                    },
                    _ => Event::QueryFailed {
                        step,
                        error: why,
                        again,
                    },
                };
                vec![open, Event::Parked { step, error }]
            }
            At::Running => self.after_action(step, Acted::Unknown(error())),
            At::Querying => {
                let (error, after) = (error(), None);
                self.after_query(step, Found::Open { error, after })
            }
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
