use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

fn bulkhead(concurrency: u32, queue: u32) -> Bulkhead {
    Bulkhead::new(Config::new(concurrency).queue(queue)).unwrap()
}

fn seat(bulkhead: &Bulkhead) -> Seat {
    bulkhead.try_admit().unwrap()
}

fn ticket(bulkhead: &Bulkhead, now: Time) -> Ticket {
    match bulkhead.admit(now).unwrap() {
        Admission::Queued(ticket) => ticket,
        Admission::Seat(_) => panic!("a seat was free"),
    }
}

#[test]
fn hands_over_in_order_of_arrival() {
    let bulkhead = bulkhead(1, 3);
    let mut taken = seat(&bulkhead);
    let tickets: Vec<_> = (0..3).map(|_| ticket(&bulkhead, Time::ZERO)).collect();
    assert_eq!(bulkhead.admit(Time::ZERO).unwrap_err().reason, Reason::Full);
    let mut waiting = VecDeque::from(tickets);
    while let Some(first) = waiting.pop_front() {
        bulkhead.release(taken);
        assert!(waiting.iter().all(|later| !later.is_granted()));
        taken = bulkhead.redeem(first, Time::from_millis(40)).unwrap();
    }
    bulkhead.release(taken);
    let stats = bulkhead.stats();
    assert_eq!(
        (stats.accepted, stats.rejected, stats.active, stats.peak),
        (4, 1, 0, 1)
    );
    assert_eq!(stats.average_wait, Duration::from_millis(40));
    assert_eq!(stats.rejection_rate, 0.2);
}

#[test]
fn a_newcomer_never_overtakes() {
    let bulkhead = bulkhead(1, 1);
    let taken = seat(&bulkhead);
    let waiting = ticket(&bulkhead, Time::ZERO);
    bulkhead.release(taken);
    assert!(bulkhead.try_admit().is_err());
    let seat = bulkhead.redeem(waiting, Time::ZERO).unwrap();
    bulkhead.release(seat);
}

/// In failsafe and cockatiel an abandoned waiter keeps its place or is handed the permit.
#[test]
fn one_who_gives_up_leaves_its_place_and_its_seat() {
    let bulkhead = bulkhead(1, 2);
    let taken = seat(&bulkhead);
    let (first, second) = (ticket(&bulkhead, Time::ZERO), ticket(&bulkhead, Time::ZERO));
    assert_eq!(bulkhead.leave(first, false), None);
    let third = ticket(&bulkhead, Time::ZERO);
    bulkhead.release(taken);
    assert!(second.is_granted());
    assert_eq!(
        bulkhead.leave(second, true).unwrap().reason,
        Reason::QueueTimeout
    );
    assert!(third.is_granted());
    let seat = bulkhead.redeem(third, Time::ZERO).unwrap();
    bulkhead.release(seat);
    assert_eq!((bulkhead.stats().active, bulkhead.stats().queued), (0, 0));
}

#[test]
fn shrinking_drains_and_growing_seats_those_who_wait() {
    let bulkhead = bulkhead(2, 4);
    let (first, second) = (seat(&bulkhead), seat(&bulkhead));
    bulkhead.resize(1);
    let waiting = ticket(&bulkhead, Time::ZERO);
    bulkhead.release(first);
    assert!(!waiting.is_granted(), "the surplus drains first");
    bulkhead.resize(2);
    assert!(waiting.is_granted());
    bulkhead.release(second);
    let seat = bulkhead.redeem(waiting, Time::ZERO).unwrap();
    bulkhead.release(seat);
    assert_eq!(bulkhead.stats().active, 0);
}

#[test]
fn impossible_settings_are_refused() {
    for config in [
        Config::new(0),
        Config::new(u32::MAX),
        Config::new(1).queue(u32::MAX),
        Config::new(1).queue_timeout(Duration::MAX),
    ] {
        assert!(Bulkhead::new(config).is_err(), "{config:?}");
    }
}

#[test]
fn threads_never_exceed_the_limit_and_leak_nothing() {
    let bulkhead = bulkhead(3, 8);
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let (bulkhead, inside) = (&bulkhead, &inside);
            scope.spawn(move || {
                for round in 0..2_000 {
                    let seat = match bulkhead.admit(Time::ZERO) {
                        Ok(Admission::Seat(seat)) => seat,
                        Ok(Admission::Queued(ticket)) if (round + thread) % 3 == 0 => {
                            bulkhead.leave(ticket, false);
                            continue;
                        }
                        Ok(Admission::Queued(mut ticket)) => loop {
                            match bulkhead.redeem(ticket, Time::ZERO) {
                                Ok(seat) => break seat,
                                Err(waiting) => ticket = waiting,
                            }
                            std::thread::yield_now();
                        },
                        Err(_) => continue,
                    };
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    bulkhead.release(seat);
                }
            });
        }
    });
    let stats = bulkhead.stats();
    assert_eq!((stats.active, stats.queued), (0, 0));
    assert!(stats.peak <= 3);
}

proptest! {
    #[test]
    fn equals_a_naive_model(
        concurrency in 1u32..4,
        bound in 0u32..4,
        steps in proptest::collection::vec((0u8..4, any::<prop::sample::Index>()), 0..200),
    ) {
        let bulkhead = bulkhead(concurrency, bound);
        let (mut seats, mut tickets) = (Vec::new(), VecDeque::new());
        for (step, index) in steps {
            match step {
                0 | 1 => match bulkhead.admit(Time::ZERO) {
                    Ok(Admission::Seat(seat)) => {
                        prop_assert!((seats.len() as u32) < concurrency && tickets.is_empty());
                        seats.push(seat);
                    }
                    Ok(Admission::Queued(ticket)) => {
                        prop_assert_eq!(seats.len() as u32, concurrency);
                        prop_assert!((tickets.len() as u32) < bound);
                        tickets.push_back(ticket);
                    }
                    Err(rejection) => {
                        prop_assert_eq!(rejection.reason, Reason::Full);
                        prop_assert_eq!(tickets.len() as u32, bound);
                    }
                },
                2 => {
                    let Some(seat) = seats.pop() else { continue };
                    bulkhead.release(seat);
                    if let Some(first) = tickets.pop_front() {
                        seats.push(bulkhead.redeem(first, Time::ZERO).unwrap());
                    }
                }
                _ => {
                    if !tickets.is_empty() {
                        let ticket = tickets.remove(index.index(tickets.len())).unwrap();
                        bulkhead.leave(ticket, false);
                    }
                }
            }
            let stats = bulkhead.stats();
            prop_assert_eq!(stats.active, seats.len() as u32);
            prop_assert_eq!(stats.queued, tickets.len() as u32);
            prop_assert!(tickets.iter().all(|ticket| !ticket.is_granted()));
        }
    }
}
