//! How many calls are simulated in a second of real time, on one core.
//!
//! `cargo xtask bench sim` prints the table and writes it to `bench/results/sim.md`. Eight workers at
//! four fifths of their capacity, with exponential times, and one failure in twenty. The peer is a
//! runtime whose clock is paused, which is how asynchronous code is mostly simulated: the same
//! workers, timeouts and retries, without any other policy.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures time, and its peer sleeps and spawns"
)]

#[path = "../machine.rs"]
mod machine;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outlast_core::rng::Rng;
use outlast_core::upstream::Config;
use outlast_core::{breaker, bulkhead, deadline, rate, retry, shed};
use outlast_sim::{Client, Curve, Law, Model, Service};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

const WORKERS: u32 = 8;
const WORK: Duration = Duration::from_millis(10);
const RATE: f64 = 640.0;
const FAILURES: f64 = 0.05;
const CALLS: u32 = 2_000_000;
const PEERS_CALLS: u32 = 200_000;
const SECOND: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let peer = median(|seed| Ok(paused_runtime(seed)))?;
    let mut page = format!(
        "# What a simulation costs\n\n{}; `cargo xtask bench sim`.\n\n\
         Calls a second of real time on one core, the median of three runs of {CALLS} calls \
         ({PEERS_CALLS} of the peer). M/M/8 at 80 %, one failure in twenty.\n\n\
         | simulated | calls / s | of the peer |\n|---|---|---|\n\
         | tokio with a paused clock: timeout, retry | {peer:.0} | 1.0 |\n",
        machine::line()
    );
    let full = Config::new("up")
        .deadline(deadline::Config::default().attempt(SECOND))
        .rate(rate::Config::new(100_000, SECOND))
        .retry(retry::Config::attempts(3))
        .breaker(breaker::Config::consecutive(100))
        .bulkhead(bulkhead::Config::new(1000).queue(1000));
    for (name, config) in [
        ("no policy", Config::new("up").budget(None)),
        (
            "deadline, rate, retry, budget, breaker, bulkhead",
            full.clone(),
        ),
        (
            "the same and a measured limit",
            full.shed(shed::Config::default()),
        ),
    ] {
        let calls = median(|seed| simulate(config.clone(), seed))?;
        let share = calls / peer;
        page.push_str(&format!(
            "| **outlast**, {name} | {calls:.0} | {share:.1} |\n"
        ));
    }
    println!("{page}");
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    std::fs::write(results.join("sim.md"), page)?;
    Ok(())
}

fn median(mut run: impl FnMut(u64) -> Result<f64, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut rates = Vec::new();
    for seed in 0..3 {
        rates.push(run(seed)?);
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[1])
}

fn simulate(config: Config, seed: u64) -> Result<f64, Box<dyn Error>> {
    let mut model = Model::new(seed);
    let service = Service::new(Law::exponential(WORK)).workers(WORKERS);
    let service = model.service(service.failures(FAILURES));
    let through = model.upstream(config, &[service])?;
    let client = model.client(Client::open(through, Curve::level(RATE)));
    let began = Instant::now();
    let report = model.run(Duration::from_secs_f64(f64::from(CALLS) / RATE))?;
    Ok(report.client(client).calls as f64 / began.elapsed().as_secs_f64())
}

fn paused_runtime(seed: u64) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.expect("a runtime without input and output");
    let began = Instant::now();
    runtime.block_on(async {
        let workers = Arc::new(Semaphore::new(WORKERS as usize));
        let mut rng = Rng::new(seed);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..PEERS_CALLS {
            let gap = -(1.0 - rng.unit()).ln() / RATE;
            sleep(Duration::from_secs_f64(gap)).await;
            calls.spawn(call(Arc::clone(&workers), rng.next_u64()));
            while calls.try_join_next().is_some() {}
        }
        calls.join_all().await
    });
    f64::from(PEERS_CALLS) / began.elapsed().as_secs_f64()
}

async fn call(workers: Arc<Semaphore>, seed: u64) {
    let mut rng = Rng::new(seed);
    for _ in 0..3 {
        let (work, fails) = (
            WORK.mul_f64(-(1.0 - rng.unit()).ln()),
            rng.unit() < FAILURES,
        );
        let worked = timeout(SECOND, async {
            let _worker = workers.acquire().await;
            sleep(work).await;
        });
        if worked.await.is_ok() && !fails {
            return;
        }
    }
}
