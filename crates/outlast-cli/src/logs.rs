//! Where log lines go: to standard error, for people or as JSON.
//!
//! A thread of its own writes them. Whoever reads them may be slow, or stop reading; then lines are
//! dropped and counted, and nobody waits. A panic is a line like any other.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::commands::LogFormat;

/// Begins to log, until the guard is dropped; an error says what is wrong with `filter`. The counter
/// is that of lines that were dropped.
pub(crate) fn start(
    format: LogFormat,
    filter: &str,
) -> Result<(WorkerGuard, ErrorCounter), String> {
    let filter: EnvFilter = filter
        .parse()
        .map_err(|error| format!("--log-level {filter:?} is no level: {error}"))?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MOST_LINES)
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let mut lines = fmt().with_env_filter(filter).with_writer(writer);
    if !std::io::stderr().is_terminal() {
        lines = lines.with_ansi(false);
    }
    match format {
        LogFormat::Human => lines.with_target(true).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let payload = panic.payload();
        let owned = payload.downcast_ref::<String>().map(String::as_str);
        let message = payload.downcast_ref::<&str>().copied().or(owned);
        let message = message.unwrap_or("no message");
        tracing::error!(place, "panicked: {message}");
    }));
    Ok((guard, dropped))
}

/// Lines that may wait to be written, about two megabytes.
const MOST_LINES: usize = 8192;
