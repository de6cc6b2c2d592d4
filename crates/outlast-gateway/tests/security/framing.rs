//! Requests whose end two parsers could see in different places, and others that are no HTTP.

use crate::{Bench, Vector, check};

/// Behind everything that has to be refused: it must never be served.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

const BAD: &[u16] = &[400];
const BAD_CODING: &[u16] = &[400, 501];
const BAD_VERSION: &[u16] = &[400, 505];

fn refused(name: &str, statuses: &'static [u16], input: impl AsRef<[u8]>) -> Vector {
    let input = [input.as_ref(), SMUGGLED.as_bytes()].concat();
    Vector::new(name, input, &[statuses], 0)
}

/// A POST with these fields and a body that is good both as five bytes and as chunks.
fn fields(name: &str, statuses: &'static [u16], fields: &str) -> Vector {
    let input = format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n0\r\n\r\n");
    refused(name, statuses, input)
}

fn line(name: &str, statuses: &'static [u16], line: &str) -> Vector {
    refused(name, statuses, format!("{line}\r\nHost: a.test\r\n\r\n"))
}

fn hosts(name: &str, fields: &str) -> Vector {
    refused(name, BAD, format!("GET / HTTP/1.1\r\n{fields}\r\n"))
}

fn chunks(name: &str, rest: &str) -> Vector {
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(name, BAD, format!("{head}{rest}"))
}

#[test]
fn ambiguous_lengths_are_refused() {
    let bench = Bench::start(&[]);
    check(
        &bench,
        &[
            fields(
                "CL+TE",
                BAD,
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            ),
            fields(
                "TE+CL",
                BAD,
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            ),
            fields("two CL", BAD, "Content-Length: 5\r\nContent-Length: 6\r\n"),
            fields(
                "two CL, same",
                BAD,
                "Content-Length: 5\r\nContent-Length: 5\r\n",
            ),
            fields("CL list", BAD, "Content-Length: 2, 2\r\n"),
            fields("CL +2", BAD, "Content-Length: +2\r\n"),
            fields("CL -1", BAD, "Content-Length: -1\r\n"),
            fields("CL 0x2", BAD, "Content-Length: 0x2\r\n"),
            fields("CL empty", BAD, "Content-Length:\r\n"),
            fields("CL 2^64", BAD, "Content-Length: 18446744073709551616\r\n"),
            fields("CL 2^63", BAD, "Content-Length: 9223372036854775808\r\n"),
            fields("TE xchunked", BAD_CODING, "Transfer-Encoding: xchunked\r\n"),
            fields(
                "TE not last",
                BAD_CODING,
                "Transfer-Encoding: chunked, identity\r\n",
            ),
            fields("TE VT", BAD_CODING, "Transfer-Encoding: \x0bchunked\r\n"),
            fields(
                "TE gzip",
                BAD_CODING,
                "Transfer-Encoding: gzip, chunked\r\n",
            ),
            fields(
                "TE twice",
                BAD_CODING,
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            ),
            fields(
                "TE identity after chunked",
                BAD_CODING,
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            ),
            refused(
                "TE on 1.0",
                BAD,
                "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
        ],
    );
}

#[test]
fn malformed_fields_are_refused() {
    let bench = Bench::start(&[]);
    check(
        &bench,
        &[
            fields("space before colon", BAD, "Transfer-Encoding : chunked\r\n"),
            fields("space in name", BAD, "X A: b\r\n"),
            fields("empty name", BAD, ": b\r\n"),
            fields("no colon", BAD, "X-A\r\n"),
            fields("obs-fold", BAD, "X-A: b\r\n c\r\n"),
            fields("bare LF", BAD, "X-A: b\n"),
            fields("bare CR", BAD, "X-A: b\rc\r\n"),
            fields("NUL", BAD, "X-A: b\0c\r\n"),
            refused(
                "leading space line",
                BAD,
                "GET / HTTP/1.1\r\n X: y\r\nHost: a.test\r\n\r\n",
            ),
            refused("all bare LF", BAD, "GET / HTTP/1.1\nHost: a.test\n\n"),
            hosts("no Host", ""),
            hosts("two Host", "Host: a.test\r\nHost: b.test\r\n"),
            hosts("two Host, same", "Host: a.test\r\nHost: a.test\r\n"),
            hosts("Host a/b", "Host: a/b\r\n"),
            hosts("Host user", "Host: u@a.test\r\n"),
            hosts("Host empty", "Host:\r\n"),
            hosts("Host list", "Host: a.test, b.test\r\n"),
            hosts("Host port", "Host: a.test:http\r\n"),
        ],
    );
}

#[test]
fn bad_request_lines_are_refused() {
    let bench = Bench::start(&[]);
    check(
        &bench,
        &[
            line("fragment", BAD, "GET /#frag HTTP/1.1"),
            line("raw UTF-8", BAD, "GET /caf\u{e9} HTTP/1.1"),
            line("%00", BAD, "GET /a%00b HTTP/1.1"),
            line("control", BAD, "GET /a\x01b HTTP/1.1"),
            line("space in target", BAD, "GET /a b HTTP/1.1"),
            line("method with space", BAD, "G ET / HTTP/1.1"),
            line("HTTP/1.2", BAD_VERSION, "GET / HTTP/1.2"),
            line("HTTP/2.0", BAD_VERSION, "GET / HTTP/2.0"),
            line("HTTP/0.9", BAD_VERSION, "GET / HTTP/0.9"),
            line("no version", BAD_VERSION, "GET /"),
            line("no slash", BAD, "GET foo HTTP/1.1"),
            line("userinfo in target", BAD, "GET http://u@a.test/ HTTP/1.1"),
            line("CONNECT", &[400, 405, 501], "CONNECT a.test:443 HTTP/1.1"),
        ],
    );
}

#[test]
fn malformed_chunks_are_refused_and_the_rest_is_never_forwarded() {
    let bench = Bench::start(&[]);
    let long = "x".repeat(100 << 10);
    check(
        &bench,
        &[
            chunks("bad size", "z\r\nhello\r\n0\r\n\r\n"),
            chunks("0x size", "0x5\r\nhello\r\n0\r\n\r\n"),
            chunks("size overflow", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
            chunks("no CRLF after data", "5\r\nhello0\r\n\r\n"),
            chunks("data too long", "5\r\nhello!\r\n0\r\n\r\n"),
            chunks("LF only", "5\nhello\n0\n\n"),
            chunks("LF after data", "5\r\nhello\n0\r\n\r\n"),
            chunks("LF in extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
            chunks("CR in extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
            chunks(
                "100 KB of extension",
                &format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
            ),
            chunks(
                "many extensions",
                &format!(
                    "{}0\r\n\r\n",
                    "5;0123456789abcdef\r\nhello\r\n".repeat(2000)
                ),
            ),
            chunks(
                "100 KB of trailers",
                &format!("5\r\nhello\r\n0\r\nX: {long}\r\n\r\n"),
            ),
            chunks("trailer CL", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
            chunks("trailer Host", "5\r\nhello\r\n0\r\nHost: b.test\r\n\r\n"),
            chunks(
                "trailer auth",
                "5\r\nhello\r\n0\r\nAuthorization: b\r\n\r\n",
            ),
            chunks("trailer space", "5\r\nhello\r\n0\r\nX : b\r\n\r\n"),
        ],
    );
}

#[test]
fn limits_have_answers_of_their_own() {
    let bench = Bench::start(&[]);
    let value = "b".repeat(70 << 10);
    let many = "X-A: b\r\n".repeat(200);
    let target = "a".repeat(20 << 10);
    check(
        &bench,
        &[
            fields("70 KB header", &[431], &format!("X-A: {value}\r\n")),
            fields("200 headers", &[431], &many),
            line("20 KB target", &[414], &format!("GET /{target} HTTP/1.1")),
            line(
                "70 KB target",
                &[414, 431],
                &format!("GET /{value} HTTP/1.1"),
            ),
        ],
    );
}

#[test]
fn good_requests_are_served() {
    let bench = Bench::start(&[]);
    let close = "Connection: close\r\n";
    let served = |name: &str, input: String, requests: usize| {
        Vector::new(name, input, &vec![[200].as_slice(); requests], requests)
    };
    let chunked =
        format!("POST /c HTTP/1.1\r\nHost: a\r\n{close}Transfer-Encoding: Chunked\r\n\r\n");
    check(
        &bench,
        &[
            served(
                "GET",
                format!("GET / HTTP/1.1\r\nHost: a.test:80\r\n{close}\r\n"),
                1,
            ),
            served(
                "GET 1.0",
                "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n".to_owned(),
                1,
            ),
            served(
                "CRLF before",
                format!("\r\nGET / HTTP/1.1\r\nHost: [::1]:80\r\n{close}\r\n"),
                1,
            ),
            served("chunked", format!("{chunked}5\r\nhello\r\n0\r\n\r\n"), 1),
            served(
                "extension",
                format!("{chunked}5;a=\"b\"\r\nhello\r\n0\r\n\r\n"),
                1,
            ),
            served(
                "pipelining",
                format!("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n{SMUGGLED}"),
                2,
            ),
            served(
                "pipelining behind a body",
                format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}"),
                2,
            ),
        ],
    );
}

#[test]
fn a_refusal_comes_behind_the_responses_before_it() {
    let bench = Bench::start(&[]);
    let good = "GET /good HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let bad = "GET /bad HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n";
    let input = format!("{good}{good}{bad}{SMUGGLED}");
    check(
        &bench,
        &[Vector::new(
            "good, good, bad",
            input,
            &[&[200], &[200], BAD],
            2,
        )],
    );
}

#[test]
fn the_host_of_an_absolute_target_replaces_the_field() {
    let bench = Bench::start(&[]);
    let exchange = bench.exchange(
        "GET http://real.test/a HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n",
    );
    let requests = bench.upstream.take();
    match exchange.responses[0].status {
        400 => assert!(requests.is_empty()),
        200 => {
            assert_eq!(requests[0].target(), "/a");
            assert!(
                !requests[0].head.contains("evil.test"),
                "{}",
                requests[0].head
            );
        }
        status => panic!("{status}"),
    }
}

#[test]
fn options_of_the_server_are_answered() {
    let bench = Bench::start(&[]);
    let head = "OPTIONS * HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let exchange = bench.exchange(head);
    assert!(
        matches!(exchange.responses[0].status, 200 | 204),
        "{exchange:?}"
    );
    for request in bench.upstream.take() {
        assert_eq!(request.target(), "*");
    }
}

#[test]
fn paths_are_matched_and_forwarded_normalised() {
    let bench = Bench::start(&[]);
    for (target, expected) in [
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a//b", "/a/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E/b?c=/../d", "/a/b?c=/../d"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        let exchange = bench.exchange(head);
        let requests = bench.upstream.take();
        assert_eq!(exchange.responses[0].status, 200, "{target}");
        assert_eq!(requests[0].target(), expected);
    }
    let above = bench.exchange("GET /../../x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    match (above.responses[0].status, bench.upstream.take().as_slice()) {
        (400, []) => {}
        (200, [request]) => assert_eq!(request.target(), "/x"),
        other => panic!("{other:?}"),
    }
}
