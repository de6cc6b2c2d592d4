//! The breaker in virtual time: tables of scripts, and threads; `model` compares it with a naive one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod model;

use std::mem::needs_drop;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Barrier, Mutex};

use super::*;
use crate::backoff::{Backoff, Jitter};
use crate::config::DAY;
use crate::ratio::Ratio;
use crate::window::{Timed, Window};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HALF: Ratio = Ratio::percent(50);

fn breaker(config: Config) -> Breaker {
    Breaker::new(config, 1).unwrap()
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// One consecutive failure trips it, and one trial decides after a second.
fn brittle() -> Config {
    Config::consecutive(1).cooldown(SECOND).successes(1)
}

fn overload() -> Outcome {
    let retry_after = Some(SECOND);
    Outcome::Overload { retry_after }
}

/// Plays `script` and compares the state after each call with `expected`.
///
/// In the script `.` is a call that succeeds, `x` one that fails, `o` an overload, `p` a permanent
/// outcome, `i` an ignored one, `e` a success of exactly 50 ms, `s` a slow success and `S` a slow
/// failure of 100 ms; `+20` lets 20 ms pass. The states are `c`, `o` and `h`; `-` is a call that
/// was rejected. Spaces are for the reader.
fn check(config: Config, script: &str, expected: &str) {
    let breaker = breaker(config);
    let (mut now, mut found) = (Time::ZERO, String::new());
    for word in script.split_whitespace() {
        if let Some(millis) = word.strip_prefix('+') {
            now = now + Duration::from_millis(millis.parse().unwrap());
            continue;
        }
        for call in word.chars() {
            let (outcome, took) = match call {
                '.' => (Outcome::Success, Duration::ZERO),
                'e' => (Outcome::Success, 50 * MS),
                's' => (Outcome::Success, 100 * MS),
                'x' => (Outcome::Transient, Duration::ZERO),
                'S' => (Outcome::Transient, 100 * MS),
                'o' => (overload(), Duration::ZERO),
                'p' => (Outcome::Permanent, Duration::ZERO),
                'i' => (Outcome::Ignored, Duration::ZERO),
                other => panic!("no such call: {other}"),
            };
            let Ok(permit) = breaker.admit(now) else {
                found.push('-');
                continue;
            };
            breaker.record(permit, outcome, took, now);
            found.push(match breaker.state(now) {
                State::Closed => 'c',
                State::Open => 'o',
                State::HalfOpen => 'h',
                other => panic!("nobody forced it to be {other:?}"),
            });
        }
    }
    let expected: String = expected.split_whitespace().collect();
    assert_eq!(found, expected, "{script}");
}

fn fail(breaker: &Breaker, now: Time) {
    record(breaker, Outcome::Transient, now);
}

fn succeed(breaker: &Breaker, now: Time) {
    record(breaker, Outcome::Success, now);
}

fn record(breaker: &Breaker, outcome: Outcome, now: Time) {
    let permit = breaker.admit(now).unwrap();
    breaker.record(permit, outcome, Duration::ZERO, now);
}

#[test]
fn consecutive_failures_trip_and_a_success_ends_the_run() {
    check(Config::consecutive(3), "xx.xxx.x", "ccccco--");
    check(Config::consecutive(1), "..x", "cco");
    check(Config::consecutive(3), "xxpxxox", "ccccco-");
    check(Config::consecutive(3), "xxoo", "cco-");
    check(Config::consecutive(3), "xxiix", "cccco");
    check(Config::consecutive(2), "x +999999 x", "co");
}

#[test]
fn failures_in_a_window_of_calls_trip() {
    let config = Config::failures(3, Window::calls(5));
    check(config.clone(), "x.x..x..x..x", "cccccccccccc");
    check(config.clone(), "x.x..x.xx", "cccccccco");
    check(config.clone(), "xxpxi", "ccco-");
    check(config, "xi.xi.x", "cccccco");
    let whole = Config::failures(5, Window::calls(5));
    check(whole, "xxxx. xxxxx", "ccccc cccco");
}

#[test]
fn failures_in_a_window_of_time_trip() {
    let config = Config::failures(3, Window::Time(10 * SECOND));
    check(
        config.clone(),
        "x +5000 x.... +4999 x",
        "c c.... o".replace('.', "c").as_str(),
    );
    check(config.clone(), "x +5000 x +5000 x", "c c c");
    check(config, "x +5000 x +5000 x +4000 x", "c c c o");
}

#[test]
fn a_failure_ratio_trips_at_the_minimum_of_calls() {
    for window in [Window::calls(4), Window::Time(10 * SECOND)] {
        let config = Config::failure_ratio(HALF, window).min_calls(4);
        check(config.clone(), "xxx.", "ccco");
        check(config.clone(), "...x", "cccc");
        check(config.clone(), ".x.x", "ccco");
    }
    let config = Config::failure_ratio(Ratio::percent(51), Window::calls(4)).min_calls(4);
    check(config, ".x.xx", "cccco");
}

#[test]
fn a_success_that_completes_the_minimum_trips() {
    for window in [Window::calls(10), Window::Time(SECOND)] {
        let config = Config::failure_ratio(HALF, window).min_calls(4);
        check(config.clone(), "xx..", "ccco");
        check(config.clone(), "xx.p", "ccco");
        check(config.clone(), "xx.i", "cccc");
    }
}

#[test]
fn successes_that_slide_out_of_the_window_raise_the_ratio() {
    let config = Config::failure_ratio(HALF, Window::Time(10 * SECOND)).min_calls(4);
    check(config, "...... +5000 xxx +5000 .", "cccccc ccc o");
    let config = Config::failure_ratio(HALF, Window::calls(6)).min_calls(6);
    check(config, "......xxx", "cccccccco");
}

#[test]
fn the_default_minimum_is_twenty_calls() {
    let config = Config::failure_ratio(HALF, Window::calls(100));
    let (script, expected) = ("x".repeat(20), "c".repeat(19) + "o");
    check(config, &script, &expected);
}

#[test]
fn slow_calls_trip_whether_they_fail_or_not() {
    for window in [Window::calls(4), Window::Time(10 * SECOND)] {
        let config = Config::slow_calls(50 * MS, HALF, window).min_calls(4);
        check(config.clone(), "s.s.", "ccco");
        check(config.clone(), "S.s.", "ccco");
        check(config.clone(), "ss..", "ccco");
        check(config.clone(), "eeee", "cccc");
        check(config.clone(), "xxxx", "cccc");
    }
}

#[test]
fn any_one_of_several_rules_trips() {
    let config = || {
        Config::failure_ratio(HALF, Window::calls(10))
            .min_calls(10)
            .or_consecutive(3)
            .or_slow_calls(50 * MS, HALF)
    };
    check(config(), "xxx", "cco");
    check(config(), ".x.x.x.x.x", "ccccccccco");
    check(config(), ".s.s.s.s.s", "ccccccccco");
    check(config(), ".x.s.x.s.x", "cccccccccc");
    check(config().or_failures(2), ".x.x", "ccco");
    let timed = config().window(Window::Time(SECOND));
    check(timed, "..........xxx", "cccccccccccco");
}

#[test]
fn a_cooldown_ends_at_exactly_its_end() {
    check(brittle(), "x +999 . +1 .", "o - c");
    let breaker = breaker(brittle());
    fail(&breaker, Time::ZERO);
    let last = Time::from_nanos(999_999_999);
    assert_eq!(
        breaker.admit(last).unwrap_err(),
        Rejection::after(Reason::Open, Duration::from_nanos(1))
    );
    assert!(breaker.admit(at(1000)).unwrap().is_trial());
}

/// The cooldowns of a breaker whose trials fail.
fn cooldowns<const N: usize>(breaker: &Breaker, mut now: Time) -> [u64; N] {
    std::array::from_fn(|_| {
        fail(breaker, now);
        let until = breaker.stats(now).retry_at.unwrap();
        let cooldown = until.since(now);
        now = until;
        u64::try_from(cooldown.as_millis()).unwrap()
    })
}

#[test]
fn cooldowns_grow_with_every_failed_trial() {
    let grown = |cooldown: Backoff| {
        let cooldown = cooldown.jitter(Jitter::None);
        cooldowns::<5>(&breaker(brittle().cooldown(cooldown)), Time::ZERO)
    };
    let cap = 60 * SECOND;
    assert_eq!(
        grown(Backoff::constant(SECOND)),
        [1000, 1000, 1000, 1000, 1000]
    );
    assert_eq!(
        grown(Backoff::linear(SECOND).max(cap)),
        [1000, 2000, 3000, 4000, 5000]
    );
    assert_eq!(
        grown(Backoff::exponential(SECOND).max(cap)),
        [1000, 2000, 4000, 8000, 16000]
    );
    assert_eq!(
        grown(Backoff::exponential(SECOND).max(3 * SECOND)),
        [1000, 2000, 3000, 3000, 3000]
    );
}

#[test]
fn a_close_resets_the_growth() {
    let cooldown = Backoff::exponential(SECOND)
        .jitter(Jitter::None)
        .max(60 * SECOND);
    let breaker = breaker(brittle().cooldown(cooldown));
    assert_eq!(cooldowns(&breaker, Time::ZERO), [1000, 2000, 4000]);
    succeed(&breaker, at(7000));
    assert_eq!(breaker.state(at(7000)), State::Closed);
    assert_eq!(cooldowns(&breaker, at(8000)), [1000, 2000]);
}

#[test]
fn jitter_spreads_the_cooldown_within_bounds_and_by_the_seed() {
    let cooldown = Backoff::constant(SECOND).jitter(Jitter::Proportional(HALF));
    let of_seed = |seed| {
        let breaker = Breaker::new(brittle().cooldown(cooldown), seed).unwrap();
        cooldowns::<10>(&breaker, Time::ZERO)
    };
    let mut first = Vec::new();
    for seed in 0..50 {
        let series = of_seed(seed);
        assert_eq!(series, of_seed(seed));
        assert!(
            series.iter().all(|wait| (500..=1500).contains(wait)),
            "{series:?}"
        );
        let mut different = series.to_vec();
        different.sort_unstable();
        different.dedup();
        assert!(different.len() > 5, "{series:?}");
        first.push(series[0]);
    }
    first.sort_unstable();
    first.dedup();
    assert!(first.len() > 40, "the seeds give {first:?}");
}

#[test]
fn half_open_admits_so_many_trials_at_once_and_no_more() {
    let breaker = breaker(brittle().trials(2).successes(3).lease(10 * SECOND));
    fail(&breaker, Time::ZERO);
    let first = breaker.admit(at(1000)).unwrap();
    let second = breaker.admit(at(3000)).unwrap();
    assert!(first.is_trial() && second.is_trial());
    assert_eq!(
        breaker.admit(at(4000)).unwrap_err(),
        Rejection::after(Reason::Open, 7 * SECOND),
        "until the first lease ends at the latest"
    );
    breaker.record(first, Outcome::Success, SECOND, at(5000));
    let third = breaker.admit(at(5000)).unwrap();
    assert!(breaker.admit(at(5000)).is_err());
    breaker.record(second, Outcome::Success, SECOND, at(5000));
    assert_eq!(breaker.state(at(5000)), State::HalfOpen);
    breaker.record(third, Outcome::Success, SECOND, at(5000));
    assert_eq!(breaker.state(at(5000)), State::Closed);
}

#[test]
fn so_many_successes_close_it_and_the_first_failure_does_not() {
    let config = brittle().trials(1).successes(3);
    check(config.clone(), "x +1000 ...", "o hhc");
    check(config, "x +1000 ..x. +1000 ...", "o hho- hhc");
}

#[test]
fn tolerated_failures_of_trials_are_forgiven() {
    let config = brittle().successes(3).tolerate(2);
    check(config.clone(), "x +1000 x.x..", "o hhhhc");
    check(config.clone(), "x +1000 x.xx", "o hhho");
    check(config, "x +1000 xx.. +1 i.", "o hhhh hc");
    check(brittle().successes(1).tolerate(1), "x +1000 xpx", "o hco");
}

#[test]
fn a_slow_trial_counts_as_failed() {
    let config = Config::slow_calls(50 * MS, HALF, Window::calls(2))
        .min_calls(2)
        .cooldown(SECOND)
        .successes(1);
    check(config.clone(), "ss +1000 s +1000 S +1000 .", "co o o c");
    check(config, "ss +1000 e", "co c");
}

#[test]
fn a_cancelled_trial_gives_its_place_back() {
    check(brittle().trials(1), "x +1000 iiiiiiii.", "o hhhhhhhhc");
}

#[test]
fn a_hung_trial_opens_it_again_at_the_end_of_its_lease() {
    let breaker = breaker(brittle().trials(1).lease(5 * SECOND));
    fail(&breaker, Time::ZERO);
    let hung = breaker.admit(at(1000)).unwrap();
    assert_eq!(breaker.state(at(5999)), State::HalfOpen);
    assert_eq!(breaker.state(at(6400)), State::Open);
    assert_eq!(
        breaker.stats(at(6400)).retry_at,
        Some(at(7000)),
        "the cooldown counts from the end of the lease, not from when somebody looked"
    );
    assert_eq!(
        breaker.admit(at(6400)).unwrap_err().retry_after,
        Some(600 * MS)
    );
    breaker.record(hung, Outcome::Success, 6 * SECOND, at(6500));
    assert_eq!(breaker.state(at(6500)), State::Open);
    assert_eq!(breaker.stats(at(6500)).trips, 2);
}

#[test]
fn a_late_result_of_a_hung_trial_changes_nothing() {
    let late = |outcome| {
        let config = brittle().trials(2).successes(2).tolerate(1);
        let breaker = breaker(config.lease(5 * SECOND));
        fail(&breaker, Time::ZERO);
        let hung = breaker.admit(at(1000)).unwrap();
        assert_eq!(breaker.state(at(6000)), State::HalfOpen, "one is forgiven");
        succeed(&breaker, at(6000));
        breaker.record(hung, outcome, 6 * SECOND, at(7000));
        assert_eq!(breaker.state(at(7000)), State::HalfOpen, "{outcome:?}");
        succeed(&breaker, at(7000));
        assert_eq!(breaker.state(at(7000)), State::Closed);
    };
    late(Outcome::Success);
    late(Outcome::Transient);
    late(Outcome::Ignored);
}

#[test]
fn the_first_of_several_hung_trials_counts() {
    let breaker = breaker(brittle().trials(3).lease(5 * SECOND));
    fail(&breaker, Time::ZERO);
    let hung = [1000, 2000, 3000].map(|millis| breaker.admit(at(millis)).unwrap());
    assert_eq!(breaker.stats(at(60_000)).retry_at, Some(at(7000)));
    for permit in hung {
        breaker.record(permit, Outcome::Success, DAY, at(60_000));
    }
    assert_eq!(breaker.state(at(60_000)), State::Open);
}

#[test]
fn stragglers_from_before_a_trip_change_nothing() {
    for outcome in [Outcome::Success, Outcome::Transient, overload()] {
        let breaker = breaker(Config::consecutive(2).cooldown(SECOND).successes(2));
        let mut stragglers: Vec<_> = (0..12).map(|_| breaker.admit(at(0)).unwrap()).collect();
        let mut arrive = |now| {
            for straggler in stragglers.drain(..4) {
                breaker.record(straggler, outcome, Duration::ZERO, now);
            }
            breaker.state(now)
        };
        fail(&breaker, at(0));
        fail(&breaker, at(0));
        assert_eq!(arrive(at(1)), State::Open);
        assert_eq!(breaker.stats(at(1)).retry_at, Some(at(1000)));
        succeed(&breaker, at(1000));
        assert_eq!(arrive(at(1001)), State::HalfOpen);
        succeed(&breaker, at(1002));
        fail(&breaker, at(1003));
        assert_eq!(arrive(at(1004)), State::Closed);
        fail(&breaker, at(1005));
        assert_eq!(breaker.state(at(1005)), State::Open, "the run went on");
    }
}

#[test]
fn stragglers_are_not_in_the_window_of_the_next_closed_state() {
    for window in [Window::calls(10), Window::Time(10 * SECOND)] {
        let config = Config::failures(3, window).cooldown(SECOND).successes(1);
        let breaker = breaker(config);
        let stragglers: Vec<_> = (0..10).map(|_| breaker.admit(at(0)).unwrap()).collect();
        (0..3).for_each(|_| fail(&breaker, at(0)));
        succeed(&breaker, at(1000));
        for straggler in stragglers {
            breaker.record(straggler, Outcome::Transient, Duration::ZERO, at(1000));
        }
        assert_eq!(breaker.stats(at(1000)).tally, Tally::default());
        fail(&breaker, at(1000));
        fail(&breaker, at(1000));
        assert_eq!(breaker.state(at(1000)), State::Closed);
    }
}

#[test]
fn every_manual_state_holds_until_it_is_given_back() {
    let states = [
        (Manual::Open, State::ForcedOpen),
        (Manual::Closed, State::ForcedClosed),
        (Manual::Disabled, State::Disabled),
    ];
    for (manual, state) in states {
        let breaker = breaker(brittle());
        fail(&breaker, at(0));
        breaker.force(manual, at(0));
        for millis in [0, 1, 999, 1000, 100_000_000] {
            assert_eq!(breaker.state(at(millis)), state);
            match breaker.admit(at(millis)) {
                Ok(permit) => {
                    assert_ne!(state, State::ForcedOpen);
                    assert!(!permit.is_trial());
                    breaker.record(permit, Outcome::Transient, DAY, at(millis));
                }
                Err(rejection) => {
                    assert_eq!(state, State::ForcedOpen);
                    assert_eq!(rejection, Rejection::new(Reason::Open));
                }
            }
            assert_eq!(breaker.state(at(millis)), state);
        }
        assert_eq!(breaker.is_willing(at(0)), state != State::ForcedOpen);
        breaker.force(Manual::Auto, at(0));
        assert_eq!(breaker.state(at(0)), State::Closed);
        assert_eq!(breaker.stats(at(0)).tally, Tally::default());
        fail(&breaker, at(0));
        assert_eq!(breaker.state(at(0)), State::Open);
    }
}

#[test]
fn held_closed_counts_and_disabled_does_not() {
    let config = Config::failures(3, Window::calls(10));
    for (manual, counted) in [(Manual::Closed, 5), (Manual::Disabled, 0)] {
        let breaker = breaker(config.clone());
        breaker.force(manual, at(0));
        (0..5).for_each(|_| fail(&breaker, at(0)));
        assert_eq!(breaker.stats(at(0)).tally.failed, counted, "{manual:?}");
        breaker.force(Manual::Auto, at(0));
        fail(&breaker, at(0));
        assert_eq!(breaker.stats(at(0)).tally.failed, 1);
    }
}

#[test]
fn a_manual_trial_does_not_wait_for_the_cooldown() {
    let breaker = breaker(brittle());
    fail(&breaker, at(0));
    breaker.force(Manual::Trial, at(1));
    assert_eq!(breaker.state(at(1)), State::HalfOpen);
    let trial = breaker.admit(at(1)).unwrap();
    assert!(trial.is_trial());
    breaker.record(trial, Outcome::Success, MS, at(2));
    assert_eq!(breaker.state(at(2)), State::Closed);
    breaker.force(Manual::Trial, at(3));
    fail(&breaker, at(3));
    assert_eq!(breaker.stats(at(3)).retry_at, Some(at(1003)));
}

/// A breaker and the changes that its listener hears.
fn heard(config: Config) -> (Breaker, Arc<Mutex<Vec<Change>>>) {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&changes);
    let breaker = breaker(config).on_change(move |change| sink.lock().unwrap().push(change));
    (breaker, changes)
}

fn steps(changes: &Mutex<Vec<Change>>) -> Vec<(State, State, u64)> {
    let changes = changes.lock().unwrap();
    let step = |change: &Change| (change.from, change.to, change.at.as_nanos() / 1_000_000);
    changes.iter().map(step).collect()
}

#[test]
fn the_listener_hears_of_each_change_once() {
    use State::{Closed, ForcedOpen, HalfOpen, Open};
    let (breaker, changes) = heard(brittle());
    fail(&breaker, at(10));
    assert!(breaker.admit(at(11)).is_err());
    fail(&breaker, at(1010));
    succeed(&breaker, at(2010));
    succeed(&breaker, at(2011));
    breaker.force(Manual::Open, at(2020));
    breaker.force(Manual::Open, at(2021));
    breaker.force(Manual::Auto, at(2030));
    let expected = [
        (Closed, Open, 10),
        (Open, HalfOpen, 1010),
        (HalfOpen, Open, 1010),
        (Open, HalfOpen, 2010),
        (HalfOpen, Closed, 2010),
        (Closed, ForcedOpen, 2020),
        (ForcedOpen, Closed, 2030),
    ];
    assert_eq!(steps(&changes), expected);
}

/// One question can both end a hung trial's lease and start the next half-open phase.
#[test]
fn the_listener_hears_of_a_trip_that_is_over_already() {
    use State::{Closed, HalfOpen, Open};
    let (breaker, changes) = heard(brittle().lease(5 * SECOND));
    fail(&breaker, at(0));
    let hung = breaker.admit(at(1000)).unwrap();
    let next = breaker.admit(at(60_000)).unwrap();
    let expected = [
        (Closed, Open, 0),
        (Open, HalfOpen, 1000),
        (HalfOpen, Open, 6000),
        (Open, HalfOpen, 60_000),
    ];
    assert_eq!(steps(&changes), expected);
    assert_eq!(breaker.stats(at(60_000)).trips, 2);
    breaker.record(hung, Outcome::Success, MS, at(60_000));
    breaker.record(next, Outcome::Success, MS, at(60_001));
    assert_eq!(steps(&changes)[4..], [(HalfOpen, Closed, 60_001)]);
}

#[test]
fn the_listener_is_told_what_the_window_held() {
    let (breaker, changes) = heard(Config::failures(2, Window::calls(10)));
    succeed(&breaker, at(0));
    fail(&breaker, at(0));
    fail(&breaker, at(0));
    let tally = changes.lock().unwrap()[0].tally;
    assert_eq!((tally.total, tally.failed), (3, 2));
    assert_eq!(breaker.stats(at(0)).tally, tally);
}

#[test]
fn willingness_is_told_without_taking_a_place() {
    let breaker = breaker(brittle().trials(1));
    assert!(breaker.is_willing(at(0)));
    fail(&breaker, at(0));
    assert!(!breaker.is_willing(at(999)));
    assert!(breaker.is_willing(at(1000)));
    assert_eq!(breaker.state(at(1000)), State::Open, "nobody asked to pass");
    let trial = breaker.admit(at(1000)).unwrap();
    breaker.record(trial, Outcome::Success, MS, at(1001));
    assert!(breaker.is_willing(at(1001)));
}

#[test]
fn patience_is_what_was_set_or_the_slow_threshold_or_the_timeout() {
    let timeout = 7 * SECOND;
    let slow = || brittle().or_slow_calls(50 * MS, HALF);
    assert_eq!(breaker(brittle()).patience(timeout), timeout);
    assert_eq!(breaker(slow()).patience(timeout), 50 * MS);
    assert_eq!(breaker(slow().patience(MS)).patience(timeout), MS);
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let nano = Duration::from_nanos(1);
    let ratio = |window| Config::failure_ratio(HALF, window);
    let slow = |after, share| Config::slow_calls(after, share, Window::calls(100));
    let growing = |base| Config::default().cooldown(Backoff::exponential(base));
    let refused = [
        (Config::consecutive(0), "breaker.consecutive"),
        (Config::failures(0, Window::calls(1)), "breaker.failures"),
        (Config::default().min_calls(0), "breaker.min_calls"),
        (
            Config::failures(u32::MAX, Window::calls(100)),
            "breaker.failures",
        ),
        (Config::failures(11, Window::calls(10)), "breaker.failures"),
        (ratio(Window::calls(10)).min_calls(11), "breaker.min_calls"),
        (
            ratio(Window::calls(10)).min_calls(u32::MAX),
            "breaker.min_calls",
        ),
        (ratio(Window::calls(10_001)), "window"),
        (ratio(Window::calls(u32::MAX)), "window"),
        (ratio(Window::Time(Duration::ZERO)), "window"),
        (ratio(Window::Time(nano)), "window"),
        (ratio(Window::Time(10 * MS - nano)), "window"),
        (ratio(Window::Time(DAY + nano)), "window"),
        (ratio(Window::Time(Duration::MAX)), "window"),
        (
            Config::failure_ratio(Ratio::ZERO, Window::calls(100)),
            "breaker.failure_ratio",
        ),
        (slow(SECOND, Ratio::ZERO), "breaker.failure_ratio"),
        (
            Config::default().cooldown(Duration::ZERO),
            "breaker.cooldown",
        ),
        (Config::default().cooldown(nano), "breaker.cooldown"),
        (Config::default().cooldown(DAY + nano), "breaker.cooldown"),
        (
            Config::default().cooldown(Duration::MAX),
            "breaker.cooldown",
        ),
        (growing(SECOND), "breaker.cooldown"),
        (
            Config::default().cooldown(Backoff::exponential(SECOND).max(DAY)),
            "breaker.cooldown",
        ),
        (
            Config::failures(100_001, Window::Time(DAY)),
            "breaker.failures",
        ),
        (growing(Duration::MAX), "breaker.cooldown"),
        (
            Config::default().cooldown(Backoff::constant(SECOND).max(MS)),
            "backoff.max",
        ),
        (Config::default().lease(Duration::ZERO), "breaker.lease"),
        (Config::default().lease(nano), "breaker.lease"),
        (Config::default().lease(Duration::MAX), "breaker.lease"),
        (Config::default().trials(0), "breaker.trials"),
        (Config::default().trials(u32::MAX), "breaker.trials"),
        (Config::default().successes(0), "breaker.trials"),
        (Config::default().successes(u32::MAX), "breaker.trials"),
    ];
    for (config, setting) in refused {
        let error = Breaker::new(config.clone(), 1).unwrap_err();
        assert_eq!(error.setting(), setting, "{config:?}");
    }
}

#[test]
fn extreme_settings_that_can_work_do() {
    let extreme = [
        Config::consecutive(u32::MAX),
        Config::failures(100_000, Window::Time(DAY)),
        Config::failures(1, Window::calls(1)).min_calls(u32::MAX),
        Config::failure_ratio(Ratio::ONE, Window::calls(10_000)).min_calls(10_000),
        Config::slow_calls(Duration::MAX, Ratio::ONE, Window::Time(10 * MS)),
        Config::slow_calls(Duration::ZERO, HALF, Window::calls(20)),
        Config::consecutive(1).cooldown(DAY).lease(DAY).trials(1000),
        Config::consecutive(1).cooldown(MS).lease(10 * MS),
        Config::consecutive(1)
            .tolerate(u32::MAX)
            .patience(Duration::MAX),
    ];
    for config in extreme {
        for now in [Time::ZERO, at(1), Time::from_nanos(u64::MAX - 1), Time::MAX] {
            let breaker = breaker(config.clone());
            for took in [Duration::ZERO, Duration::MAX] {
                for outcome in [Outcome::Transient, Outcome::Success, overload()] {
                    if let Ok(permit) = breaker.admit(now) {
                        breaker.record(permit, outcome, took, now);
                    }
                }
            }
            breaker.stats(now);
            breaker.stats(Time::ZERO);
        }
    }
}

/// An outage makes hundreds of generations; what the window held before it must not look newer
/// than what comes after.
#[test]
fn a_long_outage_does_not_blind_the_window() {
    for window in [Window::calls(20), Window::Time(30 * SECOND)] {
        let config = Config::failure_ratio(HALF, window)
            .cooldown(MS)
            .successes(1);
        for failed_trials in [50, 70, 100, 20_000] {
            let breaker = breaker(config.clone());
            let mut now = at(0);
            (0..20).for_each(|_| fail(&breaker, now));
            for _ in 0..failed_trials {
                now = now + MS;
                fail(&breaker, now);
            }
            now = now + MS;
            succeed(&breaker, now);
            assert_eq!(breaker.state(now), State::Closed);
            (0..20).for_each(|_| fail(&breaker, now));
            assert_eq!(
                breaker.state(now),
                State::Open,
                "{window:?} {failed_trials}"
            );
        }
    }
}

/// A bucket's tick has 20 bits; a window that rested for half of that circle must not take what
/// it held before for the future.
#[test]
fn a_long_rest_does_not_blind_the_window() {
    for rest in [1, 1 << 18, (1 << 19) + 100, (1 << 20) - 1000, 1 << 20] {
        let breaker = breaker(Config::failures(2, Window::Time(10 * MS)));
        (0..10).for_each(|tick| succeed(&breaker, at(tick)));
        fail(&breaker, at(rest + 20));
        fail(&breaker, at(rest + 21));
        assert_eq!(
            breaker.state(at(rest + 21)),
            State::Open,
            "after {rest} ticks"
        );
    }
}

/// A bucket halves when it is full; the slow calls in it must halve with it.
#[test]
fn a_full_bucket_does_not_make_calls_look_slower() {
    let breaker = breaker(Config::slow_calls(MS, HALF, Window::Time(DAY)));
    for call in 0..300_000 {
        let permit = breaker.admit(at(0)).unwrap();
        let took = if call % 3 == 0 {
            SECOND
        } else {
            Duration::ZERO
        };
        breaker.record(permit, Outcome::Success, took, at(0));
    }
    assert_eq!(breaker.state(at(0)), State::Closed);
}

/// tower-resilience keeps every call of a timed window in a queue and walks it on each result.
#[test]
fn a_timed_window_has_a_fixed_size_and_owns_no_memory() {
    assert!(!needs_drop::<Timed>());
}

/// tower-resilience's open breaker takes an asynchronous lock and sleeps when it is contended.
#[test]
fn neither_a_closed_nor_an_open_breaker_takes_a_lock_to_decide() {
    let breaker = breaker(Config::consecutive(2));
    let held = lock(&breaker.machine);
    fail(&breaker, at(0));
    succeed(&breaker, at(0));
    drop(held);
    fail(&breaker, at(0));
    fail(&breaker, at(0));
    let held = lock(&breaker.machine);
    assert!(breaker.admit(at(1)).is_err());
    assert!(!breaker.is_willing(at(1)));
    drop(held);
}

/// Eight threads ask a half-open breaker; the most trials that were out at once.
fn most_trials_at_once(breaker: &Breaker, outcomes: [Outcome; 2]) -> u32 {
    let (running, most) = (AtomicU32::new(0), AtomicU32::new(0));
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (running, most, start) = (&running, &most, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..2_000 {
                    let Ok(permit) = breaker.admit(at(1000)) else {
                        continue;
                    };
                    assert!(permit.is_trial());
                    let now_running = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now_running, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    let outcome = outcomes[(thread + round) % 2];
                    breaker.record(permit, outcome, MS, at(1000));
                }
            });
        }
    });
    most.into_inner()
}

/// failsafe and recloser let every call through half-open; circuitbreaker-rs underflowed its
/// count of trials in a race.
#[test]
fn threads_never_exceed_the_trials_of_half_open() {
    for trials in [1, 3] {
        let forgiving = || brittle().trials(trials).tolerate(u32::MAX).successes(1000);
        for outcomes in [
            [Outcome::Ignored, Outcome::Ignored],
            [Outcome::Ignored, Outcome::Transient],
        ] {
            let breaker = breaker(forgiving().lease(DAY));
            fail(&breaker, at(0));
            let most = most_trials_at_once(&breaker, outcomes);
            assert!((1..=trials).contains(&most), "{most} of {trials}");
            assert_eq!(breaker.state(at(1000)), State::HalfOpen);
            let places: Vec<_> = (0..10)
                .map_while(|_| breaker.admit(at(1000)).ok())
                .collect();
            assert_eq!(places.len(), trials as usize, "no place was lost");
        }
    }
}

#[test]
fn threads_that_fail_together_trip_it_once() {
    for config in [
        Config::consecutive(8),
        Config::failures(8, Window::calls(8)),
        Config::failures(8, Window::Time(DAY)),
        Config::failure_ratio(HALF, Window::calls(8)).min_calls(8),
    ] {
        for _ in 0..50 {
            let (breaker, changes) = heard(config.clone());
            let start = Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        for _ in 0..4 {
                            if let Ok(permit) = breaker.admit(at(0)) {
                                breaker.record(permit, Outcome::Transient, MS, at(0));
                            }
                        }
                    });
                }
            });
            assert_eq!(steps(&changes), [(State::Closed, State::Open, 0)]);
            assert_eq!(breaker.stats(at(0)).trips, 1);
        }
    }
}
