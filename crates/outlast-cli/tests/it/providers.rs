//! Two providers, and everything dies: no order is charged twice, and none is lost.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::serve::free;
use crate::wait_until;

/// A process that is started again whenever it has died.
struct Kept {
    command: Mutex<Command>,
    child: Mutex<Child>,
    /// Where its id stands, if somebody has to know it.
    pid: Option<PathBuf>,
    deaths: AtomicU32,
}

impl Kept {
    fn start(mut command: Command, address: SocketAddr, pid: Option<PathBuf>) -> Kept {
        let kept = Kept {
            child: Mutex::new(command.spawn().unwrap()),
            command: Mutex::new(command),
            pid,
            deaths: AtomicU32::new(0),
        };
        kept.note();
        wait_until("it listens", || TcpStream::connect(address).is_ok());
        kept
    }

    fn note(&self) {
        if let Some(pid) = &self.pid {
            let id = self.child.lock().unwrap().id().to_string();
            std::fs::write(pid, id).unwrap();
        }
    }

    /// Brings it back if it has died, and what it is waited for has happened.
    fn look_after(&self, until: impl Fn()) {
        if self.child.lock().unwrap().try_wait().unwrap().is_none() {
            return;
        }
        self.deaths.fetch_add(1, Ordering::Relaxed);
        until();
        *self.child.lock().unwrap() = self.command.lock().unwrap().spawn().unwrap();
        self.note();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn provider(folder: &Path, name: &str, address: SocketAddr, pid: Option<&Path>) -> Kept {
    let mut command = Command::new("python3");
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/provider.py"))
        .arg(address.port().to_string())
        .arg(folder.join(name))
        .args(pid)
        .stderr(Stdio::null());
    Kept::start(command, address, None)
}

/// When each order was last answered, with whatever.
type Answered = Mutex<HashMap<String, SystemTime>>;

/// The last order that the provider with this ledger has seen was answered since then, without the
/// provider: whoever may be asked in its place had the chance.
fn is_answered_for(ledger: &Path, answered: &Answered) -> bool {
    let seen = ledger.with_extension("seen");
    let keys = std::fs::read_to_string(&seen).unwrap_or_default();
    let Some(key) = keys.lines().last() else {
        return true;
    };
    let asked = std::fs::metadata(&seen).unwrap().modified().unwrap();
    let answered = answered.lock().unwrap();
    answered.get(key).is_some_and(|&at| at > asked)
}

/// The status of an order's answer; `None` without one.
fn pay(gateway: SocketAddr, key: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(gateway).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    let request = format!(
        "POST /pay HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// What became of all orders.
struct Books {
    charges: HashMap<String, u32>,
    /// Charges at the first provider, and at the second.
    shares: [usize; 2],
    deaths: [u32; 2],
}

/// Eight clients pay their orders, each until it is told that it was charged.
fn trade(exclusive: &str, words: &[&str], rounds: usize) -> Books {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let pid = folder.join("gateway.pid");
    let addresses = [free(), free(), free()];
    let plan = format!(
        "gateway: {{ listen: {}, admin: off, deadline: 5s, workers: 2 }}
routes: {{ pay: {{ match: POST /pay, upstream: payment }} }}
upstreams:
  payment:
    endpoints:
      a: {{ url: http://{}, outcomes: {{ 500: transient }} }}
      b: http://{}
    failover: [a, b]
    {exclusive}
    timeout: 2s
    budget: off
",
        addresses[0], addresses[1], addresses[2]
    );
    std::fs::write(folder.join("outlast.yaml"), plan).unwrap();
    let a = provider(folder, "a", addresses[1], Some(&pid));
    let _b = provider(folder, "b", addresses[2], None);
    let mut command = Command::new(env!("CARGO_BIN_EXE_outlast"));
    command
        .args(["serve", "outlast.yaml"])
        .current_dir(folder)
        .stderr(File::create(folder.join("log")).unwrap());
    let gateway = Kept::start(command, addresses[0], Some(pid));
    let orders: Vec<String> = (0..rounds)
        .flat_map(|round| words.iter().map(move |word| format!("{word}-{round}")))
        .collect();
    let (done, answered) = (AtomicBool::new(false), Answered::default());
    let ledger = folder.join("a");
    let stand_in = || {
        wait_until("the order is answered without the provider", || {
            is_answered_for(&ledger, &answered)
        });
    };
    let watch = |kept: &Kept, until: &dyn Fn()| {
        while !done.load(Ordering::Relaxed) {
            kept.look_after(until);
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(|| watch(&a, &stand_in));
        threads.spawn(|| watch(&gateway, &|| {}));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let orders = orders.iter().skip(client).step_by(CLIENTS);
                let answered = &answered;
                threads.spawn(move || {
                    for order in orders {
                        let end = Instant::now() + Duration::from_secs(60);
                        loop {
                            let status = pay(addresses[0], order);
                            if status.is_some() {
                                let now = SystemTime::now();
                                answered.lock().unwrap().insert(order.clone(), now);
                            }
                            if status == Some(200) {
                                break;
                            }
                            assert!(Instant::now() < end, "{order} is never paid");
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    }
                })
            })
            .collect();
        let paid: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        done.store(true, Ordering::Relaxed);
        let log = std::fs::read_to_string(folder.join("log")).unwrap();
        assert!(paid.iter().all(Result::is_ok), "{log}");
    });
    let ledgers = ["a", "b"].map(|name| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let mut charges: HashMap<String, u32> = orders.into_iter().map(|order| (order, 0)).collect();
    for key in ledgers.iter().flatten() {
        *charges.get_mut(key).expect("an order") += 1;
    }
    Books {
        charges,
        shares: ledgers.map(|ledger| ledger.len()),
        deaths: [&a, &gateway].map(|kept| kept.deaths.load(Ordering::Relaxed)),
    }
}

const CLIENTS: usize = 8;

#[test]
fn every_order_is_charged_exactly_once_whoever_dies() {
    let words = ["ok", "no", "die", "kill", "nodie", "nokill", "both"];
    let books = trade("exclusive: { journal: keys.jsonl }", &words, 8);
    let wrong: Vec<_> = books
        .charges
        .iter()
        .filter(|(_, count)| **count != 1)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(
        books.shares.iter().all(|&share| share > 0),
        "{:?}",
        books.shares
    );
    assert!(
        books.deaths.iter().all(|&deaths| deaths > 0),
        "{:?}",
        books.deaths
    );
}

#[test]
fn without_it_orders_are_charged_twice() {
    let journal = "exclusive: { journal: keys.jsonl }";
    for (exclusive, word, most) in [
        ("", "die", 2),
        ("exclusive: true", "die", 1),
        ("exclusive: true", "both", 2),
        (journal, "both", 1),
    ] {
        let books = trade(exclusive, &[word], 2);
        let found = books.charges.values().max();
        assert_eq!(found, Some(&most), "{word} with {exclusive:?}");
    }
}
