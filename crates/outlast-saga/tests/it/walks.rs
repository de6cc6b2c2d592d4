//! Random walks: any definition, any luck, and processes that die at any transition, in virtual time.
//!
//! The services are a model that does the work of a key once. What a process had not written when it
//! died never happened for the next one, but the services remember what it did.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use outlast_core::rng::Rng;
use outlast_saga::{
    Acted, At, Definition, Event, Hand, OnUnknown, Outcome, Phase, Record, Saga, Stamp, Step,
    Tries, Undo,
};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

/// One to six steps, some at once, with whatever may be said of them.
fn any_definition(rng: &mut Rng) -> Definition {
    let mut definition = Definition::new("any", 1);
    let count = 1 + below(rng, 6);
    let pivot = if chance(rng, 0.4) {
        below(rng, count)
    } else {
        count
    };
    let mut stage: Vec<Step> = Vec::new();
    for number in 0..count {
        let attempts = 1 + below(rng, 4);
        let mut step = Step::new(format!("s{number}")).tries(Tries::new(attempts).backoff(SECOND));
        if chance(rng, 0.6) {
            let attempts = 1 + below(rng, 4);
            step = step.undo(Undo::new().tries(Tries::new(attempts).backoff(SECOND)));
        }
        if number == pivot {
            if !stage.is_empty() {
                definition = definition.at_once(std::mem::take(&mut stage));
            }
            step = step.pivot();
        } else if chance(rng, 0.2) {
            step = step.best_effort();
        }
        if chance(rng, 0.3) {
            step = step.on_unknown(OnUnknown::Compensate);
        }
        stage.push(step);
        if number == pivot || chance(rng, 0.7) {
            definition = definition.at_once(std::mem::take(&mut stage));
        }
    }
    if !stage.is_empty() {
        definition = definition.at_once(stage);
    }
    if chance(rng, 0.3) {
        definition = definition.deadline(SECOND * (1 + below(rng, 30)));
    }
    definition
}

fn below(rng: &mut Rng, most: u32) -> u32 {
    (rng.unit() * f64::from(most)) as u32
}

fn chance(rng: &mut Rng, share: f64) -> bool {
    rng.unit() < share
}

/// What the services know.
#[derive(Default)]
struct Services {
    /// Steps whose work was done, and not undone since.
    done: BTreeSet<usize>,
    /// Steps that were undone, in their order.
    undone: Vec<usize>,
    /// How often the work of a key was done.
    effects: HashMap<(usize, bool), u32>,
}

impl Services {
    /// An attempt with a key; its work is done once.
    fn attempt(&mut self, step: usize, undoes: bool, rng: &mut Rng) -> Acted {
        let key = (step, undoes);
        let known = self.effects.contains_key(&key);
        let luck = rng.unit();
        let works = known || luck < 0.7;
        if works && !known {
            self.effects.insert(key, 1);
            if !undoes {
                self.done.insert(step);
            } else if self.done.remove(&step) {
                self.undone.push(step);
            }
        }
        match luck {
            _ if works && chance(rng, 0.8) => Acted::Done(json!(step)),
            _ if works => Acted::Unknown("the answer was lost".to_owned()),
            luck if luck < 0.85 => Acted::Transient {
                error: "busy".to_owned(),
                after: None,
            },
            luck if luck < 0.93 => Acted::Unknown("nothing came".to_owned()),
            _ => Acted::Permanent("no".to_owned()),
        }
    }
}

/// A process and its successors, with the log on the disk.
struct Walk {
    saga: Saga,
    log: Vec<Record>,
    /// Attempts that are made: their outcome is known to nobody yet.
    made: Vec<(usize, u32, bool, Acted)>,
    services: Services,
    now: Stamp,
}

impl Walk {
    /// Writes events, and makes the attempts that they say; `false` if the process dies before or
    /// after the write.
    fn commit(&mut self, events: Vec<Event>, rng: &mut Rng, deaths: f64) -> bool {
        if events.is_empty() {
            return true;
        }
        if chance(rng, deaths / 2.0) {
            return false;
        }
        let record = self.saga.record(events.clone(), self.now);
        self.log.push(record);
        if chance(rng, deaths / 2.0) {
            return false;
        }
        for event in &events {
            let (step, attempt, undoes) = match event {
                Event::Started { step, attempt } => (*step, *attempt, false),
                Event::UndoStarted { step, attempt } => (*step, *attempt, true),
                _ => continue,
            };
            let acted = self.services.attempt(step, undoes, rng);
            self.made.push((step, attempt, undoes, acted));
        }
        true
    }

    fn die(&mut self, rng: &mut Rng, deaths: f64) {
        self.made.clear();
        loop {
            let definition = Arc::clone(self.saga.definition());
            self.saga = Saga::replay("s", definition, &self.log).unwrap();
            let events = match self.log.is_empty() {
                true => self.saga.begin(json!(1), self.now).unwrap(),
                false => self.saga.recover(self.now),
            };
            if self.commit(events, rng, deaths) {
                return;
            }
            self.made.clear();
        }
    }
}

/// Walks until the saga has ended, or waits for somebody.
fn walk(seed: u64, deaths: f64) -> Walk {
    let mut rng = Rng::new(seed);
    let rng = &mut rng;
    let definition = Arc::new(any_definition(rng));
    definition.check().unwrap();
    let mut walk = Walk {
        saga: Saga::new("s", definition),
        log: Vec::new(),
        made: Vec::new(),
        services: Services::default(),
        now: Stamp(1_000_000),
    };
    walk.die(rng, deaths);
    for _ in 0..10_000 {
        let events = if !walk.made.is_empty() {
            let next = below(rng, walk.made.len() as u32) as usize;
            let (step, attempt, undoes, acted) = walk.made.swap_remove(next);
            if undoes {
                walk.saga.undid(step, attempt, acted, walk.now)
            } else {
                walk.saga.acted(step, attempt, acted, walk.now)
            }
        } else if let Some(due) = walk.saga.wakes() {
            walk.now = walk.now.max(due);
            walk.saga.wake(walk.now)
        } else {
            return walk;
        };
        if chance(rng, 0.02) && walk.saga.cancel("eve", "why not", walk.now).is_ok() {
            // What it returned is lost with the process that asked for it.
            walk.die(rng, deaths);
            continue;
        }
        if !walk.commit(events, rng, deaths) {
            walk.die(rng, deaths);
        }
    }
    panic!("seed {seed}: it goes on for ever");
}

/// The laws, at rest.
fn check(seed: u64, walk: &Walk) {
    let (saga, services) = (&walk.saga, &walk.services);
    let of = |step: usize| saga.definition().steps().nth(step).unwrap();
    let where_it_is = format!("seed {seed}: {saga:#?}\n{:?}", services.effects);
    assert!(
        services.effects.values().all(|effects| *effects == 1),
        "{where_it_is}"
    );
    let pivot = saga.definition().steps().position(Step::is_pivot);
    if pivot.is_some_and(|pivot| saga.steps()[pivot].at == At::Done) {
        assert!(
            services.undone.is_empty(),
            "behind the pivot: {where_it_is}"
        );
    }
    match saga.phase() {
        Phase::Ended(Outcome::Completed) => {
            for (step, state) in saga.steps().iter().enumerate() {
                let done = state.at == At::Done && services.done.contains(&step);
                assert!(done || state.at == At::Skipped, "{where_it_is}");
            }
            assert!(services.undone.is_empty(), "{where_it_is}");
        }
        Phase::Ended(Outcome::Compensated) => {
            for step in &services.done {
                // What is done all the same cannot be undone, and nobody said that it matters.
                assert!(of(*step).undo_time().is_none(), "{where_it_is}");
            }
            let began = walk.log.iter().flat_map(|record| &record.events);
            let began: Vec<usize> = began
                .filter_map(|event| match event {
                    Event::Started { step, attempt: 1 } => Some(*step),
                    _ => None,
                })
                .collect();
            let place = |step: &usize| began.iter().position(|one| one == step);
            let order: Vec<_> = services.undone.iter().map(place).collect();
            assert!(
                order.is_sorted_by(|one, other| one > other),
                "{where_it_is}"
            );
        }
        Phase::Forward | Phase::Back(_) => assert!(saga.needs_somebody(), "{where_it_is}"),
        Phase::New => panic!("{where_it_is}"),
    }
}

#[test]
fn whatever_happens_it_is_done_or_undone_or_somebody_is_told() {
    let (mut completed, mut compensated, mut waiting) = (0, 0, 0);
    for seed in 0..20_000 {
        let deaths = if seed % 2 == 0 { 0.0 } else { 0.2 };
        let walk = walk(seed, deaths);
        check(seed, &walk);
        match walk.saga.phase() {
            Phase::Ended(Outcome::Completed) => completed += 1,
            Phase::Ended(Outcome::Compensated) => compensated += 1,
            _ => waiting += 1,
        }
    }
    let least = completed.min(compensated).min(waiting);
    assert!(
        least > 500,
        "{completed} completed, {compensated} compensated, {waiting} waiting"
    );
}

/// Whoever waits for somebody ends when somebody has done something about every step.
#[test]
fn hands_bring_every_saga_to_an_end() {
    for seed in 0..5_000 {
        let mut walk = walk(seed, 0.1);
        for _ in 0..100 {
            let stuck = walk
                .saga
                .steps()
                .iter()
                .position(|step| matches!(step.at, At::Dead(_) | At::Stuck(_)));
            let Some(step) = stuck else {
                break;
            };
            let (by, why) = ("ann", "done by hand");
            let events = walk
                .saga
                .handle(step, Hand::Resolve, by, why, walk.now)
                .unwrap();
            let mut rng = Rng::new(seed);
            walk.commit(events, &mut rng, 0.0);
            while let Some((step, attempt, undoes, _)) = walk.made.pop() {
                let done = Acted::Done(json!(null));
                let events = match undoes {
                    true => walk.saga.undid(step, attempt, done, walk.now),
                    false => walk.saga.acted(step, attempt, done, walk.now),
                };
                walk.commit(events, &mut rng, 0.0);
            }
        }
        assert!(
            matches!(walk.saga.phase(), Phase::Ended(_)),
            "seed {seed}: {:#?}",
            walk.saga
        );
    }
}
