//! What attempts read and write of one endpoint: its load, its latency, its weight.

use std::time::Duration;

use crate::eject::Tally;
use crate::math;
use crate::outcome::Outcome;
use crate::sync::{AtomicU32, AtomicU64, Ordering, Padded};
use crate::time::{Time, nanos};

/// One endpoint's atomics, on cache lines of their own. It outlives the membership in which it
/// began: attempts of an older one count here, too.
pub(super) type Slot = Padded<Hot>;

#[derive(Debug, Default)]
pub(super) struct Hot {
    in_flight: AtomicU32,
    /// What it carries now, in [`WEIGHT`]ths; zero: it may not be chosen.
    weight: AtomicU32,
    latency: Latency,
    pub(super) tally: Tally,
}

/// Weights in fixed point, so that 10 % of weight 1 is still a number. The weights of 1,024
/// endpoints of weight 1,000 sum up to less than 2^32.
pub(super) const WEIGHT: u32 = 4_096;

impl Hot {
    #[inline]
    pub(super) fn start(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn end(&self) {
        let before = self.in_flight.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "an attempt ended that had not started");
    }

    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Acquire)
    }

    pub(super) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Release);
    }

    /// Learns from how long an attempt took.
    #[inline]
    pub(super) fn observe(&self, outcome: Outcome, took: Duration, now: Time, decay: Decay) {
        self.latency.observe(outcome, took, now, decay);
    }

    /// The expected latency in nanoseconds; `None` before the first answer.
    pub(super) fn latency(&self, now: Time, decay: Decay) -> Option<f64> {
        self.latency.read(now, decay)
    }

    /// The cost of one more attempt: `latency * (in flight + 1) / weight`. One of which nothing is
    /// known costs nothing until it has an attempt, and then more than any other: one probe at a
    /// time (as in Finagle).
    #[inline]
    pub(super) fn cost(&self, now: Time, decay: Decay) -> f64 {
        let in_flight = f64::from(self.in_flight());
        match self.latency.read(now, decay) {
            Some(latency) => latency * (in_flight + 1.0) / f64::from(self.weight().max(1)),
            None if in_flight == 0.0 => 0.0,
            None => f64::MAX / 2.0,
        }
    }

    /// The load with one more attempt: `(in flight + 1) / weight`.
    #[inline]
    pub(super) fn load(&self) -> f64 {
        (f64::from(self.in_flight()) + 1.0) / f64::from(self.weight().max(1))
    }
}

/// How fast an average forgets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decay {
    per_tick: f64,
}

impl Decay {
    pub(super) fn new(time_constant: Duration) -> Decay {
        let ticks = nanos(time_constant) as f64 / (1u64 << TICK) as f64;
        Decay {
            per_tick: -1.0 / ticks,
        }
    }

    /// What is left of an average after so many ticks.
    #[inline]
    fn after(self, ticks: u32) -> f64 {
        let x = self.per_tick * f64::from(ticks);
        // Of what was used a moment ago three terms of the series are right to a millionth, and
        // five times as fast.
        if x > -1.0 / 64.0 {
            return 1.0 + x + 0.5 * x * x;
        }
        math::exp(x)
    }
}

/// A peak EWMA of answer times in one word (Finagle's `PeakEwma`): the upper half is when it was
/// last changed, in ticks of 65.5 us, the lower half the average in units of 16 ns, zero for
/// unknown. The ticks wrap after 78 hours, so after a longer silence an old average may count for
/// more than it should; one answer mends that.
#[derive(Debug, Default)]
struct Latency(AtomicU64);

const TICK: u32 = 16;
const UNIT: u32 = 4;
/// No average is longer, however long an attempt took: 60 s.
const LONGEST: f64 = 60e9;
/// What an endpoint counts as whose very first attempt failed: 1 s.
const UNPROVEN: f64 = 1e9;

impl Latency {
    #[inline]
    fn read(&self, now: Time, decay: Decay) -> Option<f64> {
        let (average, age) = unpack(self.0.load(Ordering::Relaxed), now);
        (average > 0.0).then(|| average * decay.after(age))
    }

    /// An answer moves the average: up at once, down with time. A failure doubles it, or an
    /// endpoint that fails fast would look like the fastest and draw all load. A cancelled attempt
    /// took at least as long as it ran.
    #[inline]
    fn observe(&self, outcome: Outcome, took: Duration, now: Time, decay: Decay) {
        let took = nanos(took) as f64;
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (average, age) = unpack(word, now);
            let left = decay.after(age);
            let next = match outcome {
                Outcome::Success | Outcome::Permanent if took > average * left => took,
                Outcome::Success | Outcome::Permanent => average * left + took * (1.0 - left),
                Outcome::Transient | Outcome::Unsent | Outcome::Overload { .. } => {
                    if average == 0.0 {
                        took.max(UNPROVEN)
                    } else {
                        took.max(2.0 * average * left)
                    }
                }
                Outcome::Ignored if took > average * left => took,
                Outcome::Ignored => return,
            };
            let changed = pack(next, now);
            match self
                .0
                .compare_exchange_weak(word, changed, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(other) => word = other,
            }
        }
    }
}

fn ticks(now: Time) -> u32 {
    (now.as_nanos() >> TICK) as u32
}

/// The average in nanoseconds, and its age in ticks.
#[inline]
fn unpack(word: u64, now: Time) -> (f64, u32) {
    let average = (word & u64::from(u32::MAX)) << UNIT;
    let age = ticks(now).wrapping_sub((word >> 32) as u32);
    // An observation by somebody whose clock reading is a little newer.
    let age = if age > u32::MAX - 1_000_000 { 0 } else { age };
    (average as f64, age)
}

#[inline]
fn pack(average: f64, now: Time) -> u64 {
    let units = (average.min(LONGEST) as u64 >> UNIT).max(1);
    u64::from(ticks(now)) << 32 | units
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn ten_seconds() -> Decay {
        Decay::new(Duration::from_secs(10))
    }

    #[test]
    fn a_peak_counts_at_once_and_decays_with_time() {
        let slot = Hot::default();
        let decay = ten_seconds();
        assert_eq!(slot.latency(at(0), decay), None);
        let table = [
            (0, Outcome::Success, 10, 10.0),
            (0, Outcome::Success, 100, 100.0),
            (10_000, Outcome::Success, 10, 10.0 + 90.0 * (-1.0f64).exp()),
            (
                10_000,
                Outcome::Transient,
                1,
                2.0 * (10.0 + 90.0 * (-1.0f64).exp()),
            ),
            (
                10_000,
                Outcome::Ignored,
                5,
                2.0 * (10.0 + 90.0 * (-1.0f64).exp()),
            ),
            (10_000, Outcome::Ignored, 500, 500.0),
            (90_000, Outcome::Success, 20, 20.0),
        ];
        for (millis, outcome, took, expected) in table {
            slot.observe(outcome, took * MS, at(millis), decay);
            let latency = slot.latency(at(millis), decay).unwrap() / 1e6;
            assert!(
                (latency / expected - 1.0).abs() < 1e-3,
                "{latency} {expected}"
            );
        }
    }

    #[test]
    fn an_endpoint_that_fails_at_once_does_not_look_fast() {
        let decay = ten_seconds();
        let (failing, working) = (Hot::default(), Hot::default());
        failing.observe(Outcome::Unsent, Duration::ZERO, at(0), decay);
        working.observe(Outcome::Success, 20 * MS, at(0), decay);
        for millis in 1..30_000 {
            working.observe(Outcome::Success, 20 * MS, at(millis), decay);
            assert!(failing.cost(at(millis), decay) > working.cost(at(millis), decay));
        }
    }

    #[test]
    fn an_unknown_one_gets_one_attempt_at_a_time() {
        let (new, known) = (Hot::default(), Hot::default());
        let decay = ten_seconds();
        known.observe(Outcome::Success, MS, at(0), decay);
        assert!(new.cost(at(0), decay) < known.cost(at(0), decay));
        new.start();
        assert!(new.cost(at(0), decay) > known.cost(at(0), decay));
        new.end();
        assert!(new.cost(at(0), decay) < known.cost(at(0), decay));
    }

    proptest! {
        /// The formula in floating point, without packing.
        #[test]
        fn equals_the_formula(
            steps in proptest::collection::vec((0u64..100_000, 1u64..1_000_000), 1..100),
        ) {
            let (slot, decay) = (Hot::default(), ten_seconds());
            let (mut now, mut model, mut changed) = (0u64, 0.0f64, 0u64);
            for (wait, micros) in steps {
                now += wait * 65_536;
                let took = Duration::from_micros(micros);
                slot.observe(Outcome::Success, took, Time::from_nanos(now), decay);
                let left = (-((now - changed) as f64) / 10e9).exp();
                let rtt = micros as f64 * 1e3;
                model = if rtt > model * left { rtt } else { model * left + rtt * (1.0 - left) };
                changed = now;
                let latency = slot.latency(Time::from_nanos(now), decay).unwrap();
                prop_assert!((latency - model).abs() <= model * 1e-6 + 17.0 * 100.0);
            }
        }
    }
}
