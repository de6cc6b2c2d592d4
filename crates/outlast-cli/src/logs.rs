//! Where log lines go: to standard error, for people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::commands::LogFormat;

/// Begins to log; an error says what is wrong with `filter`.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter: EnvFilter = filter
        .parse()
        .map_err(|error| format!("--log-level {filter:?} is no level: {error}"))?;
    let mut lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if !std::io::stderr().is_terminal() {
        lines = lines.with_ansi(false);
    }
    match format {
        LogFormat::Human => lines.with_target(true).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
