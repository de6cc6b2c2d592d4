//! Endpoints with settings of their own: one below the other, each with what holds for it.

use super::{line, settings, shown};
use crate::sections::ENDPOINT;
use crate::shape::{Key, Kind};
use crate::yaml::{Entry, Value};

/// Whether one of them is more than its URL.
pub(super) fn have_settings(entries: &[Entry], key: &Key) -> bool {
    let is_map = |entry: &Entry| matches!(entry.node.value, Value::Map(_));
    let takes_urls = matches!(&key.kind, Kind::AnyOf([Kind::Url, ..]));
    takes_urls && entries.iter().any(is_map)
}

pub(super) fn explain(page: &mut String, entries: &[Entry], depth: usize) {
    for entry in entries {
        let name = &entry.key;
        match &entry.node.value {
            Value::Map(_) => {
                line(page, depth, format_args!("{name}"));
                settings(page, Some(&entry.node), &ENDPOINT, depth + 1);
            }
            _ => line(page, depth, format_args!("{name}: {}", shown(&entry.node))),
        }
    }
}
