//! Whether another answer may stand in for the dependency's.
//!
//! The driver holds the answers (a value, a closure, a cache of stale ones); this decides whether
//! they may be used, so that library, gateway and simulator agree.
//!
//! A fallback covers what the caller cannot help: rejections, timeouts, transient failures and
//! overload. It never covers a [`Permanent`](crate::outcome::Outcome::Permanent) outcome unless
//! told so, because a definite "no" (a declined card) is an answer, and hiding it is a bug.

use crate::outcome::Outcome;
use crate::reject::Rejection;

/// Why a fallback was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No attempt gave a result.
    Rejected(Rejection),
    /// The last attempt had this outcome.
    Failed(Outcome),
}

/// What a fallback covers.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    permanent: bool,
    enforce: bool,
}

impl Default for Config {
    /// Everything but permanent outcomes.
    fn default() -> Config {
        Config {
            permanent: false,
            enforce: true,
        }
    }
}

impl Config {
    /// Also covers permanent outcomes. Default `false`.
    pub fn cover_permanent(mut self, cover: bool) -> Config {
        self.permanent = cover;
        self
    }

    /// `false`: shadow mode. It counts the answers it would have replaced, and replaces none.
    /// Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    pub(crate) fn is_enforced(&self) -> bool {
        self.enforce
    }

    /// Whether it covers this.
    pub(crate) fn covers(&self, why: Why) -> bool {
        match why {
            Why::Rejected(_)
            | Why::Failed(Outcome::Transient | Outcome::Unsent | Outcome::Overload { .. }) => true,
            Why::Failed(Outcome::Permanent) => self.permanent,
            Why::Failed(Outcome::Success | Outcome::Ignored) => false,
        }
    }
}
