//! What people do about a saga, and how long its log may become.
//!
//! | | a step that cannot be done | a step that cannot be undone |
//! |---|---|---|
//! | retry | is tried again, as often as at first | is tried again, as often as at first |
//! | skip | stays as it is, and the saga goes on without it | stays as it is, and is told to be not undone |
//! | resolve | is taken for done by other means | is taken for undone by other means |
//!
//! A log has a bound for the way forward, and as much again for the way back. At the bound nothing begins:
//! steps wait for somebody, and so do compensations. Whoever has one tried again grants a tenth more, and
//! all of them together not more than the bound. Every other hand brings a step to its end. So no loop of
//! attempts, of processes that die or of hands makes a log grow for ever.

use super::*;

impl Saga {
    /// Somebody does not want it any more: what was done is undone.
    ///
    /// # Errors
    /// If its pivot is done or being done, or it has ended.
    pub fn cancel(&mut self, by: &str, reason: &str, now: Stamp) -> Result<Vec<Event>, Illegal> {
        let refuse = |why: &str| Err(Illegal(why.to_owned()));
        match self.phase {
            Phase::Back(_) => Ok(Vec::new()),
            Phase::Forward if self.is_at_pivot() => {
                refuse("its pivot is being done: it is not known yet whether there is a way back")
            }
            Phase::Forward if !self.is_past_pivot() => {
                let cause = Cause::Cancelled {
                    by: by.to_owned(),
                    reason: reason.to_owned(),
                };
                self.go_on(vec![Event::TurnedBack { cause }], now)
            }
            Phase::Forward => refuse("its pivot is done: it can only go on"),
            Phase::New => refuse("it has not begun"),
            Phase::Ended(_) => refuse("it has ended"),
        }
    }

    /// Whether [`Saga::cancel`] would turn it back.
    pub fn may_cancel(&self) -> bool {
        self.phase == Phase::Forward && !self.is_at_pivot() && !self.is_past_pivot()
    }

    /// Somebody does something about a step that needs it.
    ///
    /// # Errors
    /// If the step needs nobody, or that cannot be done about it.
    pub fn handle(
        &mut self,
        step: usize,
        how: Hand,
        by: &str,
        reason: &str,
        now: Stamp,
    ) -> Result<Vec<Event>, Illegal> {
        self.handle_giving(step, how, None, by, reason, now)
    }

    /// As [`Saga::handle`], with what the step gave: for one that is skipped, or resolved as done.
    ///
    /// # Errors
    /// As [`Saga::handle`], and if there is an output where none can be.
    pub fn handle_giving(
        &mut self,
        step: usize,
        how: Hand,
        output: Option<Value>,
        by: &str,
        reason: &str,
        now: Stamp,
    ) -> Result<Vec<Event>, Illegal> {
        let refuse = |why: String| Err(Illegal(why));
        let name = self.step_of(step).name();
        let is_undo = match self.steps[step].at {
            At::Dead(_) => true,
            At::Stuck(_) => false,
            _ => return refuse(format!("`{name}` does not wait for anybody")),
        };
        if output.is_some() && (is_undo || how == Hand::Retry) {
            let message = "an output is what a step gave: it goes with skip or resolve of one that could not be done";
            return refuse(message.to_owned());
        }
        if !self.hands(step).contains(&how) {
            return refuse(match how {
                Hand::Skip => format!(
                    "`{name}` is the pivot and cannot be skipped: resolve it if it is done, cancel the saga if it is not"
                ),
                Hand::Retry | Hand::Resolve => format!(
                    "its log has {} records and may have no more attempts: skip `{name}` or resolve it, or cancel the saga",
                    self.length
                ),
            });
        }
        let handled = Event::Handled {
            step,
            how,
            by: by.to_owned(),
            reason: reason.to_owned(),
            output,
            more: if how == Hand::Retry { self.more() } else { 0 },
        };
        self.go_on(vec![handled], now)
    }

    /// What may be done about a step now; nothing if it waits for nobody.
    pub fn hands(&self, step: usize) -> Vec<Hand> {
        let how = self.step_of(step);
        let may_skip = match self.steps[step].at {
            At::Dead(_) => true,
            // Without it nobody could say whether there is a way back.
            At::Stuck(_) => !how.is_pivot(),
            _ => return Vec::new(),
        };
        let may_retry = self.length < self.most() + self.more();
        let all = [
            (Hand::Retry, may_retry),
            (Hand::Skip, may_skip),
            (Hand::Resolve, true),
        ];
        let may = all.into_iter().filter(|(_, may)| *may);
        may.map(|(hand, _)| hand).collect()
    }

    /// Steps that could not be undone and that somebody left as they are.
    pub fn not_undone(&self) -> impl Iterator<Item = usize> {
        let steps = self.steps.iter().enumerate();
        steps.filter_map(|(step, state)| (state.at == At::NotUndone).then_some(step))
    }

    /// Nothing more may begin.
    pub(super) fn is_full(&self) -> bool {
        self.length >= self.most()
    }

    pub(super) fn full(&self) -> String {
        let (length, most) = (self.length, self.most());
        format!("its log has {length} records, and {most} are allowed")
    }

    /// How many records it may have where it is.
    fn most(&self) -> u64 {
        let back = match self.phase {
            Phase::Back(_) => self.bound,
            Phase::New | Phase::Forward | Phase::Ended(_) => 0,
        };
        self.bound.saturating_add(back).saturating_add(self.granted)
    }

    /// How many more it may have if somebody has a step tried again.
    fn more(&self) -> u64 {
        let wanted = self.length + (self.bound / 10).max(LEAST_GRANT);
        let left = self.bound.saturating_sub(self.granted);
        wanted.saturating_sub(self.most()).min(left)
    }
}

/// Enough for a few attempts, however small the bound is.
const LEAST_GRANT: u64 = 10;
