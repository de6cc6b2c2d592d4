//! The simulator tells of the gateway: the same policy file and the same script, once in virtual time
//! and once with a real gateway before real servers, give the same counts.
//!
//! Clients call at planned times and wait for nobody. What is random about a server is not left to
//! chance here: of a thousand calls exactly so many fail at their first attempt, at their first two, and
//! at their first three, as there are in the mean, and the simulator's counts are the mean of several
//! runs. Nothing is judged by how long it took; the times of the scripts are far apart in comparison with
//! what a busy machine adds. Should the machine not let the load itself come in time, it is made again.
//!
//! Not compared is what the simulator does not model: bodies, fallbacks, and connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use outlast_core::reject::Reason;
use outlast_sim::{Change, Client, Law, Model, Refusal, Service};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::serve::free;
use crate::traffic::{Clients, start_gateway};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Of all calls.
const DEADLINE: Duration = Duration::from_secs(3);

/// What happens.
struct Script<'a> {
    /// The upstream's part of the policy file, beside its endpoints.
    policies: &'a str,
    /// From one call to the next.
    interval: Duration,
    lasts: Duration,
    /// What the endpoints `a`, `b`, ... are.
    servers: &'a [Server],
}

/// A server that answers any number of requests at once.
#[derive(Clone, Copy)]
struct Server {
    takes: Duration,
    /// So many of ten attempts fail.
    failing: u64,
    /// So many of ten attempts take this long instead; of a server whose attempts do not fail, for the
    /// same digit decides both.
    slow: (u64, Duration),
    /// When all of them fail, in milliseconds.
    outage: (u64, u64),
    /// In an outage it says at once to come back after so many seconds.
    hint: Option<u64>,
    /// Nobody listens.
    dead: bool,
}

const WELL: Server = Server {
    takes: Duration::from_millis(10),
    failing: 0,
    slow: (0, Duration::ZERO),
    outage: (0, 0),
    hint: None,
    dead: false,
};

impl Server {
    fn outage(&self) -> Range<Duration> {
        Duration::from_millis(self.outage.0)..Duration::from_millis(self.outage.1)
    }
}

#[test]
fn retries_and_their_budget() {
    check(&Script {
        policies: "
    retry: { attempts: 3, backoff: { base: 20ms, max: 100ms } }
    budget: 20%",
        interval: 5 * MS,
        lasts: 5 * SECOND,
        servers: &[Server { failing: 3, ..WELL }],
    });
}

#[test]
fn retries_without_a_budget() {
    check(&Script {
        policies: "
    retry: { attempts: 3, backoff: 20ms }
    budget: off",
        interval: 5 * MS,
        lasts: 5 * SECOND,
        servers: &[Server { failing: 3, ..WELL }],
    });
}

/// It trips as the outage begins, again when its first trials fail, and the next ones come when the
/// outage has been over for a tenth of a second.
#[test]
fn a_breaker_in_an_outage() {
    check(&Script {
        policies: "
    breaker: { consecutive: 5, cooldown: 1s }",
        interval: 5 * MS,
        lasts: 5 * SECOND,
        servers: &[Server {
            outage: (2000, 3900),
            ..WELL
        }],
    });
}

#[test]
fn an_attempt_timeout_before_slow_answers() {
    check(&Script {
        policies: "
    timeout: 300ms
    retry: { attempts: 2, backoff: 20ms }
    budget: off",
        interval: 5 * MS,
        lasts: 5 * SECOND,
        servers: &[Server {
            slow: (2, SECOND),
            ..WELL
        }],
    });
}

#[test]
fn a_hedge_beside_slow_answers() {
    check(&Script {
        policies: "
    hedge: { after: 200ms }
    budget: off",
        interval: 5 * MS,
        lasts: 5 * SECOND,
        servers: &[Server {
            slow: (1, SECOND),
            ..WELL
        }],
    });
}

/// What is refused waits for as long as it is asked to, and nobody makes an extra attempt meanwhile.
#[test]
fn an_overload_that_asks_to_come_back() {
    check(&Script {
        policies: "
    retry: { attempts: 3, backoff: 20ms, longest_hint: 2s }
    budget: off",
        interval: 5 * MS,
        lasts: 5 * SECOND,
        servers: &[Server {
            outage: (1500, 3000),
            hint: Some(1),
            ..WELL
        }],
    });
}

/// Thirty calls a second have room, of sixty.
#[test]
fn a_bulkhead_that_overflows() {
    check(&Script {
        policies: "
    bulkhead: { concurrency: 6, queue: 5 }",
        interval: SECOND / 60,
        lasts: 4 * SECOND,
        servers: &[Server {
            takes: 200 * MS,
            ..WELL
        }],
    });
}

#[test]
fn a_rate_limit() {
    check(&Script {
        policies: "
    rate: { calls: 100, burst: 10 }",
        interval: 5 * MS,
        lasts: 5 * SECOND,
        servers: &[WELL],
    });
}

/// The breaker of the dead one trips once a second, by its trial.
#[test]
fn a_failover_from_an_endpoint_that_is_dead() {
    check(&Script {
        policies: "
    failover: [a, b]
    breaker: { consecutive: 5, cooldown: 1s, trials: 1 }
    budget: off",
        interval: 5 * MS,
        lasts: 5500 * MS,
        servers: &[Server { dead: true, ..WELL }, WELL],
    });
}

/// Without a breaker every call asks the dead one first, until the budget is empty.
#[test]
fn a_failover_with_a_budget() {
    check(&Script {
        policies: "
    failover: [a, b]
    budget: { ratio: 10%, reserve: 50 }",
        interval: 5 * MS,
        lasts: 5 * SECOND,
        servers: &[Server { dead: true, ..WELL }, WELL],
    });
}

/// The breaker goes by the share of attempts that fail; a trial that fails by chance does not open it.
#[test]
fn several_policies_in_an_outage() {
    check(&Script {
        policies: "
    timeout: 300ms
    retry: { attempts: 3, backoff: { base: 20ms, max: 100ms } }
    budget: 20%
    breaker: { ratio: 50%, within: 1s, cooldown: 1s, successes: 1, tolerate: 2 }
    bulkhead: { concurrency: 100 }",
        interval: 5 * MS,
        lasts: 5 * SECOND,
        servers: &[Server {
            failing: 1,
            outage: (1500, 3500),
            ..WELL
        }],
    });
}

/// By what is counted: calls that are answered well, attempts that a server sees, ...
type Counts = BTreeMap<String, f64>;

fn check(script: &Script<'_>) {
    let runs: Vec<_> = (0..SEEDS).map(|seed| simulate(script, seed)).collect();
    let real = std::iter::repeat_with(|| real(script)).take(3);
    let real = real.flatten().next();
    let real = real.expect("a machine that lets a thousand requests be sent in time");
    assert!(runs[0].keys().eq(real.keys()), "the same is counted");
    println!("{:20} {:>9} {:>9} {:>9}", "", "simulated", "+-", "real");
    let mut off = Vec::new();
    for (what, real) in real {
        let (mean, deviation) = mean(runs.iter().map(|run| run[&what]));
        println!("{what:20} {mean:9.1} {deviation:9.1} {real:9.1}");
        // A tenth, or what chance does between runs of the simulator, or a few calls that a busy
        // machine lets come at once.
        let few = if what == "trips" { 0.0 } else { 3.0 };
        let allowed = (mean * 0.1).max(4.0 * deviation).max(few);
        if (real - mean).abs() > allowed {
            off.push(what);
        }
    }
    assert!(off.is_empty(), "{off:?}");
}

/// And the standard deviation.
fn mean(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance.sqrt())
}

/// The policy file.
fn plan(
    script: &Script<'_>,
    gateway: SocketAddr,
    admin: SocketAddr,
    servers: &[SocketAddr],
) -> String {
    let named = |(name, address): (&str, &SocketAddr)| format!("{name}: http://{address}");
    let endpoints: Vec<_> = NAMES.into_iter().zip(servers).map(named).collect();
    format!(
        "
gateway: {{ listen: {gateway}, admin: {admin}, deadline: {}ms, workers: 1 }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams:
  up:
    endpoints: {{ {} }}{}
",
        DEADLINE.as_millis(),
        endpoints.join(", "),
        script.policies
    )
}

const NAMES: [&str; 2] = ["a", "b"];
const SEEDS: u64 = 32;

/// A run in virtual time.
fn simulate(script: &Script<'_>, seed: u64) -> Counts {
    let servers: Vec<_> = script.servers.iter().map(|_| free()).collect();
    let text = plan(script, free(), free(), &servers);
    let loaded = outlast_config::parse("outlast.yaml", &text).unwrap();
    let policies = loaded.plan().upstreams[0].policies.clone();
    let mut model = Model::new(seed);
    let servers: Vec<_> = script
        .servers
        .iter()
        .map(|server| {
            let failing = server.failing as f64 / 10.0;
            let after = SECOND * server.hint.unwrap_or_default() as u32;
            let spread = Duration::ZERO;
            let refusal = server.hint.map(|_| Refusal::ComeBack { after, spread });
            let service = Service::new(law(server)).failures(failing);
            let service = model.service(service.refusal(refusal.unwrap_or_default()));
            let outage = server.outage();
            let (begins, ends) = match server.hint {
                None => (Change::Failures(1.0), Change::Failures(failing)),
                Some(_) => (Change::Refuses(true), Change::Refuses(false)),
            };
            if !outage.is_empty() {
                model.change(outage.start, service, begins);
                model.change(outage.end, service, ends);
            }
            if server.dead {
                model.change(Duration::ZERO, service, Change::Refuses(true));
            }
            service
        })
        .collect();
    let through = model.upstream(policies, &servers).unwrap();
    let client = Client::steady(through, script.interval).deadline(DEADLINE);
    let client = model.client(client);
    let report = model.run(script.lasts).unwrap();
    let stats = report.upstream(through).unwrap();
    let breakers = stats
        .endpoints
        .iter()
        .filter_map(|one| one.breaker.as_ref());
    let mut counts = Counts::new();
    let mut count = |what: String, count: u64| counts.insert(what, count as f64);
    count("calls".to_owned(), report.client(client).calls);
    count("good".to_owned(), report.client(client).good);
    count("retries".to_owned(), stats.retries);
    count("hedges".to_owned(), stats.hedges);
    count("failovers".to_owned(), stats.failovers);
    count("trips".to_owned(), breakers.map(|one| one.trips).sum());
    for reason in Reason::ALL {
        let name = format!("rejected: {}", reason.name());
        count(name, stats.rejected(reason));
    }
    for ((name, service), server) in NAMES.into_iter().zip(servers).zip(script.servers) {
        let came = report.service(service).came;
        let saw = if server.dead { 0 } else { came };
        count(format!("attempts at {name}"), saw);
    }
    counts
}

/// Two durations, the second for the share that is slow.
fn law(server: &Server) -> Law {
    let (slow, long) = server.slow;
    if slow == 0 {
        return Law::fixed(server.takes);
    }
    let share = slow as f64 / 10.0;
    let points = [
        (server.takes, 1.0),
        (server.takes + MS, share),
        (long, share * 0.999_999),
        (long + MS, 1e-9),
    ];
    Law::tail(&points).unwrap()
}

/// The same with a gateway and servers; `None` if the load came late.
fn real(script: &Script<'_>) -> Option<Counts> {
    let folder = tempfile::tempdir().unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let begin = Arc::new(OnceLock::new());
        let (mut addresses, mut servers) = (Vec::new(), Vec::new());
        for server in script.servers {
            let (address, serving) = Serving::start(*server, Arc::clone(&begin)).await;
            addresses.push(address);
            servers.push(serving);
        }
        let (gateway, admin) = (free(), free());
        let plan = plan(script, gateway, admin, &addresses);
        let _gateway = start_gateway(folder.path(), &plan, gateway);
        let (calls, good) = load(script, gateway, &begin).await?;
        let status = Clients::to(admin).ask("/status").await.unwrap();
        let status: Value = serde_json::from_slice(&status.body).unwrap();
        let up = &status["upstreams"][0];
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let endpoints = up["endpoints"].as_array().unwrap().iter();
        let mut counts = Counts::new();
        let mut count = |what: String, count: u64| counts.insert(what, count as f64);
        count("calls".to_owned(), calls);
        count("good".to_owned(), good);
        for what in ["retries", "hedges", "failovers"] {
            count(what.to_owned(), number(&up[what]));
        }
        let trips = endpoints.map(|one| number(&one["breaker"]["trips"])).sum();
        count("trips".to_owned(), trips);
        for reason in Reason::ALL.map(Reason::name) {
            let rejected = number(&up["rejected"][reason]);
            count(format!("rejected: {reason}"), rejected);
        }
        for (name, server) in NAMES.into_iter().zip(servers) {
            count(format!("attempts at {name}"), server.attempts());
        }
        Some(counts)
    })
}

/// Calls at their times; how many there were, and how many were good. `None` if they came late.
async fn load(
    script: &Script<'_>,
    gateway: SocketAddr,
    begin: &OnceLock<Instant>,
) -> Option<(u64, u64)> {
    let clients = Arc::new(Clients::to(gateway));
    let begin = *begin.get_or_init(Instant::now);
    let (mut requests, mut calls, mut late) = (JoinSet::new(), 0, 0);
    let mut at = Duration::ZERO;
    while at < script.lasts {
        let sent = begin + at;
        sleep_until(sent).await;
        late += u64::from(sent.elapsed() > LATE);
        let clients = Arc::clone(&clients);
        let path = format!("/{calls}");
        requests.spawn(async move {
            let answer = timeout_at(sent + 2 * DEADLINE, clients.ask(&path)).await;
            answer.is_ok_and(|answer| answer.is_some_and(|it| it.status == 200))
        });
        calls += 1;
        at += script.interval;
    }
    let good = requests.join_all().await.into_iter().filter(|good| *good);
    let good = good.count() as u64;
    println!("late: {late} of {calls} requests");
    (late * 100 <= calls).then_some((calls, good))
}

/// Less than what any two times of a script that matter are apart.
const LATE: Duration = Duration::from_millis(150);

/// A server under way.
struct Serving {
    server: Server,
    begin: Arc<OnceLock<Instant>>,
    /// Attempts that came, by the number of their call.
    seen: Mutex<BTreeMap<u64, u64>>,
}

impl Serving {
    async fn start(server: Server, begin: Arc<OnceLock<Instant>>) -> (SocketAddr, Arc<Serving>) {
        let serving = Arc::new(Serving {
            server,
            begin,
            seen: Mutex::default(),
        });
        if server.dead {
            return (free(), serving);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = Arc::clone(&serving);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = Arc::clone(&accepting);
                tokio::spawn(async move { serving.answer(stream).await });
            }
        });
        (address, serving)
    }

    fn attempts(&self) -> u64 {
        self.seen.lock().unwrap().values().sum()
    }

    /// Answers on a connection until its other end closes it.
    async fn answer(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let mut read = Vec::with_capacity(1024);
            while !read.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut read).await.ok()? == 0 {
                    return None;
                }
            }
            let head = String::from_utf8(read).ok()?;
            let path = head.split(' ').nth(1)?;
            let (takes, status) = self.decide(path[1..].parse().ok()?);
            sleep(takes).await;
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok()?;
        }
    }

    /// What becomes of the next attempt of this call.
    fn decide(&self, call: u64) -> (Duration, String) {
        let mut seen = self.seen.lock().unwrap();
        let attempt = seen.entry(call).or_default();
        *attempt += 1;
        let Server { failing, slow, .. } = self.server;
        let is_slow = is_one_of_ten(call, *attempt, slow.0);
        let is_out = self.begin.get().is_some_and(|begin| {
            let since = begin.elapsed();
            self.server.outage().contains(&since)
        });
        if let Some(hint) = self.server.hint.filter(|_| is_out) {
            return (Duration::ZERO, format!("503 Busy\r\nRetry-After: {hint}"));
        }
        let fails = is_out || is_one_of_ten(call, *attempt, failing);
        let takes = if is_slow { slow.1 } else { self.server.takes };
        let status = if fails { "503 Unavailable" } else { "200 OK" };
        (takes, status.to_owned())
    }
}

/// Whether the attempt of a call is one of so many of ten: by a digit of the call's number for each
/// attempt, so that in a thousand calls all combinations come alike. The factor takes them in a mixed
/// order.
fn is_one_of_ten(call: u64, attempt: u64, chosen: u64) -> bool {
    let mixed = call * 337 % 1000;
    let digit = mixed / 10_u64.pow(attempt as u32 - 1) % 10;
    digit < chosen
}
