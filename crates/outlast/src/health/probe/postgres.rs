//! PostgreSQL.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use outlast_core::config::ConfigError;
use tokio_postgres::{Config, NoTls};

use super::{Probing, chain};

/// Whether a PostgreSQL lets us in and answers `SELECT 1`. `settings` is a connection string,
/// `postgres://user:password@host/database` or `host=.. user=..`. For TLS or a pool, give a closure
/// with your client.
///
/// # Errors
/// If `settings` is no connection string.
pub fn postgres(settings: &str) -> Result<impl Fn() -> Probing + Send + Sync + use<>, ConfigError> {
    let config: Config = settings.parse().map_err(|_| {
        ConfigError::new(
            "health.postgres",
            "must be like postgres://user:password@host:5432/database",
        )
    })?;
    let config = Arc::new(config);
    Ok(move || -> Probing {
        let config = Arc::clone(&config);
        Box::pin(async move { select(&config).await })
    })
}

async fn select(config: &Config) -> Result<(), String> {
    let connected = config.connect(NoTls).await;
    let (client, connection) = connected.map_err(|error| chain(&error))?;
    let mut connection = pin!(connection);
    {
        let mut query = pin!(client.simple_query("SELECT 1"));
        // The connection is driven here and not on a task, so that it ends with the probe.
        poll_fn(|cx| {
            if let Poll::Ready(result) = query.as_mut().poll(cx) {
                return Poll::Ready(result.map(drop).map_err(|error| chain(&error)));
            }
            match connection.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) => Poll::Ready(Err("it closed the connection".to_owned())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(chain(&error))),
            }
        })
        .await?;
    }
    drop(client);
    // Says goodbye, if that does not take long: the answer has been given.
    poll_fn(|cx| {
        let _ = connection.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
    Ok(())
}
