//! A disk that is really full, under a queue: what cannot be written is refused, what is under way waits,
//! and all of it goes on by itself when there is room.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_saga::queue::{Config, Delivery, Message, PushError, Pushed, Queue, State};
use outlast_saga::store::StoreError;
use outlast_saga::store::sqlite::Sqlite;

/// The child: its folder is a file system of two megabytes.
#[test]
fn child() {
    let Some(folder) = std::env::var_os("OUTLAST_FULL_FOLDER") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(Path::new(&folder)));
    println!("\neverything is delivered");
}

async fn run(folder: &Path) {
    let path = folder.join("queue.db");
    let store = Sqlite::open(&path).unwrap();
    std::fs::write(folder.join("filler"), vec![7; 1 << 20]).unwrap();
    let config = || Config::new("receipts").slowest(1000.0).fastest(1000.0);
    let queue = Queue::open(store, config()).await.unwrap();
    let message = |number: u32| Message::new(format!("m{number}")).bytes(vec![7; 2000]);
    let mut pushed = 0;
    let refused = loop {
        match queue.push(message(pushed)).await {
            Ok(came) => assert_eq!(came, Pushed::New),
            Err(error) => break error,
        }
        pushed += 1;
        assert!(pushed < 2000, "it is never full");
    };
    assert!(
        matches!(refused, PushError::Store(StoreError::Full(_))),
        "{refused:?}"
    );
    assert!(pushed > 20, "{pushed}");
    assert_eq!(
        queue.stats().waiting,
        pushed as usize,
        "what was refused is not there"
    );

    // No delivery begins of which nobody could say that it had begun.
    let delivered = Arc::new(Mutex::new(BTreeMap::<String, u32>::new()));
    let (noted, runs) = (Arc::clone(&delivered), queue.clone());
    let running = tokio::spawn(async move {
        let handler = move |delivery: Delivery| {
            *noted
                .lock()
                .unwrap()
                .entry(delivery.id().to_owned())
                .or_default() += 1;
            async { Ok(()) }
        };
        runs.run(handler).await
    });
    for _ in 0..10 {
        let again = queue.push(message(pushed)).await.unwrap_err();
        assert!(
            matches!(again, PushError::Store(StoreError::Full(_))),
            "{again:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A few may fit where a push does not.
    let few = delivered.lock().unwrap().len();
    assert!(few < 20, "{few} of {pushed} were begun");
    assert!(queue.stats().waiting + 20 > pushed as usize);

    std::fs::remove_file(folder.join("filler")).unwrap();
    let drained = tokio::time::timeout(Duration::from_secs(30), queue.drained()).await;
    assert!(drained.is_ok(), "they stand still");
    // The one that was refused is new.
    assert_eq!(queue.push(message(pushed)).await, Ok(Pushed::New));
    queue.drained().await;
    let delivered = delivered.lock().unwrap().clone();
    assert_eq!(delivered.len() as u32, pushed + 1);
    assert!(delivered.values().all(|times| *times == 1), "{delivered:?}");
    queue.close();
    running.await.unwrap().unwrap();
    drop(queue);
    // The file is sound, which is looked at when it is opened; the last delivery lets go of it first.
    let mut left = 500;
    let store = loop {
        match Sqlite::open(&path) {
            Err(StoreError::Failed(error)) => assert!(left > 0, "{error}"),
            opened => break opened.unwrap(),
        }
        left -= 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let queue = Queue::open(store, config()).await.unwrap();
    let kept = queue.messages(Some(State::Delivered), 0, 10_000).await;
    assert_eq!(kept.unwrap().len() as u32, pushed + 1);
}

/// The file system is mounted in a namespace of the child's own, and gone when it ends.
#[test]
fn a_queue_on_a_full_disk_refuses_and_waits() {
    if std::env::var_os("OUTLAST_FULL_FOLDER").is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let own: &[_] = if is_root { &["-m"] } else { &["-r", "-m"] };
    let mount = "mount -t tmpfs -o size=2m tmpfs \"$OUTLAST_FULL_FOLDER\" && exec \"$@\"";
    let ran = Command::new("unshare")
        .args(own)
        .args(["sh", "-c", mount, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["full::child", "--exact", "--nocapture"])
        .env("OUTLAST_FULL_FOLDER", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let is_done = ran.status.success() && said.contains("\neverything is delivered\n");
    assert!(is_done, "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
}
