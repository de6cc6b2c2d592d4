//! What HTTP results mean, and which requests may be repeated.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use outlast_core::outcome::Outcome;
use outlast_core::reject::Reason;

use crate::classify::Classify;
use crate::headers;

/// Judges `Result<http::Response<_>, E>` by its status; an error is transient.
///
/// | status | outcome |
/// |---|---|
/// | 429, and 503 with Retry-After | overload, with the hint |
/// | 408, 425, 500, 502, 503, 504 | transient |
/// | other 5xx | permanent |
/// | everything else | success |
///
/// A 4xx is a success of the *dependency*: it did its work and found the request wanting.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByStatus;

impl<B, E> Classify<Result<Response<B>, E>> for ByStatus {
    #[expect(clippy::disallowed_methods, reason = "a Retry-After may be a date")]
    fn classify(&self, result: &Result<Response<B>, E>) -> Outcome {
        match result {
            Ok(response) => outcome(response.status(), response.headers(), SystemTime::now()),
            Err(_) => Outcome::Transient,
        }
    }
}

/// What a response with this status and these headers means, read at `wall`.
pub fn outcome(status: StatusCode, headers: &HeaderMap, wall: SystemTime) -> Outcome {
    let retry_after = || headers::retry_after(headers, wall);
    match status.as_u16() {
        429 => Outcome::Overload {
            retry_after: retry_after(),
        },
        503 => match retry_after() {
            None => Outcome::Transient,
            retry_after => Outcome::Overload { retry_after },
        },
        408 | 425 | 500 | 502 | 504 => Outcome::Transient,
        500..=599 => Outcome::Permanent,
        _ => Outcome::Success,
    }
}

/// What a gRPC call means that ended with this code and this `grpc-retry-pushback-ms`.
///
/// | code | outcome |
/// |---|---|
/// | `UNAVAILABLE`, `DEADLINE_EXCEEDED`, `ABORTED`, `INTERNAL`, `UNKNOWN` | transient |
/// | `RESOURCE_EXHAUSTED` | overload |
/// | `UNIMPLEMENTED`, `DATA_LOSS` | permanent |
/// | `CANCELLED` | ignored |
/// | everything else | success: the dependency did its work |
///
/// A pushback turns a transient code into an overload with that hint; a negative or garbled one
/// says never to retry, and makes it permanent (gRFC A6). A code that gRPC does not define is
/// `UNKNOWN`.
pub fn grpc_outcome(code: u32, pushback: Option<&HeaderValue>) -> Outcome {
    const CANCELLED: u32 = 1;
    const RESOURCE_EXHAUSTED: u32 = 8;
    const UNIMPLEMENTED: u32 = 12;
    const DATA_LOSS: u32 = 15;
    match code {
        CANCELLED => Outcome::Ignored,
        UNIMPLEMENTED | DATA_LOSS => Outcome::Permanent,
        // UNKNOWN, DEADLINE_EXCEEDED, ABORTED, INTERNAL, UNAVAILABLE.
        2 | 4 | 10 | 13 | 14 | RESOURCE_EXHAUSTED | 17.. => match pushback.map(millis) {
            None if code == RESOURCE_EXHAUSTED => Outcome::Overload { retry_after: None },
            None => Outcome::Transient,
            Some(None) => Outcome::Permanent,
            Some(retry_after) => Outcome::Overload { retry_after },
        },
        _ => Outcome::Success,
    }
}

fn millis(pushback: &HeaderValue) -> Option<Duration> {
    let millis: i32 = pushback.to_str().ok()?.parse().ok()?;
    u64::try_from(millis).ok().map(Duration::from_millis)
}

/// The status for a call that a policy ended: 502 when it was the dependency that failed (also
/// after all attempts), 429 for the rate limit, 504 for a deadline or timeout, 503 for every other
/// reason.
pub fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::Attempts | Reason::NotIdempotent => StatusCode::BAD_GATEWAY,
        Reason::Rate => StatusCode::TOO_MANY_REQUESTS,
        Reason::Deadline | Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The gRPC code for a call that a policy ended: `DEADLINE_EXCEEDED` for a deadline or timeout,
/// `RESOURCE_EXHAUSTED` for the rate limit, a full bulkhead, a shed and a throttled call (whoever sees it
/// as an overload comes back later, not at once), `UNAVAILABLE` for every other
/// reason.
pub fn grpc_status(reason: Reason) -> u32 {
    match reason {
        Reason::Deadline | Reason::Timeout => 4,
        Reason::Rate | Reason::Full | Reason::QueueTimeout | Reason::Shed | Reason::Throttled => 8,
        _ => 14,
    }
}

/// Whether a request may be made twice: its method is idempotent (RFC 9110, 9.2.2), or it
/// carries an `Idempotency-Key`.
pub fn is_repeatable(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() || headers.contains_key(&headers::IDEMPOTENCY_KEY)
}

/// Repeats HTTP requests that may be repeated and tells the dependency the deadline of each
/// attempt, for a [layer](crate::Upstream::layer) around a client whose bodies can be cloned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idempotent;

#[cfg(feature = "tower")]
impl<B: Clone> crate::Repeat<http::Request<B>> for Idempotent {
    fn copy(&self, request: &http::Request<B>) -> Option<http::Request<B>> {
        is_repeatable(request.method(), request.headers()).then(|| request.clone())
    }

    fn prepare(&self, request: &mut http::Request<B>, attempt: &crate::Attempt) {
        prepare(request.headers_mut(), attempt);
    }
}

#[cfg(feature = "tower")]
impl crate::Upstream {
    /// [`Upstream::layer`](crate::Upstream::layer) for HTTP clients: responses are judged by
    /// [`ByStatus`], and requests repeated by the rule of [`Idempotent`].
    pub fn http_layer(&self) -> crate::Layer<ByStatus, Idempotent> {
        self.layer().classify(ByStatus).repeat(Idempotent)
    }
}

/// Writes the deadline of an attempt into the headers of its request, if it has one.
pub fn prepare(headers: &mut HeaderMap, attempt: &crate::Attempt) {
    if let Some(remaining) = attempt.remaining() {
        headers::write_deadline_now(headers, remaining);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::HeaderValue;
    use http::header::RETRY_AFTER;

    use super::*;

    fn judge(status: u16, retry_after: Option<&'static str>) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(text) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
        }
        outcome(StatusCode::from_u16(status).unwrap(), &headers, UNIX_EPOCH)
    }

    #[test]
    fn statuses_mean_what_the_table_says() {
        for status in [200, 204, 302, 400, 401, 404, 409, 410, 418, 422, 451] {
            assert_eq!(judge(status, None), Outcome::Success, "{status}");
        }
        for status in [408, 425, 500, 502, 503, 504] {
            assert_eq!(judge(status, None), Outcome::Transient, "{status}");
        }
        for status in [501, 505, 507, 511] {
            assert_eq!(judge(status, None), Outcome::Permanent, "{status}");
        }
        assert_eq!(judge(429, None), Outcome::Overload { retry_after: None });
        let hint = Some(Duration::from_secs(7));
        assert_eq!(
            judge(429, Some("7")),
            Outcome::Overload { retry_after: hint }
        );
        assert_eq!(
            judge(503, Some("7")),
            Outcome::Overload { retry_after: hint }
        );
        assert_eq!(judge(503, Some("soon")), Outcome::Transient);
    }

    #[test]
    fn post_and_patch_need_a_key() {
        let mut headers = HeaderMap::new();
        for method in [
            Method::GET,
            Method::HEAD,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
        ] {
            assert!(is_repeatable(&method, &headers), "{method}");
        }
        assert!(!is_repeatable(&Method::POST, &headers));
        assert!(!is_repeatable(&Method::PATCH, &headers));
        headers.insert(
            &headers::IDEMPOTENCY_KEY,
            HeaderValue::from_static("order-17"),
        );
        assert!(is_repeatable(&Method::POST, &headers));
    }
}
