//! Sides and verdicts, without sockets.

use std::net::Ipv4Addr;

use http::HeaderValue;
use outlast::ratio::Ratio;
use outlast::reject::{Reason, Rejection};

use super::*;

fn rollout(sticky: Sticky) -> Rollout {
    let policy = outlast::canary::Config::default().steps([30, 100].map(Ratio::percent));
    let plan = plan::Canary {
        upstream: 1,
        policy,
        sticky,
        source: "blue {}".to_owned(),
    };
    Rollout::new("r", "green", &plan).unwrap()
}

fn side(rollout: &Rollout, user: Option<&str>, client: [u8; 4], nanos: u64) -> Side {
    let mut headers = HeaderMap::new();
    if let Some(user) = user {
        headers.insert("x-user", HeaderValue::from_str(user).unwrap());
    }
    let client = || IpAddr::V4(Ipv4Addr::from(client));
    rollout
        .choose(&headers, client, Time::from_nanos(nanos))
        .side()
}

#[test]
fn a_request_sticks_by_its_header_or_its_client_or_not_at_all() {
    let share = |sides: &[Side]| {
        let new = sides.iter().filter(|&&side| side == Side::Canary).count();
        assert!((240..360).contains(&new), "{new} of 1000");
    };
    let by_user = rollout(Sticky::Header("x-user".to_owned()));
    let users = |client: u8| -> Vec<_> {
        let user = |number: u64| {
            let name = format!("user-{number}");
            side(&by_user, Some(&name), [10, 0, 0, client], number)
        };
        (0..1000).map(user).collect()
    };
    assert_eq!(users(1), users(2), "whatever the address");
    share(&users(1));
    let clients = |rollout: &Rollout, nanos: u64| -> Vec<_> {
        let client = |number: u16| {
            let [high, low] = number.to_be_bytes();
            side(rollout, None, [10, 0, high, low], nanos)
        };
        (0..1000).map(client).collect()
    };
    assert_eq!(clients(&by_user, 1), clients(&by_user, 2));
    share(&clients(&by_user, 1));
    let by_client = rollout(Sticky::Client);
    assert_eq!(clients(&by_client, 1), clients(&by_client, 2));
    share(&clients(&by_client, 1));
    let off = rollout(Sticky::Off);
    let arrivals: Vec<_> = (0..1000)
        .map(|number| side(&off, Some("one"), [10, 0, 0, 1], 1_000_000 + number * 57))
        .collect();
    share(&arrivals);
}

#[test]
fn what_became_of_a_request_counts_by_the_table() {
    let second = Duration::from_secs(1);
    let rejected = |reason| Some(fallback::Why::Rejected(Rejection::new(reason)));
    let failed = |outcome| Some(fallback::Why::Failed(outcome));
    let check = |called: Option<(Option<fallback::Why>, u32)>, settled, waited, expected| {
        let mut trial = Trial {
            side: Side::Canary,
            life: 0,
            outcome: None,
            head: None,
        };
        if let Some((why, attempts)) = called {
            trial.called(why, attempts, second);
        }
        if let Some(outcome) = settled {
            trial.settle(outcome);
        }
        assert_eq!(
            trial.verdict(waited, true),
            expected,
            "{called:?} {settled:?} {waited:?}"
        );
    };
    let (ok, error, nothing) = (Outcome::Success, Outcome::Transient, Outcome::Ignored);
    // An answer that ended, broke off, or whose client left within it.
    check(Some((None, 1)), Some(ok), second, ok);
    check(Some((None, 1)), Some(error), second, error);
    check(Some((None, 1)), None, 10 * second, nothing);
    // Failed; what stood in for it does not matter.
    check(Some((failed(error), 3)), Some(ok), second, error);
    check(
        Some((failed(Outcome::Unsent), 1)),
        None,
        second,
        Outcome::Unsent,
    );
    check(
        Some((failed(Outcome::Permanent), 1)),
        Some(Outcome::Permanent),
        second,
        Outcome::Permanent,
    );
    // Rejections of our own, and attempts without an answer.
    for reason in [Reason::Rate, Reason::Full, Reason::Open, Reason::Deadline] {
        check(Some((rejected(reason), 0)), Some(ok), second, nothing);
    }
    check(Some((rejected(Reason::Timeout), 2)), None, second, error);
    check(Some((rejected(Reason::Deadline), 1)), None, second, error);
    // The client left before there was an answer.
    check(None, None, second, error);
    check(None, None, second / 2, nothing);
}

#[test]
fn a_client_that_did_not_send_its_request_blames_nobody() {
    let trial = rollout(Sticky::Off).choose(
        &HeaderMap::new(),
        || IpAddr::V4(Ipv4Addr::LOCALHOST),
        Time::ZERO,
    );
    let long = Duration::from_secs(9);
    assert_eq!(trial.verdict(long, false), Outcome::Ignored);
    assert_eq!(trial.verdict(long, true), Outcome::Transient);
}

#[test]
fn what_began_before_a_restart_is_not_counted_after_it() {
    let rollout = rollout(Sticky::Off);
    let choose = || {
        let client = || IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut trial = rollout.choose(&HeaderMap::new(), client, Time::from_nanos(7));
        trial.settle(Outcome::Success);
        trial
    };
    let later = |seconds| Clock::Precise.now() + Duration::from_secs(seconds);
    let calls = || rollout.stats().baseline.calls + rollout.stats().canary.calls;
    let early = choose();
    rollout.act(Action::Abort).unwrap();
    rollout.act(Action::Restart).unwrap();
    rollout.record(&early, Duration::ZERO, true);
    rollout.step(later(2));
    assert_eq!(calls(), 0);
    rollout.record(&choose(), Duration::ZERO, true);
    rollout.step(later(4));
    assert_eq!(calls(), 1);
}

#[test]
fn what_makes_no_sense_is_answered_with_a_reason() {
    let rollout = rollout(Sticky::Off);
    let refused = |action| rollout.act(action).unwrap_err();
    assert_eq!(refused(Action::Resume), "it is not paused");
    assert_eq!(refused(Action::Restart), "it is not over; `abort` it first");
    rollout.act(Action::Pause).unwrap();
    assert_eq!(refused(Action::Pause), "it is paused already");
    rollout.act(Action::Resume).unwrap();
    rollout.act(Action::Promote).unwrap();
    rollout.act(Action::Promote).unwrap();
    for action in [
        Action::Promote,
        Action::Pause,
        Action::Resume,
        Action::Abort,
    ] {
        assert_eq!(refused(action), "it is over; `restart` begins again");
    }
    rollout.act(Action::Restart).unwrap();
    let decided: Vec<_> = rollout.decided().collect();
    assert_eq!(
        decided,
        [
            ("promoted", 1),
            ("done", 1),
            ("rolled_back", 0),
            ("paused", 1),
            ("resumed", 1),
            ("restarted", 1)
        ]
    );
}

#[test]
fn looks_are_a_second_apart_whoever_asks() {
    let rollout = rollout(Sticky::Off);
    let start = Clock::Precise.now();
    let client = || IpAddr::V4(Ipv4Addr::LOCALHOST);
    let calls = |after: u64| {
        let mut trial = rollout.choose(&HeaderMap::new(), client, Time::from_nanos(after));
        trial.settle(Outcome::Success);
        rollout.record(&trial, Duration::ZERO, true);
        rollout.step(start + Duration::from_millis(after));
        rollout.stats().baseline.calls + rollout.stats().canary.calls
    };
    assert_eq!([500, 1100, 1500, 2050, 2200].map(calls), [0, 2, 2, 2, 5]);
}

/// The algorithm's published test vectors.
#[test]
fn the_hash_is_fnv_1a() {
    for (text, expected) in [
        ("", 0xcbf2_9ce4_8422_2325),
        ("a", 0xaf63_dc4c_8601_ec8c),
        ("foobar", 0x8594_4171_f739_67e8),
    ] {
        assert_eq!(hash(text.bytes()), expected, "{text}");
    }
}
