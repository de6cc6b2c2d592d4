//! Writers that get into each other's way: the model of "Exponential Backoff And Jitter" (Brooker,
//! AWS 2015), with Outlast's backoffs (rows A010 and A100).
//!
//! Each of so many writers reads a row, writes it with the version it read, and backs off if somebody
//! else was quicker. What counts are writes, and the time of the last answer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use outlast_core::backoff::{Backoff, Jitter};
use outlast_core::rng::Rng;

use crate::rows::{Row, row};

const MS: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Reads,
    HasRead(u32),
    Writes(u32),
    Answered(bool),
}

struct Writer {
    waits: u32,
    previous: Duration,
}

/// Writes, and milliseconds to the last answer.
fn contend(row: &Row, backoff: Backoff, rng: &mut Rng) -> (f64, f64) {
    let mut network = || {
        // Box and Muller.
        let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * rng.unit()).cos();
        let millis = row.parameter("net_mean_ms") + row.parameter("net_sd_ms") * normal;
        (Duration::from_secs_f64(millis.abs() / 1e3), rng.unit())
    };
    let writers = row.parameter("clients") as usize;
    let first = MS.mul_f64(row.parameter("base_ms"));
    let mut states: Vec<_> = (0..writers)
        .map(|_| Writer {
            waits: 0,
            previous: first,
        })
        .collect();
    let mut agenda = BinaryHeap::new();
    let plan = |agenda: &mut BinaryHeap<_>, at: Duration, writer, event| {
        agenda.push(Reverse((at, writer, event)));
    };
    for writer in 0..writers {
        plan(&mut agenda, network().0, writer, Event::Reads);
    }
    let (mut version, mut writes, mut left, mut last) = (0, 0, writers, Duration::ZERO);
    while let Some(Reverse((now, writer, event))) = agenda.pop() {
        let (way, unit) = network();
        match event {
            Event::Reads => plan(&mut agenda, now + way, writer, Event::HasRead(version)),
            Event::HasRead(read) => {
                writes += 1;
                plan(&mut agenda, now + way, writer, Event::Writes(read));
            }
            Event::Writes(read) => {
                let fits = read == version;
                version += u32::from(fits);
                plan(&mut agenda, now + way, writer, Event::Answered(fits));
            }
            Event::Answered(true) => {
                left -= 1;
                last = now;
            }
            Event::Answered(false) => {
                let state = &mut states[writer];
                let wait = backoff.delay(state.waits, state.previous, unit);
                (state.waits, state.previous) = (state.waits + 1, wait);
                plan(&mut agenda, now + wait + way, writer, Event::Reads);
            }
        }
    }
    assert_eq!(left, 0);
    (f64::from(writes), last.as_secs_f64() * 1e3)
}

/// The means of both over 200 runs.
fn means(row: &Row, backoff: Backoff) -> (f64, f64) {
    let mut rng = Rng::new(42);
    let runs: Vec<_> = (0..200).map(|_| contend(row, backoff, &mut rng)).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
    (mean(|run| run.0), mean(|run| run.1))
}

/// Where many get into each other's way, the default needs no more writes than full jitter and no
/// more time than decorrelated jitter; its first wait is that of the model.
#[test]
fn the_default_backoff_needs_less_work_and_less_time_than_the_published_ones() {
    for clients in [50, 100, 190] {
        let row = row("A100").with("clients", clients);
        let base = MS.mul_f64(row.parameter("base_ms"));
        let cap = MS.mul_f64(row.parameter("cap_ms"));
        let (calls, time) = means(&row, Backoff::quadratic(base * 2).max(cap));
        let (most_calls, _) = means(&row, Backoff::exponential(base * 2).max(cap));
        let (_, most_time) = means(&row, Backoff::decorrelated(base).max(cap));
        assert!(
            calls <= most_calls,
            "{clients}: {calls} writes, {most_calls}"
        );
        // The means of 200 runs vary by 2 %.
        assert!(
            time <= most_time * 1.04,
            "{clients}: {time} ms, {most_time}"
        );
    }
}

#[test]
fn backoffs_need_the_calls_and_the_time_that_were_published() {
    for id in ["A010", "A100"] {
        let row = row(id);
        let base = MS.mul_f64(row.parameter("base_ms"));
        let cap = MS.mul_f64(row.parameter("cap_ms"));
        // The first of the model's exponential waits is twice the base.
        let exponential = Backoff::exponential(base * 2).max(cap);
        for (name, backoff) in [
            ("None", Backoff::constant(Duration::ZERO)),
            ("Exponential", exponential.jitter(Jitter::None)),
            ("EqualJitter", exponential.jitter(Jitter::Equal)),
            ("FullJitter", exponential),
            ("Decorr", Backoff::decorrelated(base).max(cap)),
        ] {
            let (calls, time) = means(&row, backoff);
            let expected = |what: &str| row.object(name)[what].as_f64().unwrap();
            let near = |what: &str, found: f64, allowed: f64| {
                let off = found / expected(what) - 1.0;
                assert!(
                    off.abs() <= allowed,
                    "{id} {name} {what}: {found}, {off:+.3}"
                );
            };
            near("calls", calls, 0.02);
            let rough = id == "A010" && name == "Exponential";
            near("time_ms", time, if rough { 0.08 } else { 0.05 });
            let z = (calls - expected("calls")) / (expected("calls_sd") / 200f64.sqrt());
            assert!(z.abs() < 4.0, "{id} {name}: {z}");
        }
    }
}
