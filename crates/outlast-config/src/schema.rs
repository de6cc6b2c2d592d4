//! The JSON Schema of a policy file, for editors: made from the same description that files are
//! checked by.

use serde_json::{Map, Value, json};

use crate::sections;
use crate::shape::{Default, Kind, Section};

/// The schema of policy files (draft 2020-12), as text.
pub fn schema() -> String {
    schema_of(&sections::FILE, "Outlast policy file")
}

/// The schema of scenario files (draft 2020-12), as text.
pub fn scenario_schema() -> String {
    schema_of(&sections::SCENARIO, "Outlast scenario")
}

fn schema_of(file: &Section, title: &str) -> String {
    let mut root = section(file);
    root.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    root.insert("title".to_owned(), json!(title));
    let mut text = serde_json::to_string_pretty(&Value::Object(root)).expect("a schema is JSON");
    text.push('\n');
    text
}

fn section(section: &Section) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in section.keys {
        let mut schema = kind(&key.kind);
        let doc = match key.default {
            Default::Required => {
                required.push(json!(key.name));
                key.doc.to_owned()
            }
            Default::Is(value) => format!("{}. Default: {value}", key.doc),
            Default::Means(meaning) => format!("{}. Default: {meaning}", key.doc),
        };
        schema.insert("description".to_owned(), json!(doc));
        properties.insert(key.name.to_owned(), Value::Object(schema));
    }
    let mut schema = object(json!({
        "type": "object",
        "description": section.doc,
        "properties": properties,
        "additionalProperties": false,
    }));
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::Array(required));
    }
    schema
}

fn kind(of: &Kind) -> Map<String, Value> {
    let number = |least: f64, most: f64, kind: &str| {
        object(json!({ "type": kind, "minimum": least, "maximum": most }))
    };
    let text = |pattern: &str| object(json!({ "type": "string", "pattern": pattern }));
    match of {
        Kind::Duration => text(r"^[0-9]+(\.[0-9]+)? *(ns|us|ms|s|m|h|d)$"),
        Kind::Size => text(r"^[0-9]+(\.[0-9]+)? *(B|kB|KB|MB|GB|KiB|MiB|GiB)$"),
        Kind::Share => text(r"^[0-9]+(\.[0-9]+)? *%$"),
        Kind::Quantile => text(r"^p[0-9]+(\.[0-9]+)?$"),
        Kind::Count(least, most) => number(*least as f64, *most as f64, "integer"),
        Kind::Factor => number(1.0, 1000.0, "number"),
        Kind::Number(least, most) => number(*least, *most, "number"),
        Kind::Percent => text(r"^[0-9]+(\.[0-9]+)? *%$"),
        Kind::Rate => text(r"^[0-9_]+(\.[0-9]+)? */ *[smh]$"),
        Kind::Promise => object(json!({ "type": "string" })),
        Kind::Truth => object(json!({ "type": "boolean" })),
        Kind::Limit(Kind::Share) => text(r"^[<>] *[0-9]+(\.[0-9]+)? *%$"),
        Kind::Limit(_) => text(r"^[<>] *[0-9]+(\.[0-9]+)? *(ns|us|ms|s|m|h|d)$"),
        Kind::Text => object(json!({ "type": ["string", "number", "boolean"] })),
        Kind::Json => Map::new(),
        Kind::Address => text(r"^.+:[0-9]+$"),
        Kind::Network => text(r"^[0-9a-fA-F.:]+(/[0-9]+)?$"),
        Kind::Url => text(r"^https?://[^?#@ ]+$"),
        Kind::Pattern => text(r"^([A-Z,-]+ +)?[^/ ]*/[^ ]*$"),
        Kind::Choice(words) => object(json!({ "enum": words })),
        Kind::List(item) => object(json!({ "type": "array", "items": kind(item) })),
        Kind::Names(item) => object(json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9._-]{1,64}$" },
            "additionalProperties": kind(item),
        })),
        Kind::Statuses(item) => object(json!({
            "type": "object",
            "patternProperties": { "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$": kind(item) },
            "additionalProperties": false,
        })),
        Kind::Part(part) => section(part),
        Kind::AnyOf(kinds) => {
            let kinds: Vec<_> = kinds.iter().map(kind).collect();
            object(json!({ "anyOf": kinds }))
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => unreachable!("a schema is an object, not {other}"),
    }
}
