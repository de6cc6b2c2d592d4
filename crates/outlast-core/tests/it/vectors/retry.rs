//! Retries: whole calls in a virtual world, and pure arithmetic where a case gives the random
//! numbers.
//!
//! Peers differ in whether they count the first attempt; ours always does. What a peer hands to
//! its own hooks (a result that is retried, a server's pushback, a committed answer) reaches ours
//! as an [`Outcome`].

mod peers;

use std::cell::Cell;
use std::time::Duration;

use outlast_core::backoff::Backoff;
use outlast_core::call::{Request, Step};
use outlast_core::outcome::Outcome;
use outlast_core::reject::Reason;

use self::peers::Policy;
use super::{Case, Fields, millis};
use crate::world::{Ended, Reply, World, at_once};

pub(super) fn replay(case: &Case<'_>) {
    if case.config.has("server_outcome_by_index") {
        return replay_server(case);
    }
    let policy = peers::policy(case);
    if let Some(units) = case.config.optional::<Vec<f64>>("random") {
        check_arithmetic(case, &policy.backoff, &units);
        // Some cases are arithmetic alone: their waits are not those of one call.
        if !case.expect.has("attempts") {
            case.steps.iter().for_each(skip_outcome);
            return;
        }
    }
    let attempts: Vec<_> = case
        .steps
        .iter()
        .enumerate()
        .map(|at| attempt(case, at))
        .collect();
    for seed in 0..SEEDS {
        check_call(case, &policy, &attempts, Request::new(seed));
    }
}

/// What the dependency does with one attempt, and what the case calls that.
struct Attempt<'a> {
    name: String,
    reply: Outcome,
    took: Duration,
    place: &'a str,
}

fn check_call(case: &Case<'_>, policy: &Policy, attempts: &[Attempt<'_>], request: Request) {
    let upstream = policy.upstream();
    let script = |number: u32| {
        let attempt = attempts.get(number as usize - 1);
        attempt.unwrap_or_else(|| panic!("attempt {number} is one too many"))
    };
    let mut world = World::new(&upstream, |seen| {
        let attempt = script(seen.id.number());
        Reply::After(attempt.took, attempt.reply)
    });
    let ended = world.run_call(request);
    let starts: Vec<_> = world.seen.iter().map(|seen| seen.at).collect();
    let waits: Vec<Duration> = starts
        .windows(2)
        .zip(attempts)
        .map(|(pair, attempt)| pair[1].since(pair[0] + attempt.took))
        .collect();
    let last = starts.len() as u32;
    case.expect.expect("attempts", last);
    case.expect.expect(
        "start_at_ms",
        starts.iter().map(|&at| millis(at)).collect::<Vec<_>>(),
    );
    if !case.config.has("random") {
        let whole = waits.iter().map(|wait| wait.as_millis() as u64);
        case.expect.expect("waits_ms", whole.collect::<Vec<_>>());
    }
    check_ranges(case, &waits);
    check_final(&case.expect, script(last), &ended);
}

fn check_ranges(case: &Case<'_>, waits: &[Duration]) {
    let Some(ranges) = case.expect.optional::<Vec<Vec<u64>>>("wait_ranges_ms") else {
        return;
    };
    assert_eq!(waits.len(), ranges.len(), "the number of waits");
    for (wait, range) in waits.iter().zip(ranges) {
        let [least, most] = range[..] else {
            panic!("a range is a pair, not {range:?}");
        };
        let bounds = Duration::from_millis(least)..=Duration::from_millis(most);
        assert!(bounds.contains(wait), "{wait:?} is not within {bounds:?}");
    }
}

/// The driver returns the result of the last attempt; how it wraps it is a matter of types.
fn check_final(expect: &Fields<'_>, last: &Attempt<'_>, ended: &Ended) {
    assert_eq!(
        ended.outcome,
        Some(last.reply),
        "{}: the result returned",
        last.place
    );
    match (expect.required("final"), ended.step) {
        (
            "retries_exceeded_wrapping_last",
            Step::Done {
                stop: Some(stop), ..
            },
        ) => {
            assert_eq!(stop.reason, Reason::Attempts);
        }
        (expected, _) => assert_eq!(last.name, expected, "final"),
    }
}

/// The waits that `backoff` computes from given random numbers. A lone one serves every wait.
fn check_arithmetic(case: &Case<'_>, backoff: &Backoff, units: &[f64]) {
    let mut previous = Duration::ZERO;
    let mut waits = Vec::new();
    let failures = case
        .expect
        .optional("attempts")
        .unwrap_or(case.steps.len() as u64 + 1)
        - 1;
    for (waited, unit) in (0..failures as u32).zip(units.iter().cycle()) {
        previous = backoff.delay(waited, previous, *unit);
        waits.push(previous.as_secs_f64() * 1e3);
    }
    case.expect.expect("waits_ms", waits);
}

fn skip_outcome(step: &Fields<'_>) {
    step.skip("attempt");
    let outcome: &str = step.required("outcome");
    assert_eq!(
        outcome, "err",
        "{}: only failures are waited after",
        step.place
    );
}

fn attempt<'a>(case: &Case<'_>, (at, step): (usize, &'a Fields<'_>)) -> Attempt<'a> {
    let number: u64 = step.required("attempt");
    assert_eq!(
        number,
        at as u64 + 1,
        "{}: the number of the attempt",
        step.place
    );
    let (name, reply) = match step.optional::<u64>("status") {
        Some(status) => (status.to_string(), of_status(status, step)),
        None => {
            let name: &str = step.required("outcome");
            (name.to_owned(), of_name(case, name, step))
        }
    };
    let generated = case.config.optional::<Vec<Option<u64>>>("generator_ms");
    let hint = generated.and_then(|hints| hints.get(at).copied().flatten());
    Attempt {
        name,
        reply: hint.map_or(reply, |hint| overload(Duration::from_millis(hint))),
        took: Duration::from_millis(step.optional("took_ms").unwrap_or(0)),
        place: &step.place,
    }
}

fn of_name(case: &Case<'_>, name: &str, step: &Fields<'_>) -> Outcome {
    let is_retried = match case.config.optional::<&str>("retry_on_result") {
        Some(result) => ["err", result].contains(&name),
        None => ["err", "UNAVAILABLE"].contains(&name),
    };
    let ignored = case
        .config
        .optional::<Vec<&str>>("ignore")
        .unwrap_or_default();
    let committed = step.optional::<&str>("after").map(|after| {
        assert_eq!(after, "response_headers", "{}: after", step.place);
    });
    // A garbled or negative pushback asks not to come again.
    let pushback = step.optional::<&str>("pushback").map(str::parse);
    match (name, pushback) {
        ("ok" | "OK", None) => Outcome::Success,
        _ if committed.is_some() || ignored.contains(&name) => Outcome::Permanent,
        (_, Some(Ok(wait))) if is_retried => overload(Duration::from_millis(wait)),
        (_, Some(Err(_))) => Outcome::Permanent,
        (_, None) if is_retried => Outcome::Transient,
        _ => panic!("{}: unknown outcome {name}", step.place),
    }
}

/// The default classification of HTTP, as far as retries go.
fn of_status(status: u64, step: &Fields<'_>) -> Outcome {
    let seconds = step
        .object("headers")
        .map(|headers| headers.required::<&str>("Retry-After"));
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds.parse().expect("seconds")));
    match (status, retry_after) {
        (429, retry_after) => Outcome::Overload { retry_after },
        (503, Some(wait)) => overload(wait),
        (408 | 425 | 500 | 502..=504, None) => Outcome::Transient,
        (200..=299, None) => Outcome::Success,
        _ => Outcome::Permanent,
    }
}

fn overload(wait: Duration) -> Outcome {
    Outcome::Overload {
        retry_after: Some(wait),
    }
}

/// A server that answers by the number of the request, over several calls.
fn replay_server(case: &Case<'_>) {
    let (peer, step) = (&case.config, case.only_step());
    let by_index = peer
        .object("server_outcome_by_index")
        .expect("outcomes by index");
    let retryable: Vec<&str> = peer.required("retryable");
    let otherwise: &str = by_index.required("else");
    let policy = Policy {
        attempts: peer.required("max_attempts"),
        backoff: Backoff::constant(Duration::ZERO),
        limit: None,
    };
    let upstream = policy.upstream();
    let requests = Cell::new(0);
    let code = |index: u64| by_index.optional(&index.to_string()).unwrap_or(otherwise);
    let mut world = World::new(&upstream, |_| {
        let code = code(requests.replace(requests.get() + 1));
        at_once(match code {
            "OK" => Outcome::Success,
            code if retryable.contains(&code) => Outcome::Transient,
            _ => Outcome::Permanent,
        })
    });
    let op: &str = step.required("op");
    assert_eq!(op, "call");
    let mut last = Vec::new();
    for _ in 0..step.times() {
        world.run_call(Request::new(1));
        last.push(requests.get() - 1);
    }
    case.expect.expect(
        "codes",
        last.iter().map(|&index| code(index)).collect::<Vec<_>>(),
    );
    case.expect.expect("last_server_index_after_call", last);
}

/// Enough to meet both ends of a range, were one of them wrong.
const SEEDS: u64 = 64;
