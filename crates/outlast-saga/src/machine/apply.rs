//! From an event and a state to a state.

use super::*;
use crate::definition::Tries;

impl Saga {
    /// Takes an event in.
    ///
    /// # Errors
    /// If it cannot have happened.
    pub(super) fn apply(&mut self, at: Stamp, event: &Event) -> Result<(), Illegal> {
        if let Some(step) = step_of(event)
            && step >= self.steps.len()
        {
            return Err(self.refused(event));
        }
        self.put_back(at);
        self.seen = at;
        match (event, &self.phase) {
            (Event::Began { hash, input, .. }, Phase::New) => {
                if *hash != self.definition.hash() {
                    return Err(Illegal("it began with another definition".to_owned()));
                }
                self.input = input.clone();
                self.began = at;
                self.phase = Phase::Forward;
            }
            (Event::Started { step, attempt }, Phase::Forward) => {
                let state = &mut self.steps[*step];
                let is_next = state.attempts + 1 == *attempt;
                if !is_next || !matches!(state.at, At::Pending | At::Waiting(_)) {
                    return Err(self.refused(event));
                }
                (state.at, state.attempts) = (At::Running, *attempt);
                self.has_begun(*step);
                self.turns.forget(*step);
            }
            (Event::Succeeded { step, output }, Phase::Forward | Phase::Back(_)) => {
                let state = self.running(*step, event)?;
                (state.at, state.output) = (At::Done, Some(output.clone()));
                self.recoveries = 0;
            }
            (Event::Failed { step, again, .. }, Phase::Forward | Phase::Back(_)) => {
                self.settle(*step, event, at, *again, false)?;
                self.recoveries = 0;
            }
            (
                Event::Lost {
                    step, again, asks, ..
                },
                Phase::Forward | Phase::Back(_),
            ) => {
                self.settle(*step, event, at, *again, true)?;
                if *asks {
                    let state = &mut self.steps[*step];
                    (state.at, state.queries) = (At::QueryWaiting(at), 0);
                }
            }
            (Event::QueryStarted { step, attempt }, Phase::Forward) => {
                let state = &mut self.steps[*step];
                let is_next = state.queries + 1 == *attempt;
                if !is_next || !matches!(state.at, At::QueryWaiting(_)) {
                    return Err(self.refused(event));
                }
                (state.at, state.queries) = (At::Querying, *attempt);
            }
            (Event::FoundDone { step, output }, Phase::Forward | Phase::Back(_)) => {
                let state = self.querying(*step, event)?;
                (state.at, state.output) = (At::Done, Some(output.clone()));
                self.recoveries = 0;
            }
            (Event::FoundNotDone { step, again }, Phase::Forward | Phase::Back(_)) => {
                let state = self.querying(*step, event)?;
                state.lost = false;
                state.at = again.map_or(At::GivenUp, |again| At::Waiting(at.after(again)));
                self.recoveries = 0;
            }
            (Event::QueryFailed { step, again, .. }, Phase::Forward | Phase::Back(_)) => {
                let next = again.map_or(At::GivenUp, |again| At::QueryWaiting(at.after(again)));
                self.querying(*step, event)?.at = next;
            }
            (Event::Skipped { step }, Phase::Forward) => {
                self.leave(*step, event)?.at = At::Skipped;
            }
            (Event::Parked { step, error }, Phase::Forward) => {
                self.leave(*step, event)?.at = At::Stuck(error.clone());
            }
            (Event::TurnedBack { cause }, Phase::Forward) if !self.is_past_pivot() => {
                self.phase = Phase::Back(cause.clone());
                for state in &mut self.steps {
                    if let At::Waiting(_) | At::QueryWaiting(_) | At::Stuck(_) = state.at {
                        state.at = At::GivenUp;
                    }
                }
            }
            (Event::UndoStarted { step, attempt }, Phase::Back(_)) => {
                self.start_to_undo(*step, *attempt, event)?;
            }
            (Event::Undone { step }, Phase::Back(_)) => {
                self.undoing(*step, event)?.at = At::Undone;
                self.recoveries = 0;
            }
            (Event::UndoFailed { step, again, .. }, Phase::Back(_)) => {
                self.undoing(*step, event)?.at = At::UndoWaiting(at.after(*again));
            }
            (Event::DeadLettered { step, error }, Phase::Back(_)) => {
                self.leave_done(*step, event)?.at = At::Dead(error.clone());
                self.recoveries = 0;
            }
            (
                Event::Handled {
                    step,
                    how,
                    output,
                    more,
                    ..
                },
                Phase::Forward | Phase::Back(_),
            ) => {
                self.handled(*step, *how, output, at, event)?;
                self.granted = self.granted.saturating_add(*more);
            }
            (Event::Recovered { count }, Phase::Forward | Phase::Back(_)) => {
                self.recoveries = *count;
                self.forgive();
            }
            (Event::Ended { outcome }, Phase::Forward | Phase::Back(_)) => {
                self.phase = Phase::Ended(*outcome);
            }
            (
                Event::Began { .. }
                | Event::Started { .. }
                | Event::Succeeded { .. }
                | Event::Failed { .. }
                | Event::Lost { .. }
                | Event::QueryStarted { .. }
                | Event::FoundDone { .. }
                | Event::FoundNotDone { .. }
                | Event::QueryFailed { .. }
                | Event::Skipped { .. }
                | Event::Parked { .. }
                | Event::TurnedBack { .. }
                | Event::UndoStarted { .. }
                | Event::Undone { .. }
                | Event::UndoFailed { .. }
                | Event::DeadLettered { .. }
                | Event::Handled { .. }
                | Event::Recovered { .. }
                | Event::Ended { .. },
                _,
            ) => return Err(self.refused(event)),
        }
        Ok(())
    }

    fn settle(
        &mut self,
        step: usize,
        event: &Event,
        at: Stamp,
        again: Option<Duration>,
        lost: bool,
    ) -> Result<(), Illegal> {
        let state = self.running(step, event)?;
        state.lost |= lost;
        state.at = again.map_or(At::GivenUp, |again| At::Waiting(at.after(again)));
        Ok(())
    }

    fn start_to_undo(&mut self, step: usize, attempt: u32, event: &Event) -> Result<(), Illegal> {
        let state = &mut self.steps[step];
        match state.at {
            At::UndoWaiting(_) if state.attempts + 1 == attempt => {}
            At::Done | At::GivenUp | At::Skipped if attempt == 1 => state.forgiven = 0,
            _ => return Err(self.refused(event)),
        }
        (state.at, state.attempts) = (At::Undoing, attempt);
        self.turns.forget(step);
        Ok(())
    }

    fn handled(
        &mut self,
        step: usize,
        how: Hand,
        output: &Option<Value>,
        at: Stamp,
        event: &Event,
    ) -> Result<(), Illegal> {
        let state = &mut self.steps[step];
        match (&state.at, how) {
            (At::Dead(_), Hand::Retry) => {
                state.forgiven = state.attempts;
                state.at = At::UndoWaiting(at);
            }
            (At::Dead(_), Hand::Skip) => state.at = At::NotUndone,
            (At::Dead(_), Hand::Resolve) => state.at = At::Resolved,
            (At::Stuck(_), Hand::Retry) => {
                state.forgiven = state.attempts;
                state.at = At::Waiting(at);
            }
            (At::Stuck(_), Hand::Skip) => (state.at, state.output) = (At::Skipped, output.clone()),
            (At::Stuck(_), Hand::Resolve) => {
                let output = output.clone().unwrap_or_default();
                (state.at, state.output) = (At::Done, Some(output));
                // It may go back, even if it was never begun here.
                self.has_begun(step);
            }
            _ => return Err(self.refused(event)),
        }
        self.recoveries = 0;
        Ok(())
    }

    /// The end of a process says nothing of what it was about to do: an attempt that it cut short does not
    /// count, where there may be several.
    fn forgive(&mut self) {
        let may_repeat = |tries: Option<Tries>| tries.is_some_and(|tries| tries.attempts() > 1);
        for (step, state) in self.definition.steps().zip(&mut self.steps) {
            let tries = match state.at {
                At::Running => Some(step.own_tries()),
                At::Undoing => step.undo_tries(),
                _ => None,
            };
            state.forgiven += u32::from(may_repeat(tries));
        }
    }

    fn has_begun(&mut self, step: usize) {
        if !self.order.contains(&step) {
            self.order.push(step);
        }
    }

    /// A step that has failed for good, or may not begin because the log has no room.
    fn leave(&mut self, step: usize, event: &Event) -> Result<&mut StepState, Illegal> {
        match self.steps[step].at {
            At::GivenUp | At::Pending | At::Waiting(_) | At::QueryWaiting(_) => {
                Ok(&mut self.steps[step])
            }
            _ => Err(self.refused(event)),
        }
    }

    /// A step that cannot be undone, or may not be because the log has no room.
    fn leave_done(&mut self, step: usize, event: &Event) -> Result<&mut StepState, Illegal> {
        match self.steps[step].at {
            At::Undoing | At::UndoWaiting(_) => {}
            At::Done | At::GivenUp | At::Skipped => {
                let state = &mut self.steps[step];
                (state.attempts, state.forgiven) = (0, 0);
            }
            _ => return Err(self.refused(event)),
        }
        Ok(&mut self.steps[step])
    }

    fn querying(&mut self, step: usize, event: &Event) -> Result<&mut StepState, Illegal> {
        if self.steps[step].at != At::Querying {
            return Err(self.refused(event));
        }
        Ok(&mut self.steps[step])
    }

    fn running(&mut self, step: usize, event: &Event) -> Result<&mut StepState, Illegal> {
        if self.steps[step].at != At::Running {
            return Err(self.refused(event));
        }
        Ok(&mut self.steps[step])
    }

    fn undoing(&mut self, step: usize, event: &Event) -> Result<&mut StepState, Illegal> {
        if self.steps[step].at != At::Undoing {
            return Err(self.refused(event));
        }
        Ok(&mut self.steps[step])
    }

    fn refused(&self, event: &Event) -> Illegal {
        let at = step_of(event).and_then(|step| self.steps.get(step));
        let at = at.map_or(String::new(), |step| format!(", step {:?}", step.at));
        Illegal(format!(
            "{event:?} cannot happen to a saga in {:?}{at}",
            self.phase
        ))
    }
}

fn step_of(event: &Event) -> Option<usize> {
    match event {
        Event::Started { step, .. }
        | Event::Succeeded { step, .. }
        | Event::Failed { step, .. }
        | Event::Lost { step, .. }
        | Event::QueryStarted { step, .. }
        | Event::FoundDone { step, .. }
        | Event::FoundNotDone { step, .. }
        | Event::QueryFailed { step, .. }
        | Event::Skipped { step }
        | Event::UndoStarted { step, .. }
        | Event::Undone { step }
        | Event::UndoFailed { step, .. }
        | Event::DeadLettered { step, .. }
        | Event::Parked { step, .. }
        | Event::Handled { step, .. } => Some(*step),
        Event::Began { .. }
        | Event::TurnedBack { .. }
        | Event::Recovered { .. }
        | Event::Ended { .. } => None,
    }
}
