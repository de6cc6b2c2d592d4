//! What waits in queues, and what has become of it.

use super::Page;
use crate::admin::age;
use crate::queues::{Came, Queues, Refused};

pub(super) fn write(page: &mut Page, queues: &Queues) {
    let all: Vec<_> = queues
        .lines
        .iter()
        .map(|line| (line.plan.name.as_str(), &line.counts, line.queue.stats()))
        .collect();
    if all.is_empty() {
        return;
    }
    let help = "requests in a queue: those that wait, those of them under way, and dead letters";
    page.family("outlast_queue_messages", "gauge", help);
    for (queue, _, stats) in &all {
        for (state, count) in [
            ("waiting", stats.waiting),
            ("busy", stats.busy),
            ("dead", stats.dead),
        ] {
            let labels = [("queue", *queue), ("state", state)];
            page.sample("outlast_queue_messages", &labels, count);
        }
    }
    let help = "bytes of the requests in a queue";
    page.family("outlast_queue_bytes", "gauge", help);
    for (queue, _, stats) in &all {
        page.sample("outlast_queue_bytes", &[("queue", queue)], stats.bytes);
    }
    let help = "how long the first of those that wait has been there";
    page.family("outlast_queue_oldest_seconds", "gauge", help);
    for (queue, _, stats) in &all {
        let age = stats.oldest.map_or(0.0, age);
        page.sample("outlast_queue_oldest_seconds", &[("queue", queue)], age);
    }
    let help = "deliveries a second that may begin";
    page.family("outlast_queue_pace", "gauge", help);
    for (queue, _, stats) in &all {
        page.sample("outlast_queue_pace", &[("queue", queue)], stats.pace);
    }
    let help = "requests that came into a queue, were delivered, or became dead letters";
    page.family("outlast_queue_requests_total", "counter", help);
    for (queue, _, stats) in &all {
        let totals = &stats.totals;
        for (what, count) in [
            ("pushed", totals.pushed),
            ("delivered", totals.delivered),
            ("died", totals.died),
        ] {
            let labels = [("queue", *queue), ("what", what)];
            page.sample("outlast_queue_requests_total", &labels, count);
        }
    }
    let help = "deliveries that were tried, by what came of them";
    page.family("outlast_queue_attempts_total", "counter", help);
    for (queue, counts, _) in &all {
        for (came, count) in Came::ALL.into_iter().zip(counts.attempts()) {
            let labels = [("queue", *queue), ("outcome", came.name())];
            page.sample("outlast_queue_attempts_total", &labels, count);
        }
    }
    let help = "requests that were not queued although their upstream has a queue, by reason";
    page.family("outlast_queue_refused_total", "counter", help);
    for (queue, counts, _) in &all {
        for (why, count) in Refused::ALL.into_iter().zip(counts.refusals()) {
            let labels = [("queue", *queue), ("reason", why.name())];
            page.sample("outlast_queue_refused_total", &labels, count);
        }
    }
}
