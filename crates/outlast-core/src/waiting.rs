//! One caller that waits for its turn, and how it hears of it.
//!
//! A queue holds one end, the caller's ticket the other. The queue decides once, under its lock:
//! granted or refused; whoever decided wakes the caller after it has let go of the lock, because a
//! waker is foreign code.

use std::task::Waker;

use crate::sync::{Mutex, lock};

#[derive(Debug, Default)]
pub(crate) struct Waiter {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answer: Answer,
    waker: Option<Waker>,
}

/// What has become of somebody who waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answer {
    #[default]
    Waits,
    Granted,
    Refused,
}

impl Waiter {
    pub(crate) fn answer(&self) -> Answer {
        lock(&self.state).answer
    }

    /// Decides, under the queue's lock.
    pub(crate) fn decide(&self, answer: Answer) {
        lock(&self.state).answer = answer;
    }

    /// Tells the caller, outside of the queue's lock.
    pub(crate) fn wake(&self) {
        let waker = lock(&self.state).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes `waker` when it is decided; the last one set counts. If it has been, `waker` is woken
    /// at once.
    pub(crate) fn listen(&self, waker: &Waker) {
        let mut state = lock(&self.state);
        if state.answer != Answer::Waits {
            drop(state);
            return waker.wake_by_ref();
        }
        match &mut state.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }
}
