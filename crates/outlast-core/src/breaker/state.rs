//! The state machine: every transition in one `match`.

use std::time::Duration;

use super::Config;
use crate::reject::{Reason, Rejection};
use crate::rng::{mix, unit};
use crate::time::Time;
use crate::window::Tally;

/// What a breaker shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls pass and are counted.
    Closed,
    /// Calls are rejected until the cooldown ends.
    Open,
    /// A few trials pass.
    HalfOpen,
    /// Rejects everything until an operator says otherwise.
    ForcedOpen,
    /// Lets everything pass and counts, but never trips, until an operator says otherwise.
    ForcedClosed,
    /// Lets everything pass and counts nothing, until an operator says otherwise.
    Disabled,
}

impl State {
    /// A stable snake_case name for metrics, logs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
            State::ForcedOpen => "forced_open",
            State::ForcedClosed => "forced_closed",
            State::Disabled => "disabled",
        }
    }
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manual {
    /// Reject everything, for as long as it takes.
    Open,
    /// Let everything pass; keep counting, never trip.
    Closed,
    /// Let everything pass and count nothing.
    Disabled,
    /// Try now: half-open, without waiting for the cooldown.
    Trial,
    /// Work by the rules again, from closed and with an empty window.
    Auto,
}

/// What can happen to a breaker.
#[derive(Debug)]
pub(super) enum Input {
    /// A rule is met.
    Trip(Tally),
    /// Somebody wants to pass.
    Ask,
    /// A trial has a result.
    TrialEnded { trial: u64, healthy: bool },
    /// A trial ended without one; its place is free again.
    TrialReturned(u64),
    /// An operator takes the breaker, or gives it back.
    Manual(Manual),
}

/// The state, with the data that exists in it alone.
#[derive(Debug)]
pub(super) enum Phase {
    Closed,
    Open {
        until: Time,
        streak: Streak,
        tally: Tally,
    },
    HalfOpen {
        trials: Trials,
        streak: Streak,
        tally: Tally,
    },
    HeldOpen,
    HeldClosed,
    Disabled,
}

/// Cooldowns in a row without a close in between; they may grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streak {
    opened: u32,
    cooldown: Duration,
}

/// The part of a breaker behind its lock.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) generation: u64,
    pub(super) phase: Phase,
    pub(super) trips: u64,
    config: Config,
    seed: u64,
}

impl Machine {
    pub(super) fn new(config: Config, seed: u64) -> Machine {
        Machine {
            generation: 0,
            phase: Phase::Closed,
            trips: 0,
            config,
            seed,
        }
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::HeldOpen => State::ForcedOpen,
            Phase::HeldClosed => State::ForcedClosed,
            Phase::Disabled => State::Disabled,
        }
    }

    /// Applies one input to a machine whose trials have been [expired](Machine::expire_trials) at
    /// `now`. Every transition starts a generation.
    pub(super) fn apply(&mut self, input: Input, now: Time) {
        let next = match (&mut self.phase, input) {
            (_, Input::Manual(manual)) => Some(self.manual(manual)),

            (Phase::Closed, Input::Trip(tally)) => Some(self.open(None, tally, now)),
            (
                Phase::Open {
                    until,
                    streak,
                    tally,
                },
                Input::Ask,
            ) if now >= *until => Some(Phase::HalfOpen {
                trials: Trials::new(&self.config),
                streak: *streak,
                tally: *tally,
            }),
            (
                Phase::HalfOpen {
                    trials,
                    streak,
                    tally,
                },
                Input::TrialEnded { trial, healthy },
            ) => {
                trials.judge(trial, healthy);
                let (streak, tally) = (*streak, *tally);
                match trials.verdict(&self.config) {
                    TrialsSay::Close => Some(Phase::Closed),
                    TrialsSay::Open => Some(self.open(Some(streak), tally, now)),
                    TrialsSay::NothingYet => None,
                }
            }
            (Phase::HalfOpen { trials, .. }, Input::TrialReturned(trial)) => {
                trials.end(trial);
                None
            }

            // Nothing to do: asked too early, tripped by a second thread, held by hand.
            (
                Phase::Closed
                | Phase::Open { .. }
                | Phase::HalfOpen { .. }
                | Phase::HeldOpen
                | Phase::HeldClosed
                | Phase::Disabled,
                Input::Ask | Input::Trip(_) | Input::TrialEnded { .. } | Input::TrialReturned(_),
            ) => None,
        };
        if let Some(phase) = next {
            self.enter(phase);
        }
    }

    /// A trial whose lease has ended has failed, at the end of its lease. When that was, if it
    /// opened the breaker.
    pub(super) fn expire_trials(&mut self, now: Time) -> Option<Time> {
        let Phase::HalfOpen {
            trials,
            streak,
            tally,
        } = &mut self.phase
        else {
            return None;
        };
        let (streak, tally) = (*streak, *tally);
        while let Some(ended) = trials.expire_one(now) {
            if let TrialsSay::Open = trials.verdict(&self.config) {
                let phase = self.open(Some(streak), tally, ended);
                self.enter(phase);
                return Some(ended);
            }
        }
        None
    }

    /// Why another trial may not start, and when one may; `None` if it may now.
    pub(super) fn refusal_of_trial(&self, now: Time) -> Option<Rejection> {
        match &self.phase {
            Phase::HalfOpen { trials, .. } if !trials.has_room(now) => {
                Some(Rejection::after(Reason::Open, trials.next_end(now)))
            }
            Phase::Open { until, .. } if now < *until => {
                Some(Rejection::after(Reason::Open, until.since(now)))
            }
            Phase::HalfOpen { .. } | Phase::Open { .. } => None,
            Phase::Closed | Phase::Disabled | Phase::HeldClosed => None,
            Phase::HeldOpen => Some(Rejection::new(Reason::Open)),
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.generation += 1;
        self.trips += u64::from(matches!(phase, Phase::Open { .. }));
        self.phase = phase;
    }

    fn open(&self, streak: Option<Streak>, tally: Tally, now: Time) -> Phase {
        let (opened, previous) = match streak {
            Some(streak) => (streak.opened.saturating_add(1), streak.cooldown),
            None => (0, Duration::ZERO),
        };
        let random = unit(mix(self.seed ^ self.generation));
        let cooldown = self.config.cooldown.delay(opened, previous, random);
        Phase::Open {
            until: now + cooldown,
            streak: Streak { opened, cooldown },
            tally,
        }
    }

    fn manual(&self, manual: Manual) -> Phase {
        match manual {
            Manual::Open => Phase::HeldOpen,
            Manual::Closed => Phase::HeldClosed,
            Manual::Disabled => Phase::Disabled,
            Manual::Auto => Phase::Closed,
            Manual::Trial => Phase::HalfOpen {
                trials: Trials::new(&self.config),
                streak: Streak {
                    opened: 0,
                    cooldown: Duration::ZERO,
                },
                tally: Tally::default(),
            },
        }
    }
}

/// The trials of one half-open phase.
#[derive(Debug)]
pub(super) struct Trials {
    limit: usize,
    lease: Duration,
    running: Vec<Trial>,
    started: u64,
    succeeded: u32,
    failed: u32,
}

#[derive(Debug)]
struct Trial {
    number: u64,
    ends: Time,
}

enum TrialsSay {
    Close,
    Open,
    NothingYet,
}

impl Trials {
    fn new(config: &Config) -> Trials {
        Trials {
            limit: config.trials as usize,
            lease: config.trial_lease(),
            running: Vec::new(),
            started: 0,
            succeeded: 0,
            failed: 0,
        }
    }

    /// Takes a place, if one is free.
    pub(super) fn start(&mut self, now: Time) -> Option<u64> {
        if self.running.len() >= self.limit {
            return None;
        }
        self.started += 1;
        self.running.push(Trial {
            number: self.started,
            ends: now + self.lease,
        });
        Some(self.started)
    }

    fn has_room(&self, now: Time) -> bool {
        self.running.iter().filter(|trial| trial.ends > now).count() < self.limit
    }

    /// How long until a place is free at the latest.
    pub(super) fn next_end(&self, now: Time) -> Duration {
        self.running
            .iter()
            .map(|trial| trial.ends.since(now))
            .min()
            .unwrap_or_default()
    }

    /// Counts a trial's result, unless its lease has ended before.
    fn judge(&mut self, number: u64, healthy: bool) {
        match (self.end(number), healthy) {
            (true, true) => self.succeeded += 1,
            (true, false) => self.failed += 1,
            (false, _) => {}
        }
    }

    /// Frees a place; `false` if that trial has ended before.
    fn end(&mut self, number: u64) -> bool {
        let running = self.running.len();
        self.running.retain(|trial| trial.number != number);
        self.running.len() < running
    }

    /// Ends the trial whose lease ended first, and says when that was.
    fn expire_one(&mut self, now: Time) -> Option<Time> {
        let over = |trial: &&Trial| trial.ends <= now;
        let (number, ends) = self
            .running
            .iter()
            .filter(over)
            .map(|trial| (trial.number, trial.ends))
            .min_by_key(|&(_, ends)| ends)?;
        self.end(number);
        self.failed += 1;
        Some(ends)
    }

    fn verdict(&self, config: &Config) -> TrialsSay {
        if self.failed > config.tolerated {
            TrialsSay::Open
        } else if self.succeeded >= config.successes {
            TrialsSay::Close
        } else {
            TrialsSay::NothingYet
        }
    }
}
