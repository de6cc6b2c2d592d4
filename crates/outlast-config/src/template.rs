//! Texts and JSON with places for what a saga knows: `{{ input.item }}`, `{{ steps.charge.output.id }}`,
//! `{{ saga.id }}`.
//!
//! A place is a name and the keys below it; there is nothing else: no conditions, no functions. A value
//! that is not there is an error and never an empty text, unless its place ends with `?`. A text that is
//! one place and nothing else is the value itself, with its type.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

/// A text with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Plain(String),
    Place(Path),
}

/// What stands between the braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) root: Root,
    keys: Vec<String>,
    /// Whether it may lack.
    pub(crate) optional: bool,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    Input,
    Output(String),
    Id,
}

/// JSON with places.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// A number, a truth or nothing.
    Plain(Value),
    /// A text, or the value of its only place.
    Text(Text),
    /// A list.
    List(Vec<Json>),
    /// A mapping.
    Map(Vec<(String, Json)>),
}

/// What a saga knows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its id.
    pub saga: String,
    /// What it began with.
    pub input: Value,
    /// What its steps gave, as far as that is known.
    pub outputs: BTreeMap<String, Value>,
}

/// Why a template cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfilled(String);

impl fmt::Display for Unfilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfilled {}

impl Text {
    /// Reads one.
    ///
    /// # Errors
    /// What cannot be a place, and how to write one.
    pub(crate) fn read(text: &str) -> Result<Text, (String, String)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(Part::Plain(before.to_owned()));
            }
            let Some((inside, after)) = after.split_once("}}") else {
                let mend = "close it with `}}`".to_owned();
                return Err(("a place is not closed".to_owned(), mend));
            };
            parts.push(Part::Place(Path::read(inside.trim())?));
            rest = after;
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(Part::Plain(rest.to_owned()));
        }
        Ok(Text(parts))
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|part| match part {
            Part::Place(path) => Some(path),
            Part::Plain(_) => None,
        })
    }

    /// What is written as it is.
    pub(crate) fn plain(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Plain(text) => Some(text.as_str()),
            Part::Place(_) => None,
        })
    }

    /// Whether it is the same for all sagas.
    pub fn is_fixed(&self) -> bool {
        self.places().next().is_none()
    }

    /// The text, with what is put into it changed by `escape`.
    ///
    /// # Errors
    /// If a value lacks, or is a list or a mapping.
    pub fn fill(&self, known: &Known, escape: impl Fn(&str) -> String) -> Result<String, Unfilled> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Plain(text) => filled.push_str(text),
                Part::Place(path) => match path.value(known)? {
                    Value::Null if path.optional => {}
                    Value::String(text) => filled.push_str(&escape(&text)),
                    value @ (Value::Number(_) | Value::Bool(_)) => {
                        filled.push_str(&escape(&value.to_string()));
                    }
                    Value::Null | Value::Array(_) | Value::Object(_) => {
                        let message = format!("`{}` is no text, number or truth", path.text);
                        return Err(Unfilled(message));
                    }
                },
            }
        }
        Ok(filled)
    }

    fn value(&self, known: &Known) -> Result<Value, Unfilled> {
        match self.0.as_slice() {
            [Part::Place(path)] => path.value(known),
            _ => self.fill(known, str::to_owned).map(Value::String),
        }
    }
}

impl Json {
    /// The value.
    ///
    /// # Errors
    /// If a value lacks, or is a list or a mapping inside a text.
    pub fn fill(&self, known: &Known) -> Result<Value, Unfilled> {
        match self {
            Json::Plain(value) => Ok(value.clone()),
            Json::Text(text) => text.value(known),
            Json::List(items) => {
                let items = items.iter().map(|item| item.fill(known));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            Json::Map(entries) => {
                let entry = |(key, item): &(String, Json)| Ok((key.clone(), item.fill(known)?));
                let entries = entries.iter().map(entry);
                entries.collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
        }
    }
}

impl Path {
    fn read(text: &str) -> Result<Path, (String, String)> {
        let refuse = |mend: &str| {
            let message = format!("`{{{{ {text} }}}}` is no place");
            Err((message, mend.to_owned()))
        };
        let (names, optional) = match text.strip_suffix('?') {
            Some(names) => (names, true),
            None => (text, false),
        };
        let mut names = names.split('.').map(str::to_owned);
        let fine = |name: &String| {
            let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !name.is_empty() && name.bytes().all(fine)
        };
        if !names.clone().all(|name| fine(&name)) {
            return refuse("write names with points between them, such as `{{ input.item }}`");
        }
        let root = match names.next().as_deref() {
            Some("input") => Root::Input,
            Some("saga") => match names.next().as_deref() {
                Some("id") => Root::Id,
                _ => return refuse("write `{{ saga.id }}`"),
            },
            Some("steps") => match (names.next(), names.next().as_deref()) {
                (Some(step), Some("output")) => Root::Output(step),
                _ => return refuse("write `{{ steps.NAME.output }}`, and keys behind it"),
            },
            _ => {
                return refuse(
                    "begin with `input`, `steps.NAME.output` or `saga.id`: nothing else is known",
                );
            }
        };
        Ok(Path {
            root,
            keys: names.collect(),
            optional,
            text: text.to_owned(),
        })
    }

    fn value(&self, known: &Known) -> Result<Value, Unfilled> {
        let id = Value::String(known.saga.clone());
        let root = match &self.root {
            Root::Input => Some(&known.input),
            Root::Id => Some(&id),
            Root::Output(step) => known.outputs.get(step),
        };
        let key = |value: &Value, key: &String| match value {
            Value::Object(map) => map.get(key).cloned(),
            Value::Array(items) => items.get(key.parse::<usize>().ok()?).cloned(),
            _ => None,
        };
        let found = root.cloned().and_then(|root| {
            self.keys
                .iter()
                .try_fold(root, |value, name| key(&value, name))
        });
        match found {
            Some(value) => Ok(value),
            None if self.optional => Ok(Value::Null),
            None => Err(Unfilled(format!("there is no `{}`", self.text))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known() -> Known {
        Known {
            saga: "order-1".to_owned(),
            input: json!({ "item": "a book", "count": 2, "tags": ["a", "b"], "none": null }),
            outputs: BTreeMap::from([("charge".to_owned(), json!({ "id": "p/1" }))]),
        }
    }

    #[test]
    fn texts_are_filled() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let filled = Text::read(text)
                .unwrap()
                .fill(&known(), |text| text.replace('/', "%2F"))
                .map_err(|error| error.to_string());
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(filled, expected, "{text}");
        };
        check("/orders", Ok("/orders"));
        check("", Ok(""));
        check("/o/{{ saga.id }}/{{input.count}}x", Ok("/o/order-1/2x"));
        check("{{ steps.charge.output.id }}", Ok("p%2F1"));
        check("{{ input.tags.1 }}", Ok("b"));
        check("<{{ input.colour? }}>", Ok("<>"));
        check("{{ input.colour }}", Err("there is no `input.colour`"));
        check("{{ input.tags.7 }}", Err("there is no `input.tags.7`"));
        check(
            "{{ steps.ship.output }}",
            Err("there is no `steps.ship.output`"),
        );
        check(
            "{{ input.tags }}",
            Err("`input.tags` is no text, number or truth"),
        );
        check(
            "{{ input.none }}",
            Err("`input.none` is no text, number or truth"),
        );
    }

    #[test]
    fn a_place_alone_keeps_its_type() {
        let text = |text: &str| Json::Text(Text::read(text).unwrap());
        let template = Json::Map(vec![
            ("count".to_owned(), text("{{ input.count }}")),
            ("text".to_owned(), text("{{ input.count }} pieces")),
            (
                "list".to_owned(),
                Json::List(vec![text("{{ input.tags }}")]),
            ),
            ("charge".to_owned(), text("{{ steps.charge.output }}")),
            ("lacks".to_owned(), text("{{ input.colour? }}")),
            ("five".to_owned(), Json::Plain(json!(5))),
        ]);
        assert_eq!(
            template.fill(&known()).unwrap(),
            json!({
                "count": 2,
                "text": "2 pieces",
                "list": [["a", "b"]],
                "charge": { "id": "p/1" },
                "lacks": null,
                "five": 5,
            })
        );
        assert!(text("{{ input.x }}").fill(&known()).is_err());
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for (text, part) in [
            ("{{ input.x", "not closed"),
            ("{{ }}", "names with points"),
            ("{{ input. }}", "names with points"),
            ("{{ input.a b }}", "names with points"),
            ("{{ inputs.x }}", "nothing else is known"),
            ("{{ steps.a.outputs }}", "steps.NAME.output"),
            ("{{ steps }}", "steps.NAME.output"),
            ("{{ saga.name }}", "saga.id"),
        ] {
            let (message, mend) = Text::read(text).unwrap_err();
            assert!(format!("{message}; {mend}").contains(part), "{text}");
        }
    }
}
