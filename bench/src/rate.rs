//! Asking a rate limit that lets everything pass.

use outlast_core::rate::{Config, Rate};
use outlast_core::time::Time;

use crate::clock::{coarse, passed_in};
use crate::measure::Bench;
use crate::peers;
use crate::table::{Goal, Group, Row};

pub(crate) fn groups(bench: &Bench) -> Vec<Group> {
    let ask = |clock: fn() -> Time| {
        let ours = Rate::new(plenty()).expect("the settings are sound");
        bench.shared(move || ours.admit(clock()).expect("the limit is far"))
    };
    let goals = || {
        [
            Goal::Single(10.0),
            Goal::Contended(50.0),
            Goal::Allocations(0.0),
        ]
    };
    let governor = peers::governor();
    let group = Group::new("rate limit, a check that passes")
        .row(Row::ours("time passed in", ask(passed_in)).goals(goals()))
        .row(Row::ours("coarse clock", ask(coarse)).goals(goals()))
        .row(Row::peer(
            "governor",
            bench.shared(|| governor.check().expect("the limit is far")),
        ))
        .row(Row::peer(
            "tower-resilience",
            bench.service(&peers::resilience_rate(), true),
        ));
    vec![group]
}

/// A call per nanosecond, and four seconds' worth of them at once for a clock that stands.
pub(crate) fn plenty() -> Config {
    Config::new(peers::PLENTY as u32, std::time::Duration::from_secs(1)).burst(u32::MAX)
}
