//! Three times the load that a service can serve, with real processes: what is kept, what is given
//! up, and how soon it is over.
//!
//! The service has twenty workers and takes 200 ms, 100 requests a second. The load is open: nobody
//! waits for the answers of others, and each request counts from the instant at which it was meant
//! to be sent. What is asserted are shares of that capacity, counts, and times that the policy file
//! bounds; `--nocapture` shows the figures. Should the machine not let the load itself come in time,
//! it is made again.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outlast_core::rng::Rng;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::serve::free;
use crate::traffic::{Clients, Process, start_gateway};

const WORKERS: u32 = 20;
const SERVICE: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_secs(1);

const BURST: Duration = Duration::from_secs(4);
const CALM: Duration = Duration::from_secs(19);
const END: Duration = Duration::from_secs(27);
/// How soon everything has to be as usual.
const RECOVERY: Duration = Duration::from_secs(5);

const TIERS: [&str; 3] = ["critical", "important", "optional"];
/// What is asked of each tier, as a share of the capacity: less than a half together, and 3.
const USUAL: [f64; 3] = [0.2, 0.15, 0.1];
const TRIPLE: [f64; 3] = [0.3, 1.0, 1.7];

/// What somebody writes who knows nothing of the service: its limit is measured. The mode's
/// thresholds are far from both sides: the usual load is 45 % give or take 15 %, and in the burst all
/// that may be is in flight.
fn plan([listen, admin, service]: [SocketAddr; 3]) -> String {
    format!(
        "
gateway: {{ listen: {listen}, admin: {admin}, deadline: 1s, workers: 2 }}
routes:
  critical: {{ match: /critical, upstream: service, tier: critical }}
  important: {{ match: /important, upstream: service }}
  optional: {{ match: /optional, upstream: service, tier: optional }}
upstreams:
  service:
    endpoints: http://{service}
    shed: on
degrade:
  modes:
    lean:
      when: {{ load: '> 80%', for: 2s }}
      off: {{ load: '< 80%', for: 1s }}
      disable: [optional]
"
    )
}

#[test]
fn at_three_times_the_capacity_what_matters_is_served() {
    let mut runs = std::iter::repeat_with(Run::new).take(3);
    let run = runs.find(|run| !run.was_held_up());
    let run = run.expect("a machine that lets a few hundred requests a second be sent in time");
    let tiers = [0, 1, 2].map(|tier| Tally::of(&run.asked, tier, BURST..CALM));
    let good: usize = tiers.iter().map(|tally| tally.good).sum();
    let goodput = good as f64 / (CALM - BURST).as_secs_f64() / capacity();
    let recovery = run.recovery();
    for (name, tally) in TIERS.iter().zip(&tiers) {
        println!("{name}: {tally:?}, a share of {:.4}", tally.share());
    }
    println!("goodput: {goodput:.3} of the capacity; as usual {recovery:?} after the burst");
    println!("modes: {:?}", run.switches);

    let [critical, important, optional] = &tiers;
    assert!(critical.share() >= 0.994, "{critical:?}");
    assert!(critical.p99 <= DEADLINE, "{critical:?}");
    assert!((0.4..0.9).contains(&important.share()), "{important:?}");
    assert!(optional.share() <= 0.15, "{optional:?}");
    assert!(goodput >= 0.85, "{goodput}");
    assert!(recovery <= RECOVERY, "{recovery:?}");
    let modes: Vec<_> = run.switches.iter().map(|switch| &*switch.1).collect();
    assert_eq!(modes, ["lean", "normal"], "one switch each way");
}

/// The load, and what became of it. Times are from its begin on.
struct Run {
    asked: Vec<Asked>,
    /// When the mode changed, and to what.
    switches: Vec<(Duration, String)>,
}

impl Run {
    fn new() -> Run {
        let folder = tempfile::tempdir().unwrap();
        let addresses @ [gateway, admin, service] = [free(), free(), free()];
        let _service = start_service(service);
        let _gateway = start_gateway(folder.path(), &plan(addresses), gateway);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let begun = SystemTime::now();
        let (asked, status) = runtime.block_on(async {
            let asked = load(gateway).await;
            let status = Clients::to(admin).ask("/status").await.unwrap();
            (asked, serde_json::from_slice(&status.body).unwrap())
        });
        Run {
            asked,
            switches: switches(&status, begun),
        }
    }

    /// Whether the load came late: the machine had no time for this test, whatever the gateway does.
    fn was_held_up(&self) -> bool {
        let late = self.asked.iter().filter(|one| one.late > SERVICE / 2);
        let late = late.count();
        println!("late: {late} of {} requests", self.asked.len());
        late * 200 > self.asked.len()
    }

    /// From the end of the burst to the last request that failed or the last switch.
    fn recovery(&self) -> Duration {
        let failed = self.asked.iter().filter(|one| !one.is_good());
        let last_failed = failed.map(|one| one.at).max();
        let last_switch = self.switches.iter().map(|switch| switch.0).max();
        let last = last_failed.max(last_switch).unwrap_or_default();
        last.saturating_sub(CALM)
    }
}

fn capacity() -> f64 {
    f64::from(WORKERS) / SERVICE.as_secs_f64()
}

fn start_service(address: SocketAddr) -> Process {
    let mut command = Command::new("python3");
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/service.py"))
        .arg(address.port().to_string())
        .arg(WORKERS.to_string())
        .arg(SERVICE.as_secs_f64().to_string());
    Process::start(&mut command, address)
}

struct Asked {
    tier: usize,
    /// When it was meant to be sent.
    at: Duration,
    /// How much later it was.
    late: Duration,
    /// Until the answer, if that was 200.
    took: Option<Duration>,
}

impl Asked {
    fn is_good(&self) -> bool {
        self.took.is_some_and(|took| took <= DEADLINE)
    }
}

/// When each tier is asked: independently of each other, at random (exponential gaps).
fn arrivals() -> Vec<(Duration, usize)> {
    let mut rng = Rng::new(7);
    let mut all = Vec::new();
    for tier in 0..TIERS.len() {
        let mut at = Duration::ZERO;
        while at < END {
            all.push((at, tier));
            let shares = if (BURST..CALM).contains(&at) {
                TRIPLE
            } else {
                USUAL
            };
            let gap = -(1.0 - rng.unit()).ln() / (shares[tier] * capacity());
            at += Duration::from_secs_f64(gap);
        }
    }
    all.sort_unstable();
    all
}

async fn load(gateway: SocketAddr) -> Vec<Asked> {
    let clients = Arc::new(Clients::to(gateway));
    let begin = Instant::now();
    let mut requests = JoinSet::new();
    for (at, tier) in arrivals() {
        let sent = begin + at;
        sleep_until(sent).await;
        let late = sent.elapsed();
        let clients = Arc::clone(&clients);
        requests.spawn(async move {
            let path = format!("/{}", TIERS[tier]);
            let answer = timeout_at(sent + 2 * DEADLINE, clients.ask(&path)).await;
            let is_good = answer.is_ok_and(|answer| answer.is_some_and(|it| it.status == 200));
            let took = is_good.then(|| sent.elapsed());
            Asked {
                tier,
                at,
                late,
                took,
            }
        });
    }
    requests.join_all().await
}

/// How the requests of a tier went that came within a span of time.
#[derive(Debug)]
struct Tally {
    asked: usize,
    good: usize,
    /// Of those that were answered.
    p99: Duration,
}

impl Tally {
    fn of(asked: &[Asked], tier: usize, span: std::ops::Range<Duration>) -> Tally {
        let meant = |one: &&Asked| one.tier == tier && span.contains(&one.at);
        let meant: Vec<_> = asked.iter().filter(meant).collect();
        let mut times: Vec<_> = meant.iter().filter_map(|one| one.took).collect();
        times.sort_unstable();
        Tally {
            asked: meant.len(),
            good: meant.iter().filter(|one| one.is_good()).count(),
            p99: times
                .get(times.len() * 99 / 100)
                .copied()
                .unwrap_or_default(),
        }
    }

    fn share(&self) -> f64 {
        self.good as f64 / self.asked as f64
    }
}

fn switches(status: &Value, begun: SystemTime) -> Vec<(Duration, String)> {
    let begun = begun.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let switch = |switch: &Value| {
        let at = Duration::from_secs_f64(switch["at"].as_f64().unwrap());
        let to = switch["to"].as_str().unwrap().to_owned();
        (at.saturating_sub(begun), to)
    };
    let switches = status["degrade"]["switches"].as_array().unwrap();
    switches.iter().map(switch).collect()
}
