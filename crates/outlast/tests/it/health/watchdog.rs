//! Executors that run nothing any more.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use outlast::Health;
use outlast::health::{Event, Setup};
use serde_json::json;

use super::{MS, eventually, read};

/// A worker with an executor of its own, as a gateway has them, is blocked and freed again.
#[tokio::test]
async fn a_blocked_executor_is_noticed_and_its_return_too() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let setup = Setup::default()
        .stuck_after(200 * MS)
        .observer(move |event| {
            let text = match event {
                Event::Stuck { executor } => format!("{executor} stuck"),
                Event::Unstuck { executor } => format!("{executor} runs"),
                other => panic!("unexpected {other:?}"),
            };
            hears.lock().unwrap().push(text);
        });
    let health = Health::with(setup).unwrap();
    let (block, blocked) = channel::<()>();
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let watched = health.clone();
    let worker = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            watched.watch_executor("worker-0");
            // What a handler must not do.
            blocked.recv().unwrap();
            ends.await.unwrap();
        });
    });
    eventually("it is noticed", || health.stuck() == ["worker-0"]).await;
    eventually("it is told", || {
        *heard.lock().unwrap() == ["worker-0 stuck"]
    })
    .await;
    let (status, document) = read(&health, "/health/live");
    assert_eq!(
        (status, &document["status"], &document["executors"]),
        (503, &json!("stuck"), &json!(["worker-0"]))
    );
    assert!(!health.is_alive());
    let (status, document) = read(&health, "/health/ready");
    assert_eq!(
        (status, &document["checks"]["runtime"]),
        (503, &json!("stuck"))
    );

    block.send(()).unwrap();
    let both = ["worker-0 stuck", "worker-0 runs"];
    eventually("it runs again", || *heard.lock().unwrap() == both).await;
    assert_eq!(read(&health, "/health/live").0, 200);
    assert!(health.is_ready());

    // An executor that has ended is not stuck.
    end.send(()).unwrap();
    worker.join().unwrap();
    let whole_limits = 3;
    tokio::time::sleep(whole_limits * 200 * MS).await;
    assert!(health.is_alive());
    assert_eq!(heard.lock().unwrap().len(), 2);
}

/// The executor of the registry itself; its state is asked from a thread outside.
#[test]
fn the_registrys_own_executor_is_watched() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let health = Health::with(Setup::default().stuck_after(100 * MS)).unwrap();
        let (found, finds) = channel();
        let asked = health.clone();
        let outside = thread::spawn(move || {
            while asked.is_alive() {
                thread::sleep(MS);
            }
            found.send(asked.stuck()).unwrap();
        });
        let stuck = finds.recv_timeout(30 * super::SECOND).unwrap();
        assert_eq!(stuck, ["runtime"]);
        outside.join().unwrap();
        eventually("it runs again", || health.is_alive()).await;
    });
}

#[tokio::test]
async fn limits_that_cannot_work_are_refused() {
    for limit in [MS, 4000 * super::SECOND] {
        let error = Health::with(Setup::default().stuck_after(limit)).unwrap_err();
        assert_eq!(error.setting(), "health.stuck_after");
    }
}
