//! The request that a step is, and its templates.

use outlast_core::backoff::Backoff;
use serde_json::Value as JsonValue;

use super::super::Reader;
use crate::plan::{SagaMeaning, SagaRequest, SagaStatus};
use crate::problem::{Place, did_you_mean};
use crate::shape::Section;
use crate::template::{Json, Path, Root, Text};
use crate::view::View;
use crate::yaml::{Entry, Node, Value};
use crate::{policies, request, shape};

/// What the templates of a request may name.
pub(super) struct Scope<'a> {
    /// Steps whose output may be there.
    pub(super) there: Vec<&'a str>,
    /// All steps.
    pub(super) all: &'a [&'a str],
}

impl Reader<'_, '_> {
    /// The request of a step, of what undoes it, or of what asks about it: their keys have the same
    /// names. What its statuses mean is left out.
    pub(super) fn saga_request(
        &mut self,
        view: View<'_>,
        upstream: Option<usize>,
        scope: &Scope<'_>,
        (retry, usual): (&'static Section, (Option<u32>, Backoff)),
    ) -> Option<SagaRequest> {
        self.refuse_no_time(view, "timeout");
        for (text, place) in texts(view) {
            match Text::read(text) {
                Ok(text) => text
                    .places()
                    .for_each(|path| self.check_place(path, place, scope)),
                Err((message, mend)) => self.problem(place, message, mend),
            }
        }
        let line = view.text("request")?;
        let request = self.request_line(line, view.value_place("request"));
        let mut headers = Vec::new();
        for entry in view.names("headers") {
            headers.extend(self.saga_header(entry));
        }
        let retry = view.part("retry", retry);
        let waits = retry.node_of("backoff").is_some();
        let (method, path) = request?;
        Some(SagaRequest {
            upstream: upstream?,
            method,
            path,
            headers,
            body: body(view).and_then(json),
            timeout: view.duration("timeout")?,
            attempts: retry.count("attempts").or(usual.0)?,
            backoff: if waits {
                policies::backoff(retry, "backoff")
            } else {
                usual.1
            },
            outcomes: Vec::new(),
        })
    }

    fn request_line(&mut self, line: &str, place: Place) -> Option<(String, Text)> {
        let (method, path) = line.split_once(' ').unwrap_or(("", line));
        if let Err(mend) = request::method(method) {
            let mend = if method.is_empty() {
                "write a method and a path, such as `POST /orders`".to_owned()
            } else {
                mend
            };
            self.problem(place, format!("`{line}` is no request"), mend);
            return None;
        }
        let path = Text::read(path.trim_start()).ok()?;
        let begins = path
            .plain()
            .next()
            .is_some_and(|text| text.starts_with('/'));
        let fine = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        };
        if !begins || !path.plain().all(fine) {
            let mend = "write a path such as `/orders/{{ saga.id }}`, without spaces and `#`";
            self.problem(place, format!("`{line}` has no path"), mend);
            return None;
        }
        Some((method.to_owned(), path))
    }

    fn saga_header(&mut self, entry: &Entry) -> Option<(String, Text)> {
        let Value::Scalar(value) = &entry.node.value else {
            return None;
        };
        let name = entry.key.to_ascii_lowercase();
        let text = Text::read(value).ok()?;
        if !request::is_header_name(&name) || !text.plain().all(request::is_header_value) {
            let mend = "a name of letters and `-`, a value of plain text";
            self.problem(entry.key_place, "this is no header field", mend);
            return None;
        }
        if OWN.contains(&name.as_str()) {
            let message = format!("`{name}` is the saga's own");
            let mend = "leave it out; the gateway sends it";
            self.problem(entry.key_place, message, mend);
            return None;
        }
        Some((name, text))
    }

    fn check_place(&mut self, path: &Path, place: Place, scope: &Scope<'_>) {
        let Root::Output(step) = &path.root else {
            return;
        };
        if scope.there.contains(&step.as_str()) {
            return;
        }
        if scope.all.contains(&step.as_str()) {
            self.problem(
                place,
                format!("`{step}` has given nothing when this is sent"),
                "name a step that ends before this one begins",
            );
            return;
        }
        let mend = match did_you_mean(step, scope.all.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("the steps are: {}", scope.all.join(", ")),
        };
        self.problem(place, format!("there is no step `{step}`"), mend);
    }
}

/// The places in the templates of a request, as far as they can be read.
pub(crate) fn places(view: View<'_>) -> Vec<(Path, Place)> {
    let mut found = Vec::new();
    for (text, place) in texts(view) {
        let Ok(text) = Text::read(text) else {
            continue;
        };
        found.extend(text.places().map(|path| (path.clone(), place)));
    }
    found
}

/// All texts of a request that may have places.
fn texts(view: View<'_>) -> Vec<(&str, Place)> {
    let mut found = view.texts("request");
    for entry in view.names("headers") {
        if let Value::Scalar(text) = &entry.node.value {
            found.push((text, entry.node.place));
        }
    }
    if let Some(body) = body(view) {
        texts_of(body, &mut found);
    }
    found
}

/// What is sent; a question has none.
fn body(view: View<'_>) -> Option<&Node> {
    view.describes("body").then(|| view.node_of("body"))?
}

fn texts_of<'a>(node: &'a Node, found: &mut Vec<(&'a str, Place)>) {
    match &node.value {
        Value::Scalar(text) => found.push((text, node.place)),
        Value::List(items) => items.iter().for_each(|item| texts_of(item, found)),
        Value::Map(entries) => entries
            .iter()
            .for_each(|entry| texts_of(&entry.node, found)),
        Value::Empty => {}
    }
}

/// A tree as JSON; `None` if a template in it has been reported.
fn json(node: &Node) -> Option<Json> {
    Some(match &node.value {
        Value::Empty => Json::Plain(JsonValue::Null),
        Value::Scalar(text) if node.plain => match text.as_str() {
            "true" => Json::Plain(JsonValue::Bool(true)),
            "false" => Json::Plain(JsonValue::Bool(false)),
            number => match serde_json::from_str::<serde_json::Number>(number) {
                Ok(number) => Json::Plain(JsonValue::Number(number)),
                Err(_) => Json::Text(Text::read(text).ok()?),
            },
        },
        Value::Scalar(text) => Json::Text(Text::read(text).ok()?),
        Value::List(items) => Json::List(items.iter().map(json).collect::<Option<_>>()?),
        Value::Map(entries) => {
            let entry = |entry: &Entry| Some((entry.key.clone(), json(&entry.node)?));
            Json::Map(entries.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

/// What the statuses of a step, or of a delivery, mean.
pub(in crate::read) fn outcomes(view: View<'_>) -> Vec<SagaStatus> {
    let means = |word: &str| match word {
        "success" => Some(SagaMeaning::Success),
        "transient" => Some(SagaMeaning::Transient),
        "permanent" => Some(SagaMeaning::Permanent),
        "unknown" => Some(SagaMeaning::Unknown),
        _ => None,
    };
    let statuses = statuses(view, means).into_iter();
    let status = statuses.map(|(from, to, means)| SagaStatus { from, to, means });
    status.collect()
}

/// Ranges of statuses and what they mean, the narrowest first: it counts.
pub(super) fn statuses<M>(view: View<'_>, means: impl Fn(&str) -> Option<M>) -> Vec<(u16, u16, M)> {
    let status = |entry: &Entry| {
        let (from, to) = shape::statuses(&entry.key)?;
        let Value::Scalar(word) = &entry.node.value else {
            return None;
        };
        Some((from, to, means(word)?))
    };
    let mut found: Vec<_> = view.names("outcomes").iter().filter_map(status).collect();
    found.sort_by_key(|(from, to, _)| to - from);
    found
}

/// Fields that are about the connection, or say which step it is.
const OWN: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "idempotency-key",
    "outlast-saga-id",
    "outlast-saga-step",
    "te",
    "transfer-encoding",
    "upgrade",
];
