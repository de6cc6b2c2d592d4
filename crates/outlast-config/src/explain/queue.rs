//! What a queue keeps, and how it delivers.

use super::{line, settings};
use crate::Loaded;
use crate::plan::Queue;
use crate::sections::QUEUE;
use crate::yaml::Value;

pub(super) fn explain(page: &mut String, loaded: &Loaded, queue: &Queue) {
    let upstream = queue.upstream.as_deref();
    line(page, 0, format_args!("queue {}", queue.name));
    line(
        page,
        1,
        format_args!("delivers to: {}", upstream.unwrap_or("nobody")),
    );
    let entries = match loaded.root.entry("queues").map(|entry| &entry.node.value) {
        Some(Value::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    let entry = entries.iter().find(|entry| entry.key == queue.name);
    settings(page, entry.map(|entry| &entry.node), &QUEUE, 1);
}
