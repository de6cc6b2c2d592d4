//! What must hold whatever happens, in whatever order.

use super::*;

/// Something that happens to a set of endpoints.
#[derive(Clone, Debug)]
enum Happening {
    Attempt {
        random: u64,
        refused: u8,
        ends: Outcome,
        took: u16,
    },
    Check {
        endpoint: u8,
        ok: bool,
    },
    Zone {
        zone: u8,
        evacuate: bool,
    },
    Wait {
        millis: u32,
    },
    Release {
        endpoint: u8,
    },
    Members {
        first: u8,
        count: u8,
    },
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Transient),
        2 => Just(Outcome::Success),
        1 => Just(Outcome::Ignored),
        1 => Just(Outcome::Overload { retry_after: None }),
    ]
}

fn happenings() -> impl Strategy<Value = Happening> {
    prop_oneof![
        12 => (any::<u64>(), any::<u8>(), outcomes(), any::<u16>()).prop_map(
            |(random, refused, ends, took)| Happening::Attempt { random, refused, ends, took },
        ),
        4 => (any::<u8>(), any::<bool>())
            .prop_map(|(endpoint, ok)| Happening::Check { endpoint, ok }),
        1 => (0u8..3, any::<bool>())
            .prop_map(|(zone, evacuate)| Happening::Zone { zone, evacuate }),
        3 => (0u32..20_000).prop_map(|millis| Happening::Wait { millis }),
        1 => any::<u8>().prop_map(|endpoint| Happening::Release { endpoint }),
        1 => (0u8..4, 1u8..9).prop_map(|(first, count)| Happening::Members { first, count }),
    ]
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::PEAK_EWMA),
        Just(Kind::LeastRequests { choices: 4 }),
        Just(Kind::RoundRobin),
        Just(Kind::Weighted),
        Just(Kind::HASH),
    ]
}

fn zone(number: u8) -> String {
    format!("z{number}")
}

fn members(first: u8, count: u8) -> Vec<Endpoint> {
    (first..first + count)
        .map(|one| {
            Endpoint::new(one.to_string())
                .weight(u32::from(one % 3) + 1)
                .priority(one / 4)
                .zone(zone(one % 3))
        })
        .collect()
}

fn config(kind: Kind) -> Config {
    let eject = eject::Config::default()
        .consecutive(2)
        .max_share(Ratio::percent(40));
    Config::new(kind)
        .zones(["z0"])
        .check(checks())
        .eject(eject)
        .slow_start(5 * SECOND)
        .spill_above(3)
}

/// What must hold of a choice, by what the snapshot says.
fn assert_may_be_chosen(balance: &Balance, endpoint: usize, now: Time) {
    let stats = balance.stats(now);
    let one = &stats.endpoints[endpoint];
    let own_zone = one.zone.as_deref() == Some("z0");
    let level = stats
        .levels
        .iter()
        .find(|level| level.priority == one.priority && (level.zone == 0) == own_zone);
    match one.unusable {
        None => {}
        Some(Unusable::Evacuated) => panic!("{one:?} is evacuated"),
        Some(Unusable::Check | Unusable::Ejected(_)) => assert!(level.unwrap().panics, "{one:?}"),
    }
}

/// What must hold at any time.
fn assert_laws(balance: &Balance, flying: &[u32], now: Time) {
    let stats = balance.stats(now);
    let count = stats.endpoints.len();
    let out = stats
        .endpoints
        .iter()
        .filter(|one| one.ejected_until.is_some())
        .count();
    assert!(out <= (count * 40 / 100).max(1).min(count - 1), "{stats:?}");
    for level in &stats.levels {
        assert!(level.share >= 0.0, "{stats:?}");
    }
    let share: f64 = stats.levels.iter().map(|level| level.share).sum();
    let anybody = stats.levels.iter().any(|level| level.chosen > 0);
    assert!(
        (share - f64::from(u8::from(anybody))).abs() < 1e-6,
        "{stats:?}"
    );
    for (one, &flying) in stats.endpoints.iter().zip(flying) {
        assert_eq!(one.in_flight, flying, "{one:?}");
        assert!(one.weight <= 3.0 && one.weight >= 0.0);
        if one.unusable.is_none() {
            assert!(one.weight > 0.09, "{one:?}");
        }
    }
}

proptest! {
    #[test]
    fn only_the_usable_are_chosen_and_the_bounds_hold(
        kind in kinds(),
        happenings in proptest::collection::vec(happenings(), 1..150),
    ) {
        let mut now = Time::ZERO;
        let mut balance = Arc::new(Balance::new(config(kind), members(0, 8), now).unwrap());
        let mut flying: Vec<(Arc<Balance>, usize, Outcome, u16, Time)> = Vec::new();
        for happening in happenings {
            match happening {
                Happening::Attempt { random, refused, ends, took } => {
                    let refuse = |one| one == usize::from(refused % 16);
                    if let Some(endpoint) = balance.choose(Wish::new(random), now, refuse) {
                        prop_assert!(!refuse(endpoint));
                        assert_may_be_chosen(&balance, endpoint, now);
                        balance.started(endpoint);
                        flying.push((Arc::clone(&balance), endpoint, ends, took, now));
                    }
                    if !flying.is_empty() && (random % 3 == 0 || flying.len() > 20) {
                        let (of, endpoint, outcome, took, since) = flying.swap_remove(0);
                        now = now + u32::from(took) * MS / 8;
                        of.ended(endpoint, outcome, now.since(since), now);
                    }
                }
                Happening::Check { endpoint, ok } => {
                    balance.checked(usize::from(endpoint) % balance.len(), ok, now);
                }
                Happening::Zone { zone: number, evacuate: true } => {
                    balance.evacuate_zone(&zone(number), now);
                }
                Happening::Zone { zone: number, evacuate: false } => {
                    balance.return_zone(&zone(number), now);
                }
                Happening::Wait { millis } => now = now + millis * MS,
                Happening::Release { endpoint } => _ = balance.release(usize::from(endpoint), now),
                Happening::Members { first, count } => {
                    let next = balance.succeed(config(kind), members(first, count), now);
                    balance = Arc::new(next.unwrap());
                }
            }
            balance.timeout(now);
            let in_flight = |at: usize| {
                let name = balance.name(at);
                flying.iter().filter(|(of, one, ..)| {
                    // One that left and came again is another.
                    of.name(*one) == name && Arc::ptr_eq(&of.slots[*one], &balance.slots[at])
                }).count() as u32
            };
            let expected: Vec<_> = (0..balance.len()).map(in_flight).collect();
            assert_laws(&balance, &expected, now);
        }
        // All comes right in the end.
        for endpoint in 0..balance.len() {
            balance.checked(endpoint, true, now);
        }
        (0..3).for_each(|number| _ = balance.return_zone(&zone(number), now));
        for second in 0..400 {
            balance.timeout(now + second * SECOND);
        }
        now = now + 400 * SECOND;
        for (one, endpoint) in balance.stats(now).endpoints.iter().zip(&balance.endpoints) {
            prop_assert_eq!(one.unusable, None);
            prop_assert_eq!(one.weight, f64::from(endpoint.weight));
        }
        prop_assert_eq!(balance.stats(now).levels[0].share, 1.0);
    }

    /// Removing an endpoint moves its keys alone; adding one moves keys to it alone; both with
    /// unequal weights.
    #[test]
    fn the_least_possible_number_of_keys_moves(
        count in 2u8..12,
        gone in any::<u8>(),
        keys in proptest::collection::vec(any::<u64>(), 1..50),
    ) {
        let gone = (gone % count).to_string();
        let all = of(Config::new(Kind::HASH), members(0, count).into_iter().map(level));
        let rest = members(0, count).into_iter().map(level).filter(|one| *one.name != *gone);
        let rest = of(Config::new(Kind::HASH), rest);
        for key in keys {
            let wish = Wish::new(0).key(key);
            let name = |balance: &Balance| {
                let endpoint = balance.choose(wish, Time::ZERO, |_| false).unwrap();
                balance.name(endpoint).unwrap().to_owned()
            };
            let (with, without) = (name(&all), name(&rest));
            prop_assert!(with == gone || with == without);
        }
    }

    /// Bounded load: as long as nobody is refused, nobody exceeds its bound when it is chosen.
    #[test]
    fn nobody_gets_more_than_its_bound(
        count in 1u8..10,
        bound in 1.05..3.0f64,
        steps in proptest::collection::vec((0u64..5, 0u8..4), 1..300),
    ) {
        let balance = of(Config::new(Kind::Hash { bound }), members(0, count).into_iter().map(level));
        let total: u32 = balance.endpoints.iter().map(|one| one.weight).sum();
        let mut flying = Vec::new();
        for (key, ends) in steps {
            if ends == 0 && !flying.is_empty() {
                let endpoint: usize = flying.swap_remove(0);
                balance.ended(endpoint, Outcome::Success, MS, Time::ZERO);
                continue;
            }
            let wish = Wish::new(0).key(mix(key));
            let endpoint = balance.choose(wish, Time::ZERO, |_| false).unwrap();
            balance.started(endpoint);
            flying.push(endpoint);
            let own = flying.iter().filter(|&&one| one == endpoint).count() as f64;
            let share = f64::from(balance.endpoints[endpoint].weight) / f64::from(total);
            prop_assert!(own <= (bound * flying.len() as f64 * share + 1e-9).ceil());
        }
    }
}

/// All on one level.
fn level(endpoint: Endpoint) -> Endpoint {
    endpoint.priority(0)
}
