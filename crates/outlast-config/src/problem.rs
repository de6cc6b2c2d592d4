//! What is wrong with a file: where, what, and the edit that mends it.
//!
//! All problems of a file are told at once, in its order, up to a bound. Each shows its line and
//! points at the place, as a compiler does.

use std::error::Error;
use std::fmt;
use std::path::Path;

/// A place in a file: counted from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
    /// How many characters are meant.
    pub length: usize,
}

impl Place {
    /// The beginning of a file.
    pub const START: Place = Place {
        line: 1,
        column: 1,
        length: 1,
    };
}

/// One thing that is wrong, before its line is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    pub(crate) message: String,
    pub(crate) mend: String,
}

impl Problem {
    pub(crate) fn new(
        place: Place,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Problem {
        Problem {
            place,
            message: message.into(),
            mend: mend.into(),
        }
    }
}

/// Something in a file that people should look at: an error or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    severity: Severity,
    file: String,
    /// Nothing is shown of a file that cannot be read.
    line: Option<String>,
    problem: Problem,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can be used, but may not do what it seems to.
    Warning,
}

impl Severity {
    /// Its name in messages and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

impl Finding {
    /// Whether it is an error or a warning.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where in the file.
    pub fn place(&self) -> Place {
        self.problem.place
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.problem.message
    }

    /// The edit that mends it.
    pub fn mend(&self) -> &str {
        &self.problem.mend
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            place,
            message,
            mend,
        } = &self.problem;
        let Some(line) = &self.line else {
            writeln!(f, "{}: {message}", self.severity.name())?;
            writeln!(f, " --> {}", self.file)?;
            return writeln!(f, "  = {mend}");
        };
        let number = place.line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(f, "{}: {message}", self.severity.name())?;
        writeln!(
            f,
            "{gutter}--> {}:{}:{}",
            self.file, place.line, place.column
        )?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {line}")?;
        let before: String = line
            .chars()
            .take(place.column - 1)
            .map(|character| if character == '\t' { '\t' } else { ' ' })
            .collect();
        // A mend of several lines goes on below, so far to the left that it fits.
        let mut lines = mend.lines();
        let first = lines.next().unwrap_or_default();
        writeln!(f, "{gutter} | {before}{} {first}", "^".repeat(place.length))?;
        lines.try_for_each(|line| writeln!(f, "{gutter} |   {line}"))
    }
}

/// Everything that is wrong with a file; at most 50 findings, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    findings: Vec<Finding>,
    more: usize,
}

impl Problems {
    /// What is wrong, in the order of the file.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether the file could not be read at all: it is not there, may not be read, or is not UTF-8.
    pub fn is_unreadable(&self) -> bool {
        self.findings.iter().any(|finding| finding.line.is_none())
    }

    /// Of a file that cannot be read.
    pub(crate) fn unreadable(file: &Path, error: &std::io::Error, mend: &str) -> Problems {
        let message = format!("the file cannot be read: {error}");
        let finding = Finding {
            severity: Severity::Error,
            file: file.display().to_string(),
            line: None,
            problem: Problem::new(Place::START, message, mend),
        };
        Problems {
            findings: vec![finding],
            more: 0,
        }
    }

    pub(crate) fn new(file: &str, text: &str, mut problems: Vec<Problem>) -> Problems {
        problems.sort_by_key(|problem| problem.place);
        let more = problems.len().saturating_sub(MOST_FINDINGS);
        problems.truncate(MOST_FINDINGS);
        Problems {
            findings: findings(Severity::Error, file, text, problems),
            more,
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let count = self.findings.len() + self.more;
        let errors = if count == 1 { "error" } else { "errors" };
        write!(f, "{count} {errors}")?;
        if self.more > 0 {
            write!(f, ", of which {} are not shown", self.more)?;
        }
        Ok(())
    }
}

impl Error for Problems {}

/// Adds to problems the lines that they are in.
pub(crate) fn findings(
    severity: Severity,
    file: &str,
    text: &str,
    problems: Vec<Problem>,
) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().collect();
    let line = |problem: &Problem| {
        let line = lines
            .get(problem.place.line - 1)
            .copied()
            .unwrap_or_default();
        let shown: String = line.chars().take(MOST_COLUMNS).collect();
        shown.trim_end().to_owned()
    };
    let finding = |mut problem: Problem| {
        let line = line(&problem);
        let room = MOST_COLUMNS.saturating_sub(problem.place.column - 1).max(1);
        problem.place.length = problem.place.length.min(room);
        Finding {
            severity,
            file: file.to_owned(),
            line: Some(line),
            problem,
        }
    };
    problems.into_iter().map(finding).collect()
}

/// More than anybody mends in one go.
const MOST_FINDINGS: usize = 50;
/// A line of a file that is longer is cut in messages.
const MOST_COLUMNS: usize = 160;

/// "; did you mean `...`?", if one of the words is close.
pub(crate) fn did_you_mean<'a>(
    given: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let close = |word: &&str| strsim::jaro_winkler(&given.to_lowercase(), word) > 0.8;
    let mut best: Vec<_> = words.into_iter().filter(close).collect();
    best.sort_by(|a, b| {
        let likeness = |word: &str| strsim::jaro_winkler(given, word);
        likeness(b).total_cmp(&likeness(a))
    });
    best.first().copied()
}
