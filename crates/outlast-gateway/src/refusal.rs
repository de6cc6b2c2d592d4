//! Answers of the gateway itself, in the client's language.
//!
//! HTTP clients get a problem document (RFC 9457) that says why, of which upstream, and when to
//! come back; gRPC clients get a trailers-only response with the status that their libraries act
//! on, and the pushback that makes them wait.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use outlast::reject::Rejection;
use serde::Serialize;

use crate::answer::Body;
use crate::journal::Refused;
use crate::queues::Refused as Unqueued;

/// Why the gateway answers itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request is no HTTP, or could be read in two ways.
    Malformed(&'static str),
    /// Its target is longer than the limit.
    TargetTooLong,
    /// Its body is larger than the limit.
    BodyTooLarge,
    /// It expects something else than `100-continue`.
    ExpectationFailed,
    /// It is HTTP that this gateway does not speak.
    NotSupported(&'static str),
    /// No route takes it.
    NoRoute,
    /// The client stopped sending its body.
    BodyIncomplete,
    /// A policy said no.
    Rejected {
        upstream: String,
        rejection: Rejection,
    },
    /// No endpoint gave an answer.
    Unreachable {
        upstream: String,
        retry_after: Option<Duration>,
    },
    /// A mode has switched it off.
    Degraded {
        /// A feature or a route.
        what: String,
        mode: String,
        retry_after: Duration,
    },
    /// Only one provider may do it, and this one is not known to be it.
    Withheld { upstream: String, refused: Refused },
    /// It should be queued, and was not.
    Unqueued { queue: String, refused: Unqueued },
    /// No queue knows of it.
    NotQueued,
    /// What a queue knows of it cannot be read.
    QueueUnread { queue: String },
    /// As within, and a provider may have done it; no other was asked.
    InDoubt(Box<Refusal>),
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Http,
    Grpc,
}

impl Dialect {
    pub(crate) fn of(headers: &HeaderMap) -> Dialect {
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        match kind.and_then(|kind| kind.strip_prefix(b"application/grpc")) {
            Some([] | [b'+' | b';', ..]) => Dialect::Grpc,
            _ => Dialect::Http,
        }
    }
}

impl Refusal {
    /// The answer.
    pub(crate) fn answer(&self, dialect: Dialect) -> Response<Body> {
        match dialect {
            Dialect::Http => self.problem(),
            Dialect::Grpc => self.grpc(),
        }
    }

    /// A stable snake_case word for logs, metrics and problem documents.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "malformed",
            Refusal::TargetTooLong => "target_too_long",
            Refusal::BodyTooLarge => "body_too_large",
            Refusal::ExpectationFailed => "expectation_failed",
            Refusal::NotSupported(_) => "not_supported",
            Refusal::NoRoute => "no_route",
            Refusal::BodyIncomplete => "body_incomplete",
            Refusal::Rejected { rejection, .. } => rejection.reason.name(),
            Refusal::Unreachable { .. } => "unreachable",
            Refusal::Degraded { .. } => "degraded",
            Refusal::Withheld { refused, .. } => match refused {
                Refused::Held => "held",
                Refused::Full => "journal_full",
                Refused::Unwritten => "journal_unwritten",
            },
            Refusal::Unqueued { refused, .. } => refused.name(),
            Refusal::NotQueued => "not_queued",
            Refusal::QueueUnread { .. } => "queue_unread",
            Refusal::InDoubt(_) => "in_doubt",
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::TargetTooLong => StatusCode::URI_TOO_LONG,
            Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Refusal::NotSupported(_) => StatusCode::NOT_IMPLEMENTED,
            Refusal::NoRoute => StatusCode::NOT_FOUND,
            Refusal::BodyIncomplete => StatusCode::BAD_REQUEST,
            Refusal::Rejected { rejection, .. } => outlast::http::status(rejection.reason),
            Refusal::Unreachable { .. } => StatusCode::BAD_GATEWAY,
            Refusal::Degraded { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Withheld { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Unqueued { refused, .. } => match refused {
                Unqueued::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
                Unqueued::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
                Unqueued::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                Unqueued::Full | Unqueued::Unwritten | Unqueued::InDoubt => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
            },
            Refusal::NotQueued => StatusCode::NOT_FOUND,
            Refusal::QueueUnread { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::InDoubt(why) => why.status(),
        }
    }

    /// Whether what follows on the connection cannot be trusted.
    fn closes(&self) -> bool {
        match self {
            Refusal::Malformed(_)
            | Refusal::TargetTooLong
            | Refusal::BodyTooLarge
            | Refusal::ExpectationFailed
            | Refusal::NotSupported(_)
            | Refusal::BodyIncomplete => true,
            Refusal::NoRoute
            | Refusal::Rejected { .. }
            | Refusal::Unreachable { .. }
            | Refusal::Degraded { .. }
            | Refusal::Withheld { .. }
            | Refusal::Unqueued { .. }
            | Refusal::NotQueued
            | Refusal::QueueUnread { .. }
            | Refusal::InDoubt(_) => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::Rejected { rejection, .. } => rejection.retry_after,
            Refusal::Unreachable { retry_after, .. } => *retry_after,
            Refusal::Degraded { retry_after, .. } => Some(*retry_after),
            Refusal::Withheld { .. } => Some(WITHHELD),
            Refusal::Unqueued { refused, .. } => {
                (*refused != Unqueued::KeyReused).then_some(UNQUEUED)
            }
            Refusal::QueueUnread { .. } => Some(UNQUEUED),
            Refusal::InDoubt(why) => why.retry_after(),
            _ => None,
        }
    }

    fn upstream(&self) -> Option<&str> {
        match self {
            Refusal::Rejected { upstream, .. }
            | Refusal::Unreachable { upstream, .. }
            | Refusal::Withheld { upstream, .. } => Some(upstream),
            Refusal::InDoubt(why) => why.upstream(),
            _ => None,
        }
    }

    fn detail(&self) -> String {
        match self {
            Refusal::Malformed(what) | Refusal::NotSupported(what) => (*what).to_owned(),
            Refusal::TargetTooLong => "the request target is longer than allowed".to_owned(),
            Refusal::BodyTooLarge => "the request body is larger than allowed".to_owned(),
            Refusal::ExpectationFailed => "only Expect: 100-continue is understood".to_owned(),
            Refusal::NoRoute => "no route takes this method, host and path".to_owned(),
            Refusal::BodyIncomplete => "the request body ended early or is malformed".to_owned(),
            Refusal::Rejected { rejection, .. } => rejection.to_string(),
            // What exactly went wrong is for the log and `/status`, not for strangers.
            Refusal::Unreachable { .. } => "no endpoint gave an answer".to_owned(),
            Refusal::Degraded { what, mode, .. } => {
                format!("{what} is switched off while the mode is {mode}")
            }
            Refusal::Withheld { refused, .. } => refused.to_string(),
            Refusal::Unqueued { queue, refused } => format!(
                "the request was not done, and not taken by the queue {queue}: {}",
                refused.detail()
            ),
            Refusal::NotQueued => "there is no such request, or it was done long ago".to_owned(),
            Refusal::QueueUnread { queue } => format!(
                "what became of the request is not known now, because the store of the queue {queue} \
                 does not answer; ask again"
            ),
            Refusal::InDoubt(why) => format!(
                "{}; whether the request was carried out is not known, so no other provider was \
                 asked: repeat it with the same idempotency key",
                why.detail()
            ),
        }
    }

    fn problem(&self) -> Response<Body> {
        let status = self.status();
        let document = Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("error"),
            status: status.as_u16(),
            detail: self.detail(),
            reason: self.reason(),
            upstream: self.upstream(),
            retry_after: self.retry_after().map(|wait| wait.as_secs_f64()),
        };
        let text = serde_json::to_vec(&document).expect("text and numbers are JSON");
        let mut response = Response::new(Body::from(Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(wait) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        if self.closes() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn grpc(&self) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        status_fields(headers, self.code(), &self.detail());
        if let Some(wait) = self.retry_after() {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            headers.insert(GRPC_PUSHBACK.clone(), millis.min(i32::MAX as u64).into());
        }
        response
    }

    /// The gRPC status (the mapping of HTTP statuses is gRPC's own).
    fn code(&self) -> u32 {
        match self {
            Refusal::Malformed(_) | Refusal::TargetTooLong | Refusal::ExpectationFailed => INTERNAL,
            Refusal::BodyTooLarge => RESOURCE_EXHAUSTED,
            Refusal::NotSupported(_) | Refusal::NoRoute => UNIMPLEMENTED,
            Refusal::BodyIncomplete => CANCELLED,
            Refusal::Rejected { rejection, .. } => outlast::http::grpc_status(rejection.reason),
            Refusal::Unreachable { .. }
            | Refusal::Degraded { .. }
            | Refusal::Withheld { .. }
            | Refusal::Unqueued { .. }
            | Refusal::QueueUnread { .. } => UNAVAILABLE,
            Refusal::NotQueued => UNIMPLEMENTED,
            Refusal::InDoubt(why) => why.code(),
        }
    }
}

/// The two fields of a gRPC status, in a head or in trailers.
pub(crate) fn status_fields(headers: &mut HeaderMap, code: u32, message: &str) {
    headers.insert(GRPC_STATUS.clone(), code.into());
    let message = percent_encoded(message);
    headers.insert(
        GRPC_MESSAGE.clone(),
        HeaderValue::from_str(&message).expect("what is not plain text is encoded"),
    );
}

/// The status of a gRPC call.
pub(crate) static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// When a gRPC client may come back, in milliseconds.
pub(crate) static GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// A provider that another request waits for has mostly answered by then.
const WITHHELD: Duration = Duration::from_secs(1);
/// What is in a queue is delivered in seconds once it is delivered at all.
const UNQUEUED: Duration = Duration::from_secs(10);
const CANCELLED: u32 = 1;
/// The deadline has come.
pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
/// The other end went away.
pub(crate) const UNAVAILABLE: u32 = 14;

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<f64>,
}

/// Rounded up, and at least one: a client that comes back too early is turned away again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_nanos()
        .div_ceil(1_000_000_000)
        .max(1)
        .min(u128::from(u64::MAX)) as u64
}

/// The encoding of `grpc-message`.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use outlast::reject::Reason;

    use super::*;

    #[test]
    fn grpc_is_recognised_by_its_content_type() {
        for (kind, expected) in [
            ("application/grpc", Dialect::Grpc),
            ("application/grpc+proto", Dialect::Grpc),
            ("application/grpc;x", Dialect::Grpc),
            ("application/grpc-web", Dialect::Http),
            ("application/json", Dialect::Http),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(Dialect::of(&headers), expected, "{kind}");
        }
    }

    #[test]
    fn both_dialects_tell_when_to_come_back() {
        let refusal = Refusal::Rejected {
            upstream: "payment".to_owned(),
            rejection: Rejection::after(Reason::Open, Duration::from_millis(1200)),
        };
        let http = refusal.answer(Dialect::Http);
        assert_eq!(http.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(http.headers()[header::RETRY_AFTER], "2");
        let grpc = refusal.answer(Dialect::Grpc);
        assert_eq!(grpc.status(), StatusCode::OK);
        assert_eq!(grpc.headers()[&GRPC_STATUS], "14");
        assert_eq!(grpc.headers()[&GRPC_PUSHBACK], "1200");
    }

    #[test]
    fn a_message_survives_its_header() {
        assert_eq!(percent_encoded("50 % \u{e4}\n"), "50 %25 %C3%A4%0A");
    }
}
