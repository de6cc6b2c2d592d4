//! Why a call was not made, or not made again, and when to come back.

use std::time::Duration;
use std::{error, fmt};

use crate::config::DAY;

/// "No", said by a policy: why, and when it is worth asking again.
///
/// A rejection is Outlast's own answer, never the dependency's, so no policy counts it as a
/// failure of the dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which policy said no.
    pub reason: Reason,
    /// How long to stay away; `None` when nobody knows.
    pub retry_after: Option<Duration>,
}

impl Rejection {
    /// A rejection without a hint when to come back.
    pub const fn new(reason: Reason) -> Rejection {
        Rejection {
            reason,
            retry_after: None,
        }
    }

    /// A rejection that knows when to come back.
    pub const fn after(reason: Reason, wait: Duration) -> Rejection {
        Rejection {
            reason,
            retry_after: Some(wait),
        }
    }

    /// The same with a hint that is up to twice as long, by `unit` from 0 to 1: the random number
    /// of whoever tells it to a caller. Jitter as wide as the wait itself keeps those who were
    /// turned away together from coming back together. Without a hint, the same.
    pub fn jittered(self, unit: f64) -> Rejection {
        let spread = |wait: Duration| wait.saturating_add(wait.mul_f64(unit.clamp(0.0, 1.0)));
        Rejection {
            retry_after: self.retry_after.map(|wait| spread(wait.min(DAY))),
            ..self
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.sentence())?;
        match self.retry_after {
            Some(wait) => write!(f, "; come back in {wait:.3?}"),
            None => Ok(()),
        }
    }
}

impl error::Error for Rejection {}

/// The policy that said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Every endpoint's breaker is open, or half-open with all trials taken.
    Open,
    /// No endpoint is healthy: all are ejected, failed their checks or are evacuated.
    Unhealthy,
    /// The dependency asked to be left alone for longer than this call may wait.
    Overload,
    /// All seats of the bulkhead are taken and its queue is full.
    Full,
    /// The call waited for a seat as long as it may.
    QueueTimeout,
    /// The rate limit is used up.
    Rate,
    /// The caller's deadline has come, or nothing useful fits before it.
    Deadline,
    /// The attempt took longer than its timeout.
    Timeout,
    /// Another attempt was wanted, but the budget for extra attempts is empty.
    Budget,
    /// All attempts that the retry policy allows have been used.
    Attempts,
    /// Another attempt was wanted, but the call may not be repeated.
    NotIdempotent,
    /// A fault was injected on purpose.
    Fault,
    /// There is more to do than can be done, and others matter more or came in better time.
    Shed,
    /// The dependency refuses so many calls that this one was not even sent.
    Throttled,
}

impl Reason {
    /// All reasons, in the order of [`Reason::index`].
    pub const ALL: [Reason; 14] = [
        Reason::Open,
        Reason::Unhealthy,
        Reason::Overload,
        Reason::Full,
        Reason::QueueTimeout,
        Reason::Rate,
        Reason::Deadline,
        Reason::Timeout,
        Reason::Budget,
        Reason::Attempts,
        Reason::NotIdempotent,
        Reason::Fault,
        Reason::Shed,
        Reason::Throttled,
    ];

    /// A stable snake_case name for metrics, logs and problem documents.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Open => "open",
            Reason::Unhealthy => "unhealthy",
            Reason::Overload => "overload",
            Reason::Full => "full",
            Reason::QueueTimeout => "queue_timeout",
            Reason::Rate => "rate",
            Reason::Deadline => "deadline",
            Reason::Timeout => "timeout",
            Reason::Budget => "budget",
            Reason::Attempts => "attempts",
            Reason::NotIdempotent => "not_idempotent",
            Reason::Fault => "fault",
            Reason::Shed => "shed",
            Reason::Throttled => "throttled",
        }
    }

    /// The position in [`Reason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    const fn sentence(self) -> &'static str {
        match self {
            Reason::Open => "the circuit breaker is open",
            Reason::Unhealthy => "no endpoint is healthy",
            Reason::Overload => "the dependency is overloaded and asked for a pause",
            Reason::Full => "the bulkhead and its queue are full",
            Reason::QueueTimeout => "no seat in the bulkhead became free in time",
            Reason::Rate => "the rate limit is used up",
            Reason::Deadline => "the deadline has come",
            Reason::Timeout => "the attempt timed out",
            Reason::Budget => "the budget for extra attempts is empty",
            Reason::Attempts => "all attempts are used up",
            Reason::NotIdempotent => "the call may not be repeated",
            Reason::Fault => "a fault was injected",
            Reason::Shed => "there is more to do than can be done",
            Reason::Throttled => "the dependency refuses most calls",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_why_and_when() {
        let rejection = Rejection::after(Reason::Open, Duration::from_millis(1500));
        assert_eq!(
            rejection.to_string(),
            "the circuit breaker is open; come back in 1.500s"
        );
        assert_eq!(
            Rejection::new(Reason::Budget).to_string(),
            "the budget for extra attempts is empty"
        );
    }

    #[test]
    fn jitter_is_as_wide_as_the_wait() {
        let shed = |millis| Rejection::after(Reason::Shed, Duration::from_millis(millis));
        assert_eq!(shed(100).jittered(0.0), shed(100));
        assert_eq!(shed(100).jittered(0.5), shed(150));
        assert_eq!(shed(100).jittered(7.0), shed(200));
        let unknown = Rejection::new(Reason::Full);
        assert_eq!(unknown.jittered(0.5), unknown);
        let never = Rejection::after(Reason::Open, Duration::MAX).jittered(1.0);
        assert_eq!(never.retry_after, Some(2 * DAY));
    }

    #[test]
    fn indexes_and_names_are_unique() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), at);
            assert_eq!(
                Reason::ALL
                    .iter()
                    .filter(|other| other.name() == reason.name())
                    .count(),
                1
            );
        }
    }
}
