//! Taking the traffic out of a zone, and giving it back.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::refuse;
use crate::State;
use crate::table::Upstream;

pub(super) async fn evacuate(
    Extract(state): Extract<Arc<State>>,
    Path(zone): Path<String>,
) -> Response {
    let done = change(&state, |upstream| upstream.policies.evacuate_zone(&zone));
    tell(
        &zone,
        "evacuated",
        done,
        "no upstream has an endpoint in this zone",
    )
}

pub(super) async fn give_back(
    Extract(state): Extract<Arc<State>>,
    Path(zone): Path<String>,
) -> Response {
    let done = change(&state, |upstream| upstream.policies.return_zone(&zone));
    tell(&zone, "returns", done, "this zone was not evacuated")
}

/// The upstreams that it concerned.
fn change(state: &State, mut done: impl FnMut(&Upstream) -> bool) -> Vec<String> {
    let table = Arc::clone(&state.tables.borrow());
    let upstreams = table.upstreams.iter().map(|entry| &*entry.upstream);
    let concerned = upstreams.filter(|upstream| done(upstream));
    concerned
        .map(|upstream| upstream.plan.name.clone())
        .collect()
}

fn tell(zone: &str, what: &str, upstreams: Vec<String>, otherwise: &str) -> Response {
    if upstreams.is_empty() {
        return refuse(StatusCode::NOT_FOUND, otherwise);
    }
    tracing::warn!(zone, ?upstreams, "a zone {what}");
    Json(json!({ "zone": zone, "state": what, "upstreams": upstreams })).into_response()
}
