//! The endpoints of an upstream: their addresses, how each is spoken to, and whether they are
//! providers of which only one may do a piece of work.

use std::time::Duration;

use super::{Reader, hash_of, is_start_of_path, outcomes};
use crate::plan::{Dialect, Endpoint, Exclusive, Rewrite, Secret, Setting, StatusChange, Upstream};
use crate::policies::section_of;
use crate::problem::Problem;
use crate::sections::{self, ENDPOINT, EXCLUSIVE, SECRET, UPSTREAM};
use crate::view::View;
use crate::yaml::{Entry, Node, Value};
use crate::{members, request, shape, value};

impl Reader<'_, '_> {
    pub(super) fn endpoints(&mut self, view: View<'_>) -> Vec<Endpoint> {
        let Some(node) = view.node_of("endpoints") else {
            return Vec::new();
        };
        let named: Vec<(String, &Node)> = match &node.value {
            Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), &entry.node))
                .collect(),
            Value::List(items) if items.len() > 1 => items
                .iter()
                .enumerate()
                .map(|(at, node)| (format!("{}", at + 1), node))
                .collect(),
            Value::List(items) => items.iter().map(|node| ("main".to_owned(), node)).collect(),
            _ => vec![("main".to_owned(), node)],
        };
        let key = view.text("idempotency_key").unwrap_or_default();
        let endpoints = named.into_iter();
        endpoints
            .filter_map(|(name, node)| match &node.value {
                Value::Scalar(url) => request::endpoint(&name, url).ok(),
                Value::Map(_) => {
                    let view = View::new(node, &ENDPOINT);
                    let dialect = self.dialect(view, key);
                    let endpoint = request::endpoint(&name, view.text("url")?).ok()?;
                    Some(Endpoint {
                        dialect,
                        ..members::placed(view, endpoint)
                    })
                }
                Value::Empty | Value::List(_) => None,
            })
            .collect()
    }

    fn dialect(&mut self, view: View<'_>, key: &str) -> Dialect {
        let section = section_of(&ENDPOINT, "headers");
        let headers = view.part("headers", section);
        let set = headers.names("set").iter();
        let set = set.filter_map(|entry| self.field(entry, key)).collect();
        let mut remove = Vec::new();
        for (name, place) in headers.texts("remove") {
            let lower = name.to_ascii_lowercase();
            if let Some((message, mend)) = refused_field(&lower, key) {
                self.problem(place, message, mend);
            } else {
                remove.push(lower);
            }
        }
        Dialect {
            rewrite: self.endpoint_rewrite(view),
            set,
            remove,
            outcomes: outcomes(view),
            statuses: self.statuses(view),
        }
    }

    fn endpoint_rewrite(&mut self, view: View<'_>) -> Option<Rewrite> {
        let Some(part) = view.given_part("rewrite", section_of(&ENDPOINT, "rewrite")) else {
            let whole = view.text("rewrite")?;
            self.check_path(view, "rewrite", whole);
            return Some(Rewrite::Whole(whole.to_owned()));
        };
        let (from, to) = (part.text("from")?, part.text("to")?);
        self.check_path(part, "from", from);
        self.check_path(part, "to", to);
        Some(Rewrite::Start {
            from: from.trim_end_matches('/').to_owned(),
            to: to.trim_end_matches('/').to_owned(),
        })
    }

    fn check_path(&mut self, view: View<'_>, key: &str, path: &str) {
        if !is_start_of_path(path) {
            let message = format!("`{path}` is no path");
            let mend = "write one such as `/v2`, without a query";
            self.problem(view.value_place(key), message, mend);
        }
    }

    fn field(&mut self, entry: &Entry, key: &str) -> Option<(String, Setting)> {
        let name = entry.key.to_ascii_lowercase();
        if let Some((message, mend)) = refused_field(&name, key) {
            self.problem(entry.key_place, message, mend);
        }
        let setting = match &entry.node.value {
            Value::Scalar(text) => {
                if !request::is_header_value(text) {
                    self.problem(
                        entry.node.place,
                        "this is no value of a header",
                        "write plain text on one line",
                    );
                }
                Setting::Plain(text.clone())
            }
            _ => Setting::Kept(self.secret(View::new(&entry.node, &SECRET))?),
        };
        Some((name, setting))
    }

    fn statuses(&mut self, view: View<'_>) -> Vec<StatusChange> {
        let mut changes = Vec::new();
        for entry in view.names("statuses") {
            let (Some((from, to)), Value::Scalar(seen)) =
                (shape::statuses(&entry.key), &entry.node.value)
            else {
                continue;
            };
            if from < 200 {
                self.problem(
                    entry.key_place,
                    "a status below 200 is no answer yet",
                    "map statuses from `200` on",
                );
            }
            let Ok(seen) = value::count(seen, 200, 599) else {
                continue;
            };
            if [204, 205, 304].contains(&seen) {
                self.problem(
                    entry.node.place,
                    format!("an answer with {seen} has no body, and this one may have"),
                    "write a status that may have one, such as `200`",
                );
            }
            let seen = u16::try_from(seen).unwrap_or(599);
            changes.push(StatusChange { from, to, seen });
        }
        // The narrowest range counts.
        changes.sort_by_key(|change| change.to - change.from);
        changes
    }

    pub(super) fn exclusive(&mut self, view: View<'_>) -> Option<Exclusive> {
        let given = view.given_part("exclusive", &EXCLUSIVE);
        if given.is_none() && view.truth("exclusive") != Some(true) {
            return None;
        }
        let place = view.place_of("exclusive");
        if view.node_of("failover").is_none() {
            let mend = "give the providers in order: `failover: [FIRST, SECOND]`";
            self.problem(place, "`exclusive` needs an order of providers", mend);
        }
        if view.node_of("hedge").is_some() {
            self.problem(
                view.place_of("hedge"),
                "a hedge would do at a second provider what the first may be doing",
                "leave `hedge` or `exclusive` out",
            );
        }
        let fallback = view.part("fallback", section_of(&UPSTREAM, "fallback"));
        if fallback.node_of("upstream").is_some() {
            self.problem(
                fallback.place_of("upstream"),
                "an upstream that answers instead would be another provider, unknown to the journal",
                "make it an endpoint of this upstream, or leave `exclusive` out",
            );
        }
        let part = view.part("exclusive", &EXCLUSIVE);
        if part.duration("keep") == Some(Duration::ZERO) {
            self.problem(
                part.value_place("keep"),
                "no key would be remembered",
                "write how long clients may repeat a request, such as `24h`",
            );
        }
        Some(Exclusive {
            journal: self.path(part, "journal"),
            keep: part.duration("keep").unwrap_or_default(),
            keys: part.count("keys").unwrap_or_default() as usize,
        })
    }

    /// What only the whole file can tell: two upstreams with one journal, and routes with two
    /// versions of which one is exclusive.
    pub(super) fn refuse_second_providers(&mut self, upstreams: &[Upstream], file: View<'_>) {
        let entries = file.names("upstreams");
        for (at, entry) in entries.iter().enumerate() {
            let journal = journal_of(&upstreams[at]);
            let other = upstreams[..at].iter();
            let other = other.rev().find(|other| journal_of(other) == journal);
            if let Some(other) = other.filter(|_| journal.is_some()) {
                let view = View::new(&entry.node, &UPSTREAM).part("exclusive", &EXCLUSIVE);
                let message = format!("`{}` writes this journal already", other.name);
                let place = view.value_place("journal");
                self.problem(place, message, "give each upstream a journal of its own");
            }
        }
        let is_exclusive = |name: Option<&str>| {
            let mut all = upstreams.iter();
            all.any(|upstream| Some(upstream.name.as_str()) == name && upstream.exclusive.is_some())
        };
        for entry in file.names("routes") {
            let route = View::new(&entry.node, &sections::ROUTE);
            let Some(canary) = route.given_part("canary", &sections::CANARY) else {
                continue;
            };
            if is_exclusive(route.text("upstream")) || is_exclusive(canary.text("upstream")) {
                self.problems.push(Problem::new(
                    route.place_of("canary"),
                    "a key could be served by both versions, and `exclusive` knows of one",
                    "leave `canary` out, or `exclusive`",
                ));
            }
        }
    }
}

fn journal_of(upstream: &Upstream) -> Option<&std::path::Path> {
    upstream.exclusive.as_ref()?.journal.as_deref()
}

/// Why an endpoint may not change this field.
fn refused_field(name: &str, key: &str) -> Option<(String, &'static str)> {
    if !request::is_header_name(name) {
        let message = format!("`{name}` is no header name");
        return Some((message, "write one such as `X-Tenant`"));
    }
    if FRAMING.contains(&name) {
        let message = format!("`{name}` is about the connection, which is the gateway's");
        return Some((message, "leave it out"));
    }
    if name.eq_ignore_ascii_case(key) {
        let message = format!("without the request's own `{name}` nobody recognises a repetition");
        return Some((message, "leave it out; it is passed on as it is"));
    }
    None
}

/// What the files of header values hold: a new secret makes it another upstream.
pub(super) fn contents(endpoints: &[Endpoint]) -> String {
    let settings = endpoints.iter().flat_map(|endpoint| &endpoint.dialect.set);
    let hashes: Vec<_> = settings
        .filter_map(|(_, setting)| match setting {
            Setting::Kept(Secret::File(path)) => Some(hash_of(path)),
            Setting::Kept(Secret::Environment(_)) | Setting::Plain(_) => None,
        })
        .collect();
    hashes.join(" ")
}

const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
