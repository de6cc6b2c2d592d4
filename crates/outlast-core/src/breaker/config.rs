//! The settings of a breaker.

use std::time::Duration;

use crate::backoff::{Backoff, Jitter};
use crate::config::{ConfigError, DAY, ensure};
use crate::ratio::Ratio;
use crate::window::{Window, check_length};

/// When a breaker trips, for how long, and what closes it again.
///
/// Start from one rule ([`consecutive`](Config::consecutive), [`failures`](Config::failures),
/// [`failure_ratio`](Config::failure_ratio), [`slow_calls`](Config::slow_calls)) and add others
/// with the `or_...` setters: the breaker trips when any of them is met. The default is five
/// consecutive failures, 30 s of cooldown, three successful trials to close.
#[derive(Clone, Debug)]
pub struct Config {
    pub(super) consecutive: Option<u32>,
    pub(super) failures: Option<u32>,
    pub(super) failure_ratio: Option<Ratio>,
    pub(super) slow: Option<(Duration, Ratio)>,
    pub(super) window: Window,
    pub(super) min_calls: u32,
    pub(super) cooldown: Backoff,
    pub(super) trials: u32,
    pub(super) successes: u32,
    pub(super) tolerated: u32,
    pub(super) lease: Option<Duration>,
    pub(super) patience: Option<Duration>,
    pub(super) enforce: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config::consecutive(5)
    }
}

impl Config {
    /// Trips after so many failures without a success in between.
    pub fn consecutive(failures: u32) -> Config {
        Config::without_rule().or_consecutive(failures)
    }

    /// Trips at so many failures in the window, whatever the number of successes.
    pub fn failures(failures: u32, window: Window) -> Config {
        Config::without_rule().or_failures(failures).window(window)
    }

    /// Trips when this share of the calls in the window failed.
    pub fn failure_ratio(ratio: Ratio, window: Window) -> Config {
        Config::without_rule()
            .or_failure_ratio(ratio)
            .window(window)
    }

    /// Trips when this share of the calls in the window took longer than `after`, failed or not.
    pub fn slow_calls(after: Duration, ratio: Ratio, window: Window) -> Config {
        Config::without_rule()
            .or_slow_calls(after, ratio)
            .window(window)
    }

    fn without_rule() -> Config {
        Config {
            consecutive: None,
            failures: None,
            failure_ratio: None,
            slow: None,
            window: Window::Time(Duration::from_secs(30)),
            min_calls: 20,
            cooldown: Backoff::constant(Duration::from_secs(30)),
            trials: 3,
            successes: 3,
            tolerated: 0,
            lease: None,
            patience: None,
            enforce: true,
        }
    }

    /// Also trips after so many failures without a success in between.
    pub fn or_consecutive(mut self, failures: u32) -> Config {
        self.consecutive = Some(failures);
        self
    }

    /// Also trips at so many failures in the window.
    pub fn or_failures(mut self, failures: u32) -> Config {
        self.failures = Some(failures);
        self
    }

    /// Also trips when this share of the calls in the window failed.
    pub fn or_failure_ratio(mut self, ratio: Ratio) -> Config {
        self.failure_ratio = Some(ratio);
        self
    }

    /// Also trips when this share of the calls in the window took longer than `after`. A trial
    /// that is slow counts as failed.
    pub fn or_slow_calls(mut self, after: Duration, ratio: Ratio) -> Config {
        self.slow = Some((after, ratio));
        self
    }

    /// How far back all rules but `consecutive` look. Default: the last 30 s.
    pub fn window(mut self, window: Window) -> Config {
        self.window = window;
        self
    }

    /// Calls that must be in the window before a ratio means anything. Default 20; a window of
    /// calls must be able to hold them.
    pub fn min_calls(mut self, calls: u32) -> Config {
        self.min_calls = calls;
        self
    }

    /// How long it stays open, growing with every half-open phase that fails. Default: 30 s,
    /// constant; a [`Duration`] converts into a constant one. From 1 ms to 24 h with any jitter, so
    /// one that grows needs a `max`.
    pub fn cooldown(mut self, cooldown: impl Into<Backoff>) -> Config {
        self.cooldown = cooldown.into();
        self
    }

    /// A cooldown of two seconds, give or take a quarter: what [`Config::standard`] and policy files
    /// have. A trial costs one call, and nobody is blind for long when an outage is over.
    ///
    /// [`Config::standard`]: crate::upstream::Config::standard
    pub fn soon(self) -> Config {
        let spread = Jitter::Proportional(Ratio::percent(25));
        let longest = Duration::from_secs(5);
        self.cooldown(
            Backoff::constant(Duration::from_secs(2))
                .jitter(spread)
                .max(longest),
        )
    }

    /// At most so many trials at once in half-open. Default 3.
    pub fn trials(mut self, trials: u32) -> Config {
        self.trials = trials;
        self
    }

    /// So many successful trials close it. Default 3.
    pub fn successes(mut self, successes: u32) -> Config {
        self.successes = successes;
        self
    }

    /// So many failed trials are forgiven in one half-open phase; the next one opens it again.
    /// Default 0.
    pub fn tolerate(mut self, failures: u32) -> Config {
        self.tolerated = failures;
        self
    }

    /// A trial without a result is judged failed after this time, so that a hung one cannot keep
    /// the breaker half-open for ever. Default 30 s, or the upstream's timeout of attempts if that is
    /// longer; 10 ms to 24 h.
    pub fn lease(mut self, lease: Duration) -> Config {
        self.lease = Some(lease);
        self
    }

    /// A cancelled attempt that ran this long counts as a failure; a younger one as nothing.
    /// Default: the slow-call threshold, else the limits on attempts and calls that were set, else
    /// 1 s.
    pub fn patience(mut self, patience: Duration) -> Config {
        self.patience = Some(patience);
        self
    }

    /// `false`: shadow mode. It decides and counts, and rejects nothing. Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    /// Gives attempts that may take `longest` the time to answer as trials.
    pub(crate) fn default_lease(&mut self, longest: Duration) {
        self.lease.get_or_insert(longest.clamp(DEFAULT_LEASE, DAY));
    }

    pub(super) fn trial_lease(&self) -> Duration {
        self.lease.unwrap_or(DEFAULT_LEASE)
    }

    /// Failures in a row that trip it.
    pub(crate) fn consecutive_failures(&self) -> Option<u32> {
        self.consecutive
    }

    /// Failures within the window that trip it.
    pub(crate) fn failures_within(&self) -> Option<u32> {
        self.failures
    }

    /// The share of failures within the window that trips it.
    pub(crate) fn failing_share(&self) -> Option<Ratio> {
        self.failure_ratio
    }

    /// From when on calls are slow, and the share of slow ones within the window that trips it.
    pub(crate) fn slow_share(&self) -> Option<(Duration, Ratio)> {
        self.slow
    }

    /// The time that the window is, unless it is so many calls, or no rule looks at it.
    pub(crate) fn window_time(&self) -> Option<Duration> {
        match self.window {
            Window::Time(time) if self.needs_window() => Some(time),
            Window::Time(_) | Window::Calls(_) => None,
        }
    }

    /// The calls that the window is, unless it is a time, or no rule looks at it.
    pub(crate) fn window_calls(&self) -> Option<u32> {
        match self.window {
            Window::Calls(calls) if self.needs_window() => Some(calls.get()),
            Window::Calls(_) | Window::Time(_) => None,
        }
    }

    /// Whether it is not in shadow mode.
    pub(crate) fn is_enforced(&self) -> bool {
        self.enforce
    }

    /// Whether a rule looks at the window.
    pub(super) fn needs_window(&self) -> bool {
        self.failures.is_some() || self.failure_ratio.is_some() || self.slow.is_some()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.window.check()?;
        self.cooldown.check()?;
        let at_least_one = "must be at least 1";
        ensure(
            self.consecutive != Some(0),
            "breaker.consecutive",
            at_least_one,
        )?;
        ensure(self.min_calls > 0, "breaker.min_calls", at_least_one)?;
        ensure(
            self.failures
                .is_none_or(|failures| (1..=100_000).contains(&failures)),
            "breaker.failures",
            "must lie between 1 and 100,000",
        )?;
        let ratios = [self.failure_ratio, self.slow.map(|(_, ratio)| ratio)];
        let has_ratio = ratios.iter().any(Option::is_some);
        if let (Window::Calls(calls), true) = (self.window, has_ratio) {
            ensure(
                self.min_calls <= calls.get(),
                "breaker.min_calls",
                "(20 unless set) is more than the window holds, so it would never trip; lower it",
            )?;
        }
        if let (Window::Calls(calls), Some(failures)) = (self.window, self.failures) {
            ensure(
                failures <= calls.get(),
                "breaker.failures",
                "are more than the window holds, so it would never trip; raise the window",
            )?;
        }
        ensure(
            ratios
                .into_iter()
                .flatten()
                .all(|ratio| ratio > Ratio::ZERO),
            "breaker.failure_ratio",
            "must be above 0; a ratio of 0 would trip on every call",
        )?;
        let longest = self
            .cooldown
            .cap()
            .min(self.cooldown.delay(u32::MAX, DAY, 1.0));
        ensure(
            longest <= DAY,
            "breaker.cooldown",
            "must stay within 24 h (set its max); to keep it open longer, force it open",
        )?;
        ensure(
            self.cooldown.delay(0, Duration::ZERO, 0.0) >= Duration::from_millis(1),
            "breaker.cooldown",
            "must be at least 1 ms with the luckiest jitter; Jitter::Full goes down to zero, use \
             Jitter::Proportional",
        )?;
        check_length(self.trial_lease())
            .map_err(|_| ConfigError::new("breaker.lease", "must lie between 10 ms and 24 h"))?;
        ensure(
            (1..=MAX_TRIALS).contains(&self.trials) && (1..=MAX_TRIALS).contains(&self.successes),
            "breaker.trials",
            "and breaker.successes must lie between 1 and 1,000",
        )
    }
}

impl From<Duration> for Backoff {
    fn from(wait: Duration) -> Backoff {
        Backoff::constant(wait)
    }
}

/// The same as the default timeout of an attempt.
const DEFAULT_LEASE: Duration = Duration::from_secs(30);
/// A half-open phase that needs more trials than this is traffic, not a trial; the bound keeps
/// the list of leases small.
const MAX_TRIALS: u32 = 1_000;
