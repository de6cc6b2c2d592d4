//! Processes that push into one queue, of which one delivers: stopped, killed, and their database crashed.
//!
//! Each of two processes pushes all ten thousand messages, those of a key one after the other, so most are
//! the same as what the other has pushed; and each would deliver them.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outlast_core::rng::Rng;
use outlast_saga::Tries;
use outlast_saga::queue::{Config, Delivery, Message, PushError, Queue};
use outlast_saga::store::postgres::{self, Postgres};

use super::processes::{LEASE, LONG_ENOUGH, Runs, until_it_works};
use super::server::Server;
use crate::queues_crash::{KEYS, Ledger, MESSAGES, ask, receiver};

/// The child: pushes, and delivers until nothing waits.
#[test]
fn child() {
    let Ok(settings) = std::env::var("OUTLAST_QUEUE_POSTGRES") else {
        return;
    };
    let receiver = std::env::var("OUTLAST_QUEUE_RECEIVER").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let lease = postgres::Config::default().lease(LEASE);
        let connect = async || Postgres::connect(&settings, lease.clone()).await;
        let store = until_it_works(connect).await;
        let config = Config::new("receipts")
            .concurrency(32)
            .slowest(1000.0)
            .fastest(5000.0)
            .tries(Tries::new(1000).backoff(Duration::from_millis(5)));
        let open = async || Queue::open(store.clone(), config.clone()).await;
        let queue = until_it_works(open).await;
        let runs = queue.clone();
        let handler = move |delivery: Delivery| {
            let receiver = receiver.clone();
            async move { ask(&receiver, &delivery).await }
        };
        let running = tokio::spawn(async move { runs.run(handler).await });
        push(&queue).await;
        queue.drained().await;
        queue.close();
        running.await.unwrap().unwrap();
        until_it_works(async || store.leave().await).await;
    });
}

async fn push(queue: &Queue<Postgres>) {
    let mut pushing = tokio::task::JoinSet::new();
    for key in 0..KEYS {
        let queue = queue.clone();
        pushing.spawn(async move {
            for number in (key..MESSAGES).step_by(KEYS as usize) {
                let message = Message::new(format!("m{number}"));
                let message = message.key(format!("k{key}")).bytes(number.to_string());
                let end = Instant::now() + LONG_ENOUGH;
                loop {
                    match queue.push(message.clone()).await {
                        Err(PushError::Store(error)) => assert!(Instant::now() < end, "{error}"),
                        pushed => {
                            pushed.unwrap();
                            break;
                        }
                    }
                }
            }
        });
    }
    pushing.join_all().await;
}

struct Trial {
    settings: String,
    receiver: String,
    ledger: Arc<Mutex<Ledger>>,
}

impl Trial {
    fn new(server: &Server, name: &str) -> Trial {
        let (receiver, ledger) = receiver();
        Trial {
            settings: server.database(name),
            receiver,
            ledger,
        }
    }

    fn start(&self) -> Runs {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["postgres::queue_processes::child", "--exact", "--nocapture"])
            .env("OUTLAST_QUEUE_POSTGRES", &self.settings)
            .env("OUTLAST_QUEUE_RECEIVER", &self.receiver)
            .stdout(Stdio::null());
        Runs(command.spawn().unwrap())
    }

    /// How many messages have had their effects.
    fn effects(&self) -> usize {
        let ledger = self.ledger.lock().unwrap();
        ledger.effects.values().map(Vec::len).sum()
    }

    fn wait_for(&self, effects: usize) {
        let end = Instant::now() + LONG_ENOUGH;
        while self.effects() < effects {
            assert!(Instant::now() < end, "{} and no more", self.effects());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn check(&self, server: &Server, what: &str) {
        let ledger = self.ledger.lock().unwrap();
        ledger.check();
        let asks: u32 = ledger.asked.values().sum();
        println!("{what}: {asks} attempts for {MESSAGES} messages");
        let query = |text: &str| server.query(&self.settings, text);
        let states = "SELECT string_agg(DISTINCT state::text, ',') FROM outlast_message";
        assert_eq!(query(states), "20", "all are delivered");
        let counts = "SELECT queue.messages, queue.bytes - delivery.bytes, delivery.messages, dead \
                      FROM outlast_queue queue JOIN outlast_delivery delivery ON name = queue";
        assert_eq!(query(counts), format!("{MESSAGES}|0|{MESSAGES}|0"));
    }
}

#[test]
fn who_stood_still_past_its_lease_writes_nothing() {
    let server = Server::start();
    let trial = Trial::new(&server, "stopped");
    let mut first = trial.start();
    trial.wait_for(500);
    first.signal("-STOP");
    // What was sent before it stopped is done with.
    std::thread::sleep(Duration::from_millis(200));
    assert!(trial.effects() < MESSAGES as usize / 2);
    let mut second = trial.start();
    assert!(second.ends(LONG_ENOUGH), "the other one takes over");
    trial.check(&server, "stopped once");
    let query = |text: &str| server.query(&trial.settings, text);
    let all =
        "SELECT md5(string_agg(message::text, '' ORDER BY place)) FROM outlast_message message";
    let before = query(all);
    first.signal("-CONT");
    assert!(first.ends(LONG_ENOUGH), "it ends without them");
    assert_eq!(query(all), before, "it has written nothing");
    trial.check(&server, "stopped once, and gone on");
}

#[test]
fn who_stands_still_at_times_does_no_harm() {
    let server = Server::start();
    let trial = Trial::new(&server, "stutters");
    let mut both = [trial.start(), trial.start()];
    let owner = "SELECT count(*) FROM outlast_delivery";
    let mut stops = 0;
    // One after the other, so that it is who delivers every other time at least.
    while trial.effects() < MESSAGES as usize && stops < 40 {
        let which = &mut both[stops % 2];
        if which.ends(Duration::from_millis(300)) {
            break;
        }
        which.signal("-STOP");
        std::thread::sleep(LEASE * 2);
        which.signal("-CONT");
        stops += 1;
    }
    for process in &mut both {
        assert!(process.ends(LONG_ENOUGH));
    }
    assert!(stops > 1);
    assert_eq!(server.query(&trial.settings, owner), "1");
    trial.check(&server, &format!("stopped {stops} times"));
}

#[test]
fn ten_thousand_messages_survive_kills() {
    let is_long = std::env::var_os("OUTLAST_LONG").is_some();
    let kills = if is_long { 100 } else { 10 };
    let server = Server::start();
    let trial = Trial::new(&server, "killed");
    let mut both = [trial.start(), trial.start()];
    let (mut rng, mut killed) = (Rng::new(11), 0);
    while killed < kills {
        let life = Duration::from_millis(50 + (rng.unit() * 600.0) as u64);
        let which = usize::from(rng.unit() < 0.5);
        if both[which].ends(life) {
            break;
        }
        both[which].kill();
        both[which] = trial.start();
        killed += 1;
    }
    for process in &mut both {
        assert!(process.ends(LONG_ENOUGH), "it does not end");
    }
    assert!(killed > 0);
    trial.check(&server, &format!("{killed} kills"));
    let late = &trial.ledger.lock().unwrap().late;
    assert_eq!(*late, Vec::<u32>::new(), "none comes after a later one");
}

#[test]
fn nothing_is_lost_when_the_database_crashes_under_load() {
    let mut server = Server::start();
    let trial = Trial::new(&server, "crashes");
    let mut both = [trial.start(), trial.start()];
    let mut crashes = 0;
    while !both[0].ends(Duration::from_millis(400)) {
        assert!(crashes < 200, "it does not end");
        server.crash();
        crashes += 1;
    }
    assert!(both[1].ends(LONG_ENOUGH));
    assert!(crashes > 0);
    trial.check(&server, &format!("{crashes} crashes"));
}
