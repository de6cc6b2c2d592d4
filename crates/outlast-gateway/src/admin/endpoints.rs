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

/// Replaces all of them: the same request once more changes nothing.
pub(super) async fn put(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let table = Arc::clone(&state.tables.borrow());
    let Some(upstream) = table.upstream_named(&name).cloned() else {
        let detail = format!("there is no upstream {name:?}");
        return refuse(StatusCode::NOT_FOUND, &detail);
    };
    let discovery = upstream.discovery.as_ref();
    match discovery.map(|discovery| (&discovery.plan, discovery.from())) {
        Some((Discovery::Admin, _)) => {}
        Some((_, from)) => {
            let detail = format!("the endpoints of {name} come from `{from}`");
            return refuse(StatusCode::CONFLICT, &detail);
        }
        None => {
            let detail = format!("the endpoints of {name} never change; give it `discover: admin`");
            return refuse(StatusCode::CONFLICT, &detail);
        }
    }
    let Ok(text) = std::str::from_utf8(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "the body is not UTF-8");
    };
    let told = match outlast_config::endpoints("body", text) {
        Ok(told) => told,
        Err(problems) => return refuse(StatusCode::BAD_REQUEST, &problems.to_string()),
    };
    // Certificates may have to be read, and this thread also answers probes.
    let take = tokio::task::spawn_blocking(move || {
        upstream.take(&told).map(|changed| (changed, upstream))
    });
    let (changed, upstream) = match take.await {
        Ok(Ok(taken)) => taken,
        Ok(Err(error)) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, &error),
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let members = upstream.policies.members();
    let endpoints: Vec<_> = members.iter().map(|(_, name)| name).collect();
    let (joined, left) = changed.map_or((0, 0), |Changed { joined, left, .. }| (joined, left));
    Json(json!({ "upstream": name, "endpoints": endpoints, "joined": joined, "left": left }))
        .into_response()
}
