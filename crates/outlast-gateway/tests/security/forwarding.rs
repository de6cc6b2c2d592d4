//! What belongs to one connection stays there, in both directions.

use std::io::{BufReader, Read, Write};

use crate::wire::{self, connect, read_response};
use crate::{Bench, Vector, check};

const REPLIES: &[(&str, &str)] = &[
    (
        "/private",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-priv, close\r\nX-Priv: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nX-Kept: 1\r\n\r\nok",
    ),
    (
        "/two-lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\noka",
    ),
    (
        "/two-framings",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    ),
    (
        "/bad-name",
        "HTTP/1.1 200 OK\r\nX Bad: 1\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "/bad-status",
        "HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    ("/no-http", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ("/nothing", ""),
    (
        "/trailers",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\n\
         X-Sum: 7\r\n\r\n",
    ),
];

#[test]
fn fields_of_the_clients_connection_are_not_forwarded() {
    let bench = Bench::start(&[]);
    let exchange = bench.exchange(
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close, X-Priv\r\nX-Priv: 1\r\n\
         Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic YQ==\r\n\
         TE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nX_Under: 1\r\nX-Kept: 1\r\n\r\n",
    );
    assert_eq!(exchange.responses[0].status, 200);
    let request = bench.upstream.take().remove(0);
    for gone in [
        "x-priv",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "http2-settings",
    ] {
        assert!(request.values(gone).is_empty(), "{gone}: {}", request.head);
    }
    for gone in ["proxy-authorization", "x_under"] {
        assert!(request.values(gone).is_empty(), "{gone}: {}", request.head);
    }
    assert!(
        !request.head.to_ascii_lowercase().contains("x-priv"),
        "{}",
        request.head
    );
    assert_eq!(request.values("x-kept"), ["1"]);
}

#[test]
fn connection_cannot_take_away_what_is_meant_for_the_end() {
    let bench = Bench::start(&[]);
    let options = [
        "Authorization",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Cookie",
        "X-Forwarded-For",
        "Authorization, Host, Content-Length",
    ];
    let vectors = options.map(|option| {
        let head = "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: b\r\nCookie: c\r\n";
        Vector::new(
            option,
            format!("{head}Connection: close, {option}\r\n\r\n"),
            &[&[400]],
            0,
        )
    });
    check(&bench, &vectors);
}

#[test]
fn fields_of_the_upstreams_connection_are_not_passed_on() {
    let bench = Bench::start(REPLIES);
    let exchange =
        bench.exchange("GET /private HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    let response = &exchange.responses[0];
    assert_eq!(response.status, 200);
    for gone in ["x-priv", "keep-alive", "proxy-connection"] {
        assert!(
            response.values(gone).is_empty(),
            "{gone}: {}",
            response.head
        );
    }
    assert!(!response.head.contains("x-priv"), "{}", response.head);
    assert_eq!(response.values("x-kept"), ["1"]);
}

#[test]
fn responses_that_are_no_http_are_bad_gateways() {
    for path in [
        "/two-lengths",
        "/two-framings",
        "/bad-name",
        "/bad-status",
        "/no-http",
        "/nothing",
    ] {
        let bench = Bench::start(REPLIES);
        // POST: what may have been done is not asked for again.
        let exchange = bench.exchange(format!(
            "POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi\
             GET /next HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        ));
        let statuses: Vec<_> = exchange
            .responses
            .iter()
            .map(|response| response.status)
            .collect();
        assert_eq!(statuses, [502, 200], "{path}");
        let requests = bench.upstream.take();
        let targets: Vec<_> = requests.iter().map(|request| request.target()).collect();
        assert_eq!(targets, [path, "/next"]);
        assert_ne!(
            requests[0].connection, requests[1].connection,
            "{path}: reused"
        );
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let bench = Bench::start(&[]);
    let exchange = bench.exchange(
        "GET /first HTTP/1.1\r\nHost: a.test\r\n\r\n\
         GET /second HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
    );
    let bodies: Vec<_> = exchange
        .responses
        .iter()
        .map(|response| &response.body[..])
        .collect();
    assert_eq!(bodies, [b"/first".as_slice(), b"/second"]);
}

#[test]
fn trailers_of_a_request_are_forwarded_unless_they_are_dangerous() {
    let bench = Bench::start(&[]);
    let exchange = bench.exchange(
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    assert_eq!(exchange.responses[0].status, 200);
    let request = bench.upstream.take().remove(0);
    assert_eq!(request.body, b"ok");
    assert_eq!(request.trailers.to_ascii_lowercase().trim(), "x-sum: 7");
}

#[test]
fn trailers_of_a_response_go_to_who_asks_for_them() {
    let bench = Bench::start(REPLIES);
    let ask = |fields: &str| {
        let head = format!("GET /trailers HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
        bench.exchange(head).responses.remove(0)
    };
    let asked = ask("TE: trailers\r\nConnection: TE, close\r\n");
    assert_eq!(
        (asked.status, asked.body.as_slice()),
        (200, b"ok".as_slice())
    );
    assert_eq!(asked.trailers.to_ascii_lowercase().trim(), "x-sum: 7");
    let not_asked = ask("Connection: close\r\n");
    assert_eq!(
        (not_asked.status, not_asked.body.as_slice()),
        (200, b"ok".as_slice())
    );
    assert_eq!(not_asked.trailers, "");
}

#[test]
fn an_unknown_expectation_fails() {
    let bench = Bench::start(&[]);
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: tea\r\nContent-Length: 2\r\n\r\nhi";
    check(&bench, &[Vector::new("Expect: tea", head, &[&[417]], 0)]);
}

#[test]
fn a_client_that_waits_to_continue_is_told_to() {
    let bench = Bench::start(&[]);
    let mut stream = connect(bench.address());
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\
                Connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let interim = read_response(&mut reader)
        .unwrap()
        .expect("an interim response");
    assert_eq!(interim.status, 100);
    assert!(bench.upstream.take().is_empty(), "there is no body yet");
    stream.write_all(b"hi").unwrap();
    let response = read_response(&mut reader).unwrap().expect("a response");
    assert_eq!(response.status, 200);
    assert_eq!(bench.upstream.take()[0].body, b"hi");
}

const UPGRADE: &str = "Host: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

#[test]
fn an_upgrade_is_spliced_on_a_route_that_allows_it() {
    let bench = Bench::start(&[]);
    let mut stream = connect(bench.address());
    stream
        .write_all(format!("GET /ws/echo HTTP/1.1\r\n{UPGRADE}").as_bytes())
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let response = read_response(&mut reader).unwrap().expect("a response");
    assert_eq!(response.status, 101);
    // None of this is HTTP.
    for round in 0..3_u8 {
        let sent = [b"\0\n:\r\0 GET", [round].as_slice()].concat();
        stream.write_all(&sent).unwrap();
        let mut echo = vec![0; sent.len()];
        reader.read_exact(&mut echo).unwrap();
        assert_eq!(echo, sent);
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn nothing_is_raw_before_the_upstream_has_agreed() {
    let bench = Bench::start(&[]);
    let next = "GET /next HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let bad = "GET /bad HTTP/1.1\r\nHost : a.test\r\n\r\n";
    // One route passes upgrades, but the upstream refuses; the other does not pass them.
    for path in ["/ws/refused", "/plain"] {
        let head = format!("GET {path} HTTP/1.1\r\n{UPGRADE}");
        check(
            &bench,
            &[
                Vector::new(path, format!("{head}{next}"), &[&[200], &[200]], 2),
                Vector::new(path, format!("{head}{bad}"), &[&[200], &[400]], 1),
            ],
        );
    }
    let input = format!("GET /plain HTTP/1.1\r\n{UPGRADE}{next}");
    drop(bench.exchange(input));
    assert!(bench.upstream.take()[0].values("upgrade").is_empty());
}

#[test]
fn a_body_is_framed_by_its_length_even_with_an_upgrade() {
    let bench = Bench::start(&[]);
    for upgrade in ["websocket", "h2c"] {
        let exchange = bench.exchange(format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\
             Content-Length: 5\r\n\r\nGET /\
             GET /next HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        ));
        assert_eq!(exchange.responses.len(), 2, "{exchange:?}");
        let requests = bench.upstream.take();
        assert_eq!(requests[0].body, b"GET /");
        assert!(
            requests[0].values("upgrade").is_empty(),
            "{}",
            requests[0].head
        );
        assert_eq!(requests[1].target(), "/next");
    }
}

#[test]
fn a_client_that_goes_on_sending_still_reads_its_refusal() {
    let bench = Bench::start(&[]);
    let head = b"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n".as_slice();
    for _ in 0..5 {
        let (output, closed) = wire::send(bench.address(), &[head, &[b'x'; 1 << 20]].concat());
        assert!(closed && output.starts_with(b"HTTP/1.1 400 "), "{output:?}");
    }
}
