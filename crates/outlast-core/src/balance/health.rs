//! What is known of the endpoints' health, and what follows: who may be chosen, with which weight,
//! and which share of the traffic each level gets.
//!
//! An endpoint is usable when its check does not say down, it is not ejected, and its zone is not
//! evacuated. One that becomes usable starts with a tenth of its weight if slow start is on, or if
//! it was its zone that came back. All of it is computed anew when something changed or a ramp has
//! to go on, under the balancer's lock, and published for those who choose.

use std::time::Duration;

use super::Endpoint;
use super::config::Config;
use super::level::{ALL, Level};
use super::shares::{Capacity, Damper, STEPS, capacity, divide, progress};
use super::slot::WEIGHT;
use crate::check::{self, Checker};
use crate::eject::Ejector;
use crate::time::{Time, nanos};

/// The state behind the balancer's lock.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) members: Vec<Member>,
    pub(super) ejector: Option<Ejector>,
    /// Zones without traffic, also those in which nobody is at present.
    pub(super) evacuated: Vec<Box<str>>,
    pub(super) dampers: Vec<Damper>,
    /// A newer membership took over; this one decides nothing any more.
    pub(super) retired: bool,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) checker: Option<Checker>,
    was_usable: bool,
    /// Its zone came back: it starts slowly even if newcomers do not.
    returning: bool,
    ramp: Option<Ramp>,
}

/// A weight that grows.
#[derive(Clone, Copy, Debug)]
struct Ramp {
    since: Time,
    over: Duration,
}

/// Why an endpoint is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Its zone is evacuated.
    Evacuated,
    /// Its check says that it is down, or not yet that it is up.
    Check,
    /// It was ejected until then.
    Ejected(Time),
}

impl Member {
    /// An endpoint at the start of everything: in full service.
    pub(super) fn at_start(checker: Option<Checker>) -> Member {
        Member {
            checker,
            was_usable: true,
            returning: false,
            ramp: None,
        }
    }

    /// The same endpoint in the next membership, where `fresh` would be its first checker: what is
    /// known of it stays, under the new settings.
    pub(super) fn under(&self, fresh: Option<Checker>) -> Member {
        let checker = match (&self.checker, fresh) {
            (Some(known), Some(fresh)) => Some(known.under(fresh.config())),
            (None, fresh) => fresh,
            (Some(_), None) => None,
        };
        Member {
            checker,
            ..self.clone()
        }
    }

    /// One that came later: it starts slowly.
    pub(super) fn newcomer(checker: Option<Checker>) -> Member {
        Member {
            was_usable: false,
            ..Member::at_start(checker)
        }
    }
}

impl Health {
    /// Why the endpoint may not be used in normal times.
    pub(super) fn unusable(&self, at: usize, endpoint: &Endpoint) -> Option<Unusable> {
        let ejector = self.ejector.as_ref();
        let ejected = ejector.filter(|ejector| ejector.is_enforced());
        if self.is_evacuated(endpoint) {
            return Some(Unusable::Evacuated);
        }
        let checker = self.members[at].checker.as_ref();
        if checker.is_some_and(|checker| checker.state() == check::State::Down) {
            return Some(Unusable::Check);
        }
        ejected?.out_until(at).map(Unusable::Ejected)
    }

    fn is_evacuated(&self, endpoint: &Endpoint) -> bool {
        let zone = endpoint.zone.as_ref();
        zone.is_some_and(|zone| self.evacuated.contains(zone))
    }

    /// The endpoints of this zone are on their way back: those that are usable start slowly.
    pub(super) fn welcome_back(&mut self, zone: &str, endpoints: &[Endpoint]) {
        for (member, endpoint) in self.members.iter_mut().zip(endpoints) {
            if endpoint.zone.as_deref() == Some(zone) {
                member.was_usable = false;
                member.returning = true;
            }
        }
    }

    /// Computes everything anew and publishes it; when to do so again.
    pub(super) fn publish(
        &mut self,
        endpoints: &[Endpoint],
        levels: &[Level],
        config: &Config,
        now: Time,
        set_weight: impl Fn(usize, u32),
    ) -> Time {
        let standings: Vec<_> = (0..endpoints.len())
            .map(|at| self.standing(at, &endpoints[at], config, now))
            .collect();
        let summaries: Vec<_> = levels
            .iter()
            .map(|level| Summary::of(level, &standings, endpoints))
            .collect();
        let capacities: Vec<_> = summaries
            .iter()
            .zip(&mut self.dampers)
            .map(|(summary, damper)| {
                let healthy = capacity(summary.usable_weight, summary.weight);
                // Alone, it gets everything anyway.
                let damped = match levels {
                    [_] => healthy,
                    _ => damper.step(healthy, now, config.fail_back),
                };
                Capacity { healthy, damped }
            })
            .collect();
        let mut shares = vec![0.0; levels.len()];
        let carried = divide(&capacities, &mut shares);
        let panics = |summary: &Summary| {
            let enough = config.panic.reached_by(summary.usable, summary.present);
            !carried && summary.present > 0 && !enough
        };
        if shares.iter().all(|&share| share == 0.0) {
            divide_blindly(&summaries, panics, &mut shares);
        }
        let mut end = 0.0;
        for ((level, summary), share) in levels.iter().zip(&summaries).zip(shares) {
            let panics = panics(summary);
            let chosen = level.members.iter().filter_map(|&at| {
                let weight = standings[at as usize].weight(panics, &endpoints[at as usize]);
                set_weight(at as usize, weight);
                (weight > 0).then_some((at, weight))
            });
            level.publish(chosen, panics);
            end += share;
            level.set_end(((end * ALL as f64).round() as u64).min(ALL));
        }
        self.wakes(config, now)
    }

    /// How one endpoint stands; notices that it became usable.
    fn standing(&mut self, at: usize, endpoint: &Endpoint, config: &Config, now: Time) -> Standing {
        let usable = self.unusable(at, endpoint).is_none();
        let evacuated = self.is_evacuated(endpoint);
        let member = &mut self.members[at];
        if usable && !member.was_usable {
            let back = member.returning.then_some(config.fail_back.over);
            let over = config.slow_start.or(back);
            member.ramp = over.map(|over| Ramp { since: now, over });
            member.returning = false;
        }
        member.was_usable = usable;
        let full = f64::from(endpoint.weight * WEIGHT);
        let carries = member.ramp.map_or(1.0, |ramp| {
            FIRST + (1.0 - FIRST) * progress(ramp.since, now, nanos(ramp.over))
        });
        if usable && carries >= 1.0 {
            member.ramp = None;
        }
        Standing {
            usable,
            evacuated,
            weight: (full * carries) as u32,
        }
    }

    /// When to publish again although nothing happens.
    fn wakes(&self, config: &Config, now: Time) -> Time {
        let ramps = self
            .members
            .iter()
            .filter(|member| member.was_usable)
            .filter_map(|member| member.ramp)
            .map(|ramp| now + ramp.over / STEPS);
        let dampers = self.dampers.iter();
        let dampers = dampers.map(|damper| damper.wakes(now, config.fail_back));
        let steps = ramps.chain(dampers).min().unwrap_or(Time::MAX);
        let ejector = self.ejector.as_ref();
        let ejector = ejector.map_or(Time::MAX, Ejector::wakes);
        steps.max(now + SHORTEST_STEP).min(ejector)
    }
}

/// How one endpoint stands now.
struct Standing {
    usable: bool,
    evacuated: bool,
    /// What it carries if it is usable.
    weight: u32,
}

impl Standing {
    /// The weight with which it may be chosen; zero if it may not.
    fn weight(&self, panics: bool, endpoint: &Endpoint) -> u32 {
        if self.usable {
            self.weight
        } else if panics && !self.evacuated {
            endpoint.weight * WEIGHT
        } else {
            0
        }
    }
}

/// How one level stands now.
struct Summary {
    usable: u64,
    /// Those that are not evacuated.
    present: u64,
    usable_weight: f64,
    present_weight: f64,
    weight: f64,
}

impl Summary {
    fn of(level: &Level, standings: &[Standing], endpoints: &[Endpoint]) -> Summary {
        let mut summary = Summary {
            usable: 0,
            present: 0,
            usable_weight: 0.0,
            present_weight: 0.0,
            weight: 0.0,
        };
        for &at in &level.members {
            let (standing, endpoint) = (&standings[at as usize], &endpoints[at as usize]);
            let full = f64::from(endpoint.weight * WEIGHT);
            summary.weight += full;
            if !standing.evacuated {
                summary.present += 1;
                summary.present_weight += full;
            }
            if standing.usable {
                summary.usable += 1;
                summary.usable_weight += f64::from(standing.weight);
            }
        }
        summary
    }
}

/// Nobody is usable: the traffic goes to all levels that panic, by weight. Nothing is known of any
/// of them, so a call that tries again finds whoever is alive soonest.
fn divide_blindly(summaries: &[Summary], panics: impl Fn(&Summary) -> bool, shares: &mut [f64]) {
    let present = |summary: &Summary| {
        if panics(summary) {
            summary.present_weight
        } else {
            0.0
        }
    };
    let total: f64 = summaries.iter().map(present).sum();
    if total > 0.0 {
        for (share, summary) in shares.iter_mut().zip(summaries) {
            *share = present(summary) / total;
        }
    }
}

/// The part of its weight with which an endpoint starts slowly (Envoy's).
const FIRST: f64 = 0.1;
/// Ramps take no shorter steps, so that short ones do not keep the lock busy.
const SHORTEST_STEP: Duration = Duration::from_millis(20);
