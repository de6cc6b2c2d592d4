//! The published side of one level of preference: who of it may be chosen now.
//!
//! Writers hold the balancer's lock; readers take none. Each number is an atomic of its own, so a
//! reader beside a change may see a mixture of before and after. Every index stays within the level,
//! and the weight of an endpoint, which is read last, says whether it may be chosen; so the worst is
//! that it finds nobody, and then it looks whether something changed meanwhile, and looks again.
//! For that, who may be chosen is read and written in order (acquire, release).

use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, Padded};

#[derive(Debug)]
pub(super) struct Level {
    pub(super) priority: u8,
    /// The place of its zone in the order of preference.
    pub(super) rank: u16,
    /// All of its endpoints.
    pub(super) members: Box<[u32]>,
    /// Those of them that may be chosen, in the first `usable` places, and the sums of their
    /// weights up to each.
    order: Box<[AtomicU32]>,
    sums: Box<[AtomicU32]>,
    usable: AtomicU32,
    equal: AtomicBool,
    panics: AtomicBool,
    /// The end of its part of the traffic, in 2^32ths; it begins where the part of the level before
    /// it ends.
    end: AtomicU64,
    turn: Padded<AtomicU32>,
}

/// The whole traffic.
pub(super) const ALL: u64 = 1 << 32;

impl Level {
    pub(super) fn new(priority: u8, rank: u16, members: Vec<u32>) -> Level {
        let zeros = || members.iter().map(|_| AtomicU32::new(0)).collect();
        Level {
            priority,
            rank,
            order: zeros(),
            sums: zeros(),
            usable: AtomicU32::new(0),
            equal: AtomicBool::new(true),
            panics: AtomicBool::new(false),
            end: AtomicU64::new(0),
            turn: Padded(AtomicU32::new(0)),
            members: members.into_boxed_slice(),
        }
    }

    /// How many of it may be chosen.
    #[inline]
    pub(super) fn len(&self) -> usize {
        (self.usable.load(Ordering::Acquire) as usize).min(self.order.len())
    }

    /// The endpoint in this place, below [`Level::len`].
    #[inline]
    pub(super) fn at(&self, place: usize) -> usize {
        self.order[place].load(Ordering::Acquire) as usize
    }

    /// The sum of the weights of the first `len` places.
    #[inline]
    pub(super) fn weight(&self, len: usize) -> u32 {
        match len {
            0 => 0,
            _ => self.sums[len - 1].load(Ordering::Relaxed),
        }
    }

    /// The weight in this place.
    #[inline]
    pub(super) fn weight_at(&self, place: usize) -> u32 {
        self.weight(place + 1).saturating_sub(self.weight(place))
    }

    /// The place of the endpoint whose part of the first `len` weights holds this 2^32th.
    #[inline]
    pub(super) fn place_of(&self, part: u32, len: usize) -> usize {
        let point = (u64::from(part) * u64::from(self.weight(len))) >> 32;
        let sums = &self.sums[..len];
        let place = sums.partition_point(|sum| u64::from(sum.load(Ordering::Relaxed)) <= point);
        place.min(len - 1)
    }

    /// Whether the weights of those that may be chosen are equal.
    #[inline]
    pub(super) fn is_equal(&self) -> bool {
        self.equal.load(Ordering::Relaxed)
    }

    /// Whether those that look dead are used, too.
    pub(super) fn panics(&self) -> bool {
        self.panics.load(Ordering::Relaxed)
    }

    /// Counts the turns.
    #[inline]
    pub(super) fn turn(&self) -> u32 {
        self.turn.0.fetch_add(1, Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    pub(super) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Relaxed);
    }

    /// Publishes who may be chosen, and their weights.
    pub(super) fn publish(&self, usable: impl Iterator<Item = (u32, u32)>, panics: bool) {
        let (mut len, mut sum, mut first, mut equal) = (0, 0, None, true);
        for (endpoint, weight) in usable {
            sum += weight;
            equal &= *first.get_or_insert(weight) == weight;
            self.order[len].store(endpoint, Ordering::Release);
            self.sums[len].store(sum, Ordering::Relaxed);
            len += 1;
        }
        self.equal.store(equal, Ordering::Relaxed);
        self.panics.store(panics, Ordering::Relaxed);
        self.usable.store(len as u32, Ordering::Release);
    }
}
