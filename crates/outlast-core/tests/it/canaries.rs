//! Whole rollouts in virtual time: what the guide says of how long they take.

use std::time::Duration;

use outlast_core::canary::{Canary, Config, State};
use outlast_core::outcome::Outcome;
use outlast_core::ratio::Ratio;
use outlast_core::rng::Rng;
use outlast_core::time::Time;

const GUIDE: &str = include_str!("../../../../docs/canary.md");

/// How a version behaves: its share of errors, and its mean time in milliseconds.
type Version = (f64, f64);

/// Runs until its first step is left, at 100 calls a second: after how many seconds, and whereto.
fn first_step(config: &Config, seed: u64, [old, new]: [Version; 2]) -> (u64, State) {
    let canary = Canary::new(config.clone(), seed, Time::ZERO).unwrap();
    let begin = canary.state();
    let mut rng = Rng::new(seed);
    for second in 1..=10_000 {
        for _ in 0..100 {
            let side = canary.route(rng.next_u64());
            let (errors, millis) = [old, new][side as usize];
            let took = -(1.0 - rng.unit()).ln() * millis / 1e3;
            let outcome = if rng.unit() < errors {
                Outcome::Transient
            } else {
                Outcome::Success
            };
            canary.record(side, outcome, Duration::from_secs_f64(took));
        }
        canary.step(Time::from_millis(second * 1000));
        if canary.state() != begin {
            return (second, canary.state());
        }
    }
    panic!("nothing was decided in 10,000 seconds");
}

#[test]
fn steps_take_as_long_as_the_guide_says() {
    let equal = |errors| [(errors, 20.0), (errors, 20.0)];
    let cases = [
        ("passes", equal(0.001)),
        ("passes", equal(0.01)),
        ("back", [(0.001, 20.0), (0.1, 20.0)]),
        ("back", [(0.001, 20.0), (0.02, 20.0)]),
        ("back", [(0.001, 20.0), (0.001, 40.0)]),
    ];
    let rows = GUIDE.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.filter(|row| row.contains(" passes in ") || row.contains("| passes in "));
    let mut checked = 0;
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let percent: u32 = cells[0].strip_suffix(" %").unwrap().parse().unwrap();
        for (cell, (word, versions)) in cells[1..].iter().zip(cases) {
            let told: u64 = cell
                .strip_prefix(word)
                .and_then(|cell| cell.strip_prefix(" in "))
                .and_then(|cell| cell.strip_suffix(" s")?.parse().ok())
                .unwrap();
            let config = Config::default()
                .steps([percent, 100].map(Ratio::percent))
                .min_time(Duration::from_secs(1))
                .min_calls(1);
            let config = config.promote(word == "passes");
            let wanted = if word == "passes" {
                State::Promoting
            } else {
                State::RolledBack
            };
            let runs = (0..31).map(|seed| first_step(&config, seed, versions));
            let mut times: Vec<_> = runs
                .filter(|(_, state)| *state == wanted)
                .map(|(second, _)| second)
                .collect();
            assert!(times.len() >= 27, "{percent} % {cell}: {}", times.len());
            times.sort_unstable();
            let median = times[times.len() / 2];
            assert!(
                median.abs_diff(told) <= 1 + told / 8,
                "{percent} %: told `{cell}`, took {median} s"
            );
            checked += 1;
        }
    }
    assert_eq!(checked, 25);
}

#[test]
fn few_rollouts_of_equal_versions_end_badly_whatever_they_go_through() {
    let config = Config::default()
        .min_time(Duration::from_secs(1))
        .limit(Duration::from_secs(86_400));
    let end = |seed: u64| {
        let canary = Canary::new(config.clone(), seed, Time::ZERO).unwrap();
        let mut rng = Rng::new(seed);
        for second in 1..=20_000 {
            // An incident of both in every fifth minute.
            let errors = if second / 60 % 5 == 4 { 0.3 } else { 0.002 };
            for _ in 0..100 {
                let side = canary.route(rng.next_u64());
                let took = Duration::from_secs_f64(-(1.0 - rng.unit()).ln() * 0.02);
                let outcome = if rng.unit() < errors {
                    Outcome::Transient
                } else {
                    Outcome::Success
                };
                canary.record(side, outcome, took);
            }
            canary.step(Time::from_millis(second * 1000));
            if !matches!(canary.state(), State::Running { .. }) {
                break;
            }
        }
        canary.state()
    };
    let ends: Vec<_> = (0..100).map(end).collect();
    let count = |state| ends.iter().filter(|&&end| end == state).count();
    let (well, badly) = (count(State::Promoting), count(State::RolledBack));
    // Five of 100 are allowed; with three standard deviations that is eleven.
    assert!(
        badly <= 11 && well + badly == 100,
        "{well} well, {badly} badly"
    );
}
