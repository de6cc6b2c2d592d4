//! Who calls, and how often.

use std::time::Duration;

use super::bind::Binder;
use super::{Client, Law, Load, data};
use crate::plan::{Repeat, Route};
use crate::policies::section_of;
use crate::sections;
use crate::value;
use crate::view::View;
use crate::yaml::{Entry, Value};

impl<'a> Binder<'a> {
    pub(super) fn clients(&mut self) -> Vec<Client> {
        let entries = self.view.names("clients");
        if entries.is_empty() && self.view.names("sagas").is_empty() {
            let mend = "add one, such as `shop: { upstream: db, rate: 100/s }`";
            self.problem(self.view.place_of("clients"), "nobody calls", mend);
        }
        let mut clients: Vec<Client> = Vec::new();
        for entry in entries {
            if let Some(client) = self.client(entry) {
                self.refuse_two_places(entry, &client, &clients);
                clients.push(client);
            }
        }
        clients
    }

    /// A process is in one place, and as often there for all who are in it.
    fn refuse_two_places(&mut self, entry: &Entry, client: &Client, before: &[Client]) {
        let is_with = |other: &&Client| client.process.is_some() && other.process == client.process;
        let Some(other) = before.iter().find(is_with) else {
            return;
        };
        if (&other.zone, other.copies) != (&client.zone, client.copies) {
            let name = &other.name;
            let message = format!("its process is elsewhere, or not as often there, for `{name}`");
            let mend = "give both the same `zone` and `copies`";
            let view = View::new(&entry.node, &sections::CLIENT);
            self.problem(view.value_place("process"), message, mend);
        }
    }

    fn client(&mut self, entry: &Entry) -> Option<Client> {
        let view = View::new(&entry.node, &sections::CLIENT);
        let route = self.route(view);
        let upstream = match (view.text("upstream"), route) {
            (Some(name), None) => self.upstream(name, view.value_place("upstream"))?,
            (None, Some(route)) => route.upstream,
            (Some(_), Some(_)) => {
                let mend = "leave `upstream` out; it is that of the route";
                self.problem(view.place_of("upstream"), "a route has its upstream", mend);
                return None;
            }
            (None, None) => {
                if view.text("route").is_none() {
                    let mend = "add `upstream: NAME`, or `route: NAME`";
                    self.problem(entry.key_place, "it calls nothing", mend);
                }
                return None;
            }
        };
        Some(Client {
            name: entry.key.clone(),
            upstream,
            load: self.load(entry, view)?,
            copies: view.count("copies").unwrap_or(1),
            deadline: view
                .duration("deadline")
                .or_else(|| route.and_then(|route| route.deadline)),
            tier: match (view.node_of("tier"), route) {
                (None, Some(route)) => route.tier,
                _ => view.tier("tier"),
            },
            repeatable: view
                .truth("repeatable")
                .unwrap_or_else(|| route.is_none_or(may_repeat)),
            zone: view.text("zone").map(str::to_owned),
            process: view.text("process").map(str::to_owned),
        })
    }

    fn route(&mut self, view: View<'_>) -> Option<&'a Route> {
        let name = view.text("route")?;
        let plan = self.plan;
        let found = plan.routes.iter().find(|route| route.name == name);
        if found.is_none() {
            let names: Vec<_> = plan
                .routes
                .iter()
                .map(|route| route.name.as_str())
                .collect();
            self.unknown("route", name, view.value_place("route"), &names);
        }
        found
    }

    fn load(&mut self, entry: &Entry, view: View<'_>) -> Option<Load> {
        let ways = ["rate", "every", "users"];
        let given: Vec<_> = ways
            .into_iter()
            .filter(|way| view.node_of(way).is_some())
            .collect();
        match given[..] {
            ["rate"] => self.rate(view).map(Load::Open),
            ["every"] => {
                let interval = view.duration("every")?;
                if interval < Duration::from_micros(1) {
                    let mend = "write at least `1us`";
                    self.problem(view.value_place("every"), "nobody calls that often", mend);
                }
                Some(Load::Steady(interval))
            }
            ["users"] => {
                let known = self.problems.len();
                let thinks = self.law(view, "thinks");
                if thinks == Law::Fixed(Duration::ZERO) && self.problems.len() == known {
                    let mend = "let users think for some time, or they never stop calling";
                    self.problem(
                        view.place_of("thinks"),
                        "users think before they call",
                        mend,
                    );
                }
                Some(Load::Closed(view.count("users")?, thinks))
            }
            _ => {
                let mend = "give exactly one of `rate`, `every` and `users`";
                self.problem(entry.key_place, "how often it calls is not clear", mend);
                None
            }
        }
    }

    pub(super) fn rate(&mut self, view: View<'_>) -> Option<Vec<(Duration, f64)>> {
        let node = view.node_of("rate")?;
        let points = match &node.value {
            Value::Scalar(text) => return Some(vec![(Duration::ZERO, value::rate(text).ok()?)]),
            Value::List(items) => {
                let section = section_of_points();
                let point = |item| {
                    let point = View::new(item, section);
                    Some((
                        point.duration("at")?,
                        value::rate(point.text("rate")?).ok()?,
                    ))
                };
                items.iter().filter_map(point).collect()
            }
            Value::Map(_) => {
                let file = View::new(node, section_of(&sections::CLIENT, "rate"));
                let path = self.folder.join(file.text("file")?);
                match data::load(&path) {
                    Ok(points) => points,
                    Err(message) => {
                        let mend = "write lines such as `90s,200/s`: times that rise, and rates";
                        self.problem(file.value_place("file"), message, mend);
                        return None;
                    }
                }
            }
            Value::Empty => Vec::new(),
        };
        if points.is_empty() {
            let mend = "write a rate such as `200/s`, or points of it";
            self.problem(node.place, "a rate has at least one point", mend);
            return None;
        }
        if points.windows(2).any(|pair| pair[0].0 > pair[1].0) {
            let mend = "let their times rise; two at one time are a jump";
            self.problem(node.place, "the points go back in time", mend);
            return None;
        }
        Some(points)
    }
}

/// Whether all requests that take a route may be made twice; without a method they are taken for
/// reads. What a client's own key would change is not known here.
fn may_repeat(route: &Route) -> bool {
    let mut methods = route.matching.methods.iter();
    match route.repeat {
        Repeat::Always => true,
        Repeat::Never => false,
        Repeat::Safe => {
            route.make_idempotency_key
                || methods.all(|method| IDEMPOTENT.contains(&method.as_str()))
        }
    }
}

fn section_of_points() -> &'static crate::shape::Section {
    use crate::shape::Kind;
    let rate = sections::CLIENT.key("rate").expect("it is described");
    let Kind::AnyOf(kinds) = &rate.kind else {
        unreachable!("a rate is written in several ways");
    };
    let points = kinds.iter().find_map(|kind| match kind {
        Kind::List(Kind::Part(section)) => Some(section),
        _ => None,
    });
    points.expect("one of them are points")
}

/// RFC 9110, 9.2.2.
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
