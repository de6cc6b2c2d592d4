//! Seats taken, and callers waiting for one, in one word.
//!
//! What the bulkhead and the shedder have in common. Taking and returning a seat is one
//! compare-and-swap each, as long as nobody waits. Whoever waits is counted in the same word, so a
//! newcomer sees it and never overtakes; the queue itself, its order and its lock belong to the
//! policy.
//!
//! The law: never more than the limit are taken by [`Seats::take`] and [`Seats::join`], and a seat
//! that is returned while somebody waits is left to the policy, which passes it on or gives it up.

use crate::sync::{AtomicU32, AtomicU64, Ordering, Padded};

/// What every admission changes, alone on its cache lines, and what it only reads.
#[derive(Debug)]
pub(crate) struct Seats(Padded<Hot>);

#[derive(Debug)]
struct Hot {
    word: Padded<AtomicU64>,
    limit: AtomicU32,
    peak: AtomicU32,
    accepted_high: AtomicU64,
}

/// The answer to somebody who asks under the queue's lock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    Seated,
    Waits,
    Full,
}

impl Seats {
    pub(crate) fn new(limit: u32) -> Seats {
        Seats(Padded(Hot {
            word: Padded(AtomicU64::new(0)),
            limit: AtomicU32::new(limit),
            peak: AtomicU32::new(0),
            accepted_high: AtomicU64::new(0),
        }))
    }

    #[inline]
    pub(crate) fn limit(&self) -> u32 {
        self.0.0.limit.load(Ordering::SeqCst)
    }

    /// Changes the limit; who may have a seat now is the policy's business.
    pub(crate) fn set_limit(&self, limit: u32) {
        self.0.0.limit.store(limit, Ordering::SeqCst);
    }

    /// A seat, if nobody waits and fewer than `limit` are taken.
    #[inline]
    pub(crate) fn take(&self, limit: u32) -> bool {
        let mut word = self.relaxed();
        while word.waiting() == 0 && word.active() < limit {
            match self.swap(word, word.plus_active()) {
                Ok(()) => {
                    self.note_peak(word.plus_active());
                    return true;
                }
                Err(changed) => word = changed,
            }
        }
        false
    }

    /// Returns a seat; how many were taken before. `None` if somebody waits: then it is still
    /// taken.
    #[inline]
    pub(crate) fn release(&self) -> Option<u32> {
        let mut word = self.relaxed();
        while word.waiting() == 0 {
            match self.swap(word, word.minus_active()) {
                Ok(()) => return Some(word.active()),
                Err(changed) => word = changed,
            }
        }
        None
    }

    /// Under the queue's lock: a seat if fewer than `limit` are taken and `overtakes` or nobody
    /// waits, else a place if fewer than `bound` wait.
    pub(crate) fn join(&self, limit: u32, bound: u32, overtakes: bool) -> Joined {
        let mut word = self.now();
        loop {
            let is_next = overtakes || word.waiting() == 0;
            let seated = is_next && word.active() < limit;
            if !seated && word.waiting() >= bound {
                return Joined::Full;
            }
            let next = if seated {
                word.plus_active()
            } else {
                word.plus_waiting()
            };
            match self.swap(word, next) {
                Ok(()) if seated => {
                    self.note_peak(next);
                    return Joined::Seated;
                }
                Ok(()) => return Joined::Waits,
                Err(changed) => word = changed,
            }
        }
    }

    /// One who waited goes without a seat.
    pub(crate) fn forget_waiting(&self) {
        self.update(Word::minus_waiting);
    }

    /// A seat that nobody inherits.
    pub(crate) fn give_up(&self) {
        self.update(Word::minus_active);
    }

    /// One who waited gets the seat of one who leaves.
    pub(crate) fn inherit(&self) {
        self.update(Word::inherit_seat);
        self.note_peak(self.relaxed());
    }

    /// One who waited gets a new seat.
    pub(crate) fn seat_waiting(&self) {
        self.update(Word::seat_waiting);
        self.note_peak(self.relaxed());
    }

    /// A seat beyond any limit, for somebody who comes in any case.
    pub(crate) fn force(&self) {
        self.update(Word::plus_active);
        self.note_peak(self.relaxed());
    }

    /// Seats taken now.
    pub(crate) fn active(&self) -> u32 {
        self.now().active()
    }

    /// Callers waiting now.
    pub(crate) fn waiting(&self) -> u32 {
        self.now().waiting()
    }

    /// The most seats ever taken at once.
    pub(crate) fn peak(&self) -> u32 {
        self.0.0.peak.load(Ordering::Relaxed)
    }

    /// Seats ever taken.
    pub(crate) fn accepted(&self) -> u64 {
        let word = self.now();
        let high = self.0.0.accepted_high.load(Ordering::Relaxed);
        high << Word::ACCEPTED_BITS | word.accepted()
    }

    #[inline]
    fn relaxed(&self) -> Word {
        Word(self.0.0.word.0.load(Ordering::Relaxed))
    }

    fn now(&self) -> Word {
        Word(self.0.0.word.0.load(Ordering::Acquire))
    }

    #[inline]
    fn note_peak(&self, word: Word) {
        let peak = &self.0.0.peak;
        if word.active() > peak.load(Ordering::Relaxed) {
            peak.fetch_max(word.active(), Ordering::Relaxed);
        }
    }

    #[inline]
    fn swap(&self, from: Word, to: Word) -> Result<(), Word> {
        let hot = &self.0.0;
        hot.word
            .0
            .compare_exchange_weak(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed)
            .map_err(Word)?;
        if to.accepted() < from.accepted() {
            hot.accepted_high.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn update(&self, change: impl Fn(Word) -> Word) {
        let mut word = self.relaxed();
        while let Err(changed) = self.swap(word, change(word)) {
            word = changed;
        }
    }
}

/// The most seats there can be, and the most who can wait.
pub(crate) const MOST: u32 = Word::MAX;

/// `active:20 | waiting:20 | accepted:24`, changed by compare-and-swap alone, so that a decision
/// and its count are one step.
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    const ACCEPTED_BITS: u32 = 24;
    const MAX: u32 = (1 << 20) - 1;
    const ONE_ACTIVE: u64 = 1 << 44;
    const ONE_WAITING: u64 = 1 << 24;

    fn active(self) -> u32 {
        (self.0 >> 44) as u32
    }

    fn waiting(self) -> u32 {
        (self.0 >> 24) as u32 & Word::MAX
    }

    fn accepted(self) -> u64 {
        self.0 & (Word::ONE_WAITING - 1)
    }

    /// One seat more, counted as accepted.
    fn plus_active(self) -> Word {
        Word(self.0 + Word::ONE_ACTIVE).plus_accepted()
    }

    fn minus_active(self) -> Word {
        Word(self.0 - Word::ONE_ACTIVE)
    }

    fn plus_waiting(self) -> Word {
        Word(self.0 + Word::ONE_WAITING)
    }

    fn minus_waiting(self) -> Word {
        Word(self.0 - Word::ONE_WAITING)
    }

    /// One who waited gets a new seat.
    fn seat_waiting(self) -> Word {
        self.minus_waiting().plus_active()
    }

    /// One who waited gets the seat of one who leaves.
    fn inherit_seat(self) -> Word {
        self.minus_waiting().plus_accepted()
    }

    fn plus_accepted(self) -> Word {
        let accepted = (self.accepted() + 1) & (Word::ONE_WAITING - 1);
        Word(self.0 & !(Word::ONE_WAITING - 1) | accepted)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn the_accepted_count_carries_beyond_its_bits() {
        let seats = Seats::new(1);
        let last = (1 << Word::ACCEPTED_BITS) - 1;
        seats.0.0.word.0.store(last, Ordering::Relaxed);
        assert!(seats.take(1));
        assert_eq!(seats.release(), Some(1));
        assert_eq!(seats.accepted(), 1 << Word::ACCEPTED_BITS);
    }
}
