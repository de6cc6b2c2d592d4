//! Several endpoints under load: some die, a whole zone dies or is evacuated, and callers notice
//! nothing.

use std::time::Duration;

use outlast_core::balance::{Endpoint, Unusable};
use outlast_core::call::{Call, Kind, Request, Step};
use outlast_core::outcome::Outcome;
use outlast_core::reject::{Reason, Rejection};
use outlast_core::rng::mix;
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Upstream};
use outlast_core::{balance, breaker, check, deadline, eject, failover, hedge, retry};

use crate::world::{Reply, Seen, World, at_once};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn upstream(config: Config) -> Upstream {
    Upstream::new(config, 1).unwrap()
}

fn second(seconds: u32) -> Time {
    Time::ZERO + seconds * SECOND
}

/// The policies that a careful team has on.
fn careful(balance: balance::Config) -> Config {
    Config::standard("shop")
        .balance(balance.eject(eject::Config::default()))
        .deadline(deadline::Config::call(3 * SECOND).attempt(400 * MS))
}

/// How an endpoint is dead.
#[derive(Clone, Copy, Debug)]
enum Death {
    Refuses,
    Fails,
    Hangs,
}

const DEATHS: [Death; 3] = [Death::Refuses, Death::Fails, Death::Hangs];

impl Death {
    fn reply(self) -> Reply {
        match self {
            Death::Refuses => at_once(Outcome::Unsent),
            Death::Fails => Reply::After(5 * MS, Outcome::Transient),
            Death::Hangs => Reply::Hangs,
        }
    }
}

/// What a healthy endpoint does: it answers after 5 to 14 ms.
fn healthy(seen: Seen) -> Reply {
    let spread = mix(seen.call as u64 ^ seen.at.as_nanos()) % 10;
    Reply::After((5 + spread as u32) * MS, Outcome::Success)
}

/// Two hundred calls a second until `end`.
fn load(world: &mut World<'_>, end: Time) {
    while world.now < end {
        let number = world.ended.len() as u64;
        world.call(Request::new(mix(number)));
        world.run_until(world.now + 5 * MS);
    }
}

fn assert_nobody_noticed(world: &World<'_>) {
    for (call, ended) in world.ended.iter().enumerate() {
        let outcome = ended.and_then(|ended| ended.outcome);
        assert_eq!(outcome, Some(Outcome::Success), "call {call}: {ended:?}");
    }
}

/// The attempts at these endpoints in this time.
fn attempts(world: &World<'_>, of: impl Fn(usize) -> bool, from: Time, to: Time) -> usize {
    let seen = world.seen.iter();
    seen.filter(|seen| of(seen.endpoint) && (from..to).contains(&seen.at))
        .count()
}

#[test]
fn endpoints_that_die_are_noticed_within_ten_attempts_and_by_no_caller() {
    for death in DEATHS {
        for (endpoints, dead) in [(10, 1), (100, 10)] {
            let plain = |config: Config, number: u32| config.endpoint(number.to_string());
            let upstream = upstream((0..endpoints).fold(careful(Default::default()), plain));
            let mut world = World::new(&upstream, |seen| {
                if seen.endpoint < dead && seen.at >= second(20) {
                    death.reply()
                } else {
                    healthy(seen)
                }
            });
            load(&mut world, second(45));
            world.run();
            assert_nobody_noticed(&world);
            for endpoint in 0..dead {
                let lost = attempts(&world, |one| one == endpoint, second(20), second(45));
                assert!(lost <= 10, "{death:?}: {lost} attempts at {endpoint}");
            }
        }
    }
}

fn two_zones(balance: balance::Config) -> Upstream {
    let mut config = careful(balance.zones(["near", "far"]));
    for number in 0..6 {
        let zone = if number < 3 { "near" } else { "far" };
        config = config.endpoint_with(Endpoint::new(number.to_string()).zone(zone));
    }
    upstream(config)
}

fn near(endpoint: usize) -> bool {
    endpoint < 3
}

/// The part of the traffic that the near zone gets.
fn share(world: &World<'_>, from: Time, to: Time) -> f64 {
    let all = attempts(world, |_| true, from, to);
    attempts(world, near, from, to) as f64 / all as f64
}

#[test]
fn a_zone_that_dies_loses_its_traffic_within_two_seconds_and_gets_it_back_slowly() {
    for death in DEATHS {
        let upstream = two_zones(balance::Config::default());
        let mut world = World::new(&upstream, |seen| {
            let is_dead = near(seen.endpoint) && seen.at >= second(20) && seen.at < second(45);
            if is_dead {
                death.reply()
            } else {
                healthy(seen)
            }
        });
        load(&mut world, second(110));
        world.run();
        assert_nobody_noticed(&world);
        assert_eq!(share(&world, second(10), second(20)), 1.0);
        let lost = attempts(&world, near, second(22), second(45));
        assert_eq!(lost, 0, "{death:?}");
        // Its ejections end 30 s after they began; ten seconds without a relapse follow.
        assert!(share(&world, second(50), second(60)) < 0.02, "{death:?}");
        let rising = share(&world, second(70), second(75));
        assert!((0.1..0.7).contains(&rising), "{death:?}: {rising}");
        assert_eq!(share(&world, second(100), second(110)), 1.0);
    }
}

#[test]
fn a_zone_that_is_evacuated_loses_its_traffic_at_once_and_gets_it_back_slowly() {
    let upstream = two_zones(balance::Config::default());
    let mut world = World::new(&upstream, healthy);
    load(&mut world, second(10));
    assert!(!upstream.evacuate_zone("nowhere", world.now));
    assert!(upstream.evacuate_zone("near", world.now));
    load(&mut world, second(20));
    let unusable = |endpoint| {
        let stats = upstream.stats(second(20));
        stats
            .endpoint(endpoint)
            .unwrap()
            .balance
            .as_ref()
            .unwrap()
            .unusable
    };
    assert_eq!(unusable("0"), Some(Unusable::Evacuated));
    assert_eq!(upstream.stats(second(20)).evacuated, ["near"]);
    assert!(upstream.return_zone("near", world.now));
    assert!(!upstream.return_zone("near", world.now));
    load(&mut world, second(70));
    world.run();
    assert_nobody_noticed(&world);
    assert_eq!(share(&world, second(0), second(10)), 1.0);
    assert_eq!(attempts(&world, near, second(10), second(30)), 0);
    let rising = share(&world, second(40), second(45));
    assert!((0.1..0.7).contains(&rising), "{rising}");
    assert_eq!(share(&world, second(62), second(70)), 1.0);
}

#[test]
fn checks_move_the_traffic_within_three_probes_and_without_a_call() {
    let checks = check::Config::default().interval(500 * MS);
    let config = careful(balance::Config::default().check(checks));
    let upstream = upstream(config.endpoint("a").endpoint("b"));
    assert!(upstream.next_check(0, Time::ZERO, 0.5).unwrap() <= Time::ZERO + 500 * MS);
    assert_eq!(upstream.next_check(2, Time::ZERO, 0.5), None);
    for _ in 0..3 {
        assert!(upstream.checked(0, false, Time::ZERO));
    }
    assert!(!upstream.checked(2, false, Time::ZERO));
    let mut world = World::new(&upstream, healthy);
    load(&mut world, second(2));
    assert_eq!(
        attempts(&world, |endpoint| endpoint == 0, Time::ZERO, second(2)),
        0
    );
    assert!((0..2).all(|_| upstream.checked(0, true, second(2))));
    load(&mut world, second(4));
    assert!(attempts(&world, |endpoint| endpoint == 0, second(2), second(4)) > 50);
}

#[test]
fn when_nobody_is_healthy_the_call_is_told_when_to_come_back() {
    let checks = check::Config::default().unhealthy_after(1);
    let balance = balance::Config::default()
        .check(checks)
        .eject(eject::Config::default().consecutive(1))
        .panic(outlast_core::ratio::Ratio::ZERO);
    let upstream = upstream(
        Config::new("db")
            .endpoint("a")
            .endpoint("b")
            .balance(balance),
    );
    upstream.checked(1, false, Time::ZERO);
    let mut world = World::new(&upstream, |_| at_once(Outcome::Transient));
    world.run_call(Request::new(1));
    world.run_until(second(10));
    let ended = world.run_call(Request::new(2));
    let rejection = Rejection::after(Reason::Unhealthy, 20 * SECOND);
    assert_eq!(
        ended.step,
        Step::Reject(rejection),
        "one is ejected, one failed its check"
    );
    assert!(upstream.end_ejection(0, world.now));
    upstream.checked(0, false, world.now);
    let ended = world.run_call(Request::new(3));
    assert_eq!(ended.step, Step::Reject(Rejection::new(Reason::Unhealthy)));
}

#[test]
fn a_refusal_names_the_soonest_of_breakers_and_pauses() {
    let breaker = breaker::Config::consecutive(1).cooldown(20 * SECOND);
    let upstream = upstream(
        Config::new("db")
            .endpoint("a")
            .endpoint("b")
            .breaker(breaker),
    );
    let mut world = World::new(&upstream, |_| at_once(Outcome::Transient));
    for seed in 0..3 {
        world.run_call(Request::new(seed));
        world.run_until(world.now + SECOND);
    }
    let opened: Vec<_> = world.seen.iter().map(|seen| seen.at).collect();
    assert_eq!(opened.len(), 2, "each endpoint once");
    world.run_until(opened[1] + 5 * SECOND);
    let ended = world.run_call(Request::new(1));
    let wait = (opened[0] + 20 * SECOND).since(world.now);
    assert_eq!(
        ended.step,
        Step::Reject(Rejection::after(Reason::Open, wait))
    );
}

#[test]
fn retries_go_round_and_from_the_third_attempt_on_to_another_zone() {
    let mut config = Config::new("shop")
        .retry(retry::Config::attempts(8).backoff(MS))
        .budget(None);
    for number in 0..6 {
        let zone = if number < 4 { "near" } else { "far" };
        config = config.endpoint_with(Endpoint::new(number.to_string()).zone(zone));
    }
    let balance = balance::Config::default().zones(["near", "far"]);
    let upstream = upstream(config.balance(balance));
    for seed in 0..100 {
        let mut world = World::new(&upstream, |_| {
            at_once(Outcome::Overload { retry_after: None })
        });
        world.run_call(Request::new(seed));
        let been: Vec<_> = world.seen.iter().map(|seen| seen.endpoint).collect();
        assert!(been[..2].iter().all(|&endpoint| endpoint < 4), "{been:?}");
        assert!(been[2] >= 4, "{been:?}");
        let mut round = been[..6].to_vec();
        round.sort_unstable();
        assert_eq!(round, [0, 1, 2, 3, 4, 5], "{been:?}");
        assert_eq!(been.len(), 8);
        assert_ne!(been[6], been[7]);
    }
}

#[test]
fn a_hedge_never_goes_where_an_attempt_runs() {
    for (endpoints, attempts) in [(1, 4), (2, 2), (3, 3), (9, 4)] {
        let mut config = Config::new("shop").budget(None);
        for number in 0..endpoints {
            config = config.endpoint(number.to_string());
        }
        let upstream = upstream(config.hedge(hedge::Config::after(MS).hedges(3)));
        for seed in 0..50 {
            let mut world = World::new(&upstream, |_| Reply::After(SECOND, Outcome::Success));
            world.run_call(Request::new(seed));
            let mut been: Vec<_> = world.seen.iter().map(|seen| seen.endpoint).collect();
            assert_eq!(been.len(), attempts);
            been.sort_unstable();
            been.dedup();
            assert_eq!(
                been.len(),
                attempts.min(endpoints),
                "the only one may be hedged by itself"
            );
        }
    }
}

#[test]
fn a_hedge_may_go_back_to_an_endpoint_that_has_answered() {
    let config = Config::new("shop").endpoint("a").endpoint("b").budget(None);
    let upstream = upstream(config.hedge(hedge::Config::after(5 * MS).hedges(2)));
    let mut world = World::new(&upstream, |seen| match seen.id.number() {
        2 => Reply::After(MS, Outcome::Transient),
        _ => Reply::After(50 * MS, Outcome::Success),
    });
    world.run_call(Request::new(1));
    let been: Vec<_> = world.seen.iter().map(|seen| seen.endpoint).collect();
    assert_eq!((been.len(), been[1]), (3, been[2]));
    assert_ne!(been[0], been[1]);
}

#[test]
fn equal_keys_meet_the_same_endpoint_and_a_retry_another() {
    let mut config = Config::new("cache").retry(retry::Config::attempts(2).backoff(MS));
    for number in 0..10 {
        config = config.endpoint(number.to_string());
    }
    let balance = balance::Config::new(balance::Kind::HASH);
    let upstream = upstream(config.balance(balance).budget(None));
    let mut used = [0; 10];
    for key in 0..200 {
        let mut firsts = Vec::new();
        for seed in 0..5 {
            let mut world = World::new(&upstream, |seen| match seen.id.number() {
                1 => at_once(Outcome::Overload { retry_after: None }),
                _ => at_once(Outcome::Success),
            });
            world.run_call(Request::new(seed).affinity(mix(key)));
            assert_ne!(world.seen[0].endpoint, world.seen[1].endpoint);
            firsts.push(world.seen[0].endpoint);
        }
        firsts.dedup();
        assert_eq!(firsts.len(), 1);
        used[firsts[0]] += 1;
    }
    assert!(used.iter().all(|&keys| keys > 5), "{used:?}");
}

/// The answer's head counts at once, its end says how it went, and the load is there until then.
#[test]
fn an_open_answer_is_load_until_it_is_closed_and_teaches_its_time_once() {
    let eject = eject::Config::default().consecutive(2);
    let balance = balance::Config::default().eject(eject);
    let upstream = upstream(
        Config::new("files")
            .endpoint("a")
            .endpoint("b")
            .balance(balance),
    );
    let view = |now| upstream.stats(now).endpoints[0].balance.clone().unwrap();
    let mut now = Time::ZERO;
    let mut open = Vec::new();
    for seed in 0..5_000 {
        let mut call = Call::new(&upstream, Request::new(seed), now);
        let Step::Attempt(attempt) = call.step(now) else {
            panic!("an attempt");
        };
        now = now + 10 * MS;
        let opened = call.open(attempt.id, now).unwrap();
        if attempt.endpoint == 0 {
            open.push(opened);
        } else {
            upstream.close(opened, Outcome::Success, now);
        }
        if open.len() == 3 {
            break;
        }
    }
    assert_eq!(open.len(), 3, "an endpoint that is known to answer is used");
    assert_eq!(view(now).in_flight, 3);
    let latency = view(now).latency.unwrap();
    assert!(latency > 9 * MS && latency < 11 * MS, "{latency:?}");
    let later = now + 30 * SECOND;
    upstream.close(open.pop().unwrap(), Outcome::Success, later);
    assert!(
        view(later).latency.unwrap() < 2 * MS,
        "it does not count again"
    );
    upstream.close(open.pop().unwrap(), Outcome::Transient, later);
    upstream.close(open.pop().unwrap(), Outcome::Transient, later);
    assert_eq!(view(later).in_flight, 0);
    assert!(matches!(view(later).unusable, Some(Unusable::Ejected(_))));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let two = || Config::new("pay").endpoint("a").endpoint("b");
    let ordered = failover::Config::ordered();
    let weighted = Endpoint::new("c").weight(3);
    let plain = |number: u32| Endpoint::new(number.to_string());
    let many = (0..1_025)
        .map(plain)
        .fold(Config::new("pay"), Config::endpoint_with);
    let table = [
        (
            two().failover(ordered).balance(Default::default()),
            "balance",
        ),
        (two().endpoint_with(weighted).failover(ordered), "failover"),
        (
            two().endpoint_with(Endpoint::new("c").weight(0)),
            "endpoints.weight",
        ),
        (
            two().balance(balance::Config::default().spill_above(0)),
            "balance.spill_above",
        ),
        (two().endpoint("a"), "endpoints"),
        (many, "endpoints"),
    ];
    for (config, setting) in table {
        assert_eq!(Upstream::new(config, 1).unwrap_err().setting(), setting);
    }
}

#[test]
fn a_first_attempt_goes_to_one_that_asked_for_a_pause_if_nobody_else_is_left() {
    let config = Config::new("db").endpoint("a").endpoint("b");
    let upstream = upstream(config.retry(retry::Config::attempts(3).backoff(MS)));
    let hint = Outcome::Overload {
        retry_after: Some(60 * SECOND),
    };
    let mut world = World::new(&upstream, |_| at_once(hint));
    let ended = world.run_call(Request::new(1));
    let been: Vec<_> = world
        .seen
        .iter()
        .map(|seen| (seen.endpoint, seen.kind))
        .collect();
    assert_eq!(been.len(), 2, "both have asked for a pause: {been:?}");
    assert_ne!(been[0].0, been[1].0);
    assert_eq!((been[0].1, been[1].1), (Kind::First, Kind::Retry));
    let Step::Done {
        stop: Some(stop), ..
    } = ended.step
    else {
        panic!("{ended:?}");
    };
    assert_eq!(stop, Rejection::after(Reason::Overload, 60 * SECOND - MS));
    world.run_call(Request::new(2));
    assert_eq!(world.seen.len(), 3, "a first attempt is made all the same");
}
