//! What happens to a saga: the facts that its log is made of.
//!
//! A fact is on the disk before anything is done about it. What belongs together is one record: that a
//! step succeeded and that the next one begins are never known one without the other.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Milliseconds since 1970, as a log keeps them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp(pub u64);

impl Stamp {
    /// So much later.
    pub fn after(self, wait: Duration) -> Stamp {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Stamp(self.0.saturating_add(millis))
    }

    /// So much earlier.
    pub(crate) fn before(self, time: Duration) -> Stamp {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Stamp(self.0.saturating_sub(millis))
    }

    /// How much later than another one it is; nothing if it is not.
    pub fn since(self, earlier: Stamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Counted from 0, without gaps.
    pub seq: u64,
    /// When.
    pub at: Stamp,
    /// What, in its order.
    pub events: Vec<Event>,
}

/// A fact. Steps are numbers in the definition's order, attempts count from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The saga begins.
    Began {
        /// The name of its definition.
        definition: String,
        /// The version of that.
        version: u32,
        /// The hash of that.
        hash: String,
        /// What it begins with.
        input: Value,
    },
    /// An attempt is about to be made.
    Started {
        /// The step.
        step: usize,
        /// Which one.
        attempt: u32,
    },
    /// It did its work.
    Succeeded {
        /// The step.
        step: usize,
        /// What it gave.
        output: Value,
    },
    /// It did not do it, and that is known.
    Failed {
        /// The step.
        step: usize,
        /// Why.
        error: String,
        /// Another one is made after this; none if it is given up.
        again: Option<Duration>,
    },
    /// Nobody knows whether it did it.
    Lost {
        /// The step.
        step: usize,
        /// Why.
        error: String,
        /// Another one, with the same key, is made after this; none if it is given up, or asked about.
        again: Option<Duration>,
        /// Somebody is asked whether it did.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        asks: bool,
    },
    /// Somebody is about to be asked whether a step was done.
    QueryStarted {
        /// The step.
        step: usize,
        /// Which time.
        attempt: u32,
    },
    /// Whoever was asked says that it was done.
    FoundDone {
        /// The step.
        step: usize,
        /// What it gave.
        output: Value,
    },
    /// Whoever was asked says that it was not done.
    FoundNotDone {
        /// The step.
        step: usize,
        /// Another attempt is made after this; none if it is given up.
        again: Option<Duration>,
    },
    /// It is still not known.
    QueryFailed {
        /// The step.
        step: usize,
        /// Why.
        error: String,
        /// It is asked again after this; none if the step is given up.
        again: Option<Duration>,
    },
    /// A step that is best effort is given up.
    Skipped {
        /// The step.
        step: usize,
    },
    /// It goes back from here.
    TurnedBack {
        /// Why.
        cause: Cause,
    },
    /// An attempt to undo a step is about to be made.
    UndoStarted {
        /// The step.
        step: usize,
        /// Which one.
        attempt: u32,
    },
    /// A step is undone.
    Undone {
        /// The step.
        step: usize,
    },
    /// It could not be undone, or nobody knows.
    UndoFailed {
        /// The step.
        step: usize,
        /// Why.
        error: String,
        /// Another attempt is made after this.
        again: Duration,
    },
    /// It could not be undone, and somebody has to look.
    DeadLettered {
        /// The step.
        step: usize,
        /// Why.
        error: String,
    },
    /// It does not go on by itself: a step from which there is no way back has failed, or the log has no
    /// room for an attempt.
    Parked {
        /// The step.
        step: usize,
        /// Why.
        error: String,
    },
    /// Somebody did something about a step that needs it.
    Handled {
        /// The step.
        step: usize,
        /// What.
        how: Hand,
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// What the step gave, by hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Value>,
        /// So many more records may the log have.
        #[serde(default, skip_serializing_if = "is_zero")]
        more: u64,
    },
    /// A process began to go on with it.
    Recovered {
        /// How often that has happened without any progress.
        count: u32,
    },
    /// It has ended.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// Why a saga goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// A step was given up.
    Step {
        /// The step.
        step: usize,
    },
    /// Somebody asked for it.
    Cancelled {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// It took too long.
    Deadline,
}

/// What somebody does about a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hand {
    /// It is tried again, as often as at first.
    Retry,
    /// It is left as it is: the saga goes on without it, or it stays without being undone.
    Skip,
    /// It is taken for done, or undone, by other means.
    Resolve,
}

impl Hand {
    /// A stable snake_case name.
    pub const fn name(self) -> &'static str {
        match self {
            Hand::Retry => "retry",
            Hand::Skip => "skip",
            Hand::Resolve => "resolve",
        }
    }
}

/// How a saga ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was done, but for steps that are best effort or were skipped by hand.
    Completed,
    /// Everything that was done is undone, but for what somebody left as it is.
    Compensated,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
