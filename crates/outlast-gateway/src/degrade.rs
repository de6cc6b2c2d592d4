//! Modes of the gateway: what is switched off, who is told, and what is answered in its place.
//!
//! There is one machine for the whole gateway, not one per upstream. What users are offered is one
//! decision; one that each upstream made for itself could disable the cheap half of a page and keep
//! the dear one. A single upstream in trouble has a breaker, and a mode can look at that.
//!
//! Signals come from calls that were really made: each counts with its time to the head of the
//! answer and, when the answer has ended, its outcome. A call that no attempt was made for (an open
//! breaker, a full bulkhead, a rate limit) counts nowhere, nor does what is answered here. Whichever
//! worker sweeps first in a second looks at the signals; on the path of a request a mode costs one
//! atomic load.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Response, header};
use outlast::degrade::{Feature, Level, Meter, Signals, Switch, Why};
use outlast::fallback;
use outlast::features::UnknownMode;
use outlast::outcome::Outcome;
use outlast::tier::Tier;
use outlast::time::Time;
use outlast::{Clock, Features};
use outlast_config::plan::{self, Plan};

use crate::answer::Body;
use crate::attempt::wall;
use crate::refusal::{Dialect, Refusal};
use crate::table::{Entry, Fixed};

/// The modes of a table: their state, and what they mean for each route.
#[derive(Debug)]
pub(crate) struct Degradation {
    pub(crate) state: Arc<Degrading>,
    /// By route.
    places: Vec<Place>,
}

/// What a mode may switch off of a route.
#[derive(Debug)]
struct Place {
    /// Its feature decides; without one its own tier.
    feature: Option<Feature>,
    tier: Tier,
    /// The feature or the route.
    name: String,
    instead: Option<Arc<Fixed>>,
}

impl Degradation {
    /// With the state of the table before, if what decides about modes is the same. A mode that was
    /// forced by hand stays in any case, if there still is one of its name.
    pub(crate) fn new(
        plan: &Plan,
        upstreams: &[Entry],
        before: Option<&Degradation>,
    ) -> Result<Option<Degradation>, String> {
        let Some(degrade) = &plan.degrade else {
            return Ok(None);
        };
        let before = before.map(|before| &before.state);
        let state = match before.filter(|before| before.source == degrade.source) {
            Some(kept) => Arc::clone(kept),
            None => {
                let new = Degrading::new(degrade).map_err(|error| format!("degrade: {error}"))?;
                if let Some(before) = before {
                    new.take_over(before);
                }
                Arc::new(new)
            }
        };
        for entry in upstreams {
            state.features.watch(&entry.upstream.policies);
        }
        let place = |route: &plan::Route| Place {
            feature: None,
            tier: route.tier,
            name: route.name.clone(),
            instead: None,
        };
        let mut places: Vec<_> = plan.routes.iter().map(place).collect();
        for feature in &degrade.features {
            let instead = feature.instead.as_ref().map(Fixed::new).transpose();
            let instead = instead.map_err(|error| format!("feature {}: {error}", feature.name))?;
            let instead = instead.map(Arc::new);
            for &at in &feature.routes {
                places[at] = Place {
                    feature: state.features.modes().feature(&feature.name),
                    tier: feature.tier,
                    name: feature.name.clone(),
                    instead: instead.clone(),
                };
            }
        }
        Ok(Some(Degradation { state, places }))
    }

    /// The name of the mode in force; `None` in normal operation.
    #[inline]
    pub(crate) fn mode(&self) -> Option<&HeaderValue> {
        let level = self.state.features.modes().current();
        (level != Level::NORMAL).then(|| &self.state.names[level.index()])
    }

    /// Whether a route is switched off.
    pub(crate) fn is_off(&self, route: usize) -> bool {
        let (place, modes) = (&self.places[route], self.state.features.modes());
        match place.feature {
            Some(feature) => !modes.enabled(feature),
            None => !modes.allows(place.tier),
        }
    }

    /// The fixed answer in place of a route, if its client understands it.
    pub(crate) fn instead(&self, route: usize, dialect: Dialect) -> Option<Response<Body>> {
        let fixed = self.places[route].instead.as_ref()?;
        let is_grpc = Dialect::of(&fixed.headers) == Dialect::Grpc;
        (dialect == Dialect::Http || is_grpc).then(|| fixed.answer())
    }

    /// The refusal in place of a route.
    pub(crate) fn refusal(&self, route: usize, mode: &HeaderValue) -> Refusal {
        Refusal::Degraded {
            what: self.places[route].name.clone(),
            mode: mode.to_str().unwrap_or_default().to_owned(),
            retry_after: self.state.retry_after(),
        }
    }

    /// Whether a stale copy may stand in for a call, although the upstream's own fallback does not
    /// replace it. Never for a definite no.
    pub(crate) fn serves_stale(&self, why: fallback::Why) -> bool {
        let is_answer = matches!(
            why,
            fallback::Why::Failed(Outcome::Permanent | Outcome::Success | Outcome::Ignored)
        );
        !is_answer && self.state.features.serves_stale()
    }
}

/// The state of the modes; shared by all workers, and kept on reload.
#[derive(Debug)]
pub(crate) struct Degrading {
    pub(crate) features: Features,
    /// Whether signals alone switch anything off.
    pub(crate) enforce: bool,
    source: String,
    /// By level.
    names: Box<[HeaderValue]>,
    /// How often each was entered, by level.
    entered: Box<[AtomicU64]>,
    /// When signals are to be looked at next, in nanoseconds.
    due: AtomicU64,
    /// What a client is told to wait at least, in milliseconds.
    wait: AtomicU64,
    refused: AtomicU32,
    latest: Mutex<VecDeque<Switched>>,
}

/// A switch, for people.
#[derive(Clone, Debug)]
pub(crate) struct Switched {
    pub(crate) at: SystemTime,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) why: String,
}

impl Degrading {
    fn new(plan: &plan::Degrade) -> Result<Degrading, String> {
        let text = |error: outlast::ConfigError| error.to_string();
        let meter = Meter::new(plan.window, plan.min_calls).map_err(text)?;
        let features = Features::with(plan.policy.clone(), meter).map_err(text)?;
        let rows = features.modes().matrix().rows;
        let name = |name: &str| {
            HeaderValue::from_str(name).map_err(|_| format!("{name:?} is no header value"))
        };
        let names: Result<Box<[_]>, _> = rows.iter().map(|row| name(&row.mode)).collect();
        Ok(Degrading {
            names: names?,
            entered: rows.iter().map(|_| AtomicU64::new(0)).collect(),
            enforce: plan.enforce,
            source: plan.source.clone(),
            due: AtomicU64::new(0),
            wait: AtomicU64::new(0),
            refused: AtomicU32::new(0),
            latest: Mutex::default(),
            features,
        })
    }

    /// What a hand decided outlives a change of the modes.
    fn take_over(&self, before: &Degrading) {
        let (modes, now) = (before.features.modes(), Clock::Precise.now());
        let stats = modes.stats();
        if let Some(until) = stats.forced_until.filter(|&until| until > now) {
            let name = modes.name(stats.current);
            if let Err(error) = self.force(name, lasts(until, now)) {
                tracing::warn!(target: TARGET, %error, "a mode that was forced is gone");
            }
        }
    }

    /// Notes a call that was really made.
    pub(crate) fn record(&self, outcome: Outcome, took: Duration) {
        self.features.record(outcome, took);
    }

    /// Looks at the signals, if that is due and nobody else does.
    pub(crate) fn tick(&self) {
        let now = Clock::Precise.now();
        let due = self.due.load(Ordering::Relaxed);
        let next = (now + BETWEEN).as_nanos();
        let mine = |due| {
            self.due
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
        };
        if now.as_nanos() >= due && mine(due).is_ok() {
            let switch = self.features.tick();
            self.note(switch);
        }
    }

    /// Takes a mode by hand.
    pub(crate) fn force(&self, mode: &str, lasts: Duration) -> Result<(), UnknownMode> {
        let switch = self.features.force(mode, lasts)?;
        self.note(switch);
        Ok(())
    }

    /// Gives the mode back to the signals.
    pub(crate) fn release(&self) {
        let switch = self.features.release();
        self.note(switch);
    }

    /// The latest switches, oldest first.
    pub(crate) fn latest(&self) -> Vec<Switched> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.iter().cloned().collect()
    }

    /// How often each mode was entered, in the order of their matrix.
    pub(crate) fn entered(&self) -> impl Iterator<Item = u64> {
        let counts = self.entered.iter();
        counts.map(|count| count.load(Ordering::Relaxed))
    }

    /// The signals now.
    pub(crate) fn signals<T>(&self, read: impl FnOnce(&Signals<'_>) -> T) -> T {
        self.features.signals(read)
    }

    /// After a decision: publishes what clients are told, and tells of a switch.
    fn note(&self, switch: Option<Switch>) {
        let (modes, now) = (self.features.modes(), Clock::Precise.now());
        let stats = modes.stats();
        let wait = match stats.forced_until {
            Some(Time::MAX) => FOREVER,
            Some(until) => until.since(now),
            None => stats.calm_needed,
        };
        let wait = wait.clamp(LEAST_WAIT, MOST_WAIT).as_millis();
        self.wait.store(wait as u64, Ordering::Relaxed);
        let Some(switch) = switch else { return };
        self.entered[switch.to.index()].fetch_add(1, Ordering::Relaxed);
        let (from, to) = (modes.name(switch.from), modes.name(switch.to));
        let in_force = modes.name(modes.current());
        match &switch.why {
            Why::Forced { until } => {
                let lasts = lasts(*until, now);
                tracing::warn!(target: TARGET, from, to, in_force, ?lasts, why = %switch.why, "the mode has changed");
            }
            why => {
                tracing::warn!(target: TARGET, from, to, in_force, %why, "the mode has changed");
            }
        }
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == KEPT_SWITCHES {
            latest.pop_front();
        }
        latest.push_back(Switched {
            at: wall(),
            from: from.to_owned(),
            to: to.to_owned(),
            why: switch.why.to_string(),
        });
    }

    /// At least as long as the mode will last, and up to half as much more: clients that were
    /// turned away together do not come back together. The golden ratio spreads any number of them
    /// evenly.
    fn retry_after(&self) -> Duration {
        let wait = Duration::from_millis(self.wait.load(Ordering::Relaxed)).max(LEAST_WAIT);
        let turn = self.refused.fetch_add(1, Ordering::Relaxed);
        let share = f64::from(turn.wrapping_mul(GOLDEN)) / (f64::from(u32::MAX) + 1.0);
        wait + (wait / 2).mul_f64(share)
    }
}

/// Marks an answer that was made in place of another.
pub(crate) fn mark(response: &mut Response<Body>, mode: &HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(&outlast::headers::X_DEGRADED, mode.clone());
    // The next request may be answered otherwise.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// How long a hand's decision lasts; [`Duration::MAX`] for ever.
fn lasts(until: Time, now: Time) -> Duration {
    if until == Time::MAX {
        Duration::MAX
    } else {
        until.since(now)
    }
}

const TARGET: &str = "outlast::degrade";
/// A sweep of each worker comes every quarter of a second, and not quite on time; one of them looks.
const BETWEEN: Duration = Duration::from_millis(240);
const KEPT_SWITCHES: usize = 32;
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// A hand may end a mode at any time.
const MOST_WAIT: Duration = Duration::from_secs(300);
/// What clients are told while a mode is forced without an end.
const FOREVER: Duration = Duration::from_secs(60);
/// 2^32 over the golden ratio.
const GOLDEN: u32 = 0x9E37_79B9;

#[cfg(test)]
mod tests {
    use super::*;

    fn degrading(text: &str) -> Degrading {
        let loaded = outlast_config::parse("plan.yaml", text).expect("a good file");
        let plan = loaded.into_plan().degrade.expect("modes");
        Degrading::new(&plan).expect("they were tried")
    }

    const LEAN: &str = "degrade: { modes: { lean: { when: { errors: '> 1%' } } } }";

    #[test]
    fn clients_are_told_different_times_within_their_bounds() {
        let state = degrading(LEAN);
        state
            .force("lean", Duration::from_secs(100))
            .expect("a mode");
        let mut waits: Vec<_> = (0..64).map(|_| state.retry_after()).collect();
        for wait in &waits {
            assert!((99.0..150.0).contains(&wait.as_secs_f64()), "{wait:?}");
        }
        waits.sort_unstable();
        let gap = waits.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(gap < Some(Duration::from_secs(2)), "{gap:?}");
        state.force("lean", Duration::MAX).expect("a mode");
        assert!(state.retry_after() <= Duration::from_secs(90));
    }

    #[test]
    fn switches_are_kept_up_to_a_bound() {
        let state = degrading(LEAN);
        for _ in 0..KEPT_SWITCHES {
            state.force("lean", Duration::MAX).expect("a mode");
            state.release();
        }
        let latest = state.latest();
        assert_eq!(latest.len(), KEPT_SWITCHES);
        assert_eq!(latest[0].why, "forced by hand");
        assert_eq!(state.entered().collect::<Vec<_>>(), [32, 32]);
    }

    #[test]
    fn a_hand_outlives_a_change_of_the_modes() {
        let before = degrading(LEAN);
        before
            .force("lean", Duration::from_secs(60))
            .expect("a mode");
        let after = degrading("degrade: { modes: { other: {}, lean: {} } }");
        after.take_over(&before);
        assert_eq!(after.features.mode(), "lean");
        let without = degrading("degrade: { modes: { other: {} } }");
        without.take_over(&before);
        assert_eq!(without.features.mode(), "normal");
    }

    #[test]
    fn one_looks_whoever_comes_first() {
        let state = degrading(LEAN);
        assert_eq!(state.features.looked(), None);
        state.tick();
        let due = state.due.load(Ordering::Relaxed);
        state.tick();
        assert!(state.features.looked().is_some());
        assert_eq!(state.due.load(Ordering::Relaxed), due);
    }
}
