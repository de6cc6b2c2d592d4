//! Changing single values of a policy file, and nothing else in it.
//!
//! A file is its author's: comments, order and style carry what the tree of keys does not. So a value
//! is changed as text, at its place. After each change the text is read again, and the change counts
//! only if everything else still means what it did; what cannot be changed that way is refused, and
//! the file stays as it was.
//!
//! What a short form stands for can be changed like the long one: `budget.ratio` is the `10%` in
//! `budget: 10%`. A key beside it makes it the long one. It adds no list items and removes nothing.

mod place;

use std::fmt;
use std::path::{Path, PathBuf};

use self::place::{end, line_break, line_end, offset, span};
use crate::problem::Problems;
use crate::yaml::{self, Entry, Node, Value};
use crate::{Loaded, parse_in};

/// A policy file that is being changed.
///
/// ```
/// use outlast_config::edit::File;
///
/// let mut file = File::parse("shop.yaml", "
/// upstreams:
///   stock:
///     endpoints: [http://127.0.0.1:7003] # the old one
///     retry: { attempts: 5 }
/// ")?;
/// file.set(&["upstreams", "stock", "retry", "attempts"], "3")?;
/// file.set(&["upstreams", "stock", "timeout"], "800ms")?;
/// assert_eq!(file.text(), "
/// upstreams:
///   stock:
///     endpoints: [http://127.0.0.1:7003] # the old one
///     retry: { attempts: 3 }
///     timeout: 800ms
/// ");
/// file.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct File {
    name: String,
    folder: PathBuf,
    text: String,
    root: Node,
}

/// Why a value was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditError {
    path: String,
    why: &'static str,
}

impl File {
    /// Reads a file, which has to be without errors. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// All that is wrong with it, or that it cannot be read.
    pub fn load(path: &Path) -> Result<File, Problems> {
        let text = crate::text_of(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        File::new(path.display().to_string(), text, folder.to_owned())
    }

    /// Reads a text, which has to be without errors; `name` is its name in messages. Paths in it are
    /// relative to the current folder.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<File, Problems> {
        File::new(name.to_owned(), text.to_owned(), PathBuf::new())
    }

    fn new(name: String, text: String, folder: PathBuf) -> Result<File, Problems> {
        let root = parse_in(&name, &text, &folder)?.root;
        Ok(File {
            name,
            folder,
            text,
            root,
        })
    }

    /// The text as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks the file as it is now, as a whole.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn check(&self) -> Result<Loaded, Problems> {
        parse_in(&self.name, &self.text, &self.folder)
    }

    /// Whether there is something at a path, if only in a short form.
    pub fn has(&self, path: &[&str]) -> bool {
        let (node, rest) = walk(&self.root, path);
        rest.is_empty() || self.short(node, path, rest)
    }

    /// The single value at a path, as it is written, if only in a short form.
    pub fn value(&self, path: &[&str]) -> Option<&str> {
        let (node, rest) = walk(&self.root, path);
        match &node.value {
            Value::Scalar(text) if rest.is_empty() || self.short(node, path, rest) => Some(text),
            _ => None,
        }
    }

    /// Whether a node is the short form of exactly this path.
    fn short(&self, node: &Node, path: &[&str], rest: &[&str]) -> bool {
        match (&node.value, rest) {
            (Value::Scalar(text), [key]) => {
                let form = short_form(&path[..path.len() - 1], text);
                matches!(form, Some(Short::Means { key: meant, .. }) if meant == *key)
            }
            _ => false,
        }
    }

    /// Gives a key a single value: replaces the one that is there, or adds the key, and the sections
    /// it lies in, behind what is there. The file is not checked as a whole, so that values can be
    /// changed that make sense only together: [`File::check`] does that.
    ///
    /// # Errors
    /// If there is a mapping or a list, if something on the way is switched off, or if it is written
    /// in a way in which that does not work. Nothing has changed then.
    pub fn set(&mut self, path: &[&str], value: &str) -> Result<(), EditError> {
        let refuse = |why| EditError {
            path: path.join("."),
            why,
        };
        let (node, rest) = walk(&self.root, path);
        let known = &path[..path.len() - rest.len()];
        let text = match (&node.value, rest) {
            (Value::Scalar(_), []) => self.replaced(node, value),
            (Value::Scalar(old), _) => match short_form(known, old) {
                Some(Short::On) => self.rewritten(node, &format!("{{ {} }}", nested(rest, value))),
                Some(Short::Means { key, .. }) if *rest == [key] => self.replaced(node, value),
                Some(Short::Means { key, with }) => {
                    let (old, new) = (plain_or_quoted(old), nested(rest, value));
                    self.rewritten(node, &format!("{{ {with}{key}: {old}, {new} }}"))
                }
                None => return Err(refuse("what is there has no keys")),
            },
            (Value::Map(entries), [_, ..]) => self.added(node, entries, &nested(rest, value)),
            (Value::Map(_) | Value::List(_), _) => return Err(refuse("no single value is there")),
            (Value::Empty, _) => return Err(refuse("a key without a value is there")),
        };
        let refusal = refuse("it cannot be changed the way it is written");
        let text = text.ok_or_else(|| refusal.clone())?;
        let mut problems = Vec::new();
        let root = yaml::parse(&text, &mut problems);
        let (Some(root), true) = (root, problems.is_empty()) else {
            return Err(refusal);
        };
        let was_short = matches!(node.value, Value::Scalar(_)).then_some(known);
        let others = |root: &Node| {
            let mut leaves = leaves(root);
            leaves.retain(|(at, _)| !is_changed(at, path, was_short));
            leaves
        };
        if others(&root) != others(&self.root) {
            return Err(refusal);
        }
        let changed = File {
            name: self.name.clone(),
            folder: self.folder.clone(),
            root,
            text,
        };
        if changed.value(path) != Some(value) {
            return Err(refusal);
        }
        *self = changed;
        Ok(())
    }

    /// The text with another value in place of a single one, in the same quotes.
    fn replaced(&self, node: &Node, value: &str) -> Option<String> {
        let (start, end) = span(&self.text, node)?;
        let quote = self.text[start..end].chars().next()?;
        let is_safe = !value.contains(['\\', '\'', '"', '\n']);
        let new = match quote {
            '"' | '\'' if is_safe => format!("{quote}{value}{quote}"),
            _ => plain_or_quoted(value),
        };
        self.rewritten(node, &new)
    }

    /// The text with something else in place of a single value.
    fn rewritten(&self, node: &Node, new: &str) -> Option<String> {
        let (start, end) = span(&self.text, node)?;
        Some(format!("{}{new}{}", &self.text[..start], &self.text[end..]))
    }

    /// The text with another entry behind those of a mapping.
    fn added(&self, map: &Node, entries: &[Entry], new: &str) -> Option<String> {
        let start = offset(&self.text, map.place.line, map.place.column)?;
        let last = entries.last();
        let (at, new) = match (last, self.text[start..].starts_with('{')) {
            (None, true) => (start + 1, format!(" {new} ")),
            (Some(last), true) => (end(&self.text, &last.node)?, format!(", {new}")),
            (Some(last), false) => {
                let indent = " ".repeat(entries[0].key_place.column - 1);
                let at = line_end(&self.text, end(&self.text, deepest(last))?);
                (at, format!("{}{indent}{new}", line_break(&self.text)))
            }
            (None, false) => return None,
        };
        Some(format!("{}{new}{}", &self.text[..at], &self.text[at..]))
    }
}

impl EditError {
    /// The keys that lead to it, with points between them.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not changed: {}", self.path, self.why)
    }
}

impl std::error::Error for EditError {}

/// As far as there is something: the node, and the keys that are left.
fn walk<'n, 'p>(root: &'n Node, path: &'p [&'p str]) -> (&'n Node, &'p [&'p str]) {
    let (mut node, mut rest) = (root, path);
    while let [key, others @ ..] = rest
        && let Some(entry) = node.entry(key)
    {
        (node, rest) = (&entry.node, others);
    }
    (node, rest)
}

/// The last value of an entry, or the bracket that closes it.
fn deepest(entry: &Entry) -> &Node {
    let mut node = &entry.node;
    loop {
        let last = match &node.value {
            Value::Map(entries) => entries.last().map(|entry| &entry.node),
            Value::List(items) => items.last(),
            Value::Empty | Value::Scalar(_) => None,
        };
        // A bracket lies behind what it closes.
        match last.filter(|last| last.end >= node.end) {
            Some(last) => node = last,
            None => return node,
        }
    }
}

/// A single value in place of a section.
enum Short {
    /// It is on, and says nothing more.
    On,
    /// It is the value of one of the section's keys.
    Means {
        key: &'static str,
        /// What else belongs to the long form.
        with: &'static str,
    },
}

fn short_form(section: &[&str], text: &str) -> Option<Short> {
    let means = |key| Some(Short::Means { key, with: "" });
    match (*section.last()?, text) {
        (_, "on") => Some(Short::On),
        (_, "off") => None,
        ("budget", _) => means("ratio"),
        ("bulkhead", _) => means("concurrency"),
        ("stale", _) => means("max_age"),
        // A wait alone does not grow.
        ("backoff" | "cooldown", _) => Some(Short::Means {
            key: "base",
            with: CONSTANT,
        }),
        _ => None,
    }
}

/// What is left of a path, with its value, on one line.
fn nested(path: &[&str], value: &str) -> String {
    match path {
        [] => plain_or_quoted(value),
        [key] => format!("{key}: {}", plain_or_quoted(value)),
        [key, rest @ ..] => format!("{key}: {{ {} }}", nested(rest, value)),
    }
}

/// A value that YAML takes for what it is, in braces, too.
fn plain_or_quoted(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+/%".contains(&byte);
    let starts = value
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts && value != "null" && value.bytes().all(is_plain) {
        value.to_owned()
    } else {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// All single values, with the keys and positions that lead to them.
fn leaves(root: &Node) -> Vec<(Vec<String>, String)> {
    fn add(node: &Node, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, String)>) {
        let mut under = |key: String, node: &Node| {
            path.push(key);
            add(node, path, leaves);
            path.pop();
        };
        match &node.value {
            Value::Empty => leaves.push((path.clone(), "~".to_owned())),
            Value::Scalar(text) => leaves.push((path.clone(), format!("{text:?}"))),
            Value::List(items) => {
                for (number, item) in items.iter().enumerate() {
                    under(number.to_string(), item);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    under(entry.key.clone(), &entry.node);
                }
            }
        }
    }
    let mut leaves = Vec::new();
    add(root, &mut Vec::new(), &mut leaves);
    leaves
}

/// Whether a leaf changes with the value at `path`: it is that, or the short form that it was, or
/// what is written out of that.
fn is_changed(leaf: &[String], path: &[&str], was_short: Option<&[&str]>) -> bool {
    let under = |section: &[&str]| {
        leaf.len() >= section.len() && leaf.iter().zip(section).all(|(one, other)| one == other)
    };
    under(path) || was_short.is_some_and(under)
}

const CONSTANT: &str = "kind: constant, ";

#[cfg(test)]
mod tests;
