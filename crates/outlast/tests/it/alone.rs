//! Single policies, without an upstream.

use std::time::Duration;

use outlast::breaker::State;
use outlast::outcome::Outcome;
use outlast::reject::{Reason, Rejection};
use outlast::{Breaker, Bulkhead, breaker, bulkhead, deadline};
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn seats_are_granted_in_order_and_returned_by_dropping() {
    let bulkhead = Bulkhead::new(bulkhead::Config::new(1).queue(2)).unwrap();
    let seat = bulkhead.acquire().await.unwrap();
    let second = bulkhead.clone();
    let waiting = tokio::spawn(async move { second.acquire().await });
    while bulkhead.stats().queued == 0 {
        tokio::task::yield_now().await;
    }
    assert!(bulkhead.try_acquire().is_err());
    sleep(100 * MS).await;
    drop(seat);
    drop(waiting.await.unwrap().unwrap());
    let stats = bulkhead.stats();
    assert_eq!((stats.active, stats.accepted, stats.rejected), (0, 2, 1));
    assert_eq!(stats.longest_wait, 100 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_seat_ends_with_its_timeout_or_the_current_deadline() {
    let config = bulkhead::Config::new(1).queue(2).queue_timeout(500 * MS);
    let bulkhead = Bulkhead::new(config).unwrap();
    let _seat = bulkhead.acquire().await.unwrap();
    let start = Instant::now();
    let rejection = bulkhead.acquire().await.unwrap_err();
    assert_eq!(
        (rejection, start.elapsed()),
        (Rejection::new(Reason::QueueTimeout), 500 * MS)
    );
    let soon = (Instant::now() + 50 * MS).into_std();
    assert!(deadline::scope(soon, bulkhead.acquire()).await.is_err());
    assert_eq!(start.elapsed(), 550 * MS);
    assert!(timeout(10 * MS, bulkhead.acquire()).await.is_err());
    assert_eq!(
        bulkhead.stats().queued,
        0,
        "who went away has left the queue"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_permit_is_a_cancelled_call() {
    let config = breaker::Config::consecutive(2).patience(100 * MS);
    let breaker = Breaker::new(config).unwrap();
    for _ in 0..10 {
        drop(breaker.admit().unwrap());
    }
    assert_eq!(breaker.state(), State::Closed);
    for _ in 0..2 {
        let permit = breaker.admit().unwrap();
        sleep(100 * MS).await;
        drop(permit);
    }
    assert_eq!(breaker.state(), State::Open);
    breaker.force(breaker::Manual::Auto);
    breaker.admit().unwrap().record(Outcome::Success);
    assert_eq!(breaker.stats().trips, 1);
}
