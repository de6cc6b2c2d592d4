//! What a mode looks at: signals, and conditions on them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{ConfigError, ensure};
use crate::ratio::Ratio;

/// A quantile of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantile {
    /// The median.
    P50,
    /// Nine of ten calls are faster.
    P90,
    /// 19 of 20 calls are faster.
    P95,
    /// 99 of 100 calls are faster.
    P99,
    /// 999 of 1,000 calls are faster.
    P999,
}

impl Quantile {
    /// All quantiles, from the middle to the tail.
    pub const ALL: [Quantile; 5] = [
        Quantile::P50,
        Quantile::P90,
        Quantile::P95,
        Quantile::P99,
        Quantile::P999,
    ];

    /// Its name in files and logs, for example `p99.9`.
    pub const fn name(self) -> &'static str {
        match self {
            Quantile::P50 => "p50",
            Quantile::P90 => "p90",
            Quantile::P95 => "p95",
            Quantile::P99 => "p99",
            Quantile::P999 => "p99.9",
        }
    }

    /// Its place in [`Quantile::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The share of calls that are faster.
    pub(super) fn share(self) -> Ratio {
        match self {
            Quantile::P50 => Ratio::percent(50),
            Quantile::P90 => Ratio::percent(90),
            Quantile::P95 => Ratio::percent(95),
            Quantile::P99 => Ratio::percent(99),
            Quantile::P999 => Ratio::new(0.999).expect("0.999 is a ratio"),
        }
    }

    /// Calls of which one is slower than this quantile: of fewer, it is the slowest one's time.
    pub(super) fn least_calls(self) -> u64 {
        match self {
            Quantile::P50 => 2,
            Quantile::P90 => 10,
            Quantile::P95 => 20,
            Quantile::P99 => 100,
            Quantile::P999 => 1000,
        }
    }
}

impl FromStr for Quantile {
    type Err = ConfigError;

    /// Reads a [`Quantile::name`].
    fn from_str(name: &str) -> Result<Quantile, ConfigError> {
        Quantile::ALL
            .into_iter()
            .find(|quantile| quantile.name() == name)
            .ok_or(ConfigError::new(
                "quantile",
                "must be p50, p90, p95, p99 or p99.9",
            ))
    }
}

/// What a service looks like at one moment. A driver fills it from its statistics; what it does
/// not know it leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals<'a> {
    /// Quantiles of latency in the order of [`Quantile::ALL`]; `None` before there are enough
    /// calls.
    pub latency: [Option<Duration>; 5],
    /// The share of calls that failed; `None` before there are enough calls.
    pub errors: Option<Ratio>,
    /// Calls in flight over their limit, at most one; `None` without a limit.
    pub load: Option<Ratio>,
    /// The upstreams of which a breaker is open.
    pub open: &'a [&'a str],
    /// Whether the budget for extra attempts is used up.
    pub exhausted: bool,
}

/// One side of a threshold, the threshold itself not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit<T> {
    /// More than this.
    Above(T),
    /// Less than this.
    Below(T),
}

/// Something that holds of [`Signals`], does not hold, or cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A quantile of latency is beyond a limit.
    Latency(Quantile, Limit<Duration>),
    /// The error ratio is beyond a limit.
    Errors(Limit<Ratio>),
    /// The load is beyond a limit.
    Load(Limit<Ratio>),
    /// A breaker of this upstream is open; `None`: of any upstream.
    Open(Option<Arc<str>>),
    /// No breaker of this upstream is open; `None`: of no upstream at all.
    NotOpen(Option<Arc<str>>),
    /// The budget for extra attempts is used up.
    Exhausted,
    /// The budget for extra attempts has some left.
    NotExhausted,
}

/// What was measured when a condition was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// A latency.
    Latency(Duration),
    /// An error ratio or a load.
    Ratio(Ratio),
    /// Whether a breaker was open, or the budget used up.
    State(bool),
    /// Nothing: there were not enough calls, or there is no limit.
    Unknown,
}

impl Condition {
    /// Whether it holds; `None` if the signal is not known.
    pub(super) fn holds(&self, signals: &Signals<'_>) -> Option<bool> {
        match self {
            Condition::Latency(quantile, limit) => {
                signals.latency[quantile.index()].map(|value| limit.is_passed_by(value))
            }
            Condition::Errors(limit) => signals.errors.map(|value| limit.is_passed_by(value)),
            Condition::Load(limit) => signals.load.map(|value| limit.is_passed_by(value)),
            Condition::Open(upstream) => Some(signals.is_open(upstream.as_deref())),
            Condition::NotOpen(upstream) => Some(!signals.is_open(upstream.as_deref())),
            Condition::Exhausted => Some(signals.exhausted),
            Condition::NotExhausted => Some(!signals.exhausted),
        }
    }

    pub(super) fn measure(&self, signals: &Signals<'_>) -> Measured {
        match self {
            Condition::Latency(quantile, _) => {
                signals.latency[quantile.index()].map_or(Measured::Unknown, Measured::Latency)
            }
            Condition::Errors(_) => signals.errors.map_or(Measured::Unknown, Measured::Ratio),
            Condition::Load(_) => signals.load.map_or(Measured::Unknown, Measured::Ratio),
            Condition::Open(upstream) | Condition::NotOpen(upstream) => {
                Measured::State(signals.is_open(upstream.as_deref()))
            }
            Condition::Exhausted | Condition::NotExhausted => Measured::State(signals.exhausted),
        }
    }

    /// What says that it is over: the opposite, a fifth beyond the threshold. A fifth is more than
    /// a bucket of the latencies is wide, so that noise alone does not pass both sides in turn.
    pub(super) fn relaxed(&self) -> Condition {
        match self {
            Condition::Latency(quantile, limit) => {
                Condition::Latency(*quantile, limit.relaxed_time())
            }
            Condition::Errors(limit) => Condition::Errors(limit.relaxed_ratio()),
            Condition::Load(limit) => Condition::Load(limit.relaxed_ratio()),
            Condition::Open(upstream) => Condition::NotOpen(upstream.clone()),
            Condition::NotOpen(upstream) => Condition::Open(upstream.clone()),
            Condition::Exhausted => Condition::NotExhausted,
            Condition::NotExhausted => Condition::Exhausted,
        }
    }

    /// Whether both can hold of the same signals although `off` is meant to end what `self`
    /// began. Conditions on different signals do not contradict each other: a mode is calm only
    /// while none of its own `when` holds.
    pub(super) fn overlaps(&self, off: &Condition) -> bool {
        match (self, off) {
            (Condition::Latency(on, when), Condition::Latency(quantile, off)) => {
                on == quantile && when.overlaps(off)
            }
            (Condition::Errors(when), Condition::Errors(off))
            | (Condition::Load(when), Condition::Load(off)) => when.overlaps(off),
            _ => self == off,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let ratio = |limit: &Limit<Ratio>| match limit {
            Limit::Above(threshold) => (Ratio::ZERO..Ratio::ONE).contains(threshold),
            Limit::Below(threshold) => *threshold > Ratio::ZERO,
        };
        let can_hold = match self {
            Condition::Latency(_, Limit::Above(threshold) | Limit::Below(threshold)) => {
                !threshold.is_zero()
            }
            Condition::Errors(limit) | Condition::Load(limit) => ratio(limit),
            Condition::Open(_)
            | Condition::NotOpen(_)
            | Condition::Exhausted
            | Condition::NotExhausted => true,
        };
        ensure(
            can_hold,
            "degrade.threshold",
            "must lie where both sides can be reached: a latency above zero, a ratio above 0% \
             (for '<') or below 100% (for '>')",
        )
    }
}

impl Signals<'_> {
    fn is_open(&self, upstream: Option<&str>) -> bool {
        match upstream {
            Some(name) => self.open.contains(&name),
            None => !self.open.is_empty(),
        }
    }
}

impl<T: PartialOrd> Limit<T> {
    fn is_passed_by(&self, value: T) -> bool {
        match self {
            Limit::Above(threshold) => value > *threshold,
            Limit::Below(threshold) => value < *threshold,
        }
    }

    fn overlaps(&self, off: &Limit<T>) -> bool {
        match (self, off) {
            (Limit::Above(when), Limit::Below(off)) => off > when,
            (Limit::Below(when), Limit::Above(off)) => off < when,
            (Limit::Above(_), Limit::Above(_)) | (Limit::Below(_), Limit::Below(_)) => true,
        }
    }
}

impl Limit<Duration> {
    fn relaxed_time(&self) -> Limit<Duration> {
        match *self {
            Limit::Above(threshold) => {
                Limit::Below((threshold / 5).saturating_mul(4).max(SHORTEST))
            }
            Limit::Below(threshold) => Limit::Above(threshold.saturating_add(threshold / 4)),
        }
    }
}

impl Limit<Ratio> {
    fn relaxed_ratio(&self) -> Limit<Ratio> {
        let ratio = |share: f64| Ratio::new(share).expect("between 0 and 1 by construction");
        match *self {
            // Of a threshold of nothing at all, nothing is over when there is next to nothing.
            Limit::Above(threshold) => {
                Limit::Below(ratio((threshold.as_f64() * 0.8).max(LEAST_RATIO)))
            }
            Limit::Below(threshold) => {
                let share = threshold.as_f64();
                Limit::Above(ratio((share * 1.25).min((share + 1.0) / 2.0)))
            }
        }
    }
}

/// A derived threshold must not vanish, or nothing is ever below it.
const SHORTEST: Duration = Duration::from_nanos(1);
const LEAST_RATIO: f64 = 1e-6;

impl fmt::Display for Condition {
    /// As it is written in a policy file, for example `p99 > 500ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let breaker = |upstream: &Option<Arc<str>>| match upstream {
            Some(name) => format!("breaker of {name}"),
            None => "any breaker".to_owned(),
        };
        match self {
            Condition::Latency(quantile, Limit::Above(limit)) => {
                write!(f, "{} > {limit:?}", quantile.name())
            }
            Condition::Latency(quantile, Limit::Below(limit)) => {
                write!(f, "{} < {limit:?}", quantile.name())
            }
            Condition::Errors(limit) => write!(f, "errors {limit}"),
            Condition::Load(limit) => write!(f, "load {limit}"),
            Condition::Open(upstream) => write!(f, "{} open", breaker(upstream)),
            Condition::NotOpen(None) => write!(f, "no breaker open"),
            Condition::NotOpen(upstream) => write!(f, "{} not open", breaker(upstream)),
            Condition::Exhausted => write!(f, "budget exhausted"),
            Condition::NotExhausted => write!(f, "budget not exhausted"),
        }
    }
}

impl fmt::Display for Limit<Ratio> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Above(limit) => write!(f, "> {}%", percent(*limit)),
            Limit::Below(limit) => write!(f, "< {}%", percent(*limit)),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Measured::Latency(took) => write!(f, "{took:?}"),
            Measured::Ratio(share) => write!(f, "{}%", percent(*share)),
            Measured::State(true) => write!(f, "yes"),
            Measured::State(false) => write!(f, "no"),
            Measured::Unknown => write!(f, "too few calls to tell"),
        }
    }
}

/// At most four decimals, which is how exact a ratio is.
fn percent(share: Ratio) -> f64 {
    (share.as_f64() * 1e6).round() / 1e4
}
