//! One line of a journal: JSON, for programs and people.
//!
//! ```text
//! {"at":1764207290123,"key":"order-7","provider":"stripe","event":"begins"}
//! {"at":1764207290188,"key":"order-7","provider":"stripe","event":"refused","free":true}
//! ```

use serde::{Deserialize, Serialize};

use super::Verdict;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// In milliseconds of Unix time.
    pub(super) at: u64,
    pub(super) key: &'a str,
    pub(super) provider: &'a str,
    pub(super) happening: Happening,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// An attempt is about to be made.
    Begins,
    /// It has ended, and perhaps the key is free.
    Ends { verdict: Verdict, free: bool },
}

#[derive(Serialize)]
struct Written<'a> {
    at: u64,
    key: &'a str,
    provider: &'a str,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<bool>,
}

/// A line as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct Read {
    pub(super) at: u64,
    pub(super) key: String,
    pub(super) provider: String,
    event: String,
    #[serde(default)]
    pub(super) free: bool,
}

impl Line<'_> {
    /// Appends it, with its end.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let (event, free) = match self.happening {
            Happening::Begins => (BEGINS, None),
            Happening::Ends { verdict, free } => (name(verdict), Some(free)),
        };
        let written = Written {
            at: self.at,
            key: self.key,
            provider: self.provider,
            event,
            free,
        };
        serde_json::to_writer(&mut *into, &written).expect("texts and numbers are JSON");
        into.push(b'\n');
    }
}

impl Read {
    pub(super) fn parse(line: &str) -> Option<Read> {
        let read: Read = serde_json::from_str(line).ok()?;
        let is_known = read.begins() || VERDICTS.iter().any(|&known| name(known) == read.event);
        is_known.then_some(read)
    }

    pub(super) fn begins(&self) -> bool {
        self.event == BEGINS
    }

    pub(super) fn served(&self) -> bool {
        self.event == name(Verdict::Served)
    }
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Untried => "untried",
        Verdict::Refused => "refused",
        Verdict::Served => "served",
        Verdict::Unknown => "unknown",
    }
}

const BEGINS: &str = "begins";
const VERDICTS: [Verdict; 4] = [
    Verdict::Untried,
    Verdict::Refused,
    Verdict::Served,
    Verdict::Unknown,
];
