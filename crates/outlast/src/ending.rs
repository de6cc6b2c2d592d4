//! From the machine's last step to what the caller gets.

use std::hash::Hash;

use outlast_core::call::AttemptId;
use outlast_core::fallback::Why;
use outlast_core::outcome::Outcome;
use outlast_core::reject::Rejection;
use outlast_core::time::Time;

use crate::error::Error;
use crate::stale::{Answer, Stale};
use crate::upstream::Inner;

/// How a call ended: what to return, and why a fallback might answer instead.
pub(crate) struct Ending<T, E> {
    pub(crate) result: Result<T, Error<E>>,
    /// `None` for a success.
    pub(crate) why: Option<Why>,
    /// When a fallback has to be done.
    pub(crate) deadline: Time,
    /// How many attempts were made.
    #[cfg_attr(
        not(feature = "tokio"),
        expect(dead_code, reason = "told by opened calls, which are async")
    )]
    pub(crate) attempts: u32,
}

/// The latest result of an attempt, kept until the machine asks for it.
pub(crate) struct Latest<T, E> {
    pub(crate) id: AttemptId,
    pub(crate) outcome: Outcome,
    pub(crate) result: Result<T, E>,
}

impl<T, E> Ending<T, E> {
    pub(crate) fn rejected(rejection: Rejection, attempts: u32, deadline: Time) -> Ending<T, E> {
        Ending {
            result: Err(Error::Rejected(rejection)),
            why: Some(Why::Rejected(rejection)),
            deadline,
            attempts,
        }
    }

    /// A result that is `Ok` is returned as it is, also when it was judged a failure: a response
    /// with status 503 is still the response.
    pub(crate) fn done(
        latest: Latest<T, E>,
        id: AttemptId,
        stop: Option<Rejection>,
        attempts: u32,
        deadline: Time,
    ) -> Ending<T, E> {
        assert_eq!(latest.id, id, "the machine asks for the latest result only");
        let result = latest.result.map_err(|error| match stop {
            None => Error::Inner(error),
            Some(stop) => Error::Exhausted {
                attempts,
                last: error,
                stop,
            },
        });
        let why = Why::Failed(latest.outcome);
        Ending {
            result,
            why: (latest.outcome != Outcome::Success).then_some(why),
            deadline,
            attempts,
        }
    }

    /// Remembers a good answer, or recalls the last one instead of this.
    pub(crate) fn or_stale<K>(
        self,
        inner: &Inner,
        cache: &Stale<K, T>,
        key: K,
    ) -> Result<Answer<T>, Error<E>>
    where
        K: Hash + Eq,
        T: Clone,
    {
        let now = inner.clock.now();
        let Some(why) = self.why else {
            return self.result.map(|value| {
                cache.remember(key, value.clone(), now);
                Answer::Fresh(value)
            });
        };
        match cache.recall(&key, now) {
            Some((value, age)) if inner.core.falls_back(why) => {
                Ok(Answer::Stale { value, age, why })
            }
            _ => self.result.map(Answer::Fresh),
        }
    }

    /// The result of a fallback instead of this one's.
    pub(crate) fn replace(self, fallback: Result<T, E>) -> Result<T, Error<E>> {
        match (fallback, self.result) {
            (Ok(answer), _) => Ok(answer),
            (Err(error), Err(original)) => Err(Error::Fallback {
                error,
                original: Box::new(original),
            }),
            (Err(_), Ok(response)) => Ok(response),
        }
    }
}
