//! The registry of checks, with real tasks, threads and servers.

mod documents;
mod grpc;
mod outage;
mod probes;
mod probing;
mod servers;
mod watchdog;

use std::time::Duration;

use outlast::Health;
use outlast::health::{Config, Status};
use serde_json::Value;
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A check that is probed all the time, with thresholds of one.
fn quick() -> Config {
    Config::default()
        .interval(50 * MS)
        .timeout(50 * MS)
        .down_after(1)
}

/// Waits until a condition holds; far longer than it should take.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + 30 * SECOND;
    while !holds() {
        assert!(Instant::now() < end, "in vain: {what}");
        sleep(2 * MS).await;
    }
}

/// A document, parsed.
fn read(health: &Health, path: &str) -> (u16, Value) {
    let answer = health.answer(path).unwrap();
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

fn status(health: &Health, name: &str) -> Status {
    let registry = health.snapshot();
    let mut checks = registry.checks().iter();
    checks.find(|check| check.name() == name).unwrap().status()
}

/// The text of a check's failure.
fn error(health: &Health, name: &str) -> String {
    let registry = health.snapshot();
    let mut checks = registry.checks().iter();
    let check = checks.find(|check| check.name() == name).unwrap();
    check.error().unwrap_or_default().to_owned()
}
