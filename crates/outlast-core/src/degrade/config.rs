//! The settings of degradation: modes and features.

use std::time::Duration;

use super::condition::Condition;
use super::{MAX_FEATURES, MAX_MODES, NORMAL};
use crate::config::{ConfigError, DAY, ensure};
use crate::tier::Tier;

/// Modes from the mildest to the most severe, and the features they can switch off.
#[derive(Clone, Debug)]
pub struct Config {
    pub(super) modes: Vec<Mode>,
    pub(super) features: Vec<(String, Tier)>,
    pub(super) enforce: bool,
}

impl Default for Config {
    /// No modes and no features: everything is always on.
    fn default() -> Config {
        Config {
            modes: Vec::new(),
            features: Vec::new(),
            enforce: true,
        }
    }
}

impl Config {
    /// Adds a mode that is more severe than those before it. At most 16.
    pub fn mode(mut self, mode: Mode) -> Config {
        self.modes.push(mode);
        self
    }

    /// Adds a feature that modes can switch off, by its tier or by its name. At most 256.
    pub fn feature(mut self, name: impl Into<String>, tier: Tier) -> Config {
        self.features.push((name.into(), tier));
        self
    }

    /// `false`: shadow mode. Switches are decided and reported, but only one that was forced by
    /// hand switches anything off. Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        ensure(
            self.modes.len() <= MAX_MODES,
            "degrade.modes",
            "may be at most 16",
        )?;
        ensure(
            self.features.len() <= MAX_FEATURES,
            "degrade.features",
            "may be at most 256",
        )?;
        let names = |unique: &[&str]| {
            let mut sorted = unique.to_vec();
            sorted.sort_unstable();
            sorted.windows(2).all(|pair| pair[0] != pair[1]) && !sorted.contains(&"")
        };
        let modes: Vec<&str> = self.modes.iter().map(|mode| mode.name.as_str()).collect();
        let features: Vec<&str> = self
            .features
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        ensure(
            names(&modes) && !modes.contains(&NORMAL),
            "degrade.modes",
            "must each have a name of their own, which is not 'normal': that is the absence of one",
        )?;
        ensure(
            names(&features),
            "degrade.features",
            "must each have a name of their own",
        )?;
        for mode in &self.modes {
            mode.check(&features)?;
        }
        self.check_severity()
    }

    /// What a mode switches off stays off in a more severe one.
    fn check_severity(&self) -> Result<(), ConfigError> {
        let grows = self.modes.windows(2).all(|pair| {
            let tiers = pair[0].tiers.iter().all(|&tier| pair[1].disables(tier));
            let mut features = self.features.iter();
            tiers
                && features
                    .all(|(name, tier)| pair[1].is_off(name, *tier) || !pair[0].is_off(name, *tier))
        });
        ensure(
            grows,
            "degrade.modes",
            "are ordered by severity: disable in each what the milder ones before it disable",
        )
    }
}

/// A named way to serve less.
///
/// It is entered when any of its `when` conditions has held for its dwell time, and left when for
/// its own, longer dwell time all of its `off` conditions held and none of `when` did.
#[derive(Clone, Debug)]
pub struct Mode {
    pub(super) name: String,
    pub(super) when: Vec<Condition>,
    pub(super) after: Duration,
    off: Vec<Condition>,
    off_after: Option<Duration>,
    tiers: Vec<Tier>,
    features: Vec<String>,
    pub(super) stale: bool,
}

impl Mode {
    /// A mode that only a hand can switch on, and that switches off nothing.
    pub fn new(name: impl Into<String>) -> Mode {
        Mode {
            name: name.into(),
            when: Vec::new(),
            after: Duration::from_secs(10),
            off: Vec::new(),
            off_after: None,
            tiers: Vec::new(),
            features: Vec::new(),
            stale: false,
        }
    }

    /// Enters the mode when this holds; of several conditions any one is enough, because each is
    /// a symptom of its own. At most 16.
    pub fn when(mut self, condition: Condition) -> Mode {
        self.when.push(condition);
        self
    }

    /// For how long a condition of `when` must hold, whichever. Default 10 s; at most 24 h; zero
    /// enters at the first sign. The window of the signals comes on top.
    pub fn after(mut self, dwell: Duration) -> Mode {
        self.after = dwell;
        self
    }

    /// Leaves the mode when this holds; of several conditions all must. At most 16. Default: for
    /// each condition of `when` its opposite, a fifth beyond the threshold (`> 500ms` ends at
    /// `< 400ms`).
    pub fn off(mut self, condition: Condition) -> Mode {
        self.off.push(condition);
        self
    }

    /// For how long it must be calm before the mode is left. From 1 s to 24 h. Default: three
    /// times `after`, and at least 10 s: staying a little too long costs what can be missed,
    /// leaving too early costs a second incident.
    pub fn off_after(mut self, dwell: Duration) -> Mode {
        self.off_after = Some(dwell);
        self
    }

    /// Switches off the features of a tier, and refuses its calls. Never the critical one.
    pub fn disable(mut self, tier: Tier) -> Mode {
        self.tiers.push(tier);
        self
    }

    /// Switches off a feature by its name, whatever its tier.
    pub fn switch_off(mut self, feature: impl Into<String>) -> Mode {
        self.features.push(feature.into());
        self
    }

    /// Whether stale answers may be served while it lasts. Default `false`.
    pub fn serve_stale(mut self, stale: bool) -> Mode {
        self.stale = stale;
        self
    }

    pub(super) fn disables(&self, tier: Tier) -> bool {
        self.tiers.contains(&tier)
    }

    pub(super) fn is_off(&self, feature: &str, tier: Tier) -> bool {
        self.disables(tier) || self.features.iter().any(|name| name == feature)
    }

    /// The conditions that end it, as given or as derived.
    pub fn off_conditions(&self) -> Vec<Condition> {
        if self.off.is_empty() {
            self.when.iter().map(Condition::relaxed).collect()
        } else {
            self.off.clone()
        }
    }

    /// How long it must be calm, as given or as derived.
    pub fn off_dwell(&self) -> Duration {
        let derived = || self.after.saturating_mul(3).clamp(LEAST_DERIVED_OFF, DAY);
        self.off_after.unwrap_or_else(derived)
    }

    fn check(&self, features: &[&str]) -> Result<(), ConfigError> {
        for condition in self.when.iter().chain(&self.off) {
            condition.check()?;
        }
        ensure(
            self.when.len() <= MAX_CONDITIONS && self.off.len() <= MAX_CONDITIONS,
            "degrade.when",
            "may hold at most 16 conditions, and so may `off`",
        )?;
        ensure(
            self.off.is_empty() || !self.when.is_empty(),
            "degrade.off",
            "needs a `when`: a mode that only a hand switches on is switched off by hand",
        )?;
        let overlap = self
            .when
            .iter()
            .any(|when| self.off.iter().any(|off| when.overlaps(off)));
        ensure(
            !overlap,
            "degrade.off",
            "must lie on the other side of the threshold of `when`, or at it",
        )?;
        ensure(self.after <= DAY, "degrade.for", "may be at most 24 h")?;
        ensure(
            (LEAST_OFF..=DAY).contains(&self.off_dwell()),
            "degrade.off.for",
            "must lie between 1 s and 24 h",
        )?;
        ensure(
            !self.disables(Tier::Critical),
            "degrade.disable",
            "may not hold critical: to switch off a single critical feature, name it",
        )?;
        ensure(
            self.features
                .iter()
                .all(|name| features.contains(&name.as_str())),
            "degrade.features",
            "must hold every feature that a mode switches off by name",
        )
    }
}

const MAX_CONDITIONS: usize = 16;
/// Shorter and a mode could come and go with every other observation.
const LEAST_OFF: Duration = Duration::from_secs(1);
/// A mode that enters at the first sign still has to see some calm before it leaves.
const LEAST_DERIVED_OFF: Duration = Duration::from_secs(10);
