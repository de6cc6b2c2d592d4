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
        - { name: b, upstream: up, request: POST /b, on_unknown: compensate }
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
    // There is nothing behind the largest number.
    let last = format!("Last-Event-ID: {}", u64::MAX);
    let rest = ask("/sagas/1/events", &["-H", &last]).text();
    assert!(rest.starts_with("event: end\n"), "{rest}");

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

/// Nobody knows whether a payment was made; its books are asked.
#[test]
fn whoever_knows_is_asked_whether_a_step_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let (bank, books, undoing) = (Upstream::start(), Upstream::start(), Upstream::start());
    bank.answers(|_| status(504));
    let definitions = "    pay:
      version: 1
      steps:
        - name: charge
          upstream: bank
          request: POST /charges
          retry: { attempts: 2, backoff: 10ms }
          on_unknown: query
          query:
            upstream: books
            request: GET /charges/{{ saga.id }}?x={{ input.x }}
            headers: { x-text: '{{ input.x }}' }
            timeout: 1s
            outcomes: { 204: not_done }
          undo: { upstream: undoing, request: 'DELETE /{{ saga.id }}' }
        - { name: tell, upstream: undoing, request: 'POST /told/{{ steps.charge.output.id }}' }
";
    let upstreams = "  bank: { endpoints: http://{} }
  books: { endpoints: http://{} }
  undoing: { endpoints: http://{} }";
    let text = plan(folder.path(), upstreams, definitions);
    let gateway = gateway(&text, &[bank.address, books.address, undoing.address]);
    let calls = |upstream: &Upstream, part: &str| {
        let seen = upstream.seen();
        seen.iter()
            .filter(|seen| seen.target.contains(part))
            .count()
    };
    let check = |id: &str, state: &str, charged: usize, asked: usize, undone: usize| {
        let before = bank.seen().len();
        let saga = run(&gateway, "pay", id);
        assert_eq!(saga["state"], state, "{id}: {saga}");
        assert_eq!(bank.seen().len() - before, charged, "{id}");
        assert_eq!(calls(&books, &format!("/{id}?")), asked, "{id}");
        assert_eq!(calls(&undoing, &format!("/{id}")), undone, "{id}");
        saga
    };
    books.answers(|_| Response::new(Body::from(r#"{"id": 7}"#)));
    let saga = check("done", "completed", 1, 1, 0);
    let step = &saga["steps"][0];
    assert_eq!(
        (&step["output"]["id"], &step["queries"]),
        (&json!(7), &json!(1))
    );
    assert_eq!(calls(&undoing, "/told/7"), 1);
    let seen = books.seen().pop().unwrap();
    assert_eq!(
        (&*seen.method, &*seen.target),
        ("GET", "/charges/done?x=a%20b%2Fc")
    );
    // The key is that of the attempt that it is about.
    assert_eq!(seen.headers["idempotency-key"], "done/charge");
    assert_eq!(seen.headers["outlast-saga-step"], "charge");
    assert_eq!(seen.headers["x-text"], "a b/c");

    for (id, code) in [("gone", 404), ("not", 204)] {
        books.answers(move |_| status(code));
        let saga = check(id, "compensated", 2, 2, 0);
        assert_eq!(saga["steps"][0]["may_be_done"], false, "{saga}");
    }
    for (id, code) in [("busy", 503), ("what", 400), ("slow", 504)] {
        books.answers(move |_| status(code));
        let saga = check(id, "compensated", 1, 2, 1);
        assert_eq!(saga["steps"][0]["may_be_done"], true, "{saga}");
        let error = saga["steps"][0]["error"].as_str().unwrap();
        assert!(error.contains(&format!("books answered {code}")), "{error}");
    }
    // An open question, and then an answer.
    let first = std::sync::atomic::AtomicBool::new(true);
    books.answers(
        move |_| match first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            true => status(503),
            false => Response::new(Body::from(r#"{"id": 8}"#)),
        },
    );
    let saga = check("later", "completed", 1, 2, 0);
    let log = ask(&gateway, "/sagas/later/log", &[]);
    let events = log["records"].as_array().unwrap().iter();
    let events = events.flat_map(|record| record["events"].as_array().unwrap());
    let of_step = events.filter(|event| event["step"] == "charge");
    let names: Vec<_> = of_step
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "started",
            "lost",
            "query_started",
            "query_failed",
            "query_started",
            "found_done"
        ],
        "{saga}"
    );
}

/// A step behind the pivot that cannot be done: what somebody says of it is there for later ones.
#[test]
fn what_is_skipped_or_resolved_by_hand_may_have_an_output() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::answering(|seen| match &*seen.target {
        "/ship" => status(422),
        _ => Response::new(Body::from("{}")),
    });
    let definitions = "    order:
      version: 1
      steps:
        - { name: charge, upstream: up, request: POST /charge, pivot: true }
        - { name: ship, upstream: up, request: POST /ship }
        - { name: tell, upstream: up, request: 'POST /told/{{ steps.ship.output.parcel }}' }
        - { name: note, upstream: up, request: 'POST /noted/x{{ steps.ship.output.parcel? }}' }
";
    let text = plan(folder.path(), "  up: { endpoints: http://{} }", definitions).replace(
        "  definitions:",
        "  limits: { bytes: 1KiB }\n  definitions:",
    );
    let gateway = gateway(&text, &[up.address]);
    let hand = |id: &str, how: &str, step: &str, more: &str| {
        let body = format!(r#"{{"by": "ann", "reason": "by hand", "step": "{step}"{more}}}"#);
        ask(&gateway, &format!("/sagas/{id}/{how}"), &["-d", &body])
    };
    let rests = |id: &str| {
        let look = || ask(&gateway, &format!("/sagas/{id}"), &[]);
        wait_until("it rests", || look()["state"] != "open");
        look()
    };
    let began = |id: &str| {
        let saga = run(&gateway, "order", id);
        assert_eq!(saga["state"], "waiting", "{saga}");
        let ship = &saga["steps"][1];
        assert_eq!(ship["hands"], json!(["retry", "skip", "resolve"]), "{saga}");
        assert_eq!(ship["key"], format!("{id}/ship"));
        assert!(
            ship["since"].is_string() && saga["may_cancel"] == false,
            "{saga}"
        );
    };
    let told = |part: &str| up.seen().iter().any(|seen| seen.target == part);
    began("a");
    for (how, step, more, code, part) in [
        ("skip", "charge", "", 409, "does not wait for anybody"),
        ("skip", "shop", "", 404, "no step"),
        ("retry", "ship", r#", "output": 1"#, 400, "skip and resolve"),
    ] {
        let refused = hand("a", how, step, more);
        assert_eq!(refused["status"], code, "{refused}");
        assert!(
            refused["detail"].as_str().unwrap().contains(part),
            "{refused}"
        );
    }
    let large = format!(r#", "output": "{}""#, "x".repeat(2000));
    assert_eq!(hand("a", "skip", "ship", &large)["status"], 413);
    hand("a", "skip", "ship", r#", "output": {"parcel": "by-car"}"#);
    let saga = rests("a");
    assert_eq!(saga["state"], "completed", "{saga}");
    assert_eq!(saga["steps"][1]["state"], "skipped", "{saga}");
    assert!(told("/told/by-car") && told("/noted/xby-car"));

    began("b");
    hand(
        "b",
        "resolve",
        "ship",
        r#", "output": {"parcel": "by-ship"}"#,
    );
    assert_eq!(rests("b")["steps"][1]["state"], "done");
    assert!(told("/told/by-ship"));

    // Who needs what is not there fails for good, unless its place ends with `?`.
    began("c");
    hand("c", "skip", "ship", "");
    let saga = rests("c");
    let tell = &saga["steps"][2];
    assert_eq!(tell["state"], "stuck", "{saga}");
    let error = "its path: there is no `steps.ship.output.parcel`";
    assert_eq!(tell["error"], error, "{saga}");
    hand("c", "skip", "tell", "");
    assert_eq!(rests("c")["state"], "completed");
    assert!(told("/noted/x"));
}

#[test]
fn a_log_that_is_full_is_told_with_what_failed_before() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::answering(|_| status(503));
    let definitions = "    order:
      version: 1
      steps:
        - { name: a, upstream: up, request: POST /a, retry: { attempts: 1000, backoff: 1ms } }
";
    let text = plan(folder.path(), "  up: { endpoints: http://{} }", definitions).replace(
        "  definitions:",
        "  limits: { records: 10 }\n  definitions:",
    );
    let gateway = gateway(&text, &[up.address]);
    let saga = run(&gateway, "order", "1");
    assert_eq!(
        (&saga["state"], &saga["may_cancel"]),
        (&json!("waiting"), &json!(true))
    );
    let error = saga["steps"][0]["error"].as_str().unwrap();
    let why = "its log has 10 records, and 10 are allowed; up answered 503";
    assert!(error.starts_with(why), "{error}");
    let by = r#"{"by": "ann", "reason": "too long"}"#;
    ask(&gateway, "/sagas/1/cancel", &["-d", by]);
    wait_until("it is undone", || {
        ask(&gateway, "/sagas/1", &[])["state"] == "compensated"
    });
}

#[test]
fn a_definition_is_paused_and_resumed_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    let definitions = "    one:
      version: 1
      steps:
        - { name: a, upstream: up, request: POST /a, undo: { request: DELETE /a } }
        - { name: b, upstream: up, request: POST /b, retry: { attempts: 1 } }
    other:
      version: 3
      steps: [ { name: a, upstream: up, request: POST /other } ]
";
    let text = plan(folder.path(), "  up: { endpoints: http://{} }", definitions);
    let first = gateway(&text, &[up.address]);
    let by = r#"{"by": "ann", "reason": "the bank is away"}"#;
    let pause = "/sagas/definitions/one/pause";
    let resume = "/sagas/definitions/one/resume";
    assert_eq!(ask(&first, pause, &["-d", by])["paused"], true);
    assert_eq!(
        ask(&first, "/sagas/one?id=1", &["-d", "1"])["state"],
        "open"
    );
    assert_eq!(
        ask(&first, "/sagas/other?id=2&wait=20s", &["-d", "1"])["state"],
        "completed"
    );
    let waits = ask(&first, "/sagas/1", &[])["waiting_for"].clone();
    assert_eq!(waits, "`one` to be resumed: it is paused");
    for (path, body, status, part) in [
        ("/sagas/definitions/none/pause", by, 404, "one, other"),
        (pause, "{}", 400, "send {"),
        ("/sagas/definitions/other/resume", by, 409, "not paused"),
        ("/sagas/other?id=definitions", "1", 400, "leads elsewhere"),
    ] {
        let refused = ask(&first, path, &["-d", body]);
        assert_eq!(refused["status"], status, "{refused}");
        assert!(
            refused["detail"].as_str().unwrap().contains(part),
            "{refused}"
        );
    }
    assert!(first.stop(Duration::from_secs(5)));

    // The next process finds it so.
    let mut second = None;
    wait_until("the store is free", || {
        second = Gateway::start(read(&text, &[up.address]), Options::default()).ok();
        second.is_some()
    });
    let second = second.unwrap();
    wait_until("it goes on", || {
        let told = ask(&second, "/sagas/definitions", &[]);
        told["definitions"][0]["in_flight_here"] == 1
    });
    let told = ask(&second, "/sagas/definitions", &[]);
    let one = &told["definitions"][0];
    assert_eq!(
        (&one["name"], &one["paused"]),
        (&json!("one"), &json!(true))
    );
    assert_eq!(one["last_word"]["reason"], "the bank is away");
    assert_eq!(one["versions"][0]["open"], 1);
    assert_eq!(told["definitions"][1]["last_word"], Value::Null);
    assert_eq!(up.seen().len(), 1, "that of the other one");
    let metrics = || {
        let page = ask_text(&second, "/metrics");
        move |name: &str| {
            let line = page.lines().find(|line| line.starts_with(name));
            let line = line.unwrap_or_else(|| panic!("{name} is not in {page}"));
            line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
        }
    };
    let value = metrics();
    let definition = r#"{definition="one""#;
    assert_eq!(value(&format!("outlast_saga_paused{definition}")), 1.0);
    assert_eq!(value(&format!("outlast_saga_in_flight{definition}")), 1.0);
    assert_eq!(
        value(&format!("outlast_saga_resumed_total{definition}")),
        1.0
    );
    let open = format!(r#"outlast_sagas{definition},state="open"}}"#);
    assert_eq!(value(&open), 1.0);

    up.answers(|seen| status(if seen.target == "/b" { 422 } else { 200 }));
    assert_eq!(ask(&second, resume, &["-d", by])["paused"], false);
    let events = ask_text(&second, "/sagas/1/events");
    assert!(events.contains(r#"event: end"#), "{events}");
    let value = metrics();
    let ended = format!(r#"outlast_saga_ended_total{definition},state="compensated"}}"#);
    assert_eq!(value(&ended), 1.0);
    let attempt = |step: &str, kind: &str, outcome: &str| {
        let labels = format!(r#"step="{step}",kind="{kind}",outcome="{outcome}"}}"#);
        value(&format!("outlast_saga_attempts_total{definition},{labels}"))
    };
    assert_eq!(attempt("a", "do", "done"), 1.0);
    assert_eq!(attempt("a", "undo", "done"), 1.0);
    assert_eq!(attempt("b", "do", "permanent"), 1.0);
    assert_eq!(
        value(&format!("outlast_saga_seconds_count{definition}")),
        1.0
    );
    assert!(value("outlast_saga_write_seconds_count") >= 4.0);
    let available = format!(r#"outlast_saga_budget_available{definition},step="b"}}"#);
    assert!(value(&available) >= 100.0);
}

fn ask_text(gateway: &Gateway, path: &str) -> String {
    let url = format!("http://{}{path}", gateway.admin_address().unwrap());
    curl(&[&url]).text()
}

/// Who watches is told at once, and hears of everything once.
#[test]
fn what_happens_is_told_as_it_happens() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    let count = 40;
    let steps: Vec<_> = (0..count)
        .map(|step| format!("        - {{ name: s{step}, upstream: up, request: POST /a }}\n"))
        .collect();
    let definitions = format!(
        "    one:\n      version: 1\n      steps:\n{}",
        steps.concat()
    );
    let text = plan(
        folder.path(),
        "  up: { endpoints: http://{} }",
        &definitions,
    );
    let gateway = gateway(&text, &[up.address]);
    let by = r#"{"by": "ann", "reason": "test"}"#;
    ask(&gateway, "/sagas/definitions/one/pause", &["-d", by]);
    ask(&gateway, "/sagas/one?id=1", &["-d", "1"]);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| ask_text(&gateway, "/sagas/1/events")))
            .collect();
        ask(&gateway, "/sagas/definitions/one/resume", &["-d", by]);
        for reader in readers {
            let events = reader.join().unwrap();
            let ids = events.lines().filter_map(|line| line.strip_prefix("id: "));
            let ids: Vec<usize> = ids.map(|id| id.parse().unwrap()).collect();
            assert!(ids.iter().copied().eq(0..ids.len()), "{ids:?}");
            assert!(ids.len() > count, "{events}");
            assert!(events.contains(r#""state":"completed""#), "{events}");
        }
    });
}
