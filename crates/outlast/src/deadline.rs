//! The current deadline: set by an attempt, inherited by whatever it calls.
//!
//! While an attempt's future is polled, or its blocking closure runs, its end is the *current
//! deadline* of the thread. A nested call on any upstream takes the sooner of that and its own,
//! so a chain of services never works for a caller that has gone. [`scope`] sets one from
//! outside, for example from a request's header.

use std::cell::Cell;
use std::time::Instant;

pub use outlast_core::deadline::Config;
use outlast_core::time::Time;

use crate::clock::{instant_of, time_of};

/// The current deadline; `None` outside of any.
pub fn current() -> Option<Instant> {
    Some(current_time())
        .filter(|&time| time < Time::MAX)
        .and_then(instant_of)
}

/// Runs `work` with the sooner of `deadline` and the current deadline.
pub fn scope_blocking<T>(deadline: Instant, work: impl FnOnce() -> T) -> T {
    let _entered = Entered::new(time_of(deadline).min(current_time()));
    work()
}

#[cfg(feature = "tokio")]
pub use future::{Scope, scope};

#[cfg(feature = "tokio")]
mod future {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Instant;

    use outlast_core::time::Time;

    use super::{Entered, current_time, time_of};

    /// Runs `work` with the sooner of `deadline` and the current deadline. It does not end
    /// `work`; the calls in it end in time.
    pub fn scope<F: Future>(deadline: Instant, work: F) -> Scope<F> {
        Scope {
            deadline: time_of(deadline),
            work,
        }
    }

    pin_project_lite::pin_project! {
        /// The future of [`scope`].
        #[derive(Debug)]
        #[must_use = "futures do nothing unless awaited"]
        pub struct Scope<F> {
            deadline: Time,
            #[pin]
            work: F,
        }
    }

    impl<F: Future> Future for Scope<F> {
        type Output = F::Output;

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
            let this = self.project();
            let _entered = Entered::new((*this.deadline).min(current_time()));
            this.work.poll(cx)
        }
    }
}

/// The current deadline on the timeline of [`Clock`](crate::Clock); never outside of any.
pub(crate) fn current_time() -> Time {
    CURRENT.get()
}

/// Sets the current deadline until it is dropped, also by a panic.
pub(crate) struct Entered {
    before: Time,
}

impl Entered {
    pub(crate) fn new(deadline: Time) -> Entered {
        Entered {
            before: CURRENT.replace(deadline),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

thread_local! {
    static CURRENT: Cell<Time> = const { Cell::new(Time::MAX) };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Clock;

    #[test]
    fn the_sooner_deadline_counts_and_ends_with_its_scope() {
        let now = instant_of(Clock::Precise.now()).unwrap();
        let (sooner, later) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        assert_eq!(current(), None);
        scope_blocking(sooner, || {
            assert_eq!(current(), Some(sooner));
            scope_blocking(later, || assert_eq!(current(), Some(sooner)));
        });
        let panicked = std::panic::catch_unwind(|| scope_blocking(sooner, || panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(current_time(), Time::MAX);
    }
}
