use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ratio::Ratio;
use crate::rng::Rng;
use crate::time::Time;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn result(ok: bool) -> Result<(), &'static str> {
    if ok { Ok(()) } else { Err("refused") }
}

/// Plays a script of successes (`+`) and failures (`-`); the statuses after each.
fn check(config: Config, script: &str, expected: &str) {
    let mut check = Check::new("db", config).unwrap();
    let mut before = Status::Pending;
    let statuses = script.bytes().map(|byte| {
        let change = check.record(result(byte == b'+'), MS, Time::ZERO);
        let after = check.status();
        let changed = (before != after).then_some(Change {
            from: before,
            to: after,
        });
        assert_eq!(change, changed);
        before = after;
        match after {
            Status::Pending => '?',
            Status::Up => 'u',
            Status::Down => 'd',
        }
    });
    assert_eq!(statuses.collect::<String>(), expected, "{script}");
}

#[test]
fn thresholds_stand_between_results_and_status() {
    let config = || Config::default().up_after(2).down_after(3);
    check(config(), "++", "?u");
    check(config(), "-", "d");
    check(config(), "+-", "?d");
    check(config(), "++--+---", "?uuuuuud");
    check(config(), "++---+-++", "?uuuddddu");
    check(Config::default(), "+--+---+", "uuuuuudu");
    check(Config::default().down_after(1), "+-+-", "udud");
}

#[test]
fn a_message_is_kept_until_the_check_is_up_and_never_long() {
    let mut check = Check::new("db", Config::default().up_after(2)).unwrap();
    let long = "ä".repeat(1000);
    check.record(Err(&long), MS, Time::ZERO);
    assert_eq!(check.error(), Some(&long[..256]));
    let odd = format!("x{long}");
    check.record(Err(&odd), 2 * MS, Time::from_millis(7));
    assert_eq!(check.error(), Some(&odd[..255]));
    let last = Last {
        at: Time::from_millis(7),
        latency: 2 * MS,
        failures: 2,
    };
    assert_eq!(check.last(), Some(last));
    check.record(Ok(()), MS, Time::ZERO);
    assert_eq!(
        (check.error(), check.status()),
        (Some(&odd[..255]), Status::Down)
    );
    check.record(Ok(()), MS, Time::ZERO);
    assert_eq!((check.error(), check.status()), (None, Status::Up));
    check.record(Err("lost"), MS, Time::ZERO);
    assert_eq!((check.error(), check.status()), (Some("lost"), Status::Up));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let config = Config::default;
    let refused = [
        (config().interval(Duration::ZERO), "health.interval"),
        (config().interval(Duration::MAX), "health.interval"),
        (config().timeout(Duration::ZERO), "health.timeout"),
        (config().timeout(6 * SECOND), "health.timeout"),
        (config().up_after(0), "health.up_after"),
        (config().down_after(1001), "health.down_after"),
        (config().on_demand(true), "health.on_demand"),
        (
            config().critical(false).on_demand(true).group("shop"),
            "health.on_demand",
        ),
        (config().group("a b"), "health.group"),
        (config().group(""), "health.group"),
    ];
    for (config, setting) in refused {
        let error = Check::new("db", config).unwrap_err();
        assert_eq!(error.setting(), setting);
    }
    let many = (0..17).fold(config(), |config, number| {
        config.group(format!("g{number}"))
    });
    assert_eq!(
        Check::new("db", many).unwrap_err().setting(),
        "health.group"
    );
    for name in ["", "a/b", "dot\n", &"x".repeat(65)] {
        let error = Check::new(name, config()).unwrap_err();
        assert_eq!(error.setting(), "health.name", "{name:?}");
    }
    assert!(Check::new("payments.v1-b_2", config()).is_ok());
}

#[test]
fn a_registry_refuses_double_and_reserved_names_and_too_many() {
    let mut registry = Registry::new();
    for number in 0..256 {
        registry
            .add(format!("c{number}"), Config::default())
            .unwrap();
    }
    let mut setting = |name: &str| {
        let error = registry.add(name, Config::default()).unwrap_err();
        error.setting()
    };
    assert_eq!(setting("c7"), "health.name");
    assert_eq!(setting("warmup"), "health.name");
    assert_eq!(setting("one_more"), "health.checks");
}

#[test]
fn only_a_stuck_executor_is_death() {
    let mut registry = Registry::new();
    let db = registry.add("db", Config::default()).unwrap();
    registry.record(db, Err("down"), MS, Time::ZERO);
    registry.set_warmup(Warmup::Running);
    registry.set_draining(true);
    assert!(registry.is_alive());
    registry.set_stuck(true);
    assert!(!registry.is_alive());
}

#[test]
fn readiness_needs_every_critical_check_and_the_instance_itself() {
    let mut registry = Registry::new();
    assert!(registry.is_ready(), "nothing speaks against it");
    let db = registry.add("db", Config::default()).unwrap();
    let extra = registry
        .add("extra", Config::default().critical(false))
        .unwrap();
    assert!(!registry.is_ready(), "a pending check is not up");
    registry.record(db, Ok(()), MS, Time::ZERO);
    registry.record(extra, Err("down"), MS, Time::ZERO);
    assert!(registry.is_ready());
    assert!(!registry.is_sound());
    let stops: [fn(&mut Registry, bool); 3] = [
        |registry, on| {
            registry.set_warmup(if on {
                Warmup::Running
            } else {
                Warmup::Complete
            })
        },
        Registry::set_draining,
        Registry::set_stuck,
    ];
    for stop in stops {
        stop(&mut registry, true);
        assert!(!registry.is_ready());
        stop(&mut registry, false);
        assert!(registry.is_ready());
    }
}

#[test]
fn a_group_needs_all_its_checks_critical_or_not() {
    let mut registry = Registry::new();
    let informative = || Config::default().critical(false);
    let stripe = registry
        .add("stripe", informative().group("payments"))
        .unwrap();
    let ledger = registry
        .add("ledger", Config::default().group("payments").group("books"))
        .unwrap();
    registry.record(stripe, Err("down"), MS, Time::ZERO);
    registry.record(ledger, Ok(()), MS, Time::ZERO);
    assert_eq!(
        registry.groups().into_iter().collect::<Vec<_>>(),
        ["books", "payments"]
    );
    assert!(registry.is_ready());
    assert_eq!(registry.is_group_ready("payments"), Some(false));
    assert_eq!(registry.is_group_ready("books"), Some(true));
    assert_eq!(registry.is_group_ready("nobody"), None);
    registry.set_draining(true);
    assert_eq!(registry.is_group_ready("books"), Some(false));
}

#[test]
fn started_is_warm_with_a_result_of_every_critical_check_and_lasts() {
    let mut registry = Registry::new();
    registry.set_warmup(Warmup::Running);
    let db = registry.add("db", Config::default()).unwrap();
    let _slow = registry
        .add("slow", Config::default().critical(false))
        .unwrap();
    assert!(!registry.is_started());
    registry.set_warmup(Warmup::Complete);
    assert!(!registry.is_started());
    registry.record(db, Err("down"), MS, Time::ZERO);
    assert!(
        registry.is_started(),
        "a dependency that is down restarts nobody"
    );
    registry.set_warmup(Warmup::Running);
    assert!(registry.is_started());
    registry.add("late", Config::default()).unwrap();
    assert!(registry.is_started());
}

/// Forty instances find out at the same moment that a dependency is back, and probe on.
#[test]
fn instances_that_were_woken_together_drift_apart() {
    let check = Check::new("redis", Config::default().interval(SECOND)).unwrap();
    let mut rng = Rng::new(7);
    let mut probes: Vec<Time> = (0..40)
        .map(|_| check.next(Time::ZERO, rng.unit()))
        .collect();
    assert!(busiest(&mut probes) <= 20, "{probes:?}");
    for probe in &mut probes {
        for _ in 0..10 {
            *probe = check.next(*probe, rng.unit());
        }
    }
    assert!(busiest(&mut probes) <= 12, "{probes:?}");
}

/// The most probes within 50 ms.
fn busiest(probes: &mut [Time]) -> usize {
    probes.sort_unstable();
    let within = |start: &Time| {
        probes
            .iter()
            .filter(|probe| *probe >= start && probe.since(*start) < 50 * MS)
            .count()
    };
    probes.iter().map(within).max().unwrap_or(0)
}

/// The status by looking back over the whole history.
fn model(history: &[bool], up_after: usize, down_after: usize) -> Status {
    let mut status = Status::Pending;
    for end in 1..=history.len() {
        let last = |count: usize, ok: bool| {
            count <= end && history[end - count..end].iter().all(|&is| is == ok)
        };
        let failed = !history[end - 1];
        status = match status {
            _ if last(up_after, true) => Status::Up,
            Status::Up if last(down_after, false) => Status::Down,
            Status::Pending if failed => Status::Down,
            other => other,
        };
    }
    status
}

proptest! {
    #[test]
    fn equals_a_look_over_the_whole_history(
        history in proptest::collection::vec(any::<bool>(), 0..60),
        up_after in 1u32..4,
        down_after in 1u32..4,
    ) {
        let config = Config::default().up_after(up_after).down_after(down_after);
        let mut check = Check::new("db", config).unwrap();
        for end in 0..history.len() {
            check.record(result(history[end]), MS, Time::ZERO);
            let expected = model(&history[..=end], up_after as usize, down_after as usize);
            prop_assert_eq!(check.status(), expected);
        }
    }

    #[test]
    fn jitter_only_lengthens(
        jitter in 0u32..=100,
        random in 0.0f64..1.0,
        interval in 1u64..100_000,
        started in 0u64..1_000_000,
    ) {
        let interval = Duration::from_millis(interval);
        let config = Config::default().timeout(MS).interval(interval).jitter(Ratio::percent(jitter));
        let check = Check::new("db", config).unwrap();
        let started = Time::from_millis(started);
        let longest = interval.mul_f64(f64::from(jitter) / 100.0);
        let next = check.next(started, random);
        prop_assert!(next.since(started) >= interval);
        prop_assert!(next.since(started) <= interval + longest);
        let first = check.first(started, random).since(started);
        prop_assert!(first <= longest && first < SECOND);
    }
}
