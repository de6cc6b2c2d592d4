//! The sequential rank test: its scores, its false alarms, its power.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;
use crate::window::Histogram;

fn counts(micros: impl IntoIterator<Item = u64>) -> Counts {
    let histogram = Histogram::new();
    for micros in micros {
        histogram.record(Duration::from_micros(micros));
    }
    histogram.take()
}

/// Exponential times with this mean in microseconds.
fn times(rng: &mut Rng, calls: u64, mean: f64) -> Counts {
    counts((0..calls).map(|_| (-(1.0 - rng.unit()).ln() * mean) as u64))
}

/// In which second the test raises an alarm.
fn alarm(seed: u64, seconds: u64, traffic: impl Fn(&mut Rng, u64) -> [Counts; 2]) -> Option<u64> {
    let mut rng = Rng::new(seed);
    let mut test = LatencyTest::new(0.05, 0.05);
    (0..seconds).find(|&second| {
        let [baseline, canary] = traffic(&mut rng, second);
        test.absorb(&baseline, &canary)
    })
}

#[test]
fn an_equal_canary_is_blamed_in_at_most_one_run_of_twenty() {
    for calls in [[30, 30], [90, 10], [20, 80]] {
        let equal = |rng: &mut Rng, _| calls.map(|calls| times(rng, calls, 10_000.0));
        let blamed = (0..300)
            .filter(|&seed| alarm(seed, 60, equal).is_some())
            .count();
        assert!(blamed <= 15, "{blamed} of 300 with {calls:?} calls");
    }
}

#[test]
fn coarse_times_and_drifting_load_are_no_evidence() {
    // Times of 1, 2 or 3 us, so that nearly all are ties, and a load that doubles them while the
    // canary's share grows.
    let drifting = |rng: &mut Rng, second: u64| {
        let slow = 1 + second / 50;
        [100 - second / 2, second / 2 + 5]
            .map(|calls| counts((0..calls).map(|_| slow * (1 + rng.next_u64() % 3))))
    };
    let blamed = (0..300)
        .filter(|&seed| alarm(seed, 150, drifting).is_some())
        .count();
    assert!(blamed <= 15, "{blamed}");
}

#[test]
fn a_slow_canary_is_found() {
    for (mean, within) in [(20_000.0, 20), (14_000.0, 120)] {
        for seed in 0..100 {
            let second = alarm(seed, within, |rng, _| {
                [times(rng, 90, 10_000.0), times(rng, 10, mean)]
            });
            assert!(second.is_some(), "seed {seed}, mean {mean}");
        }
    }
}

#[test]
fn a_single_pause_is_not_enough() {
    let pause = |rng: &mut Rng, second: u64| {
        let mean = if second == 20 { 1_000_000.0 } else { 10_000.0 };
        [times(rng, 50, 10_000.0), times(rng, 50, mean)]
    };
    let calm = |rng: &mut Rng, _| [times(rng, 50, 10_000.0), times(rng, 50, 10_000.0)];
    let blamed = |traffic: &dyn Fn(&mut Rng, u64) -> [Counts; 2]| {
        (0..100)
            .filter(|&seed| alarm(seed, 60, traffic).is_some())
            .count()
    };
    assert!(blamed(&pause) <= blamed(&calm) + 5);
}

proptest! {
    #[test]
    fn the_score_is_that_of_all_pairs(
        baseline in proptest::collection::vec(0u64..30, 1..60),
        canary in proptest::collection::vec(0u64..30, 1..60),
    ) {
        // Below 8 us a bucket is a microsecond; above, the bucket is what is compared.
        let bucket = |micros: u64| counts([micros]).buckets().position(|count| count == 1).unwrap();
        let mut wins = 0.0;
        for &new in &canary {
            for &old in &baseline {
                wins += match bucket(new).cmp(&bucket(old)) {
                    std::cmp::Ordering::Greater => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Less => 0.0,
                };
            }
        }
        let mean = (baseline.len() * canary.len()) as f64 / 2.0;
        let z = score(&counts(baseline.clone()), &counts(canary.clone()));
        prop_assert_eq!(z > 1e-9, wins > mean + 1e-9);
        let mirrored = score(&counts(canary), &counts(baseline));
        prop_assert!((z + mirrored).abs() < 1e-9);
    }
}

#[test]
fn equals_a_score_worked_out_by_hand() {
    // Ranks of the canary: 4, 5, 6 of six; U = 9, mean 4.5, variance 9 * 7 / 12.
    let z = score(&counts([1, 2, 3]), &counts([4, 5, 6]));
    assert!((z - 4.5 / (63.0f64 / 12.0).sqrt()).abs() < 1e-12, "{z}");
    // Two ties of two: the variance shrinks by 2 * (8 - 2) / (6 * 5).
    let z = score(&counts([1, 2, 3]), &counts([2, 3, 4]));
    let variance = 9.0 / 12.0 * (7.0 - 12.0 / 30.0);
    assert!((z - 2.5 / f64::sqrt(variance)).abs() < 1e-12, "{z}");
    assert_eq!(score(&counts([5; 30]), &counts([5; 30])), 0.0);
}
