//! What sagas of one definition share: the bounds of their retries, and whether they go on.
//!
//! Both are as the runner of production has them. Bounds are counted in the process, so that it begins
//! with new ones after a crash; a pause is on the disk, and holds. When it is over, sagas that waited go on
//! one after the other.

use outlast_core::rate::{self, Rate};
use outlast_saga::{Bounds, Definition, Phase};

use super::*;
use crate::saga::Runner;

#[derive(Debug)]
pub(super) struct Shared {
    definition: Arc<Definition>,
    bounds: Arc<Bounds>,
    is_paused: bool,
    /// A second, in which those that waited go on.
    pace: u32,
    turns: Rate,
}

impl Shared {
    pub(super) fn new(definition: &Arc<Definition>, runner: &Runner) -> Shared {
        let pace = u32::try_from(runner.resumed_a_second.get()).unwrap_or(MOST);
        let pace = pace.min(MOST);
        Shared {
            bounds: bounds(definition),
            definition: Arc::clone(definition),
            is_paused: false,
            pace,
            turns: turns(pace),
        }
    }

    /// A saga that goes on shares what there is to share.
    pub(super) fn adopt(&self, saga: &mut Saga) {
        saga.share(Arc::clone(&self.bounds));
        saga.pause(self.is_paused);
    }

    /// A process begins.
    pub(super) fn renew(&mut self) {
        (self.bounds, self.turns) = (bounds(&self.definition), turns(self.pace));
    }

    /// Adds what had to wait in this process.
    pub(super) fn count_held(&self, report: &mut SagaReport, now: Stamp) {
        for (number, step) in report.steps.iter_mut().enumerate() {
            step.held += self.bounds.left(number, now).held;
        }
    }
}

impl World {
    /// Somebody pauses sagas, or lets them go on; who finds the runner away waits for it.
    pub(super) fn is_told(&mut self, number: usize) {
        if self.now < self.sagas.back {
            let event = Event::Saga(SagaEvent::IsTold(number));
            return self.agenda.plan(self.sagas.back, Class::Change, event);
        }
        let (_, kind, pauses) = self.model.pauses[number];
        let shared = &mut self.sagas.shared[kind];
        shared.is_paused = pauses;
        for number in &self.sagas.running {
            let one = &mut self.sagas.all[*number as usize];
            let Some(saga) = one.saga.as_mut().filter(|_| one.kind as usize == kind) else {
                continue;
            };
            one.goes_on = Time::MAX;
            let waits = saga.is_paused() && *saga.phase() == Phase::Forward;
            if pauses || !waits {
                saga.pause(pauses);
                continue;
            }
            one.goes_on = self.now + shared.turns.admit(self.now).unwrap_or(LONGEST);
            let event = Event::Saga(SagaEvent::GoesOn(*number));
            self.agenda.plan(one.goes_on, Class::Timer, event);
        }
    }

    /// A saga that was paused has its turn, unless it has been paused again.
    pub(super) fn goes_on(&mut self, number: u32) {
        let (now, stamp) = (self.now, self.stamp());
        let one = &mut self.sagas.all[number as usize];
        let Some(saga) = one.saga.as_mut().filter(|_| one.goes_on <= now) else {
            return;
        };
        one.goes_on = Time::MAX;
        saga.pause(false);
        let events = saga.wake(stamp);
        self.commit(number, events);
    }
}

fn bounds(definition: &Definition) -> Arc<Bounds> {
    Arc::new(Bounds::of(definition).expect("it was checked when the model was made"))
}

fn turns(pace: u32) -> Rate {
    let turns = rate::Config::new(pace, A_SECOND).burst(1).wait(LONGEST);
    Rate::new(turns).expect("such a rate works")
}

/// As the runner of production has it: more would be no bound.
const MOST: u32 = 1_000_000;
/// Longer turns are not given.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
