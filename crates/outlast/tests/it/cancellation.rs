//! Calls that are dropped, hang or panic.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use outlast::breaker::State;
use outlast::{Config, Upstream, breaker, bulkhead, hedge, rate, retry};
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

fn upstream(config: Config) -> Upstream {
    Upstream::new(config).unwrap()
}

fn state(upstream: &Upstream) -> State {
    upstream.stats().endpoints[0].breaker.unwrap().state
}

#[tokio::test(start_paused = true)]
async fn a_hundred_hung_calls_cut_by_an_outer_timeout_open_the_breaker() {
    let slow = breaker::Config::default().patience(20 * MS);
    let db = upstream(Config::new("db").breaker(slow));
    for _ in 0..100 {
        let call = db.call(|_| std::future::pending::<Result<(), ()>>());
        let _ = timeout(50 * MS, call).await;
    }
    assert_eq!(state(&db), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_calls_cancelled_at_once_do_not() {
    let slow = breaker::Config::default().patience(20 * MS);
    let db = upstream(Config::new("db").breaker(slow));
    for _ in 0..100 {
        let call = db.call(|_| std::future::pending::<Result<(), ()>>());
        let _ = timeout(MS, call).await;
    }
    assert_eq!(state(&db), State::Closed);
    assert_eq!(db.stats().endpoints[0].ignored, 100);
}

/// Every instant at which a call can be dropped: while it is paced, queued, running, hedged, in
/// backoff and after.
#[tokio::test(start_paused = true)]
async fn a_call_dropped_at_any_await_point_leaks_nothing() {
    let config = Config::new("db")
        .rate(
            rate::Config::new(100, Duration::from_secs(1))
                .burst(1)
                .wait(50 * MS),
        )
        .bulkhead(bulkhead::Config::new(2).queue(2).queue_timeout(100 * MS))
        .breaker(breaker::Config::default())
        .hedge(hedge::Config::after(10 * MS))
        .retry(retry::Config::attempts(3).backoff(10 * MS));
    for cut in 0..80 {
        let db = upstream(config.clone());
        let work = |number: u32| async move {
            sleep(15 * MS).await;
            if number == 3 { Ok(()) } else { Err(()) }
        };
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let db = db.clone();
                tokio::spawn(async move {
                    let _ = db.call(|attempt| work(attempt.number())).await;
                })
            })
            .collect();
        sleep(cut * MS).await;
        for call in &calls {
            call.abort();
        }
        for call in calls {
            let _ = call.await;
        }
        let stats = db.stats();
        let bulkhead = stats.bulkhead.unwrap();
        assert_eq!(
            (bulkhead.active, bulkhead.queued),
            (0, 0),
            "cut after {cut} ms"
        );
        let extra = stats.retries + stats.hedges;
        assert_eq!(stats.budget.unwrap().withdrawn, extra, "cut after {cut} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_releases_everything_and_counts_as_a_failure() {
    let config = Config::new("db")
        .breaker(breaker::Config::consecutive(3))
        .bulkhead(bulkhead::Config::new(1));
    let db = upstream(config);
    for _ in 0..3 {
        let db = db.clone();
        let task = tokio::spawn(async move {
            let _ = db
                .call(|_| async {
                    sleep(MS).await;
                    if db.name() == "db" {
                        panic!("on purpose");
                    }
                    Ok::<(), ()>(())
                })
                .await;
        });
        assert!(task.await.unwrap_err().is_panic());
    }
    assert_eq!(state(&db), State::Open);
    assert_eq!(db.stats().bulkhead.unwrap().active, 0);
}

#[test]
fn a_panic_in_a_blocking_call_does_so_too() {
    let config = Config::new("db")
        .breaker(breaker::Config::consecutive(3))
        .bulkhead(bulkhead::Config::new(1));
    let db = upstream(config);
    for _ in 0..3 {
        let call = AssertUnwindSafe(|| db.call_blocking(|_| -> Result<(), ()> { panic!("oh") }));
        assert!(std::panic::catch_unwind(call).is_err());
    }
    assert_eq!(state(&db), State::Open);
    assert_eq!(db.stats().bulkhead.unwrap().active, 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_trial_gives_its_place_back() {
    let breaker = breaker::Config::consecutive(1)
        .trials(1)
        .successes(1)
        .cooldown(100 * MS);
    let db = upstream(Config::new("db").breaker(breaker));
    let _ = db.call(|_| async { Err::<(), _>(()) }).await;
    sleep(100 * MS).await;
    let hung = db.call(|_| std::future::pending::<Result<(), ()>>());
    let _ = timeout(10 * MS, hung).await;
    assert_eq!(state(&db), State::HalfOpen);
    assert_eq!(db.call(|_| async { Ok::<_, ()>(()) }).await, Ok(()));
    assert_eq!(state(&db), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept_to_the_timers_resolution() {
    let config = Config::new("db")
        .hedge(hedge::Config::after(30 * MS))
        .retry(retry::Config::attempts(10).backoff(70 * MS));
    let db = upstream(config);
    for limit in [1u32, 10, 99, 100, 333] {
        let start = Instant::now();
        let call = db.caller().within(limit * MS).call(|_| async {
            sleep(40 * MS).await;
            Err::<(), _>(())
        });
        assert!(call.await.is_err());
        assert!(
            start.elapsed() <= (limit + 1) * MS,
            "{:?} of {limit} ms",
            start.elapsed()
        );
    }
}
