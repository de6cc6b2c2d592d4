//! Starting gateways, upstreams and clients, and waiting for what they do.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use outlast_gateway::{Gateway, Options, Status, UpstreamStatus};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

/// A gateway with this plan: `{}` in it is the address of the first upstream, and so on. It listens
/// on free ports.
pub(crate) fn gateway(plan: &str, upstreams: &[SocketAddr]) -> Gateway {
    let plan = read(plan, upstreams);
    Gateway::start(plan, Options::default()).expect("a gateway that starts")
}

pub(crate) fn read(plan: &str, upstreams: &[SocketAddr]) -> outlast_config::plan::Plan {
    let mut text = plan.to_owned();
    for address in upstreams {
        text = text.replacen("{}", &address.to_string(), 1);
    }
    match outlast_config::parse("plan.yaml", &text) {
        Ok(loaded) => loaded.into_plan(),
        Err(problems) => panic!("{problems}"),
    }
}

/// What stands at the beginning of most plans.
pub(crate) const LISTEN: &str = "
gateway: { listen: 127.0.0.1:0, admin: 127.0.0.1:0, workers: 2, deadline: 5s }
routes: { all: { match: /**, upstream: up } }
";

/// The memory of this process.
pub(crate) fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

pub(crate) fn url(gateway: &Gateway, path: &str) -> String {
    format!("http://{}{path}", gateway.addresses()[0])
}

pub(crate) fn upstream_status(gateway: &Gateway, name: &str) -> UpstreamStatus {
    let Status { upstreams, .. } = gateway.status();
    let mut all = upstreams.into_iter();
    all.find(|upstream| upstream.name == name)
        .expect("an upstream of that name")
}

/// Waits until `holds`, for at most ten seconds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A request as an upstream saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Bytes,
}

/// What an upstream answers.
pub(crate) type Answer = Arc<dyn Fn(&Seen) -> Response<Body> + Send + Sync>;

/// An upstream that notes its requests and answers as it is told; HTTP/1.1 and HTTP/2.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    /// Keeps its port while it is stopped.
    place: Option<TcpSocket>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    answer: Mutex<Answer>,
    hangs: AtomicBool,
    threaded: AtomicBool,
    /// Milliseconds before each answer.
    delay: AtomicU64,
    /// Requests that were dropped while they were served.
    cancelled: AtomicU64,
}

impl Upstream {
    /// One that answers `200 ok`.
    pub(crate) fn start() -> Upstream {
        Upstream::answering(|_| Response::new(Body::from("ok")))
    }

    pub(crate) fn answering(
        answer: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static,
    ) -> Upstream {
        let place = place();
        let listener = TcpListener::bind(place.local_addr().unwrap()).unwrap();
        Upstream::serve(listener, Arc::new(answer), Some(place))
    }

    /// Several with one port, each at another address of this machine; they say which.
    pub(crate) fn at_one_port(addresses: &[&str]) -> Vec<Upstream> {
        let bind = |port: u16| {
            let bind = |&address| TcpListener::bind((address, port)).ok();
            addresses.iter().map(bind).collect::<Option<Vec<_>>>()
        };
        let mut listeners = None;
        wait_until("a port is free everywhere", || {
            listeners = bind(free_address().port());
            listeners.is_some()
        });
        let serve = |listener: TcpListener| {
            let own = listener.local_addr().unwrap().ip().to_string();
            let answer = move |_: &Seen| Response::new(Body::from(own.clone()));
            Upstream::serve(listener, Arc::new(answer), None)
        };
        listeners.unwrap().into_iter().map(serve).collect()
    }

    /// One whose answers may block: each is made on a thread of its own.
    pub(crate) fn threaded(
        answer: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static,
    ) -> Upstream {
        let upstream = Upstream::answering(answer);
        upstream.shared.threaded.store(true, Ordering::Relaxed);
        upstream
    }

    fn serve(listener: TcpListener, answer: Answer, place: Option<TcpSocket>) -> Upstream {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            answer: Mutex::new(answer),
            hangs: AtomicBool::new(false),
            threaded: AtomicBool::new(false),
            delay: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let router = Router::new()
            .fallback(answer_one)
            .with_state(Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Upstream {
            address,
            shared,
            place,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What it has been asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn cancelled(&self) -> u64 {
        self.shared.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn answers(&self, answer: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static) {
        *self.shared.answer.lock().unwrap() = Arc::new(answer);
    }

    /// From now on it never answers, or does again.
    pub(crate) fn hangs(&self, hangs: bool) {
        self.shared.hangs.store(hangs, Ordering::Relaxed);
    }

    /// From now on it takes so long to answer.
    pub(crate) fn takes(&self, delay: Duration) {
        let delay = delay.as_millis() as u64;
        self.shared.delay.store(delay, Ordering::Relaxed);
    }

    /// Ends it with all its connections.
    pub(crate) fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Another one in the place of one that was stopped.
    pub(crate) fn restart(&mut self) {
        assert!(self.thread.is_none(), "it has been stopped");
        let answer = Arc::clone(&self.shared.answer.lock().unwrap());
        let mut listener = None;
        wait_until("its port is free again", || {
            listener = TcpListener::bind(self.address).ok();
            listener.is_some()
        });
        *self = Upstream::serve(listener.unwrap(), answer, self.place.take());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn answer_one(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    struct Noted(Arc<Shared>, bool);
    impl Drop for Noted {
        fn drop(&mut self) {
            if !self.1 {
                self.0.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    let mut noted = Noted(Arc::clone(&shared), false);
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return status(400);
    };
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (
            name.as_str().to_owned(),
            value.to_str().unwrap_or("?").to_owned(),
        )
    };
    let seen = Seen {
        method: parts.method.to_string(),
        target: parts
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        headers: parts.headers.iter().map(header).collect(),
        body,
    };
    shared.seen.lock().unwrap().push(seen.clone());
    if shared.hangs.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    let delay = Duration::from_millis(shared.delay.load(Ordering::Relaxed));
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
    noted.1 = true;
    let answer = Arc::clone(&shared.answer.lock().unwrap());
    if shared.threaded.load(Ordering::Relaxed) {
        let answered = tokio::task::spawn_blocking(move || answer(&seen));
        return answered.await.unwrap();
    }
    answer(&seen)
}

pub(crate) fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("status {code}")));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// What curl said.
#[derive(Debug)]
pub(crate) struct Curled {
    pub(crate) status: u16,
    pub(crate) version: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    pub(crate) took: Duration,
}

impl Curled {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Runs curl; it has to be installed.
pub(crate) fn curl(arguments: &[&str]) -> Curled {
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    let began = Instant::now();
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "30",
            "--noproxy",
            "*",
        ])
        .args([
            "--dump-header",
            "-",
            "--write-out",
            "\n%{http_code} %{http_version}",
        ])
        .arg("--output")
        .arg(&body)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("curl is needed: apt-get install curl");
    let took = began.elapsed();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (heads, last) = text.trim_end().rsplit_once('\n').unwrap_or(("", &text));
    let (status, version) = last.split_once(' ').unwrap_or(("0", ""));
    let head = heads
        .trim()
        .rsplit("\r\n\r\n")
        .find(|head| !head.trim().is_empty());
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Curled {
        status: status.parse().unwrap_or(0),
        version: version.to_owned(),
        headers: head.unwrap_or_default().lines().filter_map(field).collect(),
        body: std::fs::read(&body).unwrap_or_default(),
        took,
    }
}

/// A process that is killed when the test ends.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Python's own web server on a folder with the file `hello`.
pub(crate) fn python_server(address: SocketAddr, folder: &std::path::Path) -> Process {
    // Not while another serves it.
    if !folder.join("hello").exists() {
        std::fs::write(folder.join("hello"), "hello\n").unwrap();
    }
    let child = Command::new("python3")
        .args([
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            "--protocol",
            "HTTP/1.1",
        ])
        .arg(address.port().to_string())
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 is needed: apt-get install python3");
    let process = Process(child);
    wait_until("Python serves", || {
        std::net::TcpStream::connect(address).is_ok()
    });
    process
}

/// nginx, answering everything with `ok`.
pub(crate) fn nginx(address: SocketAddr, folder: &std::path::Path) -> Process {
    let name = format!("nginx-{}", address.port());
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {name}-temp;"))
        .join(" ");
    let text = format!(
        "daemon off; master_process off; pid {name}.pid; error_log stderr error;
events {{ }}
http {{ access_log off; {temp} server {{ listen {address}; location / {{ return 200 ok; }} }} }}"
    );
    let file = folder.join(&name);
    std::fs::write(&file, text).unwrap();
    let child = Command::new("nginx")
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx is needed: apt-get install nginx-light");
    let process = Process(child);
    wait_until("nginx serves", || {
        std::net::TcpStream::connect(address).is_ok()
    });
    process
}

/// An address at which nobody listens, for as long as this process lives, but who is given it.
pub(crate) fn free_address() -> SocketAddr {
    let place = place();
    let address = place.local_addr().unwrap();
    std::mem::forget(place);
    address
}

/// A bound socket that does not listen: the system gives its port to nobody, and who connects is
/// refused, until somebody listens at just this address.
fn place() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Without it, nobody could listen beside it.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    socket
}

/// Asks for `url` over and over on a few connections, until it is told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<(u16, Duration)>>>,
}

impl Load {
    pub(crate) fn start(url: &str, clients: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = |_| {
            let (stop, url) = (Arc::clone(&stop), url.to_owned());
            std::thread::spawn(move || {
                let mut results = Vec::new();
                let mut client = Client::new(&url);
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let status = client.ask();
                    results.push((status, began.elapsed()));
                }
                results
            })
        };
        Load {
            threads: (0..clients).map(thread).collect(),
            stop,
        }
    }

    /// The statuses (0 for none) and times of all its requests.
    pub(crate) fn end(self) -> Vec<(u16, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        let results = self
            .threads
            .into_iter()
            .map(|thread| thread.join().unwrap());
        results.flatten().collect()
    }
}

/// In place of a status: the answer had begun, so nobody could replace it.
pub(crate) const BROKE_OFF: u16 = 1;

/// A plain HTTP/1.1 client on one connection, which it renews when it is closed between requests.
pub(crate) struct Client {
    address: String,
    path: String,
    stream: Option<std::net::TcpStream>,
}

impl Client {
    pub(crate) fn new(url: &str) -> Client {
        let rest = url.strip_prefix("http://").unwrap();
        let (address, path) = rest.split_at(rest.find('/').unwrap());
        Client {
            address: address.to_owned(),
            path: path.to_owned(),
            stream: None,
        }
    }

    /// The status of a GET; 0 if there is none, [`BROKE_OFF`] if only a part of the answer came.
    pub(crate) fn ask(&mut self) -> u16 {
        self.ask_with("")
    }

    /// As [`Client::ask`], with more header fields: lines that end with `\r\n`.
    pub(crate) fn ask_with(&mut self, fields: &str) -> u16 {
        match self.try_ask(fields) {
            Some((status, closes)) => {
                if closes {
                    self.stream = None;
                }
                status
            }
            None => {
                self.stream = None;
                0
            }
        }
    }

    fn try_ask(&mut self, fields: &str) -> Option<(u16, bool)> {
        use std::io::{Read, Write};
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = std::net::TcpStream::connect(&self.address).ok()?;
                stream
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .unwrap();
                self.stream.insert(stream)
            }
        };
        let request = format!("GET {} HTTP/1.1\r\nHost: test\r\n{fields}\r\n", self.path);
        stream.write_all(request.as_bytes()).ok()?;
        let mut read = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let count = stream.read(&mut chunk).unwrap_or(0);
            if count == 0 {
                return (!read.is_empty()).then_some((BROKE_OFF, true));
            }
            read.extend_from_slice(&chunk[..count]);
            let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
            let Some(end) = text.find("\r\n\r\n") else {
                continue;
            };
            let length = text[..end]
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if read.len() >= end + 4 + length {
                let status = text[9..12].parse().ok()?;
                return Some((status, text[..end].contains("connection: close")));
            }
        }
    }
}
