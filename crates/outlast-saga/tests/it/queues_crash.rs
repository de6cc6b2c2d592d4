//! Queues whose processes are killed: ten thousand messages, `kill -9` again and again, and the ledger of
//! the receiver at the end.
//!
//! This process plays the receiver. It refuses some messages at first, does the work of some and says
//! nothing, does each id once, and keeps a ledger by key. A first child pushes all messages, saying which
//! are pushed, and is killed while it does; others deliver, and are killed at random.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outlast_core::rng::{Rng, mix};
use outlast_saga::Tries;
use outlast_saga::queue::{Config, Delivery, DeliveryError, Message, Queue, State};
use outlast_saga::store::sqlite::Sqlite;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

pub const MESSAGES: u32 = 10_000;
pub const KEYS: u32 = 100;

/// What the receiver knows.
#[derive(Default)]
pub struct Ledger {
    /// By key: the numbers of messages in the order of their effects.
    pub effects: BTreeMap<u32, Vec<u32>>,
    /// How often each was asked.
    pub asked: HashMap<u32, u32>,
    /// Those that were asked again when a later one of their key had had its effect.
    pub late: Vec<u32>,
}

impl Ledger {
    /// All messages, each once, in the order of their keys.
    pub fn check(&self) {
        for (key, effects) in &self.effects {
            let in_order: Vec<_> = (*key..MESSAGES).step_by(KEYS as usize).collect();
            assert_eq!(*effects, in_order, "key {key}: all, each once, in order");
        }
        assert_eq!(self.effects.len(), KEYS as usize);
    }
}

/// A receiver; where it is, and its ledger.
pub fn receiver() -> (String, Arc<Mutex<Ledger>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let served = Arc::clone(&ledger);
    std::thread::spawn(move || serve(listener, served));
    (address, ledger)
}

fn serve(listener: TcpListener, ledger: Arc<Mutex<Ledger>>) {
    for stream in listener.incoming() {
        let ledger = Arc::clone(&ledger);
        std::thread::spawn(move || drop(answer(stream.unwrap(), &ledger)));
    }
}

/// A line is the number of a message; the answer `ok`, `busy` or nothing.
fn answer(stream: TcpStream, ledger: &Mutex<Ledger>) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let said = decide(line?.parse().unwrap(), ledger);
        writer.write_all(said.as_bytes())?;
        if said.is_empty() {
            break;
        }
    }
    Ok(())
}

/// One in 16 is refused at first, and one in 16 is cut when its work is done.
fn decide(number: u32, ledger: &Mutex<Ledger>) -> &'static str {
    let mut ledger = ledger.lock().unwrap();
    let asked = ledger.asked.entry(number).or_default();
    *asked += 1;
    let (is_first, chance) = (*asked == 1, mix(u64::from(number)) % 16);
    if is_first && chance == 0 {
        return "busy\n";
    }
    let effects = ledger.effects.entry(number % KEYS).or_default();
    let is_late = effects.last().is_some_and(|last| *last > number);
    if !effects.contains(&number) {
        effects.push(number);
    }
    if is_late {
        ledger.late.push(number);
    }
    if is_first && chance == 1 { "" } else { "ok\n" }
}

/// The child: pushes until it is killed, or delivers until nothing waits.
#[test]
fn child() {
    let Ok(folder) = std::env::var("OUTLAST_QUEUE_FOLDER") else {
        return;
    };
    let receiver = std::env::var("OUTLAST_QUEUE_RECEIVER").ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(std::path::Path::new(&folder).join("queue.db")).unwrap();
        let config = Config::new("receipts")
            .concurrency(32)
            .slowest(1000.0)
            .fastest(5000.0)
            .tries(Tries::new(1000).backoff(Duration::from_millis(5)));
        let queue = Queue::open(store, config).await.unwrap();
        match receiver {
            None => push(&queue).await,
            Some(receiver) => deliver(&queue, receiver).await,
        }
    });
}

/// Keys are pushed at once, each in its order; those that were pushed before are the same.
async fn push(queue: &Queue<Sqlite>) {
    let mut pushing = tokio::task::JoinSet::new();
    for key in 0..KEYS {
        let queue = queue.clone();
        pushing.spawn(async move {
            for number in (key..MESSAGES).step_by(KEYS as usize) {
                let message = Message::new(format!("m{number}"));
                let message = message.key(format!("k{key}")).bytes(number.to_string());
                queue.push(message).await.unwrap();
                println!("pushed {number}");
            }
        });
    }
    pushing.join_all().await;
    println!("all are pushed");
    std::future::pending::<()>().await;
}

async fn deliver(queue: &Queue<Sqlite>, receiver: String) {
    let runs = queue.clone();
    let handler = move |delivery: Delivery| {
        let receiver = receiver.clone();
        async move { ask(&receiver, &delivery).await }
    };
    let running = tokio::spawn(async move { runs.run(handler).await });
    queue.drained().await;
    queue.close();
    running.await.unwrap().unwrap();
}

pub async fn ask(receiver: &str, delivery: &Delivery) -> Result<(), DeliveryError> {
    let unknown = |error: std::io::Error| DeliveryError::unknown(error.to_string());
    let stream = tokio::net::TcpStream::connect(receiver).await;
    let mut stream = stream.map_err(|error| DeliveryError::transient(error.to_string()))?;
    let line = [delivery.bytes(), b"\n"].concat();
    stream.write_all(&line).await.map_err(unknown)?;
    let mut said = String::new();
    let mut reader = tokio::io::BufReader::new(stream);
    reader.read_line(&mut said).await.map_err(unknown)?;
    match said.as_str() {
        "ok\n" => Ok(()),
        "busy\n" => Err(DeliveryError::transient("busy")),
        other => Err(DeliveryError::unknown(format!("it said {other:?}"))),
    }
}

fn start(folder: &std::path::Path, receiver: Option<&str>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["queues_crash::child", "--exact", "--nocapture"])
        .env("OUTLAST_QUEUE_FOLDER", folder)
        .envs(receiver.map(|receiver| ("OUTLAST_QUEUE_RECEIVER", receiver)))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Reads what a pushing child says until it has said so many lines, and kills it; how many it had pushed.
fn pushed(mut child: Child, lines: usize) -> Vec<u32> {
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut pushed = Vec::new();
    for line in said.by_ref().take(lines).map_while(Result::ok) {
        match line.strip_prefix("pushed ") {
            Some(number) => pushed.push(number.parse().unwrap()),
            None if line == "all are pushed" => break,
            None => {}
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died was on the disk.
    pushed.extend(said.map_while(Result::ok).filter_map(|line| {
        line.strip_prefix("pushed ")
            .and_then(|number| number.parse::<u32>().ok())
    }));
    pushed
}

/// Whether it ends by itself within a time; it is killed if not.
fn ends(mut child: Child, within: Duration) -> bool {
    let end = Instant::now() + within;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

fn kept(folder: &std::path::Path, state: State) -> Vec<outlast_saga::queue::Kept> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let store = Sqlite::open(folder.join("queue.db")).unwrap();
        let queue = Queue::open(store, Config::new("receipts")).await.unwrap();
        queue.messages(Some(state), 0, 100_000).await.unwrap()
    })
}

#[test]
fn ten_thousand_messages_survive_kills() {
    if std::env::var_os("OUTLAST_QUEUE_FOLDER").is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (receiver, ledger) = receiver();

    // Killed while it pushes: what it said is pushed is there.
    let said = pushed(start(folder.path(), None), 3000);
    let there = kept(folder.path(), State::Waiting);
    let ids: std::collections::HashSet<_> = there.iter().map(|kept| kept.id.as_str()).collect();
    assert!(said.len() > 2000 && there.len() < MESSAGES as usize);
    let lost = said
        .iter()
        .find(|number| !ids.contains(format!("m{number}").as_str()));
    assert_eq!(lost, None, "it was pushed");

    // Killed with ten thousand in the queue.
    pushed(start(folder.path(), None), usize::MAX);
    assert_eq!(kept(folder.path(), State::Waiting).len(), MESSAGES as usize);

    // Killed while it delivers; the last one lives as long as it takes.
    let (mut rng, mut killed) = (Rng::new(7), 0);
    let kills = if std::env::var_os("OUTLAST_LONG").is_some() {
        100
    } else {
        10
    };
    loop {
        let life = Duration::from_millis(60 + (rng.unit() * 240.0) as u64);
        let life = if killed == kills {
            Duration::from_secs(120)
        } else {
            life
        };
        if ends(start(folder.path(), Some(&receiver)), life) {
            break;
        }
        assert!(killed < kills, "it does not end");
        killed += 1;
    }

    let ledger = ledger.lock().unwrap();
    ledger.check();
    assert_eq!(
        ledger.late,
        Vec::<u32>::new(),
        "none is delivered again when a later one was"
    );
    assert_eq!(
        kept(folder.path(), State::Delivered).len(),
        MESSAGES as usize
    );
    let asks: u32 = ledger.asked.values().sum();
    println!("{killed} kills while it delivered, {asks} attempts for {MESSAGES} messages");
    // One in eight is asked twice, and a kill hits no more than are under way.
    assert!(asks <= MESSAGES + MESSAGES / 7 + killed * 32, "{asks}");
}
