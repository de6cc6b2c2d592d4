//! When modes begin and end.
//!
//! Each mode is a switch with hysteresis of its own, which remembers whether it is on; the current
//! mode is the most severe one that is. So a more severe mode is entered directly, and leaving it
//! leads directly to whatever milder mode is still on, not through those that are over.

use std::time::Duration;

use super::condition::{Condition, Signals};
use super::config::Mode;
use super::{Evidence, Level, Switch, Why};
use crate::config::DAY;
use crate::time::Time;

pub(super) struct Machine {
    modes: Vec<Switchable>,
    pub(super) current: Level,
    pub(super) since: Time,
    pub(super) forced_until: Option<Time>,
    observed: Option<Time>,
}

/// A mode and whether it is on.
struct Switchable {
    when: Vec<Condition>,
    after: Duration,
    off: Vec<Condition>,
    off_after: Duration,
    /// How often it came back right after it had been left.
    relapses: u32,
    phase: Phase,
}

enum Phase {
    Off {
        bad_since: Option<Time>,
        left: Option<Left>,
    },
    On {
        bad_since: Time,
        calm_since: Option<Time>,
    },
}

/// When a mode was over, and since when it had been calm then.
#[derive(Clone, Copy)]
struct Left {
    at: Time,
    calm_since: Time,
}

impl Machine {
    pub(super) fn new(modes: &[Mode]) -> Machine {
        let switchable = |mode: &Mode| Switchable {
            when: mode.when.clone(),
            after: mode.after,
            off: mode.off_conditions(),
            off_after: mode.off_dwell(),
            relapses: 0,
            phase: Phase::Off {
                bad_since: None,
                left: None,
            },
        };
        Machine {
            modes: modes.iter().map(switchable).collect(),
            current: Level::NORMAL,
            since: Time::ZERO,
            forced_until: None,
            observed: None,
        }
    }

    pub(super) fn observe(&mut self, signals: &Signals<'_>, now: Time) -> Option<Switch> {
        let gap = self
            .observed
            .is_some_and(|last| now.since(last) > LONGEST_GAP);
        self.observed = Some(now);
        for mode in &mut self.modes {
            if gap {
                mode.restart_clock();
            }
            mode.observe(signals, now);
        }
        match self.forced_until {
            Some(until) if now < until => None,
            Some(_) => {
                self.forced_until = None;
                self.settle(self.most_severe(), now, Why::Expired)
            }
            None => self.follow(signals, now),
        }
    }

    pub(super) fn force(&mut self, level: Level, until: Time, now: Time) -> Option<Switch> {
        assert!(level.0 <= self.modes.len(), "a level of other modes");
        self.forced_until = Some(until);
        self.settle(level, now, Why::Forced { until })
    }

    pub(super) fn release(&mut self, now: Time) -> Option<Switch> {
        self.forced_until.take()?;
        self.settle(self.most_severe(), now, Why::Released)
    }

    /// The most severe mode that is on by itself.
    pub(super) fn most_severe(&self) -> Level {
        let on = |mode: &Switchable| matches!(mode.phase, Phase::On { .. });
        Level(self.modes.iter().rposition(on).map_or(0, |at| at + 1))
    }

    /// For how long it must be calm before the current mode is left by itself.
    pub(super) fn calm_needed(&self) -> Duration {
        match self.current.0.checked_sub(1) {
            Some(at) => self.modes[at].calm_needed(),
            None => Duration::ZERO,
        }
    }

    /// Moves towards what is on. It does not step down while a more severe mode than the one it
    /// would land in sees its conditions hold, or it might have to step up again at once.
    fn follow(&mut self, signals: &Signals<'_>, now: Time) -> Option<Switch> {
        let target = self.most_severe();
        let why = if target > self.current {
            Why::Began(self.modes[target.0 - 1].symptom(signals, now))
        } else {
            let brewing = self.modes[target.0..].iter().any(Switchable::is_brewing);
            if target == self.current || brewing {
                return None;
            }
            Why::Ended(self.modes[self.current.0 - 1].calm(signals, now))
        };
        self.settle(target, now, why)
    }

    fn settle(&mut self, to: Level, now: Time, why: Why) -> Option<Switch> {
        let from = self.current;
        if from == to {
            return None;
        }
        self.current = to;
        self.since = now;
        Some(Switch {
            from,
            to,
            at: now,
            why,
        })
    }
}

impl Switchable {
    /// All transitions of one mode.
    fn observe(&mut self, signals: &Signals<'_>, now: Time) {
        let bad = self
            .when
            .iter()
            .any(|when| when.holds(signals) == Some(true));
        // What cannot be told counts as calm: a mode that stops all calls would never end.
        let calm = !bad && self.off.iter().all(|off| off.holds(signals) != Some(false));
        match &mut self.phase {
            Phase::Off { bad_since, left } => {
                if !bad {
                    *bad_since = None;
                    return;
                }
                let since = *bad_since.get_or_insert(now);
                if now.since(since) < self.after {
                    return;
                }
                let left = *left;
                let relapsed = left.is_some_and(|left| now.since(left.at) <= self.calm_needed());
                self.relapses = if relapsed {
                    (self.relapses + 1).min(MOST_RELAPSES)
                } else {
                    0
                };
                self.phase = Phase::On {
                    bad_since: since,
                    calm_since: None,
                };
            }
            Phase::On { calm_since, .. } => {
                if !calm {
                    *calm_since = None;
                    return;
                }
                let since = *calm_since.get_or_insert(now);
                if now.since(since) >= self.calm_needed() {
                    self.phase = Phase::Off {
                        bad_since: None,
                        left: Some(Left {
                            at: now,
                            calm_since: since,
                        }),
                    };
                }
            }
        }
    }

    /// How long it must be calm: twice as long after each relapse. A mode that cures its own
    /// symptom would otherwise come and go for as long as the cause lasts.
    fn calm_needed(&self) -> Duration {
        self.off_after.saturating_mul(1 << self.relapses).min(DAY)
    }

    fn restart_clock(&mut self) {
        match &mut self.phase {
            Phase::Off { bad_since, .. } => *bad_since = None,
            Phase::On { calm_since, .. } => *calm_since = None,
        }
    }

    fn is_brewing(&self) -> bool {
        matches!(
            self.phase,
            Phase::Off {
                bad_since: Some(_),
                ..
            }
        )
    }

    /// Why it began: the first condition that holds.
    fn symptom(&self, signals: &Signals<'_>, now: Time) -> Evidence {
        let lasted = match self.phase {
            Phase::On { bad_since, .. } => now.since(bad_since),
            Phase::Off { .. } => Duration::ZERO,
        };
        let holds = |when: &&Condition| when.holds(signals) == Some(true);
        let condition = self.when.iter().find(holds).unwrap_or(&self.when[0]);
        Evidence::new(condition, signals, lasted)
    }

    /// Why it ended: the first of the conditions that all hold.
    fn calm(&self, signals: &Signals<'_>, now: Time) -> Evidence {
        let lasted = match self.phase {
            Phase::Off {
                left: Some(left), ..
            } => now.since(left.calm_since),
            Phase::Off { left: None, .. } | Phase::On { .. } => Duration::ZERO,
        };
        Evidence::new(&self.off[0], signals, lasted)
    }
}

/// What happened between two observations that lie further apart nobody saw; it proves no dwell.
const LONGEST_GAP: Duration = Duration::from_secs(10);
/// Sixteen times the dwell time is the most.
const MOST_RELAPSES: u32 = 4;
