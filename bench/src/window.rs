//! Whether a window of time costs more the more calls it holds.

use std::hint::black_box;
use std::time::Duration;

use outlast_core::breaker::Config;
use outlast_core::outcome::Outcome;
use outlast_core::ratio::Ratio;
use outlast_core::time::Time;
use outlast_core::window::Window;

use crate::breaker::{breaker, call};
use crate::measure::{Bench, Figures, nanoseconds_of, uncounted};
use crate::parker::Parker;
use crate::peers;
use crate::table::{Goal, Group, Row};

/// One call in ten fails, so that the window is looked at as well as written.
pub(crate) fn groups(bench: &Bench) -> Vec<Group> {
    let flat = |of| Goal::Share {
        numerator: 5.0,
        denominator: 4.0,
        of,
    };
    let group = Group::new("time-window breaker, one call in ten fails")
        .row(Row::ours(FEW, ours(bench, 1_000)))
        .row(Row::ours("10,000 calls in it", ours(bench, 10_000)).goals([flat(FEW)]))
        .row(Row::ours("100,000 calls in it", ours(bench, 100_000)).goals([flat(FEW)]))
        .row(Row::peer(
            "tower-resilience, 1,000",
            resilience(bench, 1_000),
        ))
        .row(Row::peer(
            "tower-resilience, 10,000",
            resilience(bench, 10_000),
        ))
        .row(Row::peer(
            "tower-resilience, 100,000",
            resilience(bench, 100_000),
        ));
    vec![group]
}

fn ours(bench: &Bench, held: u64) -> Figures {
    let window = Window::Time(peers::HOUR);
    let run = || {
        let breaker = breaker(Config::failure_ratio(Ratio::percent(50), window));
        let now = |call: u64| Time::ZERO + peers::HOUR + HALF_AN_HOUR / held as u32 * call as u32;
        for number in 0..held {
            call(&breaker, result(number), now(number));
        }
        let mut number = held;
        nanoseconds_of(MEASURED, || {
            call(&breaker, result(number), black_box(now(held)));
            number += 1;
        })
    };
    // The first run finds everything cold.
    run();
    figures(bench.median_of(run))
}

/// The window is filled once: filling it anew for every run would take minutes, and what the runs
/// add to it is little.
fn resilience(bench: &Bench, held: u64) -> Figures {
    let parker = Parker::new();
    let mut service = peers::resilience_time_window();
    let mut number = 0;
    let mut call = || {
        _ = black_box(parker.call(&mut service, number % 10 == 9));
        number += 1;
    };
    uncounted(|| (0..held).for_each(|_| call()));
    figures(bench.median_of(|| nanoseconds_of(MEASURED / 5, &mut call)))
}

fn result(number: u64) -> Outcome {
    if number % 10 == 9 {
        Outcome::Transient
    } else {
        Outcome::Success
    }
}

fn figures(single: f64) -> Figures {
    Figures {
        single: Some(single),
        ..Figures::default()
    }
}

const FEW: &str = "1,000 calls in it";
const HALF_AN_HOUR: Duration = Duration::from_secs(1_800);
/// Few enough that measuring does not change how full the window is.
const MEASURED: u64 = 100;
