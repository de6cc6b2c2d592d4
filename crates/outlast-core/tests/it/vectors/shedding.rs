//! Shedding: the formula of the throttle, and who is admitted when not all can be.

use outlast_core::outcome::Outcome;
use outlast_core::shed::throttle;
use outlast_core::shed::{Admission, Config, Limit, Permit, Shed, Ticket, Turn};
use outlast_core::tier::Tier;
use outlast_core::time::Time;

use super::{Case, ratio};

pub(super) fn replay(case: &Case<'_>) {
    let peer = &case.config;
    match case.profile {
        "sre_book" if peer.has("k") => {
            let config = throttle::Config::default().most(ratio(1.0));
            replay_rates(case, config.k(peer.required("k")), "requests", "accepts");
        }
        "failsafe" if peer.has("success_threshold") => {
            // What the formula adds to the requests.
            peer.expect("padding", 1u32);
            let config = throttle::Config::default()
                .k(1.0 / peer.required::<f64>("success_threshold"))
                .most(ratio(peer.required("max_rejection")))
                .min_requests(0);
            replay_rates(case, config, "executions", "successes");
        }
        "failsafe" if peer.has("limiter_full") => replay_priorities(case),
        "sre_book" => replay_criticality(case),
        _ => case.unknown_profile(),
    }
}

/// The peers round to five digits.
fn replay_rates(case: &Case<'_>, config: throttle::Config, requests: &str, accepts: &str) {
    for step in &case.steps {
        assert_eq!(step.required::<&str>("op"), "rate", "{}", step.place);
        let found = config.probability(step.required(requests), step.required(accepts));
        let expect = step.object("expect").expect("an expectation");
        let expected: f64 = expect.required("reject_probability");
        assert!((found - expected).abs() < 1e-5, "{}: {found}", step.place);
    }
}

/// Levels from 0 to 499, a hundred to a class.
fn replay_priorities(case: &Case<'_>) {
    let peer = &case.config;
    let threshold: u32 = peer.required("rejection_threshold");
    assert!(
        threshold.is_multiple_of(100),
        "a class is refused wholly or not at all"
    );
    let is_full: bool = peer.required("limiter_full");
    let has_room = peer.optional("queue_has_room").unwrap_or(false);
    let shed = busy(u32::from(is_full), if has_room { 10 } else { 0 }).0;
    for step in &case.steps {
        assert_eq!(step.required::<&str>("op"), "acquire", "{}", step.place);
        step.skip("level");
        let tier = match step.required("priority") {
            "low" => Tier::Optional,
            "medium" => Tier::Important,
            "high" => Tier::Critical,
            other => panic!("unknown priority {other}"),
        };
        let found = match shed.admit(tier, Time::MAX, Time::ZERO) {
            Ok(Admission::Permit(_)) => "admitted",
            Ok(Admission::Queued(_)) => "queued",
            Err(_) => "rejected",
        };
        step.expect("expect", found);
    }
}

/// The peer has two classes where we have the critical tier.
fn tier(class: &str) -> Tier {
    match class {
        "CRITICAL_PLUS" | "CRITICAL" => Tier::Critical,
        "SHEDDABLE_PLUS" => Tier::Important,
        "SHEDDABLE" => Tier::Optional,
        other => panic!("unknown class {other}"),
    }
}

/// All are offered while nothing is free; then as many as the capacity are.
fn replay_criticality(case: &Case<'_>) {
    let order: Vec<&str> = case.config.required("order");
    let falls = |pair: &[&str]| tier(pair[0]).index() <= tier(pair[1]).index();
    assert!(order.windows(2).all(falls), "{order:?}");
    let step = case.only_step();
    assert_eq!(step.required::<&str>("op"), "overload");
    let capacity = step.required("capacity");
    let (shed, permits) = busy(capacity, capacity);
    let offered: Vec<&str> = step.required("offered");
    let waiting = |class| match shed.admit(tier(class), Time::MAX, Time::ZERO) {
        Ok(Admission::Queued(ticket)) => Some(ticket),
        _ => None,
    };
    let tickets: Vec<(&str, Option<Ticket>)> = offered
        .into_iter()
        .map(|class| (class, waiting(class)))
        .collect();
    for permit in permits {
        shed.record(permit, Outcome::Ignored, Default::default(), Time::ZERO);
    }
    let (mut admitted, mut rejected) = (Vec::new(), Vec::new());
    for (class, ticket) in tickets {
        match ticket.map(|ticket| shed.redeem(ticket)) {
            Some(Turn::Permit(_)) => admitted.push(class),
            Some(Turn::Refused(_)) | None => rejected.push(class),
            Some(Turn::Queued(_)) => panic!("{class} waits although a seat is free"),
        }
    }
    case.expect.expect("admitted", admitted);
    case.expect.expect("rejected", rejected);
}

/// A shedder of which so many seats are taken, and no other is free; with none taken, one is.
fn busy(taken: u32, queue: u32) -> (Shed, Vec<Permit>) {
    let config = Config::new(Limit::fixed(taken.max(1))).queue(queue);
    let shed = Shed::new(config, 1).expect("valid settings");
    let permit = |_| match shed.admit(Tier::Critical, Time::MAX, Time::ZERO) {
        Ok(Admission::Permit(permit)) => permit,
        other => panic!("a seat was free: {other:?}"),
    };
    let permits = (0..taken).map(permit).collect();
    (shed, permits)
}
