//! What may be wrong with a file.

use std::path::Path;

use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::store::{Begun, State, Store};
use outlast_saga::{Event, Record, Stamp};
use serde_json::json;

use crate::conformance::{new, record};

async fn filled(path: &Path) {
    let store = Sqlite::open(path).unwrap();
    for number in 0..200 {
        assert_eq!(
            store.begin(new(&format!("s{number}"), "1")).await,
            Ok(Begun::New)
        );
    }
}

/// A child that another test begins has the lock of its parent until it runs its own program.
async fn again(path: &Path) -> Sqlite {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match Sqlite::open(path) {
            Ok(store) => return store,
            Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_file_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    let store = Sqlite::open(&path).unwrap();
    store.begin(new("a", "1")).await.unwrap();
    store.append("a", record(1), State::Waiting).await.unwrap();
    drop(store);
    let store = again(&path).await;
    assert_eq!(store.path(), path);
    assert_eq!(store.log("a").await.unwrap(), [record(0), record(1)]);
    assert_eq!(store.begin(new("a", "1")).await, Ok(Begun::Same));
    assert_eq!(store.append("a", record(2), State::Open).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_one_processs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    let _first = Sqlite::open(&path).unwrap();
    let error = Sqlite::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("sagas.db is open in another process"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_newer_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    filled(&path).await;
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    drop(connection);
    let error = Sqlite::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("version 99, and this program knows up to "),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_an_older_program_gets_what_it_lacks() {
    use outlast_saga::queue::store::{Put, Store as _};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    filled(&path).await;
    // As the program before queues has left it.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "DROP TABLE message; DROP TABLE attempt; DROP TABLE pause; DROP INDEX saga_ended; \
             ALTER TABLE saga DROP COLUMN ended; ALTER TABLE saga DROP COLUMN dropped; \
             UPDATE saga SET state = 20 WHERE id = 's8'; PRAGMA user_version = 1",
        )
        .unwrap();
    drop(connection);
    let store = Sqlite::open(&path).unwrap();
    // Nobody knows when it ended, so when it began counts.
    let found = store.find("s8").await.unwrap().unwrap();
    assert_eq!((found.ended, found.has_log), (None, true));
    assert_eq!(store.compact(Stamp(1000), 9).await, Ok(0));
    assert_eq!(store.compact(Stamp(1001), 9).await, Ok(1));
    assert_eq!(store.log("s7").await.unwrap(), [record(0)]);
    let put = store.put(crate::messages::new("receipts", "m", None)).await;
    assert_eq!(put, Ok(Put::New(1)));
    assert_eq!(store.pauses().await, Ok(Vec::new()));
}

/// Five records that are as large as those of an order.
async fn ended(store: Sqlite, id: String) {
    assert_eq!(store.begin(new(&id, "1")).await, Ok(Begun::New));
    for seq in 1..6 {
        let gave = Event::Succeeded {
            step: 0,
            output: json!({ "receipt": "x".repeat(400), "of": id }),
        };
        let record = Record {
            seq,
            at: Stamp(2000),
            events: vec![gave],
        };
        let state = if seq == 5 {
            State::Completed
        } else {
            State::Open
        };
        assert_eq!(store.append(&id, record, state).await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_gets_smaller_when_logs_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    let store = Sqlite::open(&path).unwrap();
    let mut all = tokio::task::JoinSet::new();
    for number in 0..SAGAS {
        all.spawn(ended(store.clone(), format!("order-{number}")));
    }
    all.join_all().await;
    drop(store);
    let store = again(&path).await;
    let size = || std::fs::metadata(&path).unwrap().len();
    let before = size();
    let mut dropped = 0;
    loop {
        let most = 500;
        match store.compact(Stamp(9000), most).await.unwrap() {
            0 => break,
            some => {
                assert!(some <= most);
                dropped += some;
            }
        }
    }
    assert_eq!(dropped, SAGAS);
    // The file gets smaller while it is open, and nobody has to wait for it.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while size() > before / 4 {
        assert!(
            std::time::Instant::now() < end,
            "{} of {before} bytes",
            size()
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(store.begin(new("order-7", "1")).await, Ok(Begun::Same));
    drop(store);
    let store = again(&path).await;
    let kib = |bytes: u64| bytes as f64 / 1024.0 / SAGAS as f64;
    println!(
        "{:.2} KiB per saga with its log, {:.2} without",
        kib(before),
        kib(size())
    );
    assert_eq!(store.forget(Stamp(9000), SAGAS).await, Ok(SAGAS));
    assert_eq!(store.begin(new("order-7", "1")).await, Ok(Begun::New));
}

const SAGAS: usize = 2000;
