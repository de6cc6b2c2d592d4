//! The endpoints of an upstream, told by an operator or by what deploys.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use outlast_config::plan::Discovery;
use serde_json::json;

use super::refuse;
use crate::State;
use crate::members::Changed;
use crate::table::Upstream;

/// Replaces all of them: the same request once more changes nothing.
pub(super) async fn put(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let Ok(text) = std::str::from_utf8(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "the body is not UTF-8");
    };
    let told = match outlast_config::endpoints("body", text) {
        Ok(told) => told,
        Err(problems) => return refuse(StatusCode::BAD_REQUEST, &problems.to_string()),
    };
    let asked = name.clone();
    // It may have to wait, and certificates may have to be read: this thread also answers probes.
    let take = tokio::task::spawn_blocking(move || {
        // A reload goes on with what was told before it, and not with what is told meanwhile.
        let _turn = state.one_at_a_time();
        let upstream = find(&state, &asked)?;
        let taken = upstream.take(&told);
        taken
            .map(|changed| (changed, upstream))
            .map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error))
    });
    let (changed, upstream) = match take.await {
        Ok(Ok(taken)) => taken,
        Ok(Err((status, detail))) => return refuse(status, &detail),
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let members = upstream.policies.members();
    let endpoints: Vec<_> = members.iter().map(|(_, name)| name).collect();
    let (joined, left) = changed.map_or((0, 0), |Changed { joined, left, .. }| (joined, left));
    Json(json!({ "upstream": name, "endpoints": endpoints, "joined": joined, "left": left }))
        .into_response()
}

/// The upstream, if it is one that is told its endpoints.
fn find(state: &State, name: &str) -> Result<Arc<Upstream>, (StatusCode, String)> {
    let table = Arc::clone(&state.tables.borrow());
    let Some(upstream) = table.upstream_named(name).cloned() else {
        let detail = format!("there is no upstream {name:?}");
        return Err((StatusCode::NOT_FOUND, detail));
    };
    let discovery = upstream.discovery.as_ref();
    let detail = match discovery.map(|discovery| (&discovery.plan, discovery.from())) {
        Some((Discovery::Admin, _)) => return Ok(upstream),
        Some((_, from)) => format!("the endpoints of {name} come from `{from}`"),
        None => format!("the endpoints of {name} never change; give it `discover: admin`"),
    };
    Err((StatusCode::CONFLICT, detail))
}
