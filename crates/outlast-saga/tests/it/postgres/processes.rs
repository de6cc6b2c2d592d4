//! Runners that are processes, on one database: stopped, killed, and their database crashed.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outlast_core::rng::Rng;
use outlast_saga::store::postgres::{Config, Postgres};
use outlast_saga::store::{State, Store};
use outlast_saga::{Limits, Runner, StartError};

use super::server::Server;
use crate::clock::Clock;
use crate::crash::{Deadly, Ledger, check, flows, kills, name_of, services};

/// The child: starts orders and runs sagas until all have ended.
#[test]
fn child() {
    let Ok(settings) = std::env::var("OUTLAST_CRASH_POSTGRES") else {
        return;
    };
    let value = |name: &str| std::env::var(name).unwrap();
    let orders: u32 = value("OUTLAST_CRASH_ORDERS").parse().unwrap();
    let first: u32 = value("OUTLAST_CRASH_FIRST").parse().unwrap();
    let is_second = value("OUTLAST_CRASH_NAME") == "second";
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let lease = value("OUTLAST_CRASH_LEASE").parse().unwrap();
        let config = Config::default()
            .name(value("OUTLAST_CRASH_NAME"))
            .lease(Duration::from_millis(lease));
        let store =
            until_it_works(async || Postgres::connect(&settings, config.clone()).await).await;
        let flows = flows(&value("OUTLAST_CRASH_SERVICES"));
        let deadly = Deadly::new(store.clone());
        let runner = Runner::new(deadly, flows, Limits::default()).unwrap();
        until_it_works(async || runner.resume().await).await;
        let takes = runner.clone();
        tokio::spawn(async move { takes.take_over(|_| ()).await });
        for number in 0..orders {
            // Both start all, from either end.
            let number = if is_second {
                orders - 1 - number
            } else {
                number
            };
            let number = first + number;
            let id = format!("order-{number}");
            until_it_works(
                async || match runner.start(name_of(number), &id, number).await {
                    Err(StartError::Store(error)) => Err(error),
                    started => Ok(started.unwrap()),
                },
            )
            .await;
        }
        while !until_it_works(async || store.list(Some(State::Open), 0, 1).await)
            .await
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        until_it_works(async || store.leave().await).await;
    });
}

/// A database that is away comes back.
pub async fn until_it_works<T, E: std::fmt::Display>(work: impl AsyncFn() -> Result<T, E>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match work().await {
            Ok(came) => return came,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Trial {
    settings: String,
    services: String,
    ledger: Arc<Mutex<Ledger>>,
    /// The number of the first one.
    first: u32,
    orders: u32,
    lease: Duration,
}

impl Trial {
    fn new(server: &Server, name: &str, orders: u32) -> Trial {
        let (services, ledger) = services();
        Trial {
            settings: server.database(name),
            services,
            ledger,
            first: 0,
            orders,
            lease: LEASE,
        }
    }

    fn start(&self, name: &str) -> Runs {
        self.start_by(name, None)
    }

    /// With a wall clock of its own.
    fn start_by(&self, name: &str, clock: Option<&Clock>) -> Runs {
        let clock = clock.into_iter().flat_map(Clock::environment);
        Runs(self.command(name).envs(clock).spawn().unwrap())
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["postgres::processes::child", "--exact", "--nocapture"])
            .env("OUTLAST_CRASH_POSTGRES", &self.settings)
            .env("OUTLAST_CRASH_SERVICES", &self.services)
            .env("OUTLAST_CRASH_ORDERS", self.orders.to_string())
            .env("OUTLAST_CRASH_FIRST", self.first.to_string())
            .env("OUTLAST_CRASH_LEASE", self.lease.as_millis().to_string())
            .env("OUTLAST_CRASH_NAME", name)
            .stdout(Stdio::null());
        command
    }

    /// The laws of every trial, and that nobody wrote who was not the last to take a saga over.
    fn check(&self, server: &Server) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = Postgres::connect(&self.settings, Config::default())
                .await
                .unwrap();
            check(&store, &self.ledger, self.orders).await;
        });
        let query = |text: &str| server.query(&self.settings, text);
        let back = "SELECT count(*) FROM outlast_record later JOIN outlast_record earlier \
                    USING (saga) WHERE later.seq > earlier.seq AND later.epoch < earlier.epoch";
        assert_eq!(query(back), "0", "no epoch goes back");
        let gaps = "SELECT count(*) FROM outlast_saga WHERE length <> \
                    (SELECT count(*) FROM outlast_record WHERE saga = place)";
        assert_eq!(query(gaps), "0", "no record is missing");
        let taken = "SELECT count(*) FROM outlast_record later JOIN outlast_record earlier \
                     ON later.saga = earlier.saga AND later.seq = earlier.seq + 1 \
                     WHERE later.epoch > earlier.epoch AND earlier.events LIKE '%started%' \
                     AND later.events NOT LIKE '%recovered%'";
        assert_eq!(
            query(taken),
            "0",
            "who takes over does not know what came of it"
        );
    }
}

/// A child that ends with the test.
pub struct Runs(pub Child);

impl Runs {
    pub fn signal(&self, signal: &str) {
        let process = self.0.id().to_string();
        let sent = Command::new("kill")
            .args([signal, &process])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// However it ends.
    fn status(&mut self, within: Duration) -> std::process::ExitStatus {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `false` if it takes longer.
    pub fn ends(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_runner_that_stood_still_past_its_lease_writes_nothing() {
    let server = Server::start();
    let trial = Trial::new(&server, "stopped", 60);
    let query = |text: &str| server.query(&trial.settings, text);
    let count = |text: &str| -> u32 { query(text).parse().unwrap() };
    let mut first = trial.start("first");
    // Its sagas are under way, and none has ended long ago.
    let end = Instant::now() + Duration::from_secs(60);
    let has_tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'outlast_record'";
    while count(has_tables) == 0 || count("SELECT count(*) FROM outlast_record") < 40 {
        assert!(Instant::now() < end, "it does not begin");
    }
    first.signal("-STOP");
    // What was sent before it stopped is done with.
    std::thread::sleep(Duration::from_millis(200));
    let own = count("SELECT count(*) FROM outlast_saga WHERE state = 0 AND runner IS NOT NULL");
    assert!(own > 5, "only {own} sagas are under way");

    let mut second = trial.start("second");
    assert!(second.ends(LONG_ENOUGH), "the other one takes over");
    assert_eq!(
        count("SELECT count(*) FROM outlast_saga WHERE state = 0"),
        0
    );
    let taken = count("SELECT count(*) FROM outlast_saga WHERE epoch > 1");
    assert_eq!(taken, own, "all of them were taken");
    let all =
        "SELECT md5(string_agg(record::text, '' ORDER BY saga, seq)) FROM outlast_record record";
    let before = query(all);
    first.signal("-CONT");
    assert!(first.ends(LONG_ENOUGH), "it goes on without them");
    assert_eq!(query(all), before, "it has written nothing");
    trial.check(&server);
}

/// While both are at work, one stops again and again for longer than its lease.
#[test]
fn a_runner_that_stands_still_at_times_does_no_harm() {
    let server = Server::start();
    let trial = Trial::new(&server, "stutters", 400);
    let (mut first, mut second) = (trial.start("first"), trial.start("second"));
    let mut stops = 0;
    while !first.ends(Duration::from_millis(250)) {
        assert!(stops < 40, "it does not end");
        first.signal("-STOP");
        std::thread::sleep(LEASE * 2);
        first.signal("-CONT");
        stops += 1;
    }
    assert!(second.ends(LONG_ENOUGH));
    assert!(stops > 0);
    trial.check(&server);
}

/// Their clocks are an hour apart, and one of them jumps. When one is killed the other one goes on with
/// its orders at once, and none is too late.
#[test]
fn runners_whose_clocks_are_wrong_do_no_harm() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    for (killed, jump) in [(0, -3600), (1, 0)] {
        let trial = Trial::new(&server, &format!("clocks-{killed}"), 400);
        let query = |text: &str| -> u32 { server.query(&trial.settings, text).parse().unwrap() };
        let clock = Clock::new(folder.path());
        clock.set(3600);
        let mut runners = [trial.start_by("first", Some(&clock)), trial.start("second")];
        let name = ["first", "second"][killed];
        let own = format!(
            "SELECT count(*) FROM outlast_saga WHERE state = 0 AND length > 2 AND runner = \
             (SELECT max(id) FROM outlast_runner WHERE name = '{name}')"
        );
        let end = Instant::now() + LONG_ENOUGH;
        while query("SELECT count(*) FROM pg_tables WHERE tablename = 'outlast_record'") == 0
            || query(&own) < 3
        {
            assert!(Instant::now() < end, "it does not begin");
        }
        runners[killed].kill();
        clock.set(jump);
        let left = query(&own);
        assert!(left > 0, "it has left nothing");
        assert!(runners[1 - killed].ends(LONG_ENOUGH), "it stands still");
        trial.check(&server);
        let taken = query("SELECT count(*) FROM outlast_saga WHERE epoch > 1");
        assert!(taken >= left, "{taken} of {left} were taken over");
    }
}

#[test]
fn nothing_is_lost_when_the_database_crashes_under_load() {
    let mut server = Server::start();
    let trial = Trial::new(&server, "crashes", 600);
    let (mut first, mut second) = (trial.start("first"), trial.start("second"));
    let mut crashes = 0;
    while !first.ends(Duration::from_millis(300)) {
        assert!(crashes < 200, "it does not end");
        server.crash();
        crashes += 1;
    }
    assert!(second.ends(LONG_ENOUGH));
    assert!(crashes > 0);
    trial.check(&server);
}

#[test]
fn orders_are_done_or_undone_whenever_one_of_their_runners_is_killed() {
    let server = Server::start();
    let mut rng = Rng::new(43);
    let (mut left, mut round) = (kills(), 0);
    while left > 0 {
        round += 1;
        let trial = Trial::new(&server, &format!("killed-{round}"), 60);
        let names = ["first", "second"];
        let mut runners = names.map(|name| trial.start(name));
        loop {
            let life = Duration::from_micros((rng.unit() * 300_000.0) as u64);
            let which = usize::from(rng.unit() < 0.5);
            if left == 0 || runners[which].ends(life) {
                break;
            }
            runners[which].kill();
            runners[which] = trial.start(names[which]);
            left -= 1;
        }
        for mut runner in runners {
            assert!(runner.ends(LONG_ENOUGH), "it does not end");
        }
        trial.check(&server);
    }
}

/// As for a file: each write of an order, with a runner that dies before or after it, and one that dies
/// at its first write when it goes on. A third one ends it. Each has a database of its own, and several
/// are at work at a time, since all wait for leases most of the time.
#[test]
fn an_order_survives_a_kill_at_every_transition_of_a_runner() {
    let server = Server::start();
    let next = AtomicU32::new(0);
    let ended = [const { AtomicBool::new(false) }; 4];
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (kind, write) = (number as usize % 4, number / 4 + 1);
        if ended.iter().all(|ended| ended.load(Ordering::Relaxed)) {
            return;
        }
        if ended[kind].load(Ordering::Relaxed) {
            continue;
        }
        let (order, when) = [(1, "before"), (1, "after"), (7, "before"), (7, "after")][kind];
        let trial = Trial {
            first: order,
            lease: Duration::from_secs(1),
            ..Trial::new(&server, &format!("write-{number}"), 1)
        };
        let runs = |at: Option<String>| {
            let mut command = trial.command("one");
            let at = at.map(|at| ("OUTLAST_CRASH_AT", at));
            let mut runs = Runs(command.envs(at).spawn().unwrap());
            runs.status(LONG_ENOUGH).success()
        };
        if runs(Some(format!("{write} {when}"))) {
            // There are no more writes.
            assert!(write > 6, "{write}");
            ended[kind].store(true, Ordering::Relaxed);
        } else {
            runs(Some(format!("1 {when}")));
            assert!(runs(None), "order {order}, {when} write {write}");
        }
        trial.check(&server);
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
}

const AT_ONCE: usize = 12;
/// Shorter than anybody would have it.
pub const LEASE: Duration = Duration::from_secs(2);
pub const LONG_ENOUGH: Duration = Duration::from_secs(60);
