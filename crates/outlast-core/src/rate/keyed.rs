//! One rate limit per key, in bounded memory.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Config, Limit, Room};
use crate::config::{ConfigError, ensure};
use crate::reject::Rejection;
use crate::rng::mix;
use crate::sync::{Mutex, lock};
use crate::time::Time;

/// Rate limits by key (a client's address, a tenant, a header), each with the same setting.
///
/// The table has a fixed number of places in sets of eight. A key whose limit is wholly
/// unused again is as good as forgotten, so its place is free; when all places of a set are in
/// use, the least used key is forgotten, which errs on the side of letting a call pass.
#[derive(Debug)]
pub struct Keyed {
    limit: Limit,
    sets: Box<[Mutex<[Place; WAYS]>]>,
}

/// A key and its theoretical arrival time.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    key: u64,
    next: u64,
}

impl Keyed {
    /// An empty table for the number of keys that `config` says.
    ///
    /// # Errors
    /// If `config` cannot work, or has no keys.
    pub fn new(config: Config) -> Result<Keyed, ConfigError> {
        ensure(
            config.keys > 0,
            "rate.keys",
            "must be at least 1 for a limit per key",
        )?;
        let limit = config.limit()?;
        let sets = (config.keys as usize).div_ceil(WAYS);
        Ok(Keyed {
            limit,
            sets: (0..sets).map(|_| Mutex::default()).collect(),
        })
    }

    /// Asks for one call of `key` (a hash of what identifies it), as
    /// [`Rate::admit`](super::Rate::admit).
    ///
    /// # Errors
    /// When the key's limit is used up; the rejection says for how long.
    pub fn admit(&self, key: u64, now: Time) -> Result<Duration, Rejection> {
        let mut places = lock(self.set(key));
        let place = match places
            .iter_mut()
            .position(|place| place.key == key && place.next > 0)
        {
            Some(known) => &mut places[known],
            None => places
                .iter_mut()
                .min_by_key(|place| place.next)
                .expect("a set has places"),
        };
        let next = if place.key == key { place.next } else { 0 };
        let (after, wait) = self.limit.admit(next, NonZeroU32::MIN, now)?;
        *place = Place { key, next: after };
        Ok(wait)
    }

    /// How much of `key`'s limit is left. Asking uses nothing.
    pub fn room(&self, key: u64, now: Time) -> Room {
        let places = lock(self.set(key));
        let known = places.iter().find(|place| place.key == key);
        self.limit.room(known.map_or(0, |place| place.next), now)
    }

    /// Gives back the turn of `key` at `turn`, as [`Rate::refund`](super::Rate::refund).
    pub fn refund(&self, key: u64, turn: Time) {
        let (after, before) = self.limit.around(turn);
        let mut places = lock(self.set(key));
        let is_last = |place: &&mut Place| place.key == key && place.next == after;
        if let Some(place) = places.iter_mut().find(is_last) {
            place.next = before;
        }
    }

    fn set(&self, key: u64) -> &Mutex<[Place; WAYS]> {
        &self.sets[(mix(key) % self.sets.len() as u64) as usize]
    }
}

/// Eight places fill two cache lines and make it unlikely that busy keys crowd one set.
const WAYS: usize = 8;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn keyed(keys: u32) -> Keyed {
        let config = Config::new(2, Duration::from_secs(1)).per_key(keys);
        Keyed::new(config).unwrap()
    }

    #[test]
    fn keys_do_not_share_a_limit() {
        let keyed = keyed(100);
        for key in 0..100 {
            assert!(keyed.admit(key, Time::ZERO).is_ok());
            assert!(keyed.admit(key, Time::ZERO).is_ok());
            assert!(keyed.admit(key, Time::ZERO).is_err());
            assert_eq!(keyed.room(key, Time::ZERO).remaining, 0);
        }
        assert_eq!(keyed.room(1_000, Time::ZERO).remaining, 2);
    }

    /// governor's keyed map grows without a bound unless the user sweeps it.
    #[test]
    fn memory_is_bounded_and_the_busiest_keys_stay() {
        let keyed = keyed(8);
        for _ in 0..2 {
            keyed.admit(0, Time::ZERO).unwrap();
        }
        for stranger in 1..100_000 {
            let _ = keyed.admit(stranger, Time::ZERO);
        }
        assert!(
            keyed.admit(0, Time::ZERO).is_err(),
            "the busiest key is remembered"
        );
        assert_eq!(keyed.sets.len() * WAYS, 8);
    }
}
