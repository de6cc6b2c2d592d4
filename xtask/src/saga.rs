//! `cargo xtask bench saga`: durable sagas beside Restate and Temporal.
//!
//! Each engine runs five steps that cost nothing and give some 40 bytes of JSON, every one of which is on
//! the disk before the next one begins. One engine runs at a time, on new files, and has both the
//! processors to itself with those that put load on it: a closed loop, which warms up and is measured at
//! 1, 16 and 64 sagas at once. The engines take turns, in an order that changes, and the median of all
//! rounds counts. Processor time is that of all processes, those that put load on the engine included.
//!
//! Restate's server, Temporal's server and what calls them are installed and built on first use, into
//! `target/bench-saga`; PostgreSQL comes from the system's packages. All ports are free ones, and all
//! processes end with the benchmark, also if it fails.

mod measure;
mod once;
mod page;
mod peers;
mod postgres;
mod system;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use self::measure::{Measured, Timing};
use self::once::Resumed;
use self::system::Kind;
use crate::{cargo, root};

/// How much is measured.
pub(crate) struct Extent {
    rounds: usize,
    timing: Timing,
    /// Sagas that a process leaves.
    left: usize,
    /// Whether it is worth a page.
    is_kept: bool,
}

/// What the page is made of: some eight minutes after the builds.
pub(crate) const FULL: Extent = Extent {
    rounds: 3,
    timing: Timing {
        warm_up: Duration::from_millis(1000),
        measured: Duration::from_millis(3000),
    },
    left: 100_000,
    is_kept: true,
};

/// To see that all of it works.
pub(crate) const QUICK: Extent = Extent {
    rounds: 1,
    timing: Timing {
        warm_up: Duration::from_millis(500),
        measured: Duration::from_millis(1500),
    },
    left: 20_000,
    is_kept: false,
};

/// Measures, and writes `bench/results/saga.md`.
pub(crate) fn run(extent: &Extent) -> Result<(), String> {
    let ours = ["build", "--release", "-p", "outlast-bench", "--bin", "saga"];
    cargo(&[&ours[..], &["--bin", "queue"]].concat())?;
    cargo(&["build", "--release", "-p", "outlast-cli"])?;
    peers::install()?;
    let folder = root().join("target/bench-saga/run");
    let sync = once::sync(empty(&folder)?)?;
    let results = rounds(extent, &folder)?;
    println!("sagas that a process left");
    let paces = [once::DEFAULT_PACE, once::FAST_PACE];
    let resumed = paces.map(|pace| once::resume(empty(&folder)?, extent.left, pace));
    let [first, second] = resumed;
    println!("queues");
    let queue = once::queue(empty(&folder)?)?;
    empty(&folder)?;
    let page = page::page(&page::Found {
        extent,
        sync,
        results: &results,
        resumed: &[first?, second?],
        queue: &queue,
    });
    println!("{page}");
    if !extent.is_kept {
        return Ok(());
    }
    let path = root().join("bench/results/saga.md");
    fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))
}

/// All that was measured.
#[derive(Default)]
struct Results {
    /// By engine and how many sagas at once, one for each round.
    cells: BTreeMap<(Kind, usize), Vec<Measured>>,
    /// Bytes on the disk for a saga, one for each round.
    disk: BTreeMap<Kind, Vec<f64>>,
}

fn rounds(extent: &Extent, folder: &Path) -> Result<Results, String> {
    let mut results = Results::default();
    for round in 0..extent.rounds {
        for at in 0..Kind::ALL.len() {
            let kind = Kind::ALL[(at + round * 3) % Kind::ALL.len()];
            println!("round {} of {}: {}", round + 1, extent.rounds, kind.name());
            turn(kind, extent, folder, &mut results)
                .map_err(|error| format!("{}: {error}", kind.name()))?;
        }
    }
    Ok(results)
}

/// One engine in one round.
fn turn(kind: Kind, extent: &Extent, folder: &Path, results: &mut Results) -> Result<(), String> {
    let system = kind.start(empty(folder)?)?;
    let mut sagas = 0;
    for &at_once in kind.concurrencies() {
        let measured = measure::measure(&system, at_once, extent.timing)?;
        println!(
            "  {at_once} at once: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, {:.3} CPU s / 1,000, {:.0} MB",
            measured.rate, measured.p50, measured.p99, measured.processor, measured.memory
        );
        sagas += measured.total;
        results
            .cells
            .entry((kind, at_once))
            .or_default()
            .push(measured);
    }
    let bytes = system.end()? as f64 / sagas as f64;
    println!("  {bytes:.0} bytes a saga on the disk");
    results.disk.entry(kind).or_default().push(bytes);
    Ok(())
}

/// A folder with nothing in it.
fn empty(folder: &Path) -> Result<&Path, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(failed)?;
    }
    fs::create_dir_all(folder).map_err(failed)?;
    Ok(folder)
}

/// Lets some time pass.
#[expect(clippy::disallowed_methods, reason = "it waits for another process")]
fn rest(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}
