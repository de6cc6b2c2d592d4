//! The command itself, as people and scripts run it.

#![allow(
    clippy::disallowed_methods,
    reason = "tests are drivers: they wait for conditions"
)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod advise;
mod demo;
mod files;
mod overload;
mod parity;
mod pipes;
mod providers;
mod queues;
mod sagas;
mod serve;
mod shop;
mod sim;
mod slo;
mod traffic;
mod tune;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn outlast(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outlast"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("OUTLAST_LOG")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until `holds`, for at most half a minute.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
