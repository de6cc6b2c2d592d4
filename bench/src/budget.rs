//! Paying a success into the budget, and a retry policy that has nothing to do.

use std::hint::black_box;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use outlast_core::budget::{Budget, Config};
use outlast_core::time::Time;
use tower::retry::budget::Budget as _;

use crate::clock::{coarse, passed_in};
use crate::measure::Bench;
use crate::peers::{self, answer};
use crate::table::{Goal, Group, Row};

pub(crate) fn groups(bench: &Bench) -> Vec<Group> {
    let deposit = |clock: fn() -> Time| {
        let ours = Budget::new(Config::default()).expect("the settings are sound");
        bench.shared(move || ours.deposit(clock()))
    };
    let goals = || {
        [
            Goal::Single(10.0),
            Goal::Contended(12.0),
            Goal::Allocations(0.0),
        ]
    };
    let tower = peers::tower_budget();
    let backoff = ExponentialBuilder::default().with_min_delay(Duration::from_millis(50));
    let backon = || (|| answer(black_box(false))).retry(black_box(backoff));
    let group = Group::new("retry budget, a deposit")
        .row(Row::ours("time passed in", deposit(passed_in)).goals(goals()))
        .row(Row::ours("coarse clock", deposit(coarse)).goals(goals()))
        .row(Row::peer(
            "tower TpsBudget",
            bench.shared(|| tower.deposit()),
        ))
        .row(Row::peer(
            "backon, a whole call, has no budget",
            bench.future(backon),
        ));
    vec![group]
}
