//! How much extra load is allowed, for retries, hedges and failovers together.
//!
//! When a dependency slows down, every caller wants a second attempt at the same time; unbounded,
//! the second attempts are what keeps it down. The budget allows extra attempts up to a *ratio*
//! of what *succeeded* in the last 30 s, plus a small *reserve* so that a quiet client can retry
//! at all.
//!
//! Deposits come from successes, not from requests: with deposits per request the load of a dead
//! dependency is `(1 + ratio) * load`, which keeps an outage alive above a utilisation of
//! `1 / (1 + ratio)`; with deposits per success, extra load vanishes together with the successes
//! (reproduced from Bronson et al., "Metastable Failures in Distributed Systems", HotOS 2021).
//!
//! **The law**: at no withdrawal do those of the last `window` exceed `reserve + ratio *
//! successes` of the same time, whatever the number of threads. Deposits are remembered for 0.9
//! to 1 window and withdrawals for 1 to 1.1, so rounding to ticks never breaks it.

use std::time::Duration;

use crate::config::{ConfigError, ensure};
use crate::ratio::Ratio;
use crate::reject::{Reason, Rejection};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::time::{Time, nanos};
use crate::window::{BUCKETS, Timed, check_length};

/// The extra attempts that one upstream may make.
#[derive(Debug)]
pub struct Budget {
    config: Config,
    tick: u64,
    deposits: Timed,
    withdrawals: Mutex<Withdrawals>,
    denied: AtomicU64,
}

impl Budget {
    /// An empty budget, which still has its reserve.
    ///
    /// # Errors
    /// If the window is not between 10 ms and 24 h.
    pub fn new(config: Config) -> Result<Budget, ConfigError> {
        config.check()?;
        Ok(Budget {
            tick: nanos(config.window) / BUCKETS,
            deposits: Timed::new(config.window),
            withdrawals: Mutex::new(Withdrawals::default()),
            denied: AtomicU64::new(0),
            config,
        })
    }

    /// Notes one success.
    #[inline]
    pub fn deposit(&self, now: Time) {
        self.deposits.record(0, false, now);
    }

    /// Asks for one extra attempt.
    ///
    /// # Errors
    /// When it would exceed the allowance.
    pub fn withdraw(&self, now: Time) -> Result<Withdrawal, Rejection> {
        let tick = now.as_nanos() / self.tick;
        let mut withdrawals = lock(&self.withdrawals);
        if withdrawals.since(tick) < self.allowance(now) {
            withdrawals.add(tick);
            return Ok(Withdrawal { tick });
        }
        self.denied.fetch_add(1, Ordering::Relaxed);
        Err(Rejection::new(Reason::Budget))
    }

    /// Gives back what was withdrawn for an attempt that never started.
    pub fn refund(&self, withdrawal: Withdrawal) {
        lock(&self.withdrawals).remove(withdrawal.tick);
    }

    /// A snapshot for people and metrics.
    pub fn stats(&self, now: Time) -> Stats {
        let withdrawn = lock(&self.withdrawals).since(now.as_nanos() / self.tick);
        Stats {
            withdrawn,
            available: self.allowance(now).saturating_sub(withdrawn),
            denied: self.denied.load(Ordering::Relaxed),
        }
    }

    fn allowance(&self, now: Time) -> u64 {
        let (successes, _) = self.deposits.sum(0, now);
        self.config.ratio.of(successes) + u64::from(self.config.reserve)
    }
}

/// The right to one extra attempt; hand it back with [`Budget::refund`] if none is made.
#[derive(Debug)]
#[must_use = "an attempt that is not made has to be refunded"]
pub struct Withdrawal {
    tick: u64,
}

/// A snapshot of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Extra attempts in the window.
    pub withdrawn: u64,
    /// Extra attempts that would be granted now.
    pub available: u64,
    /// Extra attempts denied since the start.
    pub denied: u64,
}

/// How much extra load is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    ratio: Ratio,
    window: Duration,
    reserve: u32,
    enforce: bool,
}

impl Default for Config {
    /// 10 % of the successes of the last 30 s, and 3.
    fn default() -> Config {
        Config {
            ratio: Ratio::percent(10),
            window: Duration::from_secs(30),
            reserve: 3,
            enforce: true,
        }
    }
}

impl Config {
    /// Extra attempts for this share of the successes; 30 s of memory, a reserve of 3.
    pub fn new(ratio: Ratio) -> Config {
        Config {
            ratio,
            ..Config::default()
        }
    }

    /// How long successes and withdrawals are remembered. Default 30 s, 10 ms to 24 h.
    pub fn window(mut self, window: Duration) -> Config {
        self.window = window;
        self
    }

    /// Extra attempts per window that need no success, at most 10,000. Default 3: with many
    /// clients the sum of their reserves is what a recovering dependency has to survive.
    pub fn reserve(mut self, attempts: u32) -> Config {
        self.reserve = attempts;
        self
    }

    /// `false`: shadow mode. It counts what it would deny, and grants. Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    /// Whether it denies, and does not only count.
    pub fn is_enforced(&self) -> bool {
        self.enforce
    }

    /// How long successes and withdrawals are remembered.
    pub fn memory(&self) -> Duration {
        self.window
    }

    pub(crate) fn share(&self) -> Ratio {
        self.ratio
    }

    fn check(&self) -> Result<(), ConfigError> {
        check_length(self.window)
            .map_err(|_| ConfigError::new("budget.window", "must lie between 10 ms and 24 h"))?;
        ensure(
            self.reserve <= 10_000,
            "budget.reserve",
            "may be at most 10,000",
        )
    }
}

/// Withdrawals by tick, for one tick longer than the deposits.
#[derive(Debug, Default)]
struct Withdrawals {
    counts: [(u64, u64); BUCKETS as usize + 1],
}

impl Withdrawals {
    fn since(&self, tick: u64) -> u64 {
        let remembered = |(at, _): &&(u64, u64)| at + BUCKETS >= tick;
        self.counts
            .iter()
            .filter(remembered)
            .map(|(_, count)| count)
            .sum()
    }

    fn add(&mut self, tick: u64) {
        let slot = self.slot(tick);
        if slot.0 < tick {
            *slot = (tick, 0);
        }
        slot.1 += 1;
    }

    fn remove(&mut self, tick: u64) {
        let slot = self.slot(tick);
        if slot.0 == tick {
            slot.1 = slot.1.saturating_sub(1);
        }
    }

    fn slot(&mut self, tick: u64) -> &mut (u64, u64) {
        &mut self.counts[(tick % (BUCKETS + 1)) as usize]
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn budget(percent: u32, reserve: u32) -> Budget {
        Budget::new(Config::new(Ratio::percent(percent)).reserve(reserve)).unwrap()
    }

    fn granted(budget: &Budget, now: Time, asks: u32) -> usize {
        (0..asks).filter(|_| budget.withdraw(now).is_ok()).count()
    }

    #[test]
    fn grants_the_ratio_of_successes_and_the_reserve() {
        let now = Time::ZERO + SECOND;
        let earned = budget(10, 3);
        for _ in 0..1000 {
            earned.deposit(now);
        }
        assert_eq!(granted(&earned, now, 200), 103);
        assert_eq!(
            earned.stats(now),
            Stats {
                withdrawn: 103,
                available: 0,
                denied: 97
            }
        );
        assert_eq!(granted(&budget(10, 3), now, 200), 3);
    }

    #[test]
    fn both_sides_expire_and_a_refund_returns_the_place() {
        let budget = budget(10, 1);
        let early = Time::ZERO + SECOND;
        let withdrawal = budget.withdraw(early).unwrap();
        assert!(budget.withdraw(early).is_err());
        budget.refund(withdrawal);
        assert!(budget.withdraw(early).is_ok());
        assert!(budget.withdraw(early + 30 * SECOND).is_err());
        assert!(budget.withdraw(early + 33 * SECOND).is_ok());
    }

    /// tower's budget truncates 0.4 to 50 % and 0.6 to 100 %.
    #[test]
    fn ratios_are_exact() {
        for percent in [1, 9, 40, 60, 70, 90] {
            let budget = budget(percent, 0);
            for _ in 0..1000 {
                budget.deposit(Time::ZERO);
            }
            assert_eq!(
                granted(&budget, Time::ZERO, 2000),
                percent as usize * 10,
                "{percent} %"
            );
        }
    }

    /// tower's budget was overdrawn in 214 of 20,000 two-thread trials.
    #[test]
    fn is_never_overdrawn_by_threads() {
        for _ in 0..200 {
            let budget = budget(0, 5);
            let granted: usize = std::thread::scope(|scope| {
                let ask = || granted(&budget, Time::ZERO, 5);
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .sum()
            });
            assert_eq!(granted, 5);
        }
    }

    proptest! {
        #[test]
        fn equals_a_naive_list_of_ticks(
            steps in proptest::collection::vec((0u64..4_000, 0u8..4), 1..300),
            reserve in 0u32..5,
        ) {
            let budget = budget(10, reserve);
            let (mut now, mut deposits, mut paid) = (0, Vec::new(), Vec::new());
            for (step, what) in steps {
                now += step;
                let (time, tick) = (Time::from_millis(now), now / 3_000);
                deposits.retain(|at| at + 10 > tick);
                paid.retain(|at| at + 10 >= tick);
                if what > 0 {
                    budget.deposit(time);
                    deposits.push(tick);
                    continue;
                }
                let allowed = deposits.len() / 10 + reserve as usize;
                prop_assert_eq!(budget.withdraw(time).is_ok(), paid.len() < allowed);
                if paid.len() < allowed {
                    paid.push(tick);
                }
            }
        }

        #[test]
        fn no_window_exceeds_its_law(
            steps in proptest::collection::vec((0u64..5_000, any::<bool>()), 1..400),
            reserve in 0u32..5,
        ) {
            let budget = budget(10, reserve);
            let (mut now, mut successes, mut withdrawals) = (0, Vec::new(), Vec::new());
            for (step, succeeds) in steps {
                now += step;
                if succeeds {
                    budget.deposit(Time::from_millis(now));
                    successes.push(now);
                    continue;
                }
                if budget.withdraw(Time::from_millis(now)).is_err() {
                    continue;
                }
                withdrawals.push(now);
                let recent = |at: &&u64| **at + 30_000 > now;
                let earned = successes.iter().filter(recent).count() / 10;
                let taken = withdrawals.iter().filter(recent).count();
                prop_assert!(taken <= earned + reserve as usize, "{taken} of {earned}");
            }
        }
    }
}
