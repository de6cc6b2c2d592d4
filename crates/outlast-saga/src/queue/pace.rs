//! How many deliveries a second begin.
//!
//! A receiver that comes back after an outage, with a long queue before it, would be knocked over by all
//! of it at once. So the pace begins low and grows as deliveries succeed, as a TCP sender's window does
//! (slow start and congestion avoidance, RFC 5681): each success adds one a second, so the pace grows by
//! a factor of e in each second in which it is used, up to a threshold; from there on it takes
//! [`LINEAR_SECONDS`] from the slowest to the fastest. A failure halves it and puts the threshold there,
//! at most once a second; [`FAILURES_OF_AN_OUTAGE`] in a row make it the slowest, from which it starts
//! slowly again.
//!
//! The law: in any stretch of time no more deliveries begin than the fastest pace allows, and those of
//! [`BURST_SECONDS`] more, and one.

use std::time::Duration;

use crate::event::Stamp;

/// A pace that follows what the receiver takes.
#[derive(Clone, Debug)]
pub struct Pace {
    slowest: f64,
    fastest: f64,
    /// Deliveries a second.
    rate: f64,
    /// Up to this it grows quickly.
    threshold: f64,
    /// Deliveries that may begin at once.
    tokens: f64,
    /// When there were so many.
    at: Stamp,
    failures_in_a_row: u32,
    /// When it last fell.
    fell: Option<Stamp>,
}

impl Pace {
    /// The slowest one, in deliveries a second; it never grows beyond the fastest.
    pub fn new(slowest: f64, fastest: f64, now: Stamp) -> Pace {
        Pace {
            slowest,
            fastest,
            rate: slowest,
            threshold: fastest,
            tokens: 1.0,
            at: now,
            failures_in_a_row: 0,
            fell: None,
        }
    }

    /// Deliveries a second now.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Begins a delivery, if one may begin now.
    ///
    /// # Errors
    /// When to ask again.
    pub fn take(&mut self, now: Stamp) -> Result<(), Stamp> {
        self.fill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let seconds = (1.0 - self.tokens) / self.rate;
        Err(now.after(Duration::from_secs_f64(seconds).max(TICK)))
    }

    /// A delivery succeeded.
    pub fn succeeded(&mut self, now: Stamp) {
        self.fill(now);
        self.failures_in_a_row = 0;
        let step = if self.rate < self.threshold {
            1.0
        } else {
            (self.fastest - self.slowest) / LINEAR_SECONDS / self.rate
        };
        self.rate = (self.rate + step).min(self.fastest);
    }

    /// A delivery failed in a way that is the receiver's.
    pub fn failed(&mut self, now: Stamp) {
        self.fill(now);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.fall(now);
        if self.failures_in_a_row >= FAILURES_OF_AN_OUTAGE {
            self.rate = self.slowest;
        }
        self.tokens = self.tokens.min(self.burst());
    }

    /// A limit on this side turned a delivery away: the pace is too fast for it, and the receiver may
    /// well be there.
    pub fn turned_away(&mut self, now: Stamp) {
        self.fill(now);
        self.fall(now);
        self.tokens = self.tokens.min(self.burst());
    }

    fn fall(&mut self, now: Stamp) {
        let is_early = self
            .fell
            .is_some_and(|fell| now.since(fell) < BETWEEN_FALLS);
        if self.rate > self.slowest && !is_early {
            self.threshold = (self.rate / 2.0).max(self.slowest);
            self.rate = self.threshold;
            self.fell = Some(now);
        }
    }

    fn fill(&mut self, now: Stamp) {
        let seconds = now.since(self.at).as_secs_f64();
        self.tokens = (self.tokens + seconds * self.rate).min(self.burst());
        self.at = self.at.max(now);
    }

    fn burst(&self) -> f64 {
        (self.rate * BURST_SECONDS).max(1.0)
    }
}

/// From the slowest to the fastest without slow start: long enough to see whether more is too much.
pub const LINEAR_SECONDS: f64 = 100.0;
/// In a row; fewer may be messages that fail by themselves.
pub const FAILURES_OF_AN_OUTAGE: u32 = 5;
/// What is saved for a burst, in seconds of the pace: timers come up to a few hundredths of a second
/// late.
pub const BURST_SECONDS: f64 = 0.05;
/// Deliveries that were under way when it fell fail for the same reason.
const BETWEEN_FALLS: Duration = Duration::from_secs(1);
/// Stamps are no finer.
const TICK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// How many begin in so many milliseconds, if each is told at once what came of it.
    fn begun(pace: &mut Pace, from: u64, millis: u64, succeeds: bool) -> u32 {
        let mut begun = 0;
        for now in (from..from + millis).map(Stamp) {
            while pace.take(now).is_ok() {
                begun += 1;
                if succeeds {
                    pace.succeeded(now);
                } else {
                    pace.failed(now);
                }
            }
        }
        begun
    }

    #[test]
    fn it_starts_slowly_and_grows_with_successes() {
        let mut pace = Pace::new(10.0, 1000.0, Stamp(0));
        let first = begun(&mut pace, 0, 1000, true);
        assert!((15..=20).contains(&first), "{first}");
        let second = begun(&mut pace, 1000, 1000, true);
        assert!((38..=55).contains(&second), "by about e: {second}");
        begun(&mut pace, 2000, 8000, true);
        assert_eq!(pace.rate(), 1000.0, "and no further");
        let full = begun(&mut pace, 10_000, 10_000, true);
        assert!((9950..=10_051).contains(&full), "{full}");
    }

    #[test]
    fn it_falls_with_failures_and_is_careful_from_there() {
        let mut pace = Pace::new(10.0, 1000.0, Stamp(0));
        begun(&mut pace, 0, 20_000, true);
        pace.failed(Stamp(20_000));
        assert_eq!(pace.rate(), 500.0);
        pace.failed(Stamp(20_999));
        assert_eq!(pace.rate(), 500.0, "for the same reason");
        pace.succeeded(Stamp(21_000));
        assert!(pace.rate() < 500.1, "a hundredth of the way a second");
        begun(&mut pace, 21_000, 10_000, true);
        assert!((590.0..610.0).contains(&pace.rate()), "{}", pace.rate());
        (0..4).for_each(|_| pace.failed(Stamp(40_000)));
        assert!(pace.rate() > 290.0, "{}", pace.rate());
        pace.failed(Stamp(40_000));
        assert_eq!(pace.rate(), 10.0, "an outage");
    }

    #[test]
    fn a_limit_on_this_side_is_no_outage() {
        let mut pace = Pace::new(10.0, 1000.0, Stamp(0));
        begun(&mut pace, 0, 20_000, true);
        (0..100).for_each(|_| pace.turned_away(Stamp(20_000)));
        assert_eq!(pace.rate(), 500.0, "once a second");
        (0..100).for_each(|_| pace.turned_away(Stamp(21_000)));
        assert_eq!(pace.rate(), 250.0);
        (22..60).for_each(|second| pace.turned_away(Stamp(second * 1000)));
        assert_eq!(pace.rate(), 10.0, "and no slower");
    }

    #[test]
    fn during_an_outage_it_is_the_slowest_and_saves_nothing() {
        let mut pace = Pace::new(10.0, 1000.0, Stamp(0));
        begun(&mut pace, 0, 20_000, true);
        begun(&mut pace, 20_000, 1000, false);
        let hour = begun(&mut pace, 21_000, 3_600_000, false);
        assert!((35_990..=36_001).contains(&hour), "{hour}");
        let after = begun(&mut pace, 4_000_000, 1000, true);
        assert!(after <= 20, "nothing is saved for when it is back: {after}");
    }

    #[test]
    fn it_says_when_to_ask_again() {
        let mut pace = Pace::new(10.0, 1000.0, Stamp(0));
        assert_eq!(pace.take(Stamp(0)), Ok(()));
        assert_eq!(pace.take(Stamp(0)), Err(Stamp(100)));
        assert_eq!(pace.take(Stamp(50)), Err(Stamp(100)));
        assert_eq!(pace.take(Stamp(100)), Ok(()));
        assert_eq!(
            pace.take(Stamp(40)),
            Err(Stamp(140)),
            "time that goes back gives nothing"
        );
    }
}
