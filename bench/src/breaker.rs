//! A closed breaker around a call, and an open one in front of it.

use std::hint::black_box;
use std::time::Duration;

use outlast_core::breaker::{Breaker, Config};
use outlast_core::outcome::Outcome;
use outlast_core::ratio::Ratio;
use outlast_core::time::Time;
use outlast_core::window::Window;
use recloser::AsyncRecloser;

use crate::clock::{coarse, passed_in};
use crate::library;
use crate::measure::{Bench, Figures};
use crate::parker::Parker;
use crate::peers::{self, answer};
use crate::table::{Goal, Group, Row};

pub(crate) fn groups(bench: &Bench) -> Vec<Group> {
    vec![closed(bench), failing(bench), open(bench)]
}

fn closed(bench: &Bench) -> Group {
    let consecutive = Config::default;
    let ratio = || ratio_of_30_seconds(Ratio::percent(50));
    let ours = |who, figures: Figures| {
        Row::ours(who, figures).goals([
            Goal::Single(12.0),
            Goal::Contended(20.0),
            Goal::Allocations(0.0),
            Goal::part(3.0, FAILSAFE),
            Goal::part(17.0, RESILIENCE),
        ])
    };
    let succeed = |config, clock: fn() -> Time| {
        let breaker = breaker(config);
        bench.shared(move || call(&breaker, black_box(Outcome::Success), clock()))
    };
    let group = Group::new("closed breaker, a success")
        .row(ours(
            "consecutive, time passed in",
            succeed(consecutive(), passed_in),
        ))
        .row(ours(
            "consecutive, coarse clock",
            succeed(consecutive(), coarse),
        ))
        .row(ours(
            "30 s ratio, time passed in",
            succeed(ratio(), passed_in),
        ))
        .row(ours("30 s ratio, coarse clock", succeed(ratio(), coarse)));
    add_closed_peers(bench, library::add_breaker(bench, group))
}

fn add_closed_peers(bench: &Bench, group: Group) -> Group {
    let failsafe = peers::failsafe_consecutive(5);
    let either = failsafe::Config::new().build();
    let recloser = peers::recloser();
    let recloser_async = AsyncRecloser::from(peers::recloser());
    let failsafe_async =
        || failsafe::futures::CircuitBreaker::call(&failsafe, answer(black_box(false)));
    let failsafe_blocking = || failsafe::CircuitBreaker::call(&failsafe, succeed);
    let either_blocking = || failsafe::CircuitBreaker::call(&either, succeed);
    let recloser_async = || recloser_async.call(answer(black_box(false)));
    group
        .row(Row::peer(FAILSAFE, bench.future(failsafe_async)))
        .row(Row::peer(
            "failsafe, blocking",
            bench.shared(failsafe_blocking),
        ))
        .row(Row::peer(
            "failsafe's default, blocking",
            bench.shared(either_blocking),
        ))
        .row(Row::peer("recloser", bench.future(recloser_async)))
        .row(Row::peer(
            "recloser, blocking",
            bench.shared(|| recloser.call(succeed)),
        ))
        .row(Row::peer(
            RESILIENCE,
            bench.service(&peers::resilience_breaker(), true),
        ))
}

/// Half of the calls fail, and no rule is ever met: a failure has to look at the whole window.
fn failing(bench: &Bench) -> Group {
    let ours = breaker(ratio_of_30_seconds(Ratio::ONE));
    let failsafe = peers::failsafe_consecutive(1_000_000);
    let in_turn = || {
        let mut fails = true;
        move || {
            fails = !fails;
            black_box(fails)
        }
    };
    Group::new("closed breaker, every second call fails")
        .row(Row::ours(
            "30 s ratio, coarse clock",
            bench.measure(|| {
                let mut fails = in_turn();
                let ours = &ours;
                move || {
                    call(
                        ours,
                        if fails() {
                            Outcome::Transient
                        } else {
                            Outcome::Success
                        },
                        coarse(),
                    )
                }
            }),
        ))
        .row(Row::peer(
            "failsafe (consecutive), blocking",
            bench.measure(|| {
                let mut fails = in_turn();
                let failsafe = &failsafe;
                move || {
                    let result = if fails() { Err(()) } else { Ok(()) };
                    _ = black_box(failsafe::CircuitBreaker::call(failsafe, || result));
                }
            }),
        ))
}

fn open(bench: &Bench) -> Group {
    let open_since = |now| {
        let breaker = breaker(Config::consecutive(1).cooldown(peers::HOUR));
        call(&breaker, Outcome::Transient, now);
        breaker
    };
    let reject = |clock: fn() -> Time| {
        let breaker = open_since(clock());
        assert!(breaker.admit(clock()).is_err());
        bench.shared(move || breaker.admit(clock()))
    };
    let group = Group::new("open breaker, a rejection")
        .row(Row::ours("time passed in", reject(passed_in)).goals([
            Goal::Single(6.0),
            Goal::Allocations(0.0),
            Goal::part(6.0, FAILSAFE),
        ]))
        .row(Row::ours("coarse clock", reject(coarse)).goals([Goal::part(6.0, FAILSAFE)]));
    add_open_peers(bench, group)
}

fn add_open_peers(bench: &Bench, group: Group) -> Group {
    let failsafe = peers::failsafe_consecutive(1);
    failsafe.on_error();
    let recloser = peers::recloser();
    for _ in 0..200 {
        _ = recloser.call(|| Err::<(), ()>(()));
    }
    let resilience = peers::resilience_consecutive(1);
    _ = Parker::new().call(&mut resilience.clone(), true);
    let failsafe_async =
        || failsafe::futures::CircuitBreaker::call(&failsafe, answer(black_box(false)));
    let failsafe_blocking = || match failsafe::CircuitBreaker::call(&failsafe, succeed) {
        Err(failsafe::Error::Rejected) => {}
        _ => panic!("it is open"),
    };
    let recloser_blocking = || match recloser.call(succeed) {
        Err(recloser::Error::Rejected) => {}
        _ => panic!("it is open"),
    };
    group
        .row(Row::peer(FAILSAFE, bench.future(failsafe_async)))
        .row(Row::peer(
            "failsafe, blocking",
            bench.shared(failsafe_blocking),
        ))
        .row(Row::peer(
            "recloser, blocking",
            bench.shared(recloser_blocking),
        ))
        .row(Row::peer(RESILIENCE, bench.service(&resilience, false)))
}

pub(crate) fn breaker(config: Config) -> Breaker {
    Breaker::new(config, 1).expect("the settings are sound")
}

pub(crate) fn ratio_of_30_seconds(ratio: Ratio) -> Config {
    Config::failure_ratio(ratio, Window::Time(Duration::from_secs(30)))
}

/// Admits a call and records its result.
#[inline]
pub(crate) fn call(breaker: &Breaker, outcome: Outcome, now: Time) {
    let permit = breaker.admit(now).expect("it is closed");
    breaker.record(black_box(permit), outcome, Duration::ZERO, now);
}

fn succeed() -> Result<(), ()> {
    black_box(Ok(()))
}

const FAILSAFE: &str = "failsafe";
const RESILIENCE: &str = "tower-resilience";
