//! What happens, and to whom.

use std::time::Duration;

use super::bind::Binder;
use super::{Beginning, Change, Client, Effect, Load, Service, Target};
use crate::problem::Place as At;
use crate::sections;
use crate::value;
use crate::view::View;
use crate::yaml::Value;

impl Binder<'_> {
    /// In the order of the file; `services` are in the order of the scenario.
    pub(super) fn timeline(
        &mut self,
        lasts: Duration,
        services: &[Service],
        clients: &[Client],
        sagas: &[Beginning],
    ) -> Vec<Change> {
        let Some(Value::List(items)) = self.view.node_of("timeline").map(|node| &node.value) else {
            return Vec::new();
        };
        let mut changes: Vec<(Change, At)> = Vec::new();
        for item in items {
            let view = View::new(item, &sections::CHANGE);
            if let Some(change) = self.change(view, item.place, lasts, services, clients, sagas) {
                self.refuse_overlap(&change, item.place, &changes);
                changes.push((change, item.place));
            }
        }
        changes.into_iter().map(|(change, _)| change).collect()
    }

    fn change(
        &mut self,
        view: View<'_>,
        place: At,
        lasts: Duration,
        services: &[Service],
        clients: &[Client],
        sagas: &[Beginning],
    ) -> Option<Change> {
        let from = view.duration("from")?;
        let to = view.duration("to");
        if to.is_some_and(|to| to <= from) {
            self.problem(
                view.value_place("to"),
                "it is over before it begins",
                "let `to` be later",
            );
        }
        let late = [
            ("from", from >= lasts),
            ("to", to.is_some_and(|to| to > lasts)),
        ];
        if let Some((key, _)) = late.into_iter().find(|(_, late)| *late) {
            let mend = "let it happen, and end, within `for`";
            self.problem(view.value_place(key), "the world has ended by then", mend);
        }
        let target = self.target(view, place, services, clients, sagas)?;
        let share = |key| view.share(key).map(|share| share.as_f64());
        let load = view.text("load").and_then(|text| value::percent(text).ok());
        let fault = view.text("fault").map(|fault| match fault {
            "hangs" => Effect::Hangs,
            _ => Effect::Away,
        });
        let effects: Vec<Effect> = fault
            .into_iter()
            .chain(share("failures").map(Effect::Failures))
            .chain(share("declines").map(Effect::Declines))
            .chain(share("lost").map(Effect::Lost))
            .chain(share("speed").map(Effect::Speed))
            .chain(load.map(Effect::Load))
            .chain(view.text("runner").map(|_| Effect::Crashes))
            .chain(view.text("pause").map(|_| Effect::Paused))
            .collect();
        let warms = self.warms(view);
        if effects.is_empty() {
            let mend = "add `fault`, `failures`, `declines`, `lost`, `speed` or `load`";
            self.problem(place, "nothing happens here", mend);
        }
        if warms.is_some() && to.is_none() {
            let mend = "say with `to` when it is over";
            self.problem(view.place_of("warms"), "it never comes back", mend);
        }
        self.check_target(view, &target, &effects, clients);
        Some(Change {
            from,
            to,
            target,
            effects,
            warms,
        })
    }

    fn target(
        &mut self,
        view: View<'_>,
        place: At,
        services: &[Service],
        clients: &[Client],
        sagas: &[Beginning],
    ) -> Option<Target> {
        let given = ["service", "zone", "client", "runner", "pause"].map(|key| view.text(key));
        match given {
            [Some(name), None, None, None, None] => self.replicas(view, name, services),
            [None, Some(zone), None, None, None] => {
                let all = (0..).zip(services).flat_map(|(number, service)| {
                    let here = (0..service.replicas)
                        .filter(move |replica| service.zone(*replica) == Some(zone));
                    here.map(move |replica| (number, replica))
                });
                let all: Vec<_> = all.collect();
                if all.is_empty() {
                    let mend = "give services `zones`, or name one of theirs";
                    let message = format!("nothing is in zone `{zone}`");
                    self.problem(view.value_place("zone"), message, mend);
                }
                let said = format!("zone {zone}");
                Some(Target::Replicas { all, said })
            }
            [None, None, Some(name), None, None] => {
                let names: Vec<_> = clients.iter().map(|client| client.name.as_str()).collect();
                let found = names.iter().position(|known| *known == name);
                if found.is_none() {
                    self.unknown("client", name, view.value_place("client"), &names);
                }
                found.map(Target::Client)
            }
            [None, None, None, Some(_), None] => {
                self.check_alone(view, "runner", "say with `to` when it is back");
                Some(Target::Runner)
            }
            [None, None, None, None, Some(name)] => {
                self.check_alone(view, "pause", "say with `to` when they go on");
                let names: Vec<_> = sagas.iter().map(|one| one.saga.name.as_str()).collect();
                let found = names.iter().position(|known| *known == name);
                if found.is_none() && !names.is_empty() {
                    self.unknown("saga", name, view.value_place("pause"), &names);
                }
                found.map(Target::Sagas)
            }
            _ => {
                let mend = "give exactly one of `service`, `zone`, `client`, `runner` and `pause`";
                self.problem(place, "it happens to nobody in particular", mend);
                None
            }
        }
    }

    fn replicas(&mut self, view: View<'_>, name: &str, services: &[Service]) -> Option<Target> {
        let number = services.iter().position(|service| service.name == name);
        let Some(number) = number else {
            let names: Vec<_> = services
                .iter()
                .map(|service| service.name.as_str())
                .collect();
            self.unknown("service", name, view.value_place("service"), &names);
            return None;
        };
        let count = services[number].replicas;
        match view.count("replica") {
            Some(replica) if replica >= count => {
                let message = format!("`{name}` has {count} replicas, counted from 0");
                let mend = "name one that is there";
                self.problem(view.value_place("replica"), message, mend);
                None
            }
            Some(replica) => Some(Target::Replicas {
                all: vec![(number, replica)],
                said: format!("{name} {replica}"),
            }),
            None => Some(Target::Replicas {
                all: (0..count).map(|replica| (number, replica)).collect(),
                said: name.to_owned(),
            }),
        }
    }

    /// What happens to sagas, or to their runner: there are some, they go on later, and it happens to
    /// nobody else.
    fn check_alone(&mut self, view: View<'_>, key: &str, until: &str) {
        if self.view.names("sagas").is_empty() {
            let mend = "add `sagas: { NAME: { rate: 10/s } }`, or remove it";
            let message = "no sagas begin, so that nobody goes on with them";
            self.problem(view.place_of(key), message, mend);
        }
        if view.duration("to").is_none() {
            self.problem(view.place_of(key), "sagas would wait for ever", until);
        }
        let others = [
            "replica", "fault", "failures", "declines", "lost", "speed", "load", "warms",
        ];
        if let Some(other) = others.into_iter().find(|key| view.node_of(key).is_some()) {
            let message = match key {
                "runner" => "this does not happen to the runner",
                _ => "this does not happen to sagas",
            };
            self.problem(view.place_of(other), message, "put it on a line of its own");
        }
    }

    /// Load is a client's, all else a service's.
    fn check_target(
        &mut self,
        view: View<'_>,
        target: &Target,
        effects: &[Effect],
        clients: &[Client],
    ) {
        let is_load = |effect: &Effect| matches!(effect, Effect::Load(_));
        let (of_client, place) = match target {
            Target::Client(_) => (true, view.place_of("client")),
            Target::Replicas { .. } => (false, view.place_of("load")),
            Target::Runner | Target::Sagas(_) => return,
        };
        if effects.iter().any(|effect| is_load(effect) != of_client) {
            let message = "load is a client's, and all else a service's";
            let mend = "put it under `client`, or what it happens to under `service` or `zone`";
            self.problem(place, message, mend);
        }
        if let Target::Client(client) = target
            && !matches!(clients[*client].load, Load::Open(_))
        {
            let mend = "give the client a `rate`";
            self.problem(place, "only a rate can be more or less", mend);
        }
        if view.node_of("replica").is_some() && view.node_of("service").is_none() {
            let mend = "name the `service`, or leave `replica` out";
            self.problem(view.place_of("replica"), "a replica of what?", mend);
        }
    }

    /// What ends first would end both.
    fn refuse_overlap(&mut self, change: &Change, place: At, before: &[(Change, At)]) {
        let end = |change: &Change| change.to.unwrap_or(Duration::MAX);
        let same = |other: &Change| {
            let alike = |one: &Effect, other: &Effect| {
                std::mem::discriminant(one) == std::mem::discriminant(other)
            };
            let of_kind = change.effects.iter();
            let mut of_kind = of_kind.filter(|one| other.effects.iter().any(|two| alike(one, two)));
            match (&change.target, &other.target) {
                (Target::Client(one), Target::Client(other)) => one == other,
                (Target::Replicas { all, .. }, Target::Replicas { all: other, .. }) => {
                    all.iter().any(|one| other.contains(one)) && of_kind.next().is_some()
                }
                (Target::Runner, Target::Runner) => true,
                (Target::Sagas(one), Target::Sagas(other)) => one == other,
                (
                    Target::Client(_) | Target::Replicas { .. } | Target::Runner | Target::Sagas(_),
                    _,
                ) => false,
            }
        };
        let overlaps =
            |other: &Change| same(other) && change.from < end(other) && other.from < end(change);
        if let Some((_, at)) = before.iter().find(|(other, _)| overlaps(other)) {
            let message = format!("the same happens at that time by line {}", at.line);
            let mend = "let one end before the other begins";
            self.problem(place, message, mend);
        }
    }
}
