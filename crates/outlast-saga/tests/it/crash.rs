//! Processes that are killed: `kill -9` at any instant, and the ledgers of those who do the work at the
//! end.
//!
//! This process plays the five services of an order. They answer over sockets, fail at times, are slow
//! at times, do each key once, and keep a ledger. A child runs the sagas on a file, and is killed again
//! and again: at named points (after a record is written and before anything is done, and so on) and at
//! random. In the end every order has to be done or undone, whatever the kills hit.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outlast_core::rng::Rng;
use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::store::{Begun, Known, Listed, NewSaga, State, Store, StoreError};
use outlast_saga::{
    Attempt, Event, Flow, Limits, OnUnknown, Query, Record, Runner, Stamp, Step, StepError, Tries,
    Undo, Was,
};

const STEPS: [&str; 5] = ["create", "reserve", "charge", "ship", "notify"];

/// What the services know.
#[derive(Default)]
pub struct Ledger {
    /// By key: how often its work was done, which is once, and how often it was asked.
    done: HashMap<String, (u32, u32)>,
    /// In which order steps of a saga were undone.
    undone: BTreeMap<String, Vec<String>>,
    /// When anybody was asked first, since somebody wanted to know.
    pub first: Option<Instant>,
    /// How often they were asked whether a key was done.
    queries: u32,
}

/// Starts the services; where they are, and what they know.
pub fn services() -> (String, Arc<Mutex<Ledger>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let services = listener.local_addr().unwrap().to_string();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let kept = Arc::clone(&ledger);
    std::thread::spawn(move || serve(listener, kept));
    (services, ledger)
}

/// Services on a socket: a line is `KEY ATTEMPT`, an answer `ok`, `busy` or `no`; of `?KEY ATTEMPT` it is
/// `done` or `not`.
fn serve(listener: TcpListener, ledger: Arc<Mutex<Ledger>>) {
    for stream in listener.incoming() {
        let ledger = Arc::clone(&ledger);
        std::thread::spawn(move || drop(answer(stream.unwrap(), &ledger)));
    }
}

fn answer(stream: TcpStream, ledger: &Mutex<Ledger>) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let (key, attempt) = line.split_once(' ').unwrap();
        let attempt = attempt.parse().unwrap();
        let said = match key.strip_prefix('?') {
            Some(key) => was_done(key, attempt, ledger),
            None => decide(key, attempt, ledger),
        };
        writer.write_all(said.as_bytes())?;
    }
    Ok(())
}

/// Orders whose number ends with 7 cannot be shipped. Every fifth first attempt is refused for now, and
/// every seventh does its work and then says nothing.
fn decide(key: &str, attempt: u32, ledger: &Mutex<Ledger>) -> &'static str {
    let mut parts = key.split('/');
    let (saga, step) = (parts.next().unwrap(), parts.next().unwrap());
    let undoes = parts.next().is_some();
    let hash = hash_of(key);
    if step == "ship" && saga.ends_with('7') {
        return "no\n";
    }
    if attempt == 1 && hash.is_multiple_of(5) {
        return "busy\n";
    }
    let mut ledger = ledger.lock().unwrap();
    ledger.first.get_or_insert_with(Instant::now);
    let entry = ledger.done.entry(key.to_owned()).or_default();
    entry.1 += 1;
    let is_first = entry.0 == 0;
    if is_first {
        entry.0 += 1;
        if undoes {
            let order = ledger.undone.entry(saga.to_owned()).or_default();
            order.push(step.to_owned());
        }
    }
    if is_first && hash.is_multiple_of(7) {
        ""
    } else {
        "ok\n"
    }
}

fn hash_of(key: &str) -> u64 {
    key.bytes().fold(0, |hash, byte| {
        outlast_core::rng::mix(hash ^ u64::from(byte))
    })
}

/// Of every third key they say nothing when they are first asked.
fn was_done(key: &str, attempt: u32, ledger: &Mutex<Ledger>) -> &'static str {
    let mut ledger = ledger.lock().unwrap();
    ledger.queries += 1;
    if attempt == 1 && hash_of(key).is_multiple_of(3) {
        return "";
    }
    let done = ledger.done.get(key).is_some_and(|entry| entry.0 > 0);
    if done { "done\n" } else { "not\n" }
}

/// The child: runs sagas until it is killed, or all have ended.
#[test]
fn child() {
    let Ok(folder) = std::env::var("OUTLAST_CRASH_FOLDER") else {
        return;
    };
    let services = std::env::var("OUTLAST_CRASH_SERVICES").unwrap();
    let orders: u32 = std::env::var("OUTLAST_CRASH_ORDERS")
        .unwrap()
        .parse()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(std::path::Path::new(&folder).join("sagas.db")).unwrap();
        let store = Deadly::new(store);
        let runner = Runner::new(store, flows(&services), Limits::default()).unwrap();
        runner.resume().await.unwrap();
        let first: u32 = std::env::var("OUTLAST_CRASH_FIRST")
            .unwrap()
            .parse()
            .unwrap();
        for number in first..first + orders {
            // Those that had begun are the same.
            runner
                .start(name_of(number), &format!("order-{number}"), number)
                .await
                .unwrap();
        }
        for number in first..first + orders {
            let state = runner.rests(&format!("order-{number}")).await.unwrap();
            assert_ne!(state, State::Open);
        }
        println!("all have ended");
    });
}

/// A store that kills its process at a write: before it, or when it is on the disk and nobody has been
/// told.
pub struct Deadly<S> {
    inner: S,
    /// Which write, from 1 on, and whether it is still made; never without.
    at: Option<(u32, bool)>,
    writes: AtomicU32,
}

impl<S> Deadly<S> {
    pub fn new(inner: S) -> Deadly<S> {
        let at = std::env::var("OUTLAST_CRASH_AT").ok().map(|at| {
            let (write, when) = at.split_once(' ').unwrap();
            (write.parse().unwrap(), when == "after")
        });
        let writes = AtomicU32::new(0);
        Deadly { inner, at, writes }
    }

    async fn write<T>(&self, written: impl Future<Output = T>) -> T {
        let number = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        match self.at {
            Some((at, after)) if at == number => {
                if after {
                    written.await;
                }
                // Nothing of this process runs after it.
                let own = std::process::id().to_string();
                Command::new("kill").args(["-9", &own]).status().unwrap();
                std::future::pending().await
            }
            _ => written.await,
        }
    }
}

impl<S: Store> Store for Deadly<S> {
    fn time(&self) -> Stamp {
        self.inner.time()
    }

    async fn begin(&self, saga: NewSaga) -> Result<Begun, StoreError> {
        self.write(self.inner.begin(saga)).await
    }

    async fn append(&self, id: &str, record: Record, state: State) -> Result<(), StoreError> {
        self.write(self.inner.append(id, record, state)).await
    }

    async fn log(&self, id: &str) -> Result<Vec<Record>, StoreError> {
        self.inner.log(id).await
    }

    async fn find(&self, id: &str) -> Result<Option<Listed>, StoreError> {
        self.inner.find(id).await
    }

    async fn list(
        &self,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(state, after, most).await
    }

    async fn forget(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        self.inner.forget(before, most).await
    }

    async fn claim(
        &self,
        known: &[Known],
        after: i64,
        most: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.inner.claim(known, after, most).await
    }

    async fn take(&self, id: &str) -> Result<bool, StoreError> {
        self.inner.take(id).await
    }

    async fn release(&self, id: &str) {
        self.inner.release(id).await;
    }

    async fn ready(&self, id: &str, length: u64) -> Result<(), StoreError> {
        self.inner.ready(id, length).await
    }

    async fn freed(&self) {
        self.inner.freed().await;
    }
}

/// An order, and one whose reservation and charge are made at once: they begin in the same order, so
/// what holds for the one holds for the other.
pub fn flows(services: &str) -> [Flow; 2] {
    ["order", "bundle"].map(|name| flow(services, name))
}

/// Tens of them, in turn.
pub fn name_of(number: u32) -> &'static str {
    ["order", "bundle"][number as usize / 10 % 2]
}

fn flow(services: &str, name: &str) -> Flow {
    let tries = |attempts| Tries::new(attempts).backoff(Duration::from_millis(5));
    let step = |name| {
        Step::new(name)
            .tries(tries(1000))
            .timeout(Duration::from_millis(100))
    };
    let undo = || {
        Undo::new()
            .tries(tries(1000))
            .timeout(Duration::from_millis(100))
    };
    let ask = |services: &str| {
        let services = services.to_owned();
        move |attempt: Attempt| {
            let (services, key, number) = (services.clone(), attempt.key(), attempt.number());
            async move { asked(&services, &key, number).await }
        }
    };
    let asks = || {
        let query = Query::new().tries(tries(1000));
        OnUnknown::Query(query.timeout(Duration::from_millis(100)))
    };
    let whether = |services: &str| {
        let services = services.to_owned();
        move |attempt: Attempt| {
            let (services, key, number) = (services.clone(), attempt.key(), attempt.number());
            async move {
                match said(&services, &format!("?{key}"), number).await?.as_str() {
                    "done\n" => Ok(Was::Done(())),
                    "not\n" => Ok(Was::NotDone),
                    other => Err(StepError::unknown(format!("it said {other:?}"))),
                }
            }
        }
    };
    // Nobody is that slow: whatever is too late was late by a wrong clock.
    let flow = Flow::new(name, 1).deadline(Duration::from_secs(1800));
    let flow = flow.step_with_undo(step("create").undo(undo()), ask(services), ask(services));
    let reserve = step("reserve").undo(undo());
    let charge = step("charge").undo(undo()).on_unknown(asks());
    let flow = if name == "bundle" {
        flow.at_once(|group| {
            group
                .step_with_undo(reserve, ask(services), ask(services))
                .step_with_undo(charge, ask(services), ask(services))
                .query(whether(services))
        })
    } else {
        flow.step_with_undo(reserve, ask(services), ask(services))
            .step_with_undo(charge, ask(services), ask(services))
            .query(whether(services))
    };
    flow.step(step("ship").on_unknown(asks()), ask(services))
        .query(whether(services))
        .step(step("notify").best_effort(), ask(services))
}

async fn asked(services: &str, key: &str, number: u32) -> Result<(), StepError> {
    match said(services, key, number).await?.as_str() {
        "ok\n" => Ok(()),
        "busy\n" => Err(StepError::transient("busy")),
        "no\n" => Err(StepError::permanent("it cannot be shipped")),
        other => Err(StepError::unknown(format!("it said {other:?}"))),
    }
}

async fn said(services: &str, key: &str, number: u32) -> Result<String, StepError> {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
    let unknown = |error: std::io::Error| StepError::unknown(error.to_string());
    let stream = tokio::net::TcpStream::connect(services).await;
    let mut stream = stream.map_err(|error| StepError::transient(error.to_string()))?;
    let line = format!("{key} {number}\n");
    stream.write_all(line.as_bytes()).await.map_err(unknown)?;
    let mut said = String::new();
    tokio::io::BufReader::new(stream)
        .read_line(&mut said)
        .await
        .map_err(unknown)?;
    Ok(said)
}

struct Trial {
    folder: tempfile::TempDir,
    services: String,
    ledger: Arc<Mutex<Ledger>>,
    first: u32,
    orders: u32,
}

impl Trial {
    fn new(first: u32, orders: u32) -> Trial {
        let (services, ledger) = services();
        Trial {
            folder: tempfile::tempdir().unwrap(),
            services,
            ledger,
            first,
            orders,
        }
    }

    fn start(&self, at: Option<&str>) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["crash::child", "--exact", "--nocapture"])
            .env("OUTLAST_CRASH_FOLDER", self.folder.path())
            .env("OUTLAST_CRASH_SERVICES", &self.services)
            .env("OUTLAST_CRASH_ORDERS", self.orders.to_string())
            .env("OUTLAST_CRASH_FIRST", self.first.to_string())
            .envs(at.map(|at| ("OUTLAST_CRASH_AT", at)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap()
    }

    /// Waits for its end; `false` if it takes longer.
    fn ends(child: &mut Child, within: Duration) -> bool {
        let end = Instant::now() + within;
        while Instant::now() < end {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return true;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        false
    }

    fn check(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = Sqlite::open(self.folder.path().join("sagas.db")).unwrap();
            check(&store, &self.ledger, self.orders).await;
        });
    }

    /// How often it is on the log of an order that somebody was asked.
    fn queries(&self, order: u32) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = Sqlite::open(self.folder.path().join("sagas.db")).unwrap();
            let log = store.log(&format!("order-{order}")).await.unwrap();
            let events = log.iter().flat_map(|record| &record.events);
            let asks = events.filter(|event| matches!(event, Event::QueryStarted { .. }));
            asks.count()
        })
    }
}

/// Orders of which a charge gets no answer, and the first question about it none either: one that is
/// shipped and one that is not.
fn asked_about() -> [u32; 2] {
    let find = |last: u32| {
        let is_it = |number: &u32| {
            let hash = hash_of(&format!("order-{number}/charge"));
            hash.is_multiple_of(7) && !hash.is_multiple_of(5) && hash.is_multiple_of(3)
        };
        (0..10_000)
            .map(|tens| 10 * tens + last)
            .find(is_it)
            .unwrap()
    };
    [find(1), find(7)]
}

/// The laws, by the log and by the ledgers.
pub async fn check(store: &impl Store, ledger: &Mutex<Ledger>, orders: u32) {
    let all = store.list(None, 0, 100_000).await.unwrap();
    assert_eq!(all.len() as u32, orders, "none is lost");
    let ledger = ledger.lock().unwrap();
    let done = |saga: &str, step: &str| {
        let entry = ledger.done.get(&format!("{saga}/{step}"));
        entry.map_or(0, |entry| entry.0)
    };
    assert!(ledger.done.values().all(|(effects, _)| *effects <= 1));
    for listed in all {
        let id = &listed.id;
        let undone = ledger.undone.get(id).cloned().unwrap_or_default();
        if id.ends_with('7') {
            assert_eq!(listed.state, State::Compensated, "{id}");
            assert_eq!(
                undone,
                ["charge", "reserve", "create"],
                "{id}: in reverse, each once"
            );
            assert_eq!(done(id, "ship"), 0);
        } else {
            assert_eq!(listed.state, State::Completed, "{id}");
            assert_eq!(undone, Vec::<String>::new(), "{id}");
            for step in STEPS {
                assert_eq!(done(id, step), 1, "{id}: {step}");
            }
        }
    }
}

/// As many as the long mode asks for.
pub fn kills() -> u32 {
    if std::env::var_os("OUTLAST_LONG").is_some() {
        1000
    } else {
        100
    }
}

#[test]
fn orders_are_done_or_undone_whenever_their_runner_is_killed() {
    if std::env::var_os("OUTLAST_CRASH_FOLDER").is_some() {
        return;
    }
    let mut rng = Rng::new(42);
    let (mut left, mut killed, mut asked) = (kills(), 0, 0);
    // How long it takes from each start until anybody is asked.
    let mut starts = Vec::new();
    while left > 0 {
        let trial = Trial::new(0, 60);
        loop {
            trial.ledger.lock().unwrap().first = None;
            let start = Instant::now();
            let mut child = trial.start(None);
            let life = Duration::from_micros((rng.unit() * 150_000.0) as u64);
            // The last one lives as long as it takes; nothing is stuck.
            let within = if left == 0 {
                Duration::from_secs(60)
            } else {
                life
            };
            let has_ended = Trial::ends(&mut child, within);
            let first = trial.ledger.lock().unwrap().first;
            starts.extend(first.map(|first| first - start));
            if has_ended {
                break;
            }
            assert!(left > 0, "it does not end");
            child.kill().unwrap();
            child.wait().unwrap();
            (left, killed) = (left - 1, killed + 1);
        }
        trial.check();
        asked += trial.ledger.lock().unwrap().queries;
    }
    assert!(asked > 10, "{asked}");
    // One that has little to do, on a machine that has much to do, says nothing.
    starts.sort();
    let median = starts[starts.len() / 2];
    println!(
        "{killed} kills, asked {asked} times; the next process asks somebody after {median:?}"
    );
    assert!(
        starts.len() as u32 > killed / 4,
        "{} of {killed}",
        starts.len()
    );
    assert!(median < Duration::from_secs(2), "{starts:?}");
}

/// Each write of an order, one that is done and one that is undone, with and without a question whether a
/// step was done, with a process that dies before it and one that dies when it is on the disk; and then once
/// more while the next one goes on with it.
#[test]
fn an_order_survives_a_kill_at_every_transition() {
    if std::env::var_os("OUTLAST_CRASH_FOLDER").is_some() {
        return;
    }
    let ends = |child: &mut Child| -> bool {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < end, "it does not end");
            if let Some(status) = child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    };
    let [shipped, not_shipped] = asked_about();
    for order in [1, 7, 11, 17, shipped, not_shipped] {
        for when in ["before", "after"] {
            let mut write = 1;
            loop {
                let trial = Trial::new(order, 1);
                if ends(&mut trial.start(Some(&format!("{write} {when}")))) {
                    // There are no more writes.
                    assert!(write > 6, "{write}");
                    let asks = if order > 17 { 2 } else { 0 };
                    assert!(trial.queries(order) >= asks, "{order}");
                    break;
                }
                // Its successor dies at its first write, too.
                let again = ends(&mut trial.start(Some(&format!("1 {when}"))));
                assert!(!again || write > 1, "it has something to write");
                assert!(
                    ends(&mut trial.start(None)),
                    "order {order}, {when} write {write}"
                );
                trial.check();
                write += 1;
            }
        }
    }
}
