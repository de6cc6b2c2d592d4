//! What services know of a saga: by the keys of its steps, what was done and undone, how often.
//!
//! A service that keeps keys does the work of one once, and never what it was asked to undo before. One
//! that does not works as often as it is asked.

/// The key of a request: of which saga, which step, and whether it undoes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) saga: u32,
    pub(crate) step: u16,
    pub(crate) undoes: bool,
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
        if mark.undoes {
            entry.refuses = true;
            if entry.done > entry.undone {
                entry.undone += 1;
                self.undone.push(mark.step);
            }
            return true;
        }
        if keeps_keys && entry.refuses {
            return false;
        }
        if !keeps_keys || entry.done == 0 {
            entry.done += 1;
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
        undoes: false,
    };
    const UNDO: Mark = Mark {
        undoes: true,
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
}
