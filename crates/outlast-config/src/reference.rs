//! The reference of all keys for people, made from the same description that files are checked by.

use std::fmt::Write;

use crate::sections;
use crate::shape::{Default, Kind, Section};

/// All sections of policy files and their keys, as Markdown tables.
pub fn reference() -> String {
    reference_of(&sections::FILE)
}

/// All sections of scenario files and their keys, as Markdown tables.
pub fn scenario_reference() -> String {
    reference_of(&sections::SCENARIO)
}

fn reference_of(file: &'static Section) -> String {
    let mut page = String::new();
    of(&mut page, file, &mut Vec::new());
    page
}

/// A section that is part of several is told with the first of them.
fn of(page: &mut String, section: &'static Section, told: &mut Vec<&'static Section>) {
    if told.iter().any(|known| std::ptr::eq(*known, section)) {
        return;
    }
    told.push(section);
    let mut inner: Vec<&'static Section> = Vec::new();
    write(
        page,
        format_args!("### {}\n\n{}\n\n", section.name, section.doc),
    );
    write(
        page,
        format_args!("| key | value | default | what it is |\n|---|---|---|---|\n"),
    );
    for key in section.keys {
        let default = match key.default {
            Default::Required => "**required**".to_owned(),
            Default::Is(value) => format!("`{value}`"),
            Default::Means(meaning) => meaning.to_owned(),
        };
        let value = value(&key.kind);
        write(
            page,
            format_args!("| `{}` | {value} | {default} | {} |\n", key.name, key.doc),
        );
        parts(&key.kind, &mut inner);
    }
    page.push('\n');
    for section in inner {
        of(page, section, told);
    }
}

fn write(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes everything");
}

fn value(kind: &Kind) -> String {
    match kind {
        Kind::Duration => "duration".to_owned(),
        Kind::Size => "size".to_owned(),
        Kind::Share => "share".to_owned(),
        Kind::Quantile => "quantile".to_owned(),
        Kind::Count(least, most) => format!("{least} to {most}"),
        Kind::Factor => "1 to 1000".to_owned(),
        Kind::Number(least, most) => format!("{least} to {most}"),
        Kind::Percent => "share".to_owned(),
        Kind::Rate => "rate".to_owned(),
        Kind::Promise => "promise".to_owned(),
        Kind::Truth => "`true`, `false`".to_owned(),
        Kind::Limit(of) => format!("`>` or `<` and a {}", value(of)),
        Kind::Text => "text".to_owned(),
        Kind::Json => "any JSON".to_owned(),
        Kind::Address => "address".to_owned(),
        Kind::Network => "network".to_owned(),
        Kind::Url => "URL".to_owned(),
        Kind::Pattern => "pattern".to_owned(),
        Kind::Choice(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(", ")
        }
        Kind::List(item) => format!("list of {}", value(item)),
        Kind::Names(item) => format!("names with {}", value(item)),
        Kind::Statuses(item) => format!("statuses with {}", value(item)),
        Kind::Part(section) => section.name.to_owned(),
        Kind::AnyOf(kinds) => kinds.iter().map(value).collect::<Vec<_>>().join("; "),
    }
}

fn parts(kind: &'static Kind, found: &mut Vec<&'static Section>) {
    match kind {
        Kind::Part(section) if found.iter().all(|known| known.name != section.name) => {
            // A backoff is part of two sections, and told in the first.
            found.push(section);
        }
        Kind::List(item) | Kind::Names(item) | Kind::Statuses(item) => parts(item, found),
        Kind::AnyOf(kinds) => kinds.iter().for_each(|kind| parts(kind, found)),
        _ => {}
    }
}
