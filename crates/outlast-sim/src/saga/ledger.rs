//! What services know of a saga: by the keys of its steps, what was done and undone, how often.
//!
//! A service that keeps keys does the work of one once, and never what it was asked to undo before, nor
//! an attempt of which it said that it was not done. One that does not works as often as it is asked; it
//! can be asked whether it did, and an attempt that comes late is done all the same.

/// What a request is for: of which saga, which step, and what about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) saga: u32,
    pub(crate) step: u16,
    pub(crate) work: Work,
    /// The saga's attempt of that work; of a question, the attempt that it is about.
    pub(crate) attempt: u32,
}

/// What is done about a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Act,
    Undo,
    /// Somebody is asked whether it was done.
    Query,
}

/// What was done for one saga.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    steps: Vec<Entry>,
    /// In which order steps were undone.
    undone: Vec<u16>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// How often its work was done.
    done: u32,
    /// How often that was undone.
    undone: u32,
    /// It was asked to undo it, so that it never does it from then on.
    refuses: bool,
    /// It said of the attempts up to this one that they were not done, so that it never does them.
    closed: u32,
    /// It was asked through a service that does not keep keys.
    forgets: bool,
}

impl Ledger {
    pub(crate) fn new(steps: usize) -> Ledger {
        Ledger {
            steps: vec![Entry::default(); steps],
            undone: Vec::new(),
        }
    }

    /// A service has worked on a request; whether the step is done, or undone, by now.
    pub(crate) fn works(&mut self, mark: Mark, keeps_keys: bool) -> bool {
        let entry = &mut self.steps[usize::from(mark.step)];
        entry.forgets |= !keeps_keys;
        match mark.work {
            Work::Act if keeps_keys && (entry.refuses || mark.attempt <= entry.closed) => {
                return !entry.refuses && entry.done > 0;
            }
            Work::Act => {
                if !keeps_keys || entry.done == 0 {
                    entry.done += 1;
                }
            }
            Work::Undo => {
                entry.refuses = true;
                if entry.done > entry.undone {
                    entry.undone += 1;
                    self.undone.push(mark.step);
                }
            }
            Work::Query if entry.done > entry.undone => {}
            Work::Query => {
                if keeps_keys {
                    entry.closed = entry.closed.max(mark.attempt);
                }
                return false;
            }
        }
        true
    }

    /// Whether the work of a step was done, and not undone since.
    pub(crate) fn is_left(&self, step: usize) -> bool {
        self.steps[step].done > self.steps[step].undone
    }

    /// Whether the work of a step was ever done.
    pub(crate) fn was_done(&self, step: usize) -> bool {
        self.steps[step].done > 0
    }

    /// Whether all that was asked for a step kept its key.
    pub(crate) fn kept_key(&self, step: usize) -> bool {
        !self.steps[step].forgets
    }

    /// In which order steps were undone.
    pub(crate) fn undone(&self) -> &[u16] {
        &self.undone
    }

    /// How often work was done once more for the same key.
    pub(crate) fn twice(&self) -> u64 {
        let more = |entry: &Entry| u64::from(entry.done.saturating_sub(1));
        self.steps.iter().map(more).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACT: Mark = Mark {
        saga: 0,
        step: 0,
        work: Work::Act,
        attempt: 1,
    };
    const UNDO: Mark = Mark {
        work: Work::Undo,
        ..ACT
    };
    const QUERY: Mark = Mark {
        work: Work::Query,
        ..ACT
    };

    #[test]
    fn who_keeps_keys_works_once() {
        let mut ledger = Ledger::new(1);
        assert!(ledger.works(ACT, true) && ledger.works(ACT, true));
        assert!(ledger.is_left(0) && ledger.twice() == 0);
        assert!(ledger.works(UNDO, true) && ledger.works(UNDO, true));
        assert!(!ledger.is_left(0) && ledger.undone() == [0]);
    }

    #[test]
    fn what_is_to_be_undone_is_not_done_later() {
        let mut ledger = Ledger::new(1);
        assert!(ledger.works(UNDO, true));
        assert!(!ledger.works(ACT, true) && !ledger.was_done(0));
        assert!(ledger.undone().is_empty());
    }

    #[test]
    fn who_does_not_keep_keys_works_as_often_as_asked() {
        let mut ledger = Ledger::new(1);
        assert!(ledger.works(ACT, false) && ledger.works(ACT, false));
        assert_eq!((ledger.twice(), ledger.kept_key(0)), (1, false));
        assert!(ledger.works(UNDO, false) && ledger.is_left(0));
    }

    #[test]
    fn who_is_asked_says_what_was_done_and_keeps_to_it() {
        let mut ledger = Ledger::new(1);
        assert!(!ledger.works(QUERY, true), "it was not done");
        assert!(!ledger.works(ACT, true), "it comes late");
        let again = Mark { attempt: 2, ..ACT };
        assert!(ledger.works(again, true) && ledger.works(QUERY, true));
        assert!(ledger.works(ACT, true), "it has been done meanwhile");
        assert_eq!((ledger.is_left(0), ledger.twice()), (true, 0));
        assert!(ledger.works(UNDO, true) && !ledger.works(QUERY, true));
    }

    #[test]
    fn who_keeps_no_keys_does_what_comes_late() {
        let mut ledger = Ledger::new(1);
        assert!(!ledger.works(QUERY, false));
        assert!(ledger.works(ACT, false) && ledger.works(QUERY, false));
        assert!(ledger.is_left(0) && !ledger.kept_key(0));
    }
}
