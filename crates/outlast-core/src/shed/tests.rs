use std::sync::atomic::{AtomicU32, Ordering as Order};

use proptest::prelude::*;

use super::*;
use crate::ratio::Ratio;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn shed(config: Config) -> Shed {
    Shed::new(config, 1).unwrap()
}

fn fixed(limit: u32) -> Config {
    Config::new(Limit::fixed(limit))
}

fn permit(shed: &Shed, tier: Tier) -> Permit {
    match shed.admit(tier, Time::MAX, Time::ZERO).unwrap() {
        Admission::Permit(permit) => permit,
        Admission::Queued(_) => panic!("no seat was free"),
    }
}

fn ticket(shed: &Shed, tier: Tier, now: Time) -> Ticket {
    match shed.admit(tier, Time::MAX, now).unwrap() {
        Admission::Queued(ticket) => ticket,
        Admission::Permit(_) => panic!("a seat was free"),
    }
}

fn is_granted(ticket: &Ticket) -> bool {
    ticket.waiter.answer() == Answer::Granted
}

fn granted(shed: &Shed, ticket: Ticket) -> Permit {
    match shed.redeem(ticket) {
        Turn::Permit(permit) => permit,
        turn => panic!("not its turn: {turn:?}"),
    }
}

/// Makes known that a call takes this long.
fn teach(shed: &Shed, took: Duration, now: Time) {
    for _ in 0..64 {
        let permit = permit(shed, Tier::Critical);
        shed.record(permit, Outcome::Success, took, now);
    }
    assert_eq!(shed.stats().service, took);
}

fn end(shed: &Shed, permit: Permit, now: Time) {
    shed.record(permit, Outcome::Ignored, Duration::ZERO, now);
}

#[test]
fn at_no_load_every_tier_is_admitted() {
    let shares = fixed(1)
        .share(Tier::Important, Ratio::percent(50))
        .share(Tier::Optional, Ratio::percent(1));
    for config in [Config::default(), fixed(1), shares] {
        for tier in Tier::ALL {
            let shed = shed(config);
            let permit = permit(&shed, tier);
            end(&shed, permit, Time::ZERO);
        }
    }
}

#[test]
fn the_highest_tier_is_served_first_and_within_it_the_first_come() {
    let shed = shed(fixed(1).reserve(Ratio::ZERO));
    let mut taken = permit(&shed, Tier::Optional);
    let order = [
        Tier::Optional,
        Tier::Important,
        Tier::Critical,
        Tier::Critical,
        Tier::Important,
    ];
    let mut tickets: Vec<_> = order
        .iter()
        .map(|&tier| Some(ticket(&shed, tier, at(0))))
        .collect();
    for next in [2, 3, 1, 4, 0] {
        end(&shed, taken, at(1));
        let waiting = tickets[next].take().unwrap();
        assert!(tickets.iter().flatten().all(|ticket| !is_granted(ticket)));
        taken = granted(&shed, waiting);
    }
    end(&shed, taken, at(1));
    assert_eq!((shed.stats().in_flight, shed.stats().queued), (0, 0));
}

#[test]
fn a_standing_queue_serves_the_latest_and_refuses_what_waited_too_long() {
    let shed = shed(fixed(1));
    let taken = permit(&shed, Tier::Important);
    let early: Vec<_> = [0, 90]
        .map(|now| ticket(&shed, Tier::Important, at(now)))
        .into();
    let late = ticket(&shed, Tier::Important, at(99));
    end(&shed, taken, at(100));
    let taken = granted(&shed, late);
    assert!(
        early
            .iter()
            .all(|ticket| ticket.waiter.answer() == Answer::Waits)
    );
    end(&shed, taken, at(100));
    for ticket in early {
        assert!(matches!(shed.redeem(ticket), Turn::Refused(_)));
    }
    assert_eq!(shed.stats().shed(Tier::Important), 2);
    assert_eq!((shed.stats().in_flight, shed.stats().queued), (0, 0));
}

#[test]
fn nobody_waits_who_cannot_be_in_time() {
    let shed = shed(fixed(2));
    teach(&shed, 100 * MS, at(0));
    let taken = [
        permit(&shed, Tier::Important),
        permit(&shed, Tier::Important),
    ];
    // Half a service until a seat is free, and a whole one then.
    assert!(shed.admit(Tier::Important, at(149), at(0)).is_err());
    let Ok(Admission::Queued(first)) = shed.admit(Tier::Important, at(150), at(0)) else {
        panic!("it can be in time");
    };
    assert_eq!(first.until(), at(50));
    assert!(shed.admit(Tier::Important, at(199), at(0)).is_err());
    let Ok(Admission::Queued(critical)) = shed.admit(Tier::Critical, at(199), at(0)) else {
        panic!("it comes before the other");
    };
    let refused = shed
        .leave(first, true, at(50))
        .expect("it is too late for it");
    assert_eq!(refused.reason, Reason::Shed);
    assert_eq!(shed.leave(critical, false, at(50)), None);
    assert_eq!(shed.stats().shed(Tier::Important), 3);
    for permit in taken {
        end(&shed, permit, at(50));
    }
    assert_eq!((shed.stats().in_flight, shed.stats().queued), (0, 0));
}

#[test]
fn a_full_queue_drops_the_lowest_tier() {
    let shed = shed(fixed(1).queue(2));
    let taken = permit(&shed, Tier::Important);
    let optional = ticket(&shed, Tier::Optional, at(0));
    let important = ticket(&shed, Tier::Important, at(0));
    assert!(
        shed.admit(Tier::Optional, Time::MAX, at(0)).is_err(),
        "first come"
    );
    let critical = ticket(&shed, Tier::Critical, at(0));
    assert!(matches!(shed.redeem(optional), Turn::Refused(_)));
    assert!(shed.admit(Tier::Important, Time::MAX, at(0)).is_err());
    let another = ticket(&shed, Tier::Critical, at(0));
    assert!(matches!(shed.redeem(important), Turn::Refused(_)));
    assert!(shed.admit(Tier::Critical, Time::MAX, at(0)).is_err());
    let stats = shed.stats();
    assert_eq!(Tier::ALL.map(|tier| stats.shed(tier)), [1, 2, 2]);
    assert_eq!(stats.queued, 2);
    shed.leave(another, false, at(1));
    end(&shed, taken, at(1));
    let taken = granted(&shed, critical);
    end(&shed, taken, at(1));
    assert_eq!((shed.stats().in_flight, shed.stats().queued), (0, 0));
}

#[test]
fn the_reserve_keeps_a_tier_from_starving() {
    let shed = shed(fixed(1).reserve(Ratio::percent(10)).queue(1000));
    let mut taken = permit(&shed, Tier::Critical);
    let mut optional: Vec<_> = (0..50)
        .map(|_| ticket(&shed, Tier::Optional, at(0)))
        .collect();
    let mut critical: Vec<_> = (0..200)
        .map(|_| ticket(&shed, Tier::Critical, at(0)))
        .collect();
    let mut served = [0, 0];
    for _ in 0..110 {
        end(&shed, taken, at(1));
        let (kind, tickets) = if optional.iter().any(is_granted) {
            (1, &mut optional)
        } else {
            (0, &mut critical)
        };
        let next = tickets.iter().position(is_granted).unwrap();
        taken = granted(&shed, tickets.remove(next));
        served[kind] += 1;
    }
    assert_eq!(served, [100, 10]);
}

#[test]
fn a_closed_gate_opens_again_at_nine_tenths_of_its_share() {
    let config = fixed(100)
        .queue(0)
        .share(Tier::Optional, Ratio::percent(80));
    let shed = shed(config);
    let mut taken: Vec<_> = (0..80).map(|_| permit(&shed, Tier::Optional)).collect();
    let mut end_one = || end(&shed, taken.pop().unwrap(), at(0));
    assert!(shed.admit(Tier::Optional, Time::MAX, at(0)).is_err());
    let important = permit(&shed, Tier::Important);
    for _ in 0..9 {
        end_one();
        assert!(shed.admit(Tier::Optional, Time::MAX, at(0)).is_err());
    }
    end(&shed, important, at(0));
    let optional = permit(&shed, Tier::Optional);
    let more: Vec<_> = (0..8).map(|_| permit(&shed, Tier::Optional)).collect();
    assert!(shed.admit(Tier::Optional, Time::MAX, at(0)).is_err());
    for permit in more.into_iter().chain([optional]) {
        end(&shed, permit, at(0));
    }
}

/// tower-acc's limit stays where it was when 200 hung calls are cut; failsafe-go drops the sample.
#[test]
fn cancelled_calls_and_fast_failures_teach_nothing_and_hung_ones_do() {
    let shed = shed(Config::new(Limit::aimd().min(1)));
    let ends = |outcome, took, calls| {
        for call in 0..calls {
            let permit = permit(&shed, Tier::Important);
            shed.record(permit, outcome, took, at(2000 + call));
        }
        (shed.stats().limit, shed.stats().samples)
    };
    assert_eq!(ends(Outcome::Ignored, 60 * SECOND, 100), (20, 0));
    assert_eq!(ends(Outcome::Transient, MS, 100), (20, 0));
    assert_eq!(ends(Outcome::Unsent, Duration::ZERO, 100), (20, 0));
    assert_eq!(ends(Outcome::Transient, 2 * SECOND, 10), (18, 10));
    let (limit, _) = ends(Outcome::Overload { retry_after: None }, MS, 2000);
    assert_eq!(limit, 16, "one step a second");
}

#[test]
fn a_dependency_that_hangs_shrinks_the_measured_limit_and_one_that_is_back_restores_it() {
    let shed = shed(Config::default().queue(0));
    let mut now = 0;
    let mut round = |outcome, took: Duration| {
        let mut permits = Vec::new();
        while let Ok(Admission::Permit(permit)) = shed.admit(Tier::Important, at(0), at(now)) {
            permits.push(permit);
        }
        now += took.as_millis() as u64;
        for permit in permits {
            shed.record(permit, outcome, took, at(now));
        }
        shed.stats().limit
    };
    let grown = (0..80)
        .map(|_| round(Outcome::Success, 10 * MS))
        .last()
        .unwrap();
    assert!(grown >= 100, "{grown}");
    let hung = (0..400)
        .map(|_| round(Outcome::Transient, SECOND))
        .last()
        .unwrap();
    assert!(hung <= 3, "{hung}");
    let back = (0..1000)
        .map(|_| round(Outcome::Success, 10 * MS))
        .last()
        .unwrap();
    assert!(back >= 100, "{back}");
}

#[test]
fn a_rejection_tells_the_time_of_the_backlog() {
    let shed = shed(fixed(2).queue(3));
    assert!(
        shed.rejection().retry_after.is_none(),
        "nothing is known yet"
    );
    teach(&shed, 100 * MS, at(0));
    let taken = [
        permit(&shed, Tier::Important),
        permit(&shed, Tier::Important),
    ];
    let waiting = [0; 3].map(|_| ticket(&shed, Tier::Important, at(0)));
    let rejection = shed.admit(Tier::Important, Time::MAX, at(0)).unwrap_err();
    assert_eq!(rejection, Rejection::after(Reason::Shed, 200 * MS));
    for ticket in waiting {
        shed.leave(ticket, false, at(0));
    }
    for permit in taken {
        end(&shed, permit, at(0));
    }
}

#[test]
fn those_who_wait_are_seated_when_the_limit_grows() {
    let shed = shed(Config::new(Limit::aimd().min(1).initial(10)));
    let mut taken: Vec<_> = (0..10).map(|_| permit(&shed, Tier::Important)).collect();
    // Ten answers make a window; in its last one the queue gets the seat and the one that is new.
    for _ in 0..9 {
        let done = taken.pop().unwrap();
        shed.record(done, Outcome::Success, MS, at(1000));
        taken.push(permit(&shed, Tier::Important));
    }
    let waiting = [0; 3].map(|_| ticket(&shed, Tier::Important, at(1000)));
    shed.record(taken.pop().unwrap(), Outcome::Success, MS, at(1000));
    assert_eq!(shed.stats().limit, 11);
    assert_eq!(
        waiting.iter().map(is_granted).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert_eq!((shed.stats().in_flight, shed.stats().queued), (11, 1));
    for ticket in waiting {
        shed.leave(ticket, false, at(1000));
    }
    taken
        .into_iter()
        .for_each(|permit| end(&shed, permit, at(1000)));
    assert_eq!((shed.stats().in_flight, shed.stats().queued), (0, 0));
}

#[test]
fn in_shadow_mode_all_pass_and_what_would_be_refused_is_counted() {
    let shed = shed(fixed(1).queue(1).enforce(false));
    let passed = [0; 3].map(|_| shed.pass(Tier::Optional));
    let refused = passed.each_ref().map(|(_, rejection)| rejection.is_some());
    assert_eq!(refused, [false, false, true]);
    assert_eq!(
        (shed.stats().in_flight, shed.stats().shed(Tier::Optional)),
        (3, 1)
    );
    assert_eq!(shed.stats().utilisation(), 3.0);
    for (permit, _) in passed {
        end(&shed, permit, at(0));
    }
    assert_eq!(shed.stats().in_flight, 0);
}

#[test]
fn impossible_settings_are_refused() {
    let limits = [
        Limit::fixed(0),
        Limit::fixed(u32::MAX),
        Limit::capacity().min(0),
        Limit::vegas().initial(2000),
        Limit::aimd().max(10),
        Limit::aimd().backoff(Ratio::ONE),
        Limit::vegas().backoff(Ratio::ZERO),
        Limit::aimd().timeout(Duration::MAX),
        Limit::vegas().smoothing(Ratio::ZERO),
        Limit::gradient2().tolerance(0.5),
        Limit::gradient2().tolerance(f64::NAN),
    ];
    let configs = [
        fixed(1).share(Tier::Critical, Ratio::percent(90)),
        fixed(1).share(Tier::Important, Ratio::percent(90)),
        fixed(1).share(Tier::Optional, Ratio::ZERO),
        fixed(1).reserve(Ratio::percent(26)),
        fixed(1).queue(u32::MAX),
        fixed(1).target(Duration::MAX),
        fixed(1).interval(Duration::MAX),
    ];
    for config in limits.map(Config::new).into_iter().chain(configs) {
        assert!(Shed::new(config, 1).is_err(), "{config:?}");
    }
}

#[test]
fn threads_never_exceed_the_limit_and_lose_nothing() {
    let shed = shed(fixed(3).queue(8));
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let (shed, inside) = (&shed, &inside);
            scope.spawn(move || {
                for round in 0..1_000u32 {
                    let tier = Tier::ALL[((round + thread) % 3) as usize];
                    let permit = match shed.admit(tier, Time::MAX, Time::ZERO) {
                        Ok(Admission::Permit(permit)) => permit,
                        Ok(Admission::Queued(ticket)) if round % 5 == 0 => {
                            shed.leave(ticket, false, Time::ZERO);
                            continue;
                        }
                        Ok(Admission::Queued(mut ticket)) => {
                            let permit = loop {
                                match shed.redeem(ticket) {
                                    Turn::Permit(permit) => break Some(permit),
                                    Turn::Refused(_) => break None,
                                    Turn::Queued(waiting) => ticket = waiting,
                                }
                                std::thread::yield_now();
                            };
                            let Some(permit) = permit else { continue };
                            permit
                        }
                        Err(_) => continue,
                    };
                    assert!(inside.fetch_add(1, Order::SeqCst) < 3);
                    inside.fetch_sub(1, Order::SeqCst);
                    shed.record(permit, Outcome::Success, MS, Time::ZERO);
                }
            });
        }
    });
    assert_eq!((shed.stats().in_flight, shed.stats().queued), (0, 0));
    assert!(shed.stats().peak <= 3);
}

/// What callers do at random.
#[derive(Clone, Copy, Debug)]
enum Act {
    Ask(u8),
    End(prop::sample::Index, u8),
    Leave(prop::sample::Index),
    Pass(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0u8..3).prop_map(Act::Ask),
        3 => (any::<prop::sample::Index>(), 0u8..6).prop_map(|(at, how)| Act::End(at, how)),
        1 => any::<prop::sample::Index>().prop_map(Act::Leave),
        1 => (0u64..60).prop_map(Act::Pass),
    ];
    proptest::collection::vec(act, 0..400)
}

fn limits() -> impl Strategy<Value = Limit> {
    prop_oneof![
        (1u32..6).prop_map(Limit::fixed),
        Just(Limit::capacity().initial(3).min(2).max(8)),
        Just(Limit::aimd().initial(3).min(2).max(8)),
        Just(Limit::vegas().initial(3).min(2).max(8)),
        Just(Limit::gradient2().initial(3).min(2).max(8)),
    ]
}

proptest! {
    /// Whatever happens: nobody is let in above the limit, the limit keeps its bounds, no permit
    /// and no place is lost, and nobody is let in where a higher tier would not be.
    #[test]
    fn keeps_its_laws(
        limit in limits(),
        queue in 0u32..5,
        shares in (1u32..=100, 1u32..=100),
        acts in acts(),
    ) {
        let (important, optional) = (shares.0.max(shares.1), shares.0.min(shares.1));
        let config = Config::new(limit)
            .queue(queue)
            .share(Tier::Important, Ratio::percent(important))
            .share(Tier::Optional, Ratio::percent(optional));
        let shed = shed(config);
        let (mut now, mut permits, mut tickets) = (0, Vec::new(), Vec::new());
        for act in acts {
            let before = shed.stats();
            match act {
                Act::Ask(tier) => {
                    let tier = Tier::ALL[tier as usize];
                    let free = Tier::ALL.map(|tier| before.in_flight < shed.gates.limit(tier));
                    match shed.admit(tier, at(now + 500), at(now)) {
                        Ok(Admission::Permit(permit)) => {
                            prop_assert!(before.in_flight < before.limit);
                            prop_assert!(free[..=tier.index()].iter().all(|&free| free));
                            permits.push(permit);
                        }
                        Ok(Admission::Queued(ticket)) => tickets.push(ticket),
                        Err(rejection) => prop_assert_eq!(rejection.reason, Reason::Shed),
                    }
                }
                Act::End(index, how) if !permits.is_empty() => {
                    let permit = permits.swap_remove(index.index(permits.len()));
                    let outcome = match how {
                        0 => Outcome::Ignored,
                        1 => Outcome::Transient,
                        2 => Outcome::Overload { retry_after: None },
                        _ => Outcome::Success,
                    };
                    shed.record(permit, outcome, u32::from(how) * 10 * MS, at(now));
                }
                Act::Leave(index) if !tickets.is_empty() => {
                    let ticket = tickets.swap_remove(index.index(tickets.len()));
                    shed.leave(ticket, now % 2 == 0, at(now));
                }
                Act::Pass(millis) => now += millis,
                Act::End(..) | Act::Leave(_) => {}
            }
            for ticket in std::mem::take(&mut tickets) {
                match shed.redeem(ticket) {
                    Turn::Permit(permit) => permits.push(permit),
                    Turn::Refused(rejection) => prop_assert_eq!(rejection.reason, Reason::Shed),
                    Turn::Queued(ticket) => tickets.push(ticket),
                }
            }
            let stats = shed.stats();
            prop_assert_eq!(stats.in_flight as usize, permits.len());
            prop_assert_eq!(stats.queued as usize, tickets.len());
            prop_assert!(stats.queued <= queue);
            prop_assert!(stats.in_flight <= stats.limit.max(before.in_flight));
            prop_assert!(stats.limit >= 1 && (before.limit == stats.limit || (2..=8).contains(&stats.limit)));
        }
        for ticket in tickets {
            shed.leave(ticket, false, at(now));
        }
        for permit in permits {
            end(&shed, permit, at(now));
        }
        prop_assert_eq!((shed.stats().in_flight, shed.stats().queued), (0, 0));
    }
}
