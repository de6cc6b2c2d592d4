//! Serving less, in the right order, when not everything can be served.
//!
//! A service under stress has three ways: to fail at random, to fail altogether, or to give up
//! what matters least. Which *features* that is and at which signs is written down before the
//! incident, as *modes* from the mildest to the most severe. A mode disables tiers, single
//! features, or allows stale answers; its triggers are quantiles of latency, the error ratio, open
//! breakers, load, or an exhausted budget.
//!
//! The laws it keeps:
//! - **No flapping.** Every mode is a switch with hysteresis: it begins after its conditions held
//!   for a dwell time, and ends after a longer one of calm beyond other thresholds. Between a
//!   switch up into a mode and the next one down lies at least that mode's dwell of calm; between
//!   one down and the next up at least the dwell of the mode entered. One burst enters and leaves
//!   a mode at most once. A mode that comes back right after it was left needs twice the calm, up
//!   to 16 times: otherwise one that cures its own symptom would come and go while the cause lasts.
//! - **The most severe mode that is on is the current one.** It is entered directly; leaving it
//!   leads directly to the most severe milder one that is still on.
//! - **No state is terminal.** Signals that cannot be told count as calm, so a mode that stops all
//!   calls ends. A hand's decision has an expiry.
//! - **The hand wins**: while a mode is forced, no signal switches. What a hand does, and the end
//!   of it, keeps no dwell.
//!
//! A driver feeds a [`Meter`] with every call and calls [`Degrade::observe`] a few times a second;
//! longer pauses than 10 s start all dwell times anew. On the path of a call [`Degrade::current`],
//! [`Degrade::enabled`] and [`Degrade::allows`] are one atomic load each. What is answered instead
//! of a disabled feature is the driver's business.

mod condition;
mod config;
mod machine;
mod meter;

use std::fmt;
use std::time::Duration;

pub use condition::{Condition, Limit, Measured, Quantile, Signals};
pub use config::{Config, Mode};
pub use meter::Meter;

use self::machine::Machine;
use crate::config::ConfigError;
use crate::sync::{AtomicU32, Mutex, Ordering, lock};
use crate::tier::Tier;
use crate::time::Time;

/// Which mode a service is in. Shared by reference; every method takes `&self`.
pub struct Degrade {
    level: AtomicU32,
    /// By level: what is off.
    effects: Box<[Effect]>,
    /// By level.
    names: Box<[Box<str>]>,
    features: Box<[(Box<str>, Tier)]>,
    enforce: bool,
    machine: Mutex<Machine>,
}

/// How severe: normal, or one of the modes. Ordered from normal to the most severe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(usize);

impl Level {
    /// No mode at all.
    pub const NORMAL: Level = Level(0);

    /// Zero for normal, else the place of the mode in its configuration, from 1.
    pub const fn index(self) -> usize {
        self.0
    }
}

/// A feature of one [`Degrade`], looked up once by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Feature(usize);

/// What one mode switches off.
#[derive(Clone, Copy)]
struct Effect {
    /// By [`Tier::index`].
    tiers_off: [bool; Tier::ALL.len()],
    /// A bit per feature.
    features_off: [u64; MAX_FEATURES / 64],
    stale: bool,
}

impl Degrade {
    /// In normal operation, with everything on.
    ///
    /// # Errors
    /// If `config` cannot work; the error names the setting and the mend.
    pub fn new(config: Config) -> Result<Degrade, ConfigError> {
        config.check()?;
        let normal = Mode::new(NORMAL);
        let levels = || std::iter::once(&normal).chain(&config.modes);
        let effect = |mode: &Mode| Effect::new(mode, &config.features);
        let feature = |(name, tier): &(String, Tier)| (name.as_str().into(), *tier);
        Ok(Degrade {
            level: AtomicU32::new(0),
            effects: levels().map(effect).collect(),
            names: levels().map(|mode| mode.name.as_str().into()).collect(),
            features: config.features.iter().map(feature).collect(),
            enforce: config.enforce,
            machine: Mutex::new(Machine::new(&config.modes)),
        })
    }

    /// Looks at the signals of this moment; the switch, if that causes one. For once to four times a
    /// second.
    pub fn observe(&self, signals: &Signals<'_>, now: Time) -> Option<Switch> {
        self.change(|machine| machine.observe(signals, now))
    }

    /// Takes the mode by hand until `until`, whatever the signals; [`Time::MAX`] is until
    /// [`Degrade::release`]. The end is noticed at the next observation.
    ///
    /// # Panics
    /// With a level of another `Degrade` that has more modes.
    pub fn force(&self, level: Level, until: Time, now: Time) -> Option<Switch> {
        self.change(|machine| machine.force(level, until, now))
    }

    /// Gives the mode back to the signals at once, which were looked at all the while.
    pub fn release(&self, now: Time) -> Option<Switch> {
        self.change(|machine| machine.release(now))
    }

    /// The mode in force.
    #[inline]
    pub fn current(&self) -> Level {
        Level(self.level.load(Ordering::Relaxed) as usize)
    }

    /// Whether a feature is on.
    #[inline]
    pub fn enabled(&self, feature: Feature) -> bool {
        !self.effect().is_off(feature)
    }

    /// Whether calls of a tier are served.
    #[inline]
    pub fn allows(&self, tier: Tier) -> bool {
        !self.effect().tiers_off[tier.index()]
    }

    /// Whether stale answers may be served.
    #[inline]
    pub fn serves_stale(&self) -> bool {
        self.effect().stale
    }

    /// The feature with this name.
    pub fn feature(&self, name: &str) -> Option<Feature> {
        let at = self.features.iter().position(|(known, _)| **known == *name);
        at.map(Feature)
    }

    /// The mode with this name; `normal` is [`Level::NORMAL`].
    pub fn level(&self, name: &str) -> Option<Level> {
        let at = self.names.iter().position(|known| **known == *name);
        at.map(Level)
    }

    /// The name of a mode, `normal` for none.
    ///
    /// # Panics
    /// With a level of another `Degrade` that has more modes.
    pub fn name(&self, level: Level) -> &str {
        &self.names[level.0]
    }

    /// What is on in which mode, for printing: the first row is normal operation.
    pub fn matrix(&self) -> Matrix {
        let row = |(at, effect): (usize, &Effect)| Row {
            mode: self.names[at].to_string(),
            tiers: effect.tiers_off.map(|off| !off),
            features: (0..self.features.len())
                .map(|at| !effect.is_off(Feature(at)))
                .collect(),
            serve_stale: effect.stale,
        };
        let feature = |(name, tier): &(Box<str>, Tier)| (name.to_string(), *tier);
        Matrix {
            features: self.features.iter().map(feature).collect(),
            rows: self.effects.iter().enumerate().map(row).collect(),
        }
    }

    /// A snapshot for people and metrics.
    pub fn stats(&self) -> Stats {
        let machine = lock(&self.machine);
        Stats {
            current: machine.current,
            since: machine.since,
            automatic: machine.most_severe(),
            forced_until: machine.forced_until,
            calm_needed: machine.calm_needed(),
        }
    }

    #[inline]
    fn effect(&self) -> &Effect {
        &self.effects[self.current().0]
    }

    /// Changes the machine and publishes the mode, in the order of the changes.
    fn change(&self, change: impl FnOnce(&mut Machine) -> Option<Switch>) -> Option<Switch> {
        let mut machine = lock(&self.machine);
        let switch = change(&mut machine);
        let counts = self.enforce || machine.forced_until.is_some();
        let level = if counts {
            machine.current
        } else {
            Level::NORMAL
        };
        self.level.store(level.0 as u32, Ordering::Relaxed);
        switch
    }
}

impl fmt::Debug for Degrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Degrade")
            .field("current", &self.name(self.current()))
            .field("modes", &self.names)
            .finish_non_exhaustive()
    }
}

impl Effect {
    fn new(mode: &Mode, features: &[(String, Tier)]) -> Effect {
        let mut features_off = [0; MAX_FEATURES / 64];
        for (at, (name, tier)) in features.iter().enumerate() {
            features_off[at / 64] |= u64::from(mode.is_off(name, *tier)) << (at % 64);
        }
        Effect {
            tiers_off: Tier::ALL.map(|tier| mode.disables(tier)),
            features_off,
            stale: mode.stale,
        }
    }

    #[inline]
    fn is_off(&self, Feature(at): Feature) -> bool {
        self.features_off[at / 64] >> (at % 64) & 1 == 1
    }
}

/// A change of mode, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The mode before.
    pub from: Level,
    /// The mode now. In shadow mode it would be this one.
    pub to: Level,
    /// When.
    pub at: Time,
    /// Why.
    pub why: Why,
}

/// The reason of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A condition of the mode entered held for long enough.
    Began(Evidence),
    /// The mode left was calm for long enough.
    Ended(Evidence),
    /// By hand.
    Forced {
        /// The hand's decision holds until then.
        until: Time,
    },
    /// The hand's decision ended by its expiry.
    Expired,
    /// The hand gave it back.
    Released,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Began(evidence) | Why::Ended(evidence) => evidence.fmt(f),
            Why::Forced { .. } => write!(f, "forced by hand"),
            Why::Expired => write!(f, "what was forced by hand has expired"),
            Why::Released => write!(f, "given back by hand"),
        }
    }
}

/// A condition, what was measured, and for how long it had held. Displays as
/// `p99 > 500ms for 10s (now 812ms)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The condition, with its threshold.
    pub condition: Condition,
    /// What was measured at the switch.
    pub measured: Measured,
    /// For how long the mode's conditions had held.
    pub lasted: Duration,
}

impl Evidence {
    fn new(condition: &Condition, signals: &Signals<'_>, lasted: Duration) -> Evidence {
        Evidence {
            measured: condition.measure(signals),
            condition: condition.clone(),
            lasted,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence {
            condition,
            measured,
            lasted,
        } = self;
        write!(f, "{condition} for {lasted:?} (now {measured})")
    }
}

/// What is on in which mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The features with their tiers, in the order of the configuration.
    pub features: Vec<(String, Tier)>,
    /// Normal operation, then the modes from the mildest to the most severe.
    pub rows: Vec<Row>,
}

/// What is on in one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name of the mode.
    pub mode: String,
    /// Whether the tiers are served, in the order of [`Tier::ALL`].
    pub tiers: [bool; 3],
    /// Whether the features are on, in the order of [`Matrix::features`].
    pub features: Vec<bool>,
    /// Whether stale answers may be served.
    pub serve_stale: bool,
}

/// How a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The current mode; in shadow mode what it would be.
    pub current: Level,
    /// Since when.
    pub since: Time,
    /// The mode that the signals alone ask for.
    pub automatic: Level,
    /// Until when the current mode is forced by hand.
    pub forced_until: Option<Time>,
    /// For how long it must be calm before the current mode is left by itself, longer after each
    /// relapse; zero in normal operation. No client needs to come back sooner.
    pub calm_needed: Duration,
}

/// The name of [`Level::NORMAL`].
const NORMAL: &str = "normal";
/// More modes than this nobody remembers in an incident.
const MAX_MODES: usize = 16;
/// Four words of bits.
const MAX_FEATURES: usize = 256;

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
