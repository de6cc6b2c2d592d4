//! Up to how many calls in flight a tier gets a seat.
//!
//! A lower tier may be given a share of the limit only. Once one of it was turned away there, its
//! gate is closed and opens again at nine tenths of the share: without that gap every seat that
//! becomes free would let one in and turn the next away. Gates close downwards and open upwards, so
//! a lower tier never has a seat where a higher one has none.

use crate::ratio::Ratio;
use crate::sync::{AtomicU64, Ordering};
use crate::tier::Tier;

#[derive(Debug)]
pub(super) struct Gates {
    shares: [Ratio; 3],
    words: [AtomicU64; 3],
}

impl Gates {
    /// The gates of a limit, with a share per tier that falls with the tier.
    pub(super) fn new(shares: [Ratio; 3], limit: u32) -> Gates {
        Gates {
            shares,
            words: shares.map(|share| AtomicU64::new(Word::of(share, limit).0)),
        }
    }

    /// A seat is there while fewer calls than this are in flight.
    #[inline]
    pub(super) fn limit(&self, tier: Tier) -> u32 {
        self.word(tier).limit()
    }

    /// Somebody of this tier got a seat.
    #[inline]
    pub(super) fn open(&self, tier: Tier) {
        if self.word(tier).is_closed() {
            for word in &self.words[..=tier.index()] {
                word.fetch_and(!CLOSED, Ordering::AcqRel);
            }
        }
    }

    /// Somebody of this tier was turned away.
    pub(super) fn close(&self, tier: Tier) {
        for word in &self.words[tier.index()..] {
            word.fetch_or(CLOSED, Ordering::AcqRel);
        }
    }

    /// The limit has changed.
    pub(super) fn set(&self, limit: u32) {
        for (share, word) in self.shares.iter().zip(&self.words) {
            let fresh = Word::of(*share, limit).0;
            let mut known = word.load(Ordering::Relaxed);
            while let Err(changed) = word.compare_exchange_weak(
                known,
                fresh | known & CLOSED,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                known = changed;
            }
        }
    }

    #[inline]
    fn word(&self, tier: Tier) -> Word {
        Word(self.words[tier.index()].load(Ordering::SeqCst))
    }
}

/// `closed:1 | reopens:31 | limit:32`.
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    fn of(share: Ratio, limit: u32) -> Word {
        let open = share.of(u64::from(limit)).max(1);
        let reopens = if share == Ratio::ONE {
            open
        } else {
            REOPENS.of(open).max(1)
        };
        Word(reopens << 32 | open)
    }

    #[inline]
    fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    #[inline]
    fn limit(self) -> u32 {
        if self.is_closed() {
            (self.0 >> 32) as u32 & (u32::MAX >> 1)
        } else {
            self.0 as u32
        }
    }
}

const CLOSED: u64 = 1 << 63;
const REOPENS: Ratio = Ratio::percent(90);
