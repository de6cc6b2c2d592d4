//! The last good answers, for when there is no new one.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use outlast_core::config::ConfigError;
use outlast_core::fallback::Why;
use outlast_core::time::Time;

/// A bounded cache of answers with a maximum age. When it is full, the answer that was least
/// recently used is forgotten. A stale answer that is given out is never stored as a fresh one.
#[derive(Debug)]
pub struct Stale<K: Hash + Eq, T> {
    answers: Mutex<LruCache<K, (T, Time)>>,
    max_age: Duration,
    fresh: Duration,
}

impl<K: Hash + Eq, T: Clone> Stale<K, T> {
    /// A cache of at most `entries` answers, none of which is given out at `max_age` or older.
    ///
    /// # Errors
    /// For no entries, or no age.
    pub fn new(entries: usize, max_age: Duration) -> Result<Stale<K, T>, ConfigError> {
        let Some(entries) = NonZeroUsize::new(entries) else {
            return Err(ConfigError::new("stale.entries", "must be at least 1"));
        };
        if max_age.is_zero() {
            return Err(ConfigError::new(
                "stale.max_age",
                "must be longer than zero",
            ));
        }
        let answers = Mutex::new(LruCache::new(entries));
        Ok(Stale {
            answers,
            max_age,
            fresh: Duration::ZERO,
        })
    }

    /// An answer younger than this is given out without asking the dependency. Default zero: every
    /// call asks.
    pub fn fresh_for(mut self, age: Duration) -> Stale<K, T> {
        self.fresh = age;
        self
    }

    /// How many answers it holds.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn remember(&self, key: K, answer: T, now: Time) {
        self.lock().put(key, (answer, now));
    }

    /// The answer to `key` and its age, if it is so young that nobody needs to be asked.
    pub(crate) fn fresh(&self, key: &K, now: Time) -> Option<(T, Duration)> {
        if self.fresh.is_zero() {
            return None;
        }
        self.recall(key, now).filter(|&(_, age)| age < self.fresh)
    }

    /// The answer to `key` and its age, if it is not too old.
    pub(crate) fn recall(&self, key: &K, now: Time) -> Option<(T, Duration)> {
        let mut answers = self.lock();
        let (answer, since) = answers.get(key)?;
        let age = now.since(*since);
        if age >= self.max_age {
            answers.pop(key);
            return None;
        }
        Some((answer.clone(), age))
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<K, (T, Time)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer, and whether it is the dependency's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// The dependency answered.
    Fresh(T),
    /// The dependency was not asked: its last answer is still fresh enough.
    Cached {
        /// The remembered answer.
        value: T,
        /// How old it is.
        age: Duration,
    },
    /// The dependency did not answer; this is what it said before.
    Stale {
        /// The remembered answer.
        value: T,
        /// How old it is.
        age: Duration,
        /// Why the dependency was not asked, or did not answer.
        why: Why,
    },
}

impl<T> Answer<T> {
    /// The answer, whatever its age.
    pub fn into_value(self) -> T {
        match self {
            Answer::Fresh(value) | Answer::Cached { value, .. } | Answer::Stale { value, .. } => {
                value
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_in_number_and_age() {
        let cache = Stale::new(2, Duration::from_secs(10)).unwrap();
        for key in 0..3 {
            cache.remember(key, key * 10, Time::from_millis(key));
        }
        let at = Time::from_millis(1);
        assert_eq!(cache.recall(&0, at), None);
        assert_eq!(cache.recall(&1, at), Some((10, Duration::ZERO)));
        assert_eq!(cache.recall(&2, Time::from_millis(10_002)), None);
        assert_eq!(cache.len(), 1, "what is too old is forgotten");
    }

    #[test]
    fn impossible_settings_are_refused() {
        assert!(Stale::<u32, u32>::new(0, Duration::from_secs(1)).is_err());
        assert!(Stale::<u32, u32>::new(1, Duration::ZERO).is_err());
    }
}
