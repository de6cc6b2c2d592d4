//! Where the endpoints of an upstream come from while the gateway runs, and those it begins with.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::{Reader, given_endpoints};
use crate::members;
use crate::plan::{Dialect, Discovery, Endpoint, Names, Record};
use crate::problem::Place;
use crate::sections::DISCOVER;
use crate::view::View;
use crate::yaml::{Entry, Value};

impl Reader<'_, '_> {
    pub(super) fn discovery(&mut self, view: View<'_>) -> Option<Discovery> {
        let part = view.part("discover", &DISCOVER);
        view.node_of("discover")?;
        let alone = view.text("discover");
        let from = alone.or(part.text("from"))?;
        if view.node_of("failover").is_some() {
            self.problem(
                view.place_of("discover"),
                "`failover` keeps the endpoints it is given, in their order",
                "leave `failover` out, and give endpoints a `priority`",
            );
        }
        let asks = matches!(from, "dns" | "srv");
        for (key, fits) in [("every", asks), ("server", asks), ("path", from == "file")] {
            if alone.is_none() && part.node_of(key).is_some() && !fits {
                let message = format!("`{key}` means nothing with `from: {from}`");
                self.problem(part.place_of(key), message, "leave it out");
            }
        }
        match from {
            "file" => Some(Discovery::File(self.members_file(part)?)),
            "admin" => Some(Discovery::Admin),
            _ => Some(Discovery::Names(self.names(part, from))),
        }
    }

    fn names(&mut self, part: View<'_>, from: &str) -> Names {
        let every = part.duration("every").unwrap_or_default();
        if !EVERY.contains(&every) {
            self.problem(
                part.value_place("every"),
                "names are not looked up that often, or that seldom",
                "write a time from `100ms` to `1h`",
            );
        }
        Names {
            record: match from {
                "srv" => Record::Service,
                _ => Record::Address,
            },
            every,
            server: part.text("server").and_then(|text| text.parse().ok()),
        }
    }

    fn members_file(&mut self, part: View<'_>) -> Option<std::path::PathBuf> {
        let path = self.path(part, "path");
        if path.is_none() {
            self.problem(
                part.place_of("from"),
                "it is not said which file",
                "name it: `{ from: file, path: endpoints.json }`",
            );
        }
        path
    }

    /// The endpoints that an upstream begins with, and whether all of them could be read.
    pub(super) fn first_endpoints(
        &mut self,
        entry: &Entry,
        view: View<'_>,
        discovery: Option<&Discovery>,
    ) -> (Vec<Endpoint>, bool) {
        let from_file = match discovery {
            Some(Discovery::File(path)) => Some(path),
            _ => None,
        };
        if let Some(path) = from_file {
            if view.node_of("endpoints").is_some() {
                self.problem(
                    view.place_of("endpoints"),
                    "the endpoints come from a file",
                    "leave `endpoints` or `discover` out",
                );
            }
            let part = view.part("discover", &DISCOVER);
            let endpoints = self.members_of(path, part.value_place("path"));
            let complete = !endpoints.is_empty();
            return (endpoints, complete);
        }
        if view.node_of("endpoints").is_none() {
            self.problem(
                entry.node.place,
                "an upstream lacks `endpoints`",
                "add `endpoints: ...`: its URL, or several, or names with URLs or with more about each",
            );
        }
        let mut endpoints = self.endpoints(view);
        self.refuse_undiscoverable(view, &endpoints, discovery);
        let listed = matches!(
            view.node_of("endpoints").map(|node| &node.value),
            Some(Value::List(_))
        );
        if listed && discovery == Some(&Discovery::Admin) {
            // As lists that are told later, so that who is in both stays.
            for endpoint in &mut endpoints {
                endpoint.name = members::authority(endpoint);
            }
        }
        let endpoints = self.in_order(view, endpoints);
        let complete = endpoints.len() == given_endpoints(view);
        (endpoints, complete)
    }

    fn members_of(&mut self, path: &Path, place: Place) -> Vec<Endpoint> {
        let mend = "write it first: a JSON list of URLs, or an object from names to URLs";
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("{} cannot be read: {error}", path.display());
                self.problem(place, message, mend);
                return Vec::new();
            }
        };
        match members::endpoints(&path.display().to_string(), &text) {
            Ok(endpoints) => endpoints,
            Err(problems) => {
                let first = &problems.findings()[0];
                let (file, line) = (path.display(), first.place().line);
                let message = format!("{file}, line {line}: {}", first.message());
                self.problem(place, message, first.mend());
                Vec::new()
            }
        }
    }

    /// What cannot be looked up, and what those that are told later could not have.
    fn refuse_undiscoverable(
        &mut self,
        view: View<'_>,
        endpoints: &[Endpoint],
        discovery: Option<&Discovery>,
    ) {
        let is_address = |one: &&Endpoint| {
            let host = one.host.trim_matches(['[', ']']);
            host.parse::<IpAddr>().is_ok()
        };
        let differs = |one: &&Endpoint| one.dialect != Dialect::default();
        let found = match discovery {
            Some(Discovery::Names(_)) => endpoints.iter().find(is_address).map(|one| {
                let message = format!("{} is an address already", one.host);
                (message, "write the host's name, or leave `discover` out")
            }),
            Some(Discovery::Admin) => endpoints.iter().find(differs).map(|one| {
                let message = format!("`{}` is spoken to in a way of its own, and those that are told later cannot be", one.name);
                (message, "leave its `rewrite`, `headers`, `outcomes` and `statuses` out, or `discover`")
            }),
            Some(Discovery::File(_)) | None => None,
        };
        if let Some((message, mend)) = found {
            self.problem(view.value_place("endpoints"), message, mend);
        }
    }
}

const EVERY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
