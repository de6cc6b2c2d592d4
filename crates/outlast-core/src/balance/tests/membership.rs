//! Endpoints that come and go while calls run.

use super::*;

fn named(names: &[&str]) -> Vec<Endpoint> {
    names.iter().map(|&name| Endpoint::new(name)).collect()
}

fn config() -> Config {
    Config::default()
        .check(checks())
        .eject(eject::Config::default())
}

#[test]
fn who_stays_keeps_its_state_and_what_is_in_flight_whatever_its_number() {
    let old = of(config(), named(&["a", "b", "c", "d"]));
    fail(&old, 2, 5, at(0));
    old.checked(3, false, at(0));
    old.started(1);
    old.ended(1, Outcome::Success, 80 * MS, at(0));
    old.started(1);
    let new = old
        .succeed(config(), named(&["d", "c", "b"]), at(0))
        .unwrap();
    let stats = new.stats(at(0));
    assert_eq!(stats.endpoints[0].unusable, Some(Unusable::Check));
    assert_eq!(
        stats.endpoints[1].unusable,
        Some(Unusable::Ejected(at(30_000)))
    );
    assert_eq!(stats.endpoints[2].in_flight, 1);
    assert!(stats.endpoints[2].latency.unwrap() > 79 * MS);
    old.ended(1, Outcome::Success, 90 * MS, at(10));
    assert_eq!(new.stats(at(10)).endpoints[2].in_flight, 0);
    assert!(new.stats(at(10)).endpoints[2].latency.unwrap() > 89 * MS);
    new.timeout(at(30_000));
    assert_eq!(new.stats(at(30_000)).endpoints[1].unusable, None);
}

#[test]
fn a_call_of_the_old_membership_goes_to_nobody_who_is_gone_or_unwell() {
    let old = of(config().panic(Ratio::ZERO), named(&["a", "b", "c"]));
    let new = old
        .succeed(config().panic(Ratio::ZERO), named(&["b", "c", "x"]), at(0))
        .unwrap();
    assert!(old.is_succeeded() && !new.is_succeeded());
    new.checked(0, false, at(0));
    for random in 0..50 {
        assert_eq!(choose(&old, mix(random), at(0)), Some(2));
    }
    old.checked(2, false, at(0));
    old.release(1, at(0));
    fail(&old, 2, 9, at(0));
    assert_eq!(
        new.stats(at(0)).endpoints[1].unusable,
        None,
        "the old one decides nothing"
    );
    assert!(!old.evacuate_zone("a", at(0)) && !old.return_zone("a", at(0)));
    fail(&new, 1, 1, at(1));
    assert!(
        new.stats(at(1)).endpoints[1].unusable.is_some(),
        "but its failures were counted"
    );
}

#[test]
fn a_membership_that_cannot_be_changes_nothing() {
    let balance = of(config(), named(&["a", "b"]));
    assert!(balance.succeed(config(), [], at(0)).is_err());
    assert!(
        balance
            .succeed(config(), named(&["a", "a"]), at(0))
            .is_err()
    );
    assert!(balance.succeed(config(), endpoints(5_000), at(0)).is_err());
    assert!(!balance.is_succeeded());
    assert!(counts(&balance, 100, at(0)).iter().all(|&count| count > 0));
    let _next = balance.succeed(config(), named(&["a"]), at(0)).unwrap();
    assert!(balance.succeed(config(), named(&["b"]), at(0)).is_err());
}

#[test]
fn newcomers_start_slowly_and_evacuations_and_checks_stay() {
    let config = || {
        Config::new(Kind::Weighted)
            .slow_start(10 * SECOND)
            .check(checks().initial(check::Initial::Down))
    };
    let old = of(
        config(),
        [
            Endpoint::new("a").zone("north"),
            Endpoint::new("b").zone("south"),
        ],
    );
    old.checked(0, true, at(0));
    old.checked(1, true, at(0));
    old.evacuate_zone("south", at(0));
    let now = at(20_000);
    let next = [
        Endpoint::new("a").zone("north"),
        Endpoint::new("c").zone("south"),
        Endpoint::new("d").zone("north"),
    ];
    let new = old.succeed(config(), next, now).unwrap();
    let unusable: Vec<_> = new
        .stats(now)
        .endpoints
        .iter()
        .map(|one| one.unusable)
        .collect();
    assert_eq!(
        unusable,
        [None, Some(Unusable::Evacuated), Some(Unusable::Check)]
    );
    new.checked(2, true, now);
    assert_shares(&new, now, &[1.0 / 1.1, 0.0, 0.1 / 1.1]);
}

#[test]
fn a_preferred_group_that_is_new_gets_its_traffic_slowly() {
    let config = || Config::new(Kind::Weighted).fail_back(10 * SECOND, 10 * SECOND);
    let old = of(config(), [Endpoint::new("far").priority(1)]);
    let set = [Endpoint::new("near"), Endpoint::new("far").priority(1)];
    let new = old.succeed(config(), set, at(0)).unwrap();
    assert_shares(&new, at(9_000), &[0.0, 1.0]);
    assert_shares(&new, at(15_000), &[0.5, 0.5]);
    assert_shares(&new, at(20_000), &[1.0, 0.0]);
}

/// Names that change a hundred times a second for half a minute: ejections still end, rates are
/// still compared, attempts still end where they began.
#[test]
fn a_membership_that_never_rests_loses_nothing() {
    let names = |round: usize| {
        let start = [Endpoint::new("a"), Endpoint::new("b")];
        let passing = (0..3).map(move |one| Endpoint::new(format!("p{}", round + one)));
        start.into_iter().chain(passing)
    };
    let mut balance = of(config(), names(0));
    fail(&balance, 0, 5, at(0));
    let mut running = Vec::new();
    for round in 1..=3_100usize {
        let now = at(round as u64 * 10);
        let endpoint = choose(&balance, mix(round as u64), now).unwrap();
        balance.started(endpoint);
        let next = balance.succeed(config(), names(round), now).unwrap();
        running.push((std::mem::replace(&mut balance, next), endpoint));
        if running.len() > 50 {
            let (old, endpoint) = running.remove(0);
            old.ended(endpoint, Outcome::Success, 500 * MS, now);
        }
        let unusable = balance.stats(now).endpoints[0].unusable;
        assert_eq!(unusable.is_some(), round < 3_000, "round {round}");
    }
    for (old, endpoint) in running {
        old.ended(endpoint, Outcome::Success, 500 * MS, at(32_000));
    }
    assert!(
        balance
            .stats(at(32_000))
            .endpoints
            .iter()
            .all(|one| one.in_flight == 0)
    );
}

#[test]
fn a_tighter_bound_ends_ejections() {
    let old = of(config(), named(&["a", "b", "c", "d"]));
    fail(&old, 0, 5, at(0));
    fail(&old, 1, 5, at(0));
    let new = old.succeed(config(), named(&["a", "b"]), at(0)).unwrap();
    let out = new
        .stats(at(0))
        .endpoints
        .iter()
        .filter(|one| one.unusable.is_some())
        .count();
    assert_eq!(out, 1);
}
