//! The endpoints of an upstream at one time, as a watched file or an operator tells them.
//!
//! They are written as under `endpoints:` in a policy file, in JSON: its last bracket tells that a
//! file is complete, so that one which is being written is never taken for a shorter list.

use std::collections::HashSet;

use crate::plan::Endpoint;
use crate::problem::{Place, Problem, Problems};
use crate::sections::{MEMBER, MEMBERS};
use crate::view::View;
use crate::yaml::{self, Node, Value};
use crate::{request, shape};

/// Reads endpoints: a JSON list of URLs, each of which is named by its host and port, or an object
/// from names to URLs or to `{"url": .., "weight": .., "priority": .., "zone": ..}`. `file` is the
/// text's name in messages.
///
/// # Errors
/// All that is wrong with it; also if there are none, more than 1,024, or two of one name.
pub fn endpoints(file: &str, text: &str) -> Result<Vec<Endpoint>, Problems> {
    let mut problems = Vec::new();
    let endpoints = read(text, &mut problems);
    if problems.is_empty() {
        return Ok(endpoints);
    }
    Err(Problems::new(file, text, problems))
}

fn read(text: &str, problems: &mut Vec<Problem>) -> Vec<Endpoint> {
    if !text.trim_start().starts_with(['[', '{']) {
        problems.push(Problem::new(
            Place::START,
            "this is no JSON list or object",
            "write `[\"http://10.0.0.1:8080\"]`, or `{\"NAME\": \"http://10.0.0.1:8080\"}`",
        ));
        return Vec::new();
    }
    let Some(root) = yaml::parse(text, problems) else {
        if let Some(problem) = problems.last_mut() {
            let mend = "this is no JSON; look at the brackets, quotes and commas before it";
            problem.mend = mend.to_owned();
        }
        return Vec::new();
    };
    shape::check_kind(&root, &MEMBERS, problems);
    let endpoints: Vec<_> = named(&root)
        .into_iter()
        .filter_map(|(name, node)| member(name.as_deref(), node))
        .collect();
    if problems.is_empty() && !(1..=MOST_ENDPOINTS).contains(&endpoints.len()) {
        let message = format!("these are {} endpoints", endpoints.len());
        let mend = format!("name from 1 to {MOST_ENDPOINTS}");
        problems.push(Problem::new(root.place, message, mend));
    }
    let mut names = HashSet::new();
    if let Some(twice) = endpoints.iter().find(|one| !names.insert(&*one.name)) {
        let message = format!("`{}` is there twice", twice.name);
        problems.push(Problem::new(
            root.place,
            message,
            "leave one of them out, or give them names: `{\"NAME\": URL}`",
        ));
    }
    endpoints
}

/// The values with the names that they were given.
fn named(root: &Node) -> Vec<(Option<String>, &Node)> {
    match &root.value {
        Value::Map(entries) => entries
            .iter()
            .map(|entry| (Some(entry.key.clone()), &entry.node))
            .collect(),
        Value::List(items) => items.iter().map(|node| (None, node)).collect(),
        Value::Empty | Value::Scalar(_) => Vec::new(),
    }
}

fn member(name: Option<&str>, node: &Node) -> Option<Endpoint> {
    let view = View::new(node, &MEMBER);
    let url = match &node.value {
        Value::Scalar(url) => url,
        _ => view.text("url")?,
    };
    let endpoint = request::endpoint(name.unwrap_or_default(), url).ok()?;
    Some(Endpoint {
        name: match name {
            Some(name) => name.to_owned(),
            None => authority(&endpoint),
        },
        ..placed(view, endpoint)
    })
}

/// What a list of URLs calls one of them.
pub(crate) fn authority(endpoint: &Endpoint) -> String {
    format!("{}:{}", endpoint.host, endpoint.port)
}

/// With its weight, priority and zone.
pub(crate) fn placed(view: View<'_>, endpoint: Endpoint) -> Endpoint {
    Endpoint {
        weight: view.count("weight").unwrap_or(1),
        priority: u8::try_from(view.count("priority").unwrap_or(0)).unwrap_or(u8::MAX),
        zone: view.text("zone").map(str::to_owned),
        ..endpoint
    }
}

/// As many as the policies take.
const MOST_ENDPOINTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_objects_of_urls_are_endpoints() {
        let names = |text: &str| -> Vec<(String, String)> {
            let endpoints = endpoints("x.json", text).unwrap();
            let pair = |one: Endpoint| (one.url(), one.name);
            endpoints.into_iter().map(pair).collect()
        };
        let pair = |url: &str, name: &str| (url.to_owned(), name.to_owned());
        assert_eq!(
            names("[\n\t\"http://a:1\",\n\t\"https://b/base/\"\n]\n"),
            [
                pair("http://a:1", "a:1"),
                pair("https://b:443/base", "b:443")
            ]
        );
        assert_eq!(
            names(r#"{"x": "http:\/\/a:1", "y": {"url": "http://[::1]:2"}}"#),
            [pair("http://a:1", "x"), pair("http://[::1]:2", "y")]
        );
        let text = r#"{"x": {"url": "http://a:1", "weight": 3, "priority": 1, "zone": "eu"}}"#;
        let placed = endpoints("x.json", text).unwrap().remove(0);
        assert_eq!((placed.weight, placed.priority), (3, 1));
        assert_eq!(placed.zone.as_deref(), Some("eu"));
    }

    /// Whatever is cut off a file, what is left is not taken for a shorter one.
    #[test]
    fn a_file_that_is_half_written_is_an_error() {
        for whole in [
            "[\"http://a:1\", \"http://b:2\"]",
            "{\n  \"x\": \"http://a:1\",\n  \"y\": { \"url\": \"http://b:2\", \"weight\": 2 }\n}",
        ] {
            assert!(endpoints("x.json", whole).is_ok());
            for end in 0..whole.len() {
                assert!(endpoints("x.json", &whole[..end]).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let many: Vec<_> = (0..1025)
            .map(|at| format!("\"http://a:{}\"", at + 1))
            .collect();
        let table = [
            ("- http://a:1", "no JSON list"),
            ("[]", "these are 0 endpoints"),
            ("{}", "these are 0 endpoints"),
            ("[\"http://a:1\", \"http://a:1\"]", "`a:1` is there twice"),
            ("[\"a:1\"]", "`a:1` does not fit here"),
            ("[\"http://a:1/<x>\"]", "write others as `%3C`"),
            ("[\"http://a:1/a\\\\b\"]", "write others as `%3C`"),
            ("{\"x\": {\"uri\": \"http://a:1\"}}", "did you mean `url`?"),
            (
                "{\"x\": {\"url\": \"http://a\", \"weight\": 0}}",
                "`0` does not fit",
            ),
            (
                "{\"x\": {\"url\": \"http://a\", \"headers\": {}}}",
                "unknown key `headers`",
            ),
            (&format!("[{}]", many.join(",")), "these are 1025 endpoints"),
        ];
        for (text, expected) in table {
            let problems = endpoints("x.json", text).unwrap_err().to_string();
            assert!(problems.contains(expected), "{text}: {problems}");
            assert!(problems.contains("--> x.json:1:"), "{problems}");
        }
    }
}
