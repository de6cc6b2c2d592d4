//! Where log lines go: to standard error, for people or as JSON.
//!
//! A thread of its own writes them. Whoever reads them may be slow, or stop reading; then lines are
//! dropped, and nobody waits.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::commands::LogFormat;

/// Begins to log, until the guard is dropped; an error says what is wrong with `filter`.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<WorkerGuard, String> {
    let filter: EnvFilter = filter
        .parse()
        .map_err(|error| format!("--log-level {filter:?} is no level: {error}"))?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MOST_LINES)
        .finish(std::io::stderr());
    let mut lines = fmt().with_env_filter(filter).with_writer(writer);
    if !std::io::stderr().is_terminal() {
        lines = lines.with_ansi(false);
    }
    match format {
        LogFormat::Human => lines.with_target(true).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(guard)
}

/// Lines that may wait to be written, about two megabytes.
const MOST_LINES: usize = 8192;
