//! The tower layer.

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use outlast::reject::{Reason, Rejection};
use outlast::{Config, Error, Once, Upstream};
use outlast::{breaker, bulkhead, deadline, retry};
use tokio::time::{Instant, timeout};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn upstream(config: Config) -> Upstream {
    Upstream::new(config).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_whole_pipeline_is_one_layer_with_one_flat_error() {
    let config = Config::new("db")
        .retry(retry::Config::attempts(3).backoff(10 * MS))
        .breaker(breaker::Config::consecutive(3));
    let db = upstream(config);
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let mut service = ServiceBuilder::new()
        .layer(db.layer())
        .service(service_fn(move |_: u32| {
            counted.fetch_add(1, Ordering::Relaxed);
            ready(Err::<u32, _>("down"))
        }));
    let error = service.ready().await.unwrap().call(1).await.unwrap_err();
    let stop = Rejection::new(Reason::Attempts);
    assert_eq!(
        error,
        Error::Exhausted {
            attempts: 3,
            last: "down",
            stop
        }
    );
    let error = service.ready().await.unwrap().call(2).await.unwrap_err();
    assert!(matches!(
        error,
        Error::Rejected(Rejection {
            reason: Reason::Open,
            ..
        })
    ));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

/// tower's `LoadShed` over `ConcurrencyLimit` parks the freed permit in an idle clone that was
/// polled ready; every other clone is then rejected for ever.
#[tokio::test(start_paused = true)]
async fn an_idle_clone_that_is_ready_holds_nothing() {
    let db = upstream(Config::new("db").bulkhead(bulkhead::Config::new(1)));
    let service = ServiceBuilder::new()
        .layer(db.layer())
        .service(service_fn(answer));
    let mut idle = service.clone();
    idle.ready().await.unwrap();
    let mut other = service.clone();
    assert_eq!(other.ready().await.unwrap().call(1).await, Ok(1));
    assert_eq!(db.stats().bulkhead.unwrap().active, 0);
    assert_eq!(idle.call(2).await, Ok(2));
}

fn answer(request: u32) -> Ready<Result<u32, Infallible>> {
    ready(Ok(request))
}

/// tower's `Timeout(20 ms)` over a full `ConcurrencyLimit` returned after 301 ms.
#[tokio::test(start_paused = true)]
async fn the_deadline_covers_the_wait_in_the_queue() {
    let config = Config::new("db")
        .bulkhead(
            bulkhead::Config::new(1)
                .queue(1)
                .queue_timeout(Duration::from_secs(60)),
        )
        .deadline(deadline::Config::call(20 * MS));
    let db = upstream(config);
    let hung = service_fn(|_: u32| pending::<Result<u32, Infallible>>());
    let mut service = ServiceBuilder::new().layer(db.layer()).service(hung);
    let first = service.ready().await.unwrap().call(1);
    let second = service.ready().await.unwrap().call(2);
    let start = Instant::now();
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_err() && second.is_err());
    assert!(start.elapsed() <= 21 * MS, "{:?}", start.elapsed());
}

/// A service that must be polled ready before each call, and says so.
#[derive(Default)]
struct Strict {
    is_ready: bool,
    calls: Arc<AtomicU32>,
}

impl Clone for Strict {
    fn clone(&self) -> Strict {
        Strict {
            is_ready: false,
            calls: Arc::clone(&self.calls),
        }
    }
}

impl Service<u32> for Strict {
    type Response = u32;
    type Error = &'static str;
    type Future = Ready<Result<u32, &'static str>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        assert!(
            std::mem::take(&mut self.is_ready),
            "poll_ready must be called first"
        );
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        ready(if call < 2 { Err("down") } else { Ok(request) })
    }
}

/// ninelives calls a clone of the polled service and panics over services like this one.
#[tokio::test(start_paused = true)]
async fn every_attempt_calls_a_service_that_was_polled_ready() {
    let db = upstream(Config::new("db").retry(retry::Config::attempts(3).backoff(MS)));
    let mut service = ServiceBuilder::new()
        .layer(db.layer())
        .service(Strict::default());
    assert_eq!(service.ready().await.unwrap().call(7).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn it_stacks_with_towers_own_layers() {
    let db = upstream(Config::new("db").retry(retry::Config::attempts(2).backoff(MS)));
    let calls = AtomicU32::new(0);
    let flaky = service_fn(|request: u32| {
        let first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        ready(if first { Err("down") } else { Ok(request) })
    });
    let mut service = ServiceBuilder::new()
        .layer(db.layer())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(flaky);
    let answer = timeout(
        Duration::from_secs(1),
        service.ready().await.unwrap().call(5),
    )
    .await;
    assert_eq!(answer.expect("no permit is parked"), Ok(5));
}

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_cloned_are_made_once() {
    struct Stream;
    let db = upstream(Config::new("db").retry(retry::Config::attempts(3)));
    let service = service_fn(|_: Stream| ready(Err::<(), _>("down")));
    let layer = db.layer().repeat(Once);
    let mut service = ServiceBuilder::new().layer(layer).service(service);
    let error = service
        .ready()
        .await
        .unwrap()
        .call(Stream)
        .await
        .unwrap_err();
    let stop = Rejection::new(Reason::NotIdempotent);
    assert_eq!(
        error,
        Error::Exhausted {
            attempts: 1,
            last: "down",
            stop
        }
    );
}
