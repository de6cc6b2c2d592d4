//! What is told, on standard output and on standard error.
//!
//! Whoever reads may have seen enough and be gone (`outlast sim ... | head -1`). That is no failure:
//! the rest is dropped, and the exit code is what it would have been.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::UNABLE;

/// Prints a result, and then is the exit code; another one if it could not be printed.
pub(crate) fn end(text: &str, code: ExitCode) -> ExitCode {
    match print(text) {
        Ok(()) => code,
        Err(error) => {
            tell(format_args!(
                "standard output could not be written: {error}"
            ));
            ExitCode::from(UNABLE)
        }
    }
}

/// Prints a part of a result.
///
/// # Errors
/// If it cannot be written, but not if nobody reads it any more.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A line on standard error: what is no result.
pub(crate) fn tell(text: impl fmt::Display) {
    // There is nowhere left to say that it cannot be said.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A file as a word of a command line, in quotes where a shell needs them.
pub(crate) fn word(file: &Path) -> String {
    let text = file.display().to_string();
    let is_plain = |one: char| one.is_alphanumeric() || "/._-+:@%,=".contains(one);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// A time as a file would have it: in whole hours or minutes, if it is.
pub(crate) fn time(time: Duration) -> String {
    match (time.as_secs(), time.subsec_nanos()) {
        (0, _) | (_, 1..) => format!("{time:?}"),
        (seconds, 0) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (seconds, 0) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        (seconds, 0) => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_in_files() {
        let check = |millis, text: &str| assert_eq!(time(Duration::from_millis(millis)), text);
        check(0, "0ns");
        check(250, "250ms");
        check(1_500, "1.5s");
        check(90_000, "90s");
        check(300_000, "5m");
        check(7_200_000, "2h");
    }

    #[test]
    fn a_command_line_can_be_pasted() {
        let check = |file: &str, expected: &str| assert_eq!(word(Path::new(file)), expected);
        check("a/b-1.yaml", "a/b-1.yaml");
        check("my shop.yaml", "'my shop.yaml'");
        check("it's.yaml", "'it'\\''s.yaml'");
        check("$HOME", "'$HOME'");
    }
}
