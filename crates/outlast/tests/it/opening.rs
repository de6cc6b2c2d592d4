//! Calls whose answer is read after they have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use outlast::backoff::Backoff;
use outlast::outcome::Outcome;
use outlast::reject::Reason;
use outlast::{Config, Upstream, bulkhead, retry};

fn upstream() -> Upstream {
    let waits = Backoff::constant(Duration::from_millis(1));
    let config = Config::new("up")
        .bulkhead(bulkhead::Config::new(1))
        .retry(retry::Config::attempts(3).backoff(waits));
    Upstream::new(config).unwrap()
}

fn active(upstream: &Upstream) -> u32 {
    upstream.stats().bulkhead.unwrap().active
}

#[tokio::test]
async fn the_seat_is_held_until_the_answer_is_recorded() {
    let upstream = upstream();
    let opened = upstream.caller().open(|_| async { Ok::<_, ()>(7) }).await;
    assert_eq!(
        (opened.result.as_ref(), opened.attempts, opened.endpoint),
        (Ok(&7), 1, Some(0))
    );
    assert_eq!(active(&upstream), 1);
    opened.open.unwrap().record(Outcome::Success);
    assert_eq!(active(&upstream), 0);
    assert_eq!(upstream.stats().endpoints[0].successes, 1);
}

#[tokio::test]
async fn an_answer_that_nobody_records_says_nothing() {
    let upstream = upstream();
    let opened = upstream.caller().open(|_| async { Ok::<_, ()>(7) }).await;
    drop(opened);
    assert_eq!(active(&upstream), 0);
    assert_eq!(upstream.stats().endpoints[0].ignored, 1);
}

#[tokio::test]
async fn failures_are_settled_and_retried_as_ever() {
    let upstream = upstream();
    let made = AtomicU32::new(0);
    let opened = upstream
        .caller()
        .open(|_| {
            let number = made.fetch_add(1, Ordering::Relaxed);
            async move { if number < 2 { Err("no") } else { Ok(number) } }
        })
        .await;
    assert_eq!((opened.result.as_ref(), opened.attempts), (Ok(&2), 3));
    opened.open.unwrap().record(Outcome::Transient);
    assert_eq!(upstream.stats().endpoints[0].transient, 3);
}

#[tokio::test]
async fn a_call_without_an_answer_has_nothing_open() {
    let upstream = upstream();
    let opened = upstream
        .caller()
        .open(|_| async { Err::<(), _>("no") })
        .await;
    assert!(opened.open.is_none() && opened.why.is_some());
    assert_eq!((opened.attempts, opened.endpoint), (3, None));
    assert_eq!(active(&upstream), 0);
}

#[tokio::test]
async fn what_is_spent_is_not_sent_again() {
    let upstream = upstream();
    let spent = Arc::new(AtomicBool::new(false));
    let opened = upstream
        .caller()
        .repeatable_until(Arc::clone(&spent))
        .open(|attempt| {
            // The second attempt sends more than can be kept.
            spent.store(attempt.number() == 2, Ordering::Relaxed);
            async { Err::<(), _>("no") }
        })
        .await;
    assert_eq!(opened.attempts, 2);
    let error = opened.result.unwrap_err();
    assert_eq!(error.rejection().unwrap().reason, Reason::NotIdempotent);
}

#[tokio::test]
async fn dropping_the_call_returns_the_seat() {
    let upstream = upstream();
    let call = upstream
        .caller()
        .open(|_| std::future::pending::<Result<(), ()>>());
    assert!(
        tokio::time::timeout(Duration::from_millis(5), call)
            .await
            .is_err()
    );
    assert_eq!(active(&upstream), 0);
}
