//! Clients that are too slow, too many or too large.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use outlast_gateway::Gateway;

use crate::support::{Client, Upstream, curl, gateway, resident_bytes, url, wait_until};

fn tight(upstream: &Upstream) -> Gateway {
    gateway(
        "
gateway:
  listen: 127.0.0.1:0
  admin: off
  workers: 1
  limits:
    connections: 50
    header_bytes: 16KiB
    uri_bytes: 1KiB
    body_bytes: 100kB
    headers: 50
    header_timeout: 1s
    body_timeout: 1s
    idle_timeout: 2s
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{} } }
",
        &[upstream.address],
    )
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.addresses()[0]).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn a_head_that_comes_too_slowly_is_told_so() {
    let upstream = Upstream::start();
    let gateway = tight(&upstream);
    let mut stream = connect(&gateway);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        .unwrap();
    assert!(rest(stream).starts_with("HTTP/1.1 408 "));
    assert!(upstream.seen().is_empty());
}

#[test]
fn an_idle_connection_is_closed_and_its_place_is_free() {
    let upstream = Upstream::start();
    let gateway = tight(&upstream);
    assert_eq!(rest(connect(&gateway)), "");
    let mut used = Client::new(&url(&gateway, "/"));
    assert_eq!(used.ask(), 200);
    wait_until("it is closed", || gateway.status().connections == 0);
}

#[test]
fn a_body_that_stalls_is_given_up() {
    let upstream = Upstream::start();
    let gateway = tight(&upstream);
    let mut stream = connect(&gateway);
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123")
        .unwrap();
    let answer = rest(stream);
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    wait_until("its place is free", || gateway.status().connections == 0);
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let upstream =
        Upstream::answering(|_| axum::http::Response::new(vec![b'x'; 50_000_000].into()));
    let gateway = tight(&upstream);
    let mut stream = connect(&gateway);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    wait_until("it is served", || upstream.seen().len() == 1);
    wait_until("it is given up", || gateway.status().connections == 0);
}

#[test]
fn what_is_too_large_is_told_so() {
    let upstream = Upstream::start();
    let gateway = tight(&upstream);
    let long = format!("/{}", "a".repeat(2000));
    assert_eq!(curl(&[&url(&gateway, &long)]).status, 414);
    let header = format!("X-Large: {}", "a".repeat(20_000));
    assert_eq!(curl(&["-H", &header, &url(&gateway, "/")]).status, 431);
    let many: Vec<String> = (0..60).map(|number| format!("-HX-{number}: 1")).collect();
    let mut arguments: Vec<&str> = many.iter().map(String::as_str).collect();
    let address = url(&gateway, "/");
    arguments.push(&address);
    assert_eq!(curl(&arguments).status, 431);
    let body = "x".repeat(120_000);
    for framing in ["x: y", "transfer-encoding: chunked"] {
        let answer = curl(&["-d", &body, "-H", framing, &url(&gateway, "/")]);
        assert_eq!(answer.status, 413, "{framing}");
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(curl(&["-d", "x", &url(&gateway, "/")]).status, 200);
}

#[test]
fn connections_beyond_the_limit_are_turned_away() {
    let upstream = Upstream::start();
    let gateway = tight(&upstream);
    let held: Vec<_> = (0..50).map(|_| connect(&gateway)).collect();
    wait_until("all are there", || gateway.status().connections == 50);
    assert_eq!(rest(connect(&gateway)), "");
    assert_eq!(gateway.status().turned_away, 1);
    drop(held);
    wait_until("there is room again", || {
        curl(&[&url(&gateway, "/")]).status == 200
    });
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_fail_nobody() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let upstream = Upstream::start();
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, workers: 2 }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{} } }
",
        &[upstream.address],
    );
    // Both ends of all connections are in this process.
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(50_000).min(50_000);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        },
    )
    .unwrap();
    let count = 10_000.min((wanted as usize - 2_000) / 2);
    let before = resident_bytes();
    let mut idle = Vec::new();
    for _ in 0..count {
        let mut client = Client::new(&url(&gateway, "/"));
        assert_eq!(client.ask(), 200);
        idle.push(client);
    }
    assert_eq!(gateway.status().connections, count);
    let each = resident_bytes().saturating_sub(before) / count;
    assert!(
        each < 100_000,
        "{each} bytes for a connection, both ends and the upstream's notes"
    );
    let load = crate::support::Load::start(&url(&gateway, "/"), 20);
    let served = upstream.seen().len();
    wait_until("the active ones are served", || {
        upstream.seen().len() > served + 2_000
    });
    let results = load.end();
    assert!(results.iter().all(|(status, _)| *status == 200));
    for client in idle.iter_mut().step_by(100) {
        assert_eq!(client.ask(), 200, "an idle connection still serves");
    }
    drop(idle);
    wait_until("all places are free", || gateway.status().connections == 0);
}
