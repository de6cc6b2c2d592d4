//! A shedder before a bulkhead: what waits for a seat tells the shedder that there are too many
//! calls, and no call of a high tier is turned away for one of a lower.

use std::time::Duration;

use outlast_core::bulkhead;
use outlast_core::call::Request;
use outlast_core::outcome::Outcome;
use outlast_core::rng::Rng;
use outlast_core::shed::{self, Limit};
use outlast_core::tier::Tier;
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Upstream};

use crate::world::{Reply, World};

const MS: Duration = Duration::from_millis(1);

/// Behind these seats nobody queues.
fn upstream(limit: Limit, seats: bulkhead::Config) -> Upstream {
    let config = Config::new("db")
        .shed(shed::Config::new(limit))
        .bulkhead(seats);
    Upstream::new(config, 1).unwrap()
}

/// A minute of three times what so many seats can serve in 200 ms, give or take a `spread`. The
/// critical calls, three tenths of the capacity, and those of them that were served, after the time
/// in which a measured limit is found.
fn critical(upstream: &Upstream, seats: u32, spread: f64) -> (u32, u32) {
    let mut times = Rng::new(7);
    let mut world = World::new(upstream, move |_| {
        let took = 200.0 + spread * (times.unit() - 0.5);
        Reply::After(Duration::from_secs_f64(took / 1e3), Outcome::Success)
    });
    let mut rng = Rng::new(11);
    let load = [0.3, 1.0, 1.7].map(|share| share * f64::from(seats) / 0.2);
    let (rate, mut critical) = (load.iter().sum::<f64>(), Vec::new());
    let end = Time::from_millis(60_000);
    let deadline = 1000 * MS;
    while world.now < end {
        let gap = -(1.0 - rng.unit()).ln() / rate;
        world.run_until(world.now + Duration::from_secs_f64(gap));
        let mut left = rng.unit() * rate;
        let tier = Tier::ALL.into_iter().find(|tier| {
            left -= load[tier.index()];
            left < 0.0
        });
        let tier = tier.unwrap_or(Tier::Optional);
        let request = Request::new(rng.next_u64()).tier(tier);
        let call = world.call(request.deadline(world.now + deadline));
        if tier == Tier::Critical && world.now > Time::ZERO + FOUND {
            critical.push(call);
        }
    }
    world.run();
    let served = |call: &&usize| world.ended[**call].unwrap().outcome == Some(Outcome::Success);
    let served = critical.iter().filter(served).count();
    (critical.len() as u32, served as u32)
}

const FOUND: Duration = Duration::from_secs(5);

#[test]
fn the_wait_for_a_seat_is_part_of_what_a_call_takes() {
    let one_seat = bulkhead::Config::new(1)
        .queue(10)
        .queue_timeout(60 * 1000 * MS);
    let upstream = upstream(Limit::fixed(11), one_seat);
    let mut world = World::new(&upstream, |_| Reply::After(100 * MS, Outcome::Success));
    for round in 0..200 {
        world.call(Request::new(round));
        world.call(Request::new(round));
        world.run();
    }
    let service = upstream.shed().unwrap().stats().service;
    assert!((140 * MS..160 * MS).contains(&service), "{service:?}");
}

#[test]
fn a_measured_limit_finds_the_seats_that_there_are() {
    for queue in [0, 40] {
        let seats = bulkhead::Config::new(40).queue(queue);
        let upstream = upstream(Limit::capacity(), seats);
        let (asked, served) = critical(&upstream, 40, 100.0);
        let limit = upstream.shed().unwrap().stats().limit;
        assert!(
            (30..=60).contains(&limit),
            "queue {queue}: a limit of {limit}"
        );
        assert!(
            f64::from(served) >= 0.994 * f64::from(asked),
            "queue {queue}: {served} of {asked}"
        );
    }
}

/// Seats that were taken together become free together: until then somebody always waits, which is
/// no overload of the highest tier.
#[test]
fn seats_that_become_free_in_bunches_shed_no_critical_call() {
    for seats in [20, 40] {
        let upstream = upstream(Limit::fixed(seats), bulkhead::Config::new(seats));
        let (asked, served) = critical(&upstream, seats, 0.0);
        assert_eq!(served, asked, "{seats} seats");
    }
}

#[test]
fn a_shedder_lets_no_more_in_than_the_bulkhead_takes() {
    let limit = |seats: bulkhead::Config| {
        let upstream = upstream(Limit::fixed(100), seats);
        upstream.shed().unwrap().stats().limit
    };
    assert_eq!(limit(bulkhead::Config::new(40)), 40);
    assert_eq!(limit(bulkhead::Config::new(40).queue(20)), 60);
    assert_eq!(limit(bulkhead::Config::new(200)), 100);
    assert_eq!(limit(bulkhead::Config::new(40).enforce(false)), 100);
}
