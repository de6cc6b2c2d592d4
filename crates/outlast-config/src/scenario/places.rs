//! Where endpoints lead, and in which order services are made.

use super::bind::Binder;
use super::{Beginning, Client, Place, Service};
use crate::plan::Upstream;
use crate::problem::Place as At;
use crate::sections;
use crate::view::View;

impl Binder<'_> {
    /// Upstreams that somebody calls through, with the place that names them.
    pub(super) fn used(
        &self,
        clients: &[Client],
        sagas: &[Beginning],
        services: &[Service],
    ) -> Vec<(usize, At)> {
        let entries = self.view.names("clients");
        let of_clients = clients.iter().filter_map(|client| {
            let entry = entries.iter().find(|entry| entry.key == client.name)?;
            Some((client.upstream, entry.key_place))
        });
        let entries = self.view.names("services").iter();
        let of_services = services.iter().zip(entries).flat_map(|(service, entry)| {
            let view = View::new(&entry.node, &sections::SERVICE);
            let place = view.place_of("calls");
            service.called().map(move |call| (call, place))
        });
        let entries = self.view.names("sagas");
        let of_sagas = sagas.iter().flat_map(|beginning| {
            let entry = entries
                .iter()
                .find(|entry| entry.key == beginning.saga.name);
            let place = entry.map_or(At::START, |entry| entry.key_place);
            beginning
                .saga
                .requests()
                .map(move |request| (request.upstream, place))
        });
        let mut used: Vec<(usize, At)> = Vec::new();
        for (upstream, place) in of_clients.chain(of_sagas).chain(of_services) {
            if used.iter().all(|(known, _)| *known != upstream) {
                used.push((upstream, place));
            }
        }
        used
    }

    /// Where the endpoints of those upstreams lead. Replicas that were not given are known then, and
    /// services are in an order in which each comes after those that it calls.
    pub(super) fn places(
        &mut self,
        used: &[(usize, At)],
        services: &mut Vec<Service>,
    ) -> Vec<Option<Vec<Place>>> {
        let mut upstreams: Vec<Option<Vec<Place>>> = vec![None; self.plan.upstreams.len()];
        for (number, place) in used {
            let upstream = &self.plan.upstreams[*number];
            upstreams[*number] = self.places_of(upstream, *place, services);
        }
        for service in services.iter_mut() {
            service.replicas = service.replicas.max(1);
        }
        self.refuse_unused(&upstreams, services);
        self.refuse_calls_of_others(&upstreams);
        if self.problems.is_empty() {
            self.sort(&mut upstreams, services);
        }
        upstreams
    }

    fn places_of(
        &mut self,
        upstream: &Upstream,
        place: At,
        services: &mut [Service],
    ) -> Option<Vec<Place>> {
        let position = |name: &str| services.iter().position(|service| service.name == name);
        let shared = position(&upstream.name);
        let count = upstream.endpoints.len();
        let own: Vec<_> = upstream
            .endpoints
            .iter()
            .map(|endpoint| position(&endpoint.name))
            .collect();
        if shared.is_none() && (own.is_empty() || own.iter().any(Option::is_none)) {
            self.refuse_missing(upstream, place, &own);
            return None;
        }
        if let Some(shared) = shared {
            self.count_replicas(upstream, shared, services)?;
        }
        let mut places = Vec::new();
        for (number, own) in (0u32..).zip(&own) {
            let service = own.or(shared)?;
            let replicas = services[service].replicas;
            let is_one = own.is_none() && count > 1;
            let replica = match (is_one, replicas) {
                (true, _) => Some(number),
                (false, 0 | 1) => Some(0),
                (false, _) => None,
            };
            places.push(Place { service, replica });
        }
        if let (Some(service), true) = (shared, count == 0) {
            let all = 0..services[service].replicas.max(1);
            places.extend(all.map(|replica| Place {
                service,
                replica: Some(replica),
            }));
        }
        self.take_zones(upstream, place, &places, services);
        Some(places)
    }

    /// Endpoints without a service, or all of an upstream; if a service's name is close, that is told.
    fn refuse_missing(&mut self, upstream: &Upstream, place: At, own: &[Option<usize>]) {
        let name = upstream.name.as_str();
        let endpoints = upstream.endpoints.iter().zip(own);
        let missing: Vec<_> = endpoints
            .filter(|(_, own)| own.is_none())
            .map(|(endpoint, _)| endpoint.name.as_str())
            .collect();
        let mut misspelt = false;
        for missing in &missing {
            misspelt |= self.mark_misspelt(missing);
        }
        let is_part = missing.len() < own.len();
        if misspelt || (!is_part && self.mark_misspelt(name)) {
            return;
        }
        let missing = missing.join(", ");
        let (what, mend) = match is_part {
            true => (
                format!("`{missing}` of `{name}`"),
                format!("add to `services`: {missing}"),
            ),
            false => (
                format!("`{name}`"),
                format!("add `{name}` to `services`, or its endpoints: {missing}"),
            ),
        };
        self.problem(
            place,
            format!("nothing is said of what {what} leads to"),
            mend,
        );
    }

    /// Services that say nothing of zones are where their endpoints are.
    fn take_zones(
        &mut self,
        upstream: &Upstream,
        at: At,
        places: &[Place],
        services: &mut [Service],
    ) {
        for (number, service) in services.iter_mut().enumerate() {
            let ends = upstream.endpoints.iter().zip(places);
            let ends = ends.filter(|(_, place)| place.service == number);
            let zones: Vec<_> = ends.map(|(endpoint, _)| endpoint.zone.as_ref()).collect();
            if !service.zones.is_empty() || zones.iter().all(Option::is_none) {
                continue;
            }
            if zones.iter().any(Option::is_none) {
                let message = format!("some endpoints of `{}` are in no zone", upstream.name);
                let mend = format!(
                    "give each a zone, or `{}` the `zones` of its replicas",
                    service.name
                );
                self.problem(at, message, mend);
            }
            service.zones = zones.into_iter().flatten().cloned().collect();
        }
    }

    /// As many replicas as endpoints, unless one endpoint stands for all.
    fn count_replicas(
        &mut self,
        upstream: &Upstream,
        service: usize,
        services: &mut [Service],
    ) -> Option<()> {
        let endpoints = u32::try_from(upstream.endpoints.len()).unwrap_or(u32::MAX);
        let replicas = &mut services[service].replicas;
        if *replicas == 0 {
            *replicas = endpoints.max(1);
        }
        if endpoints <= 1 || *replicas == endpoints {
            return Some(());
        }
        let entry = &self.view.names("services")[service];
        let view = View::new(&entry.node, &sections::SERVICE);
        let message = format!("`{}` has {endpoints} endpoints", upstream.name);
        let mend = format!("write `replicas: {endpoints}`, or leave it out");
        self.problem(view.value_place("replicas"), message, mend);
        None
    }

    /// A service that nobody calls is a name that was misspelt.
    fn refuse_unused(&mut self, upstreams: &[Option<Vec<Place>>], services: &[Service]) {
        let called = |service: usize| {
            let mut places = upstreams.iter().flatten().flatten();
            places.any(|place| place.service == service)
        };
        let needed = |number: usize| {
            services.iter().any(|service| {
                let liveness = service.liveness.iter().flat_map(|liveness| &liveness.needs);
                service
                    .ready_with
                    .iter()
                    .chain(liveness)
                    .any(|need| *need == number)
            })
        };
        for (number, entry) in self.view.names("services").iter().enumerate() {
            if !called(number) && !needed(number) && self.problems.is_empty() {
                let message = format!("no call leads to `{}`", entry.key);
                let names: Vec<_> = self.plan.upstreams.iter().map(|one| &*one.name).collect();
                let mend = format!(
                    "name it like an upstream ({}) or an endpoint that somebody calls, or remove it",
                    names.join(", ")
                );
                self.problem(entry.key_place, message, mend);
            }
        }
    }

    /// Calls for requests that never come are those of a name that was misspelt.
    fn refuse_calls_of_others(&mut self, upstreams: &[Option<Vec<Place>>]) {
        for (number, entry) in self.view.names("services").iter().enumerate() {
            let view = View::new(&entry.node, &sections::SERVICE);
            for kind in view.names("calls") {
                let name = &kind.key;
                let plan = self.plan.upstreams.iter();
                let leads = plan.zip(upstreams).any(|(upstream, places)| {
                    let mut places = places.iter().flatten();
                    upstream.name == *name && places.any(|place| place.service == number)
                });
                if !leads && self.problems.is_empty() {
                    let message = format!("no request comes to `{}` through `{name}`", entry.key);
                    let mend = "name an upstream that leads there, and that somebody calls";
                    self.problem(kind.key_place, message, mend);
                }
            }
        }
    }

    /// Puts services after those that they call; in a circle nobody could be the first.
    fn sort(&mut self, upstreams: &mut [Option<Vec<Place>>], services: &mut Vec<Service>) {
        let mut order: Vec<usize> = Vec::new();
        while order.len() < services.len() {
            let is_ready = |number: &usize| {
                let calls = services[*number].called();
                let mut places = calls.flat_map(|call| upstreams[call].iter().flatten());
                !order.contains(number) && places.all(|place| order.contains(&place.service))
            };
            match (0..services.len()).find(is_ready) {
                Some(next) => order.push(next),
                None => {
                    let left = (0..services.len()).find(|number| !order.contains(number));
                    let entry = &self.view.names("services")[left.unwrap_or(0)];
                    let message = format!("the calls of `{}` lead in a circle", entry.key);
                    let mend = "let the last service of the chain call nothing";
                    self.problem(entry.key_place, message, mend);
                    return;
                }
            }
        }
        let mut place_of = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place_of[*old] = new;
        }
        for place in upstreams.iter_mut().flatten().flatten() {
            place.service = place_of[place.service];
        }
        let mut sorted: Vec<Service> = order.iter().map(|old| services[*old].clone()).collect();
        for service in &mut sorted {
            let needs = service
                .liveness
                .iter_mut()
                .flat_map(|liveness| &mut liveness.needs);
            for need in service.ready_with.iter_mut().chain(needs) {
                *need = place_of[*need];
            }
        }
        *services = sorted;
    }
}
