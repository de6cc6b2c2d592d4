//! Queues: what they do with the world, in virtual time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_saga::queue::store::Store;
use outlast_saga::queue::{
    Config, Delivery, DeliveryError, Hand, HandError, Message, OpenError, PushError, Pushed, Queue,
    State,
};
use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::store::{Memory, StoreError};
use outlast_saga::{Stamp, Tries};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// What was delivered, in its order.
type Ledger = Arc<Mutex<Vec<String>>>;

fn config() -> Config {
    Config::new("receipts").tries(Tries::new(3).backoff(SECOND))
}

async fn open(config: Config) -> Queue<Memory> {
    Queue::open(Memory::new(), config).await.unwrap()
}

fn message(id: &str, key: &str) -> Message {
    Message::new(id).key(key).bytes(id)
}

/// Delivers in the background, and keeps a ledger of attempts: `ID.ATTEMPT`.
fn run<S: Store, F>(
    queue: &Queue<S>,
    handler: impl Fn(Delivery) -> F + Send + Sync + 'static,
) -> (Ledger, tokio::task::JoinHandle<()>)
where
    F: Future<Output = Result<(), DeliveryError>> + Send + 'static,
{
    let ledger = Ledger::default();
    let (queue, noted) = (queue.clone(), Arc::clone(&ledger));
    let handler = move |delivery: Delivery| {
        let line = format!("{}.{}", delivery.id(), delivery.attempt());
        noted.lock().unwrap().push(line);
        handler(delivery)
    };
    let task = tokio::spawn(async move { queue.run(handler).await.unwrap() });
    (ledger, task)
}

fn lines(ledger: &Ledger) -> Vec<String> {
    ledger.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn what_makes_a_message_the_same_may_be_a_part_of_it() {
    let queue = open(config()).await;
    let sent = |payload: &str, what: &[u8]| Message::new("a").bytes(payload).same_by(what);
    assert_eq!(queue.push(sent("x 1", b"x")).await, Ok(Pushed::New));
    assert_eq!(queue.push(sent("x 2", b"x")).await, Ok(Pushed::Same));
    let keyed = sent("x 3", b"x").key("k");
    assert_eq!(queue.push(keyed).await, Ok(Pushed::Same));
    let other = queue.push(sent("x 1", b"y")).await;
    assert_eq!(other, Err(PushError::Other));
    let other = queue.push(Message::new("a").bytes("x 1")).await;
    assert_eq!(other, Err(PushError::Other));
}

#[tokio::test(start_paused = true)]
async fn statistics_say_what_waits_and_what_has_happened() {
    let queue = open(config().tries(Tries::new(1))).await;
    let stats = queue.stats();
    assert_eq!((stats.oldest, queue.has("a")), (None, false));
    assert!(queue.is_idle());
    queue.push(message("1", "a")).await.unwrap();
    tokio::time::sleep(SECOND).await;
    queue.push(message("2", "b")).await.unwrap();
    queue.push(message("2", "b")).await.unwrap();
    let first = queue.find("1").await.unwrap().unwrap().pushed;
    let stats = queue.stats();
    assert_eq!((stats.waiting, stats.oldest), (2, Some(first)));
    assert!(!queue.is_idle());
    assert!(queue.has("a") && queue.has("b") && !queue.has("c"));
    run(&queue, |delivery| async move {
        match delivery.id() {
            "1" => Ok(()),
            _ => Err(DeliveryError::transient("no")),
        }
    });
    queue.drained().await;
    let stats = queue.stats();
    assert_eq!((stats.waiting, stats.dead, stats.oldest), (0, 1, None));
    let totals = stats.totals;
    assert_eq!((totals.pushed, totals.delivered, totals.died), (2, 1, 1));
    assert!(queue.is_idle() && !queue.has("a") && !queue.has("b"));
    queue.retry("2", "ann", "once more").await.unwrap();
    assert!(queue.has("b"));
}

#[tokio::test(start_paused = true)]
async fn a_push_is_idempotent_and_bounded() {
    let queue = open(config().most(2).bytes(20).message_bytes(12)).await;
    assert_eq!(queue.push(message("a", "k")).await, Ok(Pushed::New));
    assert_eq!(queue.push(message("a", "k")).await, Ok(Pushed::Same));
    let other = message("a", "k").bytes("else");
    assert_eq!(queue.push(other).await, Err(PushError::Other));
    assert_eq!(queue.push(message("a", "l")).await, Err(PushError::Other));
    let (messages, bytes) = (1, 1);
    let large = |id: &str, bytes| Message::new(id).bytes(vec![7; bytes]);
    let full = PushError::Full { messages, bytes };
    assert!(
        full.to_string().contains("1 messages and 1 bytes"),
        "{full}"
    );
    assert_eq!(queue.push(large("b", 12)).await, Ok(Pushed::New));
    let (messages, bytes) = (2, 13);
    let full = PushError::Full { messages, bytes };
    assert_eq!(queue.push(message("c", "k")).await, Err(full));
    assert_eq!(
        queue.push(message("a", "k")).await,
        Ok(Pushed::Same),
        "it needs no room"
    );
    assert_eq!(queue.push(message("a", "l")).await, Err(PushError::Other));
    for wrong in [
        large("d", 13),
        large("", 1),
        large(&"i".repeat(201), 1),
        message("e", &"k".repeat(201)),
    ] {
        assert!(matches!(
            queue.push(wrong).await,
            Err(PushError::Message(_))
        ));
    }
    let (ledger, _) = run(&queue, |_| async { Ok(()) });
    queue.drained().await;
    assert_eq!(lines(&ledger), ["a.1", "b.1"]);
    assert_eq!(
        queue.push(message("a", "k")).await,
        Ok(Pushed::Same),
        "it was delivered"
    );
    assert_eq!(queue.push(message("c", "k")).await, Ok(Pushed::New));
    queue.drained().await;
    assert_eq!(lines(&ledger), ["a.1", "b.1", "c.1"]);
    assert_eq!(queue.stats().bytes, 0);
    // Bytes are bounded, too.
    let queue = open(config().bytes(20).message_bytes(12)).await;
    queue.push(large("a", 12)).await.unwrap();
    let (messages, bytes) = (1, 12);
    assert_eq!(
        queue.push(large("b", 9)).await,
        Err(PushError::Full { messages, bytes })
    );
    assert_eq!(queue.push(large("b", 8)).await, Ok(Pushed::New));
}

#[tokio::test(start_paused = true)]
async fn ids_are_forgotten_after_a_time() {
    let queue = open(config().remember(3600 * SECOND)).await;
    let (ledger, _) = run(&queue, |_| async { Ok(()) });
    queue.push(message("a", "k")).await.unwrap();
    queue.drained().await;
    tokio::time::sleep(3500 * SECOND).await;
    assert_eq!(queue.push(message("a", "k")).await, Ok(Pushed::Same));
    tokio::time::sleep(200 * SECOND).await;
    assert_eq!(queue.find("a").await, Ok(None));
    assert_eq!(queue.push(message("a", "k")).await, Ok(Pushed::New));
    queue.drained().await;
    assert_eq!(lines(&ledger), ["a.1", "a.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_poison_message_blocks_its_own_key_until_it_is_dead() {
    let queue = open(config().slowest(100.0)).await;
    for (id, key) in [("p", "k"), ("q", "k"), ("a", "l"), ("b", "l")] {
        queue.push(message(id, key)).await.unwrap();
    }
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let (ledger, _) = run(&queue, move |delivery| {
        let fails = delivery.id() == "p" && !is_mended.load(Ordering::Relaxed);
        async move {
            match delivery.attempt() {
                1 if fails => panic!("poison"),
                2 if fails => std::future::pending().await,
                _ if fails => Err(DeliveryError::transient("not today")),
                _ => Ok(()),
            }
        }
    });
    queue.drained().await;
    assert_eq!(lines(&ledger), ["p.1", "a.1", "b.1", "p.2", "p.3", "q.1"]);
    let dead = queue.messages(Some(State::Dead), 0, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts, &*dead[0].id), (1, 3, "p"));
    let why = dead[0].error.as_deref().unwrap();
    assert_eq!(why, "given up after 3 attempts: not today");
    assert_eq!(
        (queue.stats().dead, queue.stats().bytes),
        (1, 1),
        "it needs room"
    );

    // Somebody has it tried again, and who and why is on its record.
    assert_eq!(queue.retry("p", "", "why").await, Err(HandError::Note));
    assert_eq!(
        queue.retry("p", "ann", &"w".repeat(1001)).await,
        Err(HandError::Note)
    );
    assert_eq!(
        queue.retry("x", "ann", "why").await,
        Err(HandError::NoMessage)
    );
    let delivered = HandError::NotDead(State::Delivered);
    assert_eq!(queue.discard("q", "ann", "why").await, Err(delivered));
    assert_eq!(queue.retry("p", "ann", "it was a bad day").await, Ok(()));
    queue.drained().await;
    assert_eq!(
        lines(&ledger)[6..],
        ["p.1", "p.2", "p.3"],
        "as often as at first"
    );
    mended.store(true, Ordering::Relaxed);
    assert_eq!(queue.retry("p", "bob", "mended").await, Ok(()));
    queue.drained().await;
    assert_eq!(lines(&ledger)[9..], ["p.1"]);
    let kept = queue.find("p").await.unwrap().unwrap();
    assert_eq!((kept.state, queue.stats().dead), (State::Delivered, 0));
    let notes: Vec<_> = kept
        .notes
        .iter()
        .map(|note| (&*note.by, &*note.reason))
        .collect();
    assert_eq!(notes, [("ann", "it was a bad day"), ("bob", "mended")]);
}

#[tokio::test(start_paused = true)]
async fn what_never_will_be_is_dead_at_once_and_can_be_dropped() {
    let queue = open(config()).await;
    let (ledger, _) = run(&queue, |_| async {
        Err(DeliveryError::permanent("ä".repeat(999)))
    });
    queue.push(message("a", "k")).await.unwrap();
    queue.drained().await;
    assert_eq!(lines(&ledger), ["a.1"]);
    let kept = queue.find("a").await.unwrap().unwrap();
    assert_eq!(
        kept.error,
        Some("ä".repeat(500)),
        "its first thousand bytes"
    );
    assert_eq!(queue.discard("a", "ann", "nobody wants it").await, Ok(()));
    let kept = queue.find("a").await.unwrap().unwrap();
    assert_eq!(
        (kept.state, kept.notes[0].how),
        (State::Dropped, Hand::Drop)
    );
    let dropped = HandError::NotDead(State::Dropped);
    assert_eq!(queue.retry("a", "ann", "after all").await, Err(dropped));
    assert_eq!(queue.stats().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_dead_without_an_attempt() {
    let queue = open(config().max_age(60 * SECOND)).await;
    queue
        .push(message("a", "k").within(30 * SECOND))
        .await
        .unwrap();
    queue
        .push(message("b", "k").within(90 * SECOND))
        .await
        .unwrap();
    let gate = Arc::new(AtomicBool::new(false));
    let (runs, is_open) = (queue.clone(), Arc::clone(&gate));
    let gate_of = move || is_open.load(Ordering::Relaxed);
    tokio::spawn(async move { runs.run_when(gate_of, |_| async { Ok(()) }).await });
    tokio::time::sleep(30 * SECOND).await;
    let state = async |id| queue.find(id).await.unwrap().unwrap().state;
    assert_eq!(state("a").await, State::Waiting);
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        (state("a").await, state("b").await),
        (State::Dead, State::Waiting)
    );
    let why = queue.find("a").await.unwrap().unwrap();
    assert_eq!(
        why.error.as_deref(),
        Some("it was not delivered in its time")
    );
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(
        state("b").await,
        State::Dead,
        "no longer than the queue allows"
    );
    // Tried again by hand it has its time again.
    gate.store(true, Ordering::Relaxed);
    queue
        .retry("a", "ann", "the gate was closed")
        .await
        .unwrap();
    queue.drained().await;
    assert_eq!(state("a").await, State::Delivered);
}

/// Ten thousand messages, and a receiver that is down for an hour and comes back.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_was_down_for_an_hour_is_not_stampeded() {
    let queue = open(Config::new("receipts").fastest(200.0)).await;
    for number in 0..10_000 {
        let id = format!("{number}");
        queue
            .push(message(&id, &format!("k{}", number % 500)))
            .await
            .unwrap();
    }
    let begin = Instant::now();
    let back = begin + 3600 * SECOND;
    let by_key = Arc::new(Mutex::new(BTreeMap::<String, Vec<u32>>::new()));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (delivered, asks) = (Arc::clone(&by_key), Arc::clone(&asked));
    let (_, _) = run(&queue, move |delivery| {
        asks.lock().unwrap().push(Instant::now());
        let delivered = Arc::clone(&delivered);
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if Instant::now() < back {
                return Err(DeliveryError::transient("down"));
            }
            let key = delivery.key().unwrap().to_owned();
            let number = delivery.id().parse().unwrap();
            delivered
                .lock()
                .unwrap()
                .entry(key)
                .or_default()
                .push(number);
            Ok(())
        }
    });
    queue.drained().await;
    let took = Instant::now().saturating_duration_since(back);
    assert!(took >= 50 * SECOND, "10,000 at 200 a second: {took:?}");
    assert_eq!(queue.stats().dead, 0, "an outage makes no dead letters");
    let by_key = by_key.lock().unwrap();
    assert_eq!(by_key.len(), 500);
    for (key, numbers) in by_key.iter() {
        let first: u32 = key[1..].parse().unwrap();
        let in_order: Vec<_> = (0..20).map(|turn| first + 500 * turn).collect();
        assert_eq!(*numbers, in_order);
    }
    let asked = asked.lock().unwrap();
    let during = asked.iter().filter(|at| **at < back).count();
    assert!(during <= 36_001, "ten a second: {during}");
    let soon = asked
        .iter()
        .filter(|at| **at >= back && **at < back + SECOND)
        .count();
    assert!(soon <= 20, "it starts slowly: {soon}");
    for window in asked.windows(212) {
        let span = window[211] - window[0];
        assert!(span >= SECOND - Duration::from_millis(2), "{span:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_delivers_may_go_away_and_somebody_else_goes_on() {
    let queue = open(config()).await;
    queue.push(message("a", "k")).await.unwrap();
    queue.push(message("b", "k")).await.unwrap();
    let (ledger, task) = run(&queue, |_| std::future::pending());
    tokio::time::sleep(SECOND).await;
    assert!(
        queue.run(|_| async { Ok(()) }).await.is_err(),
        "one at a time"
    );
    assert_eq!(
        (lines(&ledger), queue.stats().busy),
        (vec!["a.1".to_owned()], 1)
    );
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(queue.stats().busy, 0);
    let (ledger, task) = run(&queue, |_| async {
        tokio::time::sleep(SECOND).await;
        Ok(())
    });
    tokio::time::sleep(SECOND / 2).await;
    // It ends with what is under way, and begins nothing more.
    queue.close();
    task.await.unwrap();
    assert_eq!(lines(&ledger), ["a.2"]);
    assert_eq!((queue.stats().waiting, queue.stats().busy), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_file_is_there_for_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = || Sqlite::open(folder.path().join("queue.db")).unwrap();
    let quick = || {
        config()
            .slowest(1000.0)
            .tries(Tries::new(2).backoff(Duration::from_millis(1)))
    };
    let first = store();
    let queue = Queue::open(first.clone(), quick()).await.unwrap();
    let taken = Queue::open(first.clone(), quick()).await.map(drop);
    assert_eq!(taken, Err(OpenError::Taken));
    queue.push(message("poison", "k")).await.unwrap();
    let (_, task) = run(&queue, |_| async { Err(DeliveryError::transient("no")) });
    queue.drained().await;
    queue.close();
    task.await.unwrap();
    queue
        .push(message("a", "k").bytes(b"\0\xff".to_vec()))
        .await
        .unwrap();
    queue
        .push(Message::new("b").json(&[1, 2]).unwrap())
        .await
        .unwrap();
    drop((queue, first));

    let queue = Queue::open(store(), quick()).await.unwrap();
    let stats = queue.stats();
    assert_eq!((stats.waiting, stats.dead, stats.bytes), (2, 1, 13));
    assert_eq!(queue.push(message("poison", "k")).await, Ok(Pushed::Same));
    let (ledger, _) = run(&queue, |delivery| async move {
        match delivery.id() {
            "b" => assert_eq!(delivery.json::<[u8; 2]>().unwrap(), [1, 2]),
            _ => assert_eq!(
                (delivery.bytes(), delivery.key()),
                (&b"\0\xff"[..], Some("k"))
            ),
        }
        Ok(())
    });
    queue.drained().await;
    let mut delivered = lines(&ledger);
    delivered.sort();
    assert_eq!(delivered, ["a.1", "b.1"]);
    let kept = queue.find("a").await.unwrap().unwrap();
    assert_eq!((kept.state, kept.attempts), (State::Delivered, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_its_processes_runs_out_of_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || {
        let store = Sqlite::open(folder.path().join("queue.db")).unwrap();
        let config = config().tries(Tries::new(2).backoff(Duration::ZERO));
        Queue::open(store, config).await.unwrap()
    };
    open().await.push(message("a", "k")).await.unwrap();
    for attempt in 1..=2 {
        let queue = open().await;
        let (began, mut begins) = tokio::sync::mpsc::channel(1);
        let (ledger, task) = run(&queue, move |_| {
            began.try_send(()).unwrap();
            std::future::pending()
        });
        begins.recv().await.unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(lines(&ledger), [format!("a.{attempt}")]);
        drop(queue);
        // Attempts that are given up hold the file until they are gone.
        while Sqlite::open(folder.path().join("queue.db")).is_err() {
            tokio::task::yield_now().await;
        }
    }
    let queue = open().await;
    let (ledger, _) = run(&queue, |_| async { Ok(()) });
    queue.drained().await;
    assert_eq!(lines(&ledger).len(), 0);
    let kept = queue.find("a").await.unwrap().unwrap();
    assert_eq!((kept.state, kept.attempts), (State::Dead, 2));
    assert!(
        kept.error
            .unwrap()
            .contains("whoever made its last attempt went away")
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_configuration_is_said() {
    let check = async |config: Config, part: &str| {
        let opened = Queue::open(Memory::new(), config).await.map(drop);
        let Err(OpenError::Config(error)) = opened else {
            panic!("{part}: {opened:?}");
        };
        assert!(error.to_string().contains(part), "{error}");
    };
    check(Config::new("a b"), "a b: its name").await;
    check(Config::new(""), "its name").await;
    check(config().most(0), "most").await;
    check(config().bytes(10).message_bytes(11), "message_bytes").await;
    check(config().concurrency(0), "concurrency").await;
    check(config().timeout(Duration::ZERO), "timeout").await;
    check(config().tries(Tries::new(0)), "tries").await;
    check(config().max_age(Duration::ZERO), "max_age").await;
    check(config().slowest(0.0), "slowest").await;
    check(config().slowest(f64::NAN), "slowest").await;
    check(config().slowest(10.0).fastest(9.0), "fastest").await;
    check(config().fastest(f64::INFINITY), "fastest").await;
}

/// A store that fails every other change before or after it is made, and some pushes.
struct Failing {
    inner: Memory,
    changes: AtomicU32,
}

impl Store for Failing {
    fn claim(&self, queue: &str) -> bool {
        self.inner.claim(queue)
    }

    fn release(&self, queue: &str) {
        self.inner.release(queue);
    }

    async fn put(
        &self,
        message: outlast_saga::queue::store::NewMessage,
    ) -> Result<outlast_saga::queue::store::Put, StoreError> {
        let put = self.inner.put(message).await;
        match self.changes.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Err(StoreError::Full("no room".to_owned())),
            _ => put,
        }
    }

    async fn change(
        &self,
        queue: &str,
        place: i64,
        change: outlast_saga::queue::store::Change,
    ) -> Result<bool, StoreError> {
        let number = self.changes.fetch_add(1, Ordering::Relaxed);
        let failed = Err(StoreError::Failed("for now".to_owned()));
        match number % 4 {
            0 => failed,
            2 => self.inner.change(queue, place, change).await.and(failed),
            _ => self.inner.change(queue, place, change).await,
        }
    }

    async fn read(
        &self,
        place: i64,
    ) -> Result<Option<(outlast_saga::queue::Kept, Vec<u8>)>, StoreError> {
        self.inner.read(place).await
    }

    async fn message(
        &self,
        queue: &str,
        id: &str,
    ) -> Result<Option<outlast_saga::queue::Kept>, StoreError> {
        self.inner.message(queue, id).await
    }

    async fn messages(
        &self,
        queue: &str,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<outlast_saga::queue::Kept>, StoreError> {
        self.inner.messages(queue, state, after, most).await
    }

    async fn forget_messages(
        &self,
        queue: &str,
        before: Stamp,
        most: usize,
    ) -> Result<usize, StoreError> {
        self.inner.forget_messages(queue, before, most).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_asked_again_and_nothing_is_lost() {
    let store = Failing {
        inner: Memory::new(),
        changes: AtomicU32::new(0),
    };
    let queue = Queue::open(store, config().slowest(1000.0)).await.unwrap();
    let mut failed = 0;
    for number in 0..100 {
        let message = message(&format!("{number}"), &format!("k{}", number % 10));
        while let Err(error) = queue.push(message.clone()).await {
            assert!(
                matches!(error, PushError::Store(StoreError::Full(_))),
                "{error}"
            );
            failed += 1;
        }
    }
    assert_eq!((failed, queue.stats().waiting), (100, 100));
    let (ledger, _) = run(&queue, |delivery| async move {
        let is_poison = delivery.id().ends_with("55");
        if is_poison {
            Err(DeliveryError::permanent("no"))
        } else {
            Ok(())
        }
    });
    queue.drained().await;
    let delivered = lines(&ledger);
    for number in 0..100 {
        let count = delivered
            .iter()
            .filter(|line| **line == format!("{number}.1"))
            .count();
        assert_eq!(count, 1, "{number}");
    }
    assert_eq!(delivered.len(), 100);
    assert_eq!((queue.stats().dead, queue.stats().bytes), (1, 2));
}

/// A store that is slow to say what it has read.
struct Slow(Memory);

impl Store for Slow {
    fn claim(&self, queue: &str) -> bool {
        self.0.claim(queue)
    }

    fn release(&self, queue: &str) {
        self.0.release(queue);
    }

    async fn put(
        &self,
        message: outlast_saga::queue::store::NewMessage,
    ) -> Result<outlast_saga::queue::store::Put, StoreError> {
        self.0.put(message).await
    }

    async fn change(
        &self,
        queue: &str,
        place: i64,
        change: outlast_saga::queue::store::Change,
    ) -> Result<bool, StoreError> {
        self.0.change(queue, place, change).await
    }

    async fn read(
        &self,
        place: i64,
    ) -> Result<Option<(outlast_saga::queue::Kept, Vec<u8>)>, StoreError> {
        let read = self.0.read(place).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        read
    }

    async fn message(
        &self,
        queue: &str,
        id: &str,
    ) -> Result<Option<outlast_saga::queue::Kept>, StoreError> {
        self.0.message(queue, id).await
    }

    async fn messages(
        &self,
        queue: &str,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<outlast_saga::queue::Kept>, StoreError> {
        self.0.messages(queue, state, after, most).await
    }

    async fn forget_messages(
        &self,
        queue: &str,
        before: Stamp,
        most: usize,
    ) -> Result<usize, StoreError> {
        self.0.forget_messages(queue, before, most).await
    }
}

/// Somebody has a dead letter tried again in the moment in which it is on the disk, and not counted yet.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_tried_again_at_once_is_counted_once() {
    let queue = Queue::open(Slow(Memory::new()), config()).await.unwrap();
    queue.push(message("a", "k")).await.unwrap();
    let (ledger, runs) = run(&queue, |delivery| async move {
        match delivery.attempt() {
            1 => Err(DeliveryError::permanent("not like this")),
            _ => Ok(()),
        }
    });
    let state = async || queue.find("a").await.unwrap().unwrap().state;
    while state().await != State::Dead {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    queue.retry("a", "ann", "mended").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(lines(&ledger)[0], "a.1");
    let stats = queue.stats();
    assert_eq!(
        (stats.dead + stats.waiting, stats.bytes),
        (1, 1),
        "{stats:?}"
    );
    runs.abort();
}
