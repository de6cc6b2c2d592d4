//! Services, laws and how replicas come back.

use std::time::Duration;

use super::bind::{Binder, texts};
use super::{Calls, Gone, Law, Liveness, Refusal, Service, Warms, data};
use crate::policies::section_of;
use crate::sections;
use crate::value;
use crate::view::View;
use crate::yaml::{Entry, Node, Value};

impl Binder<'_> {
    /// In the order of the file; replicas that are not given are 0 until it is known where
    /// endpoints lead.
    pub(super) fn services(&mut self) -> Vec<Service> {
        let entries = self.view.names("services");
        if entries.is_empty() {
            let mend = "add one with the name of an upstream, such as `db: { work: 5ms }`";
            self.problem(self.view.place_of("services"), "there is no service", mend);
        }
        entries
            .iter()
            .map(|entry| self.one_service(entry))
            .collect()
    }

    fn one_service(&mut self, entry: &Entry) -> Service {
        let view = View::new(&entry.node, &sections::SERVICE);
        let refusal = view.part("refusal", section_of(&sections::SERVICE, "refusal"));
        let liveness = view.given_part("liveness", &sections::LIVENESS);
        Service {
            name: entry.key.clone(),
            work: self.law(view, "work"),
            workers: view.count("workers"),
            queue: view.count("queue"),
            lifo: view.text("order") == Some("lifo"),
            replicas: view.count("replicas").unwrap_or(0),
            failures: view.share("failures").map_or(0.0, |share| share.as_f64()),
            declines: view.share("declines").map_or(0.0, |share| share.as_f64()),
            lost: view.share("lost").map_or(0.0, |share| share.as_f64()),
            idempotent: view.truth("idempotent").unwrap_or(true),
            gone: match view.text("gone") {
                Some("skips") => Gone::Skips,
                Some("stops") => Gone::Stops,
                _ => Gone::WorksOn,
            },
            refusal: match (view.text("refusal"), refusal.duration("after")) {
                (_, Some(after)) => Refusal::ComeBack {
                    after,
                    spread: refusal.duration("spread").unwrap_or_default(),
                },
                (Some("overload"), None) => Refusal::Overload,
                _ => Refusal::Unsent,
            },
            calls: self.calls(view),
            zones: view
                .texts("zones")
                .iter()
                .map(|(zone, _)| (*zone).to_owned())
                .collect(),
            ready_with: self.services_named(view, "ready_with"),
            liveness: liveness.map(|part| self.liveness(part)),
        }
    }

    fn calls(&mut self, view: View<'_>) -> Vec<Calls> {
        let Some(node) = view.node_of("calls") else {
            return Vec::new();
        };
        let Value::Map(entries) = &node.value else {
            let steps = self.steps(node);
            return vec![Calls {
                through: None,
                steps,
            }];
        };
        let mut calls = Vec::new();
        for entry in entries {
            let through = self.upstream(&entry.key, entry.key_place);
            let steps = self.steps(&entry.node);
            if through.is_some() {
                calls.push(Calls { through, steps });
            }
        }
        calls
    }

    fn steps(&mut self, node: &Node) -> Vec<Vec<usize>> {
        let Value::List(items) = &node.value else {
            return Vec::new();
        };
        let mut calls = Vec::new();
        for item in items {
            let at_once: Vec<usize> = texts(item)
                .into_iter()
                .filter_map(|(name, place)| self.upstream(name, place))
                .collect();
            if texts(item).is_empty() {
                let mend = "leave it out, or name an upstream";
                self.problem(item.place, "nothing is called here", mend);
            }
            calls.push(at_once);
        }
        calls
    }

    fn services_named(&mut self, view: View<'_>, key: &str) -> Vec<usize> {
        let named = view.texts(key).into_iter();
        named
            .filter_map(|(name, place)| self.service(name, place))
            .collect()
    }

    fn liveness(&mut self, view: View<'_>) -> Liveness {
        let every = view.duration("every").unwrap_or_default();
        if every < Duration::from_millis(1) {
            let mend = "write at least `1ms`";
            self.problem(view.value_place("every"), "nobody asks that often", mend);
        }
        Liveness {
            needs: self.services_named(view, "needs"),
            every,
            failures: view.count("failures").unwrap_or(3),
            restart: view.duration("restart").unwrap_or_default(),
            warms: self.warms(view),
        }
    }

    pub(super) fn warms(&mut self, view: View<'_>) -> Option<Warms> {
        let part = view.given_part("warms", &sections::WARMS)?;
        let from = part.share("from")?.as_f64();
        if from < 0.01 {
            let mend = "write a share from `1%` on";
            self.problem(
                part.value_place("from"),
                "what stands still does not warm up",
                mend,
            );
        }
        let over = part.duration("over")?;
        Some(Warms { from, over })
    }

    pub(super) fn law(&mut self, view: View<'_>, key: &str) -> Law {
        let never = Law::Fixed(Duration::ZERO);
        let Some(part) = view.given_part(key, &sections::LAW) else {
            return view.duration(key).map_or(never, Law::Fixed);
        };
        let given: Vec<_> = KINDS
            .into_iter()
            .filter(|kind| part.node_of(kind).is_some())
            .collect();
        let [kind] = given[..] else {
            let kinds = KINDS.map(|kind| format!("`{kind}`")).join(", ");
            let mend = format!("give exactly one of {kinds}, or a duration");
            self.problem(view.place_of(key), "a duration follows one law", mend);
            return never;
        };
        let inner = || part.part(kind, section_of(&sections::LAW, kind));
        let read = match kind {
            "exponential" => part.duration(kind).map(Law::Exponential),
            "uniform" => inner()
                .duration("from")
                .zip(inner().duration("to"))
                .map(|(from, to)| Law::Uniform(from, to)),
            "lognormal" => inner()
                .duration("median")
                .zip(inner().text("sigma").and_then(value::decimal))
                .map(|(median, sigma)| Law::Lognormal { median, sigma }),
            "two_kinds" => two_kinds(inner()),
            _ => self.measured(part),
        };
        if let Some(Law::Uniform(from, to)) = &read
            && from > to
        {
            let mend = "let `from` be the shorter one";
            self.problem(part.value_place(kind), "there is nothing in between", mend);
        }
        read.unwrap_or(never)
    }

    fn measured(&mut self, view: View<'_>) -> Option<Law> {
        let path = self.folder.join(view.text("measured")?);
        match data::histogram(&path) {
            Ok(counts) => Some(Law::Measured(counts)),
            Err(message) => {
                let mend = "write lines such as `12ms,340`: upper bounds that rise, and counts";
                self.problem(view.value_place("measured"), message, mend);
                None
            }
        }
    }
}

fn two_kinds(view: View<'_>) -> Option<Law> {
    Some(Law::TwoKinds {
        share: view.share("share")?.as_f64(),
        first: view.duration("first")?,
        second: view.duration("second")?,
    })
}

const KINDS: [&str; 5] = [
    "exponential",
    "uniform",
    "lognormal",
    "two_kinds",
    "measured",
];
