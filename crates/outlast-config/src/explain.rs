//! The policies that hold, in the order in which a call meets them.

mod canary;
mod endpoint;
mod queue;
mod saga;
mod store;

use std::error::Error;
use std::fmt;
use std::fmt::Write;

use crate::Loaded;
use crate::plan::{Host, Match, Route, Segment};
use crate::problem::did_you_mean;
use crate::sections;
use crate::shape::{Default, Key, Kind, Section};
use crate::yaml::{Entry, Node, Value};

/// There is no upstream of that name in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownUpstream {
    name: String,
    known: Vec<String>,
}

impl fmt::Display for UnknownUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no upstream `{}`; ", self.name)?;
        match did_you_mean(&self.name, self.known.iter().map(String::as_str)) {
            Some(word) => write!(f, "did you mean `{word}`?"),
            None => write!(f, "the file has: {}", self.known.join(", ")),
        }
    }
}

impl Error for UnknownUpstream {}

pub(crate) fn explain(loaded: &Loaded, upstream: Option<&str>) -> Result<String, UnknownUpstream> {
    let entries = match loaded
        .root
        .entry("upstreams")
        .map(|entry| &entry.node.value)
    {
        Some(Value::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    let mut page = String::new();
    match upstream {
        Some(name) => {
            let entry = entries.iter().find(|entry| entry.key == name);
            let known = || entries.iter().map(|entry| entry.key.clone()).collect();
            let entry = entry.ok_or_else(|| UnknownUpstream {
                name: name.to_owned(),
                known: known(),
            })?;
            explain_upstream(&mut page, loaded, entry);
            for queue in &loaded.plan.queues {
                if queue.upstream.as_deref() == Some(name) {
                    page.push('\n');
                    queue::explain(&mut page, loaded, queue);
                }
            }
        }
        None => {
            page.push_str("gateway\n");
            let gateway = loaded.root.entry("gateway").map(|entry| &entry.node);
            settings(&mut page, gateway, &sections::GATEWAY, 1);
            page.push_str("\nhealth\n");
            let health = loaded.root.entry("health").map(|entry| &entry.node);
            settings(&mut page, health, &sections::HEALTH, 1);
            if let Some(store) = loaded.root.entry("store") {
                page.push_str("\nstore\n");
                store::explain(&mut page, &store.node);
            }
            for entry in entries {
                page.push('\n');
                explain_upstream(&mut page, loaded, entry);
            }
            if let Some(sagas) = &loaded.plan.sagas {
                page.push('\n');
                saga::explain(&mut page, loaded, sagas);
            }
            if let Some(degrade) = &loaded.plan.degrade {
                page.push('\n');
                crate::degrade::explain(&mut page, loaded, degrade);
            }
            for queue in &loaded.plan.queues {
                page.push('\n');
                queue::explain(&mut page, loaded, queue);
            }
        }
    }
    Ok(page)
}

/// The order in which a call meets its policies.
const ORDER: [(&str, &[&str]); 3] = [
    (
        "call",
        &[
            "deadline", "throttle", "shed", "rate", "retry", "hedge", "failover", "fallback",
        ],
    ),
    (
        "attempt",
        &[
            "budget",
            "endpoints",
            "discover",
            "balance",
            "check",
            "eject",
            "exclusive",
            "breaker",
            "bulkhead",
            "timeout",
            "fault",
        ],
    ),
    (
        "connection",
        &[
            "protocol",
            "tls",
            "pool",
            "connect_timeout",
            "target_utilisation",
            "replay",
            "idempotency_key",
            "outcomes",
            "enforce_deadline",
        ],
    ),
];

fn explain_upstream(page: &mut String, loaded: &Loaded, entry: &Entry) {
    line(page, 0, format_args!("upstream {}", entry.key));
    let mut upstreams = loaded.plan.upstreams.iter();
    let at = upstreams.position(|upstream| upstream.name == entry.key);
    let at = at.expect("every upstream of a good file is in its plan");
    for route in &loaded.plan.routes {
        canary::explain_route(page, loaded, route, at);
    }
    for (stage, keys) in ORDER {
        line(page, 1, format_args!("{stage}"));
        for name in keys {
            let key = sections::UPSTREAM
                .key(name)
                .expect("the order names keys that are described");
            let given = entry.node.entry(name).map(|entry| &entry.node);
            setting(page, given, key, 2);
        }
    }
}

fn described(route: &Route) -> String {
    let deadline = route.deadline.map_or("no deadline".to_owned(), |deadline| {
        format!("deadline {deadline:?}")
    });
    format!(
        "route {}: {}, {deadline}, tier {}",
        route.name,
        pattern(&route.matching),
        route.tier.name()
    )
}

fn pattern(matching: &Match) -> String {
    let methods = matching.methods.join(",");
    let host = match &matching.host {
        None => String::new(),
        Some(Host::Is(host)) => host.clone(),
        Some(Host::Below(suffix)) => format!("*.{suffix}"),
    };
    let segments = matching.path.segments.iter().map(|segment| match segment {
        Segment::Is(text) => format!("/{text}"),
        Segment::Any => "/*".to_owned(),
    });
    let mut path: String = segments.collect();
    if matching.path.open {
        path.push_str("/**");
    }
    if path.is_empty() {
        path.push('/');
    }
    let space = if methods.is_empty() { "" } else { " " };
    format!("{methods}{space}{host}{path}")
}

fn settings(page: &mut String, node: Option<&Node>, section: &Section, depth: usize) {
    for key in section.keys {
        let given = node
            .and_then(|node| node.entry(key.name))
            .map(|entry| &entry.node);
        setting(page, given, key, depth);
    }
}

pub(crate) fn setting(page: &mut String, given: Option<&Node>, key: &Key, depth: usize) {
    let name = key.name;
    match (given, key.default) {
        (None, Default::Is(value)) => line(page, depth, format_args!("{name}: {value} (default)")),
        (None, Default::Means(meaning)) => {
            line(page, depth, format_args!("{name}: {meaning} (default)"))
        }
        (None, Default::Required) => {}
        (Some(node), _) => match (&node.value, part_of(&key.kind)) {
            (Value::Map(_) | Value::Empty, Some(section)) => {
                line(page, depth, format_args!("{name}"));
                settings(page, Some(node), section, depth + 1);
            }
            (Value::Map(entries), None) if endpoint::have_settings(entries, key) => {
                line(page, depth, format_args!("{name}"));
                endpoint::explain(page, entries, depth + 1);
            }
            _ => line(page, depth, format_args!("{name}: {}", shown(node))),
        },
    }
}

fn part_of(kind: &Kind) -> Option<&'static Section> {
    match kind {
        Kind::Part(section) => Some(section),
        Kind::AnyOf(kinds) => kinds.iter().find_map(part_of),
        _ => None,
    }
}

fn shown(node: &Node) -> String {
    match &node.value {
        Value::Empty => "(empty)".to_owned(),
        Value::Scalar(text) => text.clone(),
        Value::List(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Map(entries) => {
            let entry = |entry: &Entry| format!("{} {}", entry.key, shown(&entry.node));
            entries.iter().map(entry).collect::<Vec<_>>().join(", ")
        }
    }
}

pub(crate) fn line(page: &mut String, depth: usize, text: fmt::Arguments<'_>) {
    let indent = "  ".repeat(depth);
    writeln!(page, "{indent}{text}").expect("a string takes everything");
}
