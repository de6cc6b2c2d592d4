//! An axum service that says how it is: alive, started, ready, and how everything is that it uses.
//!
//! ```text
//! cargo run --example health_service --features axum,health
//! curl -i localhost:3000/health/ready
//! curl -i localhost:3000/health/deep
//! kill -TERM PID   # it is not ready at once, and ends when what it serves is served
//! ```
//!
//! With `DATABASE=host:5432` and `REDIS=redis://:password@host:6379` it depends on those; without,
//! only on its disk. `examples/kubernetes` deploys it.

#![expect(
    clippy::disallowed_methods,
    reason = "sleeping stands in for work, and is how a drain waits"
)]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use outlast::health::{Config, Event, Health, Setup, Warmup, probe};
use outlast::ratio::Ratio;
use outlast::{Upstream, breaker};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let payments = outlast::Config::standard("payments").breaker(breaker::Config::consecutive(5));
    let payments = Upstream::new(payments)?;
    let health = Health::with(Setup::default().observer(print))?;
    health.set_warmup(Warmup::Running);
    add_checks(&health, &payments)?;

    // Probes are answered from the first moment on, so that Kubernetes sees the warm-up.
    let app = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .merge(health.routes());
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    let draining = health.clone();
    let ends = async move {
        terminate.recv().await;
        draining.set_draining(true);
        println!("draining");
        sleep(NOTICED).await;
    };
    let serving = tokio::spawn(
        axum::serve(listener, app)
            .with_graceful_shutdown(ends)
            .into_future(),
    );

    warm_up().await;
    health.set_warmup(Warmup::Complete);
    println!("warm");
    serving.await??;
    Ok(())
}

/// What this service uses.
fn add_checks(health: &Health, payments: &Upstream) -> Result<(), Box<dyn std::error::Error>> {
    // Without it nothing can be answered: critical, which is the default.
    if let Ok(address) = std::env::var("DATABASE") {
        health.check("database", Config::default(), probe::tcp(&address)?)?;
    }
    // Down for a second or two when it fails over; there is nothing to be gained by waiting longer.
    if let Ok(url) = std::env::var("REDIS") {
        let config = Config::default().interval(Duration::from_secs(1));
        health.check("redis", config.down_after(2), probe::redis(&url)?)?;
    }
    // A shop without payments can still show its goods, and a group tells who cannot go on.
    let informative = || Config::default().critical(false);
    let breakers = probe::upstream(payments);
    health.check("payments", informative().group("checkout"), breakers)?;
    // Alerts read it in the deep document, before it becomes an outage.
    let minute = Duration::from_secs(60);
    let room = probe::disk("/", Ratio::percent(10));
    health.check("disk", informative().interval(minute), room)?;
    // Too expensive to ask all the time.
    let report = || async {
        sleep(Duration::from_millis(300)).await;
        Ok::<_, std::io::Error>(())
    };
    health.check(
        "report",
        informative().interval(minute).on_demand(true),
        report,
    )?;
    Ok(())
}

/// Fills caches, opens connections.
async fn warm_up() {
    sleep(Duration::from_secs(2)).await;
}

fn print(event: &Event<'_>) {
    match event {
        Event::Changed {
            check,
            change,
            error,
        } => println!(
            "{check}: {} {}",
            change.to.name(),
            error.unwrap_or_default()
        ),
        Event::Stuck { executor } => {
            // Nothing on it answers any more, and only a new process will.
            eprintln!("the executor {executor} is stuck");
            std::process::abort();
        }
        _ => {}
    }
}

/// How long it takes until no new request comes: the endpoints of a service are told everywhere
/// that this one has gone. In Kubernetes the preStop hook waits already, and this is a reserve for
/// other ways to stop.
const NOTICED: Duration = Duration::from_secs(1);
