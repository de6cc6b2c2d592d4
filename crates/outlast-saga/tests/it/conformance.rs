//! What every store does.

use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::store::{Begun, Count, Memory, NewSaga, Pause, State, Store, StoreError};
use outlast_saga::{Event, Record, Stamp};
use serde_json::json;

pub fn record(seq: u64) -> Record {
    let event = match seq {
        0 => Event::Began {
            definition: "order".to_owned(),
            version: 1,
            hash: "h".to_owned(),
            input: json!({ "item": "ä\"\n" }),
        },
        _ => Event::Succeeded {
            step: seq as usize,
            output: json!([seq, null]),
        },
    };
    Record {
        seq,
        at: Stamp(1000 + seq),
        events: vec![
            event,
            Event::Started {
                step: 0,
                attempt: 1,
            },
        ],
    }
}

pub fn new(id: &str, input_hash: &str) -> NewSaga {
    NewSaga {
        id: id.to_owned(),
        definition: "order".to_owned(),
        version: 1,
        hash: "h".to_owned(),
        input_hash: input_hash.to_owned(),
        record: record(0),
        state: State::Open,
    }
}

pub async fn keeps_what_it_should(store: impl Store) {
    // A start is idempotent by its id and input.
    assert_eq!(store.begin(new("a", "1")).await, Ok(Begun::New));
    assert_eq!(store.begin(new("a", "1")).await, Ok(Begun::Same));
    assert_eq!(store.begin(new("a", "2")).await, Ok(Begun::Other));
    let another = NewSaga {
        definition: "else".to_owned(),
        ..new("a", "1")
    };
    assert_eq!(store.begin(another).await, Ok(Begun::Other));

    // Records have their places.
    assert_eq!(store.append("a", record(1), State::Open).await, Ok(()));
    let conflict = Err(StoreError::Conflict { id: "a".to_owned() });
    assert_eq!(store.append("a", record(1), State::Open).await, conflict);
    assert_eq!(store.append("a", record(3), State::Open).await, conflict);
    assert_eq!(store.append("a", record(2), State::Waiting).await, Ok(()));
    assert!(
        store
            .append("nobody", record(0), State::Open)
            .await
            .is_err()
    );
    assert_eq!(
        store.log("a").await.unwrap(),
        [record(0), record(1), record(2)]
    );
    assert_eq!(store.log("nobody").await.unwrap(), []);
    let from = async |seq, most| store.log_from("a", seq, most).await.unwrap();
    assert_eq!(from(0, 2).await, [record(0), record(1)]);
    assert_eq!(from(1, 100).await, [record(1), record(2)]);
    assert_eq!(from(3, 100).await, []);
    assert_eq!(from(u64::MAX, 100).await, []);
    assert_eq!(store.log_from("nobody", 0, 100).await.unwrap(), []);

    // They are found by where they are.
    for id in ["b", "c", "d"] {
        assert_eq!(store.begin(new(id, "1")).await, Ok(Begun::New));
    }
    store
        .append("c", record(1), State::Completed)
        .await
        .unwrap();
    let count = |state, sagas| Count {
        definition: "order".to_owned(),
        version: 1,
        state,
        sagas,
    };
    assert_eq!(
        store.count().await.unwrap(),
        [count(State::Open, 2), count(State::Waiting, 1)]
    );
    let found = store.find("a").await.unwrap().unwrap();
    assert_eq!(
        (found.state, found.began, found.version),
        (State::Waiting, Stamp(1000), 1)
    );
    assert_eq!(store.find("nobody").await.unwrap(), None);
    let ids = |listed: Vec<outlast_saga::store::Listed>| -> Vec<String> {
        listed.into_iter().map(|listed| listed.id).collect()
    };
    assert_eq!(
        ids(store.list(None, 0, 100).await.unwrap()),
        ["a", "b", "c", "d"]
    );
    assert_eq!(
        ids(store.list(Some(State::Open), 0, 100).await.unwrap()),
        ["b", "d"]
    );
    let first = store.list(Some(State::Open), 0, 1).await.unwrap();
    let second = store
        .list(Some(State::Open), first[0].place, 1)
        .await
        .unwrap();
    assert_eq!(
        (ids(first), ids(second)),
        (vec!["b".to_owned()], vec!["d".to_owned()])
    );

    // Somebody lets one go on that waited.
    let handled = Event::Handled {
        step: 0,
        how: outlast_saga::Hand::Retry,
        by: "ann".to_owned(),
        reason: "mended".to_owned(),
        output: Some(json!([1])),
        more: 7,
    };
    let by_hand = Record {
        seq: 3,
        at: Stamp(5000),
        events: vec![handled],
    };
    store.append("a", by_hand, State::Open).await.unwrap();
    assert_eq!(
        ids(store.list(Some(State::Waiting), 0, 100).await.unwrap()).len(),
        0
    );

    // Only what has ended is forgotten, by when it ended, and its id is free then.
    assert_eq!(
        store.forget(Stamp(1001), 10).await,
        Ok(0),
        "it did not end before"
    );
    assert_eq!(store.forget(Stamp(9000), 10).await, Ok(1));
    assert_eq!(store.log("c").await.unwrap(), []);
    assert_eq!(
        ids(store.list(None, 0, 100).await.unwrap()),
        ["a", "b", "d"]
    );
    assert_eq!(store.begin(new("c", "9")).await, Ok(Begun::New));
}

/// Logs of sagas that ended are dropped before the sagas are.
pub async fn drops_logs_of_what_ended(store: impl Store) {
    for id in ["a", "b", "c", "d", "e"] {
        assert_eq!(store.begin(new(id, "1")).await, Ok(Begun::New));
    }
    let ends = async |id: &str, at: u64, state: State| {
        let record = Record {
            at: Stamp(at),
            ..record(1)
        };
        assert_eq!(store.append(id, record, state).await, Ok(()));
    };
    ends("a", 2000, State::Completed).await;
    ends("b", 3000, State::Compensated).await;
    ends("c", 4000, State::Completed).await;
    ends("d", 2000, State::Waiting).await;
    let ended = async |id: &str| store.find(id).await.unwrap().unwrap().ended;
    assert_eq!(ended("a").await, Some(Stamp(2000)));
    assert_eq!((ended("d").await, ended("e").await), (None, None));

    // By when they ended, and a bounded number at a time; nothing twice.
    assert_eq!(store.compact(Stamp(2000), 10).await, Ok(0));
    assert_eq!(store.compact(Stamp(4000), 1).await, Ok(1));
    assert_eq!(store.compact(Stamp(4000), 10).await, Ok(1));
    assert_eq!(store.compact(Stamp(4000), 10).await, Ok(0));
    let has_log = async |id: &str| store.find(id).await.unwrap().unwrap().has_log;
    for (id, records) in [("a", 0), ("b", 0), ("c", 2), ("d", 2), ("e", 1)] {
        assert_eq!(has_log(id).await, records > 0, "{id}");
        assert_eq!(store.log(id).await.unwrap().len(), records, "{id}");
        assert_eq!(store.log_from(id, 0, 9).await.unwrap().len(), records);
    }

    // What is left knows what it was, and nothing is added to it.
    let found = store.find("a").await.unwrap().unwrap();
    assert_eq!(
        (found.state, found.began, &*found.input_hash),
        (State::Completed, Stamp(1000), "1")
    );
    assert_eq!(store.begin(new("a", "1")).await, Ok(Begun::Same));
    assert_eq!(store.begin(new("a", "2")).await, Ok(Begun::Other));
    for seq in 0..3 {
        let refused = store.append("a", record(seq), State::Open).await;
        // To several runners, what has ended is nobody's.
        let is_refused = matches!(
            refused,
            Err(StoreError::Conflict { .. } | StoreError::Lost { .. })
        );
        assert!(is_refused, "{refused:?}");
    }
    let completed = store.list(Some(State::Completed), 0, 10).await.unwrap();
    assert_eq!(completed.len(), 2);

    // They are forgotten with and without their logs.
    assert_eq!(store.forget(Stamp(3001), 10).await, Ok(2));
    assert_eq!(store.forget(Stamp(9000), 10).await, Ok(1));
    assert_eq!(store.list(None, 0, 10).await.unwrap().len(), 2);
    assert_eq!(store.begin(new("a", "2")).await, Ok(Begun::New));
}

/// The last word on each definition.
pub async fn keeps_words_on_definitions(store: impl Store) {
    let word = |definition: &str, is_paused, reason: &str| Pause {
        definition: definition.to_owned(),
        is_paused,
        by: "ann".to_owned(),
        reason: reason.to_owned(),
        at: Stamp(1000),
    };
    assert_eq!(store.pauses().await, Ok(Vec::new()));
    let said = [
        word("order", true, "the bank is away"),
        word("book", true, "ä\"\n"),
        word("order", false, "it is back"),
    ];
    for word in &said {
        assert_eq!(store.pause(word.clone()).await, Ok(()));
    }
    let [_, book, order] = said;
    assert_eq!(store.pauses().await, Ok(vec![book, order]));
}

/// A hundred sagas at once, each of whose records waits for the one before.
pub async fn takes_many_at_once(store: impl Store) {
    let store = std::sync::Arc::new(store);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let store = std::sync::Arc::clone(&store);
        tasks.spawn(async move {
            let id = format!("s{number}");
            assert_eq!(store.begin(new(&id, "1")).await, Ok(Begun::New));
            for seq in 1..10 {
                let state = if seq == 9 {
                    State::Completed
                } else {
                    State::Open
                };
                assert_eq!(store.append(&id, record(seq), state).await, Ok(()));
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let done = store.list(Some(State::Completed), 0, 1000).await.unwrap();
    assert_eq!(done.len(), 100);
    for listed in done {
        let log = store.log(&listed.id).await.unwrap();
        assert_eq!(log, (0..10).map(record).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn memory() {
    keeps_what_it_should(Memory::new()).await;
    keeps_words_on_definitions(Memory::new()).await;
    drops_logs_of_what_ended(Memory::new()).await;
    takes_many_at_once(Memory::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    keeps_what_it_should(Sqlite::open(folder.path().join("a.db")).unwrap()).await;
    takes_many_at_once(Sqlite::open(folder.path().join("b.db")).unwrap()).await;
    keeps_words_on_definitions(Sqlite::open(folder.path().join("c.db")).unwrap()).await;
    drops_logs_of_what_ended(Sqlite::open(folder.path().join("d.db")).unwrap()).await;
}
