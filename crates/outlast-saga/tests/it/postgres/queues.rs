//! Queues that several processes share.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outlast_saga::queue::store::{Change, Counts, Put, Store};
use outlast_saga::queue::{Config, DeliveryError, Message, PushError, Pushed, Queue, State};
use outlast_saga::store::StoreError;
use outlast_saga::store::postgres::{self, Postgres};
use outlast_saga::{Stamp, Tries};

use super::server::{Server, Wire};
use super::store;
use crate::messages::new;

fn lost() -> StoreError {
    let id = "q".to_owned();
    StoreError::Lost { id }
}

async fn put(store: &Postgres, id: &str) -> i64 {
    match store.put(new("q", id, Some("k"))).await {
        Ok(Put::New(place)) => place,
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < end, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_struck_off_can_neither_write_nor_deliver() {
    let server = Server::start();
    let settings = server.database("fence");
    let (one, two) = (store(&settings).await, store(&settings).await);
    assert!(one.claim("q") && two.claim("q"), "each process has it once");
    let (a, b) = (put(&one, "a").await, put(&two, "b").await);
    assert!(b > a);
    assert_eq!(one.own("q").await, Ok(true));
    assert_eq!(two.own("q").await, Ok(false));
    assert_eq!(two.owns("q").await, Err(lost()));
    let attempt = |attempt| Change::Attempt { attempt };
    assert_eq!(two.change("q", a, attempt(1)).await, Err(lost()));
    assert_eq!(two.arrivals("q", 0, 9).await, Err(lost()));
    assert_eq!(one.arrivals("q", 0, 9).await.unwrap().len(), 2);
    assert_eq!(one.change("q", a, attempt(1)).await, Ok(true));

    let stalled = "UPDATE outlast_runner SET until = now() - interval '1 s' WHERE id = 1";
    server.query(&settings, stalled);
    assert_eq!(two.own("q").await, Ok(true));
    // It does not know yet: the database refuses it.
    let delivered = || Change::Delivered { at: Stamp(1) };
    assert_eq!(one.owns("q").await, Ok(()));
    assert_eq!(one.change("q", a, delivered()).await, Err(lost()));
    assert_eq!(one.change("q", b, attempt(1)).await, Err(lost()));
    let kept = one.message("q", "a").await.unwrap().unwrap();
    assert_eq!((kept.state, kept.attempts), (State::Waiting, 1));
    assert_eq!(two.change("q", a, delivered()).await, Ok(true));

    // It gives up, and the other one has it at once.
    let freed = one.unowned("q");
    two.disown("q");
    freed.await;
    assert_eq!(two.change("q", b, delivered()).await, Err(lost()));
    until("it is free", async || one.own("q").await == Ok(true)).await;
    let epoch = "SELECT epoch FROM outlast_delivery";
    assert_eq!(server.query(&settings, epoch), "3");

    // Its process ends.
    outlast_saga::store::postgres::Postgres::leave(&one)
        .await
        .unwrap();
    assert_eq!(two.own("q").await, Ok(true));
    assert_eq!(one.own("q").await, Ok(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_has_its_bounds_over_all_processes() {
    let server = Server::start();
    let settings = server.database("bounds");
    let (one, two) = (store(&settings).await, store(&settings).await);
    let counts = async || one.counts("q").await.unwrap().unwrap();
    assert_eq!(counts().await, Counts::default());
    let bounded = |id: &str| {
        let mut message = new("q", id, None);
        (message.most, message.most_bytes) = (10, 1000);
        message
    };
    // From both at once: none too many.
    let mut puts = tokio::task::JoinSet::new();
    for number in 0..30 {
        let store = if number % 2 == 0 {
            one.clone()
        } else {
            two.clone()
        };
        let message = bounded(&format!("m{number}"));
        puts.spawn(async move { store.put(message).await.unwrap() });
    }
    let puts = puts.join_all().await;
    let new = puts.iter().filter(|put| matches!(put, Put::New(_)));
    assert_eq!(new.count(), 10);
    let (waiting, dead, bytes) = (10, 0, 50);
    let all = Counts {
        waiting,
        dead,
        bytes,
    };
    assert_eq!(counts().await, all);
    assert_eq!(one.put(bounded("more")).await, Ok(Put::Full(all)));
    let known = one.messages("q", None, 0, 1).await.unwrap();
    let again = two.put(bounded(&known[0].id)).await.unwrap();
    assert!(matches!(again, Put::Same(_)), "it needs no room");

    // Dead letters need room, what was delivered or dropped needs none.
    assert_eq!(one.own("q").await, Ok(true));
    let places: Vec<i64> = one
        .messages("q", None, 0, 99)
        .await
        .unwrap()
        .iter()
        .map(|kept| kept.place)
        .collect();
    let died = Change::Died {
        at: Stamp(5),
        error: "no".to_owned(),
    };
    assert_eq!(one.change("q", places[0], died.clone()).await, Ok(true));
    assert_eq!(one.change("q", places[1], died).await, Ok(true));
    assert_eq!(
        one.change("q", places[2], Change::Delivered { at: Stamp(5) })
            .await,
        Ok(true)
    );
    let (waiting, dead, bytes) = (7, 2, 45);
    assert_eq!(
        counts().await,
        Counts {
            waiting,
            dead,
            bytes
        }
    );
    let note = outlast_saga::queue::Note {
        at: Stamp(6),
        how: outlast_saga::queue::Hand::Drop,
        by: "ann".to_owned(),
        reason: "no need".to_owned(),
    };
    let dropped = Change::Dropped { note: note.clone() };
    let retried = Change::Retried {
        note,
        expires: Stamp(9),
    };
    // Whoever does something about one need not be who delivers.
    assert_eq!(two.change("q", places[0], dropped).await, Ok(true));
    assert_eq!(two.change("q", places[1], retried).await, Ok(true));
    let (waiting, dead, bytes) = (8, 0, 40);
    assert_eq!(
        counts().await,
        Counts {
            waiting,
            dead,
            bytes
        }
    );
    let arrived = one.arrivals("q", *places.last().unwrap(), 9).await.unwrap();
    assert_eq!(arrived[0].message.place, places[1], "it comes once more");
    let mut large = bounded("large");
    (large.most_bytes, large.payload) = (60, vec![0; 21]);
    assert!(matches!(two.put(large.clone()).await, Ok(Put::Full(_))));
    large.payload.pop();
    assert!(matches!(two.put(large).await, Ok(Put::New(_))));
}

/// Somebody has a place, and has not committed it yet: whoever pushes next waits, so that nobody sees the
/// second one before the first.
#[tokio::test(flavor = "multi_thread")]
async fn places_are_committed_in_their_order() {
    let server = Arc::new(Server::start());
    let settings = server.database("places");
    let store = store(&settings).await;
    put(&store, "first").await;
    let slow = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('outlast_queue q', 0)); \
        INSERT INTO outlast_message (place, queue, id, hash, size, state, pushed, expires, arrived, due) \
        SELECT n, 'q', 'slow', '', 0, 0, 1, 9000, n, 1 FROM nextval('outlast_place') AS n; \
        SELECT pg_sleep(3); COMMIT";
    let (pusher, there) = (Arc::clone(&server), settings.clone());
    let pusher = tokio::task::spawn_blocking(move || pusher.query(&there, slow));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while server.query(&settings, waits) != "1" {
        assert!(!pusher.is_finished(), "it does not sleep");
    }
    let next = put(&store, "next").await;
    let slow = store.message("q", "slow").await.unwrap();
    assert!(slow.expect("it was committed before").place < next);
    pusher.await.unwrap();
}

/// The answer to a commit does not come: nothing is lost or doubled.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_and_not_heard_of_is_known() {
    let server = Server::start();
    let wire = Wire::to(server.port);
    let settings = server
        .database("unheard")
        .replace(&server.port.to_string(), &wire.port.to_string());
    let store = store(&settings).await;
    put(&store, "warm").await;
    assert_eq!(store.own("q").await, Ok(true));
    for number in 0..20 {
        wire.swallow();
        let place = put(&store, &format!("m{number}")).await;
        wire.swallow();
        let attempt = Change::Attempt { attempt: 1 };
        assert_eq!(store.change("q", place, attempt).await, Ok(true));
        wire.swallow();
        let ended = if number % 2 == 0 {
            Change::Delivered { at: Stamp(7) }
        } else {
            let error = "no".to_owned();
            Change::Died {
                at: Stamp(7),
                error,
            }
        };
        assert_eq!(store.change("q", place, ended.clone()).await, Ok(true));
        assert_eq!(store.change("q", place, ended).await, Ok(false));
    }
    assert!(wire.swallowed() >= 40, "{}", wire.swallowed());
    let counts = store.counts("q").await.unwrap().unwrap();
    assert_eq!((counts.waiting, counts.dead), (1, 10));
}

/// Two processes push by turns, and a third delivers: in the order of pushes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_anywhere_is_delivered_in_its_order() {
    let server = Server::start();
    let settings = server.database("order");
    let mut queues = Vec::new();
    let config = || {
        Config::new("receipts")
            .slowest(5000.0)
            .fastest(5000.0)
            .most(400)
            .tries(Tries::new(2).backoff(Duration::from_millis(1)))
    };
    // Nobody waits for it.
    let lease = || postgres::Config::default().lease(Duration::from_secs(600));
    for _ in 0..3 {
        let store = Postgres::connect(&settings, lease()).await.unwrap();
        queues.push(Queue::open(store, config()).await.unwrap());
    }
    let ledger = Arc::new(Mutex::new(Vec::new()));
    let mut runs = Vec::new();
    for queue in &queues {
        let (queue, ledger) = (queue.clone(), Arc::clone(&ledger));
        runs.push(tokio::spawn(async move {
            let handler = move |delivery: outlast_saga::queue::Delivery| {
                let ledger = Arc::clone(&ledger);
                async move {
                    if delivery.id() == "poison" {
                        return Err(DeliveryError::permanent("no"));
                    }
                    ledger.lock().unwrap().push(delivery.id().to_owned());
                    Ok(())
                }
            };
            queue.run(handler).await.unwrap();
        }));
    }
    let mut expected = Vec::new();
    for number in 0..300 {
        let id = format!("m{number}");
        let message = Message::new(&id).key("k").bytes("x");
        let queue = &queues[number % 3];
        assert_eq!(queue.push(message.clone()).await, Ok(Pushed::New));
        assert_eq!(
            queues[(number + 1) % 3].push(message).await,
            Ok(Pushed::Same)
        );
        expected.push(id);
    }
    for queue in &queues {
        queue.drained().await;
    }
    assert_eq!(*ledger.lock().unwrap(), expected);
    let other = Message::new("m1").bytes("y");
    assert_eq!(queues[0].push(other).await, Err(PushError::Other));

    // A dead letter is everybody's; whoever delivers hears of it.
    queues[1]
        .push(Message::new("poison").key("k"))
        .await
        .unwrap();
    queues[2].drained().await;
    until("it is seen", async || {
        queues.iter().all(|queue| queue.stats().dead == 1)
    })
    .await;
    for queue in &queues {
        queue.retry("poison", "ann", "mended").await.unwrap();
        queue.drained().await;
    }
    queues[2].discard("poison", "ann", "no need").await.unwrap();
    let kept = queues[0].find("poison").await.unwrap().unwrap();
    assert_eq!((kept.state, kept.notes.len()), (State::Dropped, 4));

    // Whoever ends is replaced at once, wherever that was.
    for (number, queue) in queues.iter().enumerate().take(2) {
        queue.close();
        runs.remove(0).await.unwrap();
        let id = format!("late-{number}");
        queue.push(Message::new(&id)).await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), queue.drained())
            .await
            .expect("it is not given up");
        assert_eq!(ledger.lock().unwrap().last(), Some(&id));
    }
    // One that is dropped gives it up, too.
    runs.remove(0).abort();
    let next = Postgres::connect(&settings, lease()).await.unwrap();
    let next = Queue::open(next, config()).await.unwrap();
    next.push(Message::new("last")).await.unwrap();
    let runs = next.clone();
    tokio::spawn(async move { runs.run(|_| async { Ok(()) }).await });
    tokio::time::timeout(Duration::from_secs(60), next.drained())
        .await
        .expect("it was given up");
}
