//! Probes that hang, panic, block and end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use outlast::Health;
use outlast::health::{Config, Event, Setup, Status};

use super::{MS, SECOND, error, eventually, quick, status};

#[tokio::test]
async fn a_hanging_and_a_panicking_check_hold_up_nobody() {
    let health = Health::new().unwrap();
    let probes = Arc::new(AtomicU32::new(0));
    health
        .check("hangs", quick(), || {
            std::future::pending::<Result<(), String>>()
        })
        .unwrap();
    // Long enough for a machine that is slow to print a panic.
    let patient = || quick().interval(SECOND / 2).timeout(SECOND / 2);
    let literal = || -> std::future::Ready<Result<(), String>> { panic!("on purpose") };
    health.check("panics", patient(), literal).unwrap();
    let formatted = || async {
        tokio::task::yield_now().await;
        if true {
            panic!("number {}", 7);
        }
        Ok::<_, String>(())
    };
    health.check("panics_later", patient(), formatted).unwrap();
    let count = Arc::clone(&probes);
    health
        .check("works", quick(), move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, String>(()) }
        })
        .unwrap();
    let down = |name: &str| status(&health, name) == Status::Down;
    eventually("all three are down", || {
        down("hangs") && down("panics") && down("panics_later")
    })
    .await;
    assert_eq!(error(&health, "hangs"), "no answer within 50ms");
    assert_eq!(error(&health, "panics"), "the probe panicked: on purpose");
    assert_eq!(
        error(&health, "panics_later"),
        "the probe panicked: number 7"
    );
    let before = probes.load(Ordering::SeqCst);
    eventually("the others are probed on", || {
        probes.load(Ordering::SeqCst) > before + 5
    })
    .await;
    assert_eq!(status(&health, "works"), Status::Up);
}

/// The last good state stays until the threshold, and a probe that recovers is believed again.
#[tokio::test(start_paused = true)]
async fn thresholds_hold_with_a_real_schedule() {
    let health = Health::new().unwrap();
    let script = Mutex::new("+--+---++".chars());
    let seen = Arc::new(Mutex::new(String::new()));
    let config = Config::default()
        .interval(SECOND)
        .up_after(2)
        .down_after(3)
        .jitter(outlast::ratio::Ratio::ZERO);
    let watched = health.clone();
    let shown = Arc::clone(&seen);
    health
        .check("db", config, move || {
            let next = script.lock().unwrap().next();
            async move {
                match next {
                    Some('+') => Ok(()),
                    Some(_) => Err("refused"),
                    None => std::future::pending().await,
                }
            }
        })
        .unwrap();
    for _ in 0..9 {
        tokio::time::sleep(500 * MS).await;
        let letter = match status(&watched, "db") {
            Status::Pending => '?',
            Status::Up => 'u',
            Status::Down => 'd',
        };
        shown.lock().unwrap().push(letter);
        tokio::time::sleep(500 * MS).await;
    }
    assert_eq!(*seen.lock().unwrap(), "?ddddddd".to_owned() + "u");
}

/// A probe that blocks its thread cannot be cut. It is reported all the same, and not started again.
/// The others must have something to do: a worker that sleeps may leave the timers to the one that
/// is blocked, and then the whole executor is stuck.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_probe_that_blocks_is_started_once() {
    let health = Health::new().unwrap();
    for _ in 0..2 {
        tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
    }
    let (release, blocks) = channel::<()>();
    let blocks = Mutex::new(blocks);
    let probes = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&probes);
    health
        .check("blocks", quick(), move || {
            count.fetch_add(1, Ordering::SeqCst);
            let ended = blocks.lock().unwrap().recv();
            async move { ended }
        })
        .unwrap();
    let unfinished = "a probe that was cut has not ended yet";
    eventually("it is reported", || error(&health, "blocks") == unfinished).await;
    let failures = || health.snapshot().checks()[0].last().unwrap().failures;
    let before = failures();
    eventually("it goes on to fail", || failures() > before + 3).await;
    assert_eq!(probes.load(Ordering::SeqCst), 1);
    release.send(()).unwrap();
    eventually("it is probed again", || probes.load(Ordering::SeqCst) == 2).await;
    // The runtime waits for what blocks it.
    drop(release);
}

/// A probe that tells when it is dropped.
async fn ends_with_the_registry(end: impl FnOnce(Health)) {
    let health = Health::new().unwrap();
    let held = Arc::new(());
    let holds = Arc::clone(&held);
    health
        .check("hangs", quick(), move || {
            let holds = Arc::clone(&holds);
            async move {
                let _holds = holds;
                std::future::pending::<Result<(), String>>().await
            }
        })
        .unwrap();
    eventually("it is probed", || Arc::strong_count(&held) == 3).await;
    end(health);
    eventually("closure and probe are gone", || {
        Arc::strong_count(&held) == 1
    })
    .await;
}

#[tokio::test]
async fn probing_ends_with_the_last_clone() {
    ends_with_the_registry(|health| {
        let clone = health.clone();
        drop(health);
        assert!(clone.answer("/health/live").is_some());
    })
    .await;
}

#[tokio::test]
async fn probing_ends_at_shutdown_and_the_instance_is_not_ready() {
    let kept = Mutex::new(None);
    ends_with_the_registry(|health| {
        health.shutdown();
        *kept.lock().unwrap() = Some(health);
    })
    .await;
    let health = kept.into_inner().unwrap().unwrap();
    assert!(!health.is_ready() && health.is_alive());
    let refused = health.check("late", quick(), || async { Ok::<_, String>(()) });
    assert_eq!(refused.unwrap_err().setting(), "health");
    assert_eq!(health.answer("/health/ready").unwrap().status, 503);
    assert!(
        health.deep().await.body.starts_with("{\"hangs\":"),
        "nobody waits for a result"
    );
}

#[tokio::test]
async fn observers_hear_of_failures_and_changes_and_may_panic() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let setup = Setup::default().observer(move |event| {
        let text = match event {
            Event::Changed {
                check,
                change,
                error,
            } => format!("{check} {} {error:?}", change.to.name()),
            Event::Failed { check, error } => format!("{check} failed {error}"),
            _ => return,
        };
        hears.lock().unwrap().push(text);
        panic!("an observer with a bug");
    });
    let health = Health::with(setup).unwrap();
    let probes = Arc::new(AtomicU32::new(0));
    health
        .check("db", quick(), move || {
            let number = probes.fetch_add(1, Ordering::SeqCst);
            async move { if number == 1 { Err("lost") } else { Ok(()) } }
        })
        .unwrap();
    let expected = [
        "db ok None",
        "db failed lost",
        "db error Some(\"lost\")",
        "db ok None",
    ];
    eventually("all is heard", || {
        heard
            .lock()
            .map_or_else(|e| e.into_inner().len(), |heard| heard.len())
            >= 4
    })
    .await;
    let heard = heard.lock().unwrap_or_else(|poison| poison.into_inner());
    assert_eq!(heard[..4], expected);
}
