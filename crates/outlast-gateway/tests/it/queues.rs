//! Requests that are queued because their upstream did not do them: which, what the client is told, and
//! what is delivered.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use outlast_gateway::{Gateway, Options};
use serde_json::{Value, json};

use crate::support::{
    Curled, Seen, Upstream, curl, free_address, gateway, read, status, upstream_status, url,
    wait_until,
};

/// A plan with one upstream and the queue `receipts`, which have these keys beside their own.
fn plan(folder: &Path, upstream: &str, queue: &str) -> String {
    format!(
        "gateway: {{ listen: 127.0.0.1:0, admin: 127.0.0.1:0, workers: 2, deadline: 5s }}
routes: {{ all: {{ match: /**, upstream: up }} }}
store: {{ sqlite: {} }}
upstreams:
  up:
    endpoints: http://{{}}
    fallback: {{ queue: receipts }}
    {upstream}
queues:
  receipts:
    retry: {{ attempts: 24, backoff: 50ms }}
    {queue}
",
        folder.join("outlast.db").display()
    )
}

fn post(gateway: &Gateway, path: &str, arguments: &[&str]) -> Curled {
    curl(&[&["-X", "POST"], arguments, &[&url(gateway, path)]].concat())
}

fn keyed(gateway: &Gateway, key: &str, body: &str) -> Curled {
    let key = format!("Idempotency-Key: {key}");
    post(gateway, "/receipts", &["-H", &key, "-d", body])
}

fn ask(gateway: &Gateway, path: &str, arguments: &[&str]) -> Curled {
    let url = format!("http://{}{path}", gateway.admin_address().unwrap());
    curl(&[arguments, &[&url]].concat())
}

fn line(gateway: &Gateway) -> Value {
    ask(gateway, "/queues", &[]).json()["queues"][0].clone()
}

fn is_drained(gateway: &Gateway) -> bool {
    line(gateway)["waiting"] == 0
}

fn bodies(seen: &[Seen]) -> Vec<String> {
    let body = |seen: &Seen| String::from_utf8_lossy(&seen.body).into_owned();
    seen.iter().map(body).collect()
}

/// One that reads a request and closes its connection, as often as it is asked; and how often.
fn cutting() -> (SocketAddr, Arc<Mutex<u32>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            if stream.read(&mut head).is_ok_and(|read| read > 0) {
                *counted.lock().unwrap() += 1;
            }
            let _ = stream.flush();
        }
    });
    (address, asked)
}

#[test]
fn what_cannot_be_done_is_kept_and_delivered_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Upstream::start();
    up.stop();
    let gateway = gateway(&plan(folder.path(), "", ""), &[up.address]);
    let told = post(
        &gateway,
        "/receipts/7?copy=1",
        &[
            "-H",
            "Authorization: Bearer secret",
            "-H",
            "Cookie: a=b",
            "-H",
            "X-Shop: books",
            "-H",
            "Host: shop.test",
            "-H",
            "Idempotency-Key: order-7",
            "-d",
            "euros=20",
        ],
    );
    assert_eq!(told.status, 202, "{}", told.text());
    assert_eq!(told.headers["location"], "/queues/receipts/order-7");
    assert_eq!(told.headers["x-degraded"], "queue");
    assert_eq!(
        told.json(),
        json!({ "id": "order-7", "queue": "receipts", "status": "waiting" })
    );
    let without = post(&gateway, "/receipts/8", &["-d", "no key"]);
    let id = without.json()["id"].as_str().unwrap().to_owned();
    let status = curl(&[&url(&gateway, "/queues/receipts/order-7")]);
    assert_eq!(
        (status.status, &status.json()["status"]),
        (200, &json!("waiting"))
    );
    assert_eq!(status.headers["cache-control"], "no-store");
    up.restart();
    wait_until("all is delivered", || is_drained(&gateway));
    let seen = up.seen();
    let by_key: HashMap<_, _> = seen
        .iter()
        .map(|seen| (seen.headers["idempotency-key"].clone(), seen))
        .collect();
    let first = by_key["order-7"];
    assert_eq!(
        (first.method.as_str(), first.target.as_str()),
        ("POST", "/receipts/7?copy=1")
    );
    assert_eq!(first.body, "euros=20");
    assert_eq!(first.headers["x-shop"], "books");
    assert_eq!(first.headers["host"], "shop.test");
    assert_eq!(first.headers["content-length"], "8");
    assert_eq!(
        first.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
    for secret in ["authorization", "cookie"] {
        assert!(!first.headers.contains_key(secret), "{secret}");
    }
    assert_eq!(by_key[&id].body, "no key");
    assert_eq!(seen.len(), 2);
    let status = curl(&[&url(&gateway, "/queues/receipts/order-7")]).json();
    assert_eq!(status["status"], "delivered");
    let none = curl(&[&url(&gateway, "/queues/receipts/order-9")]);
    assert_eq!(
        (none.status, &none.json()["reason"]),
        (404, &json!("not_queued"))
    );
}

#[test]
fn only_what_changes_something_and_is_not_done_is_queued() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    let gateway = gateway(
        &plan(folder.path(), "", "outcomes: { 418: transient }"),
        &[up.address],
    );
    let check = |answer: u16, arguments: &[&str], expected: u16| {
        up.answers(move |_| status(answer));
        let before = line(&gateway)["pushed"].clone();
        let told = curl(&[arguments, &[&url(&gateway, "/r")]].concat());
        assert_eq!(
            told.status,
            expected,
            "{answer} {arguments:?}: {}",
            told.text()
        );
        let after = line(&gateway)["pushed"].clone();
        assert_eq!(after != before, expected == 202, "{answer} {arguments:?}");
    };
    let key = ["-H", "Idempotency-Key: k", "-d", "x"];
    // An answer that is a definite no is passed on, whatever it carries.
    check(400, &key, 400);
    check(402, &["-d", "x"], 402);
    check(422, &["-X", "PUT", "-d", "x"], 422);
    check(200, &key, 200);
    // Who only asks hears that there is no answer.
    check(503, &[], 503);
    check(503, &["-I"], 503);
    // What may have been done is not done again without a key.
    check(503, &["-d", "x"], 503);
    check(500, &["-d", "x"], 500);
    check(504, &["-d", "x"], 504);
    check(504, &["-X", "PATCH", "-d", "x"], 504);
    // A status that the queue calls a definite no has done nothing. It is permanent for the policies.
    check(418, &["-d", "x"], 418);
    check(504, &["-X", "PUT", "-d", "y"], 202);
    check(500, &["-X", "DELETE"], 202);
    check(503, &key, 202);
    let metrics = ask(&gateway, "/metrics", &[]).text();
    let in_doubt = "outlast_queue_refused_total{queue=\"receipts\",reason=\"in_doubt\"} 4";
    assert!(metrics.contains(in_doubt), "{metrics}");
}

#[test]
fn a_status_that_is_promised_to_be_a_no_lets_a_post_without_a_key_wait() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    let gateway = gateway(
        &plan(folder.path(), "", "outcomes: { 503: transient }"),
        &[up.address],
    );
    up.answers(|_| status(503));
    let told = post(&gateway, "/r", &["-d", "x"]);
    assert_eq!(told.status, 202, "{}", told.text());
    up.answers(|_| status(201));
    wait_until("it is delivered", || is_drained(&gateway));
    let seen = up.seen();
    let last = seen.last().unwrap();
    assert_eq!(
        last.headers["idempotency-key"],
        told.json()["id"].as_str().unwrap()
    );
}

#[test]
fn nothing_is_done_twice_that_has_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let (address, asked) = cutting();
    let gateway = gateway(&plan(folder.path(), "", ""), &[address]);
    assert_eq!(post(&gateway, "/r", &["-d", "x"]).status, 502);
    assert_eq!(*asked.lock().unwrap(), 1);
    assert_eq!(line(&gateway)["pushed"], 0);
    assert_eq!(keyed(&gateway, "k", "x").status, 202);
}

#[test]
fn a_key_is_one_request() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Upstream::start();
    up.stop();
    let gateway = gateway(&plan(folder.path(), "", ""), &[up.address]);
    for trace in ["1", "2"] {
        let trace = format!("Traceparent: {trace}");
        let arguments = ["-H", "Idempotency-Key: k", "-H", &trace, "-d", "x"];
        let told = post(&gateway, "/receipts", &arguments);
        assert_eq!((told.status, told.json()["id"].as_str()), (202, Some("k")));
    }
    let other = keyed(&gateway, "k", "y");
    assert_eq!(
        (other.status, &other.json()["reason"]),
        (422, &json!("key_reused"))
    );
    // What cannot be a part of a path is named by its hash.
    let long = "l".repeat(300);
    for key in ["a/b", "..", "50 %", &long] {
        let told = keyed(&gateway, key, "x");
        assert_eq!(told.status, 202, "{key}");
        let location = told.headers["location"].clone();
        assert!(location.starts_with("/queues/receipts/key-"), "{location}");
        let status = curl(&[&url(&gateway, &location)]);
        assert_eq!(status.status, 200, "{location}");
    }
    up.restart();
    wait_until("all is delivered", || is_drained(&gateway));
    let mut keys: Vec<_> = up
        .seen()
        .iter()
        .map(|seen| seen.headers["idempotency-key"].clone())
        .collect();
    keys.sort_unstable();
    let mut expected = vec![
        "k".to_owned(),
        "a/b".to_owned(),
        "..".to_owned(),
        "50 %".to_owned(),
        long,
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    // A repetition of what was delivered does nothing more.
    up.stop();
    let told = keyed(&gateway, "k", "x");
    assert_eq!(
        (told.status, &told.json()["status"]),
        (202, &json!("delivered"))
    );
}

#[test]
fn requests_of_a_key_stay_in_order_also_when_the_upstream_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    up.answers(|_| status(503));
    let queue = "key: { header: X-Customer }";
    let gateway = gateway(&plan(folder.path(), "", queue), &[up.address]);
    let send = |customer: &str, body: &str| {
        let customer = format!("X-Customer: {customer}");
        let key = format!("Idempotency-Key: {body}");
        let told = post(&gateway, "/r", &["-H", &customer, "-H", &key, "-d", body]);
        told.status
    };
    assert_eq!(send("ann", "ann-1"), 202);
    // It takes everything but what was first.
    up.answers(|seen| status(if seen.body == "ann-1" { 503 } else { 200 }));
    assert_eq!(send("bob", "bob-1"), 200);
    assert_eq!(send("ann", "ann-2"), 202, "it would overtake the first");
    assert_eq!(
        curl(&["-H", "X-Customer: ann", &url(&gateway, "/r")]).status,
        200
    );
    up.answers(|_| status(200));
    wait_until("all is delivered", || is_drained(&gateway));
    let done = bodies(&up.seen());
    let first = done.iter().rposition(|body| body == "ann-1").unwrap();
    let second = done.iter().position(|body| body == "ann-2").unwrap();
    assert!(first < second, "{done:?}");
    assert_eq!(send("ann", "ann-3"), 200);
}

#[test]
fn a_closed_breaker_lets_requests_wait_without_losing_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Upstream::start();
    up.stop();
    let breaker = "breaker: { consecutive: 1, cooldown: 300ms }";
    let text = plan(folder.path(), breaker, "max_age: 1h").replace("attempts: 24", "attempts: 12");
    let gateway = gateway(&text, &[up.address]);
    for number in 0..20 {
        let told = keyed(&gateway, &format!("k{number}"), "x");
        assert_eq!(told.status, 202, "{}", told.text());
    }
    assert_ne!(line(&gateway)["gate"], "no_upstream");
    // Each trial is of one request: the others lose nothing by it.
    wait_until("some trials have failed", || {
        line(&gateway)["attempts"]["transient"].as_u64() >= Some(4)
    });
    let told = ask(&gateway, "/queues/receipts", &[]).json();
    let attempts = told["messages"].as_array().unwrap().iter();
    let attempts: u64 = attempts
        .map(|told| told["attempts"].as_u64().unwrap())
        .sum();
    let failed = line(&gateway)["attempts"]["transient"].as_u64().unwrap();
    assert!(
        attempts <= failed + 1,
        "{attempts} attempts, and {failed} failed"
    );
    up.restart();
    wait_until("all is delivered", || is_drained(&gateway));
    assert_eq!(up.seen().len(), 20);
}

#[test]
fn what_a_policy_turns_away_waits_without_losing_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    up.answers(move |seen| {
        if seen.target == "/holds" {
            released.lock().unwrap().recv().unwrap();
        }
        status(200)
    });
    let text = plan(folder.path(), "bulkhead: 1", "").replace("attempts: 24", "attempts: 2");
    let gateway = gateway(&text.replace("deadline: 5s", "deadline: 1m"), &[up.address]);
    std::thread::scope(|scope| {
        let holds = scope.spawn(|| curl(&[&url(&gateway, "/holds")]).status);
        wait_until("the only seat is taken", || !up.seen().is_empty());
        for key in ["1", "2", "3"] {
            assert_eq!(keyed(&gateway, key, "x").status, 202);
        }
        let not_made = || line(&gateway)["attempts"]["not_made"].as_u64().unwrap();
        wait_until("each was turned away often", || not_made() >= 9);
        let told = ask(&gateway, "/queues/receipts", &[]).json();
        for told in told["messages"].as_array().unwrap() {
            assert!(told["attempts"].as_u64().unwrap() <= 1, "{told}");
            assert_eq!(told["status"], "waiting", "{told}");
        }
        release.send(()).unwrap();
        assert_eq!(holds.join().unwrap(), 200);
        wait_until("all is delivered", || is_drained(&gateway));
    });
    assert_eq!(
        (line(&gateway)["dead"].clone(), up.seen().len()),
        (json!(0), 4)
    );
    let told = ask(&gateway, "/queues/receipts/1", &[]).json();
    assert_eq!(told["attempts"], 1, "{told}");
}

#[test]
fn a_poison_request_blocks_its_key_only_until_it_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    up.answers(|_| status(503));
    let text = plan(folder.path(), "", "key: path").replace("attempts: 24", "attempts: 3");
    let gateway = gateway(&text, &[up.address]);
    let send = |path: &str, key: &str| {
        let key = format!("Idempotency-Key: {key}");
        assert_eq!(
            post(&gateway, path, &["-H", &key, "-d", &key[17..]]).status,
            202
        );
    };
    let is_open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&is_open);
    up.answers(move |seen| match &*seen.body {
        _ if !gate.load(Ordering::Relaxed) => status(503),
        b"poison" => status(500),
        b"declined" => status(422),
        _ => status(200),
    });
    send("/a", "poison");
    send("/a", "a-2");
    send("/b", "declined");
    send("/b", "b-2");
    is_open.store(true, Ordering::Relaxed);
    wait_until("all has ended", || is_drained(&gateway));
    let line = line(&gateway);
    assert_eq!(
        (&line["delivered"], &line["died"], &line["dead"]),
        (&json!(2), &json!(2), &json!(2))
    );
    let dead = ask(&gateway, "/queues/receipts?state=dead", &[]).json();
    let dead = dead["messages"].as_array().unwrap();
    assert_eq!(
        (&dead[0]["id"], &dead[0]["attempts"]),
        (&json!("poison"), &json!(3))
    );
    let error = dead[0]["error"].as_str().unwrap();
    assert_eq!(
        error,
        "given up after 3 attempts: up answered 500 Internal Server Error: status 500"
    );
    let error = dead[1]["error"].as_str().unwrap();
    assert_eq!(error, "up answered 422 Unprocessable Entity: status 422");
    // Somebody mends the receiver, and has it tried again; the other one is not wanted.
    up.answers(|_| status(200));
    let by = r#"{"by": "ann", "reason": "mended"}"#;
    let path = "/queues/receipts/poison";
    assert_eq!(
        ask(&gateway, &format!("{path}/retry"), &["-d", by]).status,
        200
    );
    wait_until("it is delivered", || {
        ask(&gateway, path, &[]).json()["status"] == "delivered"
    });
    let shown = ask(&gateway, path, &[]).json();
    assert_eq!(shown["notes"][0]["by"], "ann");
    let declined = ask(&gateway, "/queues/receipts/declined", &[]).json();
    assert_eq!(declined["request"], "POST /b");
    let discard = "/queues/receipts/declined/discard";
    assert_eq!(ask(&gateway, discard, &["-d", by]).status, 200);
    assert_eq!(ask(&gateway, discard, &["-d", by]).status, 409);
    assert_eq!(ask(&gateway, discard, &["-d", "{}"]).status, 400);
    assert_eq!(ask(&gateway, "/queues/none", &[]).status, 404);
    assert_eq!(ask(&gateway, "/queues/receipts/none", &[]).status, 404);
    assert_eq!(
        ask(&gateway, "/queues/receipts?state=gone", &[]).status,
        400
    );
    assert_eq!(ask(&gateway, "/queues/receipts?limit=0", &[]).status, 400);
}

#[test]
fn what_there_is_no_room_for_is_refused_and_nothing_answers_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Upstream::start();
    up.stop();
    let text = plan(folder.path(), "", "messages: 2\n    message_bytes: 2KiB").replace(
        "queue: receipts",
        "queue: receipts, static: { status: 203 }",
    );
    let gateway = gateway(&text, &[up.address]);
    for key in ["1", "2"] {
        assert_eq!(keyed(&gateway, key, "x").status, 202);
    }
    let full = keyed(&gateway, "3", "x");
    assert_eq!(
        (full.status, &full.json()["reason"]),
        (503, &json!("queue_full"))
    );
    assert_eq!(full.headers["retry-after"], "10");
    assert_eq!(keyed(&gateway, "2", "x").status, 202, "it is there");
    // What the queue does not take is answered as if there were none.
    assert_eq!(curl(&[&url(&gateway, "/r")]).status, 203);
    let large = "x".repeat(3000);
    assert_eq!(keyed(&gateway, "4", &large).status, 203);
    let chunked = ["-H", "Transfer-Encoding: chunked", "-d", &large];
    assert_eq!(post(&gateway, "/r", &chunked).status, 203);
    assert_eq!(line(&gateway)["pushed"], 2);
    // Three times the queue, three times the fixed answer; a refusal stands in for nothing.
    assert_eq!(upstream_status(&gateway, "up").fallbacks, 6);
}

#[test]
fn a_body_is_kept_for_the_queue_beyond_what_is_kept_for_retries() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    up.answers(|_| status(503));
    let upstream = "replay: 1KiB\n    retry: { attempts: 3, backoff: 1ms }\n    budget: off";
    let gateway = gateway(&plan(folder.path(), upstream, "headers: []"), &[up.address]);
    let body = "0123456789".repeat(20_000);
    let file = folder.path().join("body");
    std::fs::write(&file, &body).unwrap();
    let file = format!("@{}", file.display());
    for (key, more) in [("1", "X-A: b"), ("2", "Transfer-Encoding: chunked")] {
        let mark = format!("X-Client: {key}");
        let key = format!("Idempotency-Key: {key}");
        let fields = ["-H", &key, "-H", more, "-H", &mark, "--data-binary", &file];
        let told = post(&gateway, "/r", &fields);
        assert_eq!(told.status, 202, "{}", told.text());
    }
    up.answers(|_| status(200));
    wait_until("all is delivered", || is_drained(&gateway));
    let seen = up.seen();
    assert!(seen[seen.len() - 2..].iter().all(|seen| seen.body == body));
    // Deliveries do not have the field.
    let by_clients = seen
        .iter()
        .filter(|seen| seen.headers.contains_key("x-client"));
    assert_eq!(by_clients.count(), 2, "too large to be tried again at once");
}

#[test]
fn clients_say_for_how_long_and_who_may_ask_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Upstream::start();
    up.stop();
    let queue = "status_path: /queued\n    credentials: true\n    headers: [Authorization]";
    let gateway = gateway(&plan(folder.path(), "", queue), &[up.address]);
    let within = |text: &str| {
        let within = format!("Outlast-Queue-Within: {text}");
        let fields = [
            "-H",
            &within,
            "-H",
            "Authorization: me",
            "-H",
            "X-A: b",
            "-d",
            "x",
        ];
        post(&gateway, "/r", &fields)
    };
    let bad = within("soon");
    assert_eq!(
        (bad.status, &bad.json()["reason"]),
        (400, &json!("malformed"))
    );
    let told = within("200ms");
    assert_eq!(told.status, 202);
    let location = told.headers["location"].clone();
    assert!(location.starts_with("/queued/"), "{location}");
    wait_until("it is too old", || {
        curl(&[&url(&gateway, &location)]).json()["status"] == "dead"
    });
    assert_eq!(
        curl(&["-X", "PUT", &url(&gateway, "/queued/x")]).status,
        202,
        "no status"
    );
    assert_eq!(within("1h").status, 202);
    up.restart();
    wait_until("it is delivered", || is_drained(&gateway));
    let seen = up.seen();
    let first = seen.iter().find(|seen| seen.target == "/r").unwrap();
    assert_eq!(first.headers["authorization"], "me");
    assert!(!first.headers.contains_key("x-a"));
    assert!(!first.headers.contains_key("outlast-queue-within"));
}

#[test]
fn grpc_and_what_the_gateway_turns_away_have_no_queue_of_providers() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (Upstream::start(), Upstream::start());
    let text = plan(folder.path(), "", "pace: { slowest: 4/h, fastest: 4/h }").replace(
        "endpoints: http://{}\n    fallback: { queue: receipts }",
        "endpoints: { a: http://{}, b: http://{} }
    failover: { order: [a, b], hold: receipts }
    rate: { calls: 4, per: 1h }",
    );
    let gateway = gateway(&text, &[first.address, second.address]);
    first.answers(|_| status(503));
    second.stop();
    let told = keyed(&gateway, "1", "x");
    assert_eq!(told.status, 202, "{}", told.text());
    wait_until("its one delivery has failed", || {
        line(&gateway)["attempts"]["transient"] == 1
    });
    let grpc = [
        "-H",
        "Content-Type: application/grpc",
        "-H",
        "Idempotency-Key: 2",
        "-d",
        "x",
    ];
    let told = post(&gateway, "/r", &grpc);
    assert_eq!((told.status, &*told.headers["grpc-status"]), (200, "14"));
    first.stop();
    assert_eq!(keyed(&gateway, "3", "x").status, 202);
    // The rate limit turns it away, and not the providers.
    let limited = keyed(&gateway, "4", "x");
    assert_eq!(
        (limited.status, &limited.json()["reason"]),
        (429, &json!("rate"))
    );
    assert_eq!(line(&gateway)["pushed"], 2);
}

#[test]
fn a_key_in_doubt_is_held_for_the_provider_that_may_have_served_it() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Upstream::start(), Upstream::start());
    let text = plan(folder.path(), "", "").replace(
        "endpoints: http://{}\n    fallback: { queue: receipts }",
        "endpoints: { a: http://{}, b: http://{} }
    failover: { order: [a, b], hold: receipts }
    exclusive: true",
    );
    let gateway = gateway(&text, &[first.address, second.address]);
    first.answers(|_| status(504));
    let told = keyed(&gateway, "pay-1", "x");
    assert_eq!(told.status, 202, "{}", told.text());
    // Without its key another provider could be asked.
    assert_eq!(
        curl(&["-X", "PUT", "-d", "x", &url(&gateway, "/r")]).status,
        504
    );
    first.answers(|_| status(200));
    wait_until("it is delivered", || is_drained(&gateway));
    assert!(second.seen().is_empty(), "nobody else was asked");
    assert!(first.seen().iter().any(|seen| seen.body == "x"));
}

#[test]
fn what_waits_is_delivered_by_the_next_process_and_after_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Upstream::start();
    up.stop();
    let text = plan(folder.path(), "", "");
    let first = gateway(&text, &[up.address]);
    assert_eq!(keyed(&first, "1", "x").status, 202);
    // Its upstream is gone, and comes back.
    let without = "gateway: { listen: 127.0.0.1:0, admin: 127.0.0.1:0, workers: 2 }";
    let reloaded = first.reload(read(without, &[])).unwrap();
    assert!(reloaded.later().contains(&"queues"), "{reloaded}");
    let before = line(&first);
    assert_eq!(before["gate"], "no_upstream");
    up.restart();
    assert!(first.stop(Duration::from_secs(5)));
    assert!(up.seen().is_empty());
    let mut second = None;
    wait_until("the store is free", || {
        second = Gateway::start(read(&text, &[up.address]), Options::default()).ok();
        second.is_some()
    });
    let second = second.unwrap();
    wait_until("it is delivered", || is_drained(&second));
    assert_eq!(up.seen().len(), 1);
}

#[test]
fn retry_after_is_honoured_and_the_answers_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let up = Upstream::start();
    up.answers(|_| status(503));
    let gateway = gateway(&plan(folder.path(), "", ""), &[up.address]);
    let first = Arc::new(AtomicBool::new(true));
    up.answers(move |_| {
        if first.swap(false, Ordering::Relaxed) {
            return status(503);
        }
        let answer = Response::builder()
            .status(429)
            .header("retry-after", "3600");
        answer.body(Body::empty()).unwrap()
    });
    assert_eq!(keyed(&gateway, "1", "x").status, 202);
    let path = "/queues/receipts/1";
    wait_until("it waits for long", || {
        let told = ask(&gateway, path, &[]).json();
        told["error"]
            .as_str()
            .is_some_and(|error| error.contains("429"))
    });
    let told = ask(&gateway, path, &[]).json();
    let minutes = |key: &str| {
        let text = told[key].as_str().unwrap();
        let part = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
        (part(8..10) * 24 + part(11..13)) * 60 + part(14..16)
    };
    // Five minutes at most, whatever is asked for.
    let waits = minutes("due") - minutes("queued");
    // At the turn of a month the days say nothing.
    let month = |key: &str| told[key].as_str().unwrap()[..7].to_owned();
    let is_one_month = month("due") == month("queued");
    assert!(!is_one_month || (5..=6).contains(&waits), "{told}");
    let metrics = ask(&gateway, "/metrics", &[]).text();
    for sample in [
        "outlast_queue_messages{queue=\"receipts\",state=\"waiting\"} 1",
        "outlast_queue_requests_total{queue=\"receipts\",what=\"pushed\"} 1",
        "outlast_queue_attempts_total{queue=\"receipts\",outcome=\"transient\"} 1",
        "outlast_queue_pace{queue=\"receipts\"} 10",
    ] {
        assert!(metrics.contains(sample), "{sample}: {metrics}");
    }
}

#[test]
fn who_looks_at_requests_needs_the_token_and_clients_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let secret = format!(
        "admin: {{ address: 127.0.0.1:0, token: {{ file: {} }} }}",
        token.display()
    );
    let text = plan(folder.path(), "", "").replace("admin: 127.0.0.1:0", &secret);
    let gateway = gateway(&text, &[free_address()]);
    assert_eq!(keyed(&gateway, "1", "x").status, 202);
    let by = r#"{"by": "ann", "reason": "test"}"#;
    for (path, arguments) in [
        ("/queues", &[][..]),
        ("/queues/receipts", &[]),
        ("/queues/receipts/1", &[]),
        ("/queues/receipts/1/retry", &["-d", by]),
        ("/queues/receipts/1/discard", &["-d", by]),
    ] {
        assert_eq!(ask(&gateway, path, arguments).status, 401, "{path}");
    }
    let ours = ["-H", "Authorization: Bearer s3cret"];
    assert_eq!(ask(&gateway, "/queues/receipts/1", &ours).status, 200);
    let status = curl(&[&url(&gateway, "/queues/receipts/1")]).json();
    assert_eq!(status["status"], "waiting");
    assert!(status.get("error").is_none() && status.get("request").is_none());
}

#[test]
fn what_another_upstream_may_have_done_is_not_queued_without_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Upstream::start();
    first.stop();
    let second = Upstream::answering(|_| status(500));
    let text = plan(folder.path(), "", "")
        .replace("queue: receipts }", "queue: receipts, upstream: second }")
        .replace("queues:", "  second: { endpoints: http://{} }\nqueues:");
    let gateway = gateway(&text, &[first.address, second.address]);
    // What went wrong first is what the client hears.
    assert_eq!(post(&gateway, "/r", &["-d", "x"]).status, 502);
    assert_eq!(second.seen().len(), 1);
    assert_eq!(keyed(&gateway, "k", "y").status, 202);
    first.restart();
    wait_until("it is delivered", || is_drained(&gateway));
    assert_eq!(bodies(&first.seen()), ["y"]);
    assert_eq!(second.seen().len(), 2);
}

#[test]
fn no_delivery_begins_while_the_gateway_drains() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Upstream::start();
    up.stop();
    let text = plan(folder.path(), "", "");
    let first = gateway(&text, &[up.address]);
    for key in ["1", "2", "3"] {
        assert_eq!(keyed(&first, key, key).status, 202);
    }
    first.drain();
    up.restart();
    assert!(first.stop(Duration::from_secs(5)));
    let mut second = None;
    wait_until("the store is free", || {
        // Nothing is delivered by one that has begun to drain.
        assert!(up.seen().is_empty());
        second = Gateway::start(read(&text, &[up.address]), Options::default()).ok();
        second.is_some()
    });
    let second = second.unwrap();
    wait_until("all is delivered", || is_drained(&second));
    assert_eq!(up.seen().len(), 3);
}

#[test]
fn what_a_gateway_delivers_while_it_drains_is_delivered_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Upstream::start();
    up.stop();
    let text = plan(folder.path(), "", "");
    let first = gateway(&text, &[up.address]);
    let keys: Vec<String> = (0..12).map(|key| key.to_string()).collect();
    for key in &keys {
        assert_eq!(keyed(&first, key, key).status, 202);
    }
    up.restart();
    up.takes(Duration::from_millis(300));
    wait_until("some are under way", || up.seen().len() > 3);
    assert!(first.stop(Duration::from_secs(5)));
    let mut second = None;
    wait_until("the store is free", || {
        second = Gateway::start(read(&text, &[up.address]), Options::default()).ok();
        second.is_some()
    });
    let second = second.unwrap();
    wait_until("all is delivered", || is_drained(&second));
    let mut seen = bodies(&up.seen());
    seen.sort_by_key(|body| body.parse::<u32>().unwrap());
    assert_eq!(seen, keys);
}

#[test]
fn what_cannot_be_looked_up_is_not_told_to_be_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Upstream::start();
    up.stop();
    let gateway = gateway(&plan(folder.path(), "", ""), &[up.address]);
    assert_eq!(keyed(&gateway, "1", "1").status, 202);
    // A store that answers nothing any more.
    let file = folder.path().join("outlast.db");
    let spoil = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('DROP TABLE message')";
    let spoilt = std::process::Command::new("python3")
        .args(["-c", spoil])
        .arg(&file)
        .status();
    assert!(spoilt.unwrap().success());
    let told = curl(&[&url(&gateway, "/queues/receipts/1")]);
    assert_eq!((told.status, &*told.headers["retry-after"]), (503, "10"));
    assert_eq!(told.json()["reason"], "queue_unread");
    let detail = told.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("ask again"), "{detail}");
}
