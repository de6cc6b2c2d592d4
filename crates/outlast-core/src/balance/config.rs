//! The settings of balancing, and the endpoints among which it chooses.

use std::time::Duration;

use super::MAX_ENDPOINTS;
use crate::config::{ConfigError, DAY, ensure};
use crate::ratio::Ratio;
use crate::{check, eject};

/// One address, as the membership describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) name: Box<str>,
    pub(super) weight: u32,
    pub(super) priority: u8,
    pub(super) zone: Option<Box<str>>,
    address: Option<Box<str>>,
}

impl Endpoint {
    /// An endpoint of weight 1 and priority 0, in no zone. By its name its state is found again
    /// when the membership changes.
    pub fn new(name: impl Into<String>) -> Endpoint {
        Endpoint {
            name: name.into().into_boxed_str(),
            weight: 1,
            priority: 0,
            zone: None,
            address: None,
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it says no more than its name.
    pub(crate) fn is_plain(&self) -> bool {
        (self.weight, self.priority, &self.zone) == (1, 0, &None)
    }

    /// Where it stands among the others: those that are likely to fail together are equal.
    pub(crate) fn place(&self) -> (u8, Option<&str>) {
        (self.priority, self.zone.as_deref())
    }

    /// How much it carries in comparison with the others. Default 1, 1 to 1,000.
    pub fn weight(mut self, weight: u32) -> Endpoint {
        self.weight = weight;
        self
    }

    /// Endpoints of a larger number are used when those of smaller ones are not enough
    /// (active-passive groups). Default 0.
    pub fn priority(mut self, priority: u8) -> Endpoint {
        self.priority = priority;
        self
    }

    /// Where it is: by zones traffic prefers endpoints and is evacuated. Default: nowhere, which
    /// counts as near and cannot be evacuated.
    pub fn zone(mut self, zone: impl Into<String>) -> Endpoint {
        self.zone = Some(zone.into().into_boxed_str());
        self
    }

    /// Where it is to be found. When the membership changes, an endpoint of the same name with
    /// another address is another one: a newcomer, under a number of its own. Default: not said,
    /// and the name alone tells endpoints apart.
    pub fn address(mut self, address: impl Into<String>) -> Endpoint {
        self.address = Some(address.into().into_boxed_str());
        self
    }

    /// What makes it the same endpoint in the next membership.
    pub(crate) fn identity(&self) -> (&str, Option<&str>) {
        (&self.name, self.address.as_deref())
    }
}

/// How one of several usable endpoints is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Of a few drawn at random, the one with the least `latency * (in flight + 1) / weight`, the
    /// latency being a peak EWMA: it jumps to a slow answer at once and decays with time.
    PeakEwma {
        /// The time constant of the average. 10 ms to 24 h.
        decay: Duration,
        /// How many are drawn, 2 to 32. Two suffice for large sets and keep many balancers from
        /// running all to the same endpoint; as many as there are endpoints compares all.
        choices: u32,
    },
    /// Of a few drawn at random, the one with the least `(in flight + 1) / weight`.
    LeastRequests {
        /// How many are drawn, 2 to 32.
        choices: u32,
    },
    /// In turn; unequal weights get turns in proportion, evenly spread.
    RoundRobin,
    /// At random, in proportion to the weights.
    Weighted,
    /// By the call's key: equal keys go to the same endpoint for as long as it is usable and not
    /// above its bound. A call without a key goes anywhere.
    Hash {
        /// No endpoint gets more than this multiple of its share of what is in flight. 1.05 to 100.
        bound: f64,
    },
}

impl Kind {
    /// Two choices, 10 s (Finagle's).
    pub const PEAK_EWMA: Kind = Kind::PeakEwma {
        decay: Duration::from_secs(10),
        choices: 2,
    };
    /// Two choices.
    pub const LEAST_REQUESTS: Kind = Kind::LeastRequests { choices: 2 };
    /// At most 1.25 times the share (Mirrokni et al. 2017; HAProxy's recommendation).
    pub const HASH: Kind = Kind::Hash { bound: 1.25 };

    /// The time constant of the latency it looks at, if it does.
    pub(super) fn decay(&self) -> Option<Duration> {
        match *self {
            Kind::PeakEwma { decay, .. } => Some(decay),
            Kind::LeastRequests { .. } | Kind::RoundRobin | Kind::Weighted | Kind::Hash { .. } => {
                None
            }
        }
    }
}

/// Who gets an attempt, and who is left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub(super) kind: Kind,
    pub(super) zones: Vec<Box<str>>,
    pub(super) spill_above: Option<u32>,
    pub(super) panic: Ratio,
    pub(super) slow_start: Option<Duration>,
    pub(super) fail_back: FailBack,
    pub(super) check: Option<check::Config>,
    pub(super) eject: Option<eject::Config>,
}

/// How a preferred group gets its traffic back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FailBack {
    pub(super) after: Duration,
    pub(super) over: Duration,
}

impl Default for Config {
    /// Peak EWMA; panic below one half; fail-back after 10 s, over 30 s; no checks, no ejection.
    fn default() -> Config {
        Config::new(Kind::PEAK_EWMA)
    }
}

impl Config {
    /// The defaults, with this way to choose.
    pub fn new(kind: Kind) -> Config {
        Config {
            kind,
            zones: Vec::new(),
            spill_above: None,
            panic: Ratio::percent(50),
            slow_start: None,
            fail_back: FailBack {
                after: Duration::from_secs(10),
                over: Duration::from_secs(30),
            },
            check: None,
            eject: None,
        }
    }

    /// The order in which zones are preferred, the own one first; those that are not named come
    /// last. Default: all are alike. At most 64.
    pub fn zones<Z: Into<String>>(mut self, zones: impl IntoIterator<Item = Z>) -> Config {
        let boxed = |zone: Z| zone.into().into_boxed_str();
        self.zones = zones.into_iter().map(boxed).collect();
        self
    }

    /// Where the endpoint that a level offers has so many attempts in flight, the next level is
    /// asked for one that has not. Default: no load is too much. At least 1.
    pub fn spill_above(mut self, in_flight: impl Into<Option<u32>>) -> Config {
        self.spill_above = in_flight.into();
        self
    }

    /// When a smaller share of a level is usable and other levels cannot carry the rest, all of it
    /// is used that is not evacuated: most endpoints dead at once is rather a mistake of whoever
    /// says so. Zero: never. Default 50 %.
    pub fn panic(mut self, share: Ratio) -> Config {
        self.panic = share;
        self
    }

    /// Newcomers and those that return start with 10 % of their weight, which grows evenly for this
    /// long. Default: none. From 100 ms up to 24 h; 30 s suits most.
    pub fn slow_start(mut self, window: impl Into<Option<Duration>>) -> Config {
        self.slow_start = window.into();
        self
    }

    /// A preferred level that has recovered gets its traffic back after so long without a relapse,
    /// evenly growing over `over`. Default 10 s, over 30 s; each up to 24 h. It does not apply where
    /// the other levels cannot carry the traffic, nor where there is one level only.
    pub fn fail_back(mut self, after: Duration, over: Duration) -> Config {
        self.fail_back = FailBack { after, over };
        self
    }

    /// Active checks. Default: none, and every endpoint counts as up.
    pub fn check(mut self, check: impl Into<Option<check::Config>>) -> Config {
        self.check = check.into();
        self
    }

    /// How checks are made, if they are.
    pub(crate) fn checks(&self) -> Option<check::Config> {
        self.check
    }

    /// Passive ejection. Default: none.
    pub fn eject(mut self, eject: impl Into<Option<eject::Config>>) -> Config {
        self.eject = eject.into();
        self
    }

    pub(super) fn validate(&self, endpoints: &[Endpoint]) -> Result<(), ConfigError> {
        self.validate_kind()?;
        ensure(
            self.zones.len() <= MAX_ZONES,
            "balance.zones",
            "may name at most 64 zones",
        )?;
        ensure(
            self.spill_above != Some(0),
            "balance.spill_above",
            "must be at least 1",
        )?;
        ensure(
            self.slow_start
                .is_none_or(|window| window >= Duration::from_millis(100) && window <= DAY),
            "balance.slow_start",
            "must lie between 100 ms and 24 h",
        )?;
        ensure(
            self.fail_back.after <= DAY && self.fail_back.over <= DAY,
            "balance.fail_back",
            "may be at most 24 h",
        )?;
        self.check.iter().try_for_each(check::Config::check)?;
        self.eject.iter().try_for_each(eject::Config::check)?;
        validate_endpoints(endpoints)
    }

    fn validate_kind(&self) -> Result<(), ConfigError> {
        match self.kind {
            Kind::PeakEwma { decay, choices } => {
                ensure(
                    decay >= Duration::from_millis(10) && decay <= DAY,
                    "balance.decay",
                    "must lie between 10 ms and 24 h",
                )?;
                validate_choices(choices)
            }
            Kind::LeastRequests { choices } => validate_choices(choices),
            Kind::RoundRobin | Kind::Weighted => Ok(()),
            Kind::Hash { bound } => ensure(
                (1.05..=100.0).contains(&bound),
                "balance.bound",
                "must lie between 1.05 and 100",
            ),
        }
    }
}

/// Zones that can be named in the order, and that can be evacuated at once.
pub(super) const MAX_ZONES: usize = 64;

fn validate_choices(choices: u32) -> Result<(), ConfigError> {
    ensure(
        (2..=32).contains(&choices),
        "balance.choices",
        "must lie between 2 and 32",
    )
}

pub(crate) fn validate_endpoints(endpoints: &[Endpoint]) -> Result<(), ConfigError> {
    ensure(
        (1..=MAX_ENDPOINTS).contains(&endpoints.len()),
        "endpoints",
        "must be at least 1 and at most 1,024",
    )?;
    ensure(
        endpoints
            .iter()
            .all(|one| (1..=1_000).contains(&one.weight)),
        "endpoints.weight",
        "must lie between 1 and 1,000; to take one out of service, remove it",
    )?;
    let mut names: Vec<_> = endpoints.iter().map(|one| &one.name).collect();
    names.sort_unstable();
    ensure(
        names.windows(2).all(|pair| pair[0] != pair[1]),
        "endpoints",
        "must have different names",
    )
}
