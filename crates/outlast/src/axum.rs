//! For axum services: deadlines in, rejections and bulkheads out.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderName, HeaderValue, StatusCode, header};
use outlast_core::reject::{Reason, Rejection};
use serde::Serialize;

use crate::clock::instant_of;
use crate::error::Error;
use crate::upstream::Upstream;
use crate::{Clock, deadline, headers};

/// How many calls hold a seat of a bulkhead.
pub static X_BULKHEAD_ACTIVE: HeaderName = HeaderName::from_static("x-bulkhead-active");

/// Middleware that sets the current deadline from the request's headers (see
/// [`headers`]), or to `longest`, whichever is sooner. A request that comes too
/// late is rejected without work.
///
/// ```no_run
/// # use std::time::Duration;
/// # use axum::{Router, middleware, routing::get};
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello" }))
///     .layer(middleware::from_fn_with_state(
///         Duration::from_secs(3),
///         outlast::axum::with_deadline,
///     ));
/// ```
pub async fn with_deadline(
    State(longest): State<Duration>,
    request: Request,
    next: Next,
) -> Response {
    let remaining = headers::remaining_now(request.headers())
        .unwrap_or(longest)
        .min(longest);
    if remaining.is_zero() {
        return problem(&Rejection::new(Reason::Deadline));
    }
    match instant_of(Clock::Precise.now() + remaining) {
        Some(end) => deadline::scope(end, next.run(request)).await,
        None => next.run(request).await,
    }
}

/// Middleware that adds `X-Bulkhead-Active: NAME=ACTIVE/SEATS, ...` to responses, for the
/// upstreams that have a bulkhead.
pub async fn with_bulkheads(
    State(upstreams): State<Vec<Upstream>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let shown = upstreams.iter().filter_map(|upstream| {
        let stats = upstream.inner.core.bulkhead()?.stats();
        Some(format!(
            "{}={}/{}",
            upstream.name(),
            stats.active,
            stats.concurrency
        ))
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    if let (false, Ok(value)) = (shown.is_empty(), HeaderValue::from_str(&shown)) {
        response
            .headers_mut()
            .insert(X_BULKHEAD_ACTIVE.clone(), value);
    }
    response
}

/// `GET /metrics/bulkheads`: every upstream that has a bulkhead, as JSON.
pub fn routes<S: Clone + Send + Sync + 'static>(upstreams: Vec<Upstream>) -> Router<S> {
    let bulkheads = move || {
        let shown: Vec<_> = upstreams.iter().filter_map(BulkheadJson::of).collect();
        async move { Json(shown) }
    };
    Router::new().route("/metrics/bulkheads", get(bulkheads))
}

/// One bulkhead, with times in seconds.
#[derive(Serialize)]
struct BulkheadJson {
    upstream: String,
    concurrency: u32,
    accepted: u64,
    rejected: u64,
    active: u32,
    peak: u32,
    queued: u32,
    average_wait: f64,
    longest_wait: f64,
    rejection_rate: f64,
}

impl BulkheadJson {
    fn of(upstream: &Upstream) -> Option<BulkheadJson> {
        let stats = upstream.inner.core.bulkhead()?.stats();
        Some(BulkheadJson {
            upstream: upstream.name().to_owned(),
            concurrency: stats.concurrency,
            accepted: stats.accepted,
            rejected: stats.rejected,
            active: stats.active,
            peak: stats.peak,
            queued: stats.queued,
            average_wait: stats.average_wait.as_secs_f64(),
            longest_wait: stats.longest_wait.as_secs_f64(),
            rejection_rate: stats.rejection_rate,
        })
    }
}

/// A problem document (RFC 9457) with the reason, and Retry-After. The status: 502 when it is the
/// dependency's own error that ended the call (also after all attempts), 429 for the rate limit,
/// 504 for a deadline or timeout, 503 for every other rejection. It never holds the text of that
/// error, which is for logs and not for strangers.
impl<E> IntoResponse for Error<E> {
    fn into_response(self) -> Response {
        match self.rejection() {
            Some(rejection) => problem(rejection),
            None => Problem {
                title: "the dependency failed",
                status: StatusCode::BAD_GATEWAY.as_u16(),
                detail: None,
                reason: None,
                retry_after: None,
            }
            .respond(),
        }
    }
}

#[derive(Serialize)]
struct Problem {
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<f64>,
}

impl Problem {
    fn respond(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut response = (status, Json(&self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: coming back too early is what the hint is against.
            let seconds = HeaderValue::from(wait.ceil() as u64);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

fn problem(rejection: &Rejection) -> Response {
    let status = crate::http::status(rejection.reason);
    let title = if status == StatusCode::BAD_GATEWAY {
        "the dependency failed"
    } else {
        "the call was rejected"
    };
    let document = Problem {
        title,
        status: status.as_u16(),
        detail: Some(rejection.to_string()),
        reason: Some(rejection.reason.name()),
        retry_after: rejection.retry_after.map(|wait| wait.as_secs_f64()),
    };
    document.respond()
}
