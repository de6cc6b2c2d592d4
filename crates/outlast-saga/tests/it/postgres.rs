//! PostgreSQL: stores and runners that share a real one.

mod processes;
mod queue_processes;
mod queues;
mod server;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use outlast_saga::store::postgres::{Config, Postgres};
use outlast_saga::store::{Begun, Known, State, Store, StoreError};
use outlast_saga::{Flow, Limits, Runner, Step};

use self::server::{Server, Wire};
use crate::conformance::{
    drops_logs_of_what_ended, keeps_what_it_should, keeps_words_on_definitions, new, record,
    takes_many_at_once,
};
use crate::messages::keeps_messages;

fn known() -> Vec<Known> {
    vec![Known {
        definition: "order".to_owned(),
        version: 1,
        hash: "h".to_owned(),
    }]
}

async fn store(settings: &str) -> Postgres {
    Postgres::connect(settings, Config::default())
        .await
        .unwrap()
}

fn lost(id: &str) -> StoreError {
    StoreError::Lost { id: id.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_every_store_does() {
    let server = Server::start();
    keeps_what_it_should(store(&server.database("one")).await).await;
    takes_many_at_once(store(&server.database("two")).await).await;
    keeps_messages(store(&server.database("messages")).await).await;
    keeps_words_on_definitions(store(&server.database("words")).await).await;
    drops_logs_of_what_ended(store(&server.database("logs")).await).await;

    // Runners that start together make the tables once.
    let settings = server.database("three");
    let (one, two) = tokio::join!(store(&settings), store(&settings));
    assert_eq!(one.begin(new("a", "1")).await, Ok(Begun::New));
    assert_eq!(two.begin(new("a", "1")).await, Ok(Begun::Same));

    // What the database refuses holds up nothing else.
    let (bad, good) = tokio::join!(one.begin(new("a\0b", "1")), one.begin(new("c", "1")));
    assert!(matches!(bad, Err(StoreError::Failed(_))), "{bad:?}");
    assert_eq!(good, Ok(Begun::New));

    server.query(&settings, "UPDATE outlast_version SET version = 99");
    let newer = Postgres::connect(&settings, Config::default()).await;
    let newer = newer.unwrap_err().to_string();
    assert!(
        newer.contains("version 99, and this program knows up to "),
        "{newer}"
    );
    let short = Config::default().lease(Duration::from_millis(999));
    assert!(Postgres::connect(&settings, short).await.is_err());
    assert!(
        Postgres::connect("shop@here", Config::default())
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_was_struck_off_can_neither_write_nor_begin_anything() {
    let server = Server::start();
    let settings = server.database("fence");
    let (one, two) = (store(&settings).await, store(&settings).await);
    for id in ["a", "b"] {
        one.begin(new(id, "1")).await.unwrap();
    }
    assert_eq!(
        two.claim(&known(), 0, 10).await,
        Ok(Vec::new()),
        "it is alive"
    );
    assert_eq!(two.take("a").await, Ok(false));
    assert_eq!(
        two.append("a", record(1), State::Open).await,
        Err(lost("a"))
    );
    one.append("a", record(1), State::Open).await.unwrap();
    assert_eq!(one.ready("a", 2).await, Ok(()));
    assert_eq!(one.ready("a", 1).await, Err(lost("a")), "its log is longer");

    let stalled = "UPDATE outlast_runner SET until = now() - interval '1 s' WHERE id = 1";
    server.query(&settings, stalled);
    let claimed = two.claim(&known(), 0, 1).await.unwrap();
    assert_eq!(claimed[0].id, "a");
    assert_eq!(two.take("b").await, Ok(true));

    // It does not know yet: the database refuses it.
    assert_eq!(
        one.append("a", record(2), State::Open).await,
        Err(lost("a"))
    );
    assert_eq!(
        one.append("b", record(1), State::Open).await,
        Err(lost("b"))
    );
    assert_eq!(one.ready("a", 2).await, Err(lost("a")));
    assert_eq!(two.append("a", record(2), State::Open).await, Ok(()));
    let epochs =
        "SELECT string_agg(epoch::text, ',' ORDER BY seq) FROM outlast_record WHERE saga = 1";
    assert_eq!(server.query(&settings, epochs), "1,1,2");

    // One that waits for somebody is whoever's does something about it.
    two.append("a", record(3), State::Waiting).await.unwrap();
    two.release("a").await;
    assert_eq!(one.take("a").await, Ok(true));
    // Two definitions, and one that is not known here.
    let other = new("c", "1");
    two.begin(outlast_saga::store::NewSaga {
        hash: "i".to_owned(),
        ..other
    })
    .await
    .unwrap();
    two.release("c").await;
    assert_eq!(one.claim(&known(), 0, 10).await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_share_what_is_free_and_hear_of_it_at_once() {
    let server = Arc::new(Server::start());
    let settings = server.database("share");
    let (one, two, three) = (
        store(&settings).await,
        store(&settings).await,
        store(&settings).await,
    );
    for number in 0..300 {
        one.begin(new(&format!("s{number}"), "1")).await.unwrap();
    }
    // Whatever was to be heard before.
    while tokio::time::timeout(Duration::from_millis(100), two.freed())
        .await
        .is_ok()
    {}
    let before = Instant::now();
    let heard = two.clone();
    let heard = tokio::spawn(async move { heard.freed().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    one.leave().await.unwrap();
    heard.await.unwrap();
    assert!(
        before.elapsed() < Duration::from_secs(4),
        "it was not polling"
    );
    assert!(one.begin(new("late", "1")).await.is_err());
    assert_eq!(
        one.append("s1", record(1), State::Open).await,
        Err(lost("s1"))
    );
    assert_eq!(one.ready("s1", 1).await, Err(lost("s1")));

    // What somebody else is about to take is skipped, and not waited for.
    let lock = "BEGIN; SELECT count(*) FROM (SELECT FROM outlast_saga WHERE place <= 50 FOR UPDATE) \
                AS locked; SELECT pg_sleep(3)";
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let (locker, there) = (Arc::clone(&server), settings.clone());
    let locker = tokio::task::spawn_blocking(move || locker.query(&there, lock));
    while server.query(&settings, waits) != "1" {
        assert!(!locker.is_finished(), "nothing is locked");
    }
    let known = known();
    let claimed = tokio::time::timeout(Duration::from_secs(2), two.claim(&known, 0, 1)).await;
    assert_eq!(claimed.unwrap().unwrap()[0].id, "s50");
    locker.await.unwrap();
    two.release("s50").await;

    let all = async |store: &Postgres| {
        let mut ids = Vec::new();
        loop {
            let claimed = store.claim(&known, 0, 1000).await.unwrap();
            assert!(claimed.len() <= 64 && claimed.is_sorted_by_key(|listed| listed.place));
            if claimed.is_empty() {
                return ids;
            }
            ids.extend(claimed.into_iter().map(|listed| listed.id));
        }
    };
    let (first, second) = tokio::join!(all(&two), all(&three));
    let mut ids: Vec<_> = first.iter().chain(&second).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(
        (ids.len(), first.len() + second.len()),
        (300, 300),
        "each once"
    );
}

/// The answer to a commit does not come: whether it was made is found out, and nothing is written twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_and_not_heard_of_is_neither_lost_nor_doubled() {
    let server = Server::start();
    let wire = Wire::to(server.port);
    let settings = server
        .database("unheard")
        .replace(&server.port.to_string(), &wire.port.to_string());
    let store = store(&settings).await;
    store.begin(new("warm", "1")).await.unwrap();
    for number in 0..20 {
        let id = format!("s{number}");
        wire.swallow();
        assert_eq!(store.begin(new(&id, "1")).await, Ok(Begun::New), "{id}");
        for seq in 1..4 {
            wire.swallow();
            assert_eq!(
                store.append(&id, record(seq), State::Open).await,
                Ok(()),
                "{id}"
            );
        }
        let conflict = StoreError::Conflict { id: id.clone() };
        assert_eq!(
            store.append(&id, record(3), State::Open).await,
            Err(conflict)
        );
        assert_eq!(
            store.log(&id).await.unwrap(),
            (0..4).map(record).collect::<Vec<_>>()
        );
    }
    assert!(wire.swallowed() >= 60, "{}", wire.swallowed());
}

/// Somebody who waits for a beginning goes away; the saga is not nobody's for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waited_for_is_claimed() {
    let server = Server::start();
    let settings = server.database("unwaited");
    let store = store(&settings).await;
    let begun = async || store.find("a").await.unwrap().is_some();
    while !begun().await {
        let begin = store.begin(new("a", "1"));
        let _ = tokio::time::timeout(Duration::from_micros(50), begin).await;
    }
    let claimed = store.claim(&known(), 0, 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(store.append("a", record(1), State::Open).await, Ok(()));
    assert_eq!(store.claim(&known(), 0, 10).await, Ok(Vec::new()));
}

/// Connections are cut by the server while a hundred sagas are written.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_are_made_again() {
    let server = Arc::new(Server::start());
    let settings = server.database("cut");
    let store = store(&settings).await;
    let cuts = Arc::new(AtomicU32::new(0));
    let (cut, there) = (Arc::clone(&cuts), Arc::downgrade(&server));
    let cutter = std::thread::spawn(move || {
        // Until the test has ended, with the server.
        while let Some(server) = there.upgrade() {
            let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE datname = 'cut' AND pid <> pg_backend_pid()";
            let count: u32 = server.query(&settings, all).parse().unwrap();
            cut.fetch_add(count, Ordering::Relaxed);
            drop(server);
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    takes_many_at_once(store.clone()).await;
    // That may be done before much is cut.
    let mut more = 0;
    while cuts.load(Ordering::Relaxed) <= 3 {
        let new = new(&format!("more-{more}"), "1");
        assert_eq!(store.begin(new).await, Ok(Begun::New));
        more += 1;
    }
    drop(server);
    cutter.join().unwrap();
}

/// The database does not answer: nothing is begun when the lease may end, and all goes on afterwards
/// if nobody has taken over.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_begun_when_little_of_the_lease_is_left() {
    let server = Server::start();
    let wire = Wire::to(server.port);
    let direct = server.database("lease");
    let settings = direct.replace(&server.port.to_string(), &wire.port.to_string());
    let config = Config::default().lease(Duration::from_millis(1500));
    let store = Postgres::connect(&settings, config).await.unwrap();
    store.begin(new("a", "1")).await.unwrap();
    assert_eq!(store.ready("a", 1).await, Ok(()));
    wire.hold_up(true);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let early = tokio::time::timeout(Duration::from_millis(200), store.ready("a", 1)).await;
    assert!(early.is_err(), "less than a third of the lease is left");
    tokio::time::sleep(Duration::from_millis(700)).await;
    wire.hold_up(false);
    let ready = tokio::time::timeout(Duration::from_secs(20), store.ready("a", 1)).await;
    assert_eq!(ready, Ok(Ok(())), "nobody has struck it off");
    assert_eq!(store.append("a", record(1), State::Open).await, Ok(()));

    // And if somebody has, it is told so.
    wire.hold_up(true);
    let other = Postgres::connect(&direct, Config::default()).await.unwrap();
    while other.claim(&known(), 0, 1).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wire.hold_up(false);
    let ready = tokio::time::timeout(Duration::from_secs(20), store.ready("a", 2)).await;
    assert_eq!(ready, Ok(Err(lost("a"))));
}

/// A runner leaves, and another one goes on with its sagas; controls know where to ask.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_goes_on_with_what_another_one_leaves() {
    let server = Server::start();
    let settings = server.database("hand-over");
    let flow = |hangs: bool| {
        Flow::new("order", 1).step(Step::new("only"), move |_| async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(1)
        })
    };
    let (one, two) = (store(&settings).await, store(&settings).await);
    let old = Runner::new(one.clone(), [flow(true)], Limits::default()).unwrap();
    let new = Runner::new(two.clone(), [flow(false)], Limits::default()).unwrap();
    assert_eq!(new.resume().await.unwrap().sagas, 0);
    for number in 0..20 {
        old.start("order", &format!("o-{number}"), 1).await.unwrap();
    }
    let elsewhere = new.cancel("o-1", "ann", "?").await.unwrap_err();
    assert!(
        elsewhere.to_string().contains("another runner"),
        "{elsewhere}"
    );
    one.leave().await.unwrap();
    // Somebody's hand takes it, too; what it was at is not known.
    assert_eq!(new.cancel("o-3", "ann", "no need").await, Ok(()));
    assert_eq!(new.rests("o-3").await, Ok(State::Compensated));
    let taken = Arc::new(AtomicU32::new(0));
    let (count, runner) = (Arc::clone(&taken), new.clone());
    let takes = tokio::spawn(async move {
        let count = |taken: Result<usize, StoreError>| {
            count.fetch_add(taken.unwrap() as u32, Ordering::Relaxed);
        };
        runner.take_over(count).await;
    });
    let end = Instant::now() + Duration::from_secs(20);
    while two
        .list(Some(State::Completed), 0, 100)
        .await
        .unwrap()
        .len()
        < 19
    {
        assert!(Instant::now() < end, "they stand still");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(taken.load(Ordering::Relaxed), 19);
    takes.abort();
}

/// Two runners on one database: what one of them is told holds for both.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_for_all_runners() {
    let server = Server::start();
    let settings = server.database("pause");
    let attempts = Arc::new(AtomicU32::new(0));
    let runner = async || {
        let count = Arc::clone(&attempts);
        let flow = Flow::new("order", 1).step(Step::new("only"), move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok(1) }
        });
        let runner = Runner::new(store(&settings).await, [flow], Limits::default()).unwrap();
        runner.resume().await.unwrap();
        let takes = runner.clone();
        tokio::spawn(async move { takes.take_over(|_| {}).await });
        runner
    };
    let (one, two) = (runner().await, runner().await);
    let hears = async |runner: &Runner<Postgres>, paused: bool| {
        // Less than a quarter of a lease: they are told, and do not only look.
        let end = Instant::now() + Duration::from_secs(5);
        while runner.overview()[0].is_paused() != paused {
            assert!(Instant::now() < end, "it was not told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    one.pause("order", "ann", "the bank is away").await.unwrap();
    hears(&two, true).await;
    for (number, runner) in [&one, &two].into_iter().enumerate() {
        let id = format!("o-{number}");
        runner.start("order", &id, 1).await.unwrap();
    }
    // One that comes later finds it on the database.
    let three = runner().await;
    three.start("order", "o-2", 1).await.unwrap();
    assert!(three.overview()[0].is_paused());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(attempts.load(Ordering::Relaxed), 0);

    two.unpause("order", "bob", "it is back").await.unwrap();
    hears(&one, false).await;
    for (number, runner) in [one, two, three].into_iter().enumerate() {
        let rests = runner.rests(&format!("o-{number}")).await;
        assert_eq!(rests, Ok(State::Completed));
    }
    assert_eq!(attempts.load(Ordering::Relaxed), 3);
}
