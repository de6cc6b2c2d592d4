use std::sync::Mutex as StdMutex;

use proptest::prelude::*;

use super::*;
use crate::ratio::Ratio;
use crate::rng::Rng;
use crate::{check, eject};

mod laws;
mod membership;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn endpoints(count: usize) -> Vec<Endpoint> {
    (0..count)
        .map(|one| Endpoint::new(format!("e{one}")))
        .collect()
}

fn balance(config: Config, count: usize) -> Balance {
    Balance::new(config, endpoints(count), Time::ZERO).unwrap()
}

fn of(config: Config, endpoints: impl IntoIterator<Item = Endpoint>) -> Balance {
    Balance::new(config, endpoints, Time::ZERO).unwrap()
}

/// Down and up at the first result.
fn checks() -> check::Config {
    check::Config::default().unhealthy_after(1).healthy_after(1)
}

fn choose(balance: &Balance, random: u64, now: Time) -> Option<usize> {
    balance.choose(Wish::new(random), now, |_| false)
}

/// How often each was chosen of `draws`, each over at once.
fn counts(balance: &Balance, draws: usize, now: Time) -> Vec<usize> {
    let mut rng = Rng::new(7);
    let mut counts = vec![0; balance.len()];
    for _ in 0..draws {
        if let Some(endpoint) = choose(balance, rng.next_u64(), now) {
            balance.started(endpoint);
            balance.ended(endpoint, Outcome::Success, 10 * MS, now);
            counts[endpoint] += 1;
        }
    }
    counts
}

fn fail(balance: &Balance, endpoint: usize, times: u32, now: Time) {
    for _ in 0..times {
        balance.started(endpoint);
        balance.ended(endpoint, Outcome::Transient, MS, now);
    }
}

/// The share of each endpoint within two points of what is expected.
#[track_caller]
fn assert_shares(balance: &Balance, now: Time, expected: &[f64]) {
    let counts = counts(balance, 20_000, now);
    for (count, expected) in counts.iter().zip(expected) {
        let share = *count as f64 / 20_000.0;
        assert!(
            (share - expected).abs() < 0.02,
            "{counts:?}, not {expected}"
        );
    }
}

#[test]
fn equals_take_exact_turns_and_those_that_are_refused_lose_theirs() {
    let balance = balance(Config::new(Kind::RoundRobin), 3);
    let turn = |refused: usize| balance.choose(Wish::new(0), at(0), |one| one == refused);
    let turns: Vec<_> = (0..6).map(|_| turn(9).unwrap()).collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    let turns: Vec<_> = (0..6).map(|_| turn(1).unwrap()).collect();
    assert_eq!(turns, [0, 2, 2, 0, 2, 2]);
}

#[test]
fn unequal_turns_are_exact_in_the_long_run_and_evenly_spread() {
    let weighed = [1, 2, 5].map(|weight| Endpoint::new(weight.to_string()).weight(weight));
    let balance = of(Config::new(Kind::RoundRobin), weighed);
    let turns: Vec<_> = (0..8_000)
        .map(|_| choose(&balance, 0, at(0)).unwrap())
        .collect();
    let count = |turns: &[usize], one| turns.iter().filter(|&&turn| turn == one).count();
    assert!(
        [1_000, 2_000, 5_000]
            .iter()
            .enumerate()
            .all(|(one, &expected)| { count(&turns, one).abs_diff(expected) <= 3 })
    );
    for window in turns.windows(16) {
        assert!((8..=12).contains(&count(window, 2)), "{window:?}");
    }
}

#[test]
fn weights_are_respected_by_every_kind_that_draws() {
    let weighed = || [1, 2, 5].map(|weight| Endpoint::new(weight.to_string()).weight(weight));
    for kind in [Kind::Weighted, Kind::HASH, Kind::RoundRobin] {
        let balance = of(Config::new(kind), weighed());
        assert_shares(&balance, at(0), &[0.125, 0.25, 0.625]);
    }
}

#[test]
fn of_two_the_one_with_less_to_do_or_faster_answers_is_taken() {
    let balance = balance(Config::default(), 2);
    for (endpoint, took) in [(0, 10 * MS), (1, 25 * MS)] {
        balance.started(endpoint);
        balance.ended(endpoint, Outcome::Success, took, at(0));
    }
    for (in_flight, expected) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        for random in 0..20u64 {
            assert_eq!(
                choose(&balance, mix(random), at(0)),
                Some(expected),
                "{in_flight}"
            );
        }
        balance.started(0);
    }
    let balance = self::balance(Config::new(Kind::LEAST_REQUESTS), 2);
    balance.started(1);
    assert_eq!(choose(&balance, 3, at(0)), Some(0));
    balance.started(0);
    balance.started(0);
    assert_eq!(choose(&balance, 3, at(0)), Some(1));
}

#[test]
fn all_choices_find_the_least_of_all() {
    let kind = Kind::LeastRequests { choices: 32 };
    let balance = balance(Config::new(kind), 20);
    for endpoint in (0..20).filter(|&endpoint| endpoint != 13) {
        balance.started(endpoint);
    }
    for random in 0..100 {
        assert_eq!(choose(&balance, mix(random), at(0)), Some(13));
    }
}

#[test]
fn every_pair_is_drawn_alike() {
    let balance = balance(Config::new(Kind::LEAST_REQUESTS), 5);
    let mut rng = Rng::new(1);
    let mut pairs = std::collections::BTreeMap::new();
    for _ in 0..20_000 {
        let mut asked = Vec::new();
        let refuse = |endpoint| {
            asked.push(endpoint);
            false
        };
        balance
            .choose(Wish::new(rng.next_u64()), at(0), refuse)
            .unwrap();
        asked.sort_unstable();
        *pairs.entry(asked).or_insert(0) += 1;
    }
    assert_eq!(pairs.len(), 10);
    assert!(
        pairs.values().all(|count| (1_850..2_150).contains(count)),
        "{pairs:?}"
    );
}

#[test]
fn nobody_is_chosen_when_all_are_refused_and_the_last_one_is_found() {
    let kinds = [
        Kind::PEAK_EWMA,
        Kind::LEAST_REQUESTS,
        Kind::RoundRobin,
        Kind::Weighted,
        Kind::HASH,
    ];
    for kind in kinds {
        let balance = balance(Config::new(kind), 1_000);
        for random in 0..20 {
            let wish = Wish::new(mix(random));
            assert_eq!(balance.choose(wish, at(0), |_| true), None);
            assert_eq!(balance.choose(wish, at(0), |one| one != 777), Some(777));
        }
    }
}

#[test]
fn a_key_meets_the_same_endpoint_and_only_keys_of_one_that_leaves_move() {
    let config = || Config::new(Kind::HASH).check(checks()).panic(Ratio::ZERO);
    let balance = balance(config(), 10);
    let home = |balance: &Balance, key: u64| {
        balance
            .choose(Wish::new(key ^ 5).key(key), at(0), |_| false)
            .unwrap()
    };
    let homes: Vec<_> = (0..5_000).map(|key| home(&balance, mix(key))).collect();
    assert_eq!(home(&balance, mix(17)), homes[17]);
    balance.checked(3, false, at(0));
    let others = of(
        config(),
        endpoints(10).into_iter().filter(|one| &*one.name != "e3"),
    );
    let mut moved = 0;
    for (key, &before) in homes.iter().enumerate() {
        let after = home(&balance, mix(key as u64));
        assert_eq!(before == 3, after != before, "only those of 3 move");
        moved += usize::from(before == 3);
        let elsewhere = home(&others, mix(key as u64));
        assert_eq!(
            others.name(elsewhere),
            balance.name(after),
            "all instances agree"
        );
    }
    assert!((430..570).contains(&moved), "{moved}");
}

#[test]
fn a_hot_key_spills_when_its_endpoint_reaches_its_bound() {
    let balance = balance(Config::new(Kind::HASH), 4);
    let wish = Wish::new(0).key(42);
    let mut flying = vec![0u32; 4];
    for running in 0..400u32 {
        let endpoint = balance.choose(wish, at(0), |_| false).unwrap();
        flying[endpoint] += 1;
        balance.started(endpoint);
        let bound = (1.25 * f64::from(running + 1) / 4.0).ceil() as u32;
        assert!(flying[endpoint] <= bound, "{flying:?} of {running}");
    }
    assert!(
        flying.contains(&125),
        "the first choice is full: {flying:?}"
    );
}

#[test]
fn who_is_down_gets_nothing_until_most_are() {
    let balance = balance(Config::new(Kind::Weighted).check(checks()), 4);
    balance.checked(0, false, at(0));
    let third = 1.0 / 3.0;
    assert_shares(&balance, at(0), &[0.0, third, third, third]);
    balance.checked(1, false, at(0));
    assert_shares(&balance, at(0), &[0.0, 0.0, 0.5, 0.5]);
    balance.checked(2, false, at(0));
    assert!(balance.stats(at(0)).levels[0].panics, "a quarter is left");
    assert_shares(&balance, at(0), &[0.25; 4]);
    balance.checked(0, true, at(0));
    assert_shares(&balance, at(0), &[0.5, 0.0, 0.0, 0.5]);
}

#[test]
fn without_panic_nobody_is_chosen_when_all_are_down() {
    let config = Config::default().check(checks()).panic(Ratio::ZERO);
    let balance = balance(config, 2);
    balance.checked(0, false, at(0));
    assert_shares(&balance, at(0), &[0.0, 1.0]);
    balance.checked(1, false, at(0));
    assert_eq!(choose(&balance, 1, at(0)), None);
}

#[test]
fn failures_in_a_row_eject_and_it_returns_with_its_full_number_of_failures() {
    let changes = Arc::new(StdMutex::new(Vec::new()));
    let config = Config::new(Kind::Weighted).eject(eject::Config::default());
    let heard = Arc::clone(&changes);
    let balance = balance(config, 3).on_change(move |change| heard.lock().unwrap().push(change));
    fail(&balance, 0, 4, at(1_000));
    assert_eq!(balance.stats(at(1_000)).endpoints[0].unusable, None);
    balance.started(0); // a straggler
    fail(&balance, 0, 1, at(1_000));
    let unusable = balance.stats(at(1_000)).endpoints[0].unusable;
    assert_eq!(unusable, Some(Unusable::Ejected(at(31_000))));
    assert_shares(&balance, at(2_000), &[0.0, 0.5, 0.5]);
    assert_eq!(balance.wakes(), at(10_000), "the comparison");
    let third = 1.0 / 3.0;
    assert_shares(&balance, at(31_000), &[third; 3]);
    balance.ended(0, Outcome::Transient, 31 * SECOND, at(32_000));
    fail(&balance, 0, 4, at(33_000));
    assert_eq!(balance.stats(at(33_000)).endpoints[0].unusable, None);
    fail(&balance, 0, 1, at(33_000));
    let unusable = balance.stats(at(33_000)).endpoints[0].unusable;
    assert_eq!(unusable, Some(Unusable::Ejected(at(93_000))));
    balance.release(0, at(34_000));
    assert_eq!(balance.stats(at(34_000)).endpoints[0].unusable, None);
    let (endpoint, reason, enforced) = (0, eject::Reason::Consecutive, true);
    let ejected = |until| Change::Ejected {
        endpoint,
        reason,
        until,
        enforced,
    };
    let returned = Change::Returned { endpoint };
    let expected = [ejected(at(31_000)), returned, ejected(at(93_000)), returned];
    assert_eq!(*changes.lock().unwrap(), expected);
}

#[test]
fn a_low_success_rate_ejects_at_the_next_comparison() {
    let config = Config::new(Kind::Weighted).eject(eject::Config::default());
    let balance = balance(config, 6);
    for attempt in 0..600 {
        let endpoint = attempt % 6;
        balance.started(endpoint);
        let fails = endpoint == 4 && attempt / 6 % 2 == 0;
        let outcome = if fails {
            Outcome::Transient
        } else {
            Outcome::Success
        };
        balance.ended(endpoint, outcome, MS, at(attempt as u64 * 10));
    }
    assert_eq!(balance.stats(at(9_000)).endpoints[4].unusable, None);
    balance.timeout(at(10_000));
    for (number, endpoint) in balance.stats(at(10_000)).endpoints.iter().enumerate() {
        assert_eq!(endpoint.unusable.is_some(), number == 4);
    }
}

#[test]
fn ejection_in_shadow_mode_says_what_it_would_do() {
    let config = Config::new(Kind::Weighted).eject(eject::Config::default().enforce(false));
    let balance = balance(config, 2);
    fail(&balance, 0, 5, at(0));
    let stats = balance.stats(at(0));
    assert_eq!(stats.endpoints[0].unusable, None);
    assert_eq!(stats.endpoints[0].ejected_until, Some(at(30_000)));
    assert_shares(&balance, at(0), &[0.5, 0.5]);
}

#[test]
fn the_own_zone_comes_first_and_spills_over_by_health() {
    let zoned = |name: &str, zone: &str| Endpoint::new(name).zone(zone);
    let config = Config::new(Kind::Weighted)
        .zones(["a", "b"])
        .check(checks());
    let set = [
        zoned("a0", "a"),
        zoned("b0", "b"),
        zoned("a1", "a"),
        zoned("c0", "c"),
    ];
    let balance = of(config.fail_back(Duration::ZERO, Duration::ZERO), set);
    assert_shares(&balance, at(0), &[0.5, 0.0, 0.5, 0.0]);
    balance.checked(0, false, at(0));
    assert_shares(&balance, at(0), &[0.0, 0.3, 0.7, 0.0]);
    balance.checked(1, false, at(0));
    assert_shares(&balance, at(0), &[0.0, 0.0, 0.7, 0.3]);
    balance.checked(2, false, at(0));
    assert_shares(&balance, at(0), &[0.0, 0.0, 0.0, 1.0]);
    balance.checked(3, false, at(0));
    assert_shares(&balance, at(0), &[0.25; 4]);
    balance.checked(2, true, at(0));
    assert_shares(&balance, at(0), &[0.0, 0.0, 1.0, 0.0]);
}

#[test]
fn a_zone_is_evacuated_at_once_and_returns_gradually() {
    let config = Config::new(Kind::Weighted)
        .zones(["a", "b"])
        .fail_back(10 * SECOND, 20 * SECOND);
    let set = [Endpoint::new("a").zone("a"), Endpoint::new("b").zone("b")];
    let balance = of(config, set);
    assert!(!balance.evacuate_zone("nowhere", at(0)));
    assert!(!balance.return_zone("a", at(0)));
    assert!(balance.evacuate_zone("a", at(0)));
    assert_shares(&balance, at(0), &[0.0, 1.0]);
    assert!(balance.evacuate_zone("b", at(0)));
    assert_eq!(choose(&balance, 1, at(0)), None, "not even in panic");
    assert!(balance.return_zone("b", at(0)));
    assert!(balance.return_zone("a", at(60_000)));
    let mut last = 0;
    for second in 60..=100 {
        let got = counts(&balance, 2_000, at(second * 1_000))[0];
        assert!(
            got + 120 >= last && got <= last + 240,
            "{second}: {last} {got}"
        );
        match second {
            60..=69 => assert_eq!(got, 0, "held at {second}"),
            80 => assert!((900..1_150).contains(&got), "half way at {second}: {got}"),
            91.. => assert_eq!(got, 2_000, "back at {second}"),
            _ => {}
        }
        last = got;
    }
}

#[test]
fn a_zone_among_equals_returns_gradually_too() {
    let config = Config::new(Kind::Weighted).fail_back(Duration::ZERO, 20 * SECOND);
    let balance = of(
        config,
        [Endpoint::new("a").zone("a"), Endpoint::new("b").zone("b")],
    );
    balance.evacuate_zone("a", at(0));
    assert_shares(&balance, at(0), &[0.0, 1.0]);
    balance.return_zone("a", at(10_000));
    assert_shares(&balance, at(10_000), &[0.1 / 1.1, 1.0 / 1.1]);
    assert_shares(&balance, at(20_000), &[0.55 / 1.55, 1.0 / 1.55]);
    assert_shares(&balance, at(30_000), &[0.5, 0.5]);
}

#[test]
fn the_passive_group_takes_over_at_once_and_gives_back_after_a_while() {
    let config = Config::new(Kind::Weighted).check(checks());
    let set = [
        Endpoint::new("active"),
        Endpoint::new("passive").priority(1),
    ];
    let balance = of(config.fail_back(10 * SECOND, 10 * SECOND), set);
    assert_shares(&balance, at(0), &[1.0, 0.0]);
    balance.checked(0, false, at(0));
    assert_shares(&balance, at(0), &[0.0, 1.0]);
    balance.checked(0, true, at(1_000));
    assert_shares(&balance, at(5_000), &[0.0, 1.0]);
    balance.checked(0, false, at(5_000));
    balance.checked(0, true, at(6_000));
    assert_shares(&balance, at(15_900), &[0.0, 1.0]);
    assert_shares(&balance, at(21_000), &[0.5, 0.5]);
    balance.checked(1, false, at(21_500));
    assert_shares(&balance, at(21_500), &[1.0, 0.0]);
    balance.checked(1, true, at(21_500));
    assert_shares(&balance, at(30_000), &[1.0, 0.0]);
    let tried_active = balance.choose(Wish::new(9), at(30_000), |one| one == 0);
    assert_eq!(tried_active, Some(1), "the next attempt of a call goes on");
}

#[test]
fn a_busy_level_spills_over_by_load() {
    let config = Config::new(Kind::LEAST_REQUESTS).spill_above(2);
    let set = [Endpoint::new("near"), Endpoint::new("far").priority(1)];
    let balance = of(config, set);
    let order: Vec<_> = (0..6)
        .map(|random| {
            let endpoint = choose(&balance, random, at(0)).unwrap();
            balance.started(endpoint);
            endpoint
        })
        .collect();
    assert_eq!(
        order,
        [0, 0, 1, 1, 0, 0],
        "when all are busy the first level is"
    );
}

#[test]
fn those_that_return_start_slowly() {
    let config = Config::new(Kind::Weighted)
        .check(checks())
        .slow_start(10 * SECOND);
    let balance = balance(config, 2);
    assert_shares(&balance, at(0), &[0.5, 0.5]);
    balance.checked(0, false, at(0));
    balance.checked(0, true, at(1_000));
    assert_shares(&balance, at(1_000), &[0.1 / 1.1, 1.0 / 1.1]);
    assert_shares(&balance, at(6_000), &[0.55 / 1.55, 1.0 / 1.55]);
    assert_shares(&balance, at(11_000), &[0.5, 0.5]);
    assert_eq!(balance.wakes(), Time::MAX);
}

#[test]
fn one_endpoint_is_never_ejected_and_always_chosen() {
    let config = Config::default().eject(eject::Config::default());
    let balance = balance(config, 1);
    fail(&balance, 0, 50, at(0));
    assert_eq!(choose(&balance, 1, at(0)), Some(0));
    assert_eq!(balance.stats(at(0)).spared, 10);
}

#[test]
fn stats_say_why() {
    let config = Config::default()
        .check(checks())
        .eject(eject::Config::default());
    let mut set = endpoints(4);
    set[3] = Endpoint::new("e3").zone("south").weight(3).priority(2);
    let balance = of(config, set);
    balance.checked(0, false, at(0));
    fail(&balance, 1, 5, at(0));
    balance.evacuate_zone("south", at(0));
    balance.started(2);
    balance.ended(2, Outcome::Success, 20 * MS, at(0));
    balance.started(2);
    let stats = balance.stats(at(0));
    let unusable: Vec<_> = stats.endpoints.iter().map(|one| one.unusable).collect();
    let ejected = Unusable::Ejected(at(30_000));
    let expected = [
        Some(Unusable::Check),
        Some(ejected),
        None,
        Some(Unusable::Evacuated),
    ];
    assert_eq!(unusable, expected);
    assert_eq!(stats.endpoints[2].in_flight, 1);
    let latency = stats.endpoints[2].latency.unwrap();
    assert!(latency <= 20 * MS && latency > 19 * MS);
    assert_eq!(stats.endpoints[0].check, Some(check::State::Down));
    assert_eq!(stats.endpoints[3].weight, 0.0);
    assert_eq!(stats.endpoints[3].zone.as_deref(), Some("south"));
    assert_eq!(stats.evacuated, ["south"]);
    assert_eq!(stats.levels.len(), 2);
    assert!(
        stats.levels[0].panics,
        "a third is usable, and nobody else can help"
    );
    assert_eq!(stats.levels[0].chosen, 3);
}

#[test]
fn probes_are_planned_for_endpoints_that_are_there() {
    let balance = self::balance(Config::default().check(checks()), 1);
    let first = balance.next_check(0, at(0), 0.5);
    assert_eq!(first, Some(at(2_500)));
    assert_eq!(balance.next_check(1, at(0), 0.5), None);
    assert_eq!(
        self::balance(Config::default(), 1).next_check(0, at(0), 0.5),
        None
    );
}

#[test]
fn impossible_settings_are_refused() {
    let ewma = |decay, choices| Config::new(Kind::PeakEwma { decay, choices });
    let config = Config::default;
    let table = [
        (ewma(Duration::ZERO, 2), "balance.decay"),
        (ewma(SECOND, 1), "balance.choices"),
        (
            Config::new(Kind::LeastRequests { choices: 33 }),
            "balance.choices",
        ),
        (Config::new(Kind::Hash { bound: 1.0 }), "balance.bound"),
        (Config::new(Kind::Hash { bound: f64::NAN }), "balance.bound"),
        (
            config().zones((0..65).map(|zone| zone.to_string())),
            "balance.zones",
        ),
        (config().spill_above(0), "balance.spill_above"),
        (config().slow_start(Duration::ZERO), "balance.slow_start"),
        (
            config().fail_back(Duration::MAX, SECOND),
            "balance.fail_back",
        ),
        (
            config().check(checks().healthy_after(0)),
            "check.healthy_after",
        ),
        (
            config().eject(eject::Config::default().consecutive(0)),
            "eject.consecutive",
        ),
    ];
    for (config, setting) in table {
        let error = Balance::new(config, endpoints(2), at(0)).unwrap_err();
        assert_eq!(error.setting(), setting);
    }
    let one = || Endpoint::new("one");
    let table = [
        (vec![], "endpoints"),
        (vec![one(), one()], "endpoints"),
        (endpoints(1_025), "endpoints"),
        (vec![one().weight(0)], "endpoints.weight"),
        (vec![one().weight(1_001)], "endpoints.weight"),
    ];
    for (endpoints, setting) in table {
        let error = Balance::new(config(), endpoints, at(0)).unwrap_err();
        assert_eq!(error.setting(), setting);
    }
    let heavy = endpoints(1_024).into_iter().map(|one| one.weight(1_000));
    assert_eq!(of(Config::new(Kind::Weighted), heavy).len(), 1_024);
}
