//! What an upstream sees, and what a client gets.

use axum::body::Body;
use axum::http::Response;

use crate::support::{LISTEN, Upstream, curl, gateway, status, url};

#[test]
fn a_request_arrives_as_it_was_sent_and_says_where_it_comes_from() {
    let upstream = Upstream::start();
    let plan = format!("{LISTEN}\nupstreams: {{ up: {{ endpoints: http://{{}} }} }}");
    let gateway = gateway(&plan, &[upstream.address]);
    let answer = curl(&[
        "-X",
        "PUT",
        "-d",
        "hello",
        "-H",
        "Connection: close, x-own",
        "-H",
        "x-own: 1",
        "-H",
        "x-forwarded-for: 6.6.6.6",
        "-H",
        "x-kept: 1",
        &url(&gateway, "/a/./b%2fc?q=%20"),
    ]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert!(answer.headers["via"].ends_with("outlast"));
    let seen = &upstream.seen()[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("PUT", "/a/b%2Fc?q=%20")
    );
    assert_eq!(&seen.body[..], b"hello");
    assert_eq!(seen.headers["x-kept"], "1");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers["x-forwarded-proto"], "http");
    assert_eq!(seen.headers["x-tier"], "important");
    assert_eq!(seen.headers["host"], gateway.addresses()[0].to_string());
    assert!(!seen.headers.contains_key("x-own"));
    let deadline: f64 = seen.headers["x-deadline"].parse().unwrap();
    let sent: f64 = seen.headers["x-deadline-sent"].parse().unwrap();
    assert!(
        (1.0..5.0).contains(&(deadline - sent)),
        "what is left of five seconds"
    );
}

#[test]
fn routes_choose_by_host_path_method_and_header_and_rewrite() {
    let (a, b) = (Upstream::start(), Upstream::start());
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes:
  canary: { match: { path: /api/**, headers: { x-canary: '1' } }, upstream: b, rewrite: /v2 }
  writes: { match: { method: [POST], host: '*.shop.test' }, upstream: b }
  api: { match: GET /api/*/items, upstream: a }
upstreams:
  a: { endpoints: http://{} }
  b: { endpoints: http://{}/base }
",
        &[a.address, b.address],
    );
    let ask = |arguments: &[&str], path: &str| {
        curl(&[arguments, &[&url(&gateway, path)]].concat()).status
    };
    assert_eq!(ask(&[], "/api/7/items"), 200);
    assert_eq!(a.seen().len(), 1);
    assert_eq!(ask(&["-H", "x-canary: 1"], "/api/7/items?x"), 200);
    assert_eq!(b.seen()[0].target, "/base/v2/7/items?x");
    assert_eq!(
        ask(&["-d", "x", "-H", "Host: eu.shop.test:80"], "/any"),
        200
    );
    assert_eq!(b.seen()[1].target, "/base/any");
    let refused = curl(&[&url(&gateway, "/api/7/other")]);
    assert_eq!(
        (refused.status, refused.json()["reason"].as_str()),
        (404, Some("no_route"))
    );
    assert_eq!(refused.headers["content-type"], "application/problem+json");
}

#[test]
fn bodies_of_twenty_megabytes_pass_both_ways_unchanged() {
    let upstream = Upstream::answering(|seen| Response::new(Body::from(seen.body.clone())));
    for protocol in ["http1", "http2"] {
        let plan = format!(
            "{LISTEN}\nupstreams: {{ up: {{ endpoints: http://{{}}, protocol: {protocol} }} }}"
        );
        let gateway = gateway(&plan, &[upstream.address]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("big");
        let big: Vec<u8> = (0..20_000_000_u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        std::fs::write(&file, &big).unwrap();
        let data = format!("@{}", file.display());
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            for framing in ["x: y", "transfer-encoding: chunked"] {
                let answer = curl(&[
                    version,
                    "--data-binary",
                    &data,
                    "-H",
                    framing,
                    &url(&gateway, "/"),
                ]);
                assert_eq!(answer.status, 200, "{protocol} {version} {framing}");
                assert!(answer.body == big, "{protocol} {version} {framing}");
            }
        }
    }
}

#[test]
fn answers_without_a_body_and_expectations_are_understood() {
    let upstream = Upstream::answering(|seen| match seen.target.as_str() {
        "/204" => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = axum::http::StatusCode::NO_CONTENT;
            response
        }
        "/304" => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = axum::http::StatusCode::NOT_MODIFIED;
            response
        }
        _ => Response::new(Body::from("12345")),
    });
    let plan = format!("{LISTEN}\nupstreams: {{ up: {{ endpoints: http://{{}} }} }}");
    let gateway = gateway(&plan, &[upstream.address]);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let ask = |arguments: &[&str], path: &str| {
            curl(&[&[version], arguments, &[&url(&gateway, path)]].concat())
        };
        let head = ask(&["--head"], "/");
        assert_eq!(
            (head.status, head.headers["content-length"].as_str()),
            (200, "5")
        );
        assert_eq!(ask(&[], "/204").status, 204);
        assert_eq!(ask(&[], "/304").status, 304);
        let expected = ask(&["-H", "Expect: 100-continue", "-d", "x"], "/");
        assert_eq!((expected.status, expected.text().as_str()), (200, "12345"));
        assert_eq!(ask(&["-H", "Expect: tea", "-d", "x"], "/").status, 417);
        // The same connections serve on.
        assert_eq!(ask(&[], "/").text(), "12345");
    }
}

#[test]
fn failures_of_the_upstream_itself_are_passed_on() {
    let upstream = Upstream::answering(|_| status(503));
    let plan = format!("{LISTEN}\nupstreams: {{ up: {{ endpoints: http://{{}} }} }}");
    let gateway = gateway(&plan, &[upstream.address]);
    let answer = curl(&[&url(&gateway, "/")]);
    assert_eq!((answer.status, answer.text().as_str()), (503, "status 503"));
}

#[test]
fn the_version_of_an_upstream_is_not_the_clients() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the process: nobody waits for it.
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{} } }
",
        &[address],
    );
    for (asked, told) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        let answer = curl(&[asked, &url(&gateway, "/")]);
        assert_eq!((answer.status, answer.version.as_str()), (200, told));
        assert_eq!(answer.headers["via"], "1.0 outlast");
    }
}
