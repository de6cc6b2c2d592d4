//! Modes in virtual time: tables, and the law against flapping for any signals.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ratio::Ratio;

const SECOND: Duration = Duration::from_secs(1);

fn ratio(share: f64) -> Ratio {
    Ratio::new(share).unwrap()
}

fn p99(limit: Limit<Duration>) -> Condition {
    Condition::Latency(Quantile::P99, limit)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(second: u64) -> Time {
    Time::from_millis(second * 1000)
}

/// The modes of the reference: lean at p99, survival at errors.
fn config() -> Config {
    let lean = Mode::new("lean")
        .when(p99(Limit::Above(millis(500))))
        .off(p99(Limit::Below(millis(300))))
        .off_after(60 * SECOND)
        .disable(Tier::Optional);
    let survival = Mode::new("survival")
        .when(Condition::Errors(Limit::Above(Ratio::percent(1))))
        .after(5 * SECOND)
        .disable(Tier::Optional)
        .disable(Tier::Important)
        .serve_stale(true);
    Config::default()
        .mode(lean)
        .mode(survival)
        .feature("checkout", Tier::Critical)
        .feature("search", Tier::Important)
        .feature("recommendations", Tier::Optional)
}

fn signals(p99: u64, errors: f64) -> Signals<'static> {
    let mut signals = Signals {
        errors: Some(ratio(errors)),
        ..Signals::default()
    };
    signals.latency[Quantile::P99.index()] = Some(millis(p99));
    signals
}

/// Feeds `(seconds, p99 in ms, errors)` once a second and compares the switches, as
/// `(second, name of the mode entered)`.
fn check(config: Config, script: &[(u64, u64, f64)], expected: &[(u64, &str)]) {
    let degrade = Degrade::new(config).unwrap();
    let mut switches = Vec::new();
    let mut second = 0;
    for &(seconds, p99, errors) in script {
        for _ in 0..seconds {
            if let Some(switch) = degrade.observe(&signals(p99, errors), at(second)) {
                switches.push((second, degrade.name(switch.to).to_owned()));
            }
            second += 1;
        }
    }
    let switches: Vec<_> = switches.iter().map(|(at, to)| (*at, to.as_str())).collect();
    assert_eq!(switches, expected);
}

#[test]
fn a_mode_begins_after_its_dwell_and_ends_after_its_own() {
    let script = [(5, 100, 0.0), (30, 800, 0.0), (200, 100, 0.0)];
    check(config(), &script, &[(15, "lean"), (95, "normal")]);
}

#[test]
fn a_burst_that_is_shorter_than_the_dwell_changes_nothing() {
    check(
        config(),
        &[(5, 100, 0.0), (10, 800, 0.0), (90, 100, 0.0)],
        &[],
    );
}

#[test]
fn between_the_thresholds_everything_stays() {
    let script = [(20, 800, 0.0), (500, 400, 0.0), (61, 299, 0.0)];
    check(config(), &script, &[(10, "lean"), (580, "normal")]);
    check(config(), &[(500, 400, 0.0)], &[]);
}

#[test]
fn the_more_severe_mode_is_entered_directly_and_left_for_what_is_still_on() {
    let both = [(20, 800, 0.5), (100, 800, 0.0), (100, 100, 0.0)];
    check(
        config(),
        &both,
        &[(5, "survival"), (35, "lean"), (180, "normal")],
    );
    let errors_alone = [(20, 100, 0.5), (100, 100, 0.0)];
    check(config(), &errors_alone, &[(5, "survival"), (35, "normal")]);
}

#[test]
fn nothing_is_left_while_something_worse_is_brewing() {
    // Lean is over at 80, but errors have begun at 78; survival follows at 83, without a step down.
    let script = [
        (20, 800, 0.0),
        (58, 100, 0.0),
        (10, 100, 0.1),
        (60, 100, 0.0),
    ];
    check(
        config(),
        &script,
        &[(10, "lean"), (83, "survival"), (103, "normal")],
    );
}

#[test]
fn a_derived_end_lies_a_fifth_beyond_and_takes_three_times_as_long() {
    let lean = Mode::new("lean").when(p99(Limit::Above(millis(500))));
    let config = Config::default().mode(lean);
    // 400 ms is the derived threshold, which does not pass itself.
    let script = [(20, 501, 0.0), (100, 400, 0.0), (31, 399, 0.0)];
    check(config, &script, &[(10, "lean"), (150, "normal")]);
}

#[test]
fn a_relapse_needs_twice_the_calm() {
    let flash = Mode::new("flash")
        .when(p99(Limit::Above(millis(500))))
        .after(Duration::ZERO);
    let config = Config::default().mode(flash);
    // 10 s of calm, then 20 s, then 40 s; after a long calm 10 s again.
    let script = [
        (1, 800, 0.0),
        (12, 100, 0.0),
        (1, 800, 0.0),
        (22, 100, 0.0),
        (1, 800, 0.0),
        (141, 100, 0.0),
        (1, 800, 0.0),
        (12, 100, 0.0),
    ];
    let expected = [
        (0, "flash"),
        (11, "normal"),
        (13, "flash"),
        (34, "normal"),
        (36, "flash"),
        (77, "normal"),
        (178, "flash"),
        (189, "normal"),
    ];
    check(config, &script, &expected);
}

#[test]
fn the_calm_that_is_needed_grows_with_every_relapse() {
    let flash = Mode::new("flash")
        .when(p99(Limit::Above(millis(500))))
        .after(Duration::ZERO)
        .off_after(10 * SECOND);
    let degrade = Degrade::new(Config::default().mode(flash)).unwrap();
    let mut second = 0;
    let mut needed = |degrade: &Degrade, seconds: u64, p99: u64| {
        for _ in 0..seconds {
            degrade.observe(&signals(p99, 0.0), at(second));
            second += 1;
        }
        degrade.stats().calm_needed
    };
    assert_eq!(needed(&degrade, 1, 100), Duration::ZERO);
    assert_eq!(needed(&degrade, 1, 800), 10 * SECOND);
    assert_eq!(needed(&degrade, 12, 100), Duration::ZERO);
    assert_eq!(needed(&degrade, 1, 800), 20 * SECOND);
}

#[test]
fn it_is_not_calm_while_the_symptom_lasts_whatever_ends_it() {
    let lean = Mode::new("lean")
        .when(p99(Limit::Above(millis(500))))
        .off(Condition::Errors(Limit::Below(Ratio::percent(1))));
    let config = Config::default().mode(lean);
    let script = [(100, 800, 0.0), (50, 400, 0.02), (31, 400, 0.0)];
    check(config, &script, &[(10, "lean"), (180, "normal")]);
}

#[test]
fn signals_that_cannot_be_told_count_as_calm() {
    let degrade = Degrade::new(config()).unwrap();
    for second in 0..=10 {
        degrade.observe(&signals(800, 0.0), at(second));
    }
    assert_eq!(degrade.name(degrade.current()), "lean");
    for second in 11..=71 {
        degrade.observe(&Signals::default(), at(second));
    }
    assert_eq!(degrade.current(), Level::NORMAL);
}

#[test]
fn what_nobody_saw_proves_no_dwell() {
    let degrade = Degrade::new(config()).unwrap();
    assert_eq!(degrade.observe(&signals(800, 0.0), at(0)), None);
    assert_eq!(degrade.observe(&signals(800, 0.0), at(11)), None);
    assert!(degrade.observe(&signals(800, 0.0), at(21)).is_some());
}

#[test]
fn a_hand_wins_until_its_expiry() {
    let degrade = Degrade::new(config()).unwrap();
    let survival = degrade.level("survival").unwrap();
    let switch = degrade.force(survival, at(30), at(0)).unwrap();
    assert_eq!(switch.why, Why::Forced { until: at(30) });
    for second in 0..30 {
        assert_eq!(degrade.observe(&signals(800, 0.0), at(second)), None);
        assert_eq!(degrade.current(), survival);
    }
    // Lean came on by itself meanwhile.
    let switch = degrade.observe(&signals(800, 0.0), at(30)).unwrap();
    assert_eq!(
        (degrade.name(switch.to), switch.why),
        ("lean", Why::Expired)
    );

    degrade.force(Level::NORMAL, Time::MAX, at(31)).unwrap();
    assert_eq!(degrade.observe(&signals(800, 0.5), at(41)), None);
    assert_eq!(degrade.stats().automatic, degrade.level("lean").unwrap());
    let switch = degrade.release(at(42)).unwrap();
    assert_eq!(
        (degrade.name(switch.to), switch.why),
        ("lean", Why::Released)
    );
    assert_eq!(degrade.release(at(43)), None);
}

#[test]
fn in_shadow_mode_only_a_hand_switches_anything_off() {
    let degrade = Degrade::new(config().enforce(false)).unwrap();
    for second in 0..=10 {
        degrade.observe(&signals(800, 0.0), at(second));
    }
    assert_eq!(degrade.name(degrade.stats().current), "lean");
    assert!(degrade.allows(Tier::Optional));
    degrade.force(degrade.level("survival").unwrap(), at(20), at(11));
    assert!(!degrade.allows(Tier::Important));
    degrade.release(at(12));
    assert!(degrade.allows(Tier::Important));
}

#[test]
fn a_switch_says_why() {
    let degrade = Degrade::new(config()).unwrap();
    let mut switches = Vec::new();
    for second in 0..100 {
        let errors = if second < 10 { 0.05 } else { 0.001 };
        switches.extend(degrade.observe(&signals(100, errors), at(second)));
    }
    let why: Vec<_> = switches
        .iter()
        .map(|switch| switch.why.to_string())
        .collect();
    assert_eq!(
        why,
        [
            "errors > 1% for 5s (now 5%)",
            "errors < 0.8% for 15s (now 0.1%)"
        ]
    );
}

#[test]
fn breakers_load_and_budget_are_triggers_too() {
    let on_sight = |condition: Condition, signals: Signals<'_>| {
        let mode = Mode::new("mode").when(condition).after(Duration::ZERO);
        let degrade = Degrade::new(Config::default().mode(mode)).unwrap();
        degrade.observe(&signals, at(0)).is_some()
    };
    let open = Signals {
        open: &["payment"],
        ..Signals::default()
    };
    let payment: Arc<str> = "payment".into();
    assert!(on_sight(Condition::Open(None), open));
    assert!(on_sight(Condition::Open(Some(payment)), open));
    assert!(!on_sight(Condition::Open(Some("stock".into())), open));
    assert!(on_sight(Condition::NotOpen(Some("stock".into())), open));
    let exhausted = Signals {
        exhausted: true,
        ..Signals::default()
    };
    assert!(on_sight(Condition::Exhausted, exhausted));
    assert!(!on_sight(Condition::Exhausted, Signals::default()));
    let loaded = Signals {
        load: Some(Ratio::percent(90)),
        ..Signals::default()
    };
    assert!(on_sight(
        Condition::Load(Limit::Above(Ratio::percent(80))),
        loaded
    ));
    assert!(!on_sight(
        Condition::Load(Limit::Above(Ratio::percent(90))),
        loaded
    ));
    assert!(on_sight(
        Condition::Load(Limit::Below(Ratio::percent(95))),
        loaded
    ));
}

#[test]
fn the_matrix_says_what_the_hot_path_says() {
    let survival = Mode::new("survival")
        .disable(Tier::Optional)
        .switch_off("checkout")
        .serve_stale(true);
    let mut config = Config::default()
        .mode(survival)
        .feature("checkout", Tier::Critical);
    for number in 1..256 {
        config = config.feature(format!("feature {number}"), Tier::ALL[number % 3]);
    }
    let degrade = Degrade::new(config).unwrap();
    let matrix = degrade.matrix();
    assert_eq!(matrix.features.len(), 256);
    for (index, row) in matrix.rows.iter().enumerate() {
        let level = degrade.level(&row.mode).unwrap();
        assert_eq!(level.index(), index);
        degrade.force(level, Time::MAX, at(0));
        assert_eq!(degrade.serves_stale(), row.serve_stale);
        for tier in Tier::ALL {
            assert_eq!(degrade.allows(tier), row.tiers[tier.index()]);
        }
        for ((name, tier), on) in matrix.features.iter().zip(&row.features) {
            let feature = degrade.feature(name).unwrap();
            assert_eq!(degrade.enabled(feature), *on);
            let off = index == 1 && (*tier == Tier::Optional || name == "checkout");
            assert_eq!(*on, !off, "{name}");
        }
    }
    assert_eq!(degrade.feature("nothing"), None);
}

#[test]
fn impossible_settings_are_refused() {
    let mode = || Mode::new("mode");
    let slow = || p99(Limit::Above(millis(500)));
    let errors = |limit| Condition::Errors(limit);
    let with = |mode: Mode| Config::default().mode(mode);
    let many = (0..17).fold(Config::default(), |config, at| {
        config.mode(Mode::new(format!("mode {at}")))
    });
    let features = (0..257).fold(Config::default(), |config, at| {
        config.feature(format!("feature {at}"), Tier::Optional)
    });
    let refused = [
        (with(Mode::new("normal")), "degrade.modes"),
        (with(Mode::new("")), "degrade.modes"),
        (with(mode()).mode(mode()), "degrade.modes"),
        (many, "degrade.modes"),
        (features, "degrade.features"),
        (
            with(mode().disable(Tier::Optional)).mode(Mode::new("worse")),
            "degrade.modes",
        ),
        (with(mode().switch_off("unknown")), "degrade.features"),
        (with(mode().disable(Tier::Critical)), "degrade.disable"),
        (
            with(mode().when(errors(Limit::Above(Ratio::ONE)))),
            "degrade.threshold",
        ),
        (
            with(mode().when(errors(Limit::Below(Ratio::ZERO)))),
            "degrade.threshold",
        ),
        (
            with(mode().when(p99(Limit::Above(Duration::ZERO)))),
            "degrade.threshold",
        ),
        (with(mode().when(slow()).off(slow())), "degrade.off"),
        (
            with(mode().when(slow()).off(p99(Limit::Below(millis(501))))),
            "degrade.off",
        ),
        (with(mode().off(slow())), "degrade.off"),
        (
            with(mode().when(Condition::Exhausted).off(Condition::Exhausted)),
            "degrade.off",
        ),
        (with(mode().after(Duration::MAX)), "degrade.for"),
        (with(mode().off_after(millis(999))), "degrade.off.for"),
        (
            with((0..17).fold(mode(), |mode, _| mode.when(slow()))),
            "degrade.when",
        ),
    ];
    for (config, setting) in refused {
        let error = Degrade::new(config).unwrap_err();
        assert_eq!(error.setting(), setting, "{error}");
    }
    let duplicate = Config::default()
        .feature("a", Tier::Optional)
        .feature("a", Tier::Critical);
    assert!(Degrade::new(duplicate).is_err());
    assert!(Degrade::new(config()).is_ok());
}

/// A mode with its thresholds and dwell times in seconds.
fn any_mode(name: &'static str) -> impl Strategy<Value = (Mode, u64, u64)> {
    (0u64..15, 1u64..30, 1u64..10).prop_map(move |(after, off_after, step)| {
        let mode = Mode::new(name)
            .when(p99(Limit::Above(millis(100 * step))))
            .when(Condition::Errors(Limit::Above(Ratio::percent(step as u32))))
            .after(after as u32 * SECOND)
            .off_after(off_after as u32 * SECOND);
        (mode, after, off_after)
    })
}

proptest! {
    #[test]
    fn no_signals_make_it_flap(
        modes in (any_mode("a"), any_mode("b"), any_mode("c")),
        script in proptest::collection::vec((1u64..40, 0u64..12, 0u64..12), 1..60),
    ) {
        let modes = [modes.0, modes.1, modes.2];
        let config = modes.iter().fold(Config::default(), |config, (mode, ..)| config.mode(mode.clone()));
        let degrade = Degrade::new(config).unwrap();
        let mut last: Option<Switch> = None;
        let mut second = 0;
        for (seconds, p99, errors) in script {
            for _ in 0..seconds {
                second += 1;
                let signals = signals(100 * p99, errors as f64 / 100.0);
                let Some(switch) = degrade.observe(&signals, at(second)) else { continue };
                let up = switch.to > switch.from;
                if let Some(last) = last.filter(|last| (last.to > last.from) != up) {
                    let (_, after, off_after) = if up { &modes[switch.to.0 - 1] } else { &modes[switch.from.0 - 1] };
                    let dwell = if up { after } else { off_after };
                    prop_assert!(switch.at.since(last.at) >= *dwell as u32 * SECOND);
                }
                last = Some(switch);
            }
        }
        // Calm for long enough always ends it: 16 times the longest dwell.
        for _ in 0..16 * 30 + 1 {
            second += 1;
            degrade.observe(&signals(1, 0.0), at(second));
        }
        prop_assert_eq!(degrade.current(), Level::NORMAL);
    }

    #[test]
    fn one_burst_switches_at_most_once_each_way(
        p99 in 501u64..5_000,
        errors in 0u64..100,
        length in 1u64..300,
    ) {
        let degrade = Degrade::new(config()).unwrap();
        let (mut up, mut down) = (0, 0);
        for second in 0..length + 200 {
            let signals = if second < length { signals(p99, errors as f64 / 100.0) } else { signals(50, 0.0) };
            match degrade.observe(&signals, at(second)) {
                Some(switch) if switch.to > switch.from => up += 1,
                Some(_) => down += 1,
                None => {}
            }
        }
        // Two modes are on in the worst case, and each is entered and left once.
        prop_assert!(up <= 2 && down <= 2);
        prop_assert_eq!(degrade.current(), Level::NORMAL);
    }

    #[test]
    fn a_hand_always_wins(
        script in proptest::collection::vec((0u64..12, 0u64..12, 0usize..12, 1u64..20), 1..200),
    ) {
        let degrade = Degrade::new(config()).unwrap();
        let mut forced: Option<(Level, Time)> = None;
        for (second, (p99, errors, dice, length)) in script.into_iter().enumerate() {
            let now = at(second as u64);
            match dice {
                level @ 0..3 => {
                    forced = Some((Level(level), at(second as u64 + length)));
                    degrade.force(Level(level), at(second as u64 + length), now);
                }
                3 => {
                    forced = None;
                    degrade.release(now);
                }
                _ => {}
            }
            degrade.observe(&signals(100 * p99, errors as f64 / 100.0), now);
            forced = forced.filter(|&(_, until)| now < until);
            if let Some((level, _)) = forced {
                prop_assert_eq!(degrade.current(), level);
            }
            prop_assert_eq!(degrade.stats().forced_until, forced.map(|(_, until)| until));
        }
    }
}
