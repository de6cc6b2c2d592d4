//! Calls through the async and the blocking driver.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use outlast::backoff::Backoff;
use outlast::call::Kind;
use outlast::fallback::Why;
use outlast::fault::{self, Fault};
use outlast::outcome::Outcome;
use outlast::ratio::Ratio;
use outlast::reject::{Reason, Rejection};
use outlast::{Answer, Config, Error, Stale, Upstream};
use outlast::{breaker, budget, bulkhead, deadline, fallback, hedge, rate, retry};
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

fn upstream(config: Config) -> Upstream {
    Upstream::new(config).unwrap()
}

fn retries(attempts: u32) -> Config {
    Config::new("db").retry(retry::Config::attempts(attempts).backoff(10 * MS))
}

#[tokio::test(start_paused = true)]
async fn a_call_retries_until_it_succeeds() {
    let db = upstream(retries(3));
    let answer: Result<_, Error<&str>> = db
        .call(|attempt| async move {
            if attempt.number() < 3 {
                Err("no")
            } else {
                Ok(attempt.number())
            }
        })
        .await;
    assert_eq!(answer, Ok(3));
    assert_eq!(db.stats().retries, 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_error_survives_with_the_reason_and_the_number_of_attempts() {
    let db = upstream(retries(3));
    let error = db
        .call(|attempt| async move { Err::<(), _>(attempt.number()) })
        .await
        .unwrap_err();
    let stop = Rejection::new(Reason::Attempts);
    assert_eq!(
        error,
        Error::Exhausted {
            attempts: 3,
            last: 3,
            stop
        }
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_wish_for_more_the_error_is_the_dependencys_own() {
    let db = upstream(Config::new("db"));
    let error = db
        .call(|_| async { Err::<(), _>("own") })
        .await
        .unwrap_err();
    assert_eq!(error, Error::Inner("own"));
}

#[tokio::test(start_paused = true)]
async fn a_hung_attempt_is_cut_in_time() {
    let db = upstream(Config::new("db").deadline(deadline::Config::attempt_only(100 * MS)));
    let start = Instant::now();
    let error = db
        .call(|_| std::future::pending::<Result<(), &str>>())
        .await
        .unwrap_err();
    assert_eq!(error, Error::Rejected(Rejection::new(Reason::Timeout)));
    assert_eq!(start.elapsed(), 100 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_overtakes_a_slow_attempt() {
    let db = upstream(Config::new("db").hedge(hedge::Config::after(50 * MS)));
    let start = Instant::now();
    let winner: Result<_, Error<&str>> = db
        .call(|attempt| async move {
            if attempt.kind() == Kind::First {
                sleep(1000 * MS).await;
            }
            Ok(attempt.number())
        })
        .await;
    assert_eq!((winner, start.elapsed()), (Ok(2), 50 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_failing_hedge_leaves_the_first_attempt_alone() {
    let db = upstream(Config::new("db").hedge(hedge::Config::after(10 * MS)));
    let answer = db
        .call(|attempt| async move {
            if attempt.kind() == Kind::Hedge {
                return Err("hedge");
            }
            sleep(60 * MS).await;
            Ok(attempt.number())
        })
        .await;
    assert_eq!(answer, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn two_attempts_that_are_ready_at_once_are_one_answer() {
    let db = upstream(Config::new("db").hedge(hedge::Config::after(50 * MS)));
    let answer: Result<_, Error<&str>> = db
        .call(|attempt| async move {
            sleep(if attempt.kind() == Kind::First {
                60 * MS
            } else {
                10 * MS
            })
            .await;
            Ok(attempt.number())
        })
        .await;
    assert_eq!(answer, Ok(1));
    assert_eq!(db.stats().attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_arrives_at_its_timeout_counts() {
    let db = upstream(Config::new("db").deadline(deadline::Config::attempt_only(100 * MS)));
    let call = db.call(|_| async {
        sleep(100 * MS).await;
        Ok::<_, ()>(7)
    });
    assert_eq!(call.await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_hangs_does_not_outlive_the_deadline() {
    let db = upstream(Config::new("db").deadline(deadline::Config::call(100 * MS)));
    let start = Instant::now();
    let call = db.call(|_| async { Err::<u32, _>("down") });
    let answer = call.fallback(|_| async {
        assert!(deadline::current().is_some());
        std::future::pending().await
    });
    assert_eq!(answer.await, Err(Error::Inner("down")));
    assert_eq!(start.elapsed(), 100 * MS);
    let hung = db.call(|_| std::future::pending::<Result<u32, &str>>());
    assert_eq!(
        hung.fallback_value(7).await,
        Ok(7),
        "a tenth of the time is left for it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_shadow_still_passes_on_that_of_its_caller() {
    let shadow = deadline::Config::call(10 * MS).enforce(false);
    let outer = upstream(Config::new("outer").deadline(shadow));
    let end = (Instant::now() + 300 * MS).into_std();
    let seen = outer.call(|_| async { Ok::<_, ()>(deadline::current()) });
    assert_eq!(deadline::scope(end, seen).await, Ok(Some(end)));
}

#[tokio::test(start_paused = true)]
async fn nested_calls_inherit_the_sooner_deadline() {
    let outer = upstream(Config::new("outer").deadline(deadline::Config::call(1000 * MS)));
    let inner = upstream(Config::new("inner").deadline(deadline::Config::call(5000 * MS)));
    let start = Instant::now();
    let error = outer
        .call(|_| inner.call(|_| std::future::pending::<Result<(), &str>>()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Inner(Error::Rejected(_))),
        "{error:?}"
    );
    assert!(start.elapsed() < 1000 * MS);
    assert_eq!(deadline::current(), None);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_knows_its_time_and_its_key() {
    let db = upstream(retries(2).deadline(deadline::Config::call(1000 * MS)));
    let keys = std::sync::Mutex::new(Vec::new());
    let seen = &keys;
    let _ = db
        .call(|attempt| async move {
            let remaining = attempt.remaining().unwrap();
            assert!(remaining <= 900 * MS, "a tenth is kept for the fallback");
            assert!(attempt.deadline().is_some());
            assert_eq!(attempt.endpoint(), "main");
            seen.lock()
                .unwrap()
                .push(attempt.idempotency_key().to_string());
            Err::<(), _>("again")
        })
        .await;
    let keys = keys.into_inner().unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
    let other =
        db.call(|attempt| async move { Ok::<_, ()>(attempt.idempotency_key().to_string()) });
    assert_ne!(other.await.unwrap(), keys[0]);
    let given = db.caller().idempotency_key("order-17");
    let given =
        given.call(|attempt| async move { Ok::<_, ()>(attempt.idempotency_key().to_string()) });
    assert_eq!(given.await.unwrap(), "order-17");
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_rejects_and_recovers_after_its_cooldown() {
    let db = upstream(Config::new("db").breaker(breaker::Config::default()));
    assert!(db.is_willing() && db.is_settled());
    for _ in 0..5 {
        let _ = db.call(|_| async { Err::<(), _>("down") }).await;
    }
    assert!(!db.is_willing());
    let error = db.call(|_| async { Ok::<_, &str>(()) }).await.unwrap_err();
    assert_eq!(
        error,
        Error::Rejected(Rejection::after(Reason::Open, Duration::from_secs(30)))
    );
    sleep(Duration::from_secs(30)).await;
    // A trial may begin, and asking for it takes none's place.
    assert!(db.is_willing() && db.is_willing() && !db.is_settled());
    for _ in 0..3 {
        assert_eq!(db.call(|_| async { Ok::<_, &str>(()) }).await, Ok(()));
    }
    assert_eq!(
        db.stats().endpoints[0].breaker.unwrap().state,
        breaker::State::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn a_fallback_is_told_why_and_never_masks_a_definite_answer() {
    let config = Config::new("db").breaker(breaker::Config::consecutive(1));
    let db = upstream(config);
    let classify = |result: &Result<u32, &str>| match result {
        Ok(_) => Outcome::Success,
        Err("declined") => Outcome::Permanent,
        Err(_) => Outcome::Transient,
    };
    let call = |answer: Result<u32, &'static str>| {
        db.caller()
            .classify(classify)
            .call(move |_| async move { answer })
    };
    assert_eq!(
        call(Err("declined")).fallback_value(7).await,
        Err(Error::Inner("declined"))
    );
    let mut heard = None;
    let answer = call(Err("down")).fallback(|why| {
        heard = Some(why);
        async { Ok(7) }
    });
    assert_eq!(answer.await, Ok(7));
    assert_eq!(heard, Some(Why::Failed(Outcome::Transient)));
    assert_eq!(
        call(Ok(1)).fallback_value(8).await,
        Ok(8),
        "the breaker is open"
    );
    assert_eq!(db.stats().fallbacks, 2);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_fails_keeps_the_original_error() {
    let db = upstream(Config::new("db"));
    let error = db
        .call(|_| async { Err::<(), _>("first") })
        .fallback(|_| async { Err("second") });
    let original = Box::new(Error::Inner("first"));
    assert_eq!(
        error.await,
        Err(Error::Fallback {
            error: "second",
            original
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_fallback_may_be_told_to_cover_permanent_outcomes() {
    let config = Config::new("db").fallback(fallback::Config::default().cover_permanent(true));
    let db = upstream(config);
    let answer = db
        .caller()
        .classify(|_: &Result<u32, ()>| Outcome::Permanent)
        .call(|_| async { Err(()) })
        .fallback_value(3);
    assert_eq!(answer.await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn stale_answers_are_bounded_marked_and_never_renewed() {
    let users = upstream(Config::new("users"));
    let cache = Stale::new(10, Duration::from_secs(10)).unwrap();
    let ask = |answer: Result<&'static str, &'static str>| {
        users
            .call(move |_| async move { answer })
            .fallback_stale(&cache, 1)
    };
    assert_eq!(ask(Ok("ann")).await, Ok(Answer::Fresh("ann")));
    for _ in 0..2 {
        sleep(Duration::from_secs(4)).await;
        let answer = ask(Err("down")).await.unwrap();
        assert!(matches!(answer, Answer::Stale { value: "ann", age, .. } if age >= 4000 * MS));
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(ask(Err("down")).await, Err(Error::Inner("down")), "too old");
}

#[tokio::test(start_paused = true)]
async fn injected_faults_delay_fail_or_hang_attempts() {
    let harmed = |fault, attempt: Duration| {
        let config = Config::new("db").fault(fault::Config::new(fault, Ratio::ONE));
        upstream(config.deadline(deadline::Config::attempt_only(attempt)))
    };
    let start = Instant::now();
    let slow = harmed(Fault::Delay(300 * MS), 1000 * MS);
    assert_eq!(slow.call(|_| async { Ok::<_, ()>(1) }).await, Ok(1));
    assert_eq!(start.elapsed(), 300 * MS);
    let broken = harmed(Fault::Error, 1000 * MS);
    let error = broken.call(|_| async { Ok::<_, ()>(1) }).await.unwrap_err();
    assert_eq!(error, Error::Rejected(Rejection::new(Reason::Fault)));
    let hung = harmed(Fault::Hang, 200 * MS);
    let error = hung.call(|_| async { Ok::<_, ()>(1) }).await.unwrap_err();
    assert_eq!(error, Error::Rejected(Rejection::new(Reason::Timeout)));
    assert_eq!(start.elapsed(), 500 * MS);
}

#[tokio::test(start_paused = true)]
async fn every_policy_can_run_in_shadow() {
    let config = Config::new("db")
        .breaker(breaker::Config::consecutive(1).enforce(false))
        .bulkhead(bulkhead::Config::new(1).enforce(false))
        .rate(rate::Config::new(1, Duration::from_secs(3600)).enforce(false))
        .retry(retry::Config::attempts(3).enforce(false))
        .hedge(hedge::Config::after(10 * MS).enforce(false))
        .budget(budget::Config::new(Ratio::ZERO).reserve(0).enforce(false))
        .deadline(
            deadline::Config::call(20 * MS)
                .attempt(10 * MS)
                .enforce(false),
        )
        .fallback(fallback::Config::default().enforce(false));
    let db = upstream(config);
    let calls = (0..3).map(|_| {
        let call = db.call(|_| async {
            sleep(50 * MS).await;
            Err::<u32, _>("down")
        });
        call.fallback_value(1)
    });
    let mut running: Vec<_> = calls.map(Box::pin).collect();
    for call in &mut running {
        tokio::select! { biased; _ = call => {}, () = std::future::ready(()) => {} }
    }
    for call in running {
        assert_eq!(call.await, Err(Error::Inner("down")), "nothing is enforced");
    }
    let again = db.call(|_| async { Err::<u32, _>("down") });
    assert_eq!(again.await, Err(Error::Inner("down")));
    let stats = db.stats();
    for reason in [Reason::Rate, Reason::Full, Reason::Open, Reason::Deadline] {
        assert!(stats.would_reject(reason) > 0, "{reason:?}: {stats:?}");
        assert_eq!(stats.rejected(reason), 0, "{reason:?}");
    }
    assert!(stats.would_start >= 4, "retries and hedges: {stats:?}");
    assert_eq!(stats.would_fall_back, 3);
    assert_eq!((stats.retries, stats.hedges, stats.fallbacks), (0, 0, 0));
}

#[test]
fn blocking_calls_retry_and_fall_back() {
    let db = upstream(retries(3));
    let answer = db.call_blocking(|attempt| {
        if attempt.number() < 3 {
            Err("no")
        } else {
            Ok(attempt.number())
        }
    });
    assert_eq!(answer, Ok(3));
    let stood_in = db.caller().call_blocking_or(
        |_| Err("no"),
        |why| {
            assert_eq!(why, Why::Failed(Outcome::Transient));
            Ok(9)
        },
    );
    assert_eq!(stood_in, Ok(9));
}

#[test]
fn blocking_calls_recall_stale_answers() {
    let users = upstream(Config::new("users"));
    let cache = Stale::new(1, Duration::from_secs(60)).unwrap();
    let ask = |answer: Result<u32, &'static str>| {
        users
            .caller()
            .call_blocking_or_stale(|_| answer, &cache, "ann")
    };
    assert_eq!(ask(Err("down")), Err(Error::Inner("down")));
    assert_eq!(ask(Ok(7)), Ok(Answer::Fresh(7)));
    assert!(matches!(
        ask(Err("down")),
        Ok(Answer::Stale { value: 7, .. })
    ));
}

#[test]
fn blocking_callers_queue_for_a_seat() {
    let db = upstream(
        Config::new("db").bulkhead(
            bulkhead::Config::new(1)
                .queue(8)
                .queue_timeout(Duration::from_secs(60)),
        ),
    );
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let answer = db.call_blocking(|_| {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, ()>(())
                });
                assert_eq!(answer, Ok(()));
            });
        }
    });
    let stats = db.stats().bulkhead.unwrap();
    assert_eq!((stats.accepted, stats.active, stats.peak), (8, 0, 1));
}

#[tokio::test]
async fn endless_retries_without_a_wait_leave_the_thread_to_other_tasks() {
    let config = Config::new("db").budget(None);
    let retry = retry::Config::attempts(1000).backoff(Backoff::constant(Duration::ZERO));
    let db = upstream(config.retry(retry));
    let busy = db.call(|_| async { Err::<(), _>(()) });
    let other = AtomicU32::new(0);
    let count = async {
        for _ in 0..5 {
            other.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(async { (busy.await, other.load(Ordering::Relaxed)) }, count);
    assert!(answer.0.is_err());
    assert_eq!(answer.1, 5, "the other task had its turns in between");
}

#[test]
fn a_blocking_call_is_not_begun_after_a_delay_that_used_up_its_time() {
    let config = Config::new("db").fault(fault::Config::new(Fault::Delay(60_000 * MS), Ratio::ONE));
    let db = upstream(config.deadline(deadline::Config::attempt_only(5 * MS)));
    let error = db
        .call_blocking(|_| -> Result<(), ()> { panic!("it came too late") })
        .unwrap_err();
    assert_eq!(error, Error::Rejected(Rejection::new(Reason::Timeout)));
}
