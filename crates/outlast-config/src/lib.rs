//! The policy file: one strict YAML file for gateway, simulator and drills.
//!
//! ```
//! let loaded = outlast_config::parse("shop.yaml", "
//! routes:
//!   stock: { match: GET /stock/**, upstream: inventory }
//! upstreams:
//!   inventory:
//!     endpoints: [http://127.0.0.1:7003, http://127.0.0.1:7004]
//!     hedge: { after: p95 }
//! ")?;
//! assert_eq!(loaded.plan().upstreams[0].endpoints.len(), 2);
//!
//! let problems = outlast_config::parse("shop.yaml", "upstreams: { a: { endpoint: x } }").unwrap_err();
//! assert!(problems.to_string().contains("did you mean `endpoints`?"));
//! # Ok::<(), outlast_config::Problems>(())
//! ```
//!
//! Strict means: unknown keys are errors, durations and sizes have units, names that refer to
//! something must exist, and policies that cannot work are refused. All errors of a file are told
//! at once, each with its place and the edit that mends it. What can work but is likely not meant
//! is a warning.

mod degrade;
pub mod edit;
mod explain;
mod health;
mod members;
pub mod plan;
mod policies;
mod problem;
mod read;
mod reference;
mod request;
pub mod scenario;
mod schema;
mod sections;
mod shape;
pub mod template;
mod value;
mod view;
mod warn;
mod yaml;

use std::path::Path;

pub use crate::explain::UnknownUpstream;
pub use crate::members::endpoints;
use crate::plan::Plan;
pub use crate::problem::{Finding, Place, Problems, Severity};
use crate::problem::{Problem, findings};
pub use crate::reference::{reference, scenario_reference};
pub use crate::schema::{scenario_schema, schema};
use crate::shape::Section;
use crate::yaml::Node;

/// A commented file to start from.
pub const STARTER: &str = include_str!("starter.yaml");

/// A file that can be used.
#[derive(Debug)]
pub struct Loaded {
    pub(crate) plan: Plan,
    warnings: Vec<Finding>,
    pub(crate) root: Node,
}

impl Loaded {
    /// What it means.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What it means, by value.
    pub fn into_plan(self) -> Plan {
        self.plan
    }

    /// What may not do what it seems to, in the order of the file.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    /// The policies that hold, in the order in which a call meets them, with defaults shown as
    /// such; of one upstream, or of all, with the routes.
    ///
    /// # Errors
    /// If there is no such upstream.
    pub fn explain(&self, upstream: Option<&str>) -> Result<String, UnknownUpstream> {
        explain::explain(self, upstream)
    }
}

/// Reads a duration as files write it: `250ms`, `1.5s`, `5m`, `1h`.
///
/// # Errors
/// A sentence that says how to write one.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    value::duration(text)
}

/// Reads a share as files write it: `10%`, `99.95%`. It lies between 0 and 1 and is not rounded to
/// millionths, as those of policies are.
///
/// # Errors
/// A sentence that says how to write one.
pub fn share(text: &str) -> Result<f64, String> {
    value::fraction(text)
}

/// What holds if an upstream's policies leave a key out, such as `["breaker", "min_calls"]`, as it would
/// be written; `None` if there is no such key, or if that cannot be written. A default that is spread
/// (`2s, give or take a quarter`) is given without its spread.
///
/// ```
/// assert_eq!(outlast_config::upstream_default(&["retry", "attempts"]), Some("3"));
/// assert_eq!(outlast_config::upstream_default(&["breaker", "cooldown"]), Some("2s"));
/// assert_eq!(outlast_config::upstream_default(&["bulkhead", "concurrency"]), None);
/// ```
pub fn upstream_default(keys: &[&str]) -> Option<&'static str> {
    shape::default(&sections::UPSTREAM, keys)
}

/// The word that somebody probably meant who wrote `given`, if one is close.
pub fn did_you_mean<'a>(given: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    problem::did_you_mean(given, words)
}

/// Reads and checks a file. Paths in it are relative to its folder.
///
/// # Errors
/// All that is wrong with it, or that it cannot be read.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let text = text_of(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse_in(&path.display().to_string(), &text, folder)
}

fn text_of(path: &Path) -> Result<String, Problems> {
    std::fs::read_to_string(path).map_err(|error| {
        let mend = "name a file that exists, is UTF-8, and may be read; `outlast init` writes one";
        Problems::unreadable(path, &error, mend)
    })
}

/// Checks a text; `file` is its name in messages. Paths in it are relative to the current folder.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(file: &str, text: &str) -> Result<Loaded, Problems> {
    parse_in(file, text, Path::new(""))
}

/// Whether a file has keys of one section, and none of the other.
fn has_only(root: &Node, one: &Section, other: &Section) -> bool {
    // What both have says nothing.
    let has = |section: &Section, other: &Section| {
        let mut keys = section.keys.iter();
        keys.any(|key| root.entry(key.name).is_some() && other.key(key.name).is_none())
    };
    has(one, other) && !has(other, one)
}

fn parse_in(file: &str, text: &str, folder: &Path) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let Some(root) = yaml::parse(text, &mut problems) else {
        return Err(Problems::new(file, text, problems));
    };
    if has_only(&root, &sections::SCENARIO, &sections::FILE) {
        let mend = "run it with `outlast sim`; a policy file has `upstreams` and `routes`";
        let problem = Problem::new(root.place, "this looks like a scenario", mend);
        return Err(Problems::new(file, text, vec![problem]));
    }
    shape::check(&root, &sections::FILE, &mut problems);
    let plan = read::plan(&root, folder, &mut problems);
    if !problems.is_empty() {
        return Err(Problems::new(file, text, problems));
    }
    let mut warnings = warn::warnings(&root, &plan);
    warnings.sort_by_key(|problem| problem.place);
    Ok(Loaded {
        warnings: findings(Severity::Warning, file, text, warnings),
        plan,
        root,
    })
}
