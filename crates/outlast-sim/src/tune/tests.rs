use std::collections::BTreeSet;
use std::sync::Mutex;

use outlast_core::rng::{Rng, mix};

use super::*;

fn search(seed: u64, threads: usize) -> Search {
    Search {
        seed,
        runs: 1,
        finalists: 5,
        fresh: 20,
        threads: NonZeroUsize::new(threads).unwrap(),
    }
}

fn standing(missing: f64, goodput: f64, attempts: f64, p99: f64) -> Standing {
    Standing {
        runs: 1,
        missing,
        recovered: 1.0,
        goodput,
        attempts,
        p99,
    }
}

/// Candidates have goodput 0.9 less a hundredth for each step that they are away from the best, and
/// normal noise of twice that: of the world (the seed), which is the same for all, and of their own.
fn noisy(candidate: usize, seed: u64, best: usize) -> Score {
    let normal = |seed: u64| {
        let mut rng = Rng::new(mix(seed));
        (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0
    };
    let own = normal(seed ^ mix(candidate as u64 + 1));
    let away = (candidate as f64 - best as f64).abs();
    Score {
        kept: Vec::new(),
        recovered: true,
        goodput: 0.9 - 0.01 * away + 0.02 * normal(seed) + 0.02 * own,
        attempts: 1.0,
        p99: 0.1,
    }
}

fn found(seed: u64, threads: usize, best: usize) -> Found {
    let run = |candidate: usize, seed: u64| Ok::<_, ()>(noisy(candidate, seed, best));
    search(seed, threads).among(64, &[], &run, &|| {}).unwrap()
}

#[test]
fn every_part_of_every_side_holds_one_point() {
    for (points, dimensions, seed) in [(64, 8, 1), (1, 3, 2), (7, 1, 3)] {
        let cube = hypercube(points, dimensions, seed);
        assert_eq!(cube.len(), points);
        for side in 0..dimensions {
            let parts: BTreeSet<_> = cube
                .iter()
                .map(|point| (point[side] * points as f64) as usize)
                .collect();
            assert_eq!(parts, (0..points).collect(), "{side} of {dimensions}");
        }
    }
    assert_eq!(hypercube(9, 2, 5), hypercube(9, 2, 5));
    assert_ne!(hypercube(9, 2, 5), hypercube(9, 2, 6));
}

#[test]
fn ranges_are_logarithmic_and_within_bounds() {
    let check = |value, bounds, places: [f64; 3]| {
        let range = Range::around(value, 5.0, bounds);
        for (place, expected) in [0.0, 0.5, 1.0].into_iter().zip(places) {
            let value = range.at(place);
            assert!(
                (value - expected).abs() < 1e-9,
                "{range:?} {place}: {value}"
            );
        }
    };
    check(1.0, (0.001, 100.0), [0.2, 1.0, 5.0]);
    check(1.0, (0.001, 3.2), [0.2, 0.8, 3.2]);
    // From a fifth of 4 to five times that, less 1 each.
    check(4.0, (0.0, 100.0), [0.0, 4.0, 24.0]);
    check(0.0, (0.0, 100.0), [0.0, 5.0_f64.sqrt() - 1.0, 4.0]);
}

#[test]
fn one_thing_counts_after_the_other() {
    let check = |standings: &[Standing], expected: &[usize]| assert_eq!(order(standings), expected);
    // A promise is not sold for goodput, nor goodput for attempts, nor those for latency.
    check(
        &[
            standing(0.1, 1.0, 1.0, 0.1),
            standing(0.0, 0.8, 1.0, 0.1),
            standing(0.0, 0.9, 2.0, 0.1),
            standing(0.0, 0.9, 1.5, 0.9),
        ],
        &[3, 2, 1, 0],
    );
    // What is within the tolerance does not count, and the first one wins ties.
    check(
        &[
            standing(0.0, 0.9000, 1.2, 0.1),
            standing(0.0, 0.8995, 1.0, 0.1),
            standing(0.0, 0.9000, 1.0, 0.104),
            standing(0.0, 0.9005, 1.0, 0.2),
        ],
        &[1, 2, 3, 0],
    );
    let infinite = standing(1.0, 0.0, f64::INFINITY, f64::INFINITY);
    check(&[infinite, infinite], &[0, 1]);
    let stuck = Standing {
        recovered: 0.5,
        ..standing(0.0, 1.0, 1.0, 0.1)
    };
    check(&[stuck, standing(0.0, 0.5, 1.0, 0.1)], &[1, 0]);
}

#[test]
fn what_is_beaten_in_both_is_not_in_the_pareto_set() {
    let of = |goodput, attempts| standing(0.0, goodput, attempts, 0.1);
    let all = [
        of(0.9, 1.0),
        of(0.8, 1.1),
        of(0.99, 1.5),
        of(0.95, 1.2),
        of(0.9, 1.0),
    ];
    assert_eq!(pareto(&all), [0, 3, 2]);
}

#[test]
fn a_standing_counts_what_is_missing() {
    let score = |kept: [bool; 2], recovered| Score {
        kept: kept.to_vec(),
        recovered,
        goodput: 0.5,
        attempts: 2.0,
        p99: 0.1,
    };
    let runs = [score([true, false], true), score([true, true], false)];
    let standing = Standing::of(&runs, &[1.0, 0.9]);
    assert!((standing.missing - 0.4).abs() < 1e-9 && (standing.recovered - 0.5).abs() < 1e-9);
    assert!(!standing.is_fine(&[1.0, 0.9]));
    let standing = Standing::of(&runs, &[1.0, 0.5]);
    assert!(standing.is_fine(&[1.0, 0.5]) && !standing.is_fine(&[]));
}

/// From one candidate to the next it is half a standard deviation of a run.
#[test]
fn the_best_is_found_through_noise() {
    let mut well = 0;
    let mut lucky = 0;
    for trial in 0..200 {
        let best = 1 + (mix(trial) % 63) as usize;
        let found = found(trial * 5000, 1, best);
        let winner = found.finalists[0].candidate;
        // The next one is not told apart from it by 20 runs, nor does it matter.
        well += u32::from(winner.abs_diff(best) <= 1);
        let (first, _) = found.rounds[0].ranked[0];
        lucky += u32::from(first.abs_diff(best) <= 1);
    }
    assert!(well >= 190, "{well} of 200");
    // A single run of each does not do it.
    assert!(lucky < 160, "{lucky} of 200");
}

#[test]
fn the_best_of_a_choice_is_judged_by_runs_that_took_no_part_in_it() {
    let seeds = Mutex::new(Vec::new());
    let run = |candidate: usize, seed: u64| {
        seeds.lock().unwrap().push((candidate, seed));
        Ok::<_, ()>(noisy(candidate, seed, 40))
    };
    let search = search(7, 1);
    let found = search.among(65, &[], &run, &|| {}).unwrap();
    let seeds = seeds.into_inner().unwrap();
    assert_eq!(found.runs, seeds.len() as u64);
    assert_eq!(found.runs, search.cost(65));
    assert_eq!(found.runs, 65 + 16 * 3 + 4 * 12 + 6 * 20);
    let distinct: BTreeSet<_> = seeds.iter().collect();
    assert_eq!(distinct.len(), seeds.len(), "nothing is run twice");
    let (fresh, searched): (Vec<u64>, Vec<u64>) = seeds
        .iter()
        .map(|(_, seed)| *seed)
        .partition(|seed| *seed >= search.fresh_seed());
    assert_eq!(fresh.len(), 120);
    assert_eq!(
        searched.iter().max(),
        Some(&(7 + 15)),
        "16 runs at most in the search"
    );
    // What there is takes part in the end, although it is the worst.
    assert_eq!(found.finalists.last().unwrap().candidate, 0);
    let sizes: Vec<_> = found
        .rounds
        .iter()
        .map(|round| (round.ranked.len(), round.runs))
        .collect();
    assert_eq!(sizes, [(65, 1), (16, 4), (4, 16)]);
}

/// If all are alike, the luckiest of the search looks better there than it is.
#[test]
fn fresh_seeds_undo_the_winners_curse() {
    let mut curse = 0.0;
    let mut honest = 0.0;
    for trial in 0..50 {
        let run = |candidate: usize, seed: u64| {
            let mut score = noisy(candidate, seed, candidate);
            score.goodput -= noisy(0, seed, 0).goodput;
            Ok::<_, ()>(score)
        };
        let found = search(trial * 5000, 1)
            .among(64, &[], &run, &|| {})
            .unwrap();
        let (best, looked) = found.rounds[0].ranked[0];
        assert!(best != 0 || looked.goodput.abs() < 1e-9);
        curse += looked.goodput / 50.0;
        let others = found.finalists.iter().filter(|one| one.candidate != 0);
        let others: Vec<_> = others.map(|one| one.standing.goodput).collect();
        honest += others.iter().sum::<f64>() / others.len() as f64 / 50.0;
    }
    assert!(curse > 0.015, "{curse}");
    assert!(honest.abs() < 0.006, "{honest}");
}

#[test]
fn threads_change_nothing_and_errors_are_told() {
    let told = |found: &Found| {
        let last = found
            .finalists
            .iter()
            .map(|one| (one.candidate, one.scores.clone()));
        last.collect::<Vec<_>>()
    };
    assert_eq!(told(&found(3, 1, 20)), told(&found(3, 8, 20)));
    assert_ne!(told(&found(3, 1, 20)), told(&found(4, 1, 20)));
    let run = |candidate: usize, seed: u64| match candidate {
        9 => Err("nine"),
        _ => Ok(noisy(candidate, seed, 5)),
    };
    let error = search(1, 2).among(64, &[], &run, &|| {}).unwrap_err();
    assert_eq!(error, "nine");
}

#[test]
fn little_is_searched_as_well() {
    for candidates in [1, 2, 5] {
        let run = |candidate: usize, seed: u64| Ok::<_, ()>(noisy(candidate, seed, 0));
        let search = search(1, 1);
        let found = search.among(candidates, &[], &run, &|| {}).unwrap();
        assert_eq!(found.finalists.len(), candidates);
        assert_eq!(found.runs, search.cost(candidates));
    }
}
