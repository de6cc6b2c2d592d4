//! The documents as axum routes.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};

use super::{Answer, Health};

impl Health {
    /// `GET /health/live`, `/health/startup`, `/health/ready`, `/health/ready/GROUP` and
    /// `/health/deep`; see [`Health::answer`] and [`Health::deep`]. The deep document names what
    /// is behind this service and why it fails: serve it where strangers cannot ask.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        Router::new()
            .route("/health/live", get(from_state))
            .route("/health/startup", get(from_state))
            .route("/health/ready", get(from_state))
            .route("/health/ready/{group}", get(from_state))
            .route("/health/deep", get(deep))
            .with_state(self.clone())
    }
}

async fn from_state(State(health): State<Health>, request: Request) -> Response {
    // The original path would be another one below a nested router.
    match health.answer(request.uri().path()) {
        Some(answer) => respond(answer),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn deep(State(health): State<Health>) -> Response {
    respond(health.deep().await)
}

fn respond(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).expect("200 and 503 are statuses");
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, answer.body).into_response()
}
