//! Deadlines and hints on the wire.
//!
//! A deadline is sent as `X-Deadline` (absolute Unix seconds) together with `X-Deadline-Sent`
//! (the sender's clock when it sent it), so that the receiver takes the *difference* and the two
//! clocks need not agree. `X-Deadline` alone is read against the own clock, with an allowance for
//! skew. gRPC sends what remains, as `grpc-timeout`.
//!
//! Malformed values are ignored, as if the header were not there: a deadline is an optimisation,
//! not a command. All functions take the wall clock as an argument, except the two that are named
//! `..._now`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The absolute deadline, in Unix seconds with decimals.
pub static X_DEADLINE: HeaderName = HeaderName::from_static("x-deadline");
/// The sender's clock when it sent the deadline, in Unix seconds with decimals.
pub static X_DEADLINE_SENT: HeaderName = HeaderName::from_static("x-deadline-sent");
/// What remains of a gRPC call's deadline.
pub static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// What makes a repeated request recognisable.
pub static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How critical the feature is that a request serves: `critical`, `important` or `optional`.
pub static X_TIER: HeaderName = HeaderName::from_static("x-tier");
/// The mode of an answer that is not what the dependency would say now: `stale`, `fallback`,
/// `static`.
pub static X_DEGRADED: HeaderName = HeaderName::from_static("x-degraded");
/// When a gRPC client may try again, in milliseconds; negative for never.
pub static GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The default allowance for a sender's clock when it sent no `X-Deadline-Sent`.
pub const SKEW: Duration = Duration::from_secs(1);

/// How long the sender of these headers will wait; the least of what it says. Zero if its
/// deadline has passed, `None` if it set none.
pub fn remaining(headers: &HeaderMap, wall: SystemTime, skew: Duration) -> Option<Duration> {
    let absolute = headers
        .get(&X_DEADLINE)
        .and_then(unix_seconds)
        .map(
            |deadline| match headers.get(&X_DEADLINE_SENT).and_then(unix_seconds) {
                Some(sent) => deadline.saturating_sub(sent),
                None => (deadline.saturating_add(skew)).saturating_sub(since_unix(wall)),
            },
        );
    let relative = headers.get(&GRPC_TIMEOUT).and_then(parse_grpc_timeout);
    match (absolute, relative) {
        (Some(absolute), Some(relative)) => Some(absolute.min(relative)),
        (absolute, relative) => absolute.or(relative),
    }
}

/// [`remaining`] by the system's clock, with the default allowance for skew.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge where headers meet the clock"
)]
pub fn remaining_now(headers: &HeaderMap) -> Option<Duration> {
    remaining(headers, SystemTime::now(), SKEW)
}

/// Writes `X-Deadline` and `X-Deadline-Sent` for a caller that waits for `remaining` more.
pub fn write_deadline(headers: &mut HeaderMap, remaining: Duration, wall: SystemTime) {
    let sent = since_unix(wall);
    for (name, at) in [
        (&X_DEADLINE, sent.saturating_add(remaining)),
        (&X_DEADLINE_SENT, sent),
    ] {
        headers.insert(name, seconds(at));
    }
}

/// Seconds with six decimals. Not by `format!`, because it is done twice for every attempt, and
/// formatting takes longer than all policies together.
fn seconds(at: Duration) -> HeaderValue {
    let (mut whole, mut decimals) = (itoa::Buffer::new(), itoa::Buffer::new());
    let whole = whole.format(at.as_secs()).as_bytes();
    // Its first digit keeps the zeros behind it, and gives way to the point.
    let decimals = decimals.format(1_000_000 + at.subsec_micros()).as_bytes();
    let mut text = [b'.'; 27];
    let (point, end) = (whole.len(), whole.len() + decimals.len());
    text[..point].copy_from_slice(whole);
    text[point + 1..end].copy_from_slice(&decimals[1..]);
    HeaderValue::from_bytes(&text[..end]).expect("digits and a point are a header value")
}

/// [`write_deadline`] by the system's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge where headers meet the clock"
)]
pub fn write_deadline_now(headers: &mut HeaderMap, remaining: Duration) {
    write_deadline(headers, remaining, SystemTime::now());
}

/// Writes `grpc-timeout` for a caller that waits for `remaining` more.
pub fn write_grpc_timeout(headers: &mut HeaderMap, remaining: Duration) {
    let text = format_grpc_timeout(remaining);
    let value = HeaderValue::from_str(&text).expect("digits and a letter are a header value");
    headers.insert(&GRPC_TIMEOUT, value);
}

/// Reads a `grpc-timeout`: at most eight digits and one of `H M S m u n`.
pub fn parse_grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// A `grpc-timeout`: the finest unit that fits eight digits, rounded up, so that a deadline is
/// never shortened by its encoding.
pub fn format_grpc_timeout(timeout: Duration) -> String {
    let nanos = timeout.as_nanos();
    let units = [
        ("n", 1),
        ("u", 1_000),
        ("m", 1_000_000),
        ("S", 1_000_000_000),
    ];
    let hours = [("M", 60_000_000_000), ("H", 3_600_000_000_000)];
    for (unit, size) in units.into_iter().chain(hours) {
        let count: u128 = nanos.div_ceil(size);
        if count <= 99_999_999 {
            return format!("{count}{unit}");
        }
    }
    "99999999H".to_owned()
}

/// Reads `Retry-After`: seconds, or a date of which what remains is taken (zero once it has
/// passed).
pub fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(wall).unwrap_or_default())
}

/// Unix seconds with or without decimals, up to a billionth.
fn unix_seconds(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(decimals) {
        return None;
    }
    let billionths = format!("{decimals:0<9.9}").parse().ok()?;
    Some(Duration::new(whole.parse().ok()?, billionths))
}

fn since_unix(wall: SystemTime) -> Duration {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&HeaderName, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&HeaderName, &str)| {
            ((*name).clone(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn wall(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_difference_counts_whatever_the_clocks_say() {
        let sent = headers(&[(&X_DEADLINE, "1000.5"), (&X_DEADLINE_SENT, "1000.42")]);
        for own in [0, 1000, 4600] {
            assert_eq!(
                remaining(&sent, wall(own), SKEW),
                Some(Duration::from_millis(80))
            );
        }
    }

    #[test]
    fn alone_it_is_read_against_the_own_clock_with_an_allowance() {
        let sent = headers(&[(&X_DEADLINE, "1000")]);
        assert_eq!(
            remaining(&sent, wall(998), SKEW),
            Some(Duration::from_secs(3))
        );
        assert_eq!(remaining(&sent, wall(1001), SKEW), Some(Duration::ZERO));
        assert_eq!(
            remaining(&sent, wall(998), Duration::ZERO),
            Some(Duration::from_secs(2))
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut map = HeaderMap::new();
        let left = Duration::from_micros(1_234_567);
        write_deadline(&mut map, left, wall(1_700_000_000));
        assert_eq!(map[&X_DEADLINE], "1700000001.234567");
        assert_eq!(remaining(&map, wall(0), SKEW), Some(left));
        write_grpc_timeout(&mut map, Duration::from_millis(20));
        assert_eq!(
            remaining(&map, wall(0), SKEW),
            Some(Duration::from_millis(20))
        );
    }

    #[test]
    fn malformed_deadlines_are_as_good_as_none() {
        for text in [
            "",
            "x",
            "-1",
            "1e3",
            "1.",
            ".5",
            "1.2.3",
            "99999999999999999999",
        ] {
            assert_eq!(
                remaining(&headers(&[(&X_DEADLINE, text)]), wall(0), SKEW),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn what_the_fuzz_target_is_seeded_with_is_a_time_or_nothing() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/headers");
        for file in std::fs::read_dir(folder).unwrap() {
            let value = std::fs::read(file.unwrap().path()).unwrap();
            let value = HeaderValue::from_bytes(&value).unwrap();
            let mut map = HeaderMap::new();
            for name in [
                &X_DEADLINE,
                &X_DEADLINE_SENT,
                &GRPC_TIMEOUT,
                &header::RETRY_AFTER,
            ] {
                map.insert(name, value.clone());
                let told = remaining(&map, wall(1_700_000_000), SKEW);
                if let Some(told) = told.filter(|told| *told < Duration::from_secs(1 << 40)) {
                    let mut again = HeaderMap::new();
                    write_deadline(&mut again, told, wall(1_700_000_000));
                    let read = remaining(&again, wall(0), SKEW).unwrap();
                    assert!(
                        told.abs_diff(read) < Duration::from_micros(1),
                        "{told:?} {read:?}"
                    );
                }
                retry_after(&map, wall(1_700_000_000));
            }
        }
    }

    #[test]
    fn retry_after_comes_in_two_forms() {
        let read = |text, own| retry_after(&headers(&[(&header::RETRY_AFTER, text)]), wall(own));
        assert_eq!(read("120", 0), Some(Duration::from_secs(120)));
        let date = "Thu, 01 Jan 1970 00:01:40 GMT";
        assert_eq!(read(date, 40), Some(Duration::from_secs(60)));
        assert_eq!(read(date, 200), Some(Duration::ZERO));
        assert_eq!(
            read("99999999999999999999999", 0),
            Some(Duration::from_secs(u64::MAX))
        );
        for text in ["", "-1", "soon", "1.5"] {
            assert_eq!(read(text, 0), None, "{text}");
        }
    }
}
