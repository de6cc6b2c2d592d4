//! The breaker against a plain sequential program.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A window as a list, a state as an `enum`, and no concurrency.
struct Model {
    config: Config,
    now: u64,
    generation: u64,
    phase: ModelPhase,
}

enum ModelPhase {
    Closed {
        run: u32,
        window: VecDeque<(u64, bool, bool)>,
    },
    Open {
        until: u64,
        opened: u64,
    },
    HalfOpen {
        running: Vec<(u64, u64)>,
        succeeded: u32,
        failed: u32,
        opened: u64,
    },
    Held(State),
}

/// A permit, and what the model knows of it.
struct Pending {
    permit: Permit,
    generation: u64,
    trial: Option<u64>,
}

const CLOSED: ModelPhase = ModelPhase::Closed {
    run: 0,
    window: VecDeque::new(),
};

impl Model {
    fn enter(&mut self, phase: ModelPhase) {
        self.generation += 1;
        self.phase = phase;
    }

    fn open(&mut self, opened: u64, from: u64) {
        let cooldown =
            self.config
                .cooldown
                .delay(u32::try_from(opened).unwrap(), Duration::ZERO, 0.0);
        let until = from + nanos(cooldown);
        self.enter(ModelPhase::Open { until, opened });
    }

    /// Lets leases end.
    fn look(&mut self) {
        while let ModelPhase::HalfOpen {
            running,
            failed,
            opened,
            ..
        } = &mut self.phase
        {
            let over = running
                .iter()
                .enumerate()
                .filter(|(_, trial)| trial.1 <= self.now);
            let Some((place, &(_, ends))) = over.min_by_key(|(_, trial)| trial.1) else {
                return;
            };
            running.remove(place);
            *failed += 1;
            if *failed > self.config.tolerated {
                let opened = *opened + 1;
                self.open(opened, ends);
            }
        }
    }

    fn state(&mut self) -> State {
        self.look();
        match &self.phase {
            ModelPhase::Closed { .. } => State::Closed,
            ModelPhase::Open { .. } => State::Open,
            ModelPhase::HalfOpen { .. } => State::HalfOpen,
            ModelPhase::Held(state) => *state,
        }
    }

    /// Whether a call may pass, and as which trial.
    fn admit(&mut self, number: u64) -> Result<Option<u64>, Option<u64>> {
        self.look();
        if let ModelPhase::Open { until, opened } = self.phase
            && until <= self.now
        {
            self.enter(ModelPhase::HalfOpen {
                running: Vec::new(),
                succeeded: 0,
                failed: 0,
                opened,
            });
        }
        match &mut self.phase {
            ModelPhase::Held(State::ForcedOpen) => Err(None),
            ModelPhase::Closed { .. } | ModelPhase::Held(_) => Ok(None),
            ModelPhase::Open { until, .. } => Err(Some(*until - self.now)),
            ModelPhase::HalfOpen { running, .. } => {
                if running.len() < self.config.trials as usize {
                    running.push((number, self.now + nanos(self.config.trial_lease())));
                    Ok(Some(number))
                } else {
                    Err(running.iter().map(|trial| trial.1 - self.now).min())
                }
            }
        }
    }

    fn record(&mut self, pending: &Pending, outcome: Outcome, took: Duration) {
        self.look();
        if pending.generation != self.generation {
            return;
        }
        let slow = self.config.slow.is_some_and(|(after, _)| took > after);
        let healthy = matches!(outcome, Outcome::Success | Outcome::Permanent);
        let ignored = outcome == Outcome::Ignored;
        match &mut self.phase {
            ModelPhase::Closed { run, window } if !ignored => {
                *run = if healthy { 0 } else { *run + 1 };
                window.push_back((self.now, !healthy, slow));
                if self.is_met() {
                    self.open(0, self.now);
                }
            }
            ModelPhase::HalfOpen {
                running,
                succeeded,
                failed,
                opened,
            } => {
                let Some(place) = running
                    .iter()
                    .position(|trial| Some(trial.0) == pending.trial)
                else {
                    return;
                };
                running.remove(place);
                if ignored {
                    return;
                }
                if healthy && !slow {
                    *succeeded += 1;
                } else {
                    *failed += 1;
                }
                if *failed > self.config.tolerated {
                    let opened = *opened + 1;
                    self.open(opened, self.now);
                } else if *succeeded >= self.config.successes {
                    self.enter(CLOSED);
                }
            }
            ModelPhase::Closed { .. } | ModelPhase::Open { .. } | ModelPhase::Held(_) => {}
        }
    }

    /// Forgets what has left the window, and looks at every rule.
    fn is_met(&mut self) -> bool {
        let ModelPhase::Closed { run, window } = &mut self.phase else {
            return false;
        };
        match self.config.window {
            Window::Calls(calls) => {
                while window.len() > calls.get() as usize {
                    window.pop_front();
                }
            }
            Window::Time(length) => {
                let tick = nanos(length) / 10;
                window.retain(|result| result.0 / tick + 10 > self.now / tick);
            }
        }
        let total = window.len() as u64;
        let failed = window.iter().filter(|result| result.1).count() as u64;
        let slow = window.iter().filter(|result| result.2).count() as u64;
        let enough = total >= u64::from(self.config.min_calls);
        let share = |limit: Option<Ratio>, part| {
            enough && limit.is_some_and(|limit| limit.reached_by(part, total))
        };
        self.config.consecutive.is_some_and(|limit| *run >= limit)
            || self
                .config
                .failures
                .is_some_and(|limit| failed >= u64::from(limit))
            || share(self.config.failure_ratio, failed)
            || share(self.config.slow.map(|(_, ratio)| ratio), slow)
    }

    fn force(&mut self, manual: Manual) {
        self.look();
        self.enter(match manual {
            Manual::Open => ModelPhase::Held(State::ForcedOpen),
            Manual::Closed => ModelPhase::Held(State::ForcedClosed),
            Manual::Disabled => ModelPhase::Held(State::Disabled),
            Manual::Auto => CLOSED,
            Manual::Trial => ModelPhase::HalfOpen {
                running: Vec::new(),
                succeeded: 0,
                failed: 0,
                opened: 0,
            },
        });
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Admit,
    Record(prop::sample::Index, Outcome, u64),
    Pass(u64),
    Force(Manual),
}

fn any_config() -> impl Strategy<Value = Config> {
    let window = prop_oneof![
        (1u32..12).prop_map(Window::calls),
        (1u64..12).prop_map(|tick| Window::Time(Duration::from_millis(10 * tick))),
    ];
    let share = || proptest::option::weighted(0.3, (1u32..=100).prop_map(Ratio::percent));
    let rules = (
        proptest::option::weighted(0.3, 1u32..5),
        proptest::option::weighted(0.3, 1u32..5),
        share(),
        share(),
    );
    let cooldown = prop_oneof![
        (1u32..20).prop_map(|base| Backoff::constant(base * MS)),
        (1u32..20).prop_map(|base| {
            let backoff = Backoff::linear(base * MS).max(70 * MS);
            backoff.jitter(Jitter::None)
        }),
    ];
    let trials = (1u32..4, 1u32..4, 0u32..3, 10u32..40);
    (window, rules, 1u32..8, cooldown, trials).prop_map(
        |(window, rules, min_calls, cooldown, trials)| {
            let base = Config::default();
            Config {
                consecutive: rules.0,
                failures: rules.1,
                failure_ratio: rules.2,
                slow: rules.3.map(|ratio| (5 * MS, ratio)),
                window,
                min_calls,
                cooldown,
                ..base
            }
            .trials(trials.0)
            .successes(trials.1)
            .tolerate(trials.2)
            .lease(trials.3 * MS)
        },
    )
}

fn any_op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Success),
        4 => Just(Outcome::Transient),
        1 => Just(Outcome::Permanent),
        1 => Just(Outcome::Overload { retry_after: None }),
        1 => Just(Outcome::Ignored),
    ];
    let manual = prop_oneof![
        1 => Just(Manual::Open),
        1 => Just(Manual::Closed),
        1 => Just(Manual::Disabled),
        1 => Just(Manual::Trial),
        4 => Just(Manual::Auto),
    ];
    prop_oneof![
        24 => Just(Op::Admit),
        24 => (any::<prop::sample::Index>(), outcome, 0u64..10)
            .prop_map(|(which, outcome, took)| Op::Record(which, outcome, took)),
        8 => (0u64..4_000_000).prop_map(Op::Pass),
        2 => (0u64..60_000_000).prop_map(Op::Pass),
        1 => manual.prop_map(Op::Force),
    ]
}

proptest! {
    #[test]
    fn equals_a_naive_model(
        config in any_config(),
        ops in proptest::collection::vec(any_op(), 0..250),
    ) {
        let Ok(breaker) = Breaker::new(config.clone(), 1) else {
            return Ok(());
        };
        let mut model = Model { config, now: 0, generation: 0, phase: CLOSED };
        let mut pending: Vec<Pending> = Vec::new();
        for (step, op) in ops.into_iter().enumerate() {
            let now = Time::from_nanos(model.now);
            match op {
                Op::Admit => {
                    let expected = model.admit(step as u64);
                    match breaker.admit(now) {
                        Ok(permit) => {
                            let trial = expected.unwrap_or_else(|_| panic!("step {step}: admitted"));
                            prop_assert_eq!(permit.is_trial(), trial.is_some());
                            let generation = model.generation;
                            pending.push(Pending { permit, generation, trial });
                        }
                        Err(rejection) => {
                            let wait = rejection.retry_after.map(nanos);
                            prop_assert_eq!(Err(wait), expected, "step {}", step);
                        }
                    }
                }
                Op::Record(which, outcome, millis) => {
                    if pending.is_empty() {
                        continue;
                    }
                    let done = pending.swap_remove(which.index(pending.len()));
                    let took = Duration::from_millis(millis);
                    model.record(&done, outcome, took);
                    breaker.record(done.permit, outcome, took, now);
                }
                Op::Pass(nanos) => model.now += nanos,
                Op::Force(manual) => {
                    model.force(manual);
                    breaker.force(manual, now);
                }
            }
            let now = Time::from_nanos(model.now);
            prop_assert_eq!(breaker.state(now), model.state(), "step {}", step);
        }
    }
}
