//! Work that outlives its caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outlast::{Shield, StillRunning, deadline};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn shielded_work_completes_although_its_caller_is_gone() {
    let shield = Shield::new();
    let written = Arc::new(AtomicBool::new(false));
    let work = {
        let written = Arc::clone(&written);
        shield.run(async move {
            assert_eq!(
                deadline::current(),
                None,
                "its caller's deadline is not its own"
            );
            sleep(2 * SECOND).await;
            written.store(true, Ordering::SeqCst);
        })
    };
    let end = (Instant::now() + SECOND).into_std();
    assert!(timeout(SECOND, deadline::scope(end, work)).await.is_err());
    assert!(!written.load(Ordering::SeqCst));
    assert_eq!(shield.drain(5 * SECOND).await, Ok(()));
    assert!(written.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn draining_is_bounded_and_says_what_is_left() {
    let shield = Shield::new();
    let _hung = shield.run(std::future::pending::<()>());
    let answer = shield.run(async { 7 });
    assert_eq!(shield.drain(SECOND).await, Err(StillRunning { tasks: 1 }));
    assert_eq!(answer.await, 7);
}
