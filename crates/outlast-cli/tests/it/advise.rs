//! `outlast advise`, of a gateway that serves.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::serve::free;
use crate::{outlast, text, wait_until};

struct Served {
    process: Child,
    front: SocketAddr,
    admin: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A service that takes two milliseconds.
fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(&stream.unwrap()));
        }
    });
    address
}

/// Answers requests without a body until the other end has gone.
fn answer(mut stream: &TcpStream) {
    let lines = BufReader::new(stream).lines();
    for line in lines.map_while(Result::ok) {
        if line.is_empty() {
            std::thread::sleep(Duration::from_millis(2));
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

fn serve(folder: &Path) -> Served {
    let [front, admin] = [free(), free()];
    let plan = format!(
        "gateway: {{ listen: {front}, admin: {admin}, deadline: 1s, workers: 1 }}
routes: {{ all: {{ match: /**, upstream: shop }}, old: {{ match: /old, upstream: store }} }}
upstreams:
  shop: {{ endpoints: 'http://{}', bulkhead: {{ concurrency: 10, queue: 5 }} }}
  store: {{ endpoints: 'http://{}', hedge: {{ after: p95 }}, breaker: {{ ratio: 50% }} }}
",
        service(),
        free()
    );
    std::fs::write(folder.join("outlast.yaml"), plan).unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_outlast"))
        .args(["serve", "outlast.yaml"])
        .current_dir(folder)
        .stderr(File::create(folder.join("log")).unwrap())
        .spawn()
        .unwrap();
    let served = Served {
        process,
        front,
        admin: format!("http://{admin}"),
    };
    wait_until("it serves", || {
        TcpStream::connect(front).is_ok() && TcpStream::connect(admin).is_ok()
    });
    served
}

impl Served {
    /// Asks so many times, one after the other.
    fn asks(&self, times: usize) {
        let mut stream = TcpStream::connect(self.front).unwrap();
        let patience = Duration::from_secs(10);
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut answer = [0; 4096];
        for _ in 0..times {
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"ok") {
                let read = stream.read(&mut answer).unwrap();
                assert!(read > 0, "{}", text(&got));
                got.extend_from_slice(&answer[..read]);
            }
        }
    }

    fn advise(&self, folder: &Path, arguments: &[&str]) -> Output {
        outlast(folder, &[&["advise", &self.admin], arguments].concat())
    }

    fn save(&self, folder: &Path, name: &str) {
        let url = format!("{}/status", self.admin);
        let saved = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--output", name, &url])
            .current_dir(folder)
            .status();
        assert!(saved.unwrap().success());
    }
}

fn of<'a>(advice: &'a Value, parameter: &str) -> &'a Value {
    let all = advice["upstreams"][0]["advice"].as_array().unwrap();
    let found = all.iter().find(|one| one["parameter"] == parameter);
    found.unwrap_or_else(|| panic!("{parameter}: {advice}"))
}

#[test]
fn a_serving_gateway_is_advised_where_it_has_seen_enough() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let early = served.advise(folder.path(), &["shop"]);
    assert_eq!(early.status.code(), Some(1), "{}", text(&early.stdout));
    assert!(text(&early.stdout).contains("Nothing can be advised yet."));
    served.asks(300);
    served.save(folder.path(), "before.json");
    served.asks(600);

    let advised = served.advise(folder.path(), &["shop", "--json"]);
    assert_eq!(advised.status.code(), Some(0), "{}", text(&advised.stderr));
    let advice: Value = serde_json::from_slice(&advised.stdout).unwrap();
    let timeout = of(&advice, "timeout");
    assert_eq!(
        (&timeout["n"], &timeout["current"]),
        (&900.into(), &"30s".into())
    );
    let refused = timeout["refused"].as_str().unwrap();
    assert!(refused.contains("900 attempts are too few"), "{refused}");
    let needs = timeout["needs"].as_str().unwrap();
    assert!(needs.starts_with("100000 attempts: about"), "{needs}");
    let concurrency = of(&advice, "bulkhead.concurrency");
    assert_eq!(concurrency["current"], "10");
    assert!(concurrency["refused"].as_str().unwrap().contains("seconds"));
    let hedge = of(&advice, "hedge.after")["value"].as_str().unwrap();
    let hedge = outlast_config::duration(hedge).unwrap();
    assert!(hedge >= Duration::from_millis(2) && hedge < Duration::from_secs(1));
    // None of 900 failed, so at most 0.33 % do on normal days.
    assert_eq!(of(&advice, "breaker.failures")["value"], "4 of 17");
    assert_eq!(of(&advice, "retry.attempts")["value"], "2");

    let store = served.advise(folder.path(), &["store", "--json"]);
    let store: Value = serde_json::from_slice(&store.stdout).unwrap();
    assert_eq!(of(&store, "hedge.after")["current"], "p95");
    assert_eq!(
        of(&store, "breaker.failures")["current"],
        "ratio 50% within 30s"
    );

    let known = ["shop", "--json", "--peak", "400/s", "--capacity", "600/s"];
    let known = served.advise(folder.path(), &known);
    let known: Value = serde_json::from_slice(&known.stdout).unwrap();
    assert_eq!(of(&known, "budget.ratio")["value"], "20%");
    assert!(of(&known, "bulkhead.queue")["refused"].is_string());

    let since = served.advise(folder.path(), &["shop", "--json", "--since", "before.json"]);
    let since: Value = serde_json::from_slice(&since.stdout).unwrap();
    assert_eq!(since["upstreams"][0]["attempts"], 600, "{since}");
    // Within two seconds nothing happens, so nothing can be said.
    let quiet = served.advise(folder.path(), &["shop", "--for", "1s"]);
    assert_eq!(quiet.status.code(), Some(1), "{}", text(&quiet.stderr));
}

#[test]
fn the_lines_for_the_policy_file_are_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    served.asks(1_100);
    let arguments = ["shop", "--peak", "400/s", "--capacity", "600/s"];
    let advised = served.advise(folder.path(), &arguments);
    let page = text(&advised.stdout);
    let (_, lines) = page.split_once("upstreams:\n  shop:\n").unwrap();
    for key in ["bulkhead", "hedge", "breaker", "retry", "budget"] {
        assert!(lines.contains(&format!("    {key}: ")), "{page}");
    }
    let file = format!(
        "routes: {{ all: {{ match: /**, upstream: shop }} }}\nupstreams:\n  shop:\n    \
         endpoints: http://127.0.0.1:1\n{lines}"
    );
    std::fs::write(folder.path().join("advised.yaml"), file).unwrap();
    let checked = outlast(folder.path(), &["check", "advised.yaml"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}

#[test]
fn what_cannot_be_asked_is_said_with_its_mend() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let nobody = format!("http://{}", free());
    let front = format!("http://{}", served.front);
    std::fs::write(folder.path().join("odd.json"), "{}").unwrap();
    let check = |arguments: &[&str], code: i32, words: &[&str]| {
        let output = outlast(folder.path(), &[&["advise"], arguments].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        for word in words {
            assert!(error.contains(word), "{arguments:?}: {error}");
        }
    };
    check(
        &[&nobody],
        3,
        &[&nobody, "does not answer", "gateway.admin"],
    );
    check(&["https://127.0.0.1:9900"], 3, &["speaks no TLS"]);
    check(
        &["odd.json"],
        3,
        &[
            "odd.json is no status",
            "no `upstreams`",
            "/status > status.json`",
        ],
    );
    check(&["127.0.0.1:9900"], 3, &["begins with http://"]);
    check(
        &["odd.json", "--for", "1h", "--since", "odd.json"],
        2,
        &["cannot be used with"],
    );
    check(&["odd.json", "--capacity", "800"], 2, &["`800/s`"]);
    // The listener of clients answers by the upstream.
    check(&[&front], 3, &["is no status", "admin"]);
    let admin = served.admin.as_str();
    let unknown = [
        "there is no upstream `shpo`",
        "did you mean `shop`?",
        "shop, store",
    ];
    check(&[admin, "shpo"], 1, &unknown);
    check(
        &[admin, "--capacity", "800/s"],
        2,
        &["name it: shop, store"],
    );
}

#[test]
fn a_hedge_that_follows_what_is_measured_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let status = |hedge: Value| {
        let mut settings = serde_json::json!({ "timeout_ms": 1000.0, "failure_ratio": 0.5, "failures_within_ms": 30000.0 });
        settings[if hedge.is_string() {
            "hedge_quantile"
        } else {
            "hedge_ms"
        }] = match &hedge {
            Value::String(_) => 0.95.into(),
            fixed => fixed.clone(),
        };
        let status = serde_json::json!({
            "at": 1000.0,
            "upstreams": [{
                "name": "up",
                "endpoints": [{ "successes": 2000, "transient": 0, "permanent": 0, "overloads": 0 }],
                "samples": { "since": 900.0, "answered": [[10.0, 1900], [80.0, 100]], "cut": [], "seconds": [],
                    "busiest": 20 },
                "settings": settings,
            }],
        });
        std::fs::write(folder.path().join("status.json"), status.to_string()).unwrap();
        text(&outlast(folder.path(), &["advise", "status.json"]).stdout)
    };
    let follows = status("p95".into());
    let (why, lines) = follows
        .split_once("For the policy file, in place of")
        .unwrap();
    assert!(why.contains("  hedge.after           p95 "), "{follows}");
    assert!(why.contains("ratio 50% within 30s"), "{follows}");
    assert!(why.contains("It is p95 now"), "{follows}");
    assert!(!lines.contains("hedge"), "{follows}");
    assert!(lines.contains("    breaker: { failures: "), "{follows}");
    let fixed = status(5.into());
    assert!(
        !fixed.contains("It is") && fixed.contains("    hedge: { after: "),
        "{fixed}"
    );
}
