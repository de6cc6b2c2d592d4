//! The states of a canary, and what moves it between them.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::Config;
use super::decision::{Comparison, Decision, Seen, What, Why};
use super::errors::{ErrorTest, Tally};
use super::latency::LatencyTest;
use super::{Batch, State};
use crate::ratio::Ratio;
use crate::time::Time;
use crate::window::Counts;

pub(super) struct Machine {
    config: Config,
    phase: Phase,
    errors: ErrorTest,
    latency: Option<LatencyTest>,
    /// The answers of this step, the baseline's first.
    answers: [Counts; 2],
    decisions: VecDeque<Decision>,
    /// All that ever ended, the baseline's first.
    ever: [Tally; 2],
}

#[derive(Clone, Copy)]
enum Phase {
    Live {
        step: usize,
        /// Since when the step's time counts.
        since: Time,
        paused: bool,
    },
    Done,
    RolledBack,
}

/// What a hand can ask for.
#[derive(Clone, Copy)]
pub(super) enum Hand {
    Pause,
    Resume,
    Promote,
    Abort,
    Restart,
}

impl Machine {
    pub(super) fn new(config: Config, now: Time) -> Machine {
        let alpha = config.alpha.as_f64();
        let (errors, latency) = match config.slower {
            Some(_) => (alpha * ERRORS_PART, alpha * (1.0 - ERRORS_PART)),
            None => (alpha, 0.0),
        };
        let beta = config.beta.as_f64();
        Machine {
            errors: ErrorTest::new(&config, errors),
            latency: config.slower.map(|_| LatencyTest::new(latency, beta)),
            phase: Phase::Live {
                step: 0,
                since: now,
                paused: false,
            },
            answers: Default::default(),
            decisions: VecDeque::with_capacity(MOST_DECISIONS),
            ever: Default::default(),
            config,
        }
    }

    /// Takes what ended since the last step, and decides.
    pub(super) fn step(&mut self, batch: &Batch, now: Time) -> Option<Decision> {
        self.ever[0].add(tally(&batch.baseline));
        self.ever[1].add(tally(&batch.canary));
        let Phase::Live {
            step,
            since,
            paused,
        } = self.phase
        else {
            return None;
        };
        if let Some(why) = self.absorb(step, batch) {
            return self.condemn(step, paused, why, now);
        }
        if paused {
            return None;
        }
        let took = now.since(since);
        if step == self.last() {
            let over = took >= self.config.watch;
            return over.then(|| self.advance(step, Why::Watched, now));
        }
        if self.config.promote && self.is_ready(step, took) {
            return Some(self.advance(step, Why::Passed, now));
        }
        let hand_waits = !self.config.promote && self.is_ready(step, took);
        let undecided = took >= self.config.limit && !hand_waits;
        undecided.then(|| self.pause(step, Why::Undecided, now))
    }

    /// What a hand asks for; `None` if it makes no sense in this state.
    pub(super) fn hand(&mut self, hand: Hand, now: Time) -> Option<Decision> {
        match (hand, self.phase) {
            (Hand::Restart, Phase::Done | Phase::RolledBack) => Some(self.restart(now)),
            (_, Phase::Done | Phase::RolledBack)
            | (Hand::Restart, Phase::Live { .. })
            | (Hand::Pause, Phase::Live { paused: true, .. })
            | (Hand::Resume, Phase::Live { paused: false, .. }) => None,
            (Hand::Pause, Phase::Live { step, .. }) => Some(self.pause(step, Why::Manual, now)),
            (Hand::Resume, Phase::Live { step, .. }) => Some(self.resume(step, now)),
            (Hand::Promote, Phase::Live { step, .. }) => {
                self.forgive();
                Some(self.advance(step, Why::Manual, now))
            }
            (Hand::Abort, Phase::Live { .. }) => Some(self.roll_back(Why::Manual, now)),
        }
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Live {
                step, paused: true, ..
            } => State::Paused { step },
            Phase::Live { step, .. } if step == self.last() => State::Promoting,
            Phase::Live { step, .. } => State::Running { step },
            Phase::Done => State::Done,
            Phase::RolledBack => State::RolledBack,
        }
    }

    pub(super) fn share(&self) -> Ratio {
        match self.phase {
            Phase::Live { step, .. } => self.config.steps[step],
            Phase::Done => Ratio::ONE,
            Phase::RolledBack => Ratio::ZERO,
        }
    }

    /// All that ever ended, the baseline's first.
    pub(super) fn ever(&self) -> [Tally; 2] {
        self.ever
    }

    pub(super) fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter()
    }

    /// Both sides in this step.
    pub(super) fn seen(&self) -> Comparison {
        let tallies = self.errors.tallies();
        let seen = |side: usize, factor: f64| Seen {
            calls: tallies[side].calls,
            errors: tallies[side].errors,
            median: self.answers[side]
                .quantile(Ratio::percent(50))
                .map(|median| median.mul_f64(factor)),
        };
        Comparison {
            baseline: seen(0, 1.0),
            canary: seen(1, self.config.slower.unwrap_or(1.0)),
        }
    }

    /// Feeds the tests; why the canary is bad, if it is.
    fn absorb(&mut self, step: usize, batch: &Batch) -> Option<Why> {
        let [baseline, canary] = [&batch.baseline, &batch.canary];
        self.answers[0].add(&baseline.0);
        self.answers[1].add(&canary.0);
        let alone = step == self.last();
        let fails = if alone {
            self.errors.absorb_alone(tally(canary))
        } else {
            self.errors.absorb(tally(baseline), tally(canary))
        };
        if fails {
            return Some(Why::Errors {
                allowed: self.errors.allowed(),
                odds: self.errors.odds(),
            });
        }
        let latency = self.latency.as_mut().filter(|_| !alone)?;
        let slow = latency.absorb(&baseline.0, &canary.0);
        slow.then(|| Why::Latency {
            allowed: self.config.slower.unwrap_or(1.0),
            odds: latency.odds(),
        })
    }

    /// A bad canary is rolled back, or if only a hand may do that, paused once.
    fn condemn(&mut self, step: usize, paused: bool, why: Why, now: Time) -> Option<Decision> {
        if self.config.roll_back {
            Some(self.roll_back(why, now))
        } else if paused {
            None
        } else {
            Some(self.pause(step, why, now))
        }
    }

    /// Whether the step has seen enough, and nothing bad.
    fn is_ready(&self, step: usize, took: Duration) -> bool {
        let [baseline, canary] = self.errors.tallies();
        let learns = self.config.steps[step] == Ratio::ZERO;
        let calls = if learns { baseline.calls } else { canary.calls };
        let latency_passes = self.latency.as_ref().is_none_or(LatencyTest::passes);
        took >= self.config.min_time
            && calls >= u64::from(self.config.min_calls)
            && (learns || (self.errors.passes() && latency_passes))
    }

    fn advance(&mut self, step: usize, why: Why, now: Time) -> Decision {
        if step == self.last() {
            self.phase = Phase::Done;
            return self.decide(What::Done, why, now);
        }
        self.phase = Phase::Live {
            step: step + 1,
            since: now,
            paused: false,
        };
        let share = self.share();
        let decision = self.decide(What::Promoted { share }, why, now);
        self.errors.next_step();
        self.answers = Default::default();
        decision
    }

    fn roll_back(&mut self, why: Why, now: Time) -> Decision {
        self.phase = Phase::RolledBack;
        self.decide(What::RolledBack, why, now)
    }

    fn pause(&mut self, step: usize, why: Why, now: Time) -> Decision {
        self.phase = Phase::Live {
            step,
            since: now,
            paused: true,
        };
        self.decide(What::Paused, why, now)
    }

    /// The step begins again, and what had been held against the canary is forgiven.
    fn resume(&mut self, step: usize, now: Time) -> Decision {
        self.phase = Phase::Live {
            step,
            since: now,
            paused: false,
        };
        let decision = self.decide(What::Resumed, Why::Manual, now);
        self.errors.next_step();
        self.forgive();
        self.answers = Default::default();
        decision
    }

    /// A new life, which remembers only what was decided and counted.
    fn restart(&mut self, now: Time) -> Decision {
        let decision = self.decide(What::Restarted, Why::Manual, now);
        *self = Machine {
            decisions: std::mem::take(&mut self.decisions),
            ever: self.ever,
            ..Machine::new(self.config.clone(), now)
        };
        decision
    }

    /// A hand that goes on knows what it does; else it would be stopped again at once.
    fn forgive(&mut self) {
        self.errors.forgive();
        if let Some(latency) = &mut self.latency {
            latency.forgive();
        }
    }

    fn decide(&mut self, what: What, why: Why, now: Time) -> Decision {
        let decision = Decision {
            at: now,
            what,
            why,
            seen: self.seen(),
        };
        if self.decisions.len() == MOST_DECISIONS {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision);
        decision
    }

    fn last(&self) -> usize {
        self.config.steps.len() - 1
    }
}

fn tally(side: &(Counts, u64)) -> Tally {
    Tally {
        calls: side.0.total() + side.1,
        errors: side.1,
    }
}

/// Latencies are many and errors are few: a tenth of the false alarms is plenty for the ranks, and
/// waiting for errors is what takes long.
const ERRORS_PART: f64 = 0.9;
/// A canary of 16 steps with a pause and a resumption in each decides so often.
const MOST_DECISIONS: usize = 64;
