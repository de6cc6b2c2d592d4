//! Ten buckets of time, striped by thread.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering, Padded, STRIPES, stripe};
use crate::time::{Time, nanos};

/// Counts of the last span of time, in [`BUCKETS`] buckets.
#[derive(Debug)]
pub(crate) struct Timed {
    tick: u64,
    stripes: [Padded<[AtomicU64; BUCKETS as usize]>; STRIPES],
}

impl Timed {
    /// A window of `length`, which has passed [`super::check_length`].
    pub(crate) fn new(length: Duration) -> Timed {
        Timed {
            tick: nanos(length) / BUCKETS,
            stripes: std::array::from_fn(|_| Padded(std::array::from_fn(|_| AtomicU64::new(0)))),
        }
    }

    /// Counts one event of `generation`, marked or not. Returns how many events its own bucket
    /// and stripe now hold: a lower bound of the window's total that costs nothing.
    #[inline]
    pub(crate) fn record(&self, generation: u64, marked: bool, now: Time) -> u64 {
        let tick = now.as_nanos() / self.tick;
        let fresh = Cell::empty(generation, tick);
        let bucket = &self.stripes[stripe()].0[(tick % BUCKETS) as usize];
        let mut word = bucket.load(Ordering::Relaxed);
        loop {
            let cell = Cell(word);
            let base = match cell.place(fresh) {
                Place::Same => cell,
                Place::Older => fresh,
                Place::Newer => return 0,
            };
            let next = base.plus(marked);
            match bucket.compare_exchange_weak(word, next.0, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return next.total(),
                Err(changed) => word = changed,
            }
        }
    }

    /// Total and marked events of `generation` within the window that ends at `now`.
    pub(crate) fn sum(&self, generation: u64, now: Time) -> (u64, u64) {
        let fresh = Cell::empty(generation, now.as_nanos() / self.tick);
        let mut sum = (0, 0);
        for bucket in self.stripes.iter().flat_map(|stripe| &stripe.0) {
            let cell = Cell(bucket.load(Ordering::Acquire));
            if cell.is_within(fresh) {
                sum.0 += cell.total();
                sum.1 += cell.marked();
            }
        }
        sum
    }
}

/// Ten steps forget smoothly enough that a burst never weighs on a decision for more than a
/// tenth longer than another, and a sum still reads only a handful of cache lines.
pub(crate) const BUCKETS: u64 = 10;

/// One bucket: `generation:8 | tick:20 | total:18 | marked:18`.
///
/// The tag (generation and tick) repeats only after 2^20 ticks, and in the same bucket of ten
/// only after 5 * 2^20: a bucket untouched for exactly that many ticks, within one tick, would be
/// counted again (182 days for a 30 s window).
#[derive(Clone, Copy)]
struct Cell(u64);

enum Place {
    Same,
    Older,
    Newer,
}

impl Cell {
    fn empty(generation: u64, tick: u64) -> Cell {
        Cell((generation & 0xff) << 56 | (tick & TICK_MASK) << 36)
    }

    fn total(self) -> u64 {
        self.0 >> 18 & COUNT_MASK
    }

    fn marked(self) -> u64 {
        self.0 & COUNT_MASK
    }

    /// Where this bucket's content stands, seen from a record with the tag of `fresh`.
    ///
    /// Tags go round, so only one that is a little ahead is newer: a racing thread's. One that is
    /// far ahead is left over from an earlier round.
    #[inline]
    fn place(self, fresh: Cell) -> Place {
        if self.0 >> 36 == fresh.0 >> 36 {
            return Place::Same;
        }
        if self.total() == 0 {
            return Place::Older;
        }
        let generations = ((self.0 >> 56) as u8).wrapping_sub((fresh.0 >> 56) as u8);
        let newer = match ticks_ahead(self, fresh) {
            0 => (1..=GENERATIONS_AHEAD).contains(&generations),
            ahead => (1..=BUCKETS as i64).contains(&ahead),
        };
        if newer { Place::Newer } else { Place::Older }
    }

    /// Whether this bucket counts in the window of `now`'s tag. Ticks slightly ahead count: the
    /// reader may have read its clock before the writer.
    fn is_within(self, now: Cell) -> bool {
        let ahead = ticks_ahead(self, now);
        let window = BUCKETS as i64;
        self.0 >> 56 == now.0 >> 56 && (-window < ahead && ahead <= window)
    }

    /// One event more. A full bucket halves first, which keeps the ratio and a total that is far
    /// above any minimum. The total is rounded up, so that halving never raises the ratio.
    #[inline]
    fn plus(self, marked: bool) -> Cell {
        let tag = self.0 >> 36 << 36;
        let (mut total, mut count) = (self.total(), self.marked());
        if total == COUNT_MASK {
            total = total.div_ceil(2);
            count /= 2;
        }
        Cell(tag | (total + 1) << 18 | (count + u64::from(marked)))
    }
}

/// How many ticks `a` lies ahead of `b`, on the 20-bit circle.
fn ticks_ahead(a: Cell, b: Cell) -> i64 {
    let distance = (a.0 >> 36 & TICK_MASK).wrapping_sub(b.0 >> 36 & TICK_MASK) & TICK_MASK;
    if distance > TICK_MASK / 2 {
        distance as i64 - TICK_MASK as i64 - 1
    } else {
        distance as i64
    }
}

/// More transitions than this never happen between a thread's look at the generation and its
/// record.
const GENERATIONS_AHEAD: u8 = 8;
const TICK_MASK: u64 = (1 << 20) - 1;
const COUNT_MASK: u64 = (1 << 18) - 1;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn forgets_exactly_the_buckets_that_left_the_window() {
        let window = Timed::new(10 * SECOND);
        for second in 0..10 {
            window.record(0, second % 2 == 0, Time::ZERO + second * SECOND);
        }
        assert_eq!(window.sum(0, Time::ZERO + 9 * SECOND), (10, 5));
        assert_eq!(window.sum(0, Time::ZERO + 10 * SECOND), (9, 4));
        assert_eq!(window.sum(0, Time::ZERO + 100 * SECOND), (0, 0));
    }

    #[test]
    fn another_generation_starts_empty_and_ignores_stragglers() {
        let window = Timed::new(10 * SECOND);
        let now = Time::ZERO + SECOND;
        window.record(0, true, now);
        assert_eq!(window.sum(1, now), (0, 0));
        window.record(1, false, now);
        window.record(0, true, now);
        assert_eq!(window.sum(1, now), (1, 0));
    }

    #[test]
    fn a_straggler_whose_bucket_was_reused_changes_nothing() {
        let window = Timed::new(10 * SECOND);
        window.record(0, false, Time::ZERO + 10 * SECOND);
        window.record(0, true, Time::ZERO);
        assert_eq!(window.sum(0, Time::ZERO + 10 * SECOND), (1, 0));
    }

    #[test]
    fn a_full_bucket_halves_and_keeps_its_ratio() {
        let window = Timed::new(10 * SECOND);
        for call in 0..COUNT_MASK + 1 {
            window.record(0, call % 4 == 0, Time::ZERO);
        }
        let (total, marked) = window.sum(0, Time::ZERO);
        assert_eq!(total, COUNT_MASK.div_ceil(2) + 1);
        assert!((marked as f64 / total as f64 - 0.25).abs() < 0.001);
    }

    #[test]
    fn halving_never_turns_a_success_into_a_failure() {
        let window = Timed::new(10 * SECOND);
        window.record(0, false, Time::ZERO);
        for _ in 0..3 * COUNT_MASK {
            window.record(0, true, Time::ZERO);
        }
        let (total, marked) = window.sum(0, Time::ZERO);
        assert!(marked < total);
    }

    proptest! {
        #[test]
        fn equals_a_naive_deque_of_ticks(
            events in proptest::collection::vec((0u64..4_000, any::<bool>(), 0u64..20), 0..300),
        ) {
            let window = Timed::new(10 * SECOND);
            let mut model: VecDeque<(u64, bool)> = VecDeque::new();
            let (mut now, mut generation) = (0, 0);
            for (step, marked, dice) in events {
                now += step;
                if dice == 0 {
                    generation += 1;
                    model.clear();
                }
                let time = Time::from_millis(now);
                window.record(generation, marked, time);
                model.push_back((now / 1000, marked));
                model.retain(|&(tick, _)| tick + BUCKETS > now / 1000);
                let marks = model.iter().filter(|(_, marked)| *marked).count() as u64;
                prop_assert_eq!(window.sum(generation, time), (model.len() as u64, marks));
            }
        }
    }
}
