//! Which requests are made twice, and which never.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use axum::body::Body;
use axum::http::Response;

use crate::support::{LISTEN, Upstream, curl, free_address, gateway, status, upstream_status, url};

const RETRY: &str = "
upstreams:
  up: { endpoints: http://{}, retry: { attempts: 3, backoff: 1ms }, budget: { reserve: 100 } }
";

/// Fails so many times, then answers.
fn failing(times: u32) -> Upstream {
    let count = AtomicU32::new(0);
    Upstream::answering(move |_| {
        if count.fetch_add(1, Ordering::Relaxed) < times {
            status(503)
        } else {
            Response::new(Body::from("ok"))
        }
    })
}

#[test]
fn idempotent_requests_are_retried_with_their_body() {
    let upstream = failing(2);
    let gateway = gateway(&format!("{LISTEN}{RETRY}"), &[upstream.address]);
    let answer = curl(&["-X", "PUT", "-d", "hello", &url(&gateway, "/")]);
    assert_eq!(answer.status, 200);
    let bodies: Vec<_> = upstream.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["hello", "hello", "hello"]);
}

#[test]
fn a_post_is_made_twice_only_with_a_key() {
    let upstream = failing(1);
    let gateway = gateway(&format!("{LISTEN}{RETRY}"), &[upstream.address]);
    assert_eq!(curl(&["-d", "x", &url(&gateway, "/")]).status, 503);
    assert_eq!(upstream.seen().len(), 1);
    let upstream = failing(1);
    let gateway = self::gateway(&format!("{LISTEN}{RETRY}"), &[upstream.address]);
    let key = "Idempotency-Key: order-17";
    assert_eq!(
        curl(&["-d", "x", "-H", key, &url(&gateway, "/")]).status,
        200
    );
    let keys: Vec<_> = upstream
        .seen()
        .iter()
        .map(|seen| seen.headers["idempotency-key"].clone())
        .collect();
    assert_eq!(keys, ["order-17", "order-17"]);
}

#[test]
fn a_key_is_made_where_the_route_says_so() {
    let upstream = failing(1);
    let plan = format!(
        "gateway: {{ listen: 127.0.0.1:0, admin: off }}\nroutes: {{ all: {{ match: /**, upstream: up, idempotency_key: make }} }}{RETRY}"
    );
    let gateway = gateway(&plan, &[upstream.address]);
    for _ in 0..2 {
        assert_eq!(curl(&["-d", "x", &url(&gateway, "/")]).status, 200);
    }
    let keys: Vec<_> = upstream
        .seen()
        .iter()
        .map(|seen| seen.headers["idempotency-key"].clone())
        .collect();
    assert_eq!(keys.len(), 3);
    assert_eq!(keys[0], keys[1], "the same for all attempts");
    assert_ne!(keys[1], keys[2], "another for each request");
}

#[test]
fn a_post_that_was_not_sent_goes_to_the_next_endpoint() {
    let upstream = Upstream::start();
    let plan = format!(
        "{LISTEN}\nupstreams: {{ up: {{ endpoints: {{ a: 'http://{{}}', b: 'http://{{}}' }}, failover: [a, b] }} }}"
    );
    let gateway = gateway(&plan, &[free_address(), upstream.address]);
    let answer = curl(&["-d", "x", &url(&gateway, "/")]);
    assert_eq!((answer.status, upstream.seen().len()), (200, 1));
    assert_eq!(upstream_status(&gateway, "up").failovers, 1);
}

#[test]
fn a_body_beyond_the_limit_is_forwarded_and_not_repeated() {
    let upstream = failing(1);
    let gateway = gateway(&format!("{LISTEN}{RETRY}"), &[upstream.address]);
    let big = "x".repeat(100_000);
    for framing in ["x: y", "transfer-encoding: chunked"] {
        upstream.answers(|_| status(503));
        let before = upstream.seen().len();
        let answer = curl(&["-X", "PUT", "-d", &big, "-H", framing, &url(&gateway, "/")]);
        assert_eq!(answer.status, 503, "{framing}");
        assert_eq!(upstream.seen().len(), before + 1, "{framing}");
        assert_eq!(upstream.seen()[before].body.len(), big.len());
    }
}

#[test]
fn retry_after_is_honoured_and_passed_on() {
    let upstream = Upstream::answering(|_| {
        let mut response = status(503);
        response
            .headers_mut()
            .insert("retry-after", "60".parse().unwrap());
        response
    });
    let gateway = gateway(&format!("{LISTEN}{RETRY}"), &[upstream.address]);
    let answer = curl(&[&url(&gateway, "/")]);
    assert_eq!(
        (answer.status, answer.headers["retry-after"].as_str()),
        (503, "60")
    );
    assert_eq!(
        upstream.seen().len(),
        1,
        "it asked for a minute, and nobody waits so long"
    );
    assert!(
        upstream_status(&gateway, "up").endpoints[0]
            .paused_ms
            .unwrap()
            > 50_000.0
    );
}

#[test]
fn each_attempt_is_told_what_is_left_and_it_is_less() {
    let upstream = failing(2);
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, deadline: 5s }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{}, retry: { attempts: 3, backoff: { kind: constant, base: 20ms, jitter: none } }, budget: { reserve: 10 } } }
",
        &[upstream.address],
    );
    assert_eq!(curl(&[&url(&gateway, "/")]).status, 200);
    let left = |seen: &crate::support::Seen| {
        let field = |name: &str| seen.headers[name].parse::<f64>().unwrap();
        field("x-deadline") - field("x-deadline-sent")
    };
    let left: Vec<_> = upstream.seen().iter().map(left).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left[0] <= 5.0 * 0.9 + 1e-3, "{left:?}");
    let shrinks = |pair: &[f64]| pair[0] - pair[1] >= 0.9 * 0.02;
    assert!(left.windows(2).all(shrinks), "{left:?}");
}

/// An HTTP/2 server that refuses the first stream, as one does that is about to end (RFC 9113,
/// 8.7), and answers the others with the value of `X-Order`.
fn refusing_the_first() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut count = 0;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            count += 1;
            if count == 1 {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                continue;
            }
            let order = request.headers().get("x-order");
            let order = order.map(|order| order.as_bytes().to_vec());
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            let order = order.unwrap_or_else(|| b"none".to_vec());
            body.send_data(order.into(), true).unwrap();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    (address, std::thread::spawn(move || runtime.block_on(serve)))
}

#[test]
fn a_refused_stream_is_asked_for_again_with_its_header_fields() {
    let (address, server) = refusing_the_first();
    let plan = "upstreams: { up: { endpoints: http://{}, protocol: http2 } }";
    let gateway = gateway(&format!("{LISTEN}{plan}"), &[address]);
    let answer = curl(&["-X", "POST", "-H", "X-Order: 17", &url(&gateway, "/")]);
    assert_eq!((answer.status, &*answer.text()), (200, "17"));
    drop(gateway);
    server.join().unwrap();
}
