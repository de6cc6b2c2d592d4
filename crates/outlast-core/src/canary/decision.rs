//! What was decided, and on which evidence.

use std::fmt;
use std::time::Duration;

use crate::ratio::Ratio;
use crate::time::Time;

/// A decision about a canary, by the analysis or by hand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// When.
    pub at: Time,
    /// What changed.
    pub what: What,
    /// Why.
    pub why: Why,
    /// How both versions did in the step that this ends or interrupts.
    pub seen: Comparison,
}

/// What a decision changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// More traffic goes to the new version.
    Promoted {
        /// The share from now on.
        share: Ratio,
    },
    /// The new version is the only one; the way back is closed.
    Done,
    /// All traffic goes to the old version.
    RolledBack,
    /// The share stays where it is until a hand resumes, promotes or aborts. Rollback stays armed.
    Paused,
    /// The step begins again.
    Resumed,
    /// A rollout that was over begins again, from its first step.
    Restarted,
}

impl What {
    /// A stable snake_case name for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            What::Promoted { .. } => "promoted",
            What::Done => "done",
            What::RolledBack => "rolled_back",
            What::Paused => "paused",
            What::Resumed => "resumed",
            What::Restarted => "restarted",
        }
    }
}

/// The reason of a decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// By hand.
    Manual,
    /// Time, calls and analysis of the step are complete and good.
    Passed,
    /// The time to watch the new version alone is over.
    Watched,
    /// The new version fails too often.
    Errors {
        /// The ratio that is too much.
        allowed: Ratio,
        /// How much likelier these errors are if it is too bad than if it is like the old one,
        /// up to a million.
        odds: f64,
    },
    /// The new version answers too slowly.
    Latency {
        /// How many times as long answers may take.
        allowed: f64,
        /// How strongly the ranks speak for slower than that: one is not at all, a million is the
        /// most.
        odds: f64,
    },
    /// The step's limit passed without a clear answer.
    Undecided,
}

/// Both versions, side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The old version.
    pub baseline: Seen,
    /// The new version.
    pub canary: Seen,
}

/// What was seen of one version in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Calls that ended.
    pub calls: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// The median time of the others.
    pub median: Option<Duration>,
}

impl fmt::Display for Decision {
    /// One sentence, for example `rolled back: errors beyond the allowed 0.6% (odds 145 to 1);
    /// canary 4 of 41 failed, median 12ms; baseline 0 of 380 failed, median 11ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { baseline, canary } = self.seen;
        write!(
            f,
            "{}: {}; canary {canary}; baseline {baseline}",
            self.what, self.why
        )
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Promoted { share } => write!(f, "promoted to {}%", percent(*share)),
            What::Done => write!(f, "done"),
            What::RolledBack => write!(f, "rolled back"),
            What::Paused => write!(f, "paused"),
            What::Resumed => write!(f, "resumed"),
            What::Restarted => write!(f, "restarted"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Manual => write!(f, "by hand"),
            Why::Passed => write!(f, "no worse than allowed"),
            Why::Watched => write!(f, "nothing wrong while it was watched alone"),
            Why::Errors { allowed, odds } => {
                let allowed = percent(*allowed);
                write!(
                    f,
                    "errors beyond the allowed {allowed}% (odds {odds:.0} to 1)"
                )
            }
            Why::Latency { allowed, odds } => {
                write!(
                    f,
                    "slower than the allowed {allowed} times (odds {odds:.0} to 1)"
                )
            }
            Why::Undecided => write!(f, "no clear answer within the limit of a step"),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} failed", self.errors, self.calls)?;
        match self.median {
            Some(median) => write!(f, ", median {median:?}"),
            None => Ok(()),
        }
    }
}

fn percent(share: Ratio) -> f64 {
    (share.as_f64() * 1e6).round() / 1e4
}
