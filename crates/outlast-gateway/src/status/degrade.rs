//! The modes: which is in force, why, and what it means.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use outlast::degrade::{Matrix, Quantile, Row, Signals};
use outlast::tier::Tier;
use outlast::time::Time;
use serde::Serialize;

use super::millis;
use crate::attempt::wall;
use crate::degrade::{Degrading, Switched};

/// Which mode the gateway is in.
#[derive(Clone, Debug, Serialize)]
pub struct DegradeStatus {
    /// The mode in force, `normal` for none.
    pub mode: String,
    /// Since when, in Unix seconds; `null` if it was never another one.
    pub since: Option<f64>,
    /// Why it was entered.
    pub evidence: Option<String>,
    /// The mode that the signals alone ask for.
    pub automatic: String,
    /// Until when a hand has forced it, in Unix seconds.
    pub forced_until: Option<f64>,
    /// `false`: only modes that a hand forces disable anything.
    pub enforce: bool,
    /// What is measured now.
    pub signals: SignalsStatus,
    /// What is on in which mode, from normal operation to the most severe one.
    pub modes: Vec<ModeStatus>,
    /// The latest switches, oldest first.
    pub switches: Vec<SwitchStatus>,
}

/// What modes look at; `null` while there are too few calls, or nothing that could be full.
#[derive(Clone, Debug, Serialize)]
pub struct SignalsStatus {
    /// By quantile, in milliseconds.
    pub latency_ms: BTreeMap<&'static str, Option<f64>>,
    /// The share of calls that failed.
    pub errors: Option<f64>,
    /// What is in flight as a share of what may be, in the fullest upstream.
    pub load: Option<f64>,
    /// Upstreams with an open breaker.
    pub open: Vec<String>,
    /// Whether a budget for extra attempts is used up.
    pub exhausted: bool,
}

/// What is on in a mode.
#[derive(Clone, Debug, Serialize)]
pub struct ModeStatus {
    /// Its name.
    pub mode: String,
    /// Which routes without a feature are served, by tier.
    pub tiers: BTreeMap<&'static str, bool>,
    /// Which features are on.
    pub features: BTreeMap<String, bool>,
    /// Whether stale copies stand in for failed calls.
    pub serve_stale: bool,
}

/// A change of mode.
#[derive(Clone, Debug, Serialize)]
pub struct SwitchStatus {
    /// Unix seconds.
    pub at: f64,
    /// The mode before.
    pub from: String,
    /// The mode after.
    pub to: String,
    /// What was measured, or whose decision it was.
    pub why: String,
}

pub(super) fn of(state: &Degrading, now: Time) -> DegradeStatus {
    let modes = state.features.modes();
    let (stats, matrix) = (modes.stats(), modes.matrix());
    let latest = state.latest();
    let in_force = state.features.mode();
    // In shadow mode what was decided is not what is in force.
    let last = latest.last().filter(|last| last.to == in_force);
    let forced_until = stats.forced_until.filter(|&until| until < Time::MAX);
    DegradeStatus {
        mode: in_force.to_owned(),
        since: last.map(unix),
        evidence: last.map(|last| last.why.clone()),
        automatic: modes.name(stats.automatic).to_owned(),
        forced_until: forced_until.map(|until| {
            let at = wall() + until.since(now);
            seconds(at.duration_since(UNIX_EPOCH).unwrap_or_default())
        }),
        enforce: state.enforce,
        signals: state.signals(measured),
        modes: matrix
            .rows
            .iter()
            .map(|row| of_mode(row, &matrix))
            .collect(),
        switches: latest.iter().map(of_switch).collect(),
    }
}

fn measured(signals: &Signals<'_>) -> SignalsStatus {
    let latency = |quantile: Quantile| {
        let latency = signals.latency[quantile.index()];
        (quantile.name(), latency.map(millis))
    };
    SignalsStatus {
        latency_ms: Quantile::ALL.into_iter().map(latency).collect(),
        errors: signals.errors.map(|share| share.as_f64()),
        load: signals.load.map(|share| share.as_f64()),
        open: signals.open.iter().map(|name| (*name).to_owned()).collect(),
        exhausted: signals.exhausted,
    }
}

fn of_mode(row: &Row, matrix: &Matrix) -> ModeStatus {
    let names = matrix.features.iter().map(|(name, _)| name.clone());
    ModeStatus {
        mode: row.mode.clone(),
        tiers: Tier::ALL
            .map(Tier::name)
            .into_iter()
            .zip(row.tiers)
            .collect(),
        features: names.zip(row.features.iter().copied()).collect(),
        serve_stale: row.serve_stale,
    }
}

fn of_switch(switched: &Switched) -> SwitchStatus {
    SwitchStatus {
        at: unix(switched),
        from: switched.from.clone(),
        to: switched.to.clone(),
        why: switched.why.clone(),
    }
}

fn unix(switched: &Switched) -> f64 {
    seconds(switched.at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
