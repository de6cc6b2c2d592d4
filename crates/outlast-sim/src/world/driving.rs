//! Driving calls: from their first step to their end.

use outlast_core::call::{Attempt, Request as Asked, Step};
use outlast_core::fault::Fault;
use outlast_core::reject::{Reason, Rejection};

use super::*;

impl World {
    /// A client calls.
    pub(super) fn calls(&mut self, client: u32, index: u64) {
        let who = &self.model.clients[client as usize];
        let seed = self.draws.bits(client, Purpose::Call, index);
        let deadline = who
            .deadline
            .map_or(Time::MAX, |deadline| self.now + deadline);
        let tier = who.tier;
        let asked = Asked::new(seed).repeatable(who.repeatable);
        let upstream = match (who.upstreams.as_slice(), &who.load) {
            ([only], _) => *only,
            (many, Load::Closed { .. }) => many[(index >> USER_SHIFT) as usize % many.len()],
            (many, Load::Steady(_)) => many[index as usize % many.len()],
            (many, Load::Open(_)) => {
                let unit = self.draws.unit(client, Purpose::Through, index);
                many[(unit * many.len() as f64) as usize]
            }
        };
        let counts = self.now >= self.from;
        let owner = Owner::Client {
            client,
            index,
            counts,
        };
        if counts {
            let now = self.now;
            let report = &mut self.reports[client as usize];
            report.calls += 1;
            report.second(now).calls += 1;
        }
        self.call(upstream, owner, asked, (deadline, tier));
    }

    /// Makes a call with this deadline and tier; it may have ended when this returns.
    pub(super) fn call(
        &mut self,
        upstream: usize,
        owner: Owner,
        asked: Asked,
        (deadline, tier): (Time, Tier),
    ) -> Ref {
        let asked = asked.deadline(deadline).tier(tier);
        let call = match &self.model.upstreams[upstream].policies {
            Policies::Outlast(policies) => Some(Call::new(Arc::clone(policies), asked, self.now)),
            Policies::Plain(_) => None,
        };
        let is_plain = call.is_none();
        let caller = self.callers.insert(Caller {
            call,
            plain: None,
            upstream,
            owner,
            began: self.now,
            deadline,
            tier,
            live: [None; MOST_LIVE],
            result: None,
            outcome: None,
            due: Time::MAX,
            lost: 0,
            wakes: Time::MAX,
            waker: None,
        });
        if is_plain {
            self.begin_plain(caller);
        } else {
            self.drive(caller);
        }
        caller
    }

    /// A planned wake-up, unless another one has taken its place.
    pub(super) fn wakes(&mut self, at: Ref) {
        let now = self.now;
        match self.callers.get_mut(at) {
            Some(caller) if caller.plain.is_some() => self.drive(at),
            Some(caller) if caller.wakes <= now => {
                caller.wakes = Time::MAX;
                self.drive(at);
            }
            Some(_) | None => {}
        }
    }

    /// Those whose turn has come in a queue of the policies.
    pub(super) fn drive_woken(&mut self) {
        loop {
            let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
            if woken.is_empty() {
                return;
            }
            let next = woken.remove(0);
            drop(woken);
            self.drive(next);
        }
    }

    /// Asks a call what to do until it waits or has ended.
    pub(super) fn drive(&mut self, at: Ref) {
        if self
            .callers
            .get(at)
            .is_some_and(|caller| caller.plain.is_some())
        {
            return self.drive_plain(at);
        }
        loop {
            // What it starts may end at once, and drive it as well: then it is out.
            let Some(mut call) = self
                .callers
                .get_mut(at)
                .and_then(|caller| caller.call.take())
            else {
                return;
            };
            let step = call.step(self.now);
            let waker = self.waker(at, &call, step);
            let caller = self.callers.get_mut(at).expect("it is driven");
            caller.call = Some(call);
            if waker.is_some() {
                caller.waker = waker;
            }
            match step {
                Step::Attempt(attempt) => self.start(at, &attempt),
                Step::Cancel { id } => self.cancel(at, id),
                Step::Wait { until } => return self.wait(at, until),
                Step::Done { .. } => {
                    let outcome = caller.result.expect("who is done has a result");
                    return self.ended(at, Ok(outcome));
                }
                Step::Reject(rejection) => return self.ended(at, Err(rejection)),
            }
        }
    }

    /// Lets a call that queues wake itself; the waker it has is used again.
    fn waker(&self, at: Ref, call: &Call<Arc<Upstream>>, step: Step) -> Option<Waker> {
        let (Step::Wait { .. }, Some(ticket)) = (step, call.ticket()) else {
            return None;
        };
        let known = self.callers.get(at).and_then(|caller| caller.waker.clone());
        let made = || Waker::from(Arc::new(Woken(at, Arc::clone(&self.woken))));
        let waker = known.unwrap_or_else(made);
        ticket.wake(&waker);
        Some(waker)
    }

    fn wait(&mut self, at: Ref, until: Time) {
        let caller = self.callers.get_mut(at).expect("it waits");
        if until < Time::MAX && until < caller.wakes {
            caller.wakes = until;
            self.agenda.plan(until, Class::Timer, Event::Wakes(at));
        }
    }

    fn start(&mut self, at: Ref, attempt: &Attempt) {
        self.count_attempt(at);
        let now = self.now;
        let caller = self.callers.get_mut(at).expect("it makes an attempt");
        match attempt.fault {
            None | Some(Fault::Delay(_)) => {}
            Some(Fault::Error) => {
                let call = caller.call.as_mut().expect("it is not driven now");
                return call.lost(attempt.id, Reason::Fault, now);
            }
            Some(Fault::Hang) => return,
        }
        let number = caller.call.as_ref().map_or(0, Call::attempts);
        self.send(at, number, Some(attempt.id), attempt.endpoint, attempt.ends);
    }

    /// Counts an attempt of a client.
    pub(super) fn count_attempt(&mut self, at: Ref) {
        let now = self.now;
        let caller = self.callers.get(at).expect("it makes an attempt");
        if let Owner::Step(act) = caller.owner {
            self.count_request(act);
        } else if let Owner::Client {
            client,
            counts: true,
            ..
        } = caller.owner
        {
            let began = caller.began;
            let report = &mut self.reports[client as usize];
            report.attempts += 1;
            report.second(now).attempts += 1;
            report.second(began).last_attempt = now.since(Time::ZERO);
        }
    }

    /// An attempt goes to a service; what comes back at once is seen when the call is driven next.
    pub(super) fn send(
        &mut self,
        at: Ref,
        number: u32,
        id: Option<AttemptId>,
        endpoint: usize,
        ends: Time,
    ) {
        let caller = self.callers.get(at).expect("it makes an attempt");
        let place = self.model.upstreams[caller.upstream].places[endpoint];
        let service = place.service.0;
        let replica = place.replica.unwrap_or_else(|| {
            let turn = &mut self.turns[service];
            *turn = (*turn + 1) % self.replicas[service].len() as u32;
            *turn
        });
        let (key, tier) = (self.key_of(caller.owner), caller.tier);
        let mark = match caller.owner {
            Owner::Step(act) => Some(act.mark),
            Owner::Client { .. } | Owner::Request { .. } => None,
        };
        let request = self.requests.insert(Request {
            caller: Some((at, number)),
            service,
            replica,
            kind: place.kind,
            mark,
            cut: false,
            tier,
            key: key.wrapping_add(u64::from(number)),
            came: self.now,
            deadline: ends.min(caller.deadline),
            distance: place.distance,
            stage: Stage::Outside,
            step: 0,
            pending: 0,
            calls: Vec::new(),
        });
        let caller = self.callers.get_mut(at).expect("it makes an attempt");
        caller.lost += 1;
        let free = caller.live.iter_mut().find(|live| live.is_none());
        *free.expect("hedges are bounded") = Some(Live {
            number,
            id,
            request,
        });
        if place.distance.is_zero() {
            self.arrives(request);
        } else {
            let arrives = self.now + place.distance;
            self.agenda
                .plan(arrives, Class::Begin, Event::Arrives(request));
        }
    }

    /// What the random numbers of a call are drawn by.
    pub(super) fn key_of(&self, owner: Owner) -> u64 {
        match owner {
            Owner::Client { client, index, .. } => mix(index ^ mix(u64::from(client))),
            Owner::Request { request, number } => {
                let parent = self.requests.get(request).map_or(0, |parent| parent.key);
                mix(parent ^ (number as u64).rotate_left(56))
            }
            Owner::Step(act) => self.key_of_step(act),
        }
    }

    /// The policies do not want an attempt any more.
    fn cancel(&mut self, at: Ref, id: AttemptId) {
        let caller = self.callers.get_mut(at).expect("it cancels");
        if let Some(live) = take_live(caller, |live| live.id == Some(id)) {
            self.abandon(live.request);
        }
    }

    /// Whatever runs for a call is not wanted any more.
    pub(super) fn abandon_all(&mut self, at: Ref) {
        let caller = self.callers.get_mut(at).expect("it gives up");
        let live = std::mem::take(&mut caller.live);
        for one in live.into_iter().flatten() {
            self.abandon(one.request);
        }
    }

    /// An attempt has an outcome; does not drive its call, which may be driven just now.
    pub(super) fn report_outcome(&mut self, at: Ref, number: u32, outcome: Outcome, known: bool) {
        let now = self.now;
        let Some(caller) = self.callers.get_mut(at) else {
            return;
        };
        let Some(live) = take_live(caller, |live| live.number == number) else {
            return;
        };
        caller.lost -= u32::from(known);
        match (caller.call.as_mut(), live.id) {
            (Some(call), Some(id)) => {
                if call.outcome(id, outcome, now) {
                    caller.result = Some(outcome);
                }
            }
            _ => caller.outcome = Some(outcome),
        }
    }

    /// The call has ended.
    pub(super) fn ended(&mut self, at: Ref, result: Result<Outcome, Rejection>) {
        let caller = self.callers.remove(at).expect("it has ended just now");
        for live in caller.live.into_iter().flatten() {
            self.abandon(live.request);
        }
        let in_time = self.now <= caller.deadline;
        let good = matches!(result, Ok(Outcome::Success)) && in_time;
        match caller.owner {
            Owner::Request { request, .. } => self.called(request, good),
            Owner::Step(act) => {
                let came = sagas::Came::of(act.mark.work, result, caller.lost > 0);
                self.step_ended(at, act, came);
            }
            Owner::Client {
                client,
                index,
                counts,
            } => {
                if counts {
                    let report = &mut self.reports[client as usize];
                    let took = self.now.since(caller.began);
                    match result {
                        Ok(_) if good => {
                            report.good += 1;
                            report.second(caller.began).good += 1;
                            report.latency.note(took);
                            if self.model.sample.is_some() {
                                report.note_time(caller.began, took);
                            }
                        }
                        Ok(_) => report.failed += 1,
                        Err(rejection) => report.rejected[rejection.reason.index()] += 1,
                    }
                }
                self.thinks(client, index + 1);
            }
        }
    }

    /// Gives a call up from outside: whoever asked does not wait any more.
    pub(super) fn give_up(&mut self, at: Ref) {
        let Some(mut caller) = self.callers.remove(at) else {
            return;
        };
        if let Some(mut call) = caller.call.take() {
            call.cancel(self.now);
        }
        for live in caller.live.into_iter().flatten() {
            self.abandon(live.request);
        }
    }
}

fn take_live(caller: &mut Caller, is_it: impl Fn(&Live) -> bool) -> Option<Live> {
    let is_it = |live: &&mut Option<Live>| live.as_ref().is_some_and(&is_it);
    caller.live.iter_mut().find(is_it)?.take()
}
