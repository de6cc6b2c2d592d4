//! `outlast serve`: the gateway, and the signals and the file that steer it.
//!
//! The file is looked at once a second, by its content. Notifications of the system would come
//! sooner, but not for what matters most: a mounted ConfigMap changes by swapping a symbolic link
//! two folders up, and network file systems notify nobody.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use outlast_config::plan::Plan;
use outlast_gateway::{Gateway, Options};
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::Serve;
use crate::{FAILED, UNABLE, failed, logs, output};

/// Serves until it is told to stop.
pub(crate) fn run(serve: &Serve) -> ExitCode {
    let (_logs, dropped) = match logs::start(serve.log, &serve.log_level) {
        Ok(started) => started,
        Err(error) => {
            output::tell(error);
            return ExitCode::from(UNABLE);
        }
    };
    // Looked at before it is loaded: a change in between is one.
    let watched = Watched::new(&serve.file);
    let loaded = match outlast_config::load(&serve.file) {
        Ok(loaded) => loaded,
        Err(problems) => {
            output::tell(&problems);
            return ExitCode::from(failed(&problems));
        }
    };
    loaded.warnings().iter().for_each(output::tell);
    let plan = loaded.into_plan();
    let source = serve.file.clone();
    let options = Options {
        reload: Some(Arc::new(move || read(&source))),
        dropped_lines: Some(Arc::new(move || dropped.dropped_lines())),
    };
    let drain = plan.gateway.drain;
    let gateway = match Gateway::start(plan, options) {
        Ok(gateway) => gateway,
        Err(error) => {
            output::tell(error);
            return ExitCode::from(UNABLE);
        }
    };
    for address in gateway.addresses() {
        tracing::info!(%address, "clients connect here");
    }
    if let Some(address) = gateway.admin_address() {
        tracing::info!(%address, "operators connect here");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(steer(watched, gateway, drain))) {
        Ok(code) => code,
        Err(error) => {
            output::tell(format_args!("signals cannot be received: {error}"));
            ExitCode::from(UNABLE)
        }
    }
}

fn read(file: &Path) -> Result<Plan, String> {
    match outlast_config::load(file) {
        Ok(loaded) => Ok(loaded.into_plan()),
        Err(problems) => Err(problems.to_string()),
    }
}

/// Reloads until it is told to stop, and stops.
async fn steer(
    mut watched: Watched<'_>,
    gateway: Gateway,
    mut drain: Duration,
) -> io::Result<ExitCode> {
    let file = watched.file;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = hang_up.recv() => {
                watched.has_changed();
                reload(file, &gateway, &mut drain);
            }
            _ = look.tick() => {
                if watched.has_changed() {
                    reload(file, &gateway, &mut drain);
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!(within = ?drain, "draining; a second signal stops at once");
    let stopped = tokio::task::spawn_blocking(move || gateway.stop(drain));
    tokio::select! {
        ended = stopped => {
            let ended = ended.unwrap_or(false);
            tracing::info!(all_requests_ended = ended, "stopped");
            Ok(if ended { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
        }
        _ = terminate.recv() => std::process::exit(i32::from(FAILED)),
        _ = interrupt.recv() => std::process::exit(i32::from(FAILED)),
    }
}

fn reload(file: &Path, gateway: &Gateway, drain: &mut Duration) {
    let loaded = match outlast_config::load(file) {
        Ok(loaded) => loaded,
        Err(problems) => {
            tracing::error!(file = %file.display(), "not reloaded, the old plan holds:\n{problems}");
            return;
        }
    };
    for warning in loaded.warnings() {
        tracing::warn!("{warning}");
    }
    let plan = loaded.into_plan();
    let next_drain = plan.gateway.drain;
    match gateway.reload(plan) {
        Ok(reloaded) => {
            *drain = next_drain;
            tracing::info!(file = %file.display(), "reloaded: {reloaded}");
        }
        Err(error) => {
            tracing::error!(file = %file.display(), "not reloaded, the old plan holds: {error}");
        }
    }
}

/// A file that may change.
struct Watched<'a> {
    file: &'a Path,
    seen: Option<Vec<u8>>,
}

impl Watched<'_> {
    fn new(file: &Path) -> Watched<'_> {
        Watched {
            file,
            seen: std::fs::read(file).ok(),
        }
    }

    /// Whether its content is another than when this was last asked. A file that is away for a
    /// moment, as while it is replaced, has not changed.
    fn has_changed(&mut self) -> bool {
        let now = std::fs::read(self.file).ok();
        let changed = now.is_some() && now != self.seen;
        if changed {
            self.seen = now;
        }
        changed
    }
}

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
