//! What every store does with messages.

use outlast_saga::Stamp;
use outlast_saga::queue::store::{Change, NewMessage, Put, Store};
use outlast_saga::queue::{Hand, Kept, Note, State};
use outlast_saga::store::Memory;
use outlast_saga::store::sqlite::Sqlite;

pub fn new(queue: &str, id: &str, key: Option<&str>) -> NewMessage {
    NewMessage {
        queue: queue.to_owned(),
        id: id.to_owned(),
        key: key.map(str::to_owned),
        hash: vec![1, 2, 0, 255],
        payload: b"a \0 b".to_vec(),
        pushed: Stamp(1000),
        expires: Stamp(9000),
        most: 100,
        most_bytes: 1000,
    }
}

fn note(at: u64, how: Hand) -> Note {
    Note {
        at: Stamp(at),
        how,
        by: "ann \"o'\"".to_owned(),
        reason: "mended".to_owned(),
    }
}

fn ids(kept: Vec<Kept>) -> Vec<String> {
    kept.into_iter().map(|kept| kept.id).collect()
}

async fn put(store: &impl Store, queue: &str, id: &str) -> i64 {
    match store.put(new(queue, id, Some("k"))).await {
        Ok(Put::New(place)) => place,
        other => panic!("{other:?}"),
    }
}

pub async fn keeps_messages(store: impl Store) {
    // A queue is one's at a time.
    assert!(store.claim("q") && !store.claim("q") && store.claim("r"));
    store.release("q");
    assert!(store.claim("q"));
    assert_eq!(store.own("q").await, Ok(true));
    assert_eq!(store.owns("q").await, Ok(()));

    // A push is idempotent by id and content, in its queue.
    let a = put(&store, "q", "a").await;
    let Put::Same(same) = store.put(new("q", "a", Some("k"))).await.unwrap() else {
        panic!("it is the same");
    };
    let as_pushed = Kept {
        place: a,
        id: "a".to_owned(),
        key: Some("k".to_owned()),
        size: 5,
        state: State::Waiting,
        pushed: Stamp(1000),
        expires: Stamp(9000),
        attempts: 0,
        due: Stamp(1000),
        error: None,
        ended: None,
        notes: Vec::new(),
    };
    assert_eq!(*same, as_pushed);
    let other = NewMessage {
        hash: vec![9],
        ..new("q", "a", Some("k"))
    };
    assert_eq!(store.put(other).await, Ok(Put::Other));
    let elsewhere = put(&store, "r", "a").await;
    assert!(elsewhere > a, "places are in the order of pushes");
    assert_eq!(
        store.read(a).await,
        Ok(Some((as_pushed.clone(), b"a \0 b".to_vec())))
    );
    assert_eq!(store.read(999).await, Ok(None));
    assert_eq!(store.message("q", "a").await, Ok(Some(as_pushed.clone())));
    assert_eq!(store.message("q", "nobody").await, Ok(None));

    attempts_and_dead_letters(&store, a, &as_pushed).await;
    lists_and_forgets(&store).await;
}

async fn attempts_and_dead_letters(store: &impl Store, a: i64, as_pushed: &Kept) {
    let change = |place, change| store.change("q", place, change);
    assert_eq!(change(a, Change::Attempt { attempt: 1 }).await, Ok(true));
    let again = |attempts, error: &str| Change::Again {
        attempts,
        due: Stamp(2000),
        error: error.to_owned(),
    };
    assert_eq!(change(a, again(1, "busy")).await, Ok(true));
    assert_eq!(change(a, Change::Attempt { attempt: 2 }).await, Ok(true));
    // One that was not made is none, also when it was the first.
    for attempts in [1, 0] {
        assert_eq!(change(a, again(attempts, "busy")).await, Ok(true));
        let known = store.message("q", "a").await.unwrap().unwrap();
        assert_eq!(known.attempts, attempts);
    }
    assert_eq!(change(a, Change::Attempt { attempt: 2 }).await, Ok(true));
    let tried = Kept {
        attempts: 2,
        due: Stamp(2000),
        error: Some("busy".to_owned()),
        ..as_pushed.clone()
    };
    assert_eq!(store.message("q", "a").await, Ok(Some(tried)));

    // Hands are for dead letters, and attempts are not.
    let retried = |at| Change::Retried {
        note: note(at, Hand::Retry),
        expires: Stamp(20_000),
    };
    let dropped = |at| Change::Dropped {
        note: note(at, Hand::Drop),
    };
    assert_eq!(change(a, retried(1)).await, Ok(false));
    assert_eq!(change(a, dropped(1)).await, Ok(false));
    let died = |at| Change::Died {
        at: Stamp(at),
        error: "no".to_owned(),
    };
    assert_eq!(change(a, died(3000)).await, Ok(true));
    assert_eq!(change(a, died(3000)).await, Ok(false));
    assert_eq!(change(a, Change::Attempt { attempt: 3 }).await, Ok(false));
    assert_eq!(change(a, again(2, "")).await, Ok(false));
    assert_eq!(
        change(a, Change::Delivered { at: Stamp(1) }).await,
        Ok(false)
    );
    assert_eq!(change(999, died(1)).await, Ok(false), "there is none");
    let dead = store.message("q", "a").await.unwrap().unwrap();
    assert_eq!((dead.state, dead.attempts), (State::Dead, 2));
    assert_eq!(
        (dead.error.as_deref(), dead.ended),
        (Some("no"), Some(Stamp(3000)))
    );

    // Somebody has it tried again, from the first attempt on, and it dies again, and is dropped.
    assert_eq!(change(a, retried(4000)).await, Ok(true));
    let kept = store.message("q", "a").await.unwrap().unwrap();
    assert_eq!(
        (kept.state, kept.attempts, kept.due),
        (State::Waiting, 0, Stamp(4000))
    );
    assert_eq!((kept.expires, kept.ended), (Stamp(20_000), None));
    assert_eq!(kept.error.as_deref(), Some("no"), "why it was dead");
    for number in 0..25 {
        assert_eq!(change(a, Change::Attempt { attempt: 1 }).await, Ok(true));
        assert_eq!(change(a, died(5000)).await, Ok(true));
        assert_eq!(change(a, retried(5000 + number)).await, Ok(true));
    }
    assert_eq!(change(a, died(5000)).await, Ok(true));
    assert_eq!(change(a, dropped(6000)).await, Ok(true));
    let (kept, payload) = store.read(a).await.unwrap().unwrap();
    assert_eq!(
        (kept.state, kept.ended, payload.len()),
        (State::Dropped, Some(Stamp(6000)), 0)
    );
    assert_eq!(kept.notes.len(), 20, "the last ones");
    assert_eq!(kept.notes.last(), Some(&note(6000, Hand::Drop)));
    assert_eq!(kept.notes[18], note(5024, Hand::Retry));
}

async fn lists_and_forgets(store: &impl Store) {
    for id in ["b", "c", "d", "e"] {
        let place = put(store, "q", id).await;
        if id == "c" || id == "e" {
            store
                .change("q", place, Change::Attempt { attempt: 1 })
                .await
                .unwrap();
            let at = Stamp(if id == "c" { 5000 } else { 8000 });
            assert_eq!(
                store.change("q", place, Change::Delivered { at }).await,
                Ok(true)
            );
            let (kept, payload) = store.read(place).await.unwrap().unwrap();
            assert_eq!((kept.attempts, kept.size, payload.len()), (1, 5, 0));
        }
    }
    let listed =
        |state, after, most| async move { store.messages("q", state, after, most).await.unwrap() };
    assert_eq!(ids(listed(None, 0, 9).await), ["a", "b", "c", "d", "e"]);
    assert_eq!(ids(listed(Some(State::Waiting), 0, 9).await), ["b", "d"]);
    assert_eq!(ids(listed(Some(State::Delivered), 0, 9).await), ["c", "e"]);
    assert_eq!(ids(listed(Some(State::Dropped), 0, 9).await), ["a"]);
    assert_eq!(ids(listed(Some(State::Dead), 0, 9).await).len(), 0);
    let first = listed(Some(State::Waiting), 0, 1).await;
    let second = listed(Some(State::Waiting), first[0].place, 1).await;
    assert_eq!(
        (ids(first), ids(second)),
        (vec!["b".to_owned()], vec!["d".to_owned()])
    );

    // Only what has ended is forgotten, the oldest first, and its id is free then.
    assert_eq!(store.forget_messages("q", Stamp(5000), 9).await, Ok(0));
    assert_eq!(store.forget_messages("q", Stamp(9000), 1).await, Ok(1));
    assert_eq!(
        ids(listed(None, 0, 9).await),
        ["a", "b", "d", "e"],
        "c ended first"
    );
    assert_eq!(store.forget_messages("q", Stamp(9000), 9).await, Ok(2));
    assert_eq!(ids(listed(None, 0, 9).await), ["b", "d"]);
    assert_eq!(ids(store.messages("r", None, 0, 9).await.unwrap()), ["a"]);
    let d = listed(None, 0, 9).await[1].place;
    assert!(put(store, "q", "a").await > d, "no place is given twice");

    // What waits comes in its order, and what is pushed later behind it.
    let first = store.arrivals("q", 0, 2).await.unwrap();
    let rest = store.arrivals("q", first[1].number, 9).await.unwrap();
    put(store, "q", "f").await;
    let last = store.arrivals("q", rest[0].number, 9).await.unwrap();
    let arrived = [first, rest, last].concat();
    assert!(arrived.is_sorted_by_key(|arrival| arrival.number));
    let arrived = arrived.into_iter().map(|arrival| arrival.message);
    assert_eq!(ids(arrived.collect()), ["b", "d", "a", "f"]);
}

#[tokio::test]
async fn memory() {
    keeps_messages(Memory::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    keeps_messages(Sqlite::open(folder.path().join("a.db")).unwrap()).await;
}
