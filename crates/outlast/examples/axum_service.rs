//! An axum service whose one dependency is behind a bulkhead and a breaker.
//!
//! ```text
//! cargo run --example axum_service --features axum
//! curl -i localhost:3000/stock/7
//! curl -i -H 'x-deadline: 100.05' -H 'x-deadline-sent: 100.0' localhost:3000/stock/13
//! curl localhost:3000/metrics/bulkheads
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "sleeping stands in for the work of a dependency"
)]

use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Router, middleware};
use outlast::{Config, Error, Upstream, bulkhead};
use tokio::net::TcpListener;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::standard("inventory").bulkhead(bulkhead::Config::new(10).queue(20));
    let inventory = Upstream::new(config)?;
    let shown = vec![inventory.clone()];
    let app = Router::new()
        .route("/stock/{item}", get(stock))
        .with_state(inventory)
        .merge(outlast::axum::routes(shown.clone()))
        .layer(middleware::from_fn_with_state(
            shown,
            outlast::axum::with_bulkheads,
        ))
        .layer(middleware::from_fn_with_state(
            LONGEST,
            outlast::axum::with_deadline,
        ));
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// No request works longer than this, whatever its caller says.
const LONGEST: Duration = Duration::from_secs(3);

/// A rejection or the dependency's error becomes a problem document by itself.
async fn stock(
    State(inventory): State<Upstream>,
    Path(item): Path<u32>,
) -> Result<String, Error<&'static str>> {
    inventory
        .call(|_| count(item))
        .await
        .map(|count| format!("{count} of item {item}\n"))
}

/// Item 13 is slow, and there is nothing above 99.
async fn count(item: u32) -> Result<u32, &'static str> {
    sleep(Duration::from_millis(if item == 13 { 1000 } else { 5 })).await;
    if item > 99 {
        Err("the shelf is broken")
    } else {
        Ok(item * 3)
    }
}
