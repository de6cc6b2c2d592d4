//! What a closed breaker counts, and when it has seen enough.

use std::time::Duration;

use super::Config;
use crate::ratio::Ratio;
use crate::sync::{AtomicU64, Ordering, Padded};
use crate::time::{Time, nanos};
use crate::window::{Counted, Tally, Timed, Window};

/// The lock-free side of a breaker: a run of failures and a window.
pub(super) struct Counter {
    consecutive: Option<u32>,
    failures: Option<u32>,
    failure_ratio: Option<Ratio>,
    slow: Option<(Duration, Ratio)>,
    patience: Option<Duration>,
    min_calls: u64,
    run: Padded<AtomicU64>,
    window: Results,
}

/// Where the results go. `bad_until`: while no failure and no slow call is in the window, no
/// success can complete a rule, and it need not look.
enum Results {
    None,
    Calls(Counted),
    Time(Box<Sliding>),
}

struct Sliding {
    all: Timed,
    slow: Option<Box<Timed>>,
    /// The failures alone, for the rule that counts them: a bucket that is full of successes
    /// would halve them too.
    failures: Option<Box<Timed>>,
    length: u64,
    bad_until: Padded<AtomicU64>,
}

impl Counter {
    pub(super) fn new(config: &Config) -> Counter {
        let window = match config.window {
            _ if !config.needs_window() => Results::None,
            Window::Calls(calls) => Results::Calls(Counted::new(calls)),
            Window::Time(length) => Results::Time(Box::new(Sliding {
                all: Timed::new(length),
                slow: config.slow.map(|_| Box::new(Timed::new(length))),
                failures: config.failures.map(|_| Box::new(Timed::new(length))),
                length: nanos(length),
                bad_until: Padded(AtomicU64::new(0)),
            })),
        };
        Counter {
            consecutive: config.consecutive,
            failures: config.failures,
            failure_ratio: config.failure_ratio,
            slow: config.slow,
            patience: config.patience,
            min_calls: u64::from(config.min_calls),
            run: Padded(AtomicU64::new(0)),
            window,
        }
    }

    /// Counts one result; the tally, if a rule is now met.
    #[inline]
    pub(super) fn record(
        &self,
        generation: u64,
        failed: bool,
        slow: bool,
        now: Time,
    ) -> Option<Tally> {
        let run_is_met = match self.consecutive {
            Some(limit) => self.run(generation, failed) >= limit,
            None => false,
        };
        match &self.window {
            Results::None => run_is_met.then(Tally::default),
            Results::Calls(window) => {
                let tally = window.record(generation, failed, slow);
                let by_failures = self.is_met_by_failures(tally.failed);
                (run_is_met || by_failures || self.is_met(tally)).then_some(tally)
            }
            Results::Time(sliding) => {
                let Sliding {
                    all,
                    slow: slow_calls,
                    failures,
                    length,
                    bad_until,
                } = &**sliding;
                let in_bucket = all.record(generation, failed, now);
                if let Some(slow_calls) = slow_calls {
                    // Also those that are not: both windows have to halve a full bucket alike.
                    slow_calls.record(generation, slow, now);
                }
                if let (Some(failures), true) = (failures, failed) {
                    failures.record(generation, true, now);
                }
                if failed || slow {
                    let until = now.as_nanos().saturating_add(*length);
                    bad_until.0.fetch_max(until, Ordering::Relaxed);
                } else if in_bucket > self.min_calls
                    || bad_until.0.load(Ordering::Relaxed) < now.as_nanos()
                {
                    // A success only ever lowers the ratios: it can meet a rule by completing
                    // the minimum of calls alone, which one bucket by itself exceeds already.
                    return None;
                }
                let tally = self.tally(generation, now);
                let failures = failures
                    .as_ref()
                    .map_or(0, |only| only.sum(generation, now).1);
                (run_is_met || self.is_met_by_failures(failures) || self.is_met(tally))
                    .then_some(tally)
            }
        }
    }

    /// What the window holds of `generation`.
    pub(super) fn tally(&self, generation: u64, now: Time) -> Tally {
        match &self.window {
            Results::None => Tally::default(),
            Results::Calls(window) => window.sum(generation),
            Results::Time(sliding) => {
                let (total, failed) = sliding.all.sum(generation, now);
                let slow = sliding
                    .slow
                    .as_ref()
                    .map_or(0, |slow| slow.sum(generation, now).1);
                Tally {
                    total,
                    failed,
                    slow,
                }
            }
        }
    }

    /// Starts a generation with nothing counted.
    pub(super) fn restart(&self, generation: u64) {
        match &self.window {
            Results::Calls(window) => window.restart(generation),
            Results::None | Results::Time(_) => {}
        }
    }

    pub(super) fn is_slow(&self, took: Duration) -> bool {
        self.slow.is_some_and(|(after, _)| took > after)
    }

    pub(super) fn patience(&self, timeout: Duration) -> Duration {
        self.patience
            .or(self.slow.map(|(after, _)| after))
            .unwrap_or(timeout)
    }

    fn is_met_by_failures(&self, failures: u64) -> bool {
        self.failures
            .is_some_and(|limit| failures >= u64::from(limit))
    }

    fn is_met(&self, tally: Tally) -> bool {
        let enough = tally.total >= self.min_calls;
        let ratio = |limit: Ratio, part| enough && limit.reached_by(part, tally.total);
        self.failure_ratio
            .is_some_and(|limit| ratio(limit, tally.failed))
            || self.slow.is_some_and(|(_, limit)| ratio(limit, tally.slow))
    }

    /// The length of the current run of failures, which a success ends:
    /// `generation:32 | failures:32` in one word.
    fn run(&self, generation: u64, failed: bool) -> u32 {
        let tag = generation << 32;
        let mut word = self.run.0.load(Ordering::Relaxed);
        loop {
            let run = match ((word >> 32) as i32).wrapping_sub(generation as i32) {
                0 => word as u32,
                ahead if ahead < 0 => 0,
                _ => return 0,
            };
            let next = if failed { run.saturating_add(1) } else { 0 };
            if next == run {
                return run;
            }
            match self.run.0.compare_exchange_weak(
                word,
                tag | u64::from(next),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return next,
                Err(changed) => word = changed,
            }
        }
    }
}
