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
        let asked = Asked::new(seed)
            .tier(who.tier)
            .repeatable(who.repeatable)
            .deadline(deadline);
        let upstream = who.upstream;
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
        self.call(upstream, owner, asked, deadline);
    }

    /// Makes a call; it may have ended when this returns.
    pub(super) fn call(
        &mut self,
        upstream: usize,
        owner: Owner,
        asked: Asked,
        deadline: Time,
    ) -> Ref {
        let policies = Arc::clone(&self.model.upstreams[upstream].policies);
        let caller = self.callers.insert(Caller {
            call: Some(Call::new(policies, asked, self.now)),
            upstream,
            owner,
            began: self.now,
            deadline,
            live: [None; MOST_LIVE],
            result: None,
            wakes: Time::MAX,
            waker: None,
        });
        self.drive(caller);
        caller
    }

    /// A planned wake-up, unless another one has taken its place.
    pub(super) fn wakes(&mut self, at: Ref) {
        let now = self.now;
        if let Some(caller) = self.callers.get_mut(at)
            && caller.wakes <= now
        {
            caller.wakes = Time::MAX;
            self.drive(at);
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
                Step::Done { id, .. } => {
                    let (last, outcome) = caller.result.expect("who is done has a result");
                    debug_assert_eq!(last, id, "only the last result is ever asked for");
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
        let now = self.now;
        let caller = self.callers.get_mut(at).expect("it makes an attempt");
        if let Owner::Client {
            client,
            counts: true,
            ..
        } = caller.owner
        {
            let report = &mut self.reports[client as usize];
            report.attempts += 1;
            report.second(now).attempts += 1;
        }
        match attempt.fault {
            None | Some(Fault::Delay(_)) => {}
            Some(Fault::Error) => {
                let call = caller.call.as_mut().expect("it is not driven now");
                return call.lost(attempt.id, Reason::Fault, now);
            }
            Some(Fault::Hang) => return,
        }
        let number = caller.call.as_ref().map_or(0, Call::attempts);
        let deadline = attempt.ends.min(caller.deadline);
        let key = match caller.owner {
            Owner::Client { client, index, .. } => {
                mix(index ^ u64::from(client) << 48).wrapping_add(u64::from(number))
            }
            Owner::Request {
                request,
                number: own,
            } => {
                let parent = self.requests.get(request).map_or(0, |parent| parent.key);
                mix(parent ^ (own as u64) << 56).wrapping_add(u64::from(number))
            }
        };
        let (service, replica) = self.model.upstreams[caller.upstream].places[attempt.endpoint];
        let request = self.requests.insert(Request {
            caller: Some((at, attempt.id)),
            service,
            replica,
            key,
            came: now,
            deadline,
            stage: Stage::Outside,
        });
        let caller = self.callers.get_mut(at).expect("it makes an attempt");
        let free = caller.live.iter_mut().find(|live| live.is_none());
        *free.expect("hedges are bounded") = Some((attempt.id, request));
        // It is being driven: whatever comes back at once is seen next.
        self.arrives(request);
    }

    /// The policies do not want an attempt any more.
    fn cancel(&mut self, at: Ref, id: AttemptId) {
        let caller = self.callers.get_mut(at).expect("it cancels");
        if let Some(request) = take_live(caller, id) {
            self.abandon(request);
        }
    }

    /// An attempt has an outcome; does not drive its call, which may be driven just now.
    pub(super) fn report_outcome(&mut self, at: Ref, id: AttemptId, outcome: Outcome) {
        let now = self.now;
        let Some(caller) = self.callers.get_mut(at) else {
            return;
        };
        take_live(caller, id);
        let Some(call) = caller.call.as_mut() else {
            return;
        };
        if call.outcome(id, outcome, now) {
            caller.result = Some((id, outcome));
        }
    }

    /// The call has ended.
    fn ended(&mut self, at: Ref, result: Result<Outcome, Rejection>) {
        let caller = self.callers.remove(at).expect("it has ended just now");
        for (_, request) in caller.live.into_iter().flatten() {
            self.abandon(request);
        }
        let in_time = self.now <= caller.deadline;
        let good = matches!(result, Ok(Outcome::Success)) && in_time;
        match caller.owner {
            Owner::Request { request, number } => self.called(request, number, good),
            Owner::Client {
                client,
                index,
                counts,
            } => {
                if counts {
                    let report = &mut self.reports[client as usize];
                    match result {
                        Ok(_) if good => {
                            report.good += 1;
                            report.second(caller.began).good += 1;
                            report.latency.note(self.now.since(caller.began));
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
        for (_, request) in caller.live.into_iter().flatten() {
            self.abandon(request);
        }
    }
}

fn take_live(caller: &mut Caller, id: AttemptId) -> Option<Ref> {
    let is_it = |live: &&mut Option<(AttemptId, Ref)>| live.is_some_and(|live| live.0 == id);
    let live = caller.live.iter_mut().find(is_it)?;
    live.take().map(|live| live.1)
}
