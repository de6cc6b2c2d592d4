//! What the policies cost, beside their peers, measured in the same run.
//!
//! `cargo run --release -p outlast-bench` measures every operation with and without contention,
//! counts its allocations, holds the figures against the goals of the project and against the
//! same operation of other crates, prints one markdown table and writes it to
//! `bench/results/policies.md`. Nothing in the table is written by hand.
//!
//! With `--quick` the runs are too short to mean anything: it shows that the harness works.
//!
//! The method: futures are polled by hand around a dependency that answers at once, so that only
//! the policies are left; every figure is the median of nine runs of 60 ms. The contended column
//! is nanoseconds per operation *and thread*, with two threads on one shared policy; a pending
//! future parks its thread.

mod balance;
mod breaker;
mod budget;
mod bulkhead;
mod clock;
mod library;
mod machine;
mod measure;
mod memory;
mod parker;
mod peers;
mod rate;
mod runtime;
mod shed;
mod stack;
mod table;
mod window;

use std::path::Path;
use std::{env, fs, io};

use crate::measure::Bench;
use crate::table::Group;

fn main() -> io::Result<()> {
    let quick = env::args().any(|argument| argument == "--quick");
    let bench = if quick {
        Bench::quick()?
    } else {
        Bench::thorough()?
    };
    let mut groups: Vec<Group> = Vec::new();
    for measure in [
        clock::groups,
        breaker::groups,
        window::groups,
        bulkhead::groups,
        budget::groups,
        rate::groups,
        shed::groups,
        stack::groups,
        balance::groups,
        runtime::groups,
        memory::groups,
    ] {
        let measured = measure(&bench);
        for group in &measured {
            eprintln!("measured: {}", group.operation());
        }
        groups.extend(measured);
    }
    let report = format!("{}\n{}", header(), table::render(&groups));
    println!("{report}");
    if quick {
        return Ok(());
    }
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    fs::create_dir_all(&results)?;
    fs::write(results.join("policies.md"), report)
}

/// What the figures depend on, and how to get them again.
fn header() -> String {
    let machine = machine::line();
    format!(
        "# What the policies cost\n\n\
         {machine}; `cargo run --release -p outlast-bench`.\n\n\
         Nanoseconds per operation around a dependency that answers at once, median of nine runs \
         of 60 ms. \"2 threads\" is per thread, both on one shared policy. \"/ ours\" divides by \
         the first line of the same operation. The rows about the length of a window time 100 calls \
         a run (20 of the peer's), so that measuring does not fill it. Contended figures vary \
         between runs, by a factor of two where threads share a cache line.\n"
    )
}
