//! How much memory an upstream takes that nobody has called yet.

use std::mem::size_of;
use std::time::Duration;

use outlast_core::ratio::Ratio;
use outlast_core::upstream::{Config, Upstream};
use outlast_core::window::Window;
use outlast_core::{breaker, hedge};

use crate::library;
use crate::measure::{Bench, Figures};
use crate::stack::full_config;
use crate::table::{Goal, Group, Row};

pub(crate) fn groups(_: &Bench) -> Vec<Group> {
    let slow = Duration::from_secs(1);
    let window = Window::Time(Duration::from_secs(30));
    let windowed = breaker::Config::failure_ratio(Ratio::percent(50), window)
        .or_consecutive(5)
        .or_slow_calls(slow, Ratio::percent(50));
    let all_on = full_config("benchmark")
        .breaker(windowed)
        .hedge(hedge::Config::after(slow));
    let row = |who, config| Row::ours(who, bytes(config)).goals([Goal::Whole(8.0 * 1024.0)]);
    let group = Group::new("memory of an idle upstream with one endpoint, bytes")
        .row(row("standard", Config::standard("benchmark")))
        .row(row("full stack", full_config("benchmark")))
        .row(row(
            "full stack, breaker by 30 s ratio and slow calls, hedge",
            all_on,
        ));
    vec![library::add_memory(group)]
}

fn bytes(config: Config) -> Figures {
    size(|| Upstream::new(config.clone(), 1).expect("the settings are sound"))
}

/// What a value allocates and keeps, and its own size.
pub(crate) fn size<T>(build: impl Fn() -> T) -> Figures {
    let mut built = None;
    let counted = allocation_counter::measure(|| built = Some(build()));
    drop(built);
    Figures {
        whole: Some(counted.bytes_current as f64 + size_of::<T>() as f64),
        ..Figures::default()
    }
}
