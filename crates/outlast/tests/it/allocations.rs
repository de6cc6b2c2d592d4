//! A call that succeeds at once allocates nothing.

use std::future::ready;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use allocation_counter::measure;
use outlast::{Config, Upstream, balance, breaker, bulkhead, deadline, rate, retry};
use tower::{Service, ServiceBuilder, service_fn};

fn everything() -> Upstream {
    let config = Config::new("db")
        .endpoint("a")
        .endpoint("b")
        .breaker(breaker::Config::default())
        .retry(retry::Config::default())
        .bulkhead(bulkhead::Config::new(10).queue(10))
        .rate(rate::Config::new(1_000_000, Duration::from_secs(1)))
        .deadline(deadline::Config::call(Duration::from_secs(1)));
    Upstream::new(config).unwrap()
}

/// Polls once; the future must be done.
fn now<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("it was to be ready at once"),
    }
}

/// A name that does not fit into an attempt and is counted by reference.
const LONG: &str = "an-endpoint-whose-name-is-longer-than-most.example.org:8443";

/// One endpoint, several, and several that came later.
fn all() -> [Upstream; 3] {
    let one = Config::standard("one");
    let changed = everything();
    let next = ["c", "d", LONG].map(balance::Endpoint::new);
    changed.set_endpoints(next.into()).unwrap();
    [Upstream::new(one).unwrap(), everything(), changed]
}

#[test]
fn neither_as_a_future_nor_on_the_thread_nor_through_the_layer() {
    for db in all() {
        let mut service = ServiceBuilder::new()
            .layer(db.layer())
            .service(service_fn(|_: u32| ready(Ok::<_, ()>(7))));
        let mut calls = || {
            assert_eq!(now(db.call(|_| ready(Ok::<_, ()>(7)))), Ok(7));
            assert_eq!(db.call_blocking(|_| Ok::<_, ()>(7)), Ok(7));
            assert_eq!(now(service.call(1)), Ok(7));
        };
        // The first call of a thread draws its seeds from the system.
        calls();
        for _ in 0..10 {
            assert_eq!(measure(&mut calls).count_total, 0);
        }
    }
}
