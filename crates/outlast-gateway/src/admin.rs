//! The operators' listener: health, metrics, state, and the few things that can be changed.
//!
//! It runs on a thread of its own, so that it answers while the workers are busy, and a scrape
//! costs no request anything. Reading is free; what changes something needs the bearer token, if
//! one is configured, and without one is allowed from this machine only: an address that is not
//! loopback is refused at the start.

mod canary;
mod endpoints;
mod queues;
mod sagas;
mod zones;

use std::env::VarError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Request, State as Extract};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use outlast::breaker::Manual;
use outlast_config::plan::{Admin, Secret};
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Runtime;

pub(crate) use self::queues::age;
pub(crate) use self::sagas::{new_id, time};
use crate::status::{Status, bulkheads};
use crate::worker::Phase;
use crate::{StartError, State, arrivals, prometheus};

/// The runtime of the admin listener, and of what is probed in the background.
pub(crate) fn runtime() -> Result<Runtime, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| StartError(format!("a runtime could not be started: {error}")))
}

/// Serves operators until the process ends; where it listens.
pub(crate) fn start(
    admin: &Admin,
    runtime: Runtime,
    state: &Arc<State>,
) -> Result<SocketAddr, StartError> {
    let address = admin.address;
    let token = admin.token.as_ref().map(read_secret).transpose();
    let token = token.map_err(|error| StartError(format!("the admin token: {error}")))?;
    if token.is_none() && !address.ip().is_loopback() {
        return Err(StartError(format!(
            "gateway.admin listens on {address}, which others can reach; give it a token"
        )));
    }
    let failed = |error: io::Error| StartError(format!("could not listen on {address}: {error}"));
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let _ = state.admin_token.set(token.map(Into::into));
    let routes = routes(Arc::clone(state));
    let mut phases = state.phases.subscribe();
    let watch = arrivals::watch(Arc::clone(state));
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let ends = async move {
            let _ = phases.wait_for(|phase| *phase == Phase::Stopped).await;
        };
        tokio::select! {
            served = axum::serve(listener, routes).into_future() => served,
            () = ends => Ok(()),
            () = watch => Ok(()),
        }
    };
    std::thread::Builder::new()
        .name("outlast-admin".to_owned())
        .spawn(move || {
            if let Err(error) = runtime.block_on(serve) {
                tracing::error!(%error, "the admin listener ended");
            }
        })
        .map_err(failed)?;
    Ok(bound)
}

/// A secret from where it is kept.
pub(crate) fn read_secret(secret: &Secret) -> Result<String, String> {
    let (place, text) = match secret {
        Secret::File(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let line = text.lines().next().unwrap_or_default().trim().to_owned();
            (path.display().to_string(), line)
        }
        Secret::Environment(name) => match std::env::var(name) {
            Ok(text) => (name.clone(), text),
            Err(VarError::NotPresent) => return Err(format!("{name} is not set")),
            Err(VarError::NotUnicode(_)) => return Err(format!("{name} is no UTF-8")),
        },
    };
    if text.is_empty() {
        return Err(format!("{place} is empty"));
    }
    Ok(text)
}

fn routes(state: Arc<State>) -> Router {
    let latest = state.latest.as_ref().expect("there is an admin listener");
    let grpc_health = latest.grpc_service();
    let changing = Router::new()
        .route("/upstreams/{name}/breaker", post(force_breaker))
        .route("/upstreams/{name}/endpoints", put(endpoints::put))
        .route("/routes/{name}/canary", post(canary::act))
        .route("/degrade", post(degrade))
        .route("/zones/{name}/evacuate", post(zones::evacuate))
        .route("/zones/{name}/return", post(zones::give_back))
        .route("/reload", post(reload))
        .route("/drain", post(drain))
        .merge(queues::routes())
        .merge(sagas::routes(&state))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&state),
            authorize,
        ));
    Router::new()
        .route("/health/{*what}", get(health))
        .route_service("/grpc.health.v1.Health/{method}", grpc_health)
        .route("/metrics", get(metrics))
        .route("/metrics/bulkheads", get(bulkhead_metrics))
        .route("/status", get(status))
        .merge(changing)
        .with_state(state)
}

async fn authorize(Extract(state): Extract<Arc<State>>, request: Request, next: Next) -> Response {
    // A page in an operator's browser must not be able to change anything either.
    if request.headers().contains_key(header::ORIGIN) {
        return refuse(
            StatusCode::FORBIDDEN,
            "requests of web pages are not accepted",
        );
    }
    let Some(token) = state.admin_token.get().and_then(Option::as_ref) else {
        return next.run(request).await;
    };
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if given.is_some_and(|given| same(given, token.as_bytes())) {
        return next.run(request).await;
    }
    let mut refused = refuse(StatusCode::UNAUTHORIZED, "this needs the admin token");
    refused.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        header::HeaderValue::from_static("Bearer"),
    );
    refused
}

/// Compares in a time that does not tell where they differ.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differing = given.iter().zip(token).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == token.len() && differing == 0
}

async fn health(Extract(state): Extract<Arc<State>>, uri: Uri) -> Response {
    let vitals = state.tables.borrow().vitals.clone();
    let Some(answer) = vitals
        .expect("there is an admin listener")
        .answer(uri.path())
        .await
    else {
        return refuse(StatusCode::NOT_FOUND, "there is no such document");
    };
    let status = StatusCode::from_u16(answer.status).expect("health answers with statuses");
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, answer.body).into_response()
}

async fn metrics(Extract(state): Extract<Arc<State>>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let counts = match &state.sagas {
        Some(sagas) => sagas.count().await,
        None => None,
    };
    let page = prometheus::render(&state, counts.as_deref());
    ([(header::CONTENT_TYPE, kind)], page)
}

async fn bulkhead_metrics(Extract(state): Extract<Arc<State>>) -> impl IntoResponse {
    Json(bulkheads(&state.tables.borrow()))
}

async fn status(Extract(state): Extract<Arc<State>>) -> impl IntoResponse {
    Json(Status::of(&state))
}

/// What `POST /upstreams/NAME/breaker` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Force {
    force: Forced,
    /// All endpoints, if it is left out.
    endpoint: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Forced {
    Open,
    Closed,
    Auto,
}

async fn force_breaker(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let force: Force = match serde_json::from_slice(&body) {
        Ok(force) => force,
        Err(error) => {
            let mend = "send {\"force\": \"open\" | \"closed\" | \"auto\", \"endpoint\": NAME}";
            return refuse(StatusCode::BAD_REQUEST, &format!("{error}; {mend}"));
        }
    };
    let table = Arc::clone(&state.tables.borrow());
    let Some(upstream) = table.upstream_named(&name) else {
        return refuse(
            StatusCode::NOT_FOUND,
            &format!("there is no upstream {name:?}"),
        );
    };
    let manual = match force.force {
        Forced::Open => Manual::Open,
        Forced::Closed => Manual::Closed,
        Forced::Auto => Manual::Auto,
    };
    let members = upstream.policies.members();
    let names = members.iter().map(|(_, name)| name);
    let meant = names.filter(|name| force.endpoint.as_deref().is_none_or(|only| only == *name));
    let forced: Vec<_> = meant
        .filter(|name| upstream.policies.force_breaker(name, manual))
        .collect();
    if forced.is_empty() {
        return refuse(
            StatusCode::NOT_FOUND,
            "there is no such endpoint, or it has no breaker",
        );
    }
    tracing::info!(upstream = name, endpoints = ?forced, ?manual, "breakers were forced");
    Json(json!({ "upstream": name, "endpoints": forced })).into_response()
}

/// What `POST /degrade` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mode {
    /// The name of a mode, `normal`, or `auto` to follow the signals again.
    mode: String,
    /// For how long.
    #[serde(rename = "for")]
    lasts: Option<String>,
}

async fn degrade(Extract(state): Extract<Arc<State>>, body: Bytes) -> Response {
    let table = Arc::clone(&state.tables.borrow());
    let Some(degrade) = table.degrade.as_ref().map(|degrade| &degrade.state) else {
        return refuse(StatusCode::NOT_FOUND, "the plan has no `degrade`");
    };
    let Mode { mode, lasts } = match serde_json::from_slice(&body) {
        Ok(mode) => mode,
        Err(error) => {
            let mend = "send {\"mode\": NAME | \"normal\" | \"auto\", \"for\": \"10m\"}";
            return refuse(StatusCode::BAD_REQUEST, &format!("{error}; {mend}"));
        }
    };
    if mode == "auto" {
        if lasts.is_some() {
            let mend = "`auto` lasts until the next decision: leave `for` out";
            return refuse(StatusCode::BAD_REQUEST, mend);
        }
        degrade.release();
    } else {
        let lasts = match lasts
            .as_deref()
            .map_or(Ok(FORCED), outlast_config::duration)
        {
            Ok(lasts) if (Duration::from_secs(1)..=LONGEST_FORCED).contains(&lasts) => lasts,
            Ok(_) => return refuse(StatusCode::BAD_REQUEST, "`for` lies between 1s and 24h"),
            Err(mend) => return refuse(StatusCode::BAD_REQUEST, &format!("for: {mend}")),
        };
        if let Err(error) = degrade.force(&mode, lasts) {
            return refuse(StatusCode::NOT_FOUND, &error.to_string());
        }
    }
    Json(Status::of(&state).degrade).into_response()
}

/// What a hand decides without saying for how long; nobody is left in a mode by a lapse of memory.
const FORCED: Duration = Duration::from_secs(60 * 60);
const LONGEST_FORCED: Duration = Duration::from_secs(24 * 60 * 60);

async fn reload(Extract(state): Extract<Arc<State>>) -> Response {
    let Some(source) = state.options.reload.clone() else {
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            "this gateway has no file to reload",
        );
    };
    // Reading and building may take a while, and this thread also answers probes.
    let reloaded = tokio::task::spawn_blocking(move || {
        let plan = source()?;
        state.reload(plan).map_err(|error| error.to_string())
    });
    match reloaded.await {
        Ok(Ok(reloaded)) => Json(json!({ "reloaded": reloaded.to_string() })).into_response(),
        Ok(Err(error)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &error),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn drain(Extract(state): Extract<Arc<State>>) -> Response {
    state.drain();
    let body = Json(json!({ "draining": true }));
    (StatusCode::ACCEPTED, body).into_response()
}

fn refuse(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("error");
    let problem = json!({
        "type": "about:blank",
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
    });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, problem.to_string()).into_response()
}
