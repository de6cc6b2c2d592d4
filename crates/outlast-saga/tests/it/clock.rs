//! A clock that jumps by an hour, in a real process: nothing is too late before its time, and nothing
//! stands still.
//!
//! A child waits with sagas and messages between attempts. Its wall clock is libfaketime's, which reads
//! what time it is from a file, so that it jumps while the child runs, and between one and the next.
//! The clock that counts how much time has passed is the kernel's and does not jump.

mod fake;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use outlast_saga::queue::{Config, DeliveryError, Message, Queue};
use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::{Flow, Limits, Runner, Step, StepError, Tries};

pub use self::fake::Clock;

/// Longer than all of this takes, and shorter than a jump.
const HALF_AN_HOUR: Duration = Duration::from_secs(1800);
const HOUR: i64 = 3600;

/// The child: asks until it is answered, for which there is a file.
#[test]
fn child() {
    let Some(folder) = std::env::var_os("OUTLAST_CLOCK_FOLDER").map(PathBuf::from) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&folder));
    println!("\nall have ended");
}

async fn run(folder: &Path) {
    let tries = || Tries::new(1000).backoff(Duration::from_millis(100));
    let answer = folder.join("answer");
    let asks = move |who: &'static str| {
        let answer = answer.clone();
        move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            println!("\n{who} {}", now.as_secs());
            answer.exists()
        }
    };
    let step = || Step::new("ask").tries(tries());
    let flow = |name: &'static str, deadline: Duration| {
        let asks = asks(name);
        let flow = Flow::new(name, 1).deadline(deadline);
        flow.step(step(), move |_| {
            let is_answered = asks();
            async move {
                is_answered
                    .then_some(1)
                    .ok_or(StepError::transient("no answer"))
            }
        })
    };
    let flows = [
        flow("long", HALF_AN_HOUR),
        flow("short", Duration::from_secs(1)),
    ];
    let store = Sqlite::open(folder.join("sagas.db")).unwrap();
    let runner = Runner::new(store.clone(), flows, Limits::default()).unwrap();
    runner.resume().await.unwrap();
    runner.start("long", "long", 1).await.unwrap();
    let config = Config::new("receipts").max_age(HALF_AN_HOUR).tries(tries());
    let queue = Queue::open(store, config).await.unwrap();
    queue
        .push(Message::new("m").key("k").bytes("m"))
        .await
        .unwrap();
    let (runs, asks) = (queue.clone(), asks("message"));
    tokio::spawn(async move {
        let handler = move |_| {
            let is_answered = asks();
            async move {
                is_answered
                    .then_some(())
                    .ok_or(DeliveryError::transient("no answer"))
            }
        };
        runs.run(handler).await
    });
    while !folder.join("late").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    runner.start("short", "short", 1).await.unwrap();
    println!("\nshort is {}", runner.rests("short").await.unwrap().name());
    println!("\nlong is {}", runner.rests("long").await.unwrap().name());
    queue.drained().await;
    println!("\n{} messages are dead", queue.stats().dead);
}

/// A child, and what it says.
struct Runs {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Runs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Runs {
    fn start(folder: &Path, clock: &Clock) -> Runs {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["clock::child", "--exact", "--nocapture"])
            .env("OUTLAST_CLOCK_FOLDER", folder)
            .envs(clock.environment())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut said = said.lines().map_while(Result::ok);
            said.try_for_each(|line| sender.send(line).ok())
        });
        Runs { child, lines }
    }

    fn next(&self, what: &str) -> String {
        let line = self.lines.recv_timeout(Duration::from_secs(30));
        line.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Waits until both have asked some more times by a clock that is so far from the true one.
    fn go_on_asking(&self, offset: i64) {
        let (mut saga, mut message) = (0, 0);
        let end = Instant::now() + Duration::from_secs(30);
        while saga < 4 || message < 4 {
            assert!(Instant::now() < end, "they stand still at {offset}");
            let line = self.next("they stand still");
            let Some((who, at)) = line.split_once(' ') else {
                continue;
            };
            let Ok(at) = at.parse::<i64>() else {
                continue;
            };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            if (at - offset - now.as_secs() as i64).abs() < HOUR / 2 {
                saga += u32::from(who == "long");
                message += u32::from(who == "message");
            }
        }
    }

    fn says(&self, what: &str) {
        while self.next(what) != what {}
    }
}

#[test]
fn an_hour_forth_or_back_is_too_late_for_nothing_and_holds_up_nothing() {
    if std::env::var_os("OUTLAST_CLOCK_FOLDER").is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new(folder.path());
    let mut runs = Runs::start(folder.path(), &clock);
    // While it runs.
    for offset in [0, HOUR, -HOUR, 0, HOUR] {
        clock.set(offset);
        runs.go_on_asking(offset);
    }
    // Between two processes, both times an hour back.
    for offset in [0, -HOUR] {
        drop(runs);
        clock.set(offset);
        runs = Runs::start(folder.path(), &clock);
        runs.go_on_asking(offset);
    }
    // What has to be late is late, with a clock that goes back on its way.
    std::fs::write(folder.path().join("late"), "").unwrap();
    runs.says("short is compensated");
    std::fs::write(folder.path().join("answer"), "").unwrap();
    runs.says("long is completed");
    runs.says("0 messages are dead");
    runs.says("all have ended");
}
