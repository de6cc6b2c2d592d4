//! Sagas of the plan: what answers mean for a step, what is sent, and how a gateway leaves them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Response;
use outlast_gateway::{Gateway, Options};
use serde_json::{Value, json};

use crate::support::{Upstream, curl, free_address, gateway, read, status, wait_until};

/// One that reads a request and closes its connection; what comes after is answered with 503.
fn cutting() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            if number > 0 {
                let answer = b"HTTP/1.1 503 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer);
            }
        }
    });
    address
}

fn plan(folder: &Path, upstreams: &str, definitions: &str) -> String {
    format!(
        "gateway: {{ listen: 127.0.0.1:0, admin: 127.0.0.1:0, workers: 2 }}
upstreams:
{upstreams}
store: {{ sqlite: {} }}
sagas:
  definitions:
{definitions}",
        folder.join("outlast.db").display()
    )
}

fn ask(gateway: &Gateway, path: &str, arguments: &[&str]) -> Value {
    let url = format!("http://{}{path}", gateway.admin_address().unwrap());
    curl(&[arguments, &[&url]].concat()).json()
}

/// Runs a saga to its end and looks at it.
fn run(gateway: &Gateway, name: &str, id: &str) -> Value {
    let path = format!("/sagas/{name}?id={id}&wait=20s");
    ask(gateway, &path, &["-d", r#"{"x": "a b/c"}"#]);
    ask(gateway, &format!("/sagas/{id}"), &[])
}

#[test]
fn what_may_be_done_is_undone_and_what_is_not_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let undoing = Upstream::start();
    let answering = Upstream::start();
    let upstreams = "  undoing: { endpoints: http://{} }
  up: { endpoints: http://{} }
  gone: { endpoints: http://{} }
  cut: { endpoints: http://{} }
  cut_then_503: { endpoints: http://{}, retry: { attempts: 2 } }";
    let names = ["up", "gone", "cut", "cut_then_503"];
    let definition = |upstream: &str| {
        format!(
            "    {upstream}:
      version: 1
      steps:
        - name: a
          upstream: {upstream}
          request: POST /a
          timeout: 1s
          retry: {{ attempts: 1 }}
          outcomes: {{ 418: unknown }}
          undo: {{ upstream: undoing, request: 'DELETE /{{{{ saga.id }}}}' }}\n"
        )
    };
    let definitions: Vec<_> = names.iter().map(|name| definition(name)).collect();
    let text = plan(folder.path(), upstreams, &definitions.concat());
    let addresses = [
        undoing.address,
        answering.address,
        free_address(),
        cutting(),
        cutting(),
    ];
    let gateway = gateway(&text, &addresses);
    let check = |name: &str, id: &str, may_be_done: bool, part: &str| {
        let saga = run(&gateway, name, id);
        assert_eq!(saga["state"], "compensated", "{saga}");
        let step = &saga["steps"][0];
        assert_eq!(step["may_be_done"], may_be_done, "{id}: {saga}");
        let error = step["error"].as_str().unwrap();
        assert!(error.contains(part), "{id}: {error}");
        let seen = undoing.seen();
        let undone = seen.iter().any(|seen| seen.target == format!("/{id}"));
        assert_eq!(undone, may_be_done, "{id}");
    };
    for (code, may_be_done) in [
        (400, false),
        (404, false),
        (422, false),
        (418, true),
        (429, false),
        (500, false),
        (502, true),
        (503, false),
        (504, true),
    ] {
        answering.answers(move |_| status(code));
        let part = format!("up answered {code}");
        check("up", &code.to_string(), may_be_done, &part);
    }
    answering.hangs(true);
    // The call's deadline and the step's time are one instant: either may tell.
    check("up", "late", true, "");
    check("gone", "gone", false, "gone was not asked");
    check("cut", "cut", true, "cut: ");
    check("cut_then_503", "cut-then-503", true, "answered 503");
}

#[test]
fn a_step_is_sent_with_its_key_at_every_attempt_and_waits_as_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    let first = std::sync::atomic::AtomicBool::new(true);
    up.answers(move |_| {
        if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            let answer = Response::builder().status(429).header("retry-after", "1");
            return answer.body(Body::empty()).unwrap();
        }
        Response::new(Body::from(r#"{"id": 7}"#))
    });
    let definitions = "    pair:
      version: 1
      steps:
        - [ { name: a, upstream: up, request: 'POST /a/{{ input.x }}?y={{ input.x }}', body: { x: '{{ input.x }}' } } ]
        - name: b
          upstream: up
          request: PUT /b/{{ steps.a.output.id }}
          headers: { x-text: '{{ input.x }}', host: shop.test }
";
    let upstreams = "  up: { endpoints: http://{} }";
    let text = plan(folder.path(), upstreams, definitions);
    let gateway = gateway(&text, &[up.address]);
    let began = Instant::now();
    let saga = run(&gateway, "pair", "p:1");
    assert_eq!(saga["state"], "completed", "{saga}");
    assert!(began.elapsed() >= Duration::from_secs(1));
    let seen = up.seen();
    let targets: Vec<_> = seen.iter().map(|seen| &*seen.target).collect();
    assert_eq!(
        targets,
        [
            "/a/a%20b%2Fc?y=a%20b%2Fc",
            "/a/a%20b%2Fc?y=a%20b%2Fc",
            "/b/7"
        ]
    );
    for (seen, step) in seen.iter().zip(["a", "a", "b"]) {
        assert_eq!(seen.headers["idempotency-key"], format!("p:1/{step}"));
        assert_eq!(seen.headers["outlast-saga-id"], "p:1");
        assert_eq!(seen.headers["outlast-saga-step"], step);
    }
    assert_eq!(seen[0].body, r#"{"x":"a b/c"}"#);
    assert_eq!(seen[0].headers["content-type"], "application/json");
    assert_eq!(seen[0].headers["host"], up.address.to_string());
    assert_eq!(seen[2].headers["host"], "shop.test");
    assert_eq!(seen[2].headers["x-text"], "a b/c");
    assert!(seen[2].body.is_empty());
    // What leads elsewhere is not sent.
    for wrong in ["", "..", "."] {
        let body = json!({ "x": wrong }).to_string();
        let started = ask(&gateway, "/sagas/pair?wait=5s", &["-d", &body]);
        assert_eq!(started["state"], "compensated", "{wrong:?}");
    }
    assert_eq!(up.seen().len(), 3);
    let reloaded = gateway
        .reload(read(
            &text.replace("version: 1", "version: 2"),
            &[up.address],
        ))
        .unwrap();
    assert_eq!(reloaded.later(), ["sagas"]);
}

#[test]
fn a_gateway_that_drains_ends_attempts_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    up.takes(Duration::from_millis(400));
    let definitions = "    pair:
      version: 1
      steps:
        - { name: a, upstream: up, request: POST /a, on_unknown: compensate }
        - { name: b, upstream: up, request: POST /b }
";
    let text = plan(folder.path(), "  up: { endpoints: http://{} }", definitions);
    let first = gateway(&text, &[up.address]);
    let started = ask(&first, "/sagas/pair?id=1", &["-d", "1"]);
    assert_eq!(started["state"], "open");
    wait_until("it is asked", || up.seen().len() == 1);
    assert!(first.stop(Duration::from_secs(5)));
    let mut second = None;
    wait_until("the store is free", || {
        second = Gateway::start(read(&text, &[up.address]), Options::default()).ok();
        second.is_some()
    });
    let second = second.unwrap();
    wait_until("it is done", || {
        ask(&second, "/sagas/1", &[])["state"] == "completed"
    });
    let targets = up.seen().into_iter().map(|seen| seen.target);
    assert_eq!(targets.collect::<Vec<_>>(), ["/a", "/b"]);
}

#[test]
fn a_version_that_is_gone_waits_and_a_damaged_store_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    up.hangs(true);
    let definitions = "    one:
      version: 1
      steps: [ { name: a, upstream: up, request: POST /a } ]
";
    let text = plan(folder.path(), "  up: { endpoints: http://{} }", definitions);
    let first = gateway(&text, &[up.address]);
    ask(&first, "/sagas/one?id=1", &["-d", "1"]);
    wait_until("it is asked", || up.seen().len() == 1);
    drop(first);
    let changed = text.replace("POST /a", "POST /b");
    let mut second = None;
    wait_until("the store is free", || {
        second = Gateway::start(read(&changed, &[up.address]), Options::default()).ok();
        second.is_some()
    });
    let second = second.unwrap();
    let saga = ask(&second, "/sagas/1", &[]);
    assert_eq!(saga["state"], "open");
    let waits = saga["waiting_for"].as_str().unwrap();
    assert!(waits.contains("version 1 of `one` as it was"), "{waits}");
    let by = r#"{"by": "ann", "reason": "test"}"#;
    let refused = ask(&second, "/sagas/1/cancel", &["-d", by]);
    assert_eq!(refused["status"], 409);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("outlast.db"), "no database at all").unwrap();
    let text = plan(folder.path(), "  up: { endpoints: http://{} }", definitions);
    let started = Gateway::start(read(&text, &[up.address]), Options::default());
    let error = started.err().unwrap().to_string();
    assert!(
        error.contains("outlast.db") && error.contains("damaged"),
        "{error}"
    );
}

#[test]
fn who_may_ask_is_told_what_happens_and_how_many_may_run() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let up = Upstream::start();
    let definitions = "    one:
      version: 1
      steps: [ { name: a, upstream: up, request: POST /a } ]
";
    let secret = format!(
        "admin: {{ address: 127.0.0.1:0, token: {{ file: {} }} }}",
        token.display()
    );
    let text = plan(folder.path(), "  up: { endpoints: http://{} }", definitions)
        .replace("admin: 127.0.0.1:0", &secret)
        .replace("  definitions:", "  limits: { running: 1 }\n  definitions:");
    let gateway = gateway(&text, &[up.address]);
    for (path, arguments) in [
        ("/sagas", &[][..]),
        ("/sagas/1", &[]),
        ("/sagas/1/events", &[]),
        ("/sagas/one", &["-d", "1"]),
    ] {
        let refused = ask(&gateway, path, arguments);
        assert_eq!(refused["status"], 401, "{path}");
    }
    let ours = ["-H", "Authorization: Bearer s3cret"];
    let ask = |path: &str, arguments: &[&str]| {
        let url = format!("http://{}{path}", gateway.admin_address().unwrap());
        curl(&[&ours, arguments, &[&url]].concat())
    };
    assert_eq!(ask("/sagas/one?id=1&wait=5s", &["-d", "1"]).status, 200);
    let told = ask("/sagas/1/events", &[]);
    assert_eq!(told.headers["content-type"], "text/event-stream");
    let events = told.text();
    let ids: Vec<_> = events
        .lines()
        .filter(|line| line.starts_with("id: "))
        .collect();
    assert_eq!(ids, ["id: 0", "id: 1"], "{events}");
    assert!(
        events.contains(r#""event":"succeeded","output":"ok","step":"a""#),
        "{events}"
    );
    assert!(
        events.ends_with("event: end\ndata: {\"state\":\"completed\"}\n\n"),
        "{events}"
    );
    let rest = ask("/sagas/1/events", &["-H", "Last-Event-ID: 0"]).text();
    assert!(rest.starts_with("id: 1\n"), "{rest}");

    up.hangs(true);
    let started = ask("/sagas/one?id=2", &["-d", "1"]);
    assert_eq!(
        (started.status, &*started.headers["location"]),
        (202, "/sagas/2")
    );
    let refused = ask("/sagas/one?id=3", &["-d", "1"]);
    assert_eq!(
        (refused.status, &*refused.headers["retry-after"]),
        (429, "1")
    );
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    // The one that runs begins nothing when it is asked for again.
    let again = ask("/sagas/one?id=2", &["-d", "1"]);
    assert_eq!((again.status, &again.json()["new"]), (202, &json!(false)));
    let waits = ask("/sagas/2", &[]).json()["waiting_for"].clone();
    assert_eq!(waits, "the answer to `a`");
}
