//! How many messages a second a durable queue takes and delivers, on SQLite with a sync before anything
//! is told.
//!
//! `cargo run --release -p outlast-bench --bin queue` pushes messages of 512 bytes over a thousand keys
//! from 256 tasks, delivers them to a handler that does nothing, and prints a markdown table: pushes
//! alone, deliveries alone, and both at once, which is what counts. The pace is set so high that it is
//! no bound. Each figure is the median of five runs on a new file in the folder given, or the current
//! one; it depends on what a sync of its disk takes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use outlast_saga::queue::{Config, Message, Queue};
use outlast_saga::store::sqlite::Sqlite;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args()
        .nth(1)
        .map_or(PathBuf::from("."), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut runs = Vec::new();
    for run in 0..RUNS {
        let file = folder.join(format!("queue-bench-{}-{run}.db", std::process::id()));
        let measured = runtime.block_on(measure(&file));
        for end in ["", "-wal", "-shm", ".lock"] {
            // Some of them are not there.
            let _ = std::fs::remove_file(format!("{}{end}", file.display()));
        }
        runs.push(measured?);
    }
    println!("| {MESSAGES} messages of {BYTES} bytes | messages/s | slowest run | fastest run |");
    println!("|---|---|---|---|");
    for (number, name) in ["pushed", "delivered", "pushed and delivered"]
        .iter()
        .enumerate()
    {
        let mut rates: Vec<f64> = runs.iter().map(|run| run[number]).collect();
        rates.sort_by(f64::total_cmp);
        let (first, median, last) = (rates[0], rates[RUNS / 2], rates[RUNS - 1]);
        println!("| {name} | {median:.0} | {first:.0} | {last:.0} |");
    }
    Ok(())
}

/// Messages a second: pushed with nobody who delivers, then delivered, then both at once.
async fn measure(file: &Path) -> Result<[f64; 3], Box<dyn std::error::Error>> {
    let config = Config::new("bench")
        .most(2 * MESSAGES)
        .concurrency(PUSHERS)
        .slowest(UNBOUNDED)
        .fastest(UNBOUNDED);
    let queue = Queue::open(Sqlite::open(file)?, config).await?;
    let pushed = push(&queue, "first").await;
    let begin = now();
    let delivering = deliver(&queue);
    queue.drained().await;
    let delivered = begin.elapsed();
    let begin = now();
    push(&queue, "second").await;
    queue.drained().await;
    let both = begin.elapsed();
    queue.close();
    delivering.await??;
    let rate = |time: Duration| MESSAGES as f64 / time.as_secs_f64();
    Ok([pushed, delivered, both].map(rate))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark has tasks that push")]
async fn push(queue: &Queue<Sqlite>, name: &'static str) -> Duration {
    let begin = now();
    let pushing: Vec<_> = (0..PUSHERS)
        .map(|pusher| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for number in (pusher..MESSAGES).step_by(PUSHERS) {
                    let message = Message::new(format!("{name}-{number}"));
                    let message = message.key(format!("key-{}", number % KEYS));
                    let pushed = queue.push(message.bytes(vec![b'x'; BYTES])).await;
                    pushed.expect("there is room");
                }
            })
        })
        .collect();
    for pusher in pushing {
        pusher.await.expect("it does not panic");
    }
    begin.elapsed()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark delivers beside what it pushes"
)]
fn deliver(
    queue: &Queue<Sqlite>,
) -> tokio::task::JoinHandle<Result<(), outlast_saga::queue::Runs>> {
    let queue = queue.clone();
    tokio::spawn(async move { queue.run(|_| async { Ok(()) }).await })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

const RUNS: usize = 5;
const MESSAGES: usize = 100_000;
const BYTES: usize = 512;
const PUSHERS: usize = 256;
const KEYS: usize = 1000;
const UNBOUNDED: f64 = 10_000_000.0;
