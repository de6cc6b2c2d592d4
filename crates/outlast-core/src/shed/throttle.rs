//! Not sending what will be refused.
//!
//! Refusing a call costs the dependency, too: enough refusals keep it busy with nothing else. So a
//! client counts what it wanted to send and what was accepted, and once more than `k` times the
//! accepted is wanted, it refuses the rest itself:
//! `p = max(0, (requests - k * accepts) / (requests + 1))` (Google, "Site Reliability
//! Engineering", 2016, chapter 21). What is sent settles at `k` times what is accepted, and it
//! notices by itself when more is.
//!
//! Requests are counted when they are made, not when they end, so the answer to a burst does not
//! come a round trip late. The share that is refused is taken from the lowest tier first: a higher
//! tier is throttled only when all of the lower ones is not enough.
//!
//! `k` has to exceed `1 / (share that is accepted in normal times)`, or the throttle holds itself
//! down: with 1.1 a service that refuses one call in ten for reasons of its own never recovers.

use std::time::Duration;

use crate::config::{ConfigError, ensure};
use crate::outcome::Outcome;
use crate::ratio::Ratio;
use crate::reject::{Reason, Rejection};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::tier::Tier;
use crate::time::Time;
use crate::window::{Timed, check_length};

/// A client's own restraint towards one dependency.
#[derive(Debug)]
pub struct Throttle {
    config: Config,
    requests: [Timed; 3],
    accepts: Timed,
    /// The share of each tier to refuse, in millionths.
    refused: [AtomicU32; 3],
    renew_at: AtomicU64,
}

impl Throttle {
    /// A throttle that has seen no requests.
    ///
    /// # Errors
    /// If `config` cannot work; the error names the setting and the mend.
    pub fn new(config: Config) -> Result<Throttle, ConfigError> {
        config.check()?;
        Ok(Throttle {
            requests: std::array::from_fn(|_| Timed::new(config.window)),
            accepts: Timed::new(config.window),
            refused: std::array::from_fn(|_| AtomicU32::new(0)),
            renew_at: AtomicU64::new(0),
            config,
        })
    }

    /// Asks whether to send a request; `unit` is a random number from 0 to 1.
    ///
    /// # Errors
    /// When it would probably be refused.
    #[inline]
    pub fn admit(&self, tier: Tier, unit: f64, now: Time) -> Result<(), Rejection> {
        self.requests[tier.index()].record(0, false, now);
        if now.as_nanos() >= self.renew_at.load(Ordering::Relaxed) {
            self.renew(now);
        }
        let refused = self.refused[tier.index()].load(Ordering::Relaxed);
        if refused > 0 && unit < f64::from(refused) / MILLION {
            return Err(Rejection::new(Reason::Throttled));
        }
        Ok(())
    }

    /// Notes how a request went that was sent. Accepted is what was not a failure; one that says
    /// nothing ([`Outcome::Ignored`]) counts as accepted, because it was counted as a request.
    #[inline]
    pub fn record(&self, outcome: Outcome, now: Time) {
        match outcome {
            Outcome::Success | Outcome::Permanent | Outcome::Ignored => {
                self.accepts.record(0, false, now);
            }
            Outcome::Transient | Outcome::Unsent | Outcome::Overload { .. } => {}
        }
    }

    /// A snapshot for people and metrics.
    pub fn stats(&self, now: Time) -> Stats {
        let requests = self.requested(now);
        let accepts = self.accepts.sum(0, now).0;
        Stats {
            requests: requests.iter().sum(),
            accepts,
            refused: self.config.by_tier(requests, accepts),
        }
    }

    fn requested(&self, now: Time) -> [u64; 3] {
        std::array::from_fn(|at| self.requests[at].sum(0, now).0)
    }

    /// Sums the windows, at most every [`RENEWAL`].
    #[cold]
    fn renew(&self, now: Time) {
        let next = (now + RENEWAL).as_nanos();
        if self.renew_at.swap(next, Ordering::Relaxed) >= next {
            return;
        }
        let accepts = self.accepts.sum(0, now).0;
        let shares = self.config.by_tier(self.requested(now), accepts);
        for (cell, share) in self.refused.iter().zip(shares) {
            cell.store((share * MILLION).round() as u32, Ordering::Relaxed);
        }
    }
}

/// A snapshot of a throttle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// Requests in the window, sent or not.
    pub requests: u64,
    /// Those that were accepted.
    pub accepts: u64,
    refused: [f64; 3],
}

impl Stats {
    /// The probability with which a request of this tier is not sent, from 0 to 1.
    pub fn refused(&self, tier: Tier) -> f64 {
        self.refused[tier.index()]
    }
}

/// How much more than is accepted is sent.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    k: f64,
    window: Duration,
    most: Ratio,
    min_requests: u32,
    enforce: bool,
}

impl Default for Config {
    /// Twice what was accepted in the last two minutes.
    fn default() -> Config {
        Config {
            k: 2.0,
            window: Duration::from_secs(120),
            most: Ratio::percent(90),
            min_requests: 10,
            enforce: true,
        }
    }
}

impl Config {
    /// How many times the accepted may be wanted before something is refused. Default 2, 1 to 100:
    /// 1.1 wastes less of the dependency's work and needs one that normally accepts everything.
    pub fn k(mut self, k: f64) -> Config {
        self.k = k;
        self
    }

    /// How long requests are remembered. Default 2 min, 10 ms to 24 h.
    pub fn window(mut self, window: Duration) -> Config {
        self.window = window;
        self
    }

    /// Never refuses more than this share of all requests. Default 90 %: after a total outage the
    /// formula alone lets one request in as many as the window holds find out that it is over, and
    /// then doubles what it sends every third of a window.
    pub fn most(mut self, share: Ratio) -> Config {
        self.most = share;
        self
    }

    /// Requests to have seen in the window before any is refused. Default 10; by the formula alone
    /// one failure at the start refuses half.
    pub fn min_requests(mut self, requests: u32) -> Config {
        self.min_requests = requests;
        self
    }

    /// `false`: shadow mode. It counts what it would refuse, and lets it pass. Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    /// Whether a driver has to obey.
    pub fn is_enforced(&self) -> bool {
        self.enforce
    }

    /// The share to refuse of so many requests, of which so many were accepted.
    pub fn probability(&self, requests: u64, accepts: u64) -> f64 {
        if requests < u64::from(self.min_requests) {
            return 0.0;
        }
        let surplus = requests as f64 - self.k * accepts as f64;
        (surplus / (requests as f64 + 1.0)).clamp(0.0, self.most.as_f64())
    }

    /// The same refusals, taken from the lowest tier first.
    fn by_tier(&self, requests: [u64; 3], accepts: u64) -> [f64; 3] {
        let total = requests.iter().sum();
        let mut refusals = self.probability(total, accepts) * total as f64;
        let mut shares = [0.0; 3];
        for tier in Tier::ALL.into_iter().rev() {
            let asked = requests[tier.index()] as f64;
            if asked > 0.0 {
                shares[tier.index()] = (refusals / asked).min(1.0);
                refusals = (refusals - asked).max(0.0);
            }
        }
        shares
    }

    fn check(&self) -> Result<(), ConfigError> {
        ensure(
            (1.0..=100.0).contains(&self.k),
            "throttle.k",
            "must lie between 1 and 100; 2 is usual",
        )?;
        check_length(self.window)
            .map_err(|_| ConfigError::new("throttle.window", "must lie between 10 ms and 24 h"))
    }
}

const MILLION: f64 = 1e6;
/// A tenth of a second of a window of minutes; summing it for every request would cost more than
/// the request.
const RENEWAL: Duration = Duration::from_millis(100);

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    const SECOND: Duration = Duration::from_secs(1);
    const TENTH: Duration = Duration::from_millis(100);

    #[test]
    fn one_failure_at_the_start_refuses_nothing() {
        assert_eq!(Config::default().probability(1, 0), 0.0);
        assert_eq!(Config::default().min_requests(1).probability(1, 0), 0.5);
    }

    #[test]
    fn the_lowest_tier_is_throttled_first() {
        let config = Config::default();
        let refused = config.by_tier([100, 100, 200], 100);
        assert_eq!(refused[..2], [0.0, 0.0]);
        assert!((refused[2] - 400.0 * 200.0 / 401.0 / 200.0).abs() < 1e-9);
        let refused = config.by_tier([100, 100, 200], 52);
        assert_eq!((refused[0], refused[2]), (0.0, 1.0));
        assert!(
            (0.0..1.0).contains(&refused[1]) && refused[1] > 0.9,
            "{refused:?}"
        );
        assert_eq!(config.by_tier([0, 0, 0], 0), [0.0; 3]);
    }

    #[test]
    fn a_dependency_that_accepts_again_is_believed_as_its_refusals_are_forgotten() {
        let config = Config::default().window(20 * SECOND);
        let throttle = Throttle::new(config).unwrap();
        let (mut now, mut rng, mut sent) = (Time::ZERO, Rng::new(1), 0);
        for step in 0..3_000u32 {
            now = now + TENTH;
            if throttle.admit(Tier::Important, rng.unit(), now).is_err() {
                continue;
            }
            let is_late = step > 2_500;
            sent += u32::from(is_late);
            let accepts = step > 600;
            let overload = Outcome::Overload { retry_after: None };
            throttle.record(if accepts { Outcome::Success } else { overload }, now);
        }
        assert_eq!(sent, 499, "nothing is refused any more");
    }

    #[test]
    fn impossible_settings_are_refused() {
        for config in [
            Config::default().k(0.9),
            Config::default().k(f64::NAN),
            Config::default().k(1e9),
            Config::default().window(Duration::ZERO),
        ] {
            assert!(Throttle::new(config).is_err(), "{config:?}");
        }
    }

    proptest! {
        /// What is refused in all is what the formula says, and never from a tier while some of a
        /// lower one may still be refused.
        #[test]
        fn tiers_share_the_formulas_refusals(
            requests in proptest::array::uniform3(0u64..10_000),
            accepts in 0u64..10_000,
        ) {
            let config = Config::default();
            let total: u64 = requests.iter().sum();
            let shares = config.by_tier(requests, accepts);
            let refused: f64 = shares.iter().zip(requests).map(|(share, asked)| share * asked as f64).sum();
            prop_assert!((refused - config.probability(total, accepts) * total as f64).abs() < 1e-6);
            for (lower, higher) in [(2, 1), (2, 0), (1, 0)] {
                let spared = requests[lower] > 0 && shares[lower] < 1.0;
                prop_assert!(!spared || shares[higher] == 0.0, "{shares:?}");
            }
        }
    }
}
