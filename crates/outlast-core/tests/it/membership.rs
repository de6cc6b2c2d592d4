//! Endpoints that come and go while calls run: nothing is dropped, nothing is leaked, and what is
//! known of those that stay stays.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_core::balance::{self, Endpoint, Unusable};
use outlast_core::breaker::{self, State};
use outlast_core::call::{Call, Kind, Request, Step};
use outlast_core::event::{Event, Observer};
use outlast_core::fault::{self, Fault};
use outlast_core::outcome::Outcome;
use outlast_core::ratio::Ratio;
use outlast_core::rng::{Rng, mix};
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Membership, Upstream};
use outlast_core::{bulkhead, deadline, eject, failover, hedge, retry};
use proptest::prelude::*;

use crate::world::{Reply, World, at_once};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn upstream(config: Config) -> Upstream {
    Upstream::new(config, 1).unwrap()
}

fn named(names: &[&str]) -> Vec<Endpoint> {
    names.iter().map(|&name| Endpoint::new(name)).collect()
}

fn numbers(members: &Membership) -> Vec<(usize, String)> {
    let owned = |(number, name): (usize, &str)| (number, name.to_owned());
    members.iter().map(owned).collect()
}

#[test]
fn who_stays_keeps_number_breaker_and_statistics_and_numbers_are_never_given_twice() {
    let breaker = breaker::Config::consecutive(1).cooldown(60 * SECOND);
    let upstream = upstream(
        Config::new("db")
            .endpoint("a")
            .endpoint("b")
            .breaker(breaker),
    );
    let mut world = World::new(&upstream, |seen| {
        let broken = seen.endpoint == 1;
        at_once(if broken {
            Outcome::Transient
        } else {
            Outcome::Success
        })
    });
    for seed in 0..20 {
        world.run_call(Request::new(seed));
    }
    let members = upstream
        .set_endpoints(named(&["c", "b"]), world.now)
        .unwrap();
    assert_eq!((members.version(), upstream.version()), (1, 1));
    assert_eq!(
        numbers(&members),
        [(2, "c".to_owned()), (1, "b".to_owned())]
    );
    assert_eq!(upstream.endpoint(1).as_deref(), Some("b"));
    assert_eq!(upstream.endpoint(0), None);
    assert!(upstream.breaker(0).is_none());
    assert_eq!(upstream.breaker(1).unwrap().state(world.now), State::Open);
    assert_eq!(
        upstream.stats(world.now).endpoint("b").unwrap().transient,
        1
    );
    for seed in 0..20 {
        world.run_call(Request::new(seed));
    }
    assert!(
        world.seen[world.seen.len() - 20..]
            .iter()
            .all(|seen| seen.endpoint == 2)
    );
    let members = upstream
        .set_endpoints(named(&["a", "b"]), world.now)
        .unwrap();
    assert_eq!(members.number("a"), Some(3), "it is another one now");
}

#[test]
fn an_impossible_membership_changes_nothing_nor_does_the_same_once_more() {
    let upstream = upstream(Config::new("db").endpoint("a").endpoint("b"));
    let many = (0..1_025)
        .map(|number| Endpoint::new(number.to_string()))
        .collect();
    let table = [
        (Vec::new(), "endpoints"),
        (named(&["a", "a"]), "endpoints"),
        (many, "endpoints"),
        (vec![Endpoint::new("a").weight(1_001)], "endpoints.weight"),
    ];
    for (endpoints, setting) in table {
        let error = upstream.set_endpoints(endpoints, Time::ZERO).unwrap_err();
        assert_eq!(error.setting(), setting);
        assert_eq!(upstream.members().len(), 2);
    }
    let mut world = World::new(&upstream, |_| at_once(Outcome::Success));
    assert_eq!(
        world.run_call(Request::new(1)).outcome,
        Some(Outcome::Success)
    );
    let same = upstream
        .set_endpoints(named(&["b", "a"]), Time::ZERO)
        .unwrap();
    assert_eq!((same.version(), upstream.version()), (0, 0));
    let heavier = vec![Endpoint::new("b").weight(2), Endpoint::new("a")];
    assert_eq!(
        upstream
            .set_endpoints(heavier, Time::ZERO)
            .unwrap()
            .version(),
        1
    );

    let ordered = Config::new("pay").endpoint("a").endpoint("b");
    let ordered = Upstream::new(ordered.failover(failover::Config::ordered()), 1).unwrap();
    let error = ordered
        .set_endpoints(named(&["a"]), Time::ZERO)
        .unwrap_err();
    assert_eq!(error.setting(), "failover");
}

/// A name that has moved is somebody else, of whom nothing is known.
#[test]
fn an_endpoint_with_another_address_is_another_one_whatever_its_name() {
    let at = |address: &str| vec![Endpoint::new("main").address(address)];
    let config = Config::new("db").breaker(breaker::Config::consecutive(1));
    let upstream = upstream(config.endpoint_with(at("10.0.0.1").remove(0)));
    let mut world = World::new(&upstream, |_| at_once(Outcome::Transient));
    world.run_call(Request::new(1));
    let now = world.now;
    assert_eq!(upstream.breaker(0).unwrap().state(now), State::Open);
    let same = upstream.set_endpoints(at("10.0.0.1"), now).unwrap();
    assert_eq!((same.version(), same.number("main")), (0, Some(0)));
    let moved = upstream.set_endpoints(at("10.0.0.2"), now).unwrap();
    assert_eq!((moved.version(), moved.number("main")), (1, Some(1)));
    assert_eq!(upstream.breaker(1).unwrap().state(now), State::Closed);
    let stats = upstream.stats(now);
    assert_eq!(stats.endpoint("main").unwrap().transient, 0);
    assert_eq!(stats.endpoints[0].balance.as_ref().unwrap().in_flight, 0);
}

/// A hundred changes a second under load, most of the endpoints new each time; attempts take longer
/// than a membership lives.
#[test]
fn a_hundred_changes_a_second_drop_no_call() {
    let names = |round: u64| -> Vec<Endpoint> {
        let passing = (0..3).map(|one| format!("p{}", round + one));
        let names = ["a".to_owned(), "b".to_owned()].into_iter().chain(passing);
        names.map(Endpoint::new).collect()
    };
    let config = Config::standard("shop").bulkhead(bulkhead::Config::new(100).queue(100));
    let hedged = config.hedge(hedge::Config::after(60 * MS));
    let upstream = upstream(names(0).into_iter().fold(hedged, Config::endpoint_with));
    let current = Mutex::new(upstream.members());
    let mut world = World::new(&upstream, |seen| {
        let is_member = current.lock().unwrap().name(seen.endpoint).is_some();
        assert!(is_member, "nobody is sent where nobody is: {seen:?}");
        let took = 20 + mix(seen.at.as_nanos() ^ seen.call as u64) % 60;
        Reply::After(took as u32 * MS, Outcome::Success)
    });
    let mut seen = Vec::new();
    for round in 1..1_000 {
        let members = upstream.set_endpoints(names(round), world.now).unwrap();
        seen.push(members.clone());
        *current.lock().unwrap() = members;
        for _ in 0..5 {
            world.call(Request::new(world.ended.len() as u64));
            world.run_until(world.now + 2 * MS);
        }
    }
    world.run();
    for ended in &world.ended {
        assert_eq!(ended.unwrap().outcome, Some(Outcome::Success));
    }
    assert_nothing_runs(&seen);
    assert!(world.seen.iter().any(|seen| seen.kind == Kind::Hedge));
    assert_eq!(upstream.version(), 999);
    assert_eq!(upstream.stats(world.now).endpoints[0].number, 0);
}

fn assert_nothing_runs(memberships: &[Membership]) {
    for members in memberships {
        for (number, name) in members.iter() {
            assert_eq!(members.in_flight(number).unwrap_or(0), 0, "{name}");
        }
    }
}

/// Failures of attempts that began before a change still eject.
#[test]
fn failures_that_end_in_an_older_membership_eject_in_the_newest() {
    let balance = balance::Config::default().eject(eject::Config::default());
    let upstream = upstream(
        Config::new("db")
            .endpoint("a")
            .endpoint("b")
            .balance(balance),
    );
    let mut world = World::new(&upstream, |_| Reply::After(25 * MS, Outcome::Transient));
    for round in 0..200u64 {
        let passing = format!("p{round}");
        let names = ["a", "b", &passing];
        upstream.set_endpoints(named(&names), world.now).unwrap();
        world.call(Request::new(round));
        world.run_until(world.now + 10 * MS);
    }
    let stats = upstream.stats(world.now);
    let ejected = |name| {
        stats
            .endpoint(name)
            .unwrap()
            .balance
            .as_ref()
            .unwrap()
            .unusable
    };
    assert!(matches!(
        ejected("a").or(ejected("b")),
        Some(Unusable::Ejected(_))
    ));
}

#[test]
fn one_endpoint_may_become_several_while_a_call_runs() {
    let config = Config::new("db")
        .hedge(hedge::Config::after(5 * MS))
        .budget(None);
    let upstream = upstream(config.retry(retry::Config::attempts(2).backoff(MS)));
    let mut call = Call::new(&upstream, Request::new(1), Time::ZERO);
    let Step::Attempt(first) = call.step(Time::ZERO) else {
        panic!("an attempt");
    };
    let first_members = upstream.members();
    let members = upstream
        .set_endpoints(named(&["x", "y"]), Time::ZERO)
        .unwrap();
    assert_eq!(call.endpoint(first.id).map(|name| &**name), Some("main"));
    let now = Time::ZERO + 5 * MS;
    let Step::Attempt(hedge) = call.step(now) else {
        panic!("a hedge");
    };
    assert_eq!(
        hedge.endpoint, 0,
        "a hedge stays with the membership of its attempt"
    );
    call.outcome(first.id, Outcome::Transient, now);
    call.outcome(hedge.id, Outcome::Transient, now);
    let now = now + MS;
    let Step::Attempt(retry) = call.step(now) else {
        panic!("a retry");
    };
    assert!(members.name(retry.endpoint).is_some());
    assert_eq!(members.in_flight(retry.endpoint), Some(1));
    assert_eq!(
        first_members.in_flight(0),
        None,
        "nobody counts without a choice"
    );
    drop(call);
    assert_nothing_runs(&[members]);
}

/// Writes down what it hears.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn event(&self, _: &str, event: &Event<'_>) {
        let line = match event {
            Event::Ejected { endpoint, .. } => format!("{endpoint} ejected"),
            Event::WouldEject { endpoint, .. } => format!("{endpoint} would be ejected"),
            Event::Returned { endpoint } => format!("{endpoint} returned"),
            Event::Check { endpoint, change } => format!("{endpoint} {change:?}"),
            Event::Evacuated { zone } => format!("{zone} evacuated"),
            Event::ZoneReturned { zone } => format!("{zone} returned"),
            Event::Membership {
                version,
                endpoints,
                joined,
                left,
            } => format!("{version}: {endpoints}, +{joined} -{left}"),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn whoever_listens_hears_the_names_of_every_membership() {
    let heard = Arc::new(Heard::default());
    let checks = outlast_core::check::Config::default();
    let balance = balance::Config::default()
        .check(checks)
        .eject(eject::Config::default().consecutive(1));
    let config = Config::new("db")
        .endpoint("a")
        .endpoint("b")
        .balance(balance);
    let upstream = Upstream::observed(config, 1, Arc::clone(&heard) as Arc<dyn Observer>).unwrap();
    let now = Time::ZERO;
    assert!((0..3).all(|_| upstream.checked(1, false, now)));
    let zoned = |name: &str| Endpoint::new(name).zone("north");
    let next = vec![zoned("x"), zoned("y"), zoned("a")];
    upstream.set_endpoints(next, now).unwrap();
    let mut world = World::new(&upstream, |_| at_once(Outcome::Transient));
    world.run_call(Request::new(7));
    let ejected = upstream.endpoint(world.seen[0].endpoint).unwrap();
    let until = upstream.wakes();
    assert!(until <= now + 30 * SECOND);
    upstream.timeout(now + 30 * SECOND);
    upstream.evacuate_zone("north", now);
    upstream.return_zone("north", now);
    let expected = [
        "b Down".to_owned(),
        "1: 3, +2 -1".to_owned(),
        format!("{ejected} ejected"),
        format!("{ejected} returned"),
        "north evacuated".to_owned(),
        "north returned".to_owned(),
    ];
    assert_eq!(*heard.0.lock().unwrap(), expected);
}

/// Threads that call while others change the membership: real contention on what is shared.
#[test]
fn threads_that_call_and_threads_that_change_do_not_disturb_each_other() {
    let upstream = &upstream(Config::new("db").endpoint("a").endpoint("b"));
    let all = Mutex::new(vec![upstream.members()]);
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            scope.spawn(move || {
                let mut rng = Rng::new(thread);
                for _ in 0..3_000 {
                    let mut call = Call::new(upstream, Request::new(rng.next_u64()), Time::ZERO);
                    let step = call.step(Time::ZERO);
                    let Step::Attempt(attempt) = step else {
                        panic!("{step:?}");
                    };
                    call.outcome(attempt.id, Outcome::Success, Time::ZERO);
                }
            });
        }
        scope.spawn(|| {
            for round in 0..300 {
                // Nobody stays: a call in between must still find somebody.
                let names = [format!("x{round}"), format!("y{round}")];
                let next = names.map(Endpoint::new).into();
                let members = upstream.set_endpoints(next, Time::ZERO).unwrap();
                all.lock().unwrap().push(members);
            }
        });
    });
    assert_nothing_runs(&all.into_inner().unwrap());
}

#[derive(Clone, Debug)]
enum Happening {
    Call {
        repeatable: bool,
        leaves: Option<u32>,
    },
    Wait {
        millis: u32,
    },
    Members {
        first: u32,
        count: u32,
    },
}

fn happenings() -> impl Strategy<Value = Happening> {
    prop_oneof![
        5 => (any::<bool>(), proptest::option::of(0u32..60))
            .prop_map(|(repeatable, leaves)| Happening::Call { repeatable, leaves }),
        3 => (0u32..40).prop_map(|millis| Happening::Wait { millis }),
        1 => (0u32..6, 1u32..5).prop_map(|(first, count)| Happening::Members { first, count }),
    ]
}

fn kinds() -> impl Strategy<Value = balance::Kind> {
    prop_oneof![
        Just(balance::Kind::PEAK_EWMA),
        Just(balance::Kind::LEAST_REQUESTS),
        Just(balance::Kind::RoundRobin),
        Just(balance::Kind::HASH),
    ]
}

fn members(first: u32, count: u32) -> Vec<Endpoint> {
    let one = |number: u32| Endpoint::new(number.to_string()).zone((number % 2).to_string());
    (first..first + count).map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// However attempts end (answered, cut, beaten, lost, left, queued and never made), each that
    /// started at an endpoint ends there once. (Once too often, and the balance itself panics.)
    #[test]
    fn every_attempt_that_starts_ends_once(
        kind in kinds(),
        seed in any::<u64>(),
        strikes in any::<bool>(),
        happenings in proptest::collection::vec(happenings(), 1..120),
    ) {
        let harm = if strikes { Fault::Error } else { Fault::Hang };
        let config = Config::new("any")
            .balance(balance::Config::new(kind).eject(eject::Config::default().consecutive(2)))
            .breaker(breaker::Config::consecutive(3).cooldown(30 * MS))
            .bulkhead(bulkhead::Config::new(3).queue(2).queue_timeout(20 * MS))
            .retry(retry::Config::attempts(4).backoff(5 * MS))
            .hedge(hedge::Config::after(8 * MS).hedges(3))
            .budget(None)
            .fault(fault::Config::new(harm, Ratio::percent(10)))
            .deadline(deadline::Config::call(100 * MS).attempt(40 * MS));
        let upstream = upstream(members(0, 4).into_iter().fold(config, Config::endpoint_with));
        let mut rng = Rng::new(seed);
        let mut world = World::new(&upstream, move |_| {
            let outcome = match rng.next_u64() % 8 {
                0..3 => Outcome::Success,
                3 => Outcome::Ignored,
                4 => Outcome::Overload { retry_after: Some(10 * MS) },
                _ => Outcome::Transient,
            };
            match rng.next_u64() % 6 {
                0 => Reply::Hangs,
                steps => Reply::After(steps as u32 * 5 * MS, outcome),
            }
        });
        let mut all = vec![upstream.members()];
        for (number, happening) in happenings.into_iter().enumerate() {
            match happening {
                Happening::Call { repeatable, leaves } => {
                    let request = Request::new(seed ^ number as u64).repeatable(repeatable);
                    let call = world.call(request.affinity(number as u64 % 3));
                    if let Some(millis) = leaves {
                        world.cancel_at(call, world.now + millis * MS);
                    }
                }
                Happening::Wait { millis } => world.run_until(world.now + millis * MS),
                Happening::Members { first, count } => {
                    let next = upstream.set_endpoints(members(first, count), world.now);
                    all.push(next.unwrap());
                }
            }
        }
        world.run();
        assert_nothing_runs(&all);
    }
}
