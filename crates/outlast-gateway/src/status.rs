//! How the gateway and its upstreams are doing: a snapshot for people, as JSON.
//!
//! It is taken counter by counter while requests go on, so two numbers that belong together may
//! differ by what happened between them. Durations are in milliseconds, quantiles at most an eighth
//! too high; counters start at zero when the gateway starts, or when their upstream last changed.

mod degrade;
mod samples;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outlast::balance::Unusable;
use outlast::check;
use outlast::reject::Reason;
use outlast::tier::Tier;
use outlast::time::Time;
use outlast::{Clock, EndpointStats};
use serde::Serialize;

pub use self::degrade::{DegradeStatus, ModeStatus, SignalsStatus, SwitchStatus};
pub use self::samples::{SamplesStatus, SettingsStatus};
use crate::State;
use crate::attempt::wall;
use crate::histogram::Summary;
use crate::members::Endpoint;
use crate::metrics::{CLASSES, EndpointMetrics};
use crate::rollout::status::CanaryStatus;
use crate::table::{Route, Table, Upstream};
use crate::worker::Phase;

/// How the gateway is doing.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// When it was taken, in Unix seconds.
    pub at: f64,
    /// Whether it takes requests, and is not draining.
    pub ready: bool,
    /// Connections of clients now.
    pub connections: usize,
    /// Connections turned away because there were too many.
    pub turned_away: usize,
    /// Idle connections to upstreams, about.
    pub pooled_connections: usize,
    /// In the order of the plan.
    pub routes: Vec<RouteStatus>,
    /// In the order of the plan.
    pub upstreams: Vec<UpstreamStatus>,
    /// Its modes, if the plan has some.
    pub degrade: Option<DegradeStatus>,
}

/// How a route is doing.
#[derive(Clone, Debug, Serialize)]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
    /// The name of its upstream.
    pub upstream: String,
    /// Finished requests by the class of their status; `gone` are those whose client left.
    pub requests: BTreeMap<&'static str, u64>,
    /// From the head of a request to the end of its answer.
    pub latency: Latency,
    /// Its new version, if it has one.
    pub canary: Option<CanaryStatus>,
}

/// How an upstream is doing.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// In the order of the plan.
    pub endpoints: Vec<EndpointStatus>,
    /// Its shedder, if it has one.
    pub shed: Option<ShedStatus>,
    /// Its bulkhead, if it has one.
    pub bulkhead: Option<BulkheadStatus>,
    /// Its budget for extra attempts, unless that is off.
    pub budget: Option<BudgetStatus>,
    /// Second and further attempts after a wait.
    pub retries: u64,
    /// Attempts beside a slow one.
    pub hedges: u64,
    /// Attempts at the next endpoint.
    pub failovers: u64,
    /// Calls that something else answered.
    pub fallbacks: u64,
    /// Calls that a policy ended, by its reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Calls that a policy in shadow mode would have ended, by its reason.
    pub would_reject: BTreeMap<&'static str, u64>,
    /// From the start of attempts to the heads of their answers, over all endpoints.
    pub latency: Latency,
    /// What advice is made from: its measurements in full.
    pub samples: SamplesStatus,
    /// What it is set to.
    pub settings: SettingsStatus,
    /// Its cache of stale answers, if it has one.
    pub stale: Option<StaleStatus>,
    /// Where its endpoints come from, unless they never change.
    pub discovery: Option<DiscoveryStatus>,
    /// What it knows of keys that stay with one endpoint, if they do.
    pub exclusive: Option<ExclusiveStatus>,
    /// The latest errors, oldest first.
    pub last_errors: Vec<ErrorStatus>,
}

/// Where endpoints come from.
#[derive(Clone, Debug, Serialize)]
pub struct DiscoveryStatus {
    /// `dns`, `srv`, `file` or `admin`.
    pub from: &'static str,
    /// How often the endpoints have changed.
    pub changes: u64,
    /// The last change, in Unix seconds.
    pub changed: Option<f64>,
    /// Why they are not found at the moment; the last ones stay.
    pub error: Option<String>,
}

/// How an endpoint is doing.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointStatus {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Its share of the attempts, if there is a choice.
    pub balance: Option<BalanceStatus>,
    /// Its breaker, if breakers are on.
    pub breaker: Option<BreakerStatus>,
    /// Attempts that succeeded.
    pub successes: u64,
    /// Attempts that failed in a way that another may cure.
    pub transient: u64,
    /// Attempts that were answered with a definite no.
    pub permanent: u64,
    /// Attempts that were asked to come less often.
    pub overloads: u64,
    /// Attempts that say nothing about it.
    pub ignored: u64,
    /// For how long it asked to be spared of extra attempts.
    pub paused_ms: Option<f64>,
    /// From the start of attempts to the heads of their answers.
    pub latency: Latency,
    /// Connections made, ever.
    pub connections: u64,
    /// Attempts at a connection that failed.
    pub connect_errors: u64,
    /// Idle connections that turned out to be closed.
    pub stale_connections: u64,
}

/// How a breaker is doing.
#[derive(Clone, Debug, Serialize)]
pub struct BreakerStatus {
    /// `closed`, `open`, `half_open`, `forced_open`, `forced_closed` or `disabled`.
    pub state: &'static str,
    /// How often it tripped.
    pub trips: u64,
    /// While it is open: how long until the first trial.
    pub retry_ms: Option<f64>,
}

/// Whether an endpoint gets attempts, and how many in comparison with the others.
#[derive(Clone, Debug, Serialize)]
pub struct BalanceStatus {
    /// Its zone.
    pub zone: Option<String>,
    /// Its priority; those of larger ones are used when the smaller are not enough.
    pub priority: u8,
    /// Why it is not usable, if so: `evacuated`, `check` or `ejected`.
    pub unusable: Option<&'static str>,
    /// While it is ejected: for how long.
    pub ejected_ms: Option<f64>,
    /// What its checks say, if there are any: `unknown`, `up` or `down`.
    pub check: Option<&'static str>,
    /// What it carries now in comparison with the others; zero if it gets nothing.
    pub weight: f64,
    /// Its attempts that run.
    pub in_flight: u32,
}

/// How a shedder is doing.
#[derive(Clone, Debug, Serialize)]
pub struct ShedStatus {
    /// Calls that may be in flight at once, as it stands.
    pub limit: u32,
    /// Calls in flight now.
    pub in_flight: u32,
    /// Calls that wait to be let in now.
    pub queued: u32,
    /// Calls that were let in.
    pub admitted: u64,
    /// Calls that were refused, by their tier.
    pub shed: BTreeMap<&'static str, u64>,
    /// How long a call usually takes; zero while unknown.
    pub service_ms: f64,
}

/// How a bulkhead is doing.
#[derive(Clone, Debug, Serialize)]
pub struct BulkheadStatus {
    /// The name of its upstream.
    pub upstream: String,
    /// Seats there are.
    pub concurrency: u32,
    /// Seats taken now.
    pub active: u32,
    /// The most seats ever taken at once.
    pub peak: u32,
    /// Attempts that wait for a seat now.
    pub queued: u32,
    /// Attempts that got a seat.
    pub accepted: u64,
    /// Attempts that did not.
    pub rejected: u64,
    /// The share of those that did not.
    pub rejection_rate: f64,
    /// The mean wait of those that had to wait and got a seat.
    pub average_wait_ms: f64,
    /// The longest such wait.
    pub longest_wait_ms: f64,
}

/// How a budget is doing.
#[derive(Clone, Debug, Serialize)]
pub struct BudgetStatus {
    /// Extra attempts in its window.
    pub withdrawn: u64,
    /// Extra attempts that would be granted now.
    pub available: u64,
    /// Extra attempts that were denied.
    pub denied: u64,
}

/// What a cache of stale answers holds.
#[derive(Clone, Debug, Serialize)]
pub struct StaleStatus {
    /// Answers.
    pub answers: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// What is known of idempotency keys that stay with one endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct ExclusiveStatus {
    /// Keys that are known.
    pub keys: usize,
    /// How many may be.
    pub limit: usize,
    /// Whether they are known beyond the process.
    pub journal: bool,
}

/// An error, and when it was.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorStatus {
    /// Unix seconds.
    pub at: f64,
    /// The endpoint.
    pub endpoint: String,
    /// What went wrong.
    pub error: String,
}

/// Quantiles of durations in milliseconds; `null` before the first.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// The median.
    pub p50_ms: Option<f64>,
    /// Nine of ten are not slower.
    pub p90_ms: Option<f64>,
    /// 99 of 100 are not slower.
    pub p99_ms: Option<f64>,
    /// 999 of 1000 are not slower.
    pub p999_ms: Option<f64>,
}

impl Status {
    pub(crate) fn of(state: &State) -> Status {
        let table = state.tables.borrow();
        let now = Clock::Precise.now();
        let shared = &state.shared;
        Status {
            at: unix_seconds(wall()),
            ready: *state.phases.borrow() == Phase::Serving,
            connections: shared.connections.load(Ordering::Relaxed),
            turned_away: shared.turned_away.load(Ordering::Relaxed),
            pooled_connections: shared.pooled.load(Ordering::Relaxed),
            routes: table
                .routes
                .iter()
                .map(|route| of_route(route, &table))
                .collect(),
            upstreams: table
                .upstreams
                .iter()
                .map(|entry| of_upstream(&entry.upstream, &table, now))
                .collect(),
            degrade: table
                .degrade
                .as_ref()
                .map(|degrade| degrade::of(&degrade.state, now)),
        }
    }
}

/// Every upstream that has a bulkhead.
pub(crate) fn bulkheads(table: &Table) -> Vec<BulkheadStatus> {
    let upstreams = table.upstreams.iter().map(|entry| &entry.upstream);
    upstreams
        .filter_map(|upstream| of_bulkhead(upstream))
        .collect()
}

fn of_route(route: &Route, table: &Table) -> RouteStatus {
    let upstream = &table.upstreams[route.rule.plan.upstream].upstream;
    RouteStatus {
        name: route.name().to_owned(),
        upstream: upstream.plan.name.clone(),
        requests: CLASSES.into_iter().zip(route.metrics.requests()).collect(),
        latency: latency(&route.metrics.durations()),
        canary: route.canary.as_ref().map(|canary| canary.rollout.status()),
    }
}

fn of_upstream(upstream: &Upstream, table: &Table, now: Time) -> UpstreamStatus {
    let stats = upstream.policies.stats();
    let counted = |count: &dyn Fn(Reason) -> u64| {
        let reasons = Reason::ALL.into_iter();
        reasons
            .map(|reason| (reason.name(), count(reason)))
            .filter(|&(_, count)| count > 0)
            .collect()
    };
    let endpoints = upstream
        .members
        .latest()
        .with_stats(stats.endpoints.clone());
    let over_all = |of: fn(&EndpointMetrics) -> Summary| {
        let each = endpoints.iter().map(|(endpoint, _)| of(&endpoint.metrics));
        each.reduce(Summary::with)
            .expect("an upstream has an endpoint")
    };
    let (heads, cuts) = (
        over_all(EndpointMetrics::heads),
        over_all(EndpointMetrics::cuts),
    );
    UpstreamStatus {
        name: upstream.plan.name.clone(),
        endpoints: endpoints
            .iter()
            .map(|(endpoint, stats)| of_endpoint(endpoint, stats, now))
            .collect(),
        shed: stats.shed.as_ref().map(|shed| ShedStatus {
            limit: shed.limit,
            in_flight: shed.in_flight,
            queued: shed.queued,
            admitted: shed.admitted,
            shed: Tier::ALL.map(|tier| (tier.name(), shed.shed(tier))).into(),
            service_ms: millis(shed.service),
        }),
        bulkhead: of_bulkhead(upstream),
        budget: stats.budget.as_ref().map(|budget| BudgetStatus {
            withdrawn: budget.withdrawn,
            available: budget.available,
            denied: budget.denied,
        }),
        retries: stats.retries,
        hedges: stats.hedges,
        failovers: stats.failovers,
        fallbacks: stats.fallbacks,
        rejected: counted(&|reason| stats.rejected(reason)),
        would_reject: counted(&|reason| stats.would_reject(reason)),
        latency: latency(&heads),
        samples: samples::of(upstream, &heads, &cuts),
        settings: samples::settings(upstream, table),
        stale: upstream.stale.as_ref().map(|stale| {
            let (answers, bytes) = stale.size();
            StaleStatus { answers, bytes }
        }),
        discovery: upstream.discovery.as_ref().map(|discovery| {
            let latest = discovery.latest();
            DiscoveryStatus {
                from: discovery.from(),
                changes: stats.version,
                changed: latest.changed.map(unix_seconds),
                error: latest.error,
            }
        }),
        exclusive: upstream
            .exclusive
            .as_ref()
            .map(|exclusive| ExclusiveStatus {
                keys: exclusive.journal.len(),
                limit: exclusive.bounds.keys(),
                journal: exclusive.journal.path().is_some(),
            }),
        last_errors: last_errors(upstream),
    }
}

fn of_endpoint(endpoint: &Endpoint, stats: &EndpointStats, now: Time) -> EndpointStatus {
    let [connections, connect_errors, stale_connections] = endpoint.metrics.connections();
    EndpointStatus {
        name: stats.name.clone(),
        url: endpoint.url(),
        breaker: stats.breaker.as_ref().map(|breaker| BreakerStatus {
            state: breaker.state.name(),
            trips: breaker.trips,
            retry_ms: breaker.retry_at.map(|at| millis(at.since(now))),
        }),
        successes: stats.successes,
        transient: stats.transient,
        permanent: stats.permanent,
        overloads: stats.overloads,
        ignored: stats.ignored,
        balance: stats.balance.as_ref().map(|balance| BalanceStatus {
            zone: balance.zone.clone(),
            priority: balance.priority,
            unusable: balance.unusable.map(|why| match why {
                Unusable::Evacuated => "evacuated",
                Unusable::Check => "check",
                Unusable::Ejected(_) => "ejected",
            }),
            ejected_ms: balance.ejected_until.map(|until| millis(until.since(now))),
            check: balance.check.map(|state| match state {
                check::State::Unknown => "unknown",
                check::State::Up => "up",
                check::State::Down => "down",
            }),
            weight: balance.weight,
            in_flight: balance.in_flight,
        }),
        paused_ms: stats.paused_until.map(|until| millis(until.since(now))),
        latency: latency(&endpoint.metrics.heads()),
        connections,
        connect_errors,
        stale_connections,
    }
}

fn of_bulkhead(upstream: &Upstream) -> Option<BulkheadStatus> {
    let stats = upstream.policies.stats().bulkhead?;
    Some(BulkheadStatus {
        upstream: upstream.plan.name.clone(),
        concurrency: stats.concurrency,
        active: stats.active,
        peak: stats.peak,
        queued: stats.queued,
        accepted: stats.accepted,
        rejected: stats.rejected,
        rejection_rate: stats.rejection_rate,
        average_wait_ms: millis(stats.average_wait),
        longest_wait_ms: millis(stats.longest_wait),
    })
}

fn last_errors(upstream: &Upstream) -> Vec<ErrorStatus> {
    let latest = upstream.errors.latest().into_iter();
    latest
        .map(|last| ErrorStatus {
            at: unix_seconds(last.at),
            endpoint: last.endpoint,
            error: last.error,
        })
        .collect()
}

fn unix_seconds(at: SystemTime) -> f64 {
    let since = at.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

fn latency(summary: &Summary) -> Latency {
    let quantile = |share| summary.quantile(share).map(millis);
    Latency {
        count: summary.count(),
        p50_ms: quantile(0.5),
        p90_ms: quantile(0.9),
        p99_ms: quantile(0.99),
        p999_ms: quantile(0.999),
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
