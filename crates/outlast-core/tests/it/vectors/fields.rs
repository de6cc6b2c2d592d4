//! Reads the JSON of a case so that nothing in it is overlooked.
//!
//! A [`Fields`] is one JSON object. It remembers which of its keys were asked for, and panics when
//! it is dropped with keys that nobody read: a setting, an operation's detail or an expectation
//! that the interpreter does not know fails the case instead of being ignored.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use outlast_core::time::Time;
use serde_json::{Map, Value};

/// One JSON object of a case.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Where it stands, for messages.
    pub place: String,
    map: &'a Map<String, Value>,
    read: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Fields<'a> {
    pub fn new(place: impl Into<String>, value: &'a Value) -> Fields<'a> {
        let place = place.into();
        let Value::Object(map) = value else {
            panic!("{place}: an object was expected, not {value}");
        };
        Fields {
            place,
            map,
            read: RefCell::default(),
        }
    }

    /// The value of `key`; `null` is as good as absent.
    pub fn optional<T: FromValue<'a>>(&self, key: &str) -> Option<T> {
        let (key, value) = self.map.get_key_value(key)?;
        self.read.borrow_mut().insert(key);
        if value.is_null() {
            return None;
        }
        let read = T::from_value(value);
        Some(read.unwrap_or_else(|| panic!("{}: {key} cannot be {value}", self.place)))
    }

    pub fn required<T: FromValue<'a>>(&self, key: &str) -> T {
        let found = self.optional(key);
        found.unwrap_or_else(|| panic!("{}: there is no {key}", self.place))
    }

    /// The object at `key`; something else that is there stays unread.
    pub fn object(&self, key: &str) -> Option<Fields<'a>> {
        let (key, value) = self.map.get_key_value(key)?;
        if !value.is_object() {
            return None;
        }
        self.read.borrow_mut().insert(key);
        Some(Fields::new(format!("{}: {key}", self.place), value))
    }

    /// Reads a key whose value says nothing that a replay could check.
    pub fn skip(&self, key: &str) {
        self.optional::<&Value>(key);
    }

    /// Whether it has `key`, without reading it.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// How often a step is repeated: once, if it does not say.
    pub fn times(&self) -> u64 {
        self.optional("times").unwrap_or(1)
    }

    /// A number of milliseconds.
    pub fn millis(&self, key: &str) -> Duration {
        Duration::from_millis(self.required(key))
    }

    /// When a step happens: at zero, if it does not say.
    pub fn at(&self) -> Time {
        let nanos = self.optional("at_ns").map(Time::from_nanos);
        let millis = self.optional("at_ms").map(Time::from_millis);
        nanos.or(millis).unwrap_or(Time::ZERO)
    }

    /// Compares what was found with what `key` expects, if it expects anything.
    pub fn expect<T>(&self, key: &str, found: T)
    where
        T: FromValue<'a> + PartialEq + std::fmt::Debug,
    {
        if let Some(expected) = self.optional::<T>(key) {
            assert_eq!(found, expected, "{}: {key}", self.place);
        }
    }
}

impl Drop for Fields<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let read = self.read.borrow();
        let unread = self.map.keys().filter(|key| !read.contains(key.as_str()));
        let unread: Vec<_> = unread.collect();
        assert!(
            unread.is_empty(),
            "{}: the interpreter does not know {unread:?}",
            self.place
        );
    }
}

/// What a field can be read as.
pub trait FromValue<'a>: Sized {
    fn from_value(value: &'a Value) -> Option<Self>;
}

impl<'a> FromValue<'a> for &'a Value {
    fn from_value(value: &'a Value) -> Option<Self> {
        Some(value)
    }
}

impl<'a> FromValue<'a> for &'a str {
    fn from_value(value: &'a Value) -> Option<Self> {
        value.as_str()
    }
}

impl FromValue<'_> for String {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl FromValue<'_> for bool {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl FromValue<'_> for u32 {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl FromValue<'_> for u64 {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

impl FromValue<'_> for i64 {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_i64()
    }
}

impl FromValue<'_> for f64 {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_f64()
    }
}

/// A list, or a lone value as a list of one.
impl<'a, T: FromValue<'a>> FromValue<'a> for Vec<T> {
    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(values) => values.iter().map(T::from_value).collect(),
            lone => T::from_value(lone).map(|lone| vec![lone]),
        }
    }
}

/// An entry of a list that may be left open.
impl<'a, T: FromValue<'a>> FromValue<'a> for Option<T> {
    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}
