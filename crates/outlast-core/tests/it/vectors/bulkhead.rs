//! Bulkheads: on [`Bulkhead`] itself, and inside of a breaker in a virtual world.

use outlast_core::bulkhead::{Bulkhead, Config, Seat};
use outlast_core::call::Request;
use outlast_core::reject::Reason;
use outlast_core::upstream::{self, Upstream};

use super::{Case, Fields, breaker};
use crate::world::{Reply, World};

pub(super) fn replay(case: &Case<'_>) {
    match case.profile {
        "microprofile_ft" if case.config.has("breaker") => replay_inside_breaker(case),
        "resilience4j" | "microprofile_ft" => replay_seats(case),
        _ => case.unknown_profile(),
    }
}

fn replay_seats(case: &Case<'_>) {
    let wait = case.config.optional::<u64>("max_wait_ms").unwrap_or(0);
    assert_eq!(wait, 0, "nobody waits in a queue without a bound");
    let config = Config::new(case.config.required("max_concurrent"));
    let bulkhead = Bulkhead::new(config).expect("valid settings");
    let mut seats = Vec::new();
    for step in &case.steps {
        seat_step(&bulkhead, &mut seats, step);
    }
    let stats = bulkhead.stats();
    case.expect
        .expect("available", stats.concurrency - stats.active);
    case.expect.expect("running", stats.active);
    case.expect.expect("rejected", stats.rejected);
}

fn seat_step(bulkhead: &Bulkhead, seats: &mut Vec<Seat>, step: &Fields<'_>) {
    match step.required("op") {
        "acquire" | "enter" => {
            for _ in 0..step.times() {
                let seat = bulkhead.try_admit();
                step.expect("expect", seat.is_ok());
                seats.extend(seat);
            }
        }
        "release" => {
            for _ in 0..step.times() {
                bulkhead.release(seats.pop().expect("a taken seat"));
            }
        }
        "resize" => bulkhead.resize(step.required("to")),
        other => panic!("{}: unknown op {other}", step.place),
    }
}

/// Our own rejections are never failures of the dependency, whether the peer excludes them
/// (`fail_on`) or not.
fn replay_inside_breaker(case: &Case<'_>) {
    let peer = &case.config;
    let bulkhead = Config::new(peer.required("bulkhead")).queue(peer.required("queue"));
    let rules = peer.object("breaker").expect("a breaker");
    rules.skip("fail_on");
    let config = upstream::Config::new("peer")
        .bulkhead(bulkhead)
        .breaker(breaker::microprofile(&rules));
    let upstream = Upstream::new(config, 1).expect("valid settings");
    let mut world = World::new(&upstream, |_| Reply::Hangs);
    for step in &case.steps {
        let op: &str = step.required("op");
        assert_eq!(op, "submit", "{}", step.place);
        step.skip("id");
        for _ in 0..step.times() {
            let call = world.call(Request::new(1));
            let stays = step.optional("stays").unwrap_or(false);
            assert_eq!(world.ended[call].is_none(), stays, "{}: stays", step.place);
        }
    }
    let now = world.now;
    let state = upstream.breaker(0).expect("it was configured").state(now);
    let rejected = upstream.stats(now).rejected(Reason::Full);
    case.expect.expect("bulkhead_rejections", rejected);
    case.expect.expect("breaker_after", state.name());
}
