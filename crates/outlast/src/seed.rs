//! Seeds and idempotency keys.
//!
//! Each thread draws from a generator of its own that the operating system seeded, so calls on
//! different threads never share a line of memory for it, and keys are unique over processes: 64
//! random bits of the thread, then 64 that do not repeat within it.

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use outlast_core::rng::Rng;

/// What makes a repeated call recognisable to the dependency: the same for all attempts of one
/// call. Formats as the text to send.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Text);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Text {
    Made { thread: u64, call: u64 },
    Given(Arc<str>),
}

impl IdempotencyKey {
    pub(crate) fn given(key: Arc<str>) -> IdempotencyKey {
        IdempotencyKey(Text::Given(key))
    }
}

impl fmt::Display for IdempotencyKey {
    /// 32 hexadecimal digits, or the text that the caller gave.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Text::Made { thread, call } => write!(f, "{thread:016x}{call:016x}"),
            Text::Given(key) => f.write_str(key),
        }
    }
}

/// What is random about one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    thread: u64,
    pub(crate) call: u64,
}

impl Seed {
    /// A new one.
    #[inline]
    pub(crate) fn draw() -> Seed {
        thread_local! {
            static SEEDS: RefCell<(u64, Rng)> = {
                let random = || RandomState::new().build_hasher().finish();
                RefCell::new((random(), Rng::new(random())))
            };
        }
        SEEDS.with_borrow_mut(|(thread, rng)| Seed {
            thread: *thread,
            call: rng.next_u64(),
        })
    }

    /// The key of the call with this seed.
    pub(crate) fn key(self) -> IdempotencyKey {
        IdempotencyKey(Text::Made {
            thread: self.thread,
            call: self.call,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_unique_over_calls_and_threads() {
        let draw = || {
            (0..1000)
                .map(|_| Seed::draw().key().to_string())
                .collect::<Vec<_>>()
        };
        let other = std::thread::spawn(draw).join().unwrap();
        let keys: HashSet<_> = draw().into_iter().chain(other).collect();
        assert_eq!(keys.len(), 2000);
        assert!(keys.iter().all(|key| key.len() == 32));
    }
}
