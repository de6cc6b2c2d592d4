//! Queues that can work, but are likely not meant so.

use crate::plan::{Plan, Route, Upstream};
use crate::policies::section_of;
use crate::problem::Problem;
use crate::sections::UPSTREAM;
use crate::view::View;

/// Looks at the queues of a file.
pub(super) fn of_queues(file: View<'_>, plan: &Plan, found: &mut Vec<Problem>) {
    for (entry, queue) in file.names("queues").iter().zip(&plan.queues) {
        if queue.upstream.is_none() {
            found.push(Problem::new(
                entry.key_place,
                format!("no upstream has the queue `{}`: what is in it waits", queue.name),
                "name it in an upstream's `fallback: { queue: NAME }`, or remove it once it is empty",
            ));
        }
    }
}

/// Looks at an upstream, if it has a queue, and at the routes to it.
pub(super) fn of_upstream(
    view: View<'_>,
    upstream: &Upstream,
    routes: &[&Route],
    found: &mut Vec<Problem>,
) {
    let fallback = view.part("fallback", section_of(&UPSTREAM, "fallback"));
    let failover = view.part("failover", section_of(&UPSTREAM, "failover"));
    let (part, key) = if upstream.fallback.queue.is_some() {
        (fallback, "queue")
    } else if upstream.hold.is_some() {
        (failover, "hold")
    } else {
        return;
    };
    let safe = ["GET", "HEAD", "OPTIONS", "TRACE"];
    let reads = |route: &&Route| {
        let methods = &route.matching.methods;
        !methods.is_empty() && methods.iter().all(|method| safe.contains(&method.as_str()))
    };
    if !routes.is_empty() && routes.iter().all(reads) {
        found.push(Problem::new(
            part.value_place(key),
            "nothing comes into this queue: its routes only read, and reads are not queued",
            "queue what changes something; `stale` answers reads",
        ));
    }
    if view.node_of("breaker").is_none() {
        found.push(Problem::new(
            part.value_place(key),
            "deliveries lose attempts while the upstream is down: it has no breaker",
            "add `breaker: on`, and they wait until it lets them pass",
        ));
    }
    if upstream.fallback.queue.is_some() && fallback.truth("permanent") == Some(true) {
        found.push(Problem::new(
            fallback.place_of("permanent"),
            "a definite no is never queued: it would be the same the next time",
            "leave `permanent` out, unless it is for the other fallbacks",
        ));
    }
}
