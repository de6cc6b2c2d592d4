//! Snapshots for people and metrics.

use std::time::Duration;

use super::{Balance, Unusable};
use crate::check;
use crate::sync::lock;
use crate::time::Time;

/// How a set of endpoints is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// One entry per endpoint, in their order.
    pub endpoints: Vec<EndpointStats>,
    /// The levels, most preferred first.
    pub levels: Vec<LevelStats>,
    /// Zones that are evacuated.
    pub evacuated: Vec<String>,
    /// How often an endpoint would have been ejected if enough of them had been left.
    pub spared: u64,
}

/// How one endpoint is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointStats {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: Option<String>,
    /// Its priority.
    pub priority: u8,
    /// Why it is not usable, if so.
    pub unusable: Option<Unusable>,
    /// Until when it is ejected; in shadow mode, would be.
    pub ejected_until: Option<Time>,
    /// What its checks say, if there are any.
    pub check: Option<check::State>,
    /// What it carries now in comparison with the others; zero if it gets nothing. It may get
    /// something although it is not usable, when its level panics.
    pub weight: f64,
    /// Its attempts that run.
    pub in_flight: u32,
    /// The average time of its answers, which is what it is compared by; `None` before the first,
    /// or if the way to choose does not look at it.
    pub latency: Option<Duration>,
}

/// How one level of preference is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelStats {
    /// The priority of its endpoints.
    pub priority: u8,
    /// The place of its zone in the order of preference.
    pub zone: usize,
    /// How many of its endpoints may be chosen.
    pub chosen: usize,
    /// Its share of the traffic, from 0 to 1.
    pub share: f64,
    /// Whether it also uses those that look dead.
    pub panics: bool,
}

impl Balance {
    /// When the first endpoint returns that is ejected and not otherwise unusable.
    pub fn returns(&self) -> Option<Time> {
        let health = lock(&self.health);
        let ends = self.endpoints.iter().enumerate().filter_map(|(at, one)| {
            match health.unusable(at, one) {
                Some(Unusable::Ejected(until)) => Some(until),
                Some(Unusable::Evacuated | Unusable::Check) | None => None,
            }
        });
        ends.min()
    }

    /// A snapshot. It is taken number by number, so a change beside it may show in one and not yet
    /// in another.
    pub fn stats(&self, now: Time) -> Stats {
        let health = lock(&self.health);
        let endpoint = |(at, endpoint): (usize, &super::Endpoint)| {
            let slot = &self.slots[at].0;
            let latency = self.decay().and_then(|decay| slot.latency(now, decay));
            let ejector = health.ejector.as_ref();
            let checker = health.members[at].checker.as_ref();
            EndpointStats {
                name: endpoint.name.to_string(),
                zone: endpoint.zone.as_ref().map(ToString::to_string),
                priority: endpoint.priority,
                unusable: health.unusable(at, endpoint),
                ejected_until: ejector.and_then(|ejector| ejector.out_until(at)),
                check: checker.map(check::Checker::state),
                weight: f64::from(slot.weight()) / f64::from(super::slot::WEIGHT),
                in_flight: slot.in_flight(),
                latency: latency.map(|nanos| Duration::from_nanos(nanos as u64)),
            }
        };
        let mut begin = 0;
        let levels = self.levels.iter().map(|level| {
            let share = level.end().saturating_sub(begin) as f64 / super::level::ALL as f64;
            begin = level.end();
            LevelStats {
                priority: level.priority,
                zone: usize::from(level.rank),
                chosen: level.len(),
                share,
                panics: level.panics(),
            }
        });
        Stats {
            endpoints: self.endpoints.iter().enumerate().map(endpoint).collect(),
            levels: levels.collect(),
            evacuated: health.evacuated.iter().map(ToString::to_string).collect(),
            spared: health
                .ejector
                .as_ref()
                .map_or(0, |ejector| ejector.spared()),
        }
    }
}
