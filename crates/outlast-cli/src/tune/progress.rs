//! How far it is, if somebody looks.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// A line on standard error.
pub(super) struct Progress {
    most: u64,
    done: AtomicU64,
    shown: bool,
}

impl Progress {
    /// Of at most so many runs.
    pub(super) fn new(most: u64) -> Progress {
        Progress {
            most,
            done: AtomicU64::new(0),
            shown: io::stderr().is_terminal(),
        }
    }

    /// One more is done.
    pub(super) fn step(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if self.shown {
            // Who does not see it misses nothing.
            let _ = write!(io::stderr(), "\r{done} runs of at most {} ", self.most);
        }
    }

    pub(super) fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
