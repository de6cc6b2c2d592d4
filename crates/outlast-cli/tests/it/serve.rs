//! `outlast serve` as a process: signals, the file, the exit code.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::wait_until;

struct Served {
    process: Child,
    log: std::path::PathBuf,
    address: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address at which nobody listens, for as long as this process lives, but who is given it.
///
/// A bound socket stays there that does not listen. So the system gives the port to nobody, and who
/// connects is refused.
pub(crate) fn free() -> SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // Without it, nobody could listen beside it.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address
}

fn plan(address: SocketAddr, status: u16) -> String {
    format!(
        "gateway: {{ listen: {address}, admin: off, drain: 5s }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams:
  up:
    endpoints: http://{}
    fallback: {{ static: {{ status: {status}, body: hello }} }}
",
        free()
    )
}

fn serve(folder: &Path, format: &str) -> Served {
    let address = free();
    std::fs::write(folder.join("outlast.yaml"), plan(address, 200)).unwrap();
    let log = folder.join("log");
    let process = Command::new(env!("CARGO_BIN_EXE_outlast"))
        .args(["serve", "outlast.yaml", "--log", format])
        .current_dir(folder)
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let served = Served {
        process,
        log,
        address,
    };
    wait_until("it serves", || status(address) == Some(200));
    served
}

fn status(address: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

impl Served {
    fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

/// As when the program that collects its log has stopped.
#[test]
fn a_log_that_nobody_reads_stops_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let address = free();
    std::fs::write(folder.path().join("outlast.yaml"), plan(address, 200)).unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_outlast"))
        .args(["serve", "outlast.yaml", "--log-level", "debug"])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _served = Served {
        process,
        log: folder.path().join("none"),
        address,
    };
    wait_until("it serves", || status(address) == Some(200));
    // Each of them logs an attempt that failed: far more than a pipe holds.
    let url = format!("http://{address}/[1-3000]");
    let quiet = [
        "--silent",
        "--fail-early",
        "--output",
        "/dev/null",
        "--noproxy",
        "*",
    ];
    let asked = Command::new("curl")
        .args(quiet)
        .args(["--max-time", "20", "--write-out", "%{http_code}\n", &url])
        .output()
        .unwrap();
    let answers = String::from_utf8(asked.stdout).unwrap();
    assert_eq!(answers.lines().filter(|code| *code == "200").count(), 3000);
}

#[test]
fn a_changed_file_is_taken_over_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path(), "json");
    let file = folder.path().join("outlast.yaml");
    std::fs::write(&file, plan(served.address, 201)).unwrap();
    wait_until("the new plan holds", || status(served.address) == Some(201));
    std::fs::write(&file, "gateway: { listn: x }").unwrap();
    served.signal("-HUP");
    wait_until("it says why", || {
        served.log().contains("did you mean `listen`?")
    });
    assert_eq!(status(served.address), Some(201));
    // As a ConfigMap changes: by renaming.
    let next = folder.path().join("next");
    std::fs::write(&next, plan(served.address, 203)).unwrap();
    std::fs::rename(&next, &file).unwrap();
    wait_until("the third plan holds", || {
        status(served.address) == Some(203)
    });
    // It is told after it holds.
    let reloads = || {
        let log = served.log();
        let lines = log.lines().map(serde_json::from_str::<serde_json::Value>);
        let messages = lines.filter_map(|line| Some(line.ok()?["message"].as_str()?.to_owned()));
        messages
            .filter(|message| message.starts_with("reloaded"))
            .count()
    };
    wait_until("both are told", || reloads() >= 2);
    assert_eq!(reloads(), 2, "{}", served.log());
}

#[test]
fn a_log_for_people_has_no_colours_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path(), "human");
    let log = served.log();
    assert!(log.contains("clients connect here"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
}

#[test]
fn it_ends_when_it_is_told_to() {
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut served = serve(folder.path(), "json");
        served.signal(signal);
        let mut code = None;
        wait_until("it has ended", || {
            code = served.process.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(0), "{signal}: {}", served.log());
    }
}

#[test]
fn an_address_in_use_keeps_it_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = plan(taken.local_addr().unwrap(), 200);
    std::fs::write(folder.path().join("outlast.yaml"), file).unwrap();
    let output = crate::outlast(folder.path(), &["serve", "outlast.yaml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(crate::text(&output.stderr).contains("could not listen on"));
}
