//! A scenario and a policy file together: everything that names something finds it.

use std::path::PathBuf;
use std::time::Duration;

use super::{Draft, Limit, Measure, Promise, Scenario, Service, promise};
use crate::plan::Plan;
use crate::problem::{Place as At, Problem, Problems, did_you_mean};
use crate::sections;
use crate::value;
use crate::view::View;
use crate::yaml::{Node, Value};

impl Draft {
    /// The policy file it names.
    pub fn policy(&self) -> Option<PathBuf> {
        let view = View::new(&self.root, &sections::SCENARIO);
        Some(self.folder.join(view.text("policy")?))
    }

    /// What is wrong with a scenario that is run without a policy file.
    pub fn lacks_policy(&self) -> Problems {
        let mend = "add `policy: FILE`, or give one on the command line";
        let problem = Problem::new(At::START, "no policy file is named", mend);
        Problems::new(&self.file, &self.text, vec![problem])
    }

    /// The world it describes, for these policies.
    ///
    /// # Errors
    /// All that does not fit: names that are not there, services that nobody calls, calls that lead
    /// in a circle, what happens after the end.
    pub fn bind(&self, plan: &Plan) -> Result<Scenario, Problems> {
        let view = View::new(&self.root, &sections::SCENARIO);
        let mut binder = Binder {
            folder: &self.folder,
            plan,
            view,
            problems: Vec::new(),
        };
        let scenario = binder.scenario();
        match scenario {
            Some(scenario) if binder.problems.is_empty() => Ok(scenario),
            _ => Err(Problems::new(&self.file, &self.text, binder.problems)),
        }
    }
}

pub(super) struct Binder<'a> {
    pub(super) folder: &'a std::path::Path,
    pub(super) plan: &'a Plan,
    pub(super) view: View<'a>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Binder<'a> {
    pub(super) fn problem(
        &mut self,
        place: At,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let problem = Problem::new(place, message, mend);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Marks services whose name is close to one that is missing, and that lead nowhere; whether there
    /// is one.
    pub(super) fn mark_misspelt(&mut self, missing: &str) -> bool {
        let entries = self.view.names("services");
        let leads = |name: &str| {
            let mut all = self.plan.upstreams.iter();
            all.any(|upstream| {
                let mut endpoints = upstream.endpoints.iter();
                upstream.name == name || endpoints.any(|endpoint| endpoint.name == name)
            })
        };
        let needed = |name: &str| {
            entries.iter().any(|entry| {
                let view = View::new(&entry.node, &sections::SERVICE);
                let mut needs = view.texts("ready_with").into_iter();
                needs.any(|(need, _)| need == name)
            })
        };
        if !leads(missing) {
            return false;
        }
        let close = entries.iter().find(|entry| {
            let name = &entry.key;
            !leads(name) && !needed(name) && did_you_mean(name, [missing]).is_some()
        });
        let Some(entry) = close else { return false };
        let message = format!("no call leads to `{}`", entry.key);
        self.problem(
            entry.key_place,
            message,
            format!("did you mean `{missing}`?"),
        );
        true
    }

    fn scenario(&mut self) -> Option<Scenario> {
        let view = self.view;
        let lasts = view.duration("for")?;
        let warm_up = view.duration("warm_up").unwrap_or_default();
        if !(SHORTEST..=LONGEST).contains(&lasts) {
            let mend = "write a time from `1s` to `7d`";
            self.problem(view.value_place("for"), "no world runs for that long", mend);
        }
        if warm_up >= lasts {
            let mend = "let it be shorter than `for`";
            let message = "the warm-up is all there is";
            self.problem(view.value_place("warm_up"), message, mend);
        }
        let clients = self.clients();
        let mut services = self.services();
        let sagas = self.sagas(&clients);
        let runner = self.runner();
        let used = self.used(&clients, &sagas, &services);
        let upstreams = self.places(&used, &mut services);
        let network = view.duration("network").unwrap_or_default();
        let zones = self.zones(&services, &clients, &runner);
        let timeline = self.timeline(lasts, &services, &clients, &sagas);
        let mut scenario = Scenario {
            lasts,
            warm_up,
            settles: view.text("warm_up") == Some("auto"),
            runs: view.count("runs"),
            seed: value::count(view.text("seed")?, 0, u64::MAX).ok()?,
            most_events: value::count(view.text("most_events")?, 0, u64::MAX).ok()?,
            most_present: view.count("most_present")? as usize,
            services,
            upstreams,
            clients,
            sagas,
            runner,
            timeline,
            promises: Vec::new(),
            network,
            zones,
        };
        scenario.promises = self.promises(&scenario);
        if self.problems.is_empty() {
            self.refuse_too_much(&scenario);
        }
        Some(scenario)
    }

    /// Latencies between zones; zones that are named somewhere have to be there if there are some.
    fn zones(
        &mut self,
        services: &[Service],
        clients: &[super::Client],
        runner: &super::Runner,
    ) -> Vec<(String, String, Duration)> {
        let mut distances = Vec::new();
        for from in self.view.names("zones") {
            let Value::Map(entries) = &from.node.value else {
                continue;
            };
            for to in entries {
                let Value::Scalar(text) = &to.node.value else {
                    continue;
                };
                let distance = value::duration(text).unwrap_or_default();
                distances.push((from.key.clone(), to.key.clone(), distance));
            }
        }
        if distances.is_empty() {
            return distances;
        }
        let known = |zone: &str| {
            let mut all = distances.iter();
            all.any(|(one, other, _)| one == zone || other == zone)
        };
        let of_services = services.iter().flat_map(|service| service.zones.iter());
        let of_clients = clients.iter().filter_map(|client| client.zone.as_ref());
        let unknown: Vec<_> = of_services
            .chain(of_clients)
            .chain(&runner.zone)
            .filter(|zone| !known(zone))
            .cloned()
            .collect();
        if let Some(zone) = unknown.first() {
            let message = format!("nothing is said of how far `{zone}` is");
            let mend = format!("add `{zone}: {{ OTHER: 1ms }}`");
            self.problem(self.view.place_of("zones"), message, mend);
        }
        distances
    }

    fn promises(&mut self, scenario: &Scenario) -> Vec<Promise> {
        let read = |(text, place): (&str, At)| Some((promise(text).ok()?, place));
        let all: Vec<_> = self
            .view
            .texts("promises")
            .into_iter()
            .filter_map(read)
            .collect();
        for (promise, place) in &all {
            self.check_promise(promise, *place, scenario);
        }
        all.into_iter().map(|(promise, _)| promise).collect()
    }

    fn check_promise(&mut self, promise: &Promise, place: At, scenario: &Scenario) {
        self.check_whose(promise, place, scenario);
        let needs_faults = promise.measure == Measure::Recovery
            || matches!(
                promise.window,
                super::Window::Recovered(_) | super::Window::During | super::Window::Before
            );
        let goes_on = scenario.timeline.iter().any(|change| {
            change.to.is_none() && scenario.over().is_some_and(|over| change.from >= over)
        });
        if needs_faults && goes_on {
            let mend = "say with `to` when the last thing that happens is over";
            self.problem(place, "something begins and never ends", mend);
        }
        if needs_faults && scenario.over().is_none() {
            let mend = "add something with `from` and `to` to `timeline`";
            self.problem(place, "nothing happens that could be over", mend);
        }
        let begins = match promise.window {
            super::Window::Recovered(after) => scenario.over().map(|over| over + after),
            super::Window::Between(span) => Some(span.from),
            super::Window::Always | super::Window::During | super::Window::Before => None,
        };
        let ends = match promise.window {
            super::Window::Between(span) => Some(span.to),
            super::Window::During => scenario.over(),
            super::Window::Before => scenario.begins(),
            super::Window::Always | super::Window::Recovered(_) => None,
        };
        if begins.is_some_and(|begins| begins >= scenario.lasts)
            || ends.is_some_and(|ends| ends > scenario.lasts)
        {
            let mend = "let the world run for longer";
            self.problem(place, "the run ends before that", mend);
        }
        if ends.is_some_and(|ends| ends <= scenario.warm_up) {
            let mend = "let it be later, or the `warm_up` shorter";
            self.problem(place, "nothing is counted before the warm-up is over", mend);
        }
        let Limit { above, value, .. } = promise.limit;
        if matches!(promise.measure, Measure::Attempts) && !above && value < 0.01 {
            self.problem(
                place,
                "nothing is done with no attempts",
                "write e.g. `1.1`",
            );
        }
    }

    /// Whether there is somebody whom it is measured of.
    fn check_whose(&mut self, promise: &Promise, place: At, scenario: &Scenario) {
        let services = scenario.services.iter().map(|one| one.name.as_str());
        let clients = scenario.clients.iter().map(|one| one.name.as_str());
        let sagas = scenario.sagas.iter().map(|one| one.saga.name.as_str());
        let of = promise.of.as_deref();
        let (what, names): (_, Vec<&str>) = match promise.measure {
            Measure::Peak | Measure::Wasted | Measure::Late => ("service", services.collect()),
            measure if measure.is_of_sagas() => ("saga", sagas.collect()),
            Measure::Quantile(_) if sagas.clone().any(|name| of == Some(name)) => {
                ("saga", sagas.collect())
            }
            _ => ("client", clients.collect()),
        };
        let of_saga = what == "saga";
        if of_saga && names.is_empty() {
            let mend = "add `sagas: { NAME: { rate: 10/s } }`";
            self.problem(place, "no sagas begin here", mend);
        } else if names.is_empty() && of.is_none() {
            let mend = "measure sagas: `settled`, `completed`, `p99 of NAME`, or add `clients`";
            self.problem(place, "nobody calls here", mend);
        }
        match of {
            Some(name) if !names.contains(&name) => self.unknown(what, name, place, &names),
            None if promise.measure == Measure::Peak => {
                let mend = format!("write `peak of NAME`, one of: {}", names.join(", "));
                self.problem(place, "the peak of what?", mend);
            }
            Some(_) | None => {}
        }
        let is_time = matches!(promise.measure, Measure::Quantile(_));
        if of_saga && is_time && promise.window != super::Window::Always {
            let mend = "leave the time out";
            let message = "how long sagas take is measured of whole runs";
            self.problem(place, message, mend);
        }
    }

    /// More calls than anybody waits for.
    fn refuse_too_much(&mut self, scenario: &Scenario) {
        let calls = |load: &super::Load| match load {
            super::Load::Open(points) => {
                let most = points
                    .iter()
                    .fold(0.0, |most: f64, point| most.max(point.1));
                most * scenario.lasts.as_secs_f64()
            }
            super::Load::Steady(interval) => {
                scenario.lasts.as_secs_f64() / interval.as_secs_f64().max(1e-9)
            }
            super::Load::Closed(..) => 0.0,
        };
        let samples = scenario.lasts.as_secs_f64() * self.looked_at(scenario);
        if samples > MOST_SAMPLES {
            let message =
                format!("that would be {samples:.1e} samples, more than {MOST_SAMPLES:.0e}");
            let mend = "run it for a shorter time, or with fewer `copies` and `replicas`";
            self.problem(self.view.place_of("for"), message, mend);
        }
        let users: u64 = scenario.clients.iter().map(users_of).sum();
        if users > scenario.most_present as u64 {
            let message = format!("there are {users} users, more than `most_present`");
            let mend = "let there be fewer, or `most_present` be higher";
            self.problem(self.view.place_of("clients"), message, mend);
        }
        let clients = scenario.clients.iter().map(|client| &client.load);
        let sagas = scenario.sagas.iter().map(|beginning| &beginning.load);
        let all: f64 = clients.chain(sagas).map(calls).sum();
        if all > scenario.most_events as f64 {
            let message = format!("that would be {all:.1e} calls a run, more than `most_events`");
            let mend = "run it for a shorter time, or with less load: rates and capacities may be \
                        scaled down together";
            self.problem(self.view.place_of("for"), message, mend);
        }
    }

    /// How many services, clients and sets of policies are looked at every second.
    fn looked_at(&self, scenario: &Scenario) -> f64 {
        let steps = |service: &Service| {
            service
                .calls
                .iter()
                .flat_map(|calls| &calls.steps)
                .flatten()
                .count()
        };
        let of_services = scenario.services.iter();
        let of_services: f64 = of_services
            .map(|service| 1.0 + steps(service) as f64 * f64::from(service.replicas))
            .sum();
        let of_clients: f64 = scenario
            .clients
            .iter()
            .map(|client| f64::from(client.copies))
            .sum();
        of_services + of_clients
    }

    pub(super) fn unknown(&mut self, what: &str, name: &str, place: At, names: &[&str]) {
        // What is wrong with a client or saga that is there, or with a service's name, is told there.
        let mut clients = self.view.names("clients").iter();
        let is_told = match what {
            "client" => clients.any(|entry| entry.key == name),
            "saga" => self.is_elsewhere(name, place),
            "service" => self.mark_misspelt(name),
            _ => false,
        };
        if is_told {
            return;
        }
        let mend = match did_you_mean(name, names.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None if names.is_empty() && what == "saga" => {
                "add it to `sagas.definitions` of the policy file".to_owned()
            }
            None if names.is_empty() => format!("there is no {what} at all"),
            None => format!("there are: {}", names.join(", ")),
        };
        self.problem(place, format!("there is no {what} `{name}`"), mend);
    }

    /// Whether a saga of this name begins by another place of the file.
    fn is_elsewhere(&self, name: &str, place: At) -> bool {
        let mut sagas = self.view.names("sagas").iter();
        sagas.any(|entry| entry.key == name && entry.key_place != place)
    }

    /// The position of an upstream of the policy file.
    pub(super) fn upstream(&mut self, name: &str, place: At) -> Option<usize> {
        let plan = self.plan;
        let names: Vec<_> = plan.upstreams.iter().map(|one| one.name.as_str()).collect();
        let found = names.iter().position(|known| *known == name);
        if found.is_none() {
            self.unknown("upstream", name, place, &names);
        }
        found
    }

    /// The position of a service of the file.
    pub(super) fn service(&mut self, name: &str, place: At) -> Option<usize> {
        let entries = self.view.names("services");
        let names: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let found = names.iter().position(|known| *known == name);
        if found.is_none() {
            self.unknown("service", name, place, &names);
        }
        found
    }
}

/// The texts of a node: of a list, or of a single value.
pub(super) fn texts(node: &Node) -> Vec<(&str, At)> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    items
        .iter()
        .filter_map(|item| match &item.value {
            Value::Scalar(text) => Some((text.as_str(), item.place)),
            _ => None,
        })
        .collect()
}

/// What happens is told second by second.
const SHORTEST: Duration = Duration::from_secs(1);
/// A week: longer is a mistake.
const LONGEST: Duration = Duration::from_secs(7 * 86400);
/// Four bytes each, and they stay until the run ends.
const MOST_SAMPLES: f64 = 1e9;

fn users_of(client: &super::Client) -> u64 {
    match client.load {
        super::Load::Closed(users, _) => u64::from(users),
        super::Load::Open(_) | super::Load::Steady(_) => 0,
    }
}
