//! What is measured once: a sync of the disk, going on after a crash, and queues.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::measure::Load;
use super::system::{data_in, ours};
use crate::root;

/// What it takes to append 4 KiB to a file and have it on the disk: half of all times and 99 of 100, in
/// microseconds.
pub(super) fn sync(folder: &Path) -> Result<[u128; 2], String> {
    let path = folder.join("sync");
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = fs::File::create(&path).map_err(failed)?;
    let mut took = Vec::new();
    for _ in 0..SYNCS {
        let before = Instant::now();
        file.write_all(&[b'x'; 4096]).map_err(failed)?;
        file.sync_data().map_err(failed)?;
        took.push(before.elapsed().as_micros());
    }
    fs::remove_file(&path).map_err(failed)?;
    took.sort_unstable();
    Ok([took[SYNCS / 2], took[SYNCS * 99 / 100]])
}

const SYNCS: usize = 2000;

/// How long after its start a process has got so far with what another one left.
pub(super) struct Resumed {
    /// Sagas a second that it may go on with.
    pub(super) pace: usize,
    /// A step is under way.
    pub(super) first: Duration,
    /// A step of each saga has been begun.
    pub(super) all: Duration,
    /// The last saga has ended.
    pub(super) ended: Duration,
}

/// Kills a process with so many sagas in flight and has another one go on.
pub(super) fn resume(folder: &Path, count: usize, pace: usize) -> Result<Resumed, String> {
    let file = data_in(folder)?.join("sagas.db");
    let count = count.to_string();
    let mut leaves = Load::spawn(Command::new(ours()).arg("leave").arg(&file).arg(&count))?;
    leaves.says("ready")?;
    leaves.kill()?;
    let start = Instant::now();
    let mut resume = Command::new(ours());
    resume.arg("resume").arg(&file).arg(&count);
    let resumes = Load::spawn(resume.arg(pace.to_string()))?;
    let until = |line| resumes.says(line).map(|()| start.elapsed());
    Ok(Resumed {
        pace,
        first: until("first")?,
        all: until("all")?,
        ended: until("ended")?,
    })
}

/// The table of the queue's own benchmark, and messages a second pushed and delivered.
pub(super) fn queue(folder: &Path) -> Result<(String, f64), String> {
    let queue = root().join("target/release/queue");
    let output = Command::new(queue).arg(folder).output();
    let output = output.map_err(|error| format!("the queue could not be started: {error}"))?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = table
        .lines()
        .find_map(|line| line.strip_prefix("| pushed and delivered |"));
    let rate = row.and_then(|row| row.split('|').next()?.trim().parse().ok());
    let rate = rate.ok_or(format!("the queue's benchmark says {table:?}"))?;
    Ok((table, rate))
}

/// Sagas a second that a runner goes on with unless it is told otherwise.
pub(super) const DEFAULT_PACE: usize = 20_000;
/// More than a machine can go on with.
pub(super) const FAST_PACE: usize = 1_000_000;
