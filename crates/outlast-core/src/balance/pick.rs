//! How one of the endpoints of a level is picked.
//!
//! Every way honours the weights and passes over whom the caller refuses, without a list of those
//! that remain: it draws again a few times and then walks.
//!
//! **Hashing is rendezvous hashing** (highest random weight, Thaler and Ravishankar 1998): each
//! endpoint has a score for the key, and the best one that is not above its bound wins. When one
//! leaves, exactly its keys move, each to its own second best; weights are exact; and there is
//! nothing to rebuild when health changes. A ring needs about a hundred points per endpoint for a
//! spread of 10 %, and a Maglev table of 65,537 places has to be built anew at every change. The
//! price is that the cost grows with the number of endpoints: about 3 ns each, 3 us for a thousand,
//! which is little beside the call itself.

use std::sync::Arc;

use super::level::Level;
use super::slot::{Decay, Slot};
use crate::math;
use crate::rng::{mix, unit};
use crate::time::Time;

/// One pick: where, at random, and whom not.
pub(super) struct Pick<'a, R: FnMut(usize) -> bool> {
    pub(super) slots: &'a [Arc<Slot>],
    pub(super) level: &'a Level,
    pub(super) len: usize,
    pub(super) random: u64,
    pub(super) refuses: R,
}

impl<R: FnMut(usize) -> bool> Pick<'_, R> {
    /// The endpoint in this place, if it may be chosen.
    #[inline]
    fn willing(&mut self, place: usize) -> Option<usize> {
        let endpoint = self.level.at(place);
        (self.slots[endpoint].0.weight() > 0 && !(self.refuses)(endpoint)).then_some(endpoint)
    }

    /// The first that may be chosen from this place on, once around.
    fn walk(&mut self, from: usize) -> Option<usize> {
        let len = self.len;
        (from..len)
            .chain(0..from)
            .find_map(|place| self.willing(place))
    }

    /// Of `choices` different ones the one with the least cost. They are drawn as a random start
    /// and a random step, which for two gives every pair alike and for all gives all.
    #[inline]
    pub(super) fn least(&mut self, choices: u32, cost: impl Fn(&Slot) -> f64) -> Option<usize> {
        let len = self.len;
        let start = scale(self.random as u32, len);
        let others = (choices as usize).min(len) - 1;
        let step = match others {
            0 => 1,
            _ => 1 + scale((self.random >> 32) as u32, (len - 1) / others),
        };
        let (mut best, mut compared, mut place) = (None, 0, start);
        for _ in 0..=others + SPARE_DRAWS {
            if let Some(endpoint) = self.willing(place) {
                let cost = cost(&self.slots[endpoint]);
                if best.is_none_or(|(_, least)| cost < least) {
                    best = Some((endpoint, cost));
                }
                compared += 1;
                if compared > others {
                    break;
                }
            }
            place += step;
            if place >= len {
                place -= len;
            }
        }
        match best {
            Some((endpoint, _)) => Some(endpoint),
            None => self.walk(start),
        }
    }

    pub(super) fn least_latency(&mut self, choices: u32, now: Time, decay: Decay) -> Option<usize> {
        self.least(choices, |slot| slot.0.cost(now, decay))
    }

    pub(super) fn least_requests(&mut self, choices: u32) -> Option<usize> {
        self.least(choices, |slot| slot.0.load())
    }

    /// In turn. With unequal weights the turns follow the golden ratio (a Kronecker sequence),
    /// which spreads those of each endpoint evenly.
    pub(super) fn in_turn(&mut self) -> Option<usize> {
        let turn = self.level.turn();
        if self.level.is_equal() {
            return self.walk(turn as usize % self.len);
        }
        let part = turn.wrapping_mul(GOLDEN);
        self.walk(self.level.place_of(part, self.len))
    }

    /// At random, in proportion to the weights.
    pub(super) fn weighted(&mut self) -> Option<usize> {
        let mut draw = self.random;
        let mut place = 0;
        for _ in 0..SPARE_DRAWS {
            place = self.level.place_of((draw >> 32) as u32, self.len);
            if let Some(endpoint) = self.willing(place) {
                return Some(endpoint);
            }
            draw = mix(draw.wrapping_add(1));
        }
        self.walk(place)
    }

    /// The one with the best score for the key that is not above its bound; if all are, or are
    /// refused, the best of all. `running` counts what is in flight everywhere.
    pub(super) fn by_key(&mut self, key: &Key<'_>, bound: f64, running: u32) -> Option<usize> {
        let total = f64::from(self.level.weight(self.len)).max(1.0);
        let share = bound * (f64::from(running) + 1.0) / total;
        let equal = self.level.is_equal();
        let (mut best, mut roomy) = (None, None);
        for place in 0..self.len {
            let weight = self.level.weight_at(place);
            let score = key.score(self.level.at(place), (!equal).then_some(weight));
            if roomy.is_some_and(|(_, top)| score <= top) {
                continue;
            }
            let Some(endpoint) = self.willing(place) else {
                continue;
            };
            if best.is_none_or(|(_, top)| score > top) {
                best = Some((endpoint, score));
            }
            let in_flight = f64::from(self.slots[endpoint].0.in_flight());
            if in_flight + 1.0 <= (share * f64::from(weight)).ceil() {
                roomy = Some((endpoint, score));
            }
        }
        roomy.or(best).map(|(endpoint, _)| endpoint)
    }
}

/// A key, and the hashes of the endpoints' names, by which all instances agree.
pub(super) struct Key<'a> {
    pub(super) key: u64,
    pub(super) names: &'a [u64],
}

impl Key<'_> {
    /// The endpoint's score: uniform for equals, `-weight / ln(uniform)` with weights, which makes
    /// each win in proportion to its weight.
    #[inline]
    fn score(&self, endpoint: usize, weight: Option<u32>) -> f64 {
        let uniform = unit(mix(self.key ^ self.names[endpoint]));
        match weight {
            None => uniform,
            Some(weight) => f64::from(weight) / -math::ln(uniform + f64::MIN_POSITIVE),
        }
    }
}

/// The hash of a name (FNV-1a, finished by a mixer); equal on every machine.
pub(super) fn hash_of_name(name: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(name.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// A number below `len` from 32 random bits.
#[inline]
fn scale(random: u32, len: usize) -> usize {
    ((u64::from(random) * len as u64) >> 32) as usize
}

/// Draws that may meet somebody refused before the walk begins.
const SPARE_DRAWS: usize = 8;
/// 2^32 divided by the golden ratio.
const GOLDEN: u32 = 0x9e37_79b9;
