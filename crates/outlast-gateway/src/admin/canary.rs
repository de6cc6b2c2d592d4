//! What operators do with the canary of a route.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use outlast::Clock;
use serde::Deserialize;
use serde_json::json;

use super::refuse;
use crate::State;
use crate::rollout::Action;
use crate::rollout::status::DecisionStatus;

/// What `POST /routes/NAME/canary` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    action: Action,
}

pub(super) async fn act(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let ask: Ask = match serde_json::from_slice(&body) {
        Ok(ask) => ask,
        Err(error) => {
            let mend =
                "send {\"action\": \"promote\" | \"pause\" | \"resume\" | \"abort\" | \"restart\"}";
            return refuse(StatusCode::BAD_REQUEST, &format!("{error}; {mend}"));
        }
    };
    let table = Arc::clone(&state.tables.borrow());
    let Some(route) = table.route_named(&name) else {
        let detail = format!("there is no route {name:?}");
        return refuse(StatusCode::NOT_FOUND, &detail);
    };
    let Some(canary) = &route.canary else {
        let detail = format!("the route {name:?} has no canary");
        return refuse(StatusCode::NOT_FOUND, &detail);
    };
    match canary.rollout.act(ask.action) {
        Ok(decision) => Json(json!({
            "route": name,
            "decision": DecisionStatus::of(&decision, Clock::Precise.now()),
            "canary": canary.rollout.status(),
        }))
        .into_response(),
        Err(objection) => {
            let detail = format!("the canary of {name:?}: {objection}");
            refuse(StatusCode::CONFLICT, &detail)
        }
    }
}
