//! What a compiler does not see: the order of the crates, links, module docs, files that nobody
//! reads, words that do not belong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::root;

/// Checks the tree; all problems at once.
pub(crate) fn run() -> Result<(), String> {
    let tree = Tree::read()?;
    let mut problems = Vec::new();
    ranks(&tree, &mut problems);
    module_docs(&tree, &mut problems);
    lengths(&tree, &mut problems);
    links(&tree, &mut problems);
    words(&tree, &mut problems);
    dead_modules(&tree, &mut problems);
    if problems.is_empty() {
        println!("tidy: {} files", tree.files.len());
        return Ok(());
    }
    Err(format!(
        "the tree is not tidy:\n  {}",
        problems.join("\n  ")
    ))
}

/// All files under version control that are text, by their path from the root.
struct Tree {
    files: BTreeMap<PathBuf, String>,
}

impl Tree {
    fn read() -> Result<Tree, String> {
        let listed = Command::new("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "-z",
            ])
            .current_dir(root())
            .output()
            .map_err(|error| format!("git could not be started: {error}"))?;
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names = names
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(PathBuf::from);
        let text =
            |path: PathBuf| Some((path.clone(), fs::read_to_string(root().join(path)).ok()?));
        Ok(Tree {
            files: names.filter_map(text).collect(),
        })
    }

    fn with_extension<'a>(
        &'a self,
        extension: &'a str,
    ) -> impl Iterator<Item = (&'a Path, &'a str)> {
        let has = move |path: &&PathBuf| path.extension().is_some_and(|found| found == extension);
        self.files
            .iter()
            .filter(move |(path, _)| has(path))
            .map(|(path, text)| (&**path, &**text))
    }
}

/// The crates from the lowest rank to the highest. A crate depends on lower ranks only.
const RANKS: [&[&str]; 4] = [
    &["outlast-core"],
    &["outlast", "outlast-config", "outlast-saga"],
    &["outlast-gateway", "outlast-sim"],
    &["outlast-cli"],
];

fn ranks(tree: &Tree, problems: &mut Vec<String>) {
    let rank = |name: &str| RANKS.iter().position(|crates| crates.contains(&name));
    for (path, text) in tree.with_extension("toml") {
        let Ok(folder) = path.strip_prefix("crates") else {
            continue;
        };
        let name = folder
            .iter()
            .next()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Some(own) = rank(name) else {
            problems.push(format!(
                "crates/{name} has no rank; give it one in xtask/src/tidy.rs"
            ));
            continue;
        };
        let dependencies = text
            .lines()
            .filter_map(|line| line.split(['=', '.', ' ']).next());
        for other in dependencies.filter(|other| *other != name) {
            if rank(other).is_some_and(|rank| rank >= own) {
                problems.push(format!(
                    "{name} must not depend on {other}: it is not of lower rank"
                ));
            }
        }
    }
}

fn module_docs(tree: &Tree, problems: &mut Vec<String>) {
    for (path, text) in tree.with_extension("rs") {
        let is_documented = text.starts_with("//!") || path.ends_with("tests.rs");
        if !is_documented {
            problems.push(format!("{} has no module documentation", path.display()));
        }
    }
}

/// A file is one idea; one that is longer than this is several.
const LONGEST: usize = 700;

fn lengths(tree: &Tree, problems: &mut Vec<String>) {
    for (path, text) in tree.with_extension("rs") {
        let is_test = path
            .iter()
            .any(|part| part == "tests" || part == "tests.rs");
        let lines = text.lines().count();
        if lines > LONGEST && !is_test {
            problems.push(format!("{} has {lines} lines; split it", path.display()));
        }
    }
}

/// Links between files, and to headings of the same file.
fn links(tree: &Tree, problems: &mut Vec<String>) {
    for (path, text) in tree.with_extension("md") {
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = path.parent().unwrap_or(Path::new(""));
            let exists = file.is_empty() || root().join(folder).join(file).exists();
            let is_here = !file.is_empty() || heading.is_empty() || has_heading(text, heading);
            if !exists || !is_here {
                problems.push(format!(
                    "{} links to {target}, which is not there",
                    path.display()
                ));
            }
        }
    }
}

fn has_heading(text: &str, anchor: &str) -> bool {
    let of_heading = |line: &str| {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let title: String = line
            .trim_start_matches('#')
            .trim()
            .chars()
            .filter(kept)
            .collect();
        title.to_lowercase().replace(' ', "-")
    };
    text.lines()
        .filter(|line| line.starts_with('#'))
        .any(|line| of_heading(line) == anchor)
}

/// Words that name no one thing, or that say a file is not finished.
const BANNED: [&str; 5] = ["TODO", "FIXME", "XXX", "mod utils", "mod helpers"];

fn words(tree: &Tree, problems: &mut Vec<String>) {
    for (path, text) in tree.with_extension("rs") {
        if path.ends_with("xtask/src/tidy.rs") {
            continue;
        }
        for word in BANNED.into_iter().filter(|word| text.contains(word)) {
            problems.push(format!("{} says \"{word}\"", path.display()));
        }
    }
}

/// Source files that no `mod` names are compiled by nobody.
fn dead_modules(tree: &Tree, problems: &mut Vec<String>) {
    let sources: Vec<_> = tree.with_extension("rs").collect();
    for (path, _) in &sources {
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let is_root = matches!(name, "lib" | "main" | "build")
            || path
                .parent()
                .is_some_and(|folder| folder.ends_with("examples") || folder.ends_with("bin"));
        let declares = |text: &str| {
            let mut lines = text.lines().map(str::trim_start);
            lines.any(|line| {
                let line = line
                    .trim_start_matches("pub(crate) ")
                    .trim_start_matches("pub ");
                line.strip_prefix("mod ")
                    .is_some_and(|rest| rest.trim_end_matches(';') == name)
            })
        };
        if !is_root && !sources.iter().any(|(_, text)| declares(text)) {
            problems.push(format!("{} is named by no `mod`", path.display()));
        }
    }
}
