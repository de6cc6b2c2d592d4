//! What a file may say: one description, from which files are checked, defaults are printed, the
//! JSON Schema is made and the reference is tested.
//!
//! Checking by a description instead of by the code that reads the values is what lets all errors
//! of a file be told at once: a wrong value is reported here, and the reader that comes after it
//! simply does not see it.

use crate::problem::{Problem, did_you_mean};
use crate::value;
use crate::yaml::{Entry, Node, Value};

/// A mapping with fixed keys.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Default,
    pub(crate) doc: &'static str,
}

/// What holds if a key is left out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    /// It may not be left out.
    Required,
    /// This, as if it had been written.
    Is(&'static str),
    /// Something that cannot be written.
    Means(&'static str),
}

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Kind {
    Duration,
    Size,
    Share,
    Quantile,
    Count(u64, u64),
    Factor,
    /// A number with a point, from one to another.
    Number(f64, f64),
    /// A share that may be more than all.
    Percent,
    /// So many in a time: `200/s`.
    Rate,
    /// What a simulated run has to show.
    Promise,
    Truth,
    /// A value of this kind with a side: `> 500ms`, `< 1%`.
    Limit(&'static Kind),
    Text,
    /// Anything that JSON can be.
    Json,
    /// A listening address.
    Address,
    /// A network in CIDR notation.
    Network,
    /// The URL of an endpoint.
    Url,
    /// A pattern of requests.
    Pattern,
    Choice(&'static [&'static str]),
    List(&'static Kind),
    /// A mapping with names that the file chooses.
    Names(&'static Kind),
    /// A mapping from statuses, or ranges of them.
    Statuses(&'static Kind),
    Part(&'static Section),
    /// One of these, told apart by their form.
    AnyOf(&'static [Kind]),
}

impl Section {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// The default of the key under these keys, as it would be written; of one that is told in words, its
/// beginning, if that could be.
pub(crate) fn default(section: &'static Section, keys: &[&str]) -> Option<&'static str> {
    let (first, rest) = keys.split_first()?;
    let key = section.key(first)?;
    if !rest.is_empty() {
        return default(key.kind.section()?, rest);
    }
    match key.default {
        Default::Required => None,
        Default::Is(text) => Some(text),
        Default::Means(text) => {
            let text = text.split(',').next()?;
            key.kind.check_text(text).is_ok().then_some(text)
        }
    }
}

/// Checks a whole file against the description.
pub(crate) fn check(node: &Node, section: &'static Section, problems: &mut Vec<Problem>) {
    check_section(node, section, problems);
}

fn check_section(node: &Node, section: &'static Section, problems: &mut Vec<Problem>) {
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        Value::Empty => &[],
        Value::Scalar(_) | Value::List(_) => {
            return wrong_form(node, &format!("a mapping ({})", section.name), problems);
        }
    };
    for entry in entries {
        match section.key(&entry.key) {
            Some(key) => check_kind(&entry.node, &key.kind, problems),
            None => problems.push(unknown_key(entry, section)),
        }
    }
    for key in section.keys {
        if matches!(key.default, Default::Required) && node.entry(key.name).is_none() {
            let message = format!("{} lacks `{}`", section.name, key.name);
            problems.push(Problem::new(
                node.place,
                message,
                format!("add `{}: ...`: {}", key.name, key.doc),
            ));
        }
    }
}

fn unknown_key(entry: &Entry, section: &Section) -> Problem {
    let names = section.keys.iter().map(|key| key.name);
    let is_it = |moved: &&(&str, &str, &str)| (moved.0, moved.1) == (section.name, &entry.key);
    let moved = MOVED.iter().find(is_it).map(|(_, _, mend)| *mend);
    let mend = match did_you_mean(&entry.key, names.clone()) {
        _ if moved.is_some() => moved.unwrap_or_default().to_owned(),
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("{} knows {}", section.name, listed(names)),
    };
    Problem::new(
        entry.key_place,
        format!("unknown key `{}`", entry.key),
        mend,
    )
}

/// Keys that stood in a section once, and where they are now.
const MOVED: [(&str, &str, &str); 1] = [(
    "sagas",
    "store",
    "move it to the top of the file: `store: { sqlite: PATH }`",
)];

/// Checks a value.
pub(crate) fn check_kind(node: &Node, kind: &'static Kind, problems: &mut Vec<Problem>) {
    match kind {
        Kind::Json => {}
        Kind::Part(section) => check_section(node, section, problems),
        Kind::List(item) => match &node.value {
            Value::List(items) => items
                .iter()
                .for_each(|node| check_kind(node, item, problems)),
            _ => wrong_form(node, "a list", problems),
        },
        Kind::Names(item) => match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    check_name(entry, problems);
                    check_kind(&entry.node, item, problems);
                }
            }
            Value::Empty => {}
            _ => wrong_form(node, "a mapping from names", problems),
        },
        Kind::Statuses(item) => match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    if statuses(&entry.key).is_none() {
                        let message = format!("`{}` is no status", entry.key);
                        let mend = "write a status such as `404`, or a range such as `500-504`";
                        problems.push(Problem::new(entry.key_place, message, mend));
                    }
                    check_kind(&entry.node, item, problems);
                }
            }
            _ => wrong_form(node, "a mapping from statuses", problems),
        },
        Kind::AnyOf(kinds) => check_any(node, kinds, problems),
        scalar => match &node.value {
            Value::Scalar(text) => {
                if let Err(mend) = scalar.check_text(text) {
                    let message = format!("`{text}` does not fit here");
                    problems.push(Problem::new(node.place, message, mend));
                }
            }
            _ => wrong_form(node, &scalar.described(), problems),
        },
    }
}

/// The kind whose form fits is the one that was meant.
fn check_any(node: &Node, kinds: &'static [Kind], problems: &mut Vec<Problem>) {
    let fits = |kind: &&Kind| match (&node.value, kind) {
        (Value::Map(_), Kind::Part(_) | Kind::Names(_) | Kind::Statuses(_)) => true,
        (Value::List(_), Kind::List(_)) => true,
        (Value::Scalar(text), kind) => kind.check_text(text).is_ok(),
        _ => false,
    };
    if let Some(kind) = kinds.iter().find(fits) {
        return check_kind(node, kind, problems);
    }
    let message = match &node.value {
        Value::Scalar(text) => format!("`{text}` does not fit here"),
        _ => format!("{} does not fit here", node.form()),
    };
    let mend = match &node.value {
        Value::Scalar(text) => mend_text(text, kinds),
        _ => {
            let described: Vec<_> = kinds.iter().map(Kind::described).collect();
            format!("write {}", described.join(", or "))
        }
    };
    problems.push(Problem::new(node.place, message, mend));
}

/// How to mend a single value of which there may be several kinds: as a word that is close, or as
/// the first kind says, with the words that would do as well.
fn mend_text(text: &str, kinds: &'static [Kind]) -> String {
    let words: Vec<&str> = kinds
        .iter()
        .filter_map(|kind| match kind {
            Kind::Choice(words) => Some(words.iter().copied()),
            _ => None,
        })
        .flatten()
        .collect();
    if let Some(word) = did_you_mean(text, words.iter().copied()) {
        return format!("did you mean `{word}`?");
    }
    let open = kinds.iter().find(|kind| !matches!(kind, Kind::Choice(_)));
    match open.map(|kind| kind.check_text(text)) {
        Some(Err(mend)) if words.is_empty() => mend,
        Some(Err(mend)) => format!("{mend}, or {}", listed(words.into_iter())),
        Some(Ok(())) | None => format!("write {}", listed(words.into_iter())),
    }
}

fn check_name(entry: &Entry, problems: &mut Vec<Problem>) {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let name = &entry.key;
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fine) {
        let message = format!("`{name}` cannot be a name");
        let mend = "use up to 64 letters, digits, `-`, `_` and `.`: it appears in metrics and logs";
        problems.push(Problem::new(entry.key_place, message, mend));
    }
}

fn wrong_form(node: &Node, wanted: &str, problems: &mut Vec<Problem>) {
    let message = format!("{} does not fit here", node.form());
    problems.push(Problem::new(node.place, message, format!("write {wanted}")));
}

impl Kind {
    /// What describes its mapping.
    pub(crate) fn section(&self) -> Option<&'static Section> {
        match self {
            Kind::Part(section) => Some(section),
            Kind::AnyOf(kinds) => kinds.iter().find_map(Kind::section),
            _ => None,
        }
    }

    /// Whether a single value can be of this kind; if not, how to write one.
    fn check_text(&self, text: &str) -> Result<(), String> {
        match self {
            Kind::Duration => value::duration(text).map(drop),
            Kind::Size => value::size(text).map(drop),
            Kind::Share => value::share(text).map(drop),
            Kind::Quantile => value::quantile(text)
                .map(drop)
                .ok_or_else(|| "write a quantile such as `p95`".to_owned()),
            Kind::Count(least, most) => value::count(text, *least, *most).map(drop),
            Kind::Factor => match value::decimal(text) {
                Some(factor) if (1.0..=1000.0).contains(&factor) => Ok(()),
                _ => Err("write a number from 1 to 1000, such as `2`".to_owned()),
            },
            Kind::Number(least, most) => match value::decimal(text) {
                Some(number) if (*least..=*most).contains(&number) => Ok(()),
                _ => Err(format!("write a number from {least} to {most}")),
            },
            Kind::Percent => value::percent(text).map(drop),
            Kind::Rate => value::rate(text).map(drop),
            Kind::Promise => crate::scenario::promise(text).map(drop),
            Kind::Truth => value::truth(text).map(drop),
            Kind::Limit(of) => match value::limit(text) {
                Some((_, threshold)) => of.check_text(threshold),
                None => Err(format!("write {}", self.described())),
            },
            Kind::Text | Kind::Json => Ok(()),
            Kind::Address => text.parse::<std::net::SocketAddr>().map(drop).map_err(|_| {
                "write an address and a port, such as `127.0.0.1:8080` or `[::]:8080`".to_owned()
            }),
            Kind::Network => crate::request::network(text).map(drop),
            Kind::Url => crate::request::endpoint("", text).map(drop),
            Kind::Pattern => crate::request::pattern(text).map(drop),
            Kind::Choice(words) if words.contains(&text) => Ok(()),
            Kind::Choice(words) => Err(match did_you_mean(text, words.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("write {}", listed(words.iter().copied())),
            }),
            Kind::AnyOf(kinds) => {
                let mut tried = kinds.iter().map(|kind| kind.check_text(text));
                let fits = tried.clone().any(|tried| tried.is_ok());
                if fits {
                    Ok(())
                } else {
                    tried.next_back().unwrap_or(Ok(()))
                }
            }
            Kind::List(_) | Kind::Names(_) | Kind::Statuses(_) | Kind::Part(_) => {
                Err(format!("write {}", self.described()))
            }
        }
    }

    /// What it is, for messages.
    pub(crate) fn described(&self) -> String {
        match self {
            Kind::Duration => "a duration such as `250ms`".to_owned(),
            Kind::Size => "a size such as `64KiB`".to_owned(),
            Kind::Share => "a share such as `10%`".to_owned(),
            Kind::Quantile => "a quantile such as `p95`".to_owned(),
            Kind::Count(least, most) => format!("a whole number from {least} to {most}"),
            Kind::Factor => "a number from 1 to 1000".to_owned(),
            Kind::Number(least, most) => format!("a number from {least} to {most}"),
            Kind::Percent => "a share such as `300%`".to_owned(),
            Kind::Rate => "a rate such as `200/s`".to_owned(),
            Kind::Promise => "a promise such as `goodput >= 99%`".to_owned(),
            Kind::Truth => "`true` or `false`".to_owned(),
            Kind::Limit(Kind::Share) => "a limit such as `'> 1%'` or `'< 1%'`".to_owned(),
            Kind::Limit(_) => "a limit such as `'> 500ms'` or `'< 500ms'`".to_owned(),
            Kind::Text => "a text".to_owned(),
            Kind::Json => "anything that JSON can be".to_owned(),
            Kind::Address => "an address such as `127.0.0.1:8080`".to_owned(),
            Kind::Network => "a network such as `10.0.0.0/8`".to_owned(),
            Kind::Url => "a URL such as `http://127.0.0.1:7001`".to_owned(),
            Kind::Pattern => "a pattern such as `POST /checkout/**`".to_owned(),
            Kind::Choice(words) => listed(words.iter().copied()),
            Kind::List(item) => format!("a list, each item {}", item.described()),
            Kind::Names(item) => format!("a mapping from names, each to {}", item.described()),
            Kind::Statuses(item) => {
                format!("a mapping from statuses, each to {}", item.described())
            }
            Kind::Part(section) => format!(
                "a mapping with {}",
                listed(section.keys.iter().map(|key| key.name))
            ),
            Kind::AnyOf(kinds) => kinds
                .iter()
                .map(Kind::described)
                .collect::<Vec<_>>()
                .join(", or "),
        }
    }
}

/// A status, or a range of them.
pub(crate) fn statuses(text: &str) -> Option<(u16, u16)> {
    let status = |text: &str| {
        value::count(text, 100, 599)
            .ok()
            .and_then(|status| u16::try_from(status).ok())
    };
    let (from, to) = match text.split_once('-') {
        Some((from, to)) => (status(from)?, status(to)?),
        None => (status(text)?, status(text)?),
    };
    (from <= to).then_some((from, to))
}

fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
