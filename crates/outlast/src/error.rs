//! What a call can end with instead of a result.

use std::time::Duration;
use std::{error, fmt};

use outlast_core::reject::Rejection;

/// Why a call has no result. It stays this one flat type however many policies are on, and the
/// application's own error is never lost in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error<E> {
    /// A policy said no and there is no result of any attempt.
    Rejected(Rejection),
    /// Attempts were made, more were wanted, and a policy said no.
    Exhausted {
        /// How many were made.
        attempts: u32,
        /// The error of the last one that had a result.
        last: E,
        /// Why there was not another.
        stop: Rejection,
    },
    /// The error of the dependency, which no policy wanted to do anything about.
    Inner(E),
    /// The fallback was asked, and failed too.
    Fallback {
        /// Its error.
        error: E,
        /// Why it was asked.
        original: Box<Error<E>>,
    },
}

impl<E> Error<E> {
    /// The "no" of a policy, if one ended the call.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Error::Rejected(rejection)
            | Error::Exhausted {
                stop: rejection, ..
            } => Some(rejection),
            Error::Inner(_) => None,
            Error::Fallback { original, .. } => original.rejection(),
        }
    }

    /// How long to stay away, if anybody knows.
    pub fn retry_after(&self) -> Option<Duration> {
        self.rejection()?.retry_after
    }

    /// The application's own error: that of the fallback if one failed, else that of the last
    /// attempt which had one.
    pub fn inner(&self) -> Option<&E> {
        match self {
            Error::Rejected(_) => None,
            Error::Exhausted { last, .. } => Some(last),
            Error::Inner(error) | Error::Fallback { error, .. } => Some(error),
        }
    }

    /// As [`Error::inner`], by value.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Error::Rejected(_) => None,
            Error::Exhausted { last, .. } => Some(last),
            Error::Inner(error) | Error::Fallback { error, .. } => Some(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Rejected(rejection) => write!(f, "{rejection}"),
            Error::Exhausted {
                attempts: 1,
                last,
                stop,
            } => {
                write!(f, "1 attempt failed: {last}; {stop}")
            }
            Error::Exhausted {
                attempts,
                last,
                stop,
            } => {
                write!(f, "{attempts} attempts failed, last error: {last}; {stop}")
            }
            Error::Inner(error) => write!(f, "{error}"),
            Error::Fallback { error, original } => {
                write!(f, "the fallback failed ({error}) after: {original}")
            }
        }
    }
}

impl<E: error::Error + 'static> error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Rejected(rejection) => Some(rejection),
            Error::Exhausted { last, .. } => Some(last),
            Error::Inner(error) => error.source(),
            Error::Fallback { original, .. } => Some(original),
        }
    }
}

impl<E> From<Rejection> for Error<E> {
    fn from(rejection: Rejection) -> Error<E> {
        Error::Rejected(rejection)
    }
}

#[cfg(test)]
mod tests {
    use outlast_core::reject::Reason;

    use super::*;

    #[test]
    fn the_message_tells_attempts_cause_and_reason() {
        let stop = Rejection::after(Reason::Overload, Duration::from_secs(60));
        let error = Error::Exhausted {
            attempts: 3,
            last: "503",
            stop,
        };
        assert_eq!(
            error.to_string(),
            "3 attempts failed, last error: 503; the dependency is overloaded and asked for a \
             pause; come back in 60.000s"
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
        assert_eq!(error.into_inner(), Some("503"));
    }

    #[test]
    fn a_failed_fallback_keeps_both_errors() {
        let original = Box::new(Error::Inner("primary"));
        let error = Error::Fallback {
            error: "secondary",
            original,
        };
        assert_eq!(
            error.to_string(),
            "the fallback failed (secondary) after: primary"
        );
    }
}
