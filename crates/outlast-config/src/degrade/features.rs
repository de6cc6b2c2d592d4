//! Features, the routes that belong to them, and what is answered in their place.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::unknown;
use crate::plan::{Answer, Feature, Plan};
use crate::policies::section_of;
use crate::problem::{Place, Problem};
use crate::read::fixed;
use crate::sections::{self, FEATURE};
use crate::view::View;
use crate::yaml::Entry;

/// Reads all features. A route that a feature names is its own, even if another feature has the
/// route's upstream.
pub(super) fn read(
    file: View<'_>,
    view: View<'_>,
    folder: &Path,
    plan: &mut Plan,
    problems: &mut Vec<Problem>,
) -> Vec<Feature> {
    let entries = view.names("features");
    let mut features: Vec<Feature> = Vec::new();
    let mut owners: Vec<Option<usize>> = vec![None; plan.routes.len()];
    for entry in entries {
        let view = View::new(&entry.node, &FEATURE);
        for (name, place) in view.texts("routes") {
            let names = file.names("routes").iter().map(|entry| entry.key.as_str());
            if !names.clone().any(|known| known == name) {
                problems.push(unknown("route", name, place, names));
                continue;
            }
            let Some(at) = plan.routes.iter().position(|route| route.name == name) else {
                continue;
            };
            if let Some(owner) = owners[at].replace(features.len()) {
                let message = format!("`{name}` belongs to `{}` already", entries[owner].key);
                problems.push(Problem::new(place, message, "name it in one feature only"));
            }
        }
        let instead = view.given_part("instead", section_of(&FEATURE, "instead"));
        features.push(Feature {
            name: entry.key.clone(),
            tier: view.tier("tier"),
            routes: Vec::new(),
            instead: instead.map(|view| self::instead(view, folder, problems)),
        });
    }
    by_upstream(entries, plan, &mut owners, problems);
    for (at, owner) in owners.into_iter().enumerate() {
        let Some(owner) = owner else { continue };
        let (feature, route) = (&mut features[owner], &mut plan.routes[at]);
        feature.routes.push(at);
        let entries = file.names("routes").iter();
        let mut entries = entries.filter(|entry| entry.key == route.name);
        let says = entries.any(|entry| {
            View::new(&entry.node, &sections::ROUTE)
                .entry("tier")
                .is_some()
        });
        if !says {
            route.tier = feature.tier;
        }
    }
    features
}

/// Gives the routes of an upstream that no feature names to the feature that has it.
fn by_upstream(
    entries: &[Entry],
    plan: &Plan,
    owners: &mut [Option<usize>],
    problems: &mut Vec<Problem>,
) {
    let mut taken: Vec<(&str, usize)> = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let view = View::new(&entry.node, &FEATURE);
        let Some(name) = view.text("upstream") else {
            continue;
        };
        let place = view.value_place("upstream");
        let Some(upstream) = plan.upstreams.iter().position(|known| known.name == name) else {
            let names = plan.upstreams.iter().map(|known| known.name.as_str());
            problems.push(unknown("upstream", name, place, names));
            continue;
        };
        if let Some(&(_, owner)) = taken.iter().find(|(taken, _)| *taken == name) {
            let message = format!("`{name}` belongs to `{}` already", entries[owner].key);
            let mend = "tell their routes apart with `routes`";
            problems.push(Problem::new(place, message, mend));
            continue;
        }
        taken.push((name, at));
        for (route, owner) in plan.routes.iter().zip(&mut *owners) {
            if route.upstream == upstream {
                owner.get_or_insert(at);
            }
        }
    }
}

fn instead(view: View<'_>, folder: &Path, problems: &mut Vec<Problem>) -> Answer {
    let mut answer = fixed(view, problems);
    let Some(name) = view.text("body_file") else {
        return answer;
    };
    let place = view.value_place("body_file");
    if view.entry("body").is_some() {
        let mend = "give either `body` or `body_file`";
        problems.push(Problem::new(place, "an answer has one body", mend));
    }
    match text_of(&folder.join(name), name, place) {
        Ok(text) => answer.body = text,
        Err(problem) => problems.push(problem),
    }
    let has_type = answer
        .headers
        .iter()
        .any(|(name, _)| name == "content-type");
    if !has_type {
        let kind = content_type(name).to_owned();
        answer.headers.push(("content-type".to_owned(), kind));
    }
    answer
}

fn text_of(path: &Path, name: &str, place: Place) -> Result<String, Problem> {
    let problem = |what: String, mend: &str| Problem::new(place, what, mend);
    let relative = "name a file that is there; its path is relative to the policy file's folder";
    let cannot =
        |error: std::io::Error| problem(format!("`{name}` cannot be read: {error}"), relative);
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(problem(format!("`{name}` is no plain file"), relative));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > MOST_BYTES {
        let mend = "keep it small: it is held in memory, and answered when there is stress";
        return Err(problem(format!("`{name}` is larger than 1 MiB"), mend));
    }
    String::from_utf8(bytes).map_err(|_| {
        problem(
            format!("`{name}` is no text"),
            "use UTF-8, such as JSON or HTML",
        )
    })
}

/// What the file's name suggests.
fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("json") => "application/json",
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("xml") => "application/xml",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

const MOST_BYTES: u64 = 1 << 20;
