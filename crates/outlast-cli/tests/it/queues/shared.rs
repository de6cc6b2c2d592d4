//! Two gateways that share a database: either takes requests, and one of them delivers.

use super::*;
use crate::sagas::clock::fake::Clock;
use crate::sagas::shared::server::Server;

/// A database, a receiver and two gateways; the receiver does not run yet.
struct Two {
    posts: [Post; 2],
    /// It ends last.
    _server: Server,
}

impl Two {
    fn open(lease: &str) -> Two {
        Two::open_with(lease, Vec::new())
    }

    /// With something that runs the second one.
    fn open_with(lease: &str, runs: Vec<String>) -> Two {
        let server = Server::start();
        let database = server.database("shop");
        let to = free();
        let post = |name: &str, runs: Vec<String>| {
            let (listen, admin) = (free(), free());
            let plan = format!(
                "{}store: {{ postgres: '{database}', name: {name}, lease: {lease} }}\n",
                plan((listen, admin, to), PACE)
            );
            let mut post = Post::with(&plan, (listen, admin, to));
            post.runs = runs;
            post.serve();
            post
        };
        Two {
            posts: [post("first", Vec::new()), post("second", runs)],
            _server: server,
        }
    }

    /// The receiver is the first one's.
    fn ledger(&self) -> Vec<[String; 3]> {
        self.posts[0].ledger()
    }

    fn has_done(&self, count: usize) {
        let end = Instant::now() + Duration::from_secs(120);
        while self.ledger().len() < count {
            let done = self.ledger().len();
            assert!(Instant::now() < end, "{done} of {count} are done");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a client is told of a request.
    fn status(&self, which: usize, id: &str) -> String {
        let mut stream = TcpStream::connect(self.posts[which].listen).unwrap();
        let request = format!(
            "GET /queues/receipts/{id} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let told = answer.split("\r\n\r\n").nth(1).unwrap();
        let told: Value = serde_json::from_str(told).unwrap();
        told["status"].as_str().unwrap_or_default().to_owned()
    }
}

/// Requests at both, and those of some customers by turns.
fn push_at_both(two: &Two, round: u32, each: u32) -> BTreeMap<String, Vec<u32>> {
    let clients = |which: usize| {
        let to = two.posts[which].listen;
        let first = 100 * round + 10 * which as u32;
        std::thread::spawn(move || push(to, first..first + 4, each))
    };
    let pushing = [clients(0), clients(1)];
    let mut taken = BTreeMap::new();
    let mut streams = [0, 1].map(|which| Client::new(two.posts[which].listen).unwrap());
    for number in 0..each {
        let customer = format!("both{round}-{}", number % 3);
        let key = format!("b{round}-{number}");
        let which = (number / 3 % 2) as usize;
        let status = streams[which].order(&key, &customer, &number.to_string());
        assert_eq!(status, Some(202), "{key}");
        let of: &mut Vec<u32> = taken.entry(customer).or_default();
        of.push(number);
    }
    for pushing in pushing {
        taken.extend(pushing.join().unwrap());
    }
    taken
}

#[test]
fn a_gateway_that_is_killed_loses_no_request_and_the_other_delivers_them() {
    let mut two = Two::open("1s");
    let mut taken = push_at_both(&two, 1, 300);
    for which in [0, 1] {
        for id in ["r100-0", "r110-299", "b1-7"] {
            assert_eq!(two.status(which, id), "waiting", "{id} at {which}");
        }
    }
    // One of the two delivered before. Then each has, until it is killed in the middle of it.
    two.posts[0].kill();
    two.posts[0].up();
    two.has_done(300);
    two.posts[0].serve();
    two.posts[1].kill();
    let before = two.ledger().len();
    assert!(before < 2400, "it was killed too late: {before}");
    two.has_done(before + 300);
    two.posts[1].serve();
    two.posts[0].kill();
    two.posts[1].drains();
    two.posts[0].serve();
    for which in [0, 1] {
        for id in ["r100-0", "r110-299", "b1-7"] {
            assert_eq!(two.status(which, id), "delivered", "{id} at {which}");
        }
    }
    assert_eq!(two.ledger().len(), 2700);
    // Both still queue.
    two.posts[0].down();
    taken.extend(push_at_both(&two, 2, 60));
    two.posts[0].up();
    two.posts[0].drains();
    let ledger = two.ledger();
    assert_eq!(ledger.len(), 3240);
    compare(&ledger, &taken);
}

#[test]
fn a_gateway_that_stood_still_past_its_lease_changes_nothing_that_the_other_did() {
    let mut two = Two::open("1s");
    let mut taken = push_at_both(&two, 1, 300);
    // The second alone delivers, until it stands still.
    two.posts[0].kill();
    two.posts[0].up();
    two.has_done(300);
    two.posts[0].serve();
    let stopped = two.posts[1].gateway.as_ref().unwrap().id().to_string();
    let signal = |signal: &str| {
        let sent = Command::new("kill").args([signal, &stopped]).status();
        assert!(sent.unwrap().success());
    };
    signal("-STOP");
    let before = two.ledger().len();
    assert!(before < 2700, "it was stopped too late: {before}");
    two.posts[0].drains();
    let ledger = two.ledger();
    assert_eq!(ledger.len(), 2700);
    two.posts[0].down();
    signal("-CONT");
    wait_until("it knows that all is delivered", || {
        two.posts[1].is_drained()
    });
    assert_eq!(two.status(1, "b1-299"), "delivered");
    taken.extend(push_at_both(&two, 2, 60));
    two.posts[0].up();
    two.posts[1].drains();
    let ledger = two.ledger();
    assert_eq!(ledger.len(), 3240);
    compare(&ledger, &taken);
}

#[test]
fn a_gateway_whose_clock_is_an_hour_ahead_finds_no_request_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new(folder.path());
    clock.set(3600);
    let mut runs = vec!["env".to_owned()];
    for (name, value) in clock.environment() {
        runs.push(format!("{name}={}", value.to_str().unwrap()));
    }
    let mut two = Two::open_with("1s", runs);
    let ids = [0, 1].map(|which: usize| format!("from-{which}"));
    for (which, id) in ids.iter().enumerate() {
        let mut client = Client::new(two.posts[which].listen).unwrap();
        let fields = format!("Idempotency-Key: {id}\r\nOutlast-Queue-Within: 10m\r\n");
        assert_eq!(client.post(&fields, "7"), Some(202));
    }
    // What was taken by the other's clock is delivered by this one's.
    two.posts[0].kill();
    two.posts[0].up();
    two.posts[1].drains();
    for id in &ids {
        assert_eq!(two.status(1, id), "delivered", "{id}");
    }
    assert_eq!(two.ledger().len(), 2);
}

const PACE: &str = "pace: { slowest: 200/s, fastest: 600/s }, concurrency: 16";
