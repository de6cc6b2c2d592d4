//! The request that asks whether a step was done.

use outlast_core::backoff::Backoff;

use super::super::Reader;
use super::request::{Scope, statuses};
use super::{sagas, steps};
use crate::plan::{SagaFinds, SagaFound, SagaQuery, SagaUnknown, Upstream};
use crate::sections::{QUERY, QUERY_RETRY, SAGAS, STEP};
use crate::view::View;

impl Reader<'_, '_> {
    /// What is done when nobody knows whether a step was done; `None` if that has been reported.
    pub(super) fn on_unknown(
        &mut self,
        step: View<'_>,
        upstream: Option<usize>,
        scope: &Scope<'_>,
        tries: (u32, Backoff),
    ) -> Option<SagaUnknown> {
        let part = step.given_part("query", &QUERY);
        let word = step.text("on_unknown")?;
        let Some(part) = part else {
            return match word {
                "query" => {
                    let mend = "add `query: { request: GET /path }`";
                    let place = step.value_place("on_unknown");
                    self.problem(place, "it is not said whom to ask", mend);
                    None
                }
                "compensate" => Some(SagaUnknown::Compensate),
                _ => Some(SagaUnknown::Retry),
            };
        };
        if word != "query" {
            let mend = "write `on_unknown: query`, or leave `query` out";
            self.problem(step.place_of("query"), "nobody is ever asked this", mend);
        }
        let upstream = match part.node_of("upstream") {
            Some(_) => self.upstream_named(part, "upstream"),
            None => upstream,
        };
        let usual = (Some(tries.0), tries.1);
        let request = self.saga_request(part, upstream, scope, (&QUERY_RETRY, usual))?;
        if !["GET", "HEAD"].contains(&request.method.as_str()) {
            self.problem(
                part.value_place("request"),
                format!("a question changes nothing, and `{}` may", request.method),
                "ask with `GET` or `HEAD`",
            );
        }
        let means = |word: &str| match word {
            "done" => Some(SagaFound::Done),
            "not_done" => Some(SagaFound::NotDone),
            "unknown" => Some(SagaFound::Unknown),
            _ => None,
        };
        let outcomes = statuses(part, means).into_iter();
        let outcomes = outcomes.map(|(from, to, means)| SagaFinds { from, to, means });
        let outcomes = outcomes.collect();
        let query = SagaQuery { request, outcomes };
        Some(SagaUnknown::Query(Box::new(query)))
    }

    /// One provider does not know what another one did.
    pub(crate) fn refuse_split_queries(&mut self, upstreams: &[Upstream], file: View<'_>) {
        if file.entry("sagas").is_none() {
            return;
        }
        for (_, saga) in sagas(file.part("sagas", &SAGAS)) {
            for node in steps(saga).into_iter().flatten() {
                let step = View::new(node, &STEP);
                let Some(part) = step.given_part("query", &QUERY) else {
                    continue;
                };
                let name = part.text("upstream").or_else(|| step.text("upstream"));
                let mut all = upstreams.iter();
                let asked = all.find(|upstream| Some(upstream.name.as_str()) == name);
                if asked.is_some_and(|asked| asked.exclusive.is_some()) {
                    self.problem(
                        step.place_of("query"),
                        "another provider could answer than the one that was asked to do it",
                        "ask an upstream that knows of all of them, or leave `query` out",
                    );
                }
            }
        }
    }
}
