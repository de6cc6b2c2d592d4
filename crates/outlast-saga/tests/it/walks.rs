//! Random walks: any definition, any luck, and processes that die at any transition, in virtual time.
//!
//! The services are a model that does the work of a key once. What a process had not written when it
//! died never happened for the next one, but the services remember what it did.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use outlast_core::rng::Rng;
use outlast_saga::{
    Acted, At, Definition, Event, Found, Hand, OnUnknown, Outcome, Phase, Query, Record, Saga,
    Stamp, Step, Tries, Undo,
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
        } else if chance(rng, 0.5) {
            let attempts = 1 + below(rng, 3);
            let query = Query::new().tries(Tries::new(attempts).backoff(SECOND));
            step = step.on_unknown(OnUnknown::Query(query));
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

    /// What they say of a key, if they say anything.
    fn query(&self, step: usize, rng: &mut Rng) -> Found {
        match rng.unit() {
            luck if luck < 0.3 => Found::Open {
                error: "no answer".to_owned(),
                after: chance(rng, 0.5).then_some(SECOND * 3),
            },
            luck if luck < 0.35 => Found::Never("nobody keeps it".to_owned()),
            _ if self.effects.contains_key(&(step, false)) => Found::Done(json!(step)),
            _ => Found::NotDone,
        }
    }

    /// What somebody does besides is done, too.
    fn by_hand(&mut self, step: usize, is_undo: bool, how: Hand) {
        if how == Hand::Resolve && is_undo {
            self.done.remove(&step);
        } else if how == Hand::Resolve {
            self.done.insert(step);
        }
    }
}

/// What an attempt, a question or an undo came to.
enum Came {
    Acted(Acted),
    Found(Found),
    Undid(Acted),
}

/// A process and its successors, with the log on the disk.
struct Walk {
    saga: Saga,
    log: Vec<Record>,
    /// Attempts that are made: their outcome is known to nobody yet.
    made: Vec<(usize, u32, Came)>,
    services: Services,
    now: Stamp,
    records: NonZeroU64,
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
            let services = &mut self.services;
            self.made.push(match event {
                Event::Started { step, attempt } => {
                    let acted = services.attempt(*step, false, rng);
                    (*step, *attempt, Came::Acted(acted))
                }
                Event::QueryStarted { step, attempt } => {
                    let found = services.query(*step, rng);
                    (*step, *attempt, Came::Found(found))
                }
                Event::UndoStarted { step, attempt } => {
                    let acted = services.attempt(*step, true, rng);
                    (*step, *attempt, Came::Undid(acted))
                }
                _ => continue,
            });
        }
        true
    }

    fn die(&mut self, rng: &mut Rng, deaths: f64) {
        self.made.clear();
        loop {
            let definition = Arc::clone(self.saga.definition());
            let saga = Saga::replay("s", definition, &self.log).unwrap();
            self.saga = saga.bounded(self.records);
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

impl Walk {
    /// Any saga.
    fn begin(rng: &mut Rng, deaths: f64) -> Walk {
        let definition = Arc::new(any_definition(rng));
        definition.check().unwrap();
        let records = if chance(rng, 0.3) {
            1 + below(rng, 30)
        } else {
            1000
        };
        let mut walk = Walk {
            saga: Saga::new("s", definition),
            log: Vec::new(),
            made: Vec::new(),
            services: Services::default(),
            now: Stamp(1_000_000),
            records: NonZeroU64::new(records.into()).unwrap(),
        };
        walk.die(rng, deaths);
        walk
    }

    /// Goes on until it has ended, or waits for somebody.
    fn go_on(&mut self, rng: &mut Rng, deaths: f64) {
        for _ in 0..10_000 {
            let events = if !self.made.is_empty() {
                let next = below(rng, self.made.len() as u32) as usize;
                let (step, attempt, came) = self.made.swap_remove(next);
                match came {
                    Came::Acted(acted) => self.saga.acted(step, attempt, acted, self.now),
                    Came::Found(found) => self.saga.asked(step, attempt, found, self.now),
                    Came::Undid(acted) => self.saga.undid(step, attempt, acted, self.now),
                }
            } else if let Some(due) = self.saga.wakes() {
                self.now = self.now.max(due);
                self.saga.wake(self.now)
            } else {
                return;
            };
            if !self.commit(events, rng, deaths) {
                self.die(rng, deaths);
            }
            // Who turns back what waits for somebody looks first; see `help`.
            if chance(rng, 0.02)
                && !self.saga.needs_somebody()
                && let Ok(events) = self.saga.cancel("eve", "why not", self.now)
                && !self.commit(events, rng, deaths)
            {
                // What it returned is lost with the process that asked for it.
                self.die(rng, deaths);
            }
        }
        panic!("it goes on for ever: {:#?}", self.saga);
    }

    /// Somebody looks at it: turns it back, or does any of what may be done about the first step that
    /// needs somebody. `retries` is how much they like to try again.
    fn help(&mut self, rng: &mut Rng, deaths: f64, retries: f64) {
        let stuck = self.saga.steps().iter();
        let stuck = stuck.enumerate().find_map(|(step, state)| match state.at {
            At::Stuck(_) => Some((step, false)),
            At::Dead(_) => Some((step, true)),
            _ => None,
        });
        let (step, is_undo) = stuck.expect("it waits for somebody");
        // Whoever turns it back has looked whether its pivot is done.
        let pivot = self.saga.definition().steps().position(Step::is_pivot);
        let is_done = pivot.is_some_and(|pivot| self.services.done.contains(&pivot));
        let events = if self.saga.may_cancel() && !is_done && chance(rng, 0.1) {
            self.saga.cancel("ann", "too late", self.now).unwrap()
        } else {
            let hands = self.saga.hands(step);
            assert!(hands.contains(&Hand::Resolve));
            let how = match hands[below(rng, hands.len() as u32) as usize] {
                _ if hands.contains(&Hand::Retry) && chance(rng, retries) => Hand::Retry,
                how => how,
            };
            self.services.by_hand(step, is_undo, how);
            self.saga
                .handle(step, how, "ann", "by hand", self.now)
                .unwrap()
        };
        if !self.commit(events, rng, deaths) {
            self.die(rng, deaths);
        }
    }
}

/// Walks until the saga has ended, or waits for somebody.
fn walk(seed: u64, deaths: f64) -> Walk {
    let mut rng = Rng::new(seed);
    let mut walk = Walk::begin(&mut rng, deaths);
    walk.go_on(&mut rng, deaths);
    walk
}

/// The laws, at rest.
fn check(seed: u64, walk: &Walk) {
    let (saga, services) = (&walk.saga, &walk.services);
    let of = |step: usize| saga.definition().steps().nth(step).unwrap();
    let where_it_is = format!(
        "seed {seed}: {saga:#?}\n{:?}\n{:#?}",
        services.effects, walk.log
    );
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
    // A pivot that is done, whether anybody knows, and that nothing undoes.
    let for_good = pivot.filter(|pivot| of(*pivot).undo_time().is_none());
    if for_good.is_some_and(|pivot| services.effects.contains_key(&(pivot, false))) {
        assert!(services.undone.is_empty(), "a pivot is done: {where_it_is}");
    }
    let most = 3 * walk.records.get() + 4 * (1 + saga.steps().len() as u64);
    assert!(saga.length() <= most, "{most}: {where_it_is}");
    let events = || walk.log.iter().flat_map(|record| &record.events);
    for (number, event) in events().enumerate() {
        // Who is known to have done nothing has nothing to undo.
        if let Event::FoundNotDone { step, again: None } = event {
            let undoes = |event: &Event| matches!(event, Event::UndoStarted { step: other, .. } if other == step);
            let retried = |event: &Event| matches!(event, Event::Handled { step: other, .. } if other == step);
            let mut later = events().skip(number).take_while(|event| !retried(event));
            assert!(!later.any(undoes), "{where_it_is}");
        }
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
            let left = |step: &&usize| !saga.not_undone().any(|left| left == **step);
            for step in services.done.iter().filter(left) {
                // What is done all the same cannot be undone, and nobody said that it matters.
                assert!(of(*step).undo_time().is_none(), "{where_it_is}");
            }
            let began: Vec<usize> = events()
                .filter_map(|event| match event {
                    Event::Started { step, .. } => Some(*step),
                    Event::Handled {
                        step,
                        how: Hand::Resolve,
                        ..
                    } => Some(*step),
                    _ => None,
                })
                .collect();
            let place = |step: &usize| began.iter().position(|one| one == step);
            // What somebody had tried again is undone when they say so.
            let by_hand = |step: &&usize| {
                events().any(
                    |event| matches!(event, Event::Handled { step: other, .. } if other == *step),
                )
            };
            let in_order = services.undone.iter().filter(|step| !by_hand(step));
            let order: Vec<_> = in_order.map(place).collect();
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

/// Whoever waits for somebody ends when somebody has done something about every step, however often
/// they have it tried again before: a log has a bound.
#[test]
fn hands_bring_every_saga_to_an_end() {
    let (mut skipped, mut left, mut refused) = (0, 0, 0);
    for seed in 0..5_000 {
        let mut rng = Rng::new(seed);
        let deaths = if seed % 2 == 0 { 0.0 } else { 0.1 };
        let retries = if seed % 3 == 0 { 1.0 } else { 0.3 };
        let mut walk = Walk::begin(&mut rng, deaths);
        walk.go_on(&mut rng, deaths);
        let mut times = 0;
        while !matches!(walk.saga.phase(), Phase::Ended(_)) {
            assert!(times < 10_000, "seed {seed}: {:#?}", walk.saga);
            times += 1;
            let waits =
                |state: &&outlast_saga::StepState| matches!(state.at, At::Dead(_) | At::Stuck(_));
            let waiting = walk.saga.steps().iter().position(|state| waits(&state));
            let hands = waiting.map(|step| walk.saga.hands(step));
            refused += usize::from(hands.is_some_and(|hands| !hands.contains(&Hand::Retry)));
            walk.help(&mut rng, deaths, retries);
            walk.go_on(&mut rng, deaths);
        }
        check(seed, &walk);
        let states = walk.saga.steps().iter();
        skipped += states.filter(|state| state.at == At::Skipped).count();
        left += walk.saga.not_undone().count();
    }
    let least = skipped.min(left).min(refused);
    assert!(
        least > 100,
        "{skipped} skipped, {left} left, {refused} refused"
    );
}
