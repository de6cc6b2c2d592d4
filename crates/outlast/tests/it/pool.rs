//! Blocking work on the threads of a pool.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast::breaker::State;
use outlast::reject::{Reason, Rejection};
use outlast::{Config, Error, Upstream};
use outlast::{breaker, bulkhead, deadline, retry};

const MS: Duration = Duration::from_millis(1);

fn upstream(config: Config) -> Upstream {
    Upstream::new(config).unwrap()
}

#[tokio::test]
async fn attempts_run_on_named_threads_with_all_policies() {
    let config = Config::new("files")
        .bulkhead(bulkhead::Config::new(2))
        .retry(retry::Config::attempts(3).backoff(MS));
    let files = upstream(config).pool(2).unwrap();
    let name = files.call(|attempt| {
        assert!(attempt.remaining().is_some());
        if attempt.number() < 3 {
            return Err("again");
        }
        Ok(std::thread::current().name().unwrap_or_default().to_owned())
    });
    let name = name.await.unwrap();
    assert!(name.starts_with("outlast-files-"), "{name}");
}

/// A thread cannot be interrupted: the caller gets its timeout, the seat stays taken until the
/// thread is really free, and what nobody waits for any more is never begun.
#[tokio::test]
async fn a_hung_thread_keeps_its_seat_and_nobody_elses() {
    let config = Config::new("files")
        .bulkhead(
            bulkhead::Config::new(1)
                .queue(1)
                .queue_timeout(Duration::from_secs(60)),
        )
        .deadline(deadline::Config::attempt_only(50 * MS));
    let upstream = upstream(config);
    let pool = upstream.pool(1).unwrap();
    let (release, hang) = channel::<()>();
    let hang = Mutex::new(hang);
    let cut = pool.call(move |_| {
        hang.lock().unwrap().recv().unwrap();
        Ok::<_, ()>(())
    });
    assert_eq!(
        cut.await,
        Err(Error::Rejected(Rejection::new(Reason::Timeout)))
    );
    assert_eq!(
        upstream.stats().bulkhead.unwrap().active,
        1,
        "the thread still hangs"
    );

    let begun = Arc::new(Mutex::new(Vec::new()));
    let record = |number: u32| {
        let begun = Arc::clone(&begun);
        pool.call(move |_| {
            begun.lock().unwrap().push(number);
            Ok::<_, ()>(())
        })
    };
    let gone = tokio::time::timeout(10 * MS, record(1)).await;
    assert!(
        gone.is_err(),
        "it queued behind the hung one, and went away"
    );
    release.send(()).unwrap();
    assert_eq!(record(2).await, Ok(()));
    assert_eq!(*begun.lock().unwrap(), [2]);
    let free = async {
        while upstream.stats().bulkhead.unwrap().active > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free)
        .await
        .expect("the seat is returned");
}

#[tokio::test]
async fn a_panic_on_a_thread_reaches_the_caller_and_counts_as_a_failure() {
    let config = Config::new("files")
        .bulkhead(bulkhead::Config::new(1))
        .breaker(breaker::Config::consecutive(1));
    let upstream = upstream(config);
    let pool = upstream.pool(1).unwrap();
    let call = pool.call(|attempt| match attempt.number() {
        1 => panic!("on purpose"),
        _ => Ok::<(), ()>(()),
    });
    assert!(tokio::spawn(call).await.unwrap_err().is_panic());
    let stats = upstream.stats();
    assert_eq!(stats.endpoints[0].breaker.unwrap().state, State::Open);
    assert_eq!(stats.bulkhead.unwrap().active, 0);
}

#[tokio::test]
async fn a_write_on_a_pool_can_be_protected() {
    let config = Config::new("files")
        .bulkhead(bulkhead::Config::new(1))
        .retry(retry::Config::attempts(3).backoff(MS));
    let upstream = upstream(config);
    let pool = upstream.pool(1).unwrap();
    let write = upstream
        .caller()
        .repeatable(false)
        .call_on(&pool, |_| Err::<(), _>("disk full"));
    let stop = Rejection::new(Reason::NotIdempotent);
    assert_eq!(
        write.await,
        Err(Error::Exhausted {
            attempts: 1,
            last: "disk full",
            stop
        })
    );
}

#[test]
fn a_pool_needs_a_bulkhead_that_fits_it() {
    assert!(upstream(Config::new("files")).pool(4).is_err());
    let shadow = Config::new("files").bulkhead(bulkhead::Config::new(2).enforce(false));
    assert!(upstream(shadow).pool(4).is_err());
    let wide = Config::new("files").bulkhead(bulkhead::Config::new(8));
    let error = upstream(wide).pool(4).unwrap_err();
    assert_eq!(error.setting(), "bulkhead.concurrency");
}
