//! Reading values of a section that has been checked.
//!
//! What did not fit has been reported already; reading it gives nothing, as if it were not there.
//! Defaults come from the description, so that what is printed and what holds are one.

use std::time::Duration;

use outlast_core::ratio::Ratio;
use outlast_core::tier::Tier;

use crate::problem::Place;
use crate::shape::{Default, Section};
use crate::value;
use crate::yaml::{Entry, Node, Value};

/// A section of a file, or its defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) node: Option<&'a Node>,
    section: &'static Section,
    place: Place,
}

impl<'a> View<'a> {
    pub(crate) fn new(node: &'a Node, section: &'static Section) -> View<'a> {
        View {
            node: Some(node),
            section,
            place: node.place,
        }
    }

    /// Whether the section may have a key.
    pub(crate) fn describes(&self, key: &str) -> bool {
        self.section.key(key).is_some()
    }

    /// The section under a key; its defaults if it is not there.
    pub(crate) fn part(&self, key: &str, section: &'static Section) -> View<'a> {
        View {
            node: self.node_of(key),
            section,
            place: self.place_of(key),
        }
    }

    /// As [`View::part`], if the key has a mapping.
    pub(crate) fn given_part(&self, key: &str, section: &'static Section) -> Option<View<'a>> {
        let is_map = matches!(self.node_of(key)?.value, Value::Map(_));
        is_map.then(|| self.part(key, section))
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&'a Entry> {
        debug_assert!(self.section.key(key).is_some(), "{key} is described");
        self.node?.entry(key)
    }

    pub(crate) fn node_of(&self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// Where a key is, or its section.
    pub(crate) fn place_of(&self, key: &str) -> Place {
        self.entry(key).map_or(self.place, |entry| entry.key_place)
    }

    /// Where its value is, or its section.
    pub(crate) fn value_place(&self, key: &str) -> Place {
        self.node_of(key).map_or(self.place, |node| node.place)
    }

    /// The single value of a key, or its default.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        match self.node_of(key).map(|node| &node.value) {
            Some(Value::Scalar(text)) => Some(text),
            Some(_) => None,
            None => match self.section.key(key)?.default {
                Default::Is(text) => Some(text),
                Default::Means(_) | Default::Required => None,
            },
        }
    }

    pub(crate) fn duration(&self, key: &str) -> Option<Duration> {
        value::duration(self.text(key)?).ok()
    }

    pub(crate) fn size(&self, key: &str) -> Option<usize> {
        usize::try_from(value::size(self.text(key)?).ok()?).ok()
    }

    pub(crate) fn share(&self, key: &str) -> Option<Ratio> {
        value::share(self.text(key)?).ok()
    }

    pub(crate) fn count(&self, key: &str) -> Option<u32> {
        let number = value::count(self.text(key)?, 0, u64::from(u32::MAX)).ok()?;
        u32::try_from(number).ok()
    }

    pub(crate) fn truth(&self, key: &str) -> Option<bool> {
        value::truth(self.text(key)?).ok()
    }

    pub(crate) fn tier(&self, key: &str) -> Tier {
        let tier = self.text(key).and_then(|name| name.parse().ok());
        tier.unwrap_or_default()
    }

    /// The single values of a list, with their places; a single value is a list of one.
    pub(crate) fn texts(&self, key: &str) -> Vec<(&'a str, Place)> {
        let Some(node) = self.node_of(key) else {
            return Vec::new();
        };
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let text = |node: &'a Node| match &node.value {
            Value::Scalar(text) => Some((text.as_str(), node.place)),
            _ => None,
        };
        items.iter().filter_map(text).collect()
    }

    /// The entries of a mapping with names.
    pub(crate) fn names(&self, key: &str) -> &'a [Entry] {
        match self.node_of(key).map(|node| &node.value) {
            Some(Value::Map(entries)) => entries,
            _ => &[],
        }
    }
}
