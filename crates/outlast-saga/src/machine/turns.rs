//! When the next attempts may begin, beside what the log says: the definition is paused, or retries wait
//! for their turn.
//!
//! None of it is on the log. It is said by the process that goes on with a saga, and the next process
//! says it anew; two sagas with the same log are the same, whatever their turns are.

use super::*;

/// What the log does not say.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    is_paused: bool,
    bounds: Option<Arc<Bounds>>,
    of_steps: Vec<Turn>,
}

/// It makes no difference between sagas.
impl PartialEq for Turns {
    fn eq(&self, _: &Turns) -> bool {
        true
    }
}

/// The turn of the next attempt of a step that waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    /// It asks when its wait is over.
    #[default]
    Asks,
    /// It asks again then.
    AsksAt(Stamp),
    /// It begins then, and need not ask.
    Has(Stamp),
    /// There is none for it.
    None,
}

impl Turns {
    pub(super) fn new(steps: usize) -> Turns {
        Turns {
            of_steps: vec![Turn::default(); steps],
            ..Turns::default()
        }
    }

    pub(super) fn give(&mut self, step: usize, now: Stamp) {
        self.of_steps[step] = Turn::Has(now);
    }

    pub(super) fn forget(&mut self, step: usize) {
        self.of_steps[step] = Turn::Asks;
    }
}

impl Saga {
    /// From now on its retries are counted together with those of others. Without bounds they begin when
    /// their waits are over.
    pub fn share(&mut self, bounds: Arc<Bounds>) {
        self.turns.bounds = Some(bounds);
    }

    /// Whether nothing begins: attempts that run end, what is undone goes on to be undone, and a deadline
    /// still turns it back. [`Saga::wake`] does what follows.
    pub fn pause(&mut self, pause: bool) {
        self.turns.is_paused = pause;
    }

    /// Whether nothing begins.
    pub fn is_paused(&self) -> bool {
        self.turns.is_paused
    }

    /// Whether there is a step whose next attempt has its time.
    pub(crate) fn waits(&self) -> bool {
        let waits = |step: &StepState| {
            matches!(
                step.at,
                At::Waiting(_) | At::QueryWaiting(_) | At::UndoWaiting(_)
            )
        };
        self.steps.iter().any(waits)
    }

    /// When something is to be done about a step that waits.
    pub(super) fn due(&self, step: usize) -> Option<Stamp> {
        let due = match self.steps[step].at {
            At::Waiting(due) | At::UndoWaiting(due) => due,
            // Who asks a question repeats no work.
            At::QueryWaiting(due) => return Some(due),
            _ => return None,
        };
        match self.turns.of_steps[step] {
            Turn::AsksAt(turn) | Turn::Has(turn) => Some(due.max(turn)),
            Turn::Asks | Turn::None => Some(due),
        }
    }

    /// Whether the next attempt of a step begins now.
    pub(super) fn has_turn(&self, step: usize, now: Stamp) -> bool {
        let is_due = self.due(step).is_some_and(|due| due <= now);
        is_due && (self.turns.bounds.is_none() || matches!(self.turns.of_steps[step], Turn::Has(_)))
    }

    pub(super) fn has_no_turn(&self, step: usize) -> bool {
        self.turns.of_steps[step] == Turn::None
    }

    /// The step whose undoing waits, and that comes next; none while something is being done.
    pub(super) fn next_undo(&self) -> Option<usize> {
        if self.steps.iter().any(StepState::is_running) {
            return None;
        }
        let waits = |step: &usize| matches!(self.steps[*step].at, At::UndoWaiting(_));
        self.order.iter().rev().copied().find(waits)
    }

    /// Asks for a turn for what would begin now. Nothing is asked for that would not.
    pub(super) fn take_turns(&mut self, now: Stamp) {
        let Some(bounds) = self.turns.bounds.clone() else {
            return;
        };
        let asks = |saga: &Saga, step: usize| {
            let is_retry = matches!(saga.steps[step].at, At::Waiting(_) | At::UndoWaiting(_));
            let is_due = is_retry && saga.due(step).is_some_and(|due| due <= now);
            is_due && !matches!(saga.turns.of_steps[step], Turn::Has(_))
        };
        match self.phase {
            Phase::Forward if !self.is_paused() && !self.is_late(now) => {
                for step in 0..self.steps.len() {
                    if asks(self, step) {
                        self.turns.of_steps[step] = self.ask_to_retry(&bounds, step, now);
                    }
                }
            }
            Phase::Back(_) => {
                if let Some(step) = self.next_undo().filter(|step| asks(self, *step)) {
                    let turn = bounds.undo(step, now);
                    self.turns.of_steps[step] = turn.map_or_else(Turn::AsksAt, Turn::Has);
                }
            }
            Phase::New | Phase::Forward | Phase::Ended(_) => {}
        }
    }

    fn ask_to_retry(&self, bounds: &Bounds, step: usize, now: Stamp) -> Turn {
        if bounds.retry(step, now) {
            return Turn::Has(now);
        }
        let (state, tries) = (&self.steps[step], self.step_of(step).own_tries());
        let wait = tries.wait(state.counted(), self.unit(step, state.attempts));
        // Another number each time, so that nobody is always late.
        let unit = self.unit(step, now.0 as u32);
        Turn::AsksAt(now.after(bounds.again(step, wait, unit)))
    }

    /// What an attempt that has ended means for others; and whether there is another one, if it is not
    /// worth to wait for its turn.
    pub(super) fn settle_turn(&mut self, step: usize, acted: &Acted, now: Stamp) {
        let Some(bounds) = self.turns.bounds.clone() else {
            return;
        };
        let described = self.step_of(step);
        let again = match acted {
            Acted::Done(_) => {
                bounds.succeeded(step, now);
                false
            }
            Acted::Permanent(_) => false,
            Acted::Transient { .. } => true,
            Acted::Unknown(_) => {
                !described.compensates_unknown() && described.query_tries().is_none()
            }
        };
        let counted = self.steps[step].counted();
        let has_more = again && counted < described.own_tries().attempts();
        if has_more && described.is_best_effort() && self.phase == Phase::Forward {
            let granted = bounds.retry(step, now);
            self.turns.of_steps[step] = if granted { Turn::Has(now) } else { Turn::None };
        }
    }
}
