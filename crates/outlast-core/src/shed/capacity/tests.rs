use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// The limit before a service that serves `workers` calls at once, in `took` each, and lets the
/// others wait. There are always as many calls as may come.
struct Pressed {
    capacity: Capacity,
    estimate: f64,
    workers: u32,
    took: Duration,
}

impl Pressed {
    /// Found from nothing.
    fn new(workers: u32, took: Duration) -> Pressed {
        let mut pressed = Pressed {
            capacity: Capacity::default(),
            estimate: 10.0,
            workers,
            took,
        };
        pressed.serve(100_000);
        pressed
    }

    fn limit(&self) -> u32 {
        self.capacity.shown(self.estimate).max(1.0) as u32
    }

    fn window(&mut self, sample: Sample) {
        let next = self.capacity.update(self.estimate, 1.0, sample);
        self.estimate = next.clamp(1.0, 10_000.0);
    }

    /// Serves a window; how many calls that were.
    fn serve_window(&mut self) -> u32 {
        let limit = self.limit();
        let calls = self.capacity.window(limit);
        let crowd = f64::from(limit.max(self.workers)) / f64::from(self.workers);
        self.window(sample(self.took.mul_f64(crowd), limit, calls));
        calls
    }

    fn serve(&mut self, calls: u32) {
        let mut served = 0;
        while served < calls {
            served += self.serve_window();
        }
    }

    /// How many windows it takes until nine tenths of the workers may have work.
    fn windows_until_well(&mut self) -> u32 {
        let mut windows = 0;
        while (self.estimate as u32) * 10 < self.workers * 9 && windows < 10 * BOUND {
            self.serve_window();
            windows += 1;
        }
        windows
    }
}

fn sample(took: Duration, in_flight: u32, calls: u32) -> Sample {
    Sample {
        took,
        in_flight,
        calls,
        timeouts: 0,
        refused: 0,
    }
}

const MS: Duration = Duration::from_millis(1);
/// Windows until a limit is back, at most.
const BOUND: u32 = 1000;

/// One and three quarters let one call in, which is all of it, not four sevenths.
#[test]
fn a_limit_between_two_numbers_is_the_lower_one() {
    for tenths in 10..80 {
        let mut pressed = Pressed::new(8, 20 * MS);
        pressed.estimate = f64::from(tenths) / 10.0;
        let windows = pressed.windows_until_well();
        assert!(windows <= 100, "{windows} from {tenths} tenths");
    }
}

/// Calls that take longer and do not wait for each other are no crowd.
#[test]
fn a_service_that_is_slower_for_good_keeps_its_limit() {
    for (workers, times) in [(1, 2), (2, 10), (8, 2), (8, 10), (40, 3), (200, 10)] {
        let mut pressed = Pressed::new(workers, 20 * MS);
        pressed.took = 20 * MS * times;
        pressed.serve(20_000);
        let windows = pressed.windows_until_well();
        assert_eq!(windows, 0, "{workers} workers, {times} times as slow");
        assert!(pressed.limit() <= 2 * workers + 2, "{}", pressed.limit());
    }
}

/// Whatever it takes for the base, the limit comes back: within so many windows of calls, if
/// there are enough of them.
#[test]
fn no_base_keeps_a_limit_down() {
    for workers in [1, 2, 3, 8, 40, 200] {
        for percent in (1..=300).chain([500, 1000, 10_000]) {
            for limit in [1, 2, 4, 7, 36, 100] {
                let mut pressed = Pressed::new(workers, 20 * MS);
                pressed.estimate = f64::from(limit);
                pressed.capacity.base *= f64::from(percent) / 100.0;
                pressed.capacity.patience = LAST_PATIENCE;
                let windows = pressed.windows_until_well();
                assert!(
                    windows <= BOUND,
                    "{windows} from {limit} of {workers}, base {percent} %"
                );
            }
        }
    }
}

proptest! {
    /// The same after any windows at all.
    #[test]
    fn it_comes_back_whatever_has_happened(
        windows in proptest::collection::vec(
            (1u64..10_000_000_000, 0u32..=100, 0u32..40, 0u32..40),
            0..100,
        ),
        workers in 1u32..200,
        millis in 1u32..1000,
    ) {
        let mut pressed = Pressed::new(workers, 20 * MS);
        for (nanos, percent, timeouts, refused) in windows {
            let limit = pressed.limit();
            let calls = pressed.capacity.window(limit);
            pressed.window(Sample {
                timeouts: timeouts.saturating_sub(20).min(calls),
                refused: refused.saturating_sub(38),
                ..sample(Duration::from_nanos(nanos), limit * percent / 100, calls)
            });
        }
        pressed.took = millis * MS;
        let windows = pressed.windows_until_well();
        prop_assert!(windows <= BOUND, "{}", windows);
    }
}
