//! Servers: one that starts sagas and has their steps within, and one that does the steps of others.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::{Limits, Runner};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::inside;

/// Each request is a saga, and is answered when it has ended.
pub(crate) async fn serve(address: &str, file: &Path) -> Result<(), String> {
    let store = Sqlite::open(file).map_err(|error| error.to_string())?;
    let runner = Runner::new(store, [inside::order()], Limits::default());
    let runner = runner.map_err(|error| error.to_string())?;
    let number = Arc::new(AtomicU64::new(0));
    answer(address, move |_| {
        let (runner, number) = (runner.clone(), number.fetch_add(1, Ordering::Relaxed));
        async move {
            let id = format!("order-{number}");
            match inside::complete(&runner, &id).await {
                Ok(()) => (200, format!("{{\"id\":\"{id}\",\"state\":\"completed\"}}")),
                Err(error) => (500, error),
            }
        }
    })
    .await
}

/// Says that a step is done.
pub(crate) async fn service(address: &str) -> Result<(), String> {
    let done = |_| async { (200, r#"{"id":"done-of-a-book","state":"done"}"#.to_owned()) };
    answer(address, done).await
}

/// Serves until the process is asked to end.
#[expect(
    clippy::disallowed_methods,
    reason = "a server has a task per connection"
)]
async fn answer<F>(
    address: &str,
    how: impl Fn(Bytes) -> F + Clone + Send + Sync + 'static,
) -> Result<(), String>
where
    F: Future<Output = (u16, String)> + Send + 'static,
{
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| format!("{address}: {error}"))?;
    let asked = signal(SignalKind::terminate());
    let mut asked = asked.map_err(|error| error.to_string())?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // What is dropped now leaves its file in order.
            _ = asked.recv() => return Ok(()),
        };
        let (stream, _) = accepted.map_err(|error| error.to_string())?;
        // Small answers at once: nobody sends more behind them.
        let _ = stream.set_nodelay(true);
        let how = how.clone();
        let serve = service_fn(move |request: Request<Incoming>| {
            let how = how.clone();
            async move {
                let body = request.into_body().collect().await;
                let (status, text) = match body {
                    Ok(body) => how(body.to_bytes()).await,
                    Err(error) => (400, error.to_string()),
                };
                let mut response = Response::new(Full::new(Bytes::from(text)));
                *response.status_mut() = status.try_into().unwrap_or_default();
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(async move {
            let serve = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), serve);
            // A client that ends closes its connections.
            let _ = serve.await;
        });
    }
}
