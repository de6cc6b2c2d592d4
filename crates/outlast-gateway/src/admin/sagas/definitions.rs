//! Definitions: which there are, how many of their sagas have not ended, and whether they go on.

use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::response::Response;
use outlast_saga::store::{Count, Pause, State as At, Store};
use outlast_saga::{ControlError, Overview};
use serde_json::{Value, json};

use super::{Sent, by, view, with};
use crate::State;
use crate::admin::refuse;

pub(super) async fn list(Extract(state): Extract<Arc<State>>) -> Response {
    with(&state, |runner| async move {
        let definitions = runner.definitions().await.map_err(ControlError::Store)?;
        let counts = runner.store().count().await.map_err(ControlError::Store)?;
        let told = definitions.iter().map(|definition| of(definition, &counts));
        let known = |count: &&Count| definitions.iter().any(|one| has(one, count));
        // Their definitions are not in the policy file any more, and they wait for them.
        let gone = counts.iter().filter(|count| !known(count)).map(|count| {
            json!({
                "name": count.definition,
                "version": count.version,
                "state": count.state.name(),
                "sagas": count.sagas,
            })
        });
        Ok(json!({
            "definitions": told.collect::<Vec<_>>(),
            "gone": gone.collect::<Vec<_>>(),
        }))
    })
    .await
}

fn has(definition: &Overview, count: &Count) -> bool {
    let mut versions = definition.versions.iter();
    count.definition == definition.name && versions.any(|(version, _)| *version == count.version)
}

fn of(definition: &Overview, counts: &[Count]) -> Value {
    let versions = definition.versions.iter().map(|(version, hash)| {
        let sagas = |state: At| {
            let is_it = |count: &&Count| {
                let same = count.definition == definition.name && count.version == *version;
                same && count.state == state
            };
            counts.iter().find(is_it).map_or(0, |count| count.sagas)
        };
        json!({
            "version": version,
            "hash": hash,
            "open": sagas(At::Open),
            "waiting": sagas(At::Waiting),
        })
    });
    json!({
        "name": definition.name,
        "paused": definition.is_paused(),
        "last_word": definition.pause.as_ref().map(word),
        "in_flight_here": definition.done.in_flight,
        "versions": versions.collect::<Vec<_>>(),
    })
}

fn word(word: &Pause) -> Value {
    json!({
        "paused": word.is_paused,
        "by": word.by,
        "reason": word.reason,
        "at": view::time(word.at),
    })
}

pub(super) async fn pause(state: Extract<Arc<State>>, name: Path<String>, body: Sent) -> Response {
    say(state, name, body, true).await
}

pub(super) async fn resume(state: Extract<Arc<State>>, name: Path<String>, body: Sent) -> Response {
    say(state, name, body, false).await
}

async fn say(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
    body: Sent,
    pause: bool,
) -> Response {
    let by = match by(body, None) {
        Ok(by) => by,
        Err((status, detail)) => return refuse(status, &detail),
    };
    with(&state, move |runner| async move {
        if pause {
            runner.pause(&name, &by.by, &by.reason).await?;
        } else {
            runner.unpause(&name, &by.by, &by.reason).await?;
        }
        tracing::info!(
            definition = name,
            by = by.by,
            reason = by.reason,
            "sagas were {}",
            if pause { "paused" } else { "resumed" }
        );
        Ok(json!({ "name": name, "paused": pause }))
    })
    .await
}
