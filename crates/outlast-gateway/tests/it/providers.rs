//! Different providers behind one upstream: each in its dialect, and no two for one key.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use axum::body::Body;
use axum::http::Response;
use outlast_gateway::Gateway;

use crate::support::{
    Curled, LISTEN, Upstream, curl, free_address, gateway, read, status, upstream_status, url,
    wait_until,
};

/// Two providers: what 503 and 409 mean at the first is definite.
fn exclusive(more: &str) -> String {
    format!(
        "{LISTEN}
upstreams:
  up:
    endpoints:
      a: {{ url: http://{{}}, outcomes: {{ 503: transient, 409: overload }} }}
      b: http://{{}}
    failover: [a, b]
    budget: {{ reserve: 100 }}
    {more}
"
    )
}

fn pay(gateway: &Gateway, key: &str) -> Curled {
    let key = format!("Idempotency-Key: {key}");
    curl(&["-d", "x", "-H", &key, &url(gateway, "/pay")])
}

fn reason(answer: &Curled) -> String {
    answer.json()["reason"].as_str().unwrap().to_owned()
}

#[test]
fn each_endpoint_is_spoken_to_in_its_dialect() {
    let (a, b) = (Upstream::answering(|_| status(503)), Upstream::start());
    b.answers(|_| status(402));
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("key");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let plan = format!(
        "{LISTEN}
upstreams:
  up:
    endpoints:
      a: {{ url: 'http://{{}}/base', rewrite: {{ from: /pay, to: /v1/charges }} }}
      b:
        url: http://{{}}
        rewrite: /payments
        headers:
          set: {{ Host: adyen.test, X-Api: {{ file: {} }}, X-Merchant: shop }}
          remove: [X-Stripe, Cookie]
        outcomes: {{ 402: permanent }}
        statuses: {{ 402: 422, 500-599: 502 }}
    outcomes: {{ 402: transient }}
    failover: [a, b]
",
        secret.display()
    );
    let gateway = gateway(&plan, &[a.address, b.address]);
    let headers = [
        "-H",
        "X-Stripe: 1",
        "-H",
        "Cookie: a=b",
        "-H",
        "X-Api: mine",
    ];
    let target = url(&gateway, "/pay/7?q=1");
    let put = [&["-X", "PUT", "-d", "x"][..], &headers, &[&target]].concat();
    let answer = curl(&put);
    assert_eq!((answer.status, answer.text().as_str()), (422, "status 402"));
    let (at_a, at_b) = (a.seen(), b.seen());
    assert_eq!((at_a.len(), at_b.len()), (1, 1));
    assert_eq!(at_a[0].target, "/base/v1/charges/7?q=1");
    assert_eq!(at_a[0].headers["x-stripe"], "1");
    assert_eq!(at_a[0].headers["x-api"], "mine");
    assert_eq!(at_b[0].target, "/payments?q=1");
    assert_eq!(at_b[0].body, "x");
    let fields = &at_b[0].headers;
    assert_eq!(fields["host"], "adyen.test");
    assert_eq!(
        (fields["x-api"].as_str(), fields["x-merchant"].as_str()),
        ("s3cret", "shop")
    );
    assert!(!fields.contains_key("x-stripe") && !fields.contains_key("cookie"));
    let shown = serde_json::to_string(&gateway.status()).unwrap();
    assert!(!shown.contains("s3cret") && shown.contains(&b.address.to_string()));
}

#[test]
fn http2_endpoints_have_a_dialect_too() {
    let b = Upstream::answering(|_| status(402));
    let plan = format!(
        "{LISTEN}
upstreams:
  up:
    protocol: http2
    endpoints:
      b:
        url: http://{{}}
        rewrite: /payments
        headers: {{ set: {{ Host: adyen.test, X-Merchant: shop }} }}
        statuses: {{ 402: 422 }}
"
    );
    let gateway = gateway(&plan, &[b.address]);
    assert_eq!(curl(&["-d", "x", &url(&gateway, "/pay")]).status, 422);
    let seen = b.seen();
    assert_eq!(
        (
            seen[0].target.as_str(),
            seen[0].headers["x-merchant"].as_str()
        ),
        ("/payments", "shop")
    );
    assert!(
        !seen[0].headers.contains_key("host"),
        "the authority says it"
    );
}

#[test]
fn a_secret_that_is_not_there_keeps_the_gateway_from_starting() {
    let plan = format!(
        "{LISTEN}
upstreams:
  up: {{ endpoints: {{ a: {{ url: http://{{}}, headers: {{ set: {{ X-Api: {{ file: /no/such/key }} }} }} }} }} }}
"
    );
    let plan = read(&plan, &[free_address()]);
    let error = Gateway::start(plan, Default::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("endpoint a: header x-api: /no/such/key"),
        "{error}"
    );
}

#[test]
fn a_definite_no_lets_the_next_provider_try_and_the_key_stays_there() {
    for code in [503, 409] {
        let a = Upstream::answering(move |_| status(code));
        let b = Upstream::start();
        let gateway = gateway(&exclusive("exclusive: true"), &[a.address, b.address]);
        assert_eq!(pay(&gateway, "1").status, 200);
        assert_eq!((a.seen().len(), b.seen().len()), (1, 1));
        a.answers(|_| Response::new(Body::from("ok")));
        assert_eq!(pay(&gateway, "1").status, 200);
        assert_eq!(
            (a.seen().len(), b.seen().len()),
            (1, 2),
            "{code}: it is b's"
        );
        assert_eq!(pay(&gateway, "2").status, 200);
        assert_eq!((a.seen().len(), b.seen().len()), (2, 2));
    }
}

#[test]
fn what_could_not_be_sent_goes_to_the_next_provider() {
    let b = Upstream::start();
    let gateway = gateway(&exclusive("exclusive: true"), &[free_address(), b.address]);
    assert_eq!(pay(&gateway, "1").status, 200);
    assert_eq!(b.seen().len(), 1);
}

#[test]
fn a_status_that_nobody_calls_definite_stays() {
    let (a, b) = (Upstream::answering(|_| status(500)), Upstream::start());
    let more = "exclusive: true\n    retry: { attempts: 3, backoff: 1ms }";
    let gateway = gateway(&exclusive(more), &[a.address, b.address]);
    assert_eq!(pay(&gateway, "1").status, 500);
    assert_eq!((a.seen().len(), b.seen().len()), (3, 0));
}

#[test]
fn an_unknown_outcome_stays_until_the_provider_says_no() {
    let (a, b) = (Upstream::start(), Upstream::start());
    a.hangs(true);
    let more = "exclusive: true\n    timeout: 100ms";
    let gateway = gateway(&exclusive(more), &[a.address, b.address]);
    let answer = pay(&gateway, "1");
    assert_eq!((answer.status, reason(&answer).as_str()), (504, "in_doubt"));
    assert!(
        answer
            .text()
            .contains("repeat it with the same idempotency key")
    );
    assert_eq!(pay(&gateway, "1").status, 504);
    assert_eq!((a.seen().len(), b.seen().len()), (2, 0));
    let known = upstream_status(&gateway, "up").exclusive.unwrap();
    assert_eq!(
        (known.keys, known.limit, known.journal),
        (1, 100_000, false)
    );
    // One that turns away has not looked what became of the key.
    a.hangs(false);
    a.answers(|_| status(409));
    assert_eq!(pay(&gateway, "1").status, 409);
    assert_eq!((a.seen().len(), b.seen().len()), (3, 0));
    a.answers(|_| status(503));
    assert_eq!(pay(&gateway, "1").status, 200);
    assert_eq!((a.seen().len(), b.seen().len()), (4, 1));
}

#[test]
fn a_provider_that_is_down_keeps_the_keys_that_it_may_have_served() {
    let (mut a, b) = (Upstream::start(), Upstream::start());
    let gateway = gateway(&exclusive("exclusive: true"), &[a.address, b.address]);
    assert_eq!(pay(&gateway, "1").status, 200);
    a.stop();
    let answer = pay(&gateway, "1");
    assert_eq!((answer.status, reason(&answer).as_str()), (502, "in_doubt"));
    assert_eq!(pay(&gateway, "2").status, 200, "another key is free");
    assert_eq!(b.seen().len(), 1);
    a.restart();
    assert_eq!(pay(&gateway, "1").status, 200);
    assert_eq!((a.seen().len(), b.seen().len()), (1, 1));
}

/// A provider that answers the first request of a connection, and dies with the second in hand.
fn dies_with_the_second() -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for last in [false, true] {
            let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
            while !text.ends_with(b"\r\n\r\nx") {
                let count = stream.read(&mut buffer).unwrap();
                text.extend_from_slice(&buffer[..count]);
            }
            if last {
                break;
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .unwrap();
        }
        drop(listener);
    });
    (address, thread)
}

#[test]
fn a_kept_connection_that_breaks_before_the_provider_is_gone_leaves_it_in_doubt() {
    let (a, thread) = dies_with_the_second();
    let b = Upstream::start();
    let plan = exclusive("exclusive: true").replace("workers: 2", "workers: 1");
    let gateway = gateway(&plan, &[a, b.address]);
    assert_eq!(pay(&gateway, "1").status, 200);
    let answer = pay(&gateway, "2");
    thread.join().unwrap();
    assert_eq!((answer.status, reason(&answer).as_str()), (502, "in_doubt"));
    assert_eq!(b.seen().len(), 0);
}

#[test]
fn without_a_key_the_law_holds_within_the_call() {
    let (a, b) = (Upstream::start(), Upstream::start());
    a.hangs(true);
    let more = "exclusive: true\n    timeout: 100ms\n    retry: { attempts: 2, backoff: 1ms }";
    let gateway = gateway(&exclusive(more), &[a.address, b.address]);
    let put = || curl(&["-X", "PUT", "-d", "x", &url(&gateway, "/pay")]);
    let answer = put();
    assert_eq!((answer.status, reason(&answer).as_str()), (504, "in_doubt"));
    assert_eq!((a.seen().len(), b.seen().len()), (2, 0));
    // Reading twice does no harm.
    assert_eq!(curl(&[&url(&gateway, "/pay")]).status, 200);
    assert_eq!(b.seen().len(), 1);
    a.hangs(false);
    a.answers(|_| status(503));
    assert_eq!(put().status, 200);
}

#[test]
fn two_requests_with_one_key_are_one_piece_of_work() {
    let (a, b) = (Upstream::start(), Upstream::start());
    a.hangs(true);
    let more = "exclusive: true\n    breaker: on";
    let gateway = gateway(&exclusive(more), &[a.address, b.address]);
    std::thread::scope(|threads| {
        let first = threads.spawn(|| pay(&gateway, "1"));
        wait_until("the first is under way", || a.seen().len() == 1);
        let admin = gateway.admin_address().unwrap();
        let breaker = format!("http://{admin}/upstreams/up/breaker");
        let force = "{\"force\":\"open\",\"endpoint\":\"a\"}";
        assert_eq!(curl(&["-d", force, &breaker]).status, 200);
        let answer = pay(&gateway, "1");
        assert_eq!((answer.status, reason(&answer).as_str()), (503, "in_doubt"));
        assert_eq!(pay(&gateway, "2").status, 200);
        assert_eq!(b.seen().len(), 1);
        let first = first.join().unwrap();
        assert_eq!(first.status, 504, "the deadline of the route");
    });
}

#[test]
fn keys_that_cannot_be_kept_are_refused() {
    let (a, b) = (Upstream::start(), Upstream::start());
    let gateway = gateway(
        &exclusive("exclusive: { keys: 1 }"),
        &[a.address, b.address],
    );
    assert_eq!(pay(&gateway, &"k".repeat(256)).status, 400);
    let two = ["-H", "Idempotency-Key: 1", "-H", "Idempotency-Key: 2"];
    let target = url(&gateway, "/");
    assert_eq!(
        curl(&[&["-d", "x"][..], &two, &[&target]].concat()).status,
        400
    );
    assert_eq!(pay(&gateway, "1").status, 200);
    let answer = pay(&gateway, "2");
    assert_eq!(
        (answer.status, reason(&answer).as_str()),
        (503, "journal_full")
    );
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(a.seen().len(), 1);
}

fn journalled(folder: &Path, more: &str) -> String {
    let path = folder.join("keys.jsonl");
    exclusive(&format!(
        "exclusive: {{ journal: {} }}\n    {more}",
        path.display()
    ))
}

#[test]
fn a_reload_and_a_restart_keep_what_is_known() {
    let (mut a, b) = (Upstream::start(), Upstream::start());
    let folder = tempfile::tempdir().unwrap();
    let addresses = [a.address, b.address];
    let plan = journalled(folder.path(), "timeout: 1s");
    let first = gateway(&plan, &addresses);
    assert_eq!(pay(&first, "1").status, 200);
    a.stop();
    let changed = read(&journalled(folder.path(), "timeout: 2s"), &addresses);
    assert_eq!(first.reload(changed).unwrap().new_upstreams(), 1);
    assert_eq!(reason(&pay(&first, "1")), "in_doubt");
    let second = Gateway::start(read(&plan, &addresses), Default::default());
    let error = second.unwrap_err().to_string();
    assert!(error.contains("another process writes it"), "{error}");
    drop(first);
    let second = gateway(&plan, &addresses);
    assert_eq!(reason(&pay(&second, "1")), "in_doubt");
    // A provider that is not in the plan any more cannot be asked.
    drop(second);
    let without = plan.replace(" a: {", " c: {").replace("[a, b]", "[c, b]");
    let third = gateway(&without, &addresses);
    let answer = pay(&third, "1");
    assert_eq!((answer.status, reason(&answer).as_str()), (503, "held"));
    assert_eq!(pay(&third, "2").status, 200);
    assert_eq!(b.seen().len(), 1);
}

#[test]
fn a_journal_that_cannot_be_written_lets_nothing_through() {
    let (a, b) = (Upstream::start(), Upstream::start());
    let plan = exclusive("exclusive: { journal: /dev/full/keys.jsonl }");
    let plan = read(&plan, &[a.address, b.address]);
    let error = Gateway::start(plan, Default::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("upstream up: journal /dev/full/keys.jsonl"),
        "{error}"
    );
}

#[test]
fn the_example_of_the_guide_works() {
    let guide = include_str!("../../../../docs/providers.md");
    let example = guide.split("```yaml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let (a, b) = (Upstream::answering(|_| status(503)), Upstream::start());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("adyen.key"), "s3cret").unwrap();
    let within = |name: &str| folder.path().join(name).display().to_string();
    let mut plan = example.to_owned();
    for (written, here) in [
        ("127.0.0.1:8080", "127.0.0.1:0, admin: off".to_owned()),
        (
            "https://api.stripe.example",
            format!("http://{}", a.address),
        ),
        (
            "https://checkout.adyen.example",
            format!("http://{}", b.address),
        ),
        ("{ env: STRIPE_AUTHORIZATION }", "secret".to_owned()),
        ("adyen.key", within("adyen.key")),
        ("payment-keys.jsonl", within("payment-keys.jsonl")),
    ] {
        assert!(plan.contains(written), "{written}");
        plan = plan.replace(written, &here);
    }
    let gateway = gateway(&plan, &[]);
    let key = "Idempotency-Key: order-7";
    let answer = curl(&["-X", "POST", "-H", key, &url(&gateway, "/pay/card")]);
    assert_eq!(answer.status, 200);
    assert_eq!(a.seen()[0].target, "/v1/charges");
    assert_eq!(b.seen()[0].target, "/v71/payments/card");
    assert_eq!(b.seen()[0].headers["x-api-key"], "s3cret");
    drop(gateway);
    let journal = std::fs::read_to_string(within("payment-keys.jsonl")).unwrap();
    let events: Vec<serde_json::Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let shown = guide.split("```text\n").nth(1).unwrap();
    let shown = shown.split("```").next().unwrap().lines();
    let shown = shown.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let without_time = |mut event: serde_json::Value| {
        event["at"] = 0.into();
        event
    };
    let events: Vec<_> = events.into_iter().map(without_time).collect();
    assert_eq!(events, shown.map(without_time).collect::<Vec<_>>());
}
