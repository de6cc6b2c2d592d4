//! YAML as a tree of nodes that know their place.
//!
//! Only what a policy file needs: one document of mappings, lists and scalars. Anchors, aliases,
//! merge keys and tags are refused, because they hide what a file says (and let a small file grow
//! beyond any bound); so are duplicate keys. Size and depth are bounded.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as Parsed};

use crate::problem::{Place, Problem};

/// A node and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) end: End,
    pub(crate) value: Value,
    /// Whether it is a single value without quotes, which may be a number.
    pub(crate) plain: bool,
}

/// Where a node ends: behind its last character, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Nothing at all: a key without a value, or `~`.
    Empty,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

impl Node {
    /// What it is, for messages.
    pub(crate) fn form(&self) -> &'static str {
        match self.value {
            Value::Empty => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Value::Empty | Value::Scalar(_) | Value::List(_) => None,
        }
    }

    /// The same for equal content, whatever its order, style and comments.
    pub(crate) fn canonical(&self) -> String {
        match &self.value {
            Value::Empty => "~".to_owned(),
            Value::Scalar(text) => format!("{text:?}"),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(Node::canonical).collect();
                format!("[{}]", items.join(","))
            }
            Value::Map(entries) => {
                let entry = |entry: &Entry| format!("{:?}:{}", entry.key, entry.node.canonical());
                let mut entries: Vec<_> = entries.iter().map(entry).collect();
                entries.sort_unstable();
                format!("{{{}}}", entries.join(","))
            }
        }
    }
}

/// The tree of a file. What is wrong with its syntax ends the reading; duplicate keys do not.
pub(crate) fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    if text.len() > MOST_BYTES {
        let message = format!("the file has {} bytes", text.len());
        problems.push(Problem::new(
            Place::START,
            message,
            "a policy file has at most 1 MiB",
        ));
        return None;
    }
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        problems,
    };
    match reader.document() {
        Ok(node) => Some(node),
        Err(problem) => {
            reader.problems.push(problem);
            None
        }
    }
}

struct Reader<'a, 'p> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Reader<'a, '_> {
    fn document(&mut self) -> Result<Node, Problem> {
        let mut node = None;
        loop {
            let (event, place, _) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) if node.is_some() => {
                    let mend = "put everything into one document, without `---` in between";
                    return Err(Problem::new(place, "there is a second document", mend));
                }
                Event::DocumentStart(_) => {
                    let (event, place, end) = self.next()?;
                    node = Some(self.node(event, place, end, 0)?);
                }
                _ => return Err(unexpected(place)),
            }
        }
        Ok(node.unwrap_or(Node {
            place: Place::START,
            end: End { line: 1, column: 1 },
            value: Value::Empty,
            plain: true,
        }))
    }

    fn node(
        &mut self,
        event: Event<'a>,
        place: Place,
        mut end: End,
        depth: usize,
    ) -> Result<Node, Problem> {
        if depth > MOST_DEPTH {
            let mend = "no setting lies so deep; look for a bracket or an indentation too much";
            return Err(Problem::new(place, "this is nested too deeply", mend));
        }
        let mut plain = false;
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse(anchor, tag.is_some(), place)?;
                plain = style == ScalarStyle::Plain;
                scalar(text, style)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse(anchor, tag.is_some(), place)?;
                Value::List(self.list(depth, &mut end)?)
            }
            Event::MappingStart(anchor, tag) => {
                refuse(anchor, tag.is_some(), place)?;
                Value::Map(self.map(depth, &mut end)?)
            }
            Event::Alias(_) => return Err(anchored(place)),
            _ => return Err(unexpected(place)),
        };
        Ok(Node {
            place,
            end,
            value,
            plain,
        })
    }

    /// `end` becomes that of the bracket, or, without brackets, that of the last item.
    fn list(&mut self, depth: usize, end: &mut End) -> Result<Vec<Node>, Problem> {
        let mut items: Vec<Node> = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, place, after) => {
                    *end = closing(place, after, items.last().map(|item| item.end), *end);
                    return Ok(items);
                }
                (event, place, end) => items.push(self.node(event, place, end, depth + 1)?),
            }
        }
    }

    /// `end` becomes that of the brace, or, without braces, that of the last value.
    fn map(&mut self, depth: usize, end: &mut End) -> Result<Vec<Entry>, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, place, after) = self.next()?;
            let key = match event {
                Event::MappingEnd => {
                    *end = closing(
                        place,
                        after,
                        entries.last().map(|entry| entry.node.end),
                        *end,
                    );
                    return Ok(entries);
                }
                Event::Scalar(text, ..) => text.into_owned(),
                _ => {
                    let mend = "a key is a single word, such as `breaker:`; a text that begins with \
                                a bracket stands in quotes";
                    return Err(Problem::new(place, "this cannot be a key", mend));
                }
            };
            let (event, value_place, value_end) = self.next()?;
            let mut node = self.node(event, value_place, value_end, depth + 1)?;
            if matches!(node.value, Value::Empty) {
                // What is not there has no place that could be relied on.
                node.end = node.end.max(after);
            }
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let message = format!("`{key}` is given twice");
                let mend = format!("it is already in line {}", first.key_place.line);
                self.problems.push(Problem::new(place, message, mend));
                continue;
            }
            entries.push(Entry {
                key,
                key_place: place,
                node,
            });
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Place, End), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(span), end(span))),
            Some(Err(error)) => {
                let marker = error.marker();
                let place = Place {
                    line: marker.line(),
                    column: marker.col() + 1,
                    length: 1,
                };
                let mend =
                    "this is not YAML; look at the indentation, quotes and brackets before it";
                Err(Problem::new(place, error.info().to_owned(), mend))
            }
            None => Err(Problem::new(
                Place::START,
                "the file ends too early",
                "close what is open",
            )),
        }
    }
}

/// Beyond this, a file is no policy file.
const MOST_BYTES: usize = 1024 * 1024;
/// The deepest setting lies at eight.
const MOST_DEPTH: usize = 16;

fn place(span: Parsed) -> Place {
    let same_line = span.end.line() == span.start.line();
    let length = if same_line {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    Place {
        line: span.start.line().max(1),
        column: span.start.col() + 1,
        length: length.max(1),
    }
}

fn end(span: Parsed) -> End {
    End {
        line: span.end.line().max(1),
        column: span.end.col() + 1,
    }
}

/// The end of what a bracket closes; what none closes ends with its last part, although the parser
/// notices only where the next thing begins.
fn closing(place: Place, after: End, last: Option<End>, begin: End) -> End {
    let is_bracket = after
        > (End {
            line: place.line,
            column: place.column,
        });
    if is_bracket {
        after
    } else {
        last.unwrap_or(begin)
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    let is_empty = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null");
    if is_empty {
        Value::Empty
    } else {
        Value::Scalar(text.into_owned())
    }
}

/// Refuses what a node is decorated with.
fn refuse(anchor: usize, has_tag: bool, place: Place) -> Result<(), Problem> {
    if anchor != 0 {
        return Err(anchored(place));
    }
    if has_tag {
        let message = "tags (`!name`) are not used here";
        return Err(Problem::new(place, message, "leave it out"));
    }
    Ok(())
}

fn anchored(place: Place) -> Problem {
    let message = "anchors and aliases (`&name`, `*name`) are not used here";
    let mend = "write it out; a pattern such as `*.shop.test` needs quotes";
    Problem::new(place, message, mend)
}

fn unexpected(place: Place) -> Problem {
    Problem::new(
        place,
        "this does not belong here",
        "look at the indentation",
    )
}
