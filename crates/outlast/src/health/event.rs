//! What happens to the health of an instance, for whoever listens.

use std::panic::{AssertUnwindSafe, catch_unwind};

use outlast_core::health::Change;

/// Something that happened to the health of this instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A check changed its status.
    Changed {
        /// Its name.
        check: &'a str,
        /// From what to what.
        change: Change,
        /// Why it is not up.
        error: Option<&'a str>,
    },
    /// A probe failed, whether or not that changes the status.
    Failed {
        /// The name of its check.
        check: &'a str,
        /// Why.
        error: &'a str,
    },
    /// A watched executor runs nothing any more.
    Stuck {
        /// Its name.
        executor: &'a str,
    },
    /// It runs again.
    Unstuck {
        /// Its name.
        executor: &'a str,
    },
}

pub(super) type Observer = Box<dyn Fn(&Event<'_>) + Send + Sync>;

/// An observer that panics loses an event, and keeps nobody from being probed.
pub(super) fn tell(observer: &Observer, event: &Event<'_>) {
    let _ = catch_unwind(AssertUnwindSafe(|| observer(event)));
}

/// An observer that logs with `tracing`, under the target `outlast`: a stuck executor as an error, a
/// check that is down as a warning, their ends as information, every failed probe at debug level.
#[cfg(feature = "tracing")]
pub fn log(event: &Event<'_>) {
    use outlast_core::health::Status;

    match *event {
        Event::Changed {
            check,
            change,
            error,
        } => match change.to {
            Status::Down => tracing::warn!(target: TARGET, check, error, "a check is down"),
            Status::Up => tracing::info!(target: TARGET, check, "a check is up"),
            Status::Pending => tracing::info!(target: TARGET, check, "a check is pending"),
        },
        Event::Failed { check, error } => {
            tracing::debug!(target: TARGET, check, error, "a probe failed");
        }
        Event::Stuck { executor } => {
            tracing::error!(target: TARGET, executor, "an executor is stuck");
        }
        Event::Unstuck { executor } => {
            tracing::info!(target: TARGET, executor, "an executor runs again");
        }
    }
}

#[cfg(feature = "tracing")]
const TARGET: &str = "outlast";
