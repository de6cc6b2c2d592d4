//! Rollouts in virtual time: the laws on whole runs, and the machine's table.

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const SECOND: Duration = Duration::from_secs(1);

fn at(second: u64) -> Time {
    Time::from_millis(second * 1000)
}

fn ratio(share: f64) -> Ratio {
    Ratio::new(share).unwrap()
}

/// How a version behaves.
#[derive(Clone, Copy)]
struct Version {
    errors: f64,
    mean: Duration,
}

impl Version {
    const fn new(errors: f64, millis: u64) -> Version {
        Version {
            errors,
            mean: Duration::from_millis(millis),
        }
    }

    fn call(self, rng: &mut Rng) -> (Outcome, Duration) {
        let took = self.mean.mul_f64(-(1.0 - rng.unit()).ln());
        let fails = rng.unit() < self.errors;
        (
            if fails {
                Outcome::Transient
            } else {
                Outcome::Success
            },
            took,
        )
    }
}

/// A second of calls by random users, and the look after it.
fn second(
    canary: &Canary,
    rng: &mut Rng,
    rate: u64,
    versions: [Version; 2],
    now: Time,
) -> Option<Decision> {
    for _ in 0..rate {
        let side = canary.route(rng.next_u64());
        let (outcome, took) = versions[side as usize].call(rng);
        canary.record(side, outcome, took);
    }
    canary.step(now)
}

/// Runs at 100 calls a second until it is over or `seconds` have passed; when it ended, and how.
fn run(config: &Config, seed: u64, seconds: u64, versions: [Version; 2]) -> (u64, State) {
    let canary = Canary::new(config.clone(), seed, Time::ZERO).unwrap();
    let mut rng = Rng::new(seed);
    for now in 1..=seconds {
        second(&canary, &mut rng, 100, versions, at(now));
        if let state @ (State::Done | State::RolledBack) = canary.state() {
            return (now, state);
        }
    }
    (seconds, canary.state())
}

/// In how many of `runs` the canary was rolled back.
fn rolled_back(config: &Config, runs: u64, seconds: u64, versions: [Version; 2]) -> u64 {
    let is_back = |&seed: &u64| run(config, seed, seconds, versions).1 == State::RolledBack;
    (0..runs).filter(is_back).count() as u64
}

/// A tenth of the calls, then half, then all.
fn three_steps() -> Config {
    Config::default()
        .steps([10, 50, 100].map(Ratio::percent))
        .watch(30 * SECOND)
}

#[test]
fn a_bad_canary_is_rolled_back_within_a_minute() {
    let versions = [Version::new(0.001, 20), Version::new(0.1, 20)];
    let back = rolled_back(&three_steps(), 1000, 60, versions);
    assert!(back >= 990, "{back} of 1000");
}

#[test]
fn an_equal_canary_is_rolled_back_in_at_most_one_run_of_twenty() {
    for errors in [0.001, 0.01, 0.05] {
        let version = Version::new(errors, 20);
        let back = rolled_back(&three_steps(), 1000, 100, [version, version]);
        assert!(back <= 50, "{back} of 1000 at {errors}");
    }
}

#[test]
fn where_few_calls_end_they_are_compared_all_the_same() {
    // A call every second, every third of them at the canary.
    let rolled_back = |errors: f64, seed: u64| {
        let canary = Canary::new(three_steps().promote(false), seed, Time::ZERO).unwrap();
        let mut rng = Rng::new(seed);
        (1..=300).any(|second| {
            let side = [Side::Canary, Side::Baseline, Side::Baseline][second as usize % 3];
            let fails = side == Side::Canary && rng.unit() < errors;
            let outcome = if fails {
                Outcome::Transient
            } else {
                Outcome::Success
            };
            canary.record(side, outcome, Duration::from_millis(10));
            canary.step(at(second)).is_some()
        })
    };
    let runs = |errors: f64| (0..100).filter(|&seed| rolled_back(errors, seed)).count();
    assert_eq!((runs(0.0), runs(1.0)), (0, 100));
    assert!(runs(0.5) >= 95, "{}", runs(0.5));
}

#[test]
fn an_equal_canary_gets_through() {
    let version = Version::new(0.001, 20);
    let ends = (0..40).map(|seed| run(&three_steps(), seed, 3600, [version, version]));
    let (done, back): (Vec<_>, Vec<_>) = ends.partition(|&(_, state)| state == State::Done);
    assert!(done.len() >= 36, "{done:?} {back:?}");
    assert!(
        back.iter().all(|&(_, state)| state == State::RolledBack),
        "{back:?}"
    );
    assert!(
        done.iter().all(|&(second, _)| second >= 60 + 60 + 30),
        "{done:?}"
    );
}

#[test]
fn a_canary_that_is_twice_as_slow_is_rolled_back() {
    let versions = [Version::new(0.001, 20), Version::new(0.001, 40)];
    let back = rolled_back(&three_steps(), 300, 60, versions);
    assert!(back >= 297, "{back} of 300");
    let without_errors = [Version::new(0.0, 20), Version::new(0.0, 40)];
    let not_looking = three_steps().slower(None);
    assert_eq!(rolled_back(&not_looking, 20, 60, without_errors), 0);
    let allowed = three_steps().slower(Some(2.5));
    assert_eq!(rolled_back(&allowed, 20, 60, without_errors), 0);
}

#[test]
fn a_canary_that_breaks_under_full_load_is_rolled_back_by_what_was_learned() {
    let canary = Canary::new(three_steps(), 1, Time::ZERO).unwrap();
    let mut rng = Rng::new(1);
    let fine = Version::new(0.001, 20);
    let mut now = 0;
    while canary.state() != State::Promoting {
        now += 1;
        second(&canary, &mut rng, 100, [fine, fine], at(now));
        assert!(now < 2000, "{:?}", canary.stats());
    }
    let broken = Version::new(0.2, 20);
    let decision =
        (1..10).find_map(|late| second(&canary, &mut rng, 100, [fine, broken], at(now + late)));
    assert_eq!(decision.unwrap().what, What::RolledBack);
    assert_eq!(canary.route(rng.next_u64()), Side::Baseline);
}

#[test]
fn a_decision_tells_its_evidence() {
    let canary = Canary::new(three_steps(), 1, Time::ZERO).unwrap();
    for _ in 0..360 {
        canary.record(Side::Baseline, Outcome::Success, Duration::from_millis(10));
    }
    for call in 0..40 {
        let outcome = if call < 20 {
            Outcome::Transient
        } else {
            Outcome::Success
        };
        canary.record(Side::Canary, outcome, Duration::from_millis(10));
    }
    let decision = canary.step(at(1)).unwrap();
    let text = decision.to_string();
    assert!(
        text.starts_with("rolled back: errors beyond the allowed 0.6"),
        "{text}"
    );
    assert!(
        text.contains("canary 20 of 40 failed, median 10."),
        "{text}"
    );
    assert!(
        text.contains("baseline 0 of 360 failed, median 10."),
        "{text}"
    );
    assert_eq!(canary.stats().decisions, [decision]);
}

/// A word of a script: what happens in one second.
#[derive(Clone, Copy, Debug)]
enum Do {
    /// So many calls at each side, none of which fails.
    Fine(u64),
    /// So many calls at each side; those at the canary fail.
    Bad(u64),
    Pause,
    Resume,
    Promote,
    Abort,
    Restart,
}

/// Runs a script, a second per word, and compares the decisions as text, by second.
fn check(config: Config, script: &[(u64, Do)], expected: &[(u64, &str)]) {
    let canary = Canary::new(config, 1, Time::ZERO).unwrap();
    let mut decisions = Vec::new();
    let mut second = 0;
    for &(times, word) in script {
        for _ in 0..times {
            second += 1;
            let decision = act(&canary, word, at(second));
            let text = |decision: Decision| format!("{}: {}", decision.what, decision.why);
            decisions.extend(decision.map(|decision| (second, text(decision))));
        }
    }
    let decisions: Vec<_> = decisions
        .iter()
        .map(|(at, text)| (*at, text.as_str()))
        .collect();
    assert_eq!(decisions.len(), expected.len(), "{decisions:?}");
    for (decision, expected) in decisions.iter().zip(expected) {
        assert_eq!(decision.0, expected.0, "{decisions:?}");
        assert!(decision.1.starts_with(expected.1), "{decisions:?}");
    }
}

fn act(canary: &Canary, word: Do, now: Time) -> Option<Decision> {
    match word {
        Do::Fine(calls) | Do::Bad(calls) => {
            let outcome = if matches!(word, Do::Bad(_)) {
                Outcome::Transient
            } else {
                Outcome::Success
            };
            for _ in 0..calls {
                canary.record(Side::Baseline, Outcome::Success, Duration::from_millis(10));
                canary.record(Side::Canary, outcome, Duration::from_millis(10));
            }
            canary.step(now)
        }
        Do::Pause => canary.pause(now),
        Do::Resume => canary.resume(now),
        Do::Promote => canary.promote(now),
        Do::Abort => canary.abort(now),
        Do::Restart => canary.restart(now),
    }
}

#[test]
fn steps_take_their_time_and_their_calls() {
    let config = || three_steps().min_time(10 * SECOND).min_calls(1000);
    // Time is up at 10, but it takes 1,000 calls; 603 would have been enough for the analysis.
    check(
        config(),
        &[(200, Do::Fine(50))],
        &[
            (20, "promoted to 50%: no worse than allowed"),
            (40, "promoted to 100%: no worse than allowed"),
            (70, "done: nothing wrong while it was watched alone"),
        ],
    );
    check(
        config(),
        &[(71, Do::Fine(500))],
        &[
            (10, "promoted to 50%"),
            (20, "promoted to 100%"),
            (50, "done"),
        ],
    );
}

#[test]
fn a_step_takes_what_the_analysis_needs() {
    // Of 600 calls without an error fewer than 0.5% fail, with 95% confidence.
    check(
        three_steps().min_time(SECOND).min_calls(1),
        &[(60, Do::Fine(50))],
        &[
            (12, "promoted to 50%: no worse than allowed"),
            (24, "promoted to 100%: no worse than allowed"),
            (54, "done"),
        ],
    );
}

#[test]
fn without_calls_nothing_is_promoted_and_a_hand_is_awaited() {
    let config = || three_steps().limit(100 * SECOND);
    let undecided = "paused: no clear answer within the limit of a step";
    check(config(), &[(500, Do::Fine(0))], &[(100, undecided)]);
    check(
        config(),
        &[(150, Do::Fine(0)), (1, Do::Resume), (150, Do::Fine(0))],
        &[(100, undecided), (151, "resumed"), (251, undecided)],
    );
}

#[test]
fn a_hand_pauses_resumes_promotes_and_aborts() {
    let by_hand = |script: &[(u64, Do)], expected: &[(u64, &str)]| {
        check(three_steps().promote(false), script, expected);
    };
    by_hand(&[(3000, Do::Fine(50))], &[]);
    by_hand(
        &[
            (5, Do::Fine(50)),
            (1, Do::Promote),
            (1, Do::Promote),
            (1, Do::Promote),
            (1, Do::Abort),
        ],
        &[
            (6, "promoted to 50%: by hand"),
            (7, "promoted to 100%: by hand"),
            (8, "done: by hand"),
        ],
    );
    by_hand(
        &[
            (1, Do::Resume),
            (2, Do::Pause),
            (2, Do::Resume),
            (2, Do::Abort),
            (1, Do::Promote),
            (9, Do::Bad(50)),
        ],
        &[
            (2, "paused: by hand"),
            (4, "resumed: by hand"),
            (6, "rolled back: by hand"),
        ],
    );
}

#[test]
fn what_is_over_may_begin_again_with_nothing_held_against_it() {
    check(
        three_steps().min_time(SECOND),
        &[
            (1, Do::Restart),
            (3, Do::Bad(50)),
            (1, Do::Restart),
            (1, Do::Restart),
            (12, Do::Fine(50)),
            (1, Do::Abort),
        ],
        &[
            (2, "rolled back: errors"),
            (5, "restarted: by hand"),
            (18, "promoted to 50%: no worse than allowed"),
            (19, "rolled back: by hand"),
        ],
    );
}

#[test]
fn what_ended_before_a_restart_counts_for_the_old_life_only() {
    let canary = Canary::new(three_steps(), 1, Time::ZERO).unwrap();
    let fail = || canary.record(Side::Canary, Outcome::Transient, Duration::ZERO);
    canary.record(Side::Baseline, Outcome::Success, Duration::ZERO);
    (0..100).for_each(|_| fail());
    canary.abort(at(1)).unwrap();
    canary.step(at(2));
    let (baseline, bad) = (
        Tally {
            calls: 1,
            errors: 0,
        },
        Tally {
            calls: 100,
            errors: 100,
        },
    );
    assert_eq!(
        (canary.stats().baseline, canary.stats().canary),
        (baseline, bad)
    );
    (0..100).for_each(|_| fail());
    canary.restart(at(3)).unwrap();
    assert_eq!(canary.step(at(4)), None);
    let stats = canary.stats();
    assert_eq!(stats.seen, Comparison::default());
    assert_eq!(
        (stats.baseline, stats.canary),
        (baseline, bad),
        "the counts only grow"
    );
    assert_eq!(stats.decisions.len(), 2);
}

#[test]
fn a_paused_canary_is_rolled_back_all_the_same() {
    check(
        three_steps(),
        &[
            (3, Do::Fine(50)),
            (1, Do::Pause),
            (500, Do::Fine(50)),
            (1, Do::Bad(50)),
        ],
        &[(4, "paused"), (505, "rolled back: errors")],
    );
}

#[test]
fn without_automatic_rollback_a_bad_canary_is_paused_once_and_a_hand_may_go_on() {
    check(
        three_steps().roll_back(false),
        &[
            (3, Do::Fine(50)),
            (20, Do::Bad(50)),
            (1, Do::Promote),
            (1, Do::Fine(50)),
            (3, Do::Bad(50)),
        ],
        &[
            (4, "paused: errors"),
            (24, "promoted to 50%: by hand"),
            (26, "paused: errors"),
        ],
    );
}

#[test]
fn blue_green_waits_for_a_hand_and_keeps_the_way_back_open() {
    let green = |canary: &Canary| {
        (0..1000)
            .filter(|&key| canary.route(key) == Side::Canary)
            .count()
    };
    let canary = Canary::new(Config::blue_green(), 1, Time::ZERO).unwrap();
    for second in 1..=120 {
        for _ in 0..100 {
            canary.record(Side::Baseline, Outcome::Success, Duration::from_millis(10));
        }
        assert_eq!(canary.step(at(second)), None);
    }
    assert_eq!(green(&canary), 0);
    assert_eq!(
        canary.promote(at(121)).unwrap().what,
        What::Promoted { share: Ratio::ONE }
    );
    assert_eq!((green(&canary), canary.state()), (1000, State::Promoting));
    for _ in 0..100 {
        canary.record(Side::Canary, Outcome::Success, Duration::from_millis(10));
    }
    assert_eq!(canary.step(at(122)), None);
    for _ in 0..20 {
        canary.record(Side::Canary, Outcome::Transient, Duration::from_millis(10));
    }
    assert_eq!(canary.step(at(123)).unwrap().what, What::RolledBack);
    assert_eq!(green(&canary), 0);
}

#[test]
fn blue_green_ends_when_the_way_back_closes() {
    let automatic = Config::blue_green().promote(true).min_calls(500);
    check(
        automatic,
        &[(700, Do::Fine(50))],
        &[(60, "promoted to 100%: no worse"), (660, "done")],
    );
}

#[test]
fn permanent_answers_are_errors_if_told_so() {
    let decided = |config: Config| {
        let canary = Canary::new(config, 1, Time::ZERO).unwrap();
        for _ in 0..100 {
            canary.record(Side::Baseline, Outcome::Success, SECOND);
            canary.record(Side::Canary, Outcome::Permanent, SECOND);
            canary.record(Side::Canary, Outcome::Ignored, SECOND);
        }
        canary.step(at(1)).is_some()
    };
    assert!(!decided(three_steps()));
    assert!(decided(three_steps().permanent_fails(true)));
}

#[test]
fn the_list_of_decisions_is_bounded() {
    let canary = Canary::new(three_steps(), 1, Time::ZERO).unwrap();
    for second in 0..100 {
        canary.pause(at(second)).unwrap();
        canary.resume(at(second)).unwrap();
    }
    let decisions = canary.stats().decisions;
    assert_eq!(decisions.len(), 64);
    assert_eq!(decisions[63].at, at(99));
}

#[test]
fn impossible_settings_are_refused() {
    let config = Config::default;
    let refused = [
        (config().steps([]), "canary.steps"),
        (config().steps([Ratio::ONE]), "canary.steps"),
        (config().steps([Ratio::percent(50)]), "canary.steps"),
        (
            config().steps([10, 10, 100].map(Ratio::percent)),
            "canary.steps",
        ),
        (
            config().steps([50, 10, 100].map(Ratio::percent)),
            "canary.steps",
        ),
        (
            config().steps((0..17).map(|at| Ratio::percent(84 + at))),
            "canary.steps",
        ),
        (
            config().min_time(2 * Duration::from_secs(3600)),
            "canary.min_time",
        ),
        (config().limit(Duration::MAX), "canary.limit"),
        (config().watch(Duration::MAX), "canary.watch"),
        (config().min_calls(0), "canary.min_calls"),
        (
            config().worsening(0.9, ratio(0.01)),
            "canary.worsening.factor",
        ),
        (
            config().worsening(f64::NAN, ratio(0.01)),
            "canary.worsening.factor",
        ),
        (
            config().worsening(2.0, Ratio::ZERO),
            "canary.worsening.absolute",
        ),
        (config().slower(Some(0.9)), "canary.slower"),
        (config().slower(Some(f64::INFINITY)), "canary.slower"),
        (config().alpha(Ratio::ZERO), "canary.alpha"),
        (config().beta(ratio(0.6)), "canary.beta"),
    ];
    for (config, setting) in refused {
        let error = Canary::new(config, 1, Time::ZERO).unwrap_err();
        assert_eq!(error.setting(), setting, "{error}");
    }
    for config in [Config::default(), Config::blue_green()] {
        assert!(Canary::new(config, 1, Time::ZERO).is_ok());
    }
}

proptest! {
    #[test]
    fn a_growing_share_never_sends_a_key_back(
        mut shares in proptest::collection::btree_set(0u32..100, 1..10),
        keys in proptest::collection::vec(any::<u64>(), 1..100),
        seed in any::<u64>(),
    ) {
        shares.insert(100);
        let steps = shares.iter().map(|&share| Ratio::percent(share));
        let canary = Canary::new(Config::default().steps(steps), seed, Time::ZERO).unwrap();
        let mut sides: Vec<Side> = keys.iter().map(|&key| canary.route(key)).collect();
        while canary.state() != State::Promoting {
            canary.promote(at(1));
            for (side, &key) in sides.iter_mut().zip(&keys) {
                let next = canary.route(key);
                prop_assert!(*side == Side::Baseline || next == Side::Canary);
                *side = next;
            }
        }
        prop_assert!(sides.iter().all(|&side| side == Side::Canary));
    }

    #[test]
    fn the_share_of_keys_is_the_share(percent in 1u32..100, seed in any::<u64>()) {
        let steps = [Ratio::percent(percent), Ratio::ONE];
        let canary = Canary::new(Config::default().steps(steps), seed, Time::ZERO).unwrap();
        let there = (0..10_000).filter(|&key| canary.route(key) == Side::Canary).count() as f64;
        // Five standard deviations.
        let p = f64::from(percent) / 100.0;
        prop_assert!((there - 1e4 * p).abs() <= 5.0 * (1e4 * p * (1.0 - p)).sqrt() + 1.0);
    }

    #[test]
    fn whatever_happens_the_states_follow_the_table(
        script in proptest::collection::vec(
            prop_oneof![
                (0u64..200).prop_map(Do::Fine),
                (0u64..3).prop_map(Do::Bad),
                Just(Do::Pause),
                Just(Do::Resume),
                Just(Do::Promote),
                Just(Do::Abort),
                Just(Do::Restart),
            ],
            1..60,
        ),
    ) {
        let config = three_steps().min_time(2 * SECOND).watch(5 * SECOND);
        let canary = Canary::new(config, 1, Time::ZERO).unwrap();
        for (second, word) in script.into_iter().enumerate() {
            let before = canary.state();
            let decision = act(&canary, word, at(second as u64));
            let after = canary.state();
            prop_assert_eq!(decision.is_some(), before != after);
            let over = |state| matches!(state, State::Done | State::RolledBack);
            let paused = |state| matches!(state, State::Paused { .. });
            let restarts = matches!(decision, Some(Decision { what: What::Restarted, .. }));
            prop_assert_eq!(restarts, over(before) && matches!(word, Do::Restart));
            prop_assert!(!over(before) || before == after || restarts);
            let share = canary.stats().share;
            match decision.map(|decision| decision.what) {
                Some(What::Promoted { share: promoted }) => prop_assert_eq!(share, promoted),
                Some(What::Done) => prop_assert_eq!((after, share), (State::Done, Ratio::ONE)),
                Some(What::RolledBack) => prop_assert_eq!((after, share), (State::RolledBack, Ratio::ZERO)),
                Some(What::Paused) => prop_assert!(paused(after)),
                Some(What::Resumed) => prop_assert!(paused(before)),
                Some(What::Restarted) => {
                    prop_assert_eq!((after, share), (State::Running { step: 0 }, Ratio::percent(10)));
                }
                None => {}
            }
        }
    }
}
