//! Who looks at services without calling them: active checks of upstreams, the orchestrator that
//! restarts what seems to be dead, and samples for pictures.

use outlast_core::breaker::State;

use super::*;
use crate::service::Pace;

impl World {
    /// Plans the first look of everyone who looks.
    pub(super) fn begin_looking(&mut self) {
        for upstream in 0..self.model.upstreams.len() {
            for endpoint in 0..self.model.upstreams[upstream].places.len() {
                self.plan_check(upstream, endpoint);
            }
        }
        for service in 0..self.model.services.len() {
            let Some(every) = self.model.services[service]
                .liveness
                .as_ref()
                .map(|l| l.every)
            else {
                continue;
            };
            for replica in 0..self.model.services[service].replicas {
                let number = u64::from(replica);
                let unit = self.draws.unit(service as u32, Purpose::Check, number);
                let first = Time::ZERO + crate::law::times(every, unit);
                self.plan_look(first, Event::Lives { service, replica });
            }
        }
        if self.model.sample.is_some() {
            self.plan_sample();
        }
    }

    /// An endpoint is probed: a replica that is away refuses or does not answer, any other says
    /// whether it is ready.
    pub(super) fn checks(&mut self, upstream: usize, endpoint: usize) {
        let place = self.model.upstreams[upstream].places[endpoint];
        let service = place.service.0;
        let all = &self.replicas[service];
        let replica = match place.replica {
            Some(replica) => &all[replica as usize],
            None => all.iter().find(|one| !one.is_away()).unwrap_or(&all[0]),
        };
        if replica.holds {
            let Policies::Outlast(policies) = &self.model.upstreams[upstream].policies else {
                return;
            };
            let longest = policies
                .checks()
                .map_or(Duration::ZERO, |checks| checks.longest());
            let event = Event::Unanswered { upstream, endpoint };
            return self.plan_look(self.now + longest, event);
        }
        let is_up = !replica.is_away();
        let is_ready = is_up && self.are_there(&self.model.services[service].ready_with);
        self.checked(upstream, endpoint, is_ready);
    }

    pub(super) fn checked(&mut self, upstream: usize, endpoint: usize, ok: bool) {
        if let Policies::Outlast(policies) = &self.model.upstreams[upstream].policies {
            policies.checked(endpoint, ok, self.now);
            policies.timeout(self.now);
        }
        self.plan_check(upstream, endpoint);
    }

    fn plan_check(&mut self, upstream: usize, endpoint: usize) {
        let Policies::Outlast(policies) = &self.model.upstreams[upstream].policies else {
            return;
        };
        let index = self.now.as_nanos() ^ (endpoint as u64) << 48;
        let unit = self.draws.unit(upstream as u32, Purpose::Check, index);
        if let Some(next) = policies.next_check(endpoint, self.now, unit) {
            self.plan_look(next, Event::Checks { upstream, endpoint });
        }
    }

    /// Whether each of these services has a replica that is not away.
    fn are_there(&self, services: &[usize]) -> bool {
        let is_there = |service: &usize| self.replicas[*service].iter().any(|one| !one.is_away());
        services.iter().all(is_there)
    }

    /// A replica is asked whether it is alive; after some failures in a row it is restarted.
    pub(super) fn lives(&mut self, service: usize, replica: u32) {
        let Some(liveness) = self.model.services[service].liveness.clone() else {
            return;
        };
        let alive = self.are_there(&liveness.needs);
        let there = &mut self.replicas[service][replica as usize];
        there.dead = if alive && !there.is_away() {
            0
        } else {
            there.dead + 1
        };
        if there.dead >= liveness.failures {
            (there.dead, there.restarts) = (0, true);
            self.lose_all(service, replica);
            let back = self.now + liveness.restart;
            // It is not asked while it starts.
            return self.plan_look(back, Event::Restarted { service, replica });
        }
        self.plan_look(self.now + liveness.every, Event::Lives { service, replica });
    }

    pub(super) fn restarted(&mut self, service: usize, replica: u32) {
        let Some(liveness) = &self.model.services[service].liveness else {
            return;
        };
        let (every, (from, over)) = (liveness.every, liveness.warms);
        let there = &mut self.replicas[service][replica as usize];
        there.restarts = false;
        there.warmth = Pace::warms(from, self.now, over);
        self.plan_look(self.now + every, Event::Lives { service, replica });
    }

    pub(super) fn take_sample(&mut self) {
        let at = self.now.since(Time::ZERO);
        let present = self.meters.iter_mut().map(Meter::peak).collect();
        let open = |through: &Through| match &through.policies {
            Policies::Plain(_) => 0,
            Policies::Outlast(policies) => {
                let stats = policies.stats(self.now);
                let states = stats
                    .endpoints
                    .iter()
                    .filter_map(|one| one.breaker.as_ref());
                let open = states.filter(|breaker| is_open(breaker.state));
                u32::try_from(open.count()).unwrap_or(u32::MAX)
            }
        };
        let open = self.model.upstreams.iter().map(open).collect();
        let sagas = self.sagas.open() as u64;
        self.samples.push(Sample::new(at, sagas, present, open));
        self.plan_sample();
    }

    fn plan_sample(&mut self) {
        let interval = self.model.sample.unwrap_or_default();
        self.plan_look(self.now + interval, Event::Samples);
    }

    fn plan_look(&mut self, at: Time, event: Event) {
        // Sagas go on behind the end, and need to know who is there.
        let goes_on = self.sagas.open() > 0 && !matches!(event, Event::Samples);
        if at <= self.end || goes_on {
            self.agenda.plan(at, Class::End, event);
        }
    }
}

/// Calls do not pass as usual.
fn is_open(state: State) -> bool {
    matches!(state, State::Open | State::HalfOpen | State::ForcedOpen)
}
