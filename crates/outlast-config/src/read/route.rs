//! Which requests go where, and what is promised to them.

use std::time::Duration;

use super::{Reader, is_start_of_path};
use crate::plan::{HeaderMatch, Match, Repeat, Route};
use crate::policies::section_of;
use crate::view::View;
use crate::yaml::{Entry, Value};
use crate::{request, sections};

impl Reader<'_, '_> {
    pub(super) fn route(&mut self, entry: &Entry, deadline: Option<Duration>) -> Option<Route> {
        let view = View::new(&entry.node, &sections::ROUTE);
        let matching = self.matching(view);
        let upstream = self.upstream_named(view, "upstream");
        let rewrite = view.text("rewrite").map(str::to_owned);
        if let Some(rewrite) = &rewrite {
            self.check_rewrite(view, rewrite);
        }
        let deadline = match view.text("deadline") {
            Some(_) => view.duration("deadline"),
            None => deadline,
        };
        self.refuse_zero(view, "deadline");
        Some(Route {
            name: entry.key.clone(),
            matching: matching?,
            upstream: upstream?,
            rewrite,
            deadline,
            tier: view.tier("tier"),
            repeat: match view.text("retry") {
                Some("always") => Repeat::Always,
                Some("never") => Repeat::Never,
                _ => Repeat::Safe,
            },
            make_idempotency_key: view.text("idempotency_key") == Some("make"),
            upgrade: view.truth("upgrade") == Some(true),
            shield: self.shield(view, deadline),
            canary: self.canary(view),
        })
    }

    /// What nobody waits for any more needs an end.
    fn shield(&mut self, view: View<'_>, deadline: Option<Duration>) -> bool {
        let shield = view.truth("shield") == Some(true);
        if shield && deadline.is_none() {
            let mend = "give the route a `deadline`";
            self.problem(
                view.place_of("shield"),
                "a shielded request needs an end",
                mend,
            );
        }
        shield
    }

    fn check_rewrite(&mut self, view: View<'_>, rewrite: &str) {
        if !is_start_of_path(rewrite) {
            let message = format!("`{rewrite}` is no start of a path");
            self.problem(
                view.value_place("rewrite"),
                message,
                "write one such as `/v2`; it replaces the pattern's fixed start",
            );
        }
    }

    fn matching(&mut self, view: View<'_>) -> Option<Match> {
        let section = section_of(&sections::ROUTE, "match");
        let Some(part) = view.given_part("match", section) else {
            return request::pattern(view.text("match")?).ok();
        };
        let mut matching = Match::default();
        for (text, place) in part.texts("method") {
            match request::method(text) {
                Ok(method) => matching.methods.push(method),
                Err(mend) => self.problem(place, format!("`{text}` is no method"), mend),
            }
        }
        match part.text("host").map(request::host).transpose() {
            Ok(host) => matching.host = host,
            Err(mend) => self.problem(part.value_place("host"), "this is no host", mend),
        }
        match part.text("path").map(request::path).transpose() {
            Ok(path) => matching.path = path.unwrap_or_default(),
            Err(mend) => self.problem(part.value_place("path"), "this is no path pattern", mend),
        }
        for entry in part.names("headers") {
            let Value::Scalar(value) = &entry.node.value else {
                continue;
            };
            matching.headers.push(HeaderMatch {
                name: entry.key.to_ascii_lowercase(),
                value: Some(value.clone()).filter(|value| value != "*"),
            });
        }
        Some(matching)
    }
}
