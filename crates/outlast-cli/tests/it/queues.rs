//! Queues of a policy file, with a real gateway and a receiver that keeps a ledger.

mod shared;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sagas::disk::Small;
use crate::serve::free;
use crate::{outlast, text, wait_until};

/// A gateway and a receiver, in a folder; neither runs yet.
struct Post {
    folder: tempfile::TempDir,
    gateway: Option<Child>,
    receiver: Option<Child>,
    listen: SocketAddr,
    admin: SocketAddr,
    to: SocketAddr,
    /// What runs the gateway.
    runs: Vec<String>,
}

impl Drop for Post {
    fn drop(&mut self) {
        self.kill();
        self.down();
    }
}

/// A gateway that listens, is administered and sends there, with these keys of its queue.
fn plan((listen, admin, to): (SocketAddr, SocketAddr, SocketAddr), queue: &str) -> String {
    format!(
        "gateway: {{ listen: {listen}, admin: {admin}, workers: 2, drain: 5s }}
routes: {{ all: {{ match: /**, upstream: printer }} }}
upstreams:
  printer:
    endpoints: http://{to}
    breaker: {{ consecutive: 3, cooldown: 100ms }}
    fallback: {{ queue: receipts }}
queues:
  receipts: {{ key: {{ header: X-Customer }}, {queue} }}
"
    )
}

impl Post {
    /// With these keys of the queue.
    fn open(queue: &str) -> Post {
        let addresses = (free(), free(), free());
        Post::with(&plan(addresses, queue), addresses)
    }

    fn with(plan: &str, (listen, admin, to): (SocketAddr, SocketAddr, SocketAddr)) -> Post {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("outlast.yaml"), plan).unwrap();
        Post {
            folder,
            gateway: None,
            receiver: None,
            listen,
            admin,
            to,
            runs: Vec::new(),
        }
    }

    fn serve(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"));
        let mut words = self.runs.clone();
        words.extend([env!("CARGO_BIN_EXE_outlast"), "serve", "outlast.yaml"].map(str::to_owned));
        let gateway = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(self.folder.path())
            .stderr(log.unwrap())
            .spawn();
        self.gateway = Some(gateway.unwrap());
        let admin = self.admin;
        wait_until("it serves", || TcpStream::connect(admin).is_ok());
    }

    /// As `kill -9`.
    fn kill(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            let _ = gateway.kill();
            let _ = gateway.wait();
        }
    }

    fn up(&mut self) {
        let receiver = Command::new("python3")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/it/queue_receiver.py"
            ))
            .arg(self.to.port().to_string())
            .arg(self.folder.path().join("ledger"))
            .stderr(Stdio::null())
            .spawn();
        self.receiver = Some(receiver.unwrap());
        let to = self.to;
        wait_until("it listens", || TcpStream::connect(to).is_ok());
    }

    fn down(&mut self) {
        if let Some(mut receiver) = self.receiver.take() {
            let _ = receiver.kill();
            let _ = receiver.wait();
        }
    }

    /// What was done: key, customer and body, in its order.
    fn ledger(&self) -> Vec<[String; 3]> {
        let lines = std::fs::read_to_string(self.folder.path().join("ledger"));
        let fields = |line: &str| {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            std::array::from_fn(|_| words.next().unwrap_or_default())
        };
        lines.unwrap_or_default().lines().map(fields).collect()
    }

    fn queue(&self, arguments: &[&str]) -> (i32, String) {
        let at = format!("http://{}", self.admin);
        let all = [&["queue", "--at", &at], arguments].concat();
        let output = outlast(self.folder.path(), &all);
        let told = text(&output.stdout) + &text(&output.stderr);
        (output.status.code().unwrap(), told)
    }

    /// How the queue is doing; `None` if the gateway does not answer.
    fn line(&self) -> Option<Value> {
        let (code, told) = self.queue(&["list", "--json"]);
        let told: Value = serde_json::from_str(&told).ok().filter(|_| code == 0)?;
        Some(told["queues"][0].clone())
    }

    fn is_drained(&self) -> bool {
        self.line().is_some_and(|line| line["waiting"] == 0)
    }

    /// All of it is delivered, or dead; it takes as long as it takes, within minutes.
    fn drains(&self) {
        let end = Instant::now() + Duration::from_secs(240);
        while !self.is_drained() {
            let line = self.line();
            assert!(Instant::now() < end, "it does not drain: {line:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A client that keeps its connection.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(to: SocketAddr) -> Option<Client> {
        let stream = TcpStream::connect(to).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .ok()?;
        stream.set_nodelay(true).ok()?;
        let stream = BufReader::new(stream);
        Some(Client { stream })
    }

    /// The status of the answer; `None` if there is none.
    fn post(&mut self, fields: &str, body: &str) -> Option<u16> {
        let length = body.len();
        let request = format!(
            "POST /receipts HTTP/1.1\r\nHost: shop.test\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            self.stream
                .read_line(&mut line)
                .ok()
                .filter(|read| *read > 0)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if status.is_none() {
                status = line.split(' ').nth(1)?.parse().ok();
            }
            let field = line.split_once(':');
            if let Some((_, value)) =
                field.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        status
    }

    fn order(&mut self, key: &str, customer: &str, body: &str) -> Option<u16> {
        let fields = format!("Idempotency-Key: {key}\r\nX-Customer: {customer}\r\n");
        self.post(&fields, body)
    }
}

/// Each customer's numbers are all of those that were taken, each once, in their order.
fn compare(ledger: &[[String; 3]], taken: &BTreeMap<String, Vec<u32>>) {
    let mut keys = HashSet::new();
    let mut done: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for [key, customer, body] in ledger {
        assert!(keys.insert(key.clone()), "{key} was done twice");
        done.entry(customer.clone())
            .or_default()
            .push(body.parse().unwrap());
    }
    for (customer, numbers) in taken {
        let own = done.get(customer).map(Vec::as_slice).unwrap_or_default();
        assert!(own.is_sorted(), "{customer}: {own:?}");
        let own: HashSet<_> = own.iter().collect();
        let lost: Vec<_> = numbers
            .iter()
            .filter(|number| !own.contains(number))
            .collect();
        assert!(lost.is_empty(), "{customer} lacks {lost:?}");
    }
}

/// Many clients, each with customers of its own, whose requests are numbered. What was answered with 202.
fn push(to: SocketAddr, clients: Range<u32>, each: u32) -> BTreeMap<String, Vec<u32>> {
    let client = move |client: u32| {
        let mut taken: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let Some(mut stream) = Client::new(to) else {
            return taken;
        };
        for number in 0..each {
            let customer = format!("c{client}-{}", number % 5);
            let key = format!("r{client}-{number}");
            match stream.order(&key, &customer, &number.to_string()) {
                Some(202) => taken.entry(customer).or_default().push(number),
                Some(status) => panic!("{key} was answered with {status}"),
                // It was killed.
                None => break,
            }
        }
        taken
    };
    let clients: Vec<_> = clients
        .map(|number| std::thread::spawn(move || client(number)))
        .collect();
    let taken = clients.into_iter().map(|client| client.join().unwrap());
    taken.flatten().collect()
}

#[test]
fn ten_thousand_queued_requests_survive_a_killed_gateway() {
    let mut post =
        Post::open("pace: { slowest: 500/s, fastest: 2000/s }, concurrency: 64, bytes: 100MiB");
    post.serve();
    let taken = push(post.listen, 0..10, 1000);
    assert_eq!(taken.values().map(Vec::len).sum::<usize>(), 10_000);
    post.kill();
    post.serve();
    assert_eq!(post.line().unwrap()["waiting"], 10_000);
    post.up();
    // Killed while it delivers.
    for done in [500, 3000, 6000] {
        let end = Instant::now() + Duration::from_secs(120);
        while post.ledger().len() < done {
            assert!(Instant::now() < end, "{} of {done}", post.ledger().len());
            std::thread::sleep(Duration::from_millis(20));
        }
        post.kill();
        post.serve();
    }
    post.drains();
    let line = post.line().unwrap();
    assert_eq!(
        (&line["dead"], &line["bytes"]),
        (&Value::from(0), &Value::from(0))
    );
    let ledger = post.ledger();
    assert_eq!(ledger.len(), 10_000);
    compare(&ledger, &taken);
}

#[test]
fn a_request_that_was_accepted_is_on_the_disk() {
    let mut post = Post::open("pace: { slowest: 500/s, fastest: 2000/s }");
    let mut taken: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for round in 0..4_u64 {
        post.serve();
        let to = post.listen;
        let pushing = std::thread::spawn(move || push(to, 0..4, 2000));
        // At another instant in each round.
        std::thread::sleep(Duration::from_millis(150 + 37 * round));
        post.kill();
        for (customer, numbers) in pushing.join().unwrap() {
            // The same requests in each round: those that are there are not taken again.
            let known = taken.entry(customer).or_default();
            known.extend(numbers);
            known.sort_unstable();
            known.dedup();
        }
    }
    let count: usize = taken.values().map(Vec::len).sum();
    assert!(count > 0);
    post.serve();
    post.up();
    post.drains();
    let ledger = post.ledger();
    assert!(ledger.len() >= count, "{} of {count}", ledger.len());
    compare(&ledger, &taken);
}

#[test]
fn nothing_is_promised_while_the_disk_is_full() {
    let mut post = Post::open("retry: { attempts: 1000, backoff: 20ms }");
    let plan = post.folder.path().join("outlast.yaml");
    let mut text = std::fs::read_to_string(&plan).unwrap();
    text.push_str("store: { sqlite: small/outlast.db }\n");
    std::fs::write(&plan, text).unwrap();
    let small = Small::mount(&post.folder.path().join("small"));
    post.runs = small.enter.clone();
    post.serve();
    let mut client = Client::new(post.listen).unwrap();
    for number in 0..10 {
        let (key, customer) = (format!("before-{number}"), format!("c{number}"));
        assert_eq!(client.order(&key, &customer, "x"), Some(202));
    }
    small.fill();
    let mut client = Client::new(post.listen).unwrap();
    for number in 0..10 {
        let key = format!("during-{number}");
        assert_eq!(client.order(&key, "ann", "x"), Some(507), "{key}");
    }
    small.free();
    post.up();
    post.drains();
    let keys = |post: &Post| -> Vec<String> {
        let mut keys: Vec<_> = post.ledger().into_iter().map(|[key, ..]| key).collect();
        keys.sort_unstable();
        keys
    };
    let before: Vec<_> = (0..10).map(|number| format!("before-{number}")).collect();
    assert_eq!(keys(&post), before, "what was refused is not done");
    post.down();
    assert_eq!(
        client.order("during-0", "ann", "x"),
        Some(202),
        "there is room"
    );
    post.up();
    post.drains();
    assert_eq!(keys(&post).last().unwrap(), "during-0");
}

#[test]
fn people_see_what_waits_and_help_what_is_dead() {
    let mut post = Post::open("retry: { attempts: 2, backoff: 20ms }");
    post.up();
    let file = |name: &str| post.folder.path().join(format!("ledger.{name}"));
    std::fs::write(file("down"), "").unwrap();
    post.serve();
    let mut client = Client::new(post.listen).unwrap();
    assert_eq!(client.order("r-1", "ann", "poison"), Some(202));
    std::fs::remove_file(post.folder.path().join("ledger.down")).unwrap();
    assert_eq!(client.order("r-2", "bob", "fine"), Some(200), "another key");
    wait_until("it is dead", || {
        post.line().is_some_and(|line| line["dead"] == 1)
    });
    let (code, told) = post.queue(&["list"]);
    assert_eq!(code, 0, "{told}");
    for part in ["receipts", "printer", "gate"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let (code, told) = post.queue(&["dead-letters"]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("r-1") && told.contains("given up after 2 attempts"),
        "{told}"
    );
    let (_, told) = post.queue(&["list", "receipts", "--state", "dead"]);
    assert!(told.contains("r-1") && told.contains("ann"), "{told}");
    let (code, told) = post.queue(&["show", "receipts", "r-1"]);
    assert_eq!(code, 0, "{told}");
    for part in ["POST /receipts", "ann", "dead", "why not"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    std::fs::write(post.folder.path().join("ledger.mended"), "").unwrap();
    let by = ["--by", "ann", "--reason", "new paper"];
    let (code, told) = post.queue(&[&["retry", "receipts", "r-1"], &by[..]].concat());
    assert_eq!((code, &*told), (0, "done\n"));
    wait_until("it is delivered", || post.is_drained());
    let (_, told) = post.queue(&["show", "receipts", "r-1"]);
    assert!(
        told.contains("delivered") && told.contains("retried by ann: new paper"),
        "{told}"
    );
    let (code, told) = post.queue(&[&["discard", "receipts", "r-1"], &by[..]].concat());
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("it is no dead letter"), "{told}");
    let (code, told) = post.queue(&["list", "receitps"]);
    assert_eq!(code, 1);
    assert!(told.contains("there are: receipts"), "{told}");
    let (_, told) = post.queue(&["dead-letters"]);
    assert_eq!(told, "there are no dead letters\n");
    let bodies: Vec<_> = post.ledger().into_iter().map(|[_, _, body]| body).collect();
    assert_eq!(bodies, ["fine", "poison"]);
}

/// The blocks of a language in the guide.
fn blocks(language: &str) -> Vec<&'static str> {
    let guide = include_str!("../../../../docs/queues.md");
    let part = guide.split("## In the policy file").nth(1).unwrap();
    let part = part.split("\n## ").next().unwrap();
    let begun = format!("```{language}\n");
    let blocks = part.split(&*begun).skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

/// Without times and counts, and with one space between words.
fn timeless(page: &str) -> Vec<String> {
    let plain = |word: &str| match word {
        word if word.starts_with("20") && word.ends_with('Z') => "TIME".to_owned(),
        word if word.bytes().all(|byte| byte.is_ascii_digit()) => "N".to_owned(),
        word => word.to_owned(),
    };
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(plain).collect();
        words.join(" ")
    };
    page.lines().map(line).collect()
}

#[test]
fn the_guide_says_what_happens() {
    let (listen, admin, to) = (free(), free(), free());
    let file = blocks("yaml")[0];
    let file = file.replace("127.0.0.1:7001", &to.to_string());
    let plan = format!("gateway: {{ listen: {listen}, admin: {admin} }}\n{file}");
    let mut post = Post::with(&plan, (listen, admin, to));
    post.serve();
    let run = |commands: &str| {
        let commands = commands.replace("127.0.0.1:8080", &listen.to_string());
        let mut told = String::new();
        for command in commands.lines() {
            let ran = Command::new("sh").args(["-c", command]).output().unwrap();
            told.push_str(&text(&ran.stdout));
            told.push('\n');
        }
        told
    };
    assert_eq!(run(blocks("sh")[0]), blocks("json")[0]);
    post.up();
    wait_until("all is delivered, or dead", || post.is_drained());
    let shown = run(blocks("sh")[1]);
    let mut shown: Value = serde_json::from_str(&shown).unwrap();
    let mut said: Value = serde_json::from_str(blocks("json")[1]).unwrap();
    for told in [&mut shown, &mut said] {
        for key in ["queued", "ended", "attempts"] {
            assert!(!told[key].is_null(), "{key}: {told}");
            told[key] = Value::Null;
        }
    }
    assert_eq!(shown, said);
    let (code, told) = post.queue(&["dead-letters"]);
    assert_eq!(code, 0);
    assert_eq!(timeless(&told), timeless(blocks("text")[0]), "{told}");
    let bodies: Vec<_> = post.ledger().into_iter().map(|[_, _, body]| body).collect();
    assert_eq!(bodies, ["euros=20"]);
}
