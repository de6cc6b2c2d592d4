//! How sagas end, and the runner: what rests is looked at, what crashes begins anew.

use super::*;
use crate::saga::{AtRest, broken_at_rest, broken_in_the_end};

impl World {
    /// Counts what a saga's log says.
    pub(super) fn count(&mut self, number: u32, events: &[Fact]) {
        let One { kind, counts, .. } = self.sagas.all[number as usize];
        if !counts {
            return;
        }
        let report = &mut self.sagas.report.sagas[kind as usize];
        for event in events {
            match event {
                Fact::Started { step, .. } => report.steps[*step].attempts += 1,
                Fact::Lost { step, .. } => report.steps[*step].lost += 1,
                Fact::QueryStarted { step, .. } => report.steps[*step].queries += 1,
                Fact::UndoStarted { step, .. } => report.steps[*step].undo_attempts += 1,
                Fact::Undone { step } => report.steps[*step].undone += 1,
                Fact::DeadLettered { .. } | Fact::Parked { .. } => report.dead_letters += 1,
                _ => {}
            }
        }
    }

    /// A saga has ended, or waits for somebody: it is not in memory any more.
    pub(super) fn rests(&mut self, number: u32) {
        let one = &mut self.sagas.all[number as usize];
        let saga = one.saga.take().expect("it is in memory");
        let log = at_once(self.sagas.logs.log(saga.id())).expect("memory has it");
        let at_rest = AtRest {
            saga: &saga,
            log: &log,
            ledger: &one.ledger,
            records: self.model.runner.records,
        };
        if let Some(what) = broken_at_rest(&at_rest) {
            self.sagas.report.breaks(format!("{}: {what}", saga.id()));
        }
        self.sagas.running.remove(&number);
        if let (State::Waiting, Some(after)) = (one.state, self.model.runner.hands) {
            let event = Event::Saga(SagaEvent::IsHandled(number));
            return self.agenda.plan(self.now + after, Class::Begin, event);
        }
        self.sagas.open -= 1;
        if one.state == State::Waiting {
            return;
        }
        self.forget();
        let one = &self.sagas.all[number as usize];
        if one.counts {
            let took = self.now.since(one.began);
            let (began, state) = (one.began, one.state);
            let report = &mut self.sagas.report.sagas[one.kind as usize];
            report.times.note(took);
            report.longest = report.longest.max(took);
            let second = report.second(began);
            match state {
                State::Completed => second.completed += 1,
                _ => second.compensated += 1,
            }
        }
    }

    /// Logs of sagas that have ended are not kept for ever: they are gone when as many have ended as
    /// are there.
    fn forget(&mut self) {
        self.sagas.ended += 1;
        if self.sagas.ended >= FORGETS.max(self.sagas.all.len() / 2) {
            let forgotten = self.sagas.logs.forget(Stamp(u64::MAX), usize::MAX);
            at_once(forgotten).expect("memory forgets");
            self.sagas.ended = 0;
        }
    }

    /// Whether the runner has crashed at this instant.
    pub(super) fn crashes_here(&mut self) -> bool {
        let runner = &self.model.runner;
        self.sagas.instants += 1;
        let instant = self.sagas.instants;
        let is_due = runner
            .crashes_every
            .is_some_and(|every| instant.is_multiple_of(every));
        let by_chance =
            runner.crashes > 0.0 && self.draws.unit(0, Purpose::Crash, instant) < runner.crashes;
        if is_due || by_chance {
            self.crash(runner.restart);
        }
        is_due || by_chance
    }

    /// The runner ends: what is in memory is lost.
    pub(super) fn crash(&mut self, away: Duration) {
        self.sagas.report.crashes += 1;
        self.sagas.life += 1;
        self.sagas.inbox.clear();
        for number in std::mem::take(&mut self.sagas.running) {
            let one = &mut self.sagas.all[number as usize];
            (one.wakes, one.goes_on) = (Time::MAX, Time::MAX);
            if one.state != State::Open {
                // It was on its log that it rests, and nobody has taken notice; or somebody began to
                // help, and that is not there yet.
                let saga = self.read(number);
                self.sagas.all[number as usize].saga = Some(saga);
                self.rests(number);
                continue;
            }
            one.saga = None;
            for call in std::mem::take(&mut one.calls) {
                self.give_up(call);
            }
        }
        self.renew_policies();
        let stamp = self.stamp();
        for (shared, report) in self
            .sagas
            .shared
            .iter_mut()
            .zip(&mut self.sagas.report.sagas)
        {
            shared.count_held(report, stamp);
            shared.renew();
        }
        self.sagas.back = self.sagas.back.max(self.now + away);
        let life = self.sagas.life;
        let event = Event::Saga(SagaEvent::Resumes { life, after: 0 });
        self.agenda.plan(self.sagas.back, Class::Change, event);
    }

    /// Upstreams of steps are the runner's, and what they know is lost with it.
    fn renew_policies(&mut self) {
        let used: BTreeSet<usize> = self
            .model
            .sagas
            .iter()
            .flat_map(crate::saga::Sagas::upstreams)
            .collect();
        for number in used {
            let seed = self
                .draws
                .bits(number as u32, Purpose::State, u64::from(self.sagas.life));
            self.model.upstreams[number].renew(seed);
        }
    }

    /// The runner goes on with what is open, a part of it at a time.
    pub(super) fn resumes(&mut self, life: u32, after: u32) {
        if life != self.sagas.life {
            return;
        }
        let limits = &self.model.runner;
        let (seats, pace) = (limits.running.get(), limits.resumed_a_second.get());
        let free = seats.saturating_sub(self.sagas.running.len()).min(PAGE);
        if free == 0 {
            let event = Event::Saga(SagaEvent::Resumes { life, after });
            return self.agenda.plan(self.now + A_SEAT, Class::Begin, event);
        }
        let page = self
            .sagas
            .logs
            .list(Some(State::Open), i64::from(after), free);
        let page = at_once(page).expect("memory lists");
        let Some(last) = page.last() else {
            return;
        };
        let after = u32::try_from(last.place).expect("the world is bounded before");
        let pause = Duration::from_secs_f64(page.len() as f64 / pace as f64);
        let event = Event::Saga(SagaEvent::Resumes { life, after });
        self.agenda.plan(self.now + pause, Class::Begin, event);
        for listed in page {
            let number = u32::try_from(listed.place - 1).expect("places count from 1");
            if self.sagas.running.contains(&number) {
                continue;
            }
            self.sagas.report.resumed += 1;
            let mut saga = self.read(number);
            let events = saga.recover(self.stamp());
            self.enter(number, saga);
            self.commit(number, events);
            if self.sagas.life != life {
                // It has crashed again.
                return;
            }
        }
    }

    /// What became of all of them, when nothing happens any more.
    pub(in crate::world) fn sagas_report(&mut self) -> SagasReport {
        let mut report = std::mem::take(&mut self.sagas.report);
        for (shared, report) in self.sagas.shared.iter().zip(&mut report.sagas) {
            shared.count_held(report, self.stamp());
        }
        for one in &self.sagas.all {
            let definition = &self.model.sagas[one.kind as usize].definition;
            if let Some(what) = broken_in_the_end(definition, one.state, &one.ledger) {
                let (name, seed) = (definition.name(), self.model.seed);
                report.breaks(format!("{name}-{seed}-{}: {what}", one.index));
            }
            if !one.counts {
                continue;
            }
            let of_kind = &mut report.sagas[one.kind as usize];
            of_kind.twice += one.ledger.twice();
            match one.state {
                State::Open => {}
                State::Waiting => of_kind.waiting += 1,
                State::Completed => of_kind.completed += 1,
                State::Compensated => {
                    of_kind.compensated += 1;
                    let mut steps = definition.steps().enumerate();
                    let is_left = |(number, step): (usize, &outlast_saga::Step)| {
                        !step.is_best_effort() && one.ledger.is_left(number)
                    };
                    of_kind.half_done += u64::from(steps.any(is_left));
                }
            }
        }
        report
    }
}

/// As many are read at once as the runner of production reads.
const PAGE: usize = 256;
/// How soon it is looked again whether there is room for one more.
const A_SEAT: Duration = Duration::from_millis(100);
/// Fewer are not worth a walk over all.
const FORGETS: usize = 1024;
