//! What services do with requests.

use outlast_core::call::Request as Asked;
use outlast_core::outcome::Outcome;

use super::*;
use crate::service::{Change, Gone, Pace, Refusal};

impl World {
    /// A request comes to its replica. Whoever made it, if it is answered at once.
    pub(super) fn arrives(&mut self, at: Ref) -> Option<Ref> {
        let request = self.requests.get_mut(at).expect("it comes just now");
        let (service, replica) = (request.service, request.replica as usize);
        let there = &mut self.replicas[service][replica];
        if there.holds {
            there.held.push(at);
            return None;
        }
        let how = &self.model.services[service];
        let speed = there.speed(how, self.now);
        let works = there.has_worker(how) && speed > 0.0;
        let meter = &mut self.meters[service];
        let counts = self.now >= self.from;
        meter.report.came += u64::from(counts);
        if there.refuses || there.restarts || !works && !there.has_room(how) {
            meter.report.refused += u64::from(counts);
            let refusal = self.refusal(at);
            return self.answer(at, refusal);
        }
        request.came = self.now;
        meter.moves(true, self.now);
        request.stage = Stage::Waiting;
        if works {
            self.begin(at, speed);
            return None;
        }
        meter.report.waited += u64::from(counts);
        there.waiting.push_back(at);
        if speed <= 0.0 {
            self.look_later(service, replica as u32);
        }
        None
    }

    /// A request comes that had a way to go.
    pub(super) fn arrives_after_its_way(&mut self, at: Ref) {
        let request = self.requests.get(at).expect("it is under way");
        let gone = self.model.services[request.service].gone;
        if request.caller.is_none() && gone != Gone::WorksOn {
            self.requests.remove(at);
        } else if let Some(caller) = self.arrives(at) {
            self.drive(caller);
        }
    }

    /// What a caller hears who is refused.
    fn refusal(&self, at: Ref) -> Outcome {
        let request = self.requests.get(at).expect("it is refused");
        let retry_after = match self.model.services[request.service].refusal {
            Refusal::Unsent => return Outcome::Unsent,
            Refusal::Overload => None,
            Refusal::ComeBack { after, spread } => {
                let service = request.service as u32;
                let unit = self.draws.unit(service, Purpose::Return, request.key);
                Some(after + crate::law::times(spread, unit))
            }
        };
        Outcome::Overload { retry_after }
    }

    /// A worker takes a request.
    fn begin(&mut self, at: Ref, speed: f64) {
        let request = self.requests.get_mut(at).expect("a worker takes it");
        let (service, replica) = (request.service, request.replica as usize);
        request.stage = Stage::Working;
        if request.came >= self.from {
            let waited = self.now.since(request.came);
            let report = &mut self.meters[service].report;
            report.waits += waited;
            report.late += u64::from(self.now > request.deadline);
        }
        let unit = self.draws.unit(service as u32, Purpose::Work, request.key);
        let work = self.model.services[service].work.quantile(unit);
        let there = &mut self.replicas[service][replica];
        there.busy += 1;
        let ends = self.now + at_speed(work, speed);
        self.agenda.plan(ends, Class::End, Event::Worked(at));
    }

    /// A replica that stood still may be faster now.
    pub(super) fn looks(&mut self, service: usize, replica: u32) {
        self.replicas[service][replica as usize].looks = false;
        self.begin_more(service, replica);
    }

    /// A worker, or room, is free: who waits comes in.
    pub(super) fn begin_more(&mut self, service: usize, replica: u32) {
        loop {
            let how = &self.model.services[service];
            let there = &mut self.replicas[service][replica as usize];
            let speed = there.speed(how, self.now);
            if there.waiting.is_empty() || !there.has_worker(how) {
                return;
            }
            if speed <= 0.0 {
                return self.look_later(service, replica);
            }
            let next = there.next(how.order).expect("somebody waits");
            match self.requests.get(next) {
                // It was dropped while it waited.
                None => there.dropped -= 1,
                Some(request) if how.gone == Gone::Skips && request.caller.is_none() => {
                    self.requests.remove(next);
                    self.meters[service].moves(false, self.now);
                }
                Some(_) => self.begin(next, speed),
            }
        }
    }

    /// A replica that stands still is looked at again from time to time, if it gets faster by itself.
    fn look_later(&mut self, service: usize, replica: u32) {
        let there = &mut self.replicas[service][replica as usize];
        if there.looks || !there.rises(&self.model.services[service], self.now) {
            return;
        }
        there.looks = true;
        let at = self.now + BETWEEN_LOOKS;
        self.agenda
            .plan(at, Class::End, Event::Looks { service, replica });
    }

    /// A request has been worked on.
    pub(super) fn worked(&mut self, at: Ref) {
        let Some(request) = self.requests.get(at) else {
            return;
        };
        if !matches!(request.stage, Stage::Working) {
            // It was lost meanwhile, and the bad news is under way.
            return;
        }
        let (service, replica) = (request.service, request.replica as usize);
        let there = &self.replicas[service][replica];
        let draw = |purpose, key| self.draws.unit(service as u32, purpose, key);
        if draw(Purpose::Failure, request.key) < there.failures {
            return self.finish(at, Outcome::Transient);
        }
        // A step is declined as often as it is asked for, what undoes it or asks about it never.
        let key = match request.mark {
            Some(mark) => (mark.work == Work::Act).then(|| self.key_of_mark(mark)),
            None => Some(request.key),
        };
        let declines = there.declines;
        let is_declined = |key| draw(Purpose::Decline, key) < declines;
        if declines > 0.0 && key.is_some_and(is_declined) {
            return self.finish(at, Outcome::Permanent);
        }
        self.calls_on(at, 0);
    }

    /// Makes the request's own calls of this step, or ends it.
    fn calls_on(&mut self, at: Ref, step: usize) {
        let request = self.requests.get_mut(at).expect("it goes on");
        let (service, replica) = (request.service, request.replica as usize);
        let kinds = &self.model.services[service].calls;
        let all = kinds
            .get(request.kind as usize)
            .map_or(&[][..], Vec::as_slice);
        let Some(calls) = all.get(step) else {
            return self.finish(at, Outcome::Success);
        };
        let first: usize = all[..step].iter().map(Vec::len).sum();
        let through = |call: &Vec<usize>| call[replica % call.len()];
        let upstreams: Vec<_> = calls.iter().map(through).collect();
        request.stage = Stage::Calling;
        (request.step, request.pending) = (step, upstreams.len());
        request.calls.clear();
        for (number, upstream) in (first..).zip(upstreams) {
            self.calls_one(at, upstream, number);
            let request = self.requests.get(at);
            let goes_on =
                |request: &Request| request.step == step && matches!(request.stage, Stage::Calling);
            if !request.is_some_and(goes_on) {
                // What ended at once has brought it further, or to its end.
                return;
            }
        }
    }

    fn calls_one(&mut self, at: Ref, upstream: usize, number: usize) {
        let request = self.requests.get(at).expect("it goes on");
        let (service, key) = (request.service, request.key);
        let said = (request.deadline, request.tier);
        let seed = self.draws.bits(
            service as u32,
            Purpose::Call,
            key ^ (number as u64).rotate_left(56),
        );
        let asked = Asked::new(seed);
        let owner = Owner::Request {
            request: at,
            number,
        };
        let call = self.call(upstream, owner, asked, said);
        if self.callers.get(call).is_some()
            && let Some(request) = self.requests.get_mut(at)
        {
            request.calls.push(call);
        }
    }

    /// A call of a request's own has ended.
    pub(super) fn called(&mut self, at: Ref, good: bool) {
        let Some(request) = self.requests.get_mut(at) else {
            return;
        };
        request.pending -= 1;
        let (step, is_last) = (request.step, request.pending == 0);
        if good && !is_last {
            return;
        }
        request.stage = Stage::Working;
        for call in std::mem::take(&mut request.calls) {
            self.give_up(call);
        }
        if good {
            self.calls_on(at, step + 1);
        } else {
            self.finish(at, Outcome::Transient);
        }
    }

    /// A request has been worked on to its end: its worker is free.
    fn finish(&mut self, at: Ref, outcome: Outcome) {
        let outcome = self.work_is_done(at, outcome);
        let request = self.requests.get_mut(at).expect("it ends just now");
        let (service, replica) = (request.service, request.replica);
        request.stage = Stage::Done(outcome);
        let counts = request.came >= self.from;
        let meter = &mut self.meters[service];
        meter.moves(false, self.now);
        if counts {
            meter.report.stays += self.now.since(request.came);
            meter.report.answered += 1;
            meter.report.wasted += u64::from(request.caller.is_none());
        }
        let there = &mut self.replicas[service][replica as usize];
        there.busy -= 1;
        let holds = there.holds;
        if holds {
            there.held.push(at);
        }
        // Whoever waits comes before a caller that tries again at once.
        self.begin_more(service, replica);
        if !holds && let Some(caller) = self.answer(at, outcome) {
            self.drive(caller);
        }
    }

    /// What it means for a saga that a request was worked on, and what its caller hears.
    fn work_is_done(&mut self, at: Ref, outcome: Outcome) -> Outcome {
        let request = self.requests.get_mut(at).expect("it ends just now");
        let (service, replica) = (request.service, request.replica as usize);
        let keeps_keys = self.model.services[service].keeps_keys;
        let outcome = match request.mark {
            Some(mark) if outcome == Outcome::Success && !self.sagas.works(mark, keeps_keys) => {
                Outcome::Permanent
            }
            _ => outcome,
        };
        let lost = self.replicas[service][replica].lost;
        let draw = || self.draws.unit(service as u32, Purpose::Cut, request.key);
        if lost > 0.0 && draw() < lost {
            request.cut = true;
            return Outcome::Transient;
        }
        outcome
    }

    /// A request is over; whose call has something new to look at, unless the answer has a way to go.
    fn answer(&mut self, at: Ref, outcome: Outcome) -> Option<Ref> {
        let request = self.requests.get_mut(at)?;
        if !request.distance.is_zero() {
            let answers = self.now + request.distance;
            request.stage = Stage::Done(outcome);
            self.agenda.plan(answers, Class::End, Event::Answers(at));
            return None;
        }
        self.settle(at, outcome)
    }

    /// An answer comes to its caller.
    pub(super) fn answers(&mut self, at: Ref) {
        let request = self.requests.get(at).expect("its answer is under way");
        let Stage::Done(outcome) = request.stage else {
            unreachable!("it has been answered");
        };
        if let Some(caller) = self.settle(at, outcome) {
            self.drive(caller);
        }
    }

    fn settle(&mut self, at: Ref, outcome: Outcome) -> Option<Ref> {
        let request = self.requests.remove(at)?;
        let (caller, id) = request.caller?;
        self.report_outcome(caller, id, outcome, !request.cut);
        Some(caller)
    }

    /// Nobody waits for a request any more.
    pub(super) fn abandon(&mut self, at: Ref) {
        let Some(request) = self.requests.get_mut(at) else {
            return;
        };
        request.caller = None;
        let (service, replica, stage) = (request.service, request.replica, request.stage);
        if self.model.services[service].gone != Gone::Stops {
            return;
        }
        let there = &mut self.replicas[service][replica as usize];
        match stage {
            // It is dropped when it comes through.
            Stage::Outside | Stage::Done(_) => return,
            Stage::Waiting => there.dropped += 1,
            Stage::Working | Stage::Calling => there.busy -= 1,
        }
        self.meters[service].moves(false, self.now);
        let request = self.requests.remove(at).expect("it was there just now");
        for call in request.calls {
            self.give_up(call);
        }
        self.begin_more(service, replica);
    }

    /// Something happens to a service.
    pub(super) fn change(&mut self, happens: Happens) {
        let Happens {
            service,
            replica,
            change,
        } = happens;
        let all = 0..self.replicas[service].len() as u32;
        for replica in all.filter(|one| replica.is_none_or(|only| only == *one)) {
            let there = &mut self.replicas[service][replica as usize];
            match change {
                Change::Failures(share) => there.failures = share.clamp(0.0, 1.0),
                Change::Declines(share) => there.declines = share.clamp(0.0, 1.0),
                Change::Lost(share) => there.lost = share.clamp(0.0, 1.0),
                Change::Speed(share) => {
                    there.pace = Pace::of(share);
                    self.begin_more(service, replica);
                }
                Change::Warms { from, over } => {
                    there.warmth = Pace::warms(from, self.now, over);
                    self.begin_more(service, replica);
                }
                Change::Refuses(refuses) => {
                    there.refuses = refuses;
                    if refuses {
                        self.lose_all(service, replica);
                    }
                }
                Change::Holds(holds) => {
                    there.holds = holds;
                    if !holds {
                        self.let_through(service, replica);
                    }
                }
            }
        }
    }

    /// Whatever is at a replica fails.
    pub(super) fn lose_all(&mut self, service: usize, replica: u32) {
        let is_there = |request: &Request| {
            let here = (request.service, request.replica) == (service, replica);
            here && !matches!(request.stage, Stage::Outside | Stage::Done(_))
        };
        let lost = self.requests.find_all(is_there);
        let there = &mut self.replicas[service][replica as usize];
        (there.busy, there.dropped) = (0, 0);
        there.waiting.clear();
        // Their callers go on only when all of it is gone.
        for at in &lost {
            self.meters[service].moves(false, self.now);
            let lost = self.requests.get_mut(*at).expect("it was found just now");
            lost.cut = true;
            for call in std::mem::take(&mut lost.calls) {
                self.give_up(call);
            }
        }
        for at in lost {
            if let Some(caller) = self.answer(at, Outcome::Transient) {
                self.drive(caller);
            }
        }
    }

    /// What could not come through does, in its order.
    fn let_through(&mut self, service: usize, replica: u32) {
        let there = &mut self.replicas[service][replica as usize];
        for at in std::mem::take(&mut there.held) {
            let Some(request) = self.requests.get(at) else {
                continue;
            };
            let caller = match request.stage {
                Stage::Done(outcome) => self.answer(at, outcome),
                _ if request.caller.is_none()
                    && self.model.services[service].gone != Gone::WorksOn =>
                {
                    self.requests.remove(at);
                    None
                }
                _ => self.arrives(at),
            };
            if let Some(caller) = caller {
                self.drive(caller);
            }
        }
    }
}

/// How soon a service that stands still is looked at again.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
