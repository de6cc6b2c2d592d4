//! A ring of the last N results.

use std::num::NonZeroU32;

use super::Tally;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The results of the last N calls.
///
/// A record swaps its result into the next slot and adds the *difference* to the sums, so every
/// result is added once and removed once, whatever the interleaving. Three atomic operations on
/// shared lines: dearer under contention than [`super::Timed`], in exchange for exactness at any
/// traffic.
#[derive(Debug)]
pub(crate) struct Counted {
    next: AtomicU32,
    slots: Box<[AtomicU32]>,
    sums: AtomicU64,
}

impl Counted {
    /// A window of `calls` results, at most 10,000 (the sums are signed 15-bit numbers).
    pub(crate) fn new(calls: NonZeroU32) -> Counted {
        Counted {
            next: AtomicU32::new(0),
            slots: (0..calls.get()).map(|_| AtomicU32::new(0)).collect(),
            sums: AtomicU64::new(0),
        }
    }

    /// Counts one result of `generation` and returns the window with it.
    pub(crate) fn record(&self, generation: u64, failed: bool, slow: bool) -> Tally {
        let new = Slot::new(generation, failed, slow);
        let at = self.next.fetch_add(1, Ordering::Relaxed) as usize % self.slots.len();
        let Some(old) = self.replace(at, new) else {
            return Tally::default();
        };
        self.shift(generation, old, new)
    }

    /// The window's results of `generation`.
    pub(crate) fn sum(&self, generation: u64) -> Tally {
        let sums = self.sums.load(Ordering::Acquire);
        if sums >> 48 == generation & 0xffff {
            tally(sums)
        } else {
            Tally::default()
        }
    }

    /// Starts `generation` with an empty window. Called by the one who made the transition,
    /// before anyone can record for it.
    pub(crate) fn restart(&self, generation: u64) {
        // A swap, so that it takes its turn among the compare-and-swaps of stragglers.
        self.sums
            .swap((generation & 0xffff) << 48, Ordering::AcqRel);
    }

    /// Puts `new` into a slot and returns what it held, unless that is of a later generation.
    fn replace(&self, at: usize, new: Slot) -> Option<Slot> {
        let mut old = self.slots[at].load(Ordering::Relaxed);
        loop {
            if Slot(old).is_newer_than(new) {
                return None;
            }
            match self.slots[at].compare_exchange_weak(
                old,
                new.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Slot(old)),
                Err(changed) => old = changed,
            }
        }
    }

    /// Moves the sums from `old` to `new`, unless another generation has started since.
    fn shift(&self, generation: u64, old: Slot, new: Slot) -> Tally {
        let gone = if old.generation() == new.generation() {
            old
        } else {
            Slot(0)
        };
        let mut sums = self.sums.load(Ordering::Acquire);
        loop {
            if sums >> 48 != generation & 0xffff {
                return Tally::default();
            }
            let mut next = sums & !0xffff_ffff_ffff;
            for (field, flag) in [(32, Slot::PRESENT), (16, Slot::FAILED), (0, Slot::SLOW)] {
                let value = (sums >> field) as u16;
                let value = value
                    .wrapping_add(new.has(flag))
                    .wrapping_sub(gone.has(flag));
                next |= u64::from(value) << field;
            }
            match self
                .sums
                .compare_exchange_weak(sums, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return tally(next),
                Err(changed) => sums = changed,
            }
        }
    }
}

/// One result: `generation:29 | slow | failed | present`. A slot may rest for a whole outage, in
/// which every failed trial makes two generations; 29 bits outlast days of one trial a
/// millisecond.
#[derive(Clone, Copy)]
struct Slot(u32);

impl Slot {
    const PRESENT: u32 = 1;
    const FAILED: u32 = 2;
    const SLOW: u32 = 4;

    fn new(generation: u64, failed: bool, slow: bool) -> Slot {
        let flags = Slot::PRESENT
            | if failed { Slot::FAILED } else { 0 }
            | if slow { Slot::SLOW } else { 0 };
        Slot((generation as u32) << 3 | flags)
    }

    fn generation(self) -> u32 {
        self.0 >> 3
    }

    fn has(self, flag: u32) -> u16 {
        u16::from(self.0 & flag != 0)
    }

    fn is_newer_than(self, other: Slot) -> bool {
        // Shifted back up, the difference has its sign in the highest bit.
        let ahead = (self.generation().wrapping_sub(other.generation()) << 3) as i32;
        self.0 & Slot::PRESENT != 0 && ahead > 0
    }
}

/// Reads `generation:16 | total:16 | failed:16 | slow:16`. A removal may be added before the
/// addition it undoes, so a field can dip below zero for an instant.
fn tally(sums: u64) -> Tally {
    let field = |at: u32| u64::try_from((sums >> at) as i16).unwrap_or(0);
    Tally {
        total: field(32),
        failed: field(16),
        slow: field(0),
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn window(calls: u32) -> Counted {
        Counted::new(NonZeroU32::new(calls).unwrap())
    }

    #[test]
    fn slides_whatever_the_history() {
        let window = window(100);
        for _ in 0..100_000 {
            window.record(0, false, false);
        }
        for failures in 1..=100 {
            assert_eq!(window.record(0, true, false).failed, failures);
        }
        assert_eq!(
            window.sum(0),
            Tally {
                total: 100,
                failed: 100,
                slow: 0
            }
        );
    }

    #[test]
    fn another_generation_starts_empty_and_ignores_stragglers() {
        let window = window(4);
        window.record(0, true, true);
        window.restart(1);
        assert_eq!(window.sum(1), Tally::default());
        window.record(0, true, true);
        assert_eq!(
            window.record(1, false, true),
            Tally {
                total: 1,
                failed: 0,
                slow: 1
            }
        );
    }

    proptest! {
        #[test]
        fn equals_a_naive_deque(
            calls in 1u32..20,
            results in proptest::collection::vec((any::<bool>(), any::<bool>(), 0u32..30), 0..300),
        ) {
            let window = window(calls);
            let mut model = VecDeque::new();
            let mut generation = 0;
            for (failed, slow, dice) in results {
                if dice == 0 {
                    generation += 1;
                    window.restart(generation);
                    model.clear();
                }
                let tally = window.record(generation, failed, slow);
                model.push_back((failed, slow));
                if model.len() > calls as usize {
                    model.pop_front();
                }
                prop_assert_eq!(tally, Tally {
                    total: model.len() as u64,
                    failed: model.iter().filter(|(failed, _)| *failed).count() as u64,
                    slow: model.iter().filter(|(_, slow)| *slow).count() as u64,
                });
                prop_assert_eq!(window.sum(generation), tally);
            }
        }
    }
}
