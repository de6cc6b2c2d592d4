//! The lock-free pieces under loom, which tries the interleavings of their threads one by one.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p outlast-core --lib --release loom_tests
//! ```
//!
//! Each model runs two threads and is bounded to three preemptions (`LOOM_MAX_PREEMPTIONS` changes
//! that), which keeps it at seconds and finds what needs no more than three ill-timed switches.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroU32;
use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use crate::balance::{self, Balance, Endpoint, Kind, Wish};
use crate::breaker::{self, Breaker, Manual, State};
use crate::budget::{self, Budget};
use crate::bulkhead::{self, Admission, Bulkhead, Seat, Ticket};
use crate::check;
use crate::eject;
use crate::hedge::Latency;
use crate::outcome::Outcome;
use crate::rate::{self, Rate};
use crate::ratio::Ratio;
use crate::shed::{self, Shed};
use crate::sync::{AtomicU32, Ordering};
use crate::tier::Tier;
use crate::time::Time;
use crate::window::{Counted, Tally, Timed, Window};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn model(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.max_branches = 20_000;
    builder.check(test);
}

/// Runs both at once and returns what they return.
fn both<S: Send + Sync + 'static, A: Send + 'static, B: Send + 'static>(
    shared: &Arc<S>,
    one: impl FnOnce(&S) -> A + Send + 'static,
    other: impl FnOnce(&S) -> B + Send + 'static,
) -> (A, B) {
    let theirs = Arc::clone(shared);
    let thread = thread::spawn(move || other(&theirs));
    let mine = one(shared);
    (mine, thread.join().unwrap())
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

#[test]
fn timed_records_of_one_tick_are_all_counted() {
    model(|| {
        let window = Arc::new(Timed::new(10 * SECOND));
        both(
            &window,
            |window| {
                window.record(0, true, at(0));
                window.record(0, true, at(1));
            },
            |window| {
                window.record(0, false, at(2));
            },
        );
        assert_eq!(window.sum(0, at(3)), (3, 2));
    });
}

#[test]
fn a_timed_bucket_turns_once_whoever_comes_first() {
    model(|| {
        let window = Arc::new(Timed::new(10 * SECOND));
        window.record(0, true, at(0));
        let (_, seen) = both(
            &window,
            |window| {
                window.record(0, true, at(500));
                window.record(0, true, at(10_000));
            },
            |window| {
                window.record(0, false, at(10_000));
                window.sum(0, at(10_000))
            },
        );
        assert!(seen == (1, 0) || seen == (2, 1), "{seen:?}");
        assert_eq!(window.sum(0, at(10_000)), (2, 1));
    });
}

#[test]
fn a_timed_window_never_mixes_generations() {
    model(|| {
        let window = Arc::new(Timed::new(10 * SECOND));
        window.record(0, true, at(0));
        both(
            &window,
            |window| {
                window.record(0, true, at(0));
                window.record(0, true, at(0));
            },
            |window| {
                window.record(1, false, at(0));
                window.record(1, true, at(0));
            },
        );
        assert_eq!(window.sum(1, at(0)), (2, 1));
    });
}

/// Whatever the ring holds after a race, it holds exactly what its sums say: two more successes
/// push everything else out.
#[test]
fn a_counted_ring_neither_loses_nor_doubles_a_result() {
    model(|| {
        let window = Arc::new(Counted::new(NonZeroU32::new(2).unwrap()));
        both(
            &window,
            |window| {
                window.record(0, true, false);
                window.record(0, true, true);
            },
            |window| {
                window.record(0, false, true);
                window.record(0, true, false);
            },
        );
        let tally = window.sum(0);
        assert_eq!(tally.total, 2);
        assert!(
            (1..=2).contains(&tally.failed) && tally.slow <= 2,
            "{tally:?}"
        );
        window.record(0, false, false);
        let tally = window.record(0, false, false);
        assert_eq!((tally.total, tally.failed, tally.slow), (2, 0, 0));
    });
}

#[test]
fn a_counted_ring_starts_a_generation_empty() {
    model(|| {
        let window = Arc::new(Counted::new(NonZeroU32::new(2).unwrap()));
        window.record(0, true, true);
        both(
            &window,
            |window| {
                window.record(0, true, true);
            },
            |window| {
                window.restart(1);
                window.record(1, false, false);
            },
        );
        let tally = window.sum(1);
        assert!(
            tally.total <= 1 && tally.failed == 0 && tally.slow == 0,
            "{tally:?}"
        );
        window.record(1, false, false);
        window.record(1, false, false);
        let tally = window.record(1, true, false);
        assert_eq!((tally.total, tally.failed, tally.slow), (2, 1, 0));
    });
}

fn bulkhead(seats: u32, queue: u32) -> Bulkhead {
    Bulkhead::new(bulkhead::Config::new(seats).queue(queue)).unwrap()
}

fn queued(bulkhead: &Bulkhead) -> Ticket {
    match bulkhead.admit(at(0)).unwrap() {
        Admission::Queued(ticket) => ticket,
        Admission::Seat(_) => panic!("a seat was free"),
    }
}

/// The seat of somebody to whom all others have given way.
fn seated(bulkhead: &Bulkhead, admission: Admission) -> Seat {
    match admission {
        Admission::Seat(seat) => seat,
        Admission::Queued(ticket) => bulkhead
            .redeem(ticket, at(0))
            .expect("all seats were released, so the wakeup is lost"),
    }
}

fn assert_is_empty(bulkhead: &Bulkhead) {
    let stats = bulkhead.stats();
    assert_eq!((stats.active, stats.queued), (0, 0));
    let seat = bulkhead.try_admit().expect("the seat is free again");
    bulkhead.release(seat);
}

#[test]
fn a_bulkhead_is_never_above_its_limit() {
    model(|| {
        let shared = Arc::new((bulkhead(1, 0), AtomicU32::new(0)));
        let visit = |(bulkhead, inside): &(Bulkhead, AtomicU32)| {
            for _ in 0..2 {
                if let Ok(seat) = bulkhead.try_admit() {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    bulkhead.release(seat);
                }
            }
        };
        both(&shared, visit, visit);
        assert!(shared.0.stats().peak <= 1);
        assert_is_empty(&shared.0);
    });
}

#[test]
fn one_who_queues_while_the_seat_is_released_gets_it() {
    model(|| {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let seat = bulkhead.try_admit().unwrap();
        let ((), admission) = both(
            &bulkhead,
            |bulkhead| bulkhead.release(seat),
            |bulkhead| bulkhead.admit(at(0)).unwrap(),
        );
        let seat = seated(&bulkhead, admission);
        bulkhead.release(seat);
        assert_is_empty(&bulkhead);
    });
}

#[test]
fn one_who_leaves_does_not_take_the_seat_along() {
    model(|| {
        let bulkhead = Arc::new(bulkhead(1, 2));
        let seat = bulkhead.try_admit().unwrap();
        let (first, second) = (queued(&bulkhead), queued(&bulkhead));
        both(
            &bulkhead,
            |bulkhead| bulkhead.release(seat),
            |bulkhead| bulkhead.leave(first, false),
        );
        let seat = seated(&bulkhead, Admission::Queued(second));
        bulkhead.release(seat);
        assert_is_empty(&bulkhead);
    });
}

#[test]
fn growing_seats_one_who_comes_at_the_same_time() {
    model(|| {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let seat = bulkhead.try_admit().unwrap();
        let ((), admission) = both(
            &bulkhead,
            |bulkhead| bulkhead.resize(2),
            |bulkhead| bulkhead.admit(at(0)).unwrap(),
        );
        let second = seated(&bulkhead, admission);
        bulkhead.release(second);
        bulkhead.release(seat);
        assert_is_empty(&bulkhead);
    });
}

fn breaker(config: breaker::Config) -> Breaker {
    Breaker::new(config.cooldown(SECOND).successes(1), 1).unwrap()
}

fn record(breaker: &Breaker, outcome: Outcome, now: Time) {
    if let Ok(permit) = breaker.admit(now) {
        breaker.record(permit, outcome, MS, now);
    }
}

fn fail(breaker: &Breaker) {
    record(breaker, Outcome::Transient, at(0));
}

/// Two failures at once trip it once, and none of two that are needed is lost.
fn check_trips_once(config: fn() -> breaker::Config) {
    model(move || {
        let heard = Arc::new(AtomicU32::new(0));
        let sink = Arc::clone(&heard);
        let breaker = breaker(config()).on_change(move |_| {
            sink.fetch_add(1, Ordering::SeqCst);
        });
        let breaker = Arc::new(breaker);
        both(&breaker, fail, fail);
        assert_eq!(breaker.state(at(0)), State::Open);
        assert_eq!(breaker.stats(at(0)).trips, 1);
        assert_eq!(heard.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn racing_failures_trip_once() {
    check_trips_once(|| breaker::Config::consecutive(1));
    check_trips_once(|| breaker::Config::consecutive(2));
    check_trips_once(|| breaker::Config::failures(2, Window::calls(2)));
}

#[test]
fn racing_failures_trip_a_timed_window_once() {
    check_trips_once(|| breaker::Config::failures(2, Window::Time(SECOND)));
}

/// A result that arrives while the breaker starts a new generation is not in its window.
fn check_straggler(config: fn() -> breaker::Config) {
    model(move || {
        let breaker = Arc::new(breaker(config()));
        let straggler = breaker.admit(at(0)).unwrap();
        both(
            &breaker,
            |breaker| breaker.record(straggler, Outcome::Transient, MS, at(0)),
            |breaker| breaker.force(Manual::Auto, at(0)),
        );
        assert_eq!(breaker.stats(at(0)).tally, Tally::default());
        fail(&breaker);
        assert_eq!(breaker.state(at(0)), State::Closed);
        fail(&breaker);
        assert_eq!(breaker.state(at(0)), State::Open);
    });
}

#[test]
fn a_straggler_is_not_in_the_next_generation() {
    check_straggler(|| breaker::Config::consecutive(2));
    check_straggler(|| breaker::Config::failures(2, Window::calls(2)));
    check_straggler(|| breaker::Config::failures(2, Window::Time(SECOND)));
}

#[test]
fn half_open_admits_no_more_than_its_trials() {
    model(|| {
        let shared = Arc::new((
            breaker(breaker::Config::consecutive(1).trials(1)),
            AtomicU32::new(0),
        ));
        fail(&shared.0);
        let ask = |(breaker, running): &(Breaker, AtomicU32)| {
            let Ok(permit) = breaker.admit(at(1000)) else {
                return 0;
            };
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
            running.fetch_sub(1, Ordering::SeqCst);
            breaker.record(permit, Outcome::Ignored, MS, at(1000));
            1
        };
        let (mine, theirs) = both(&shared, ask, ask);
        assert!(mine + theirs >= 1);
        let _place = shared.0.admit(at(1000)).expect("no place was lost");
        assert!(shared.0.admit(at(1000)).is_err());
    });
}

#[test]
fn a_trial_that_ends_with_its_lease_is_judged_once() {
    model(|| {
        let breaker = Arc::new(breaker(
            breaker::Config::consecutive(1).trials(1).lease(SECOND),
        ));
        fail(&breaker);
        let trial = breaker.admit(at(1000)).unwrap();
        both(
            &breaker,
            |breaker| breaker.record(trial, Outcome::Success, SECOND, at(1999)),
            |breaker| breaker.state(at(2000)),
        );
        let stats = breaker.stats(at(2000));
        match stats.state {
            State::Closed => assert_eq!((stats.trips, stats.retry_at), (1, None)),
            State::Open => assert_eq!((stats.trips, stats.retry_at), (2, Some(at(3000)))),
            other => panic!("neither closed nor open but {other:?}"),
        }
    });
}

#[test]
fn a_budget_is_never_overdrawn() {
    model(|| {
        let config = budget::Config::new(Ratio::ONE).reserve(1);
        let budget = Arc::new(Budget::new(config).unwrap());
        let ask = |budget: &Budget| u64::from(budget.withdraw(at(0)).is_ok());
        let (mine, theirs) = both(
            &budget,
            move |budget| ask(budget) + ask(budget),
            move |budget| {
                budget.deposit(at(0));
                ask(budget)
            },
        );
        assert_eq!(budget.stats(at(0)).withdrawn, mine + theirs);
        assert_eq!(mine + theirs + budget.stats(at(0)).available, 2);
        assert!(theirs == 1 || mine == 2);
    });
}

#[test]
fn a_refund_and_a_withdrawal_both_count() {
    model(|| {
        let config = budget::Config::new(Ratio::ZERO).reserve(1);
        let budget = Arc::new(Budget::new(config).unwrap());
        let paid = budget.withdraw(at(0)).unwrap();
        let ((), granted) = both(
            &budget,
            |budget| budget.refund(paid),
            |budget| budget.withdraw(at(0)).is_ok(),
        );
        assert_eq!(budget.stats(at(0)).withdrawn, u64::from(granted));
    });
}

#[test]
fn the_turn_of_latencies_survives_a_race() {
    model(|| {
        let latency = Arc::new(Latency::new(Ratio::percent(50), 1, Duration::ZERO));
        latency.record(MS, at(0));
        both(
            &latency,
            |latency| latency.record(2 * MS, at(30_000)),
            |latency| latency.record(3 * MS, at(29_999)),
        );
        let delay = latency.delay(at(30_000)).expect("it has samples");
        assert!((MS..4 * MS).contains(&delay), "{delay:?}");
    });
}

#[test]
fn a_rate_limit_admits_no_more_than_its_burst_and_a_refund_takes_no_turn_twice() {
    model(|| {
        let config = rate::Config::new(1, SECOND).burst(1).wait(SECOND);
        let rate = Arc::new(Rate::new(config).unwrap());
        let (kept, given_back) = both(
            &rate,
            |rate| rate.admit(at(0)).unwrap(),
            |rate| {
                let wait = rate.admit(at(0)).unwrap();
                rate.refund(at(0) + wait);
                wait
            },
        );
        let next = rate.admit(at(0));
        assert_ne!(next, Ok(kept), "nobody has the turn of another");
        let is_there_again = given_back > kept || given_back == kept;
        assert_eq!(
            next.is_ok(),
            is_there_again,
            "the last turn is given back, and only that"
        );
    });
}

fn balance(config: balance::Config) -> Arc<Balance> {
    let endpoints = ["a", "b"].map(|name| Endpoint::new(name).zone(name));
    Arc::new(Balance::new(config, endpoints, at(0)).unwrap())
}

/// One publication takes the place of the only endpoint that may be chosen by another.
#[test]
fn somebody_is_chosen_while_health_changes_as_long_as_somebody_may_be() {
    model(|| {
        let check = check::Config::default().unhealthy_after(1);
        let balance = balance(balance::Config::new(Kind::Weighted).check(check));
        balance.checked(1, false, at(0));
        let (_, chosen) = both(
            &balance,
            |balance| balance.evacuate_zone("a", at(0)),
            |balance| balance.choose(Wish::new(7), at(0), |_| false),
        );
        assert!(chosen.is_some());
        assert_eq!(balance.choose(Wish::new(7), at(0), |_| false), Some(1));
    });
}

#[test]
fn failures_of_two_threads_eject_once_and_leave_nothing_in_flight() {
    model(|| {
        let eject = eject::Config::default().consecutive(2).success_rate(None);
        let balance = balance(balance::Config::default().eject(eject));
        let fail = |balance: &Balance| {
            balance.started(0);
            balance.ended(0, Outcome::Transient, MS, at(10));
        };
        both(&balance, fail, fail);
        let stats = balance.stats(at(10));
        assert_eq!(stats.endpoints[0].in_flight, 0);
        assert_eq!(stats.endpoints[0].ejected_until, Some(at(30_010)));
        assert!(stats.endpoints[0].latency.unwrap() >= SECOND);
        assert_eq!(balance.choose(Wish::new(7), at(10), |_| false), Some(1));
    });
}

fn shedder(limit: u32, queue: u32) -> Shed {
    let limit = shed::Limit::fixed(limit);
    Shed::new(shed::Config::new(limit).queue(queue), 1).unwrap()
}

fn asks(shed: &Shed, tier: Tier) -> shed::Admission {
    shed.admit(tier, Time::MAX, at(0))
        .expect("there is room in the queue")
}

fn ends(shed: &Shed, permit: shed::Permit) {
    shed.record(permit, Outcome::Success, MS, at(0));
}

/// The permit of somebody to whom all others have given way.
fn permitted(shed: &Shed, admission: shed::Admission) -> shed::Permit {
    match admission {
        shed::Admission::Permit(permit) => permit,
        shed::Admission::Queued(ticket) => match shed.redeem(ticket) {
            shed::Turn::Permit(permit) => permit,
            turn => panic!("all permits were returned, so the wakeup is lost: {turn:?}"),
        },
    }
}

fn assert_is_idle(shed: &Shed) {
    let stats = shed.stats();
    assert_eq!((stats.in_flight, stats.queued), (0, 0));
    assert!(stats.peak <= stats.limit);
}

#[test]
fn one_who_asks_while_the_permit_is_returned_gets_it() {
    model(|| {
        let shed = Arc::new(shedder(1, 1));
        let permit = permitted(&shed, asks(&shed, Tier::Important));
        let ((), admission) = both(
            &shed,
            |shed| ends(shed, permit),
            |shed| asks(shed, Tier::Critical),
        );
        let permit = permitted(&shed, admission);
        ends(&shed, permit);
        assert_is_idle(&shed);
    });
}

#[test]
fn one_who_leaves_the_line_does_not_take_the_permit_along() {
    model(|| {
        let shed = Arc::new(shedder(1, 2));
        let permit = permitted(&shed, asks(&shed, Tier::Important));
        let shed::Admission::Queued(first) = asks(&shed, Tier::Critical) else {
            panic!("a seat was free");
        };
        let second = asks(&shed, Tier::Optional);
        both(
            &shed,
            |shed| ends(shed, permit),
            |shed| shed.leave(first, false, at(0)),
        );
        let permit = permitted(&shed, second);
        ends(&shed, permit);
        assert_is_idle(&shed);
    });
}

#[test]
fn one_who_is_pushed_out_is_refused_once_and_its_place_is_not_lost() {
    model(|| {
        let shed = Arc::new(shedder(1, 1));
        let permit = permitted(&shed, asks(&shed, Tier::Important));
        let shed::Admission::Queued(optional) = asks(&shed, Tier::Optional) else {
            panic!("a seat was free");
        };
        let ((), critical) = both(
            &shed,
            |shed| ends(shed, permit),
            |shed| {
                shed.admit(Tier::Critical, Time::MAX, at(0))
                    .expect("it pushes one out")
            },
        );
        let stats = shed.stats();
        match shed.redeem(optional) {
            shed::Turn::Permit(permit) => ends(&shed, permit),
            shed::Turn::Refused(_) => assert_eq!(stats.shed(Tier::Optional), 1),
            shed::Turn::Queued(_) => panic!("it waits for nobody"),
        }
        let permit = permitted(&shed, critical);
        ends(&shed, permit);
        assert_is_idle(&shed);
    });
}

#[test]
fn a_window_of_latencies_is_closed_once_with_all_its_calls() {
    model(|| {
        let meter = Arc::new(shed::Meter::new());
        meter.open((2, Duration::ZERO), at(0));
        let note = |meter: &shed::Meter| {
            if meter.note(MS, 1, at(0)) {
                meter.close(at(0)).map_or(0, |sample| {
                    assert_eq!(sample.took, MS);
                    sample.calls
                })
            } else {
                0
            }
        };
        let (mine, theirs) = both(&meter, note, note);
        assert_eq!(mine + theirs, 2);
        assert!(mine == 0 || theirs == 0);
        assert_eq!(meter.close(at(0)), None);
    });
}
