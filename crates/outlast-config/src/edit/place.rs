//! From places in a text to bytes of it.

use crate::yaml::{Node, Value};

/// Where a line and a column begin, both counted from 1 in characters; the column behind the last
/// character is its end.
pub(super) fn offset(text: &str, line: usize, column: usize) -> Option<usize> {
    let (start, line) = line_at(text, line)?;
    let mut columns = line.char_indices().map(|(at, _)| at).chain([line.len()]);
    Some(start + columns.nth(column - 1)?)
}

/// The bytes of a single value, with its quotes; `None` if it has several lines.
pub(super) fn span(text: &str, node: &Node) -> Option<(usize, usize)> {
    let start = offset(text, node.place.line, node.place.column)?;
    let end = end(text, node)?;
    let value = text.get(start..end)?;
    (!value.is_empty() && !value.contains('\n')).then_some((start, end))
}

/// Behind the last character of a node.
pub(super) fn end(text: &str, node: &Node) -> Option<usize> {
    let start = offset(text, node.place.line, node.place.column)?;
    let end = offset(text, node.end.line, node.end.column)?;
    let value = text.get(start..end)?;
    let quote = value
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''));
    let length = match (&node.value, quote) {
        // The parser ends it where the next thing begins, behind comments.
        (Value::Scalar(_), Some(quote)) => quoted_length(value, quote),
        _ => value.trim_end().len(),
    };
    Some(start + length)
}

/// Up to the quote that closes it. Two single ones are one that is meant, as is one behind `\`.
fn quoted_length(value: &str, quote: char) -> usize {
    let mut characters = value.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let is_pair = match quote {
            '"' => character == '\\',
            _ => character == quote && next == Some(quote),
        };
        if is_pair {
            characters.next();
        } else if character == quote {
            return at + 1;
        }
    }
    value.len()
}

/// The end of the line, without its break, in which an offset lies.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let line = rest.split('\n').next().unwrap_or_default();
    at + line.trim_end_matches('\r').len()
}

/// The line break that a text uses.
pub(super) fn line_break(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// The offset of a line, and the line without its `\n`.
fn line_at(text: &str, number: usize) -> Option<(usize, &str)> {
    let mut start = 0;
    for (at, line) in text.split('\n').enumerate() {
        if at + 1 == number {
            return Some((start, line));
        }
        start += line.len() + 1;
    }
    None
}
