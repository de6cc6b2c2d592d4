//! The same with the clients and servers that people use.

use std::process::Command;

use crate::support::{Upstream, curl, gateway, url};

fn tls_files(folder: &std::path::Path) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(
        folder.join("key.pem"),
        certified.signing_key.serialize_pem(),
    )
    .unwrap();
    certified
}

#[test]
fn tls_agrees_on_a_protocol_and_asks_for_certificates() {
    let folder = tempfile::tempdir().unwrap();
    tls_files(folder.path());
    let upstream = Upstream::start();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let tls = format!("certificate: {cert}, key: {key}");
    let gateway = gateway(
        &format!(
            "
gateway:
  admin: off
  listen:
    - {{ address: '127.0.0.1:0', tls: {{ {tls} }} }}
    - {{ address: '127.0.0.1:0', tls: {{ {tls}, client_roots: {cert} }} }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams: {{ up: {{ endpoints: http://{{}} }} }}
"
        ),
        &[upstream.address],
    );
    let ports: Vec<_> = gateway
        .addresses()
        .iter()
        .map(|address| address.port())
        .collect();
    let ask = |port: u16, arguments: &[&str]| {
        let url = format!("https://localhost:{port}/");
        let resolve = format!("localhost:{port}:127.0.0.1");
        curl(
            &[
                &["--cacert", &cert, "--resolve", &resolve],
                arguments,
                &[&url],
            ]
            .concat(),
        )
    };
    let http1 = ask(ports[0], &["--http1.1"]);
    assert_eq!((http1.status, http1.version.as_str()), (200, "1.1"));
    let http2 = ask(ports[0], &["--http2"]);
    assert_eq!((http2.status, http2.version.as_str()), (200, "2"));
    assert_eq!(upstream.seen()[0].headers["x-forwarded-proto"], "https");
    assert_eq!(ask(ports[1], &[]).status, 0, "it wants a certificate");
    assert_eq!(ask(ports[1], &["--cert", &cert, "--key", &key]).status, 200);
}

#[test]
fn an_https_upstream_is_trusted_by_its_roots_only() {
    let folder = tempfile::tempdir().unwrap();
    tls_files(folder.path());
    let upstream = Upstream::start();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let tls = format!(
        "certificate: {}, key: {}",
        file("cert.pem"),
        file("key.pem")
    );
    // A second gateway is the HTTPS upstream of the first.
    let inner = gateway(
        &format!(
            "
gateway: {{ admin: off, listen: {{ address: '127.0.0.1:0', tls: {{ {tls} }} }} }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams: {{ up: {{ endpoints: http://{{}} }} }}
"
        ),
        &[upstream.address],
    );
    let outer = |tls: &str| {
        gateway(
            &format!(
                "
gateway: {{ admin: off, listen: 127.0.0.1:0 }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams: {{ up: {{ endpoints: https://{{}}, tls: {{ {tls} }} }} }}
"
            ),
            &[inner.addresses()[0]],
        )
    };
    let trusting = outer(&format!(
        "roots: {}, server_name: localhost",
        file("cert.pem")
    ));
    let answer = curl(&[&url(&trusting, "/")]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let other = tempfile::tempdir().unwrap();
    tls_files(other.path());
    let roots = other.path().join("cert.pem").display().to_string();
    let wary = outer(&format!("roots: {roots}, server_name: localhost"));
    let refused = curl(&[&url(&wary, "/")]);
    assert_eq!(
        (refused.status, refused.json()["reason"].as_str()),
        (502, Some("unreachable"))
    );
    let errors = wary.status().upstreams[0].last_errors.clone();
    assert!(
        errors[0].error.contains("TLS handshake failed"),
        "{errors:?}"
    );
}

#[test]
fn h2load_gets_all_its_answers() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let gateway = gateway(
            &format!(
                "
gateway: {{ admin: off, listen: 127.0.0.1:0 }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams: {{ up: {{ endpoints: http://{{}}, protocol: {protocol} }} }}
"
            ),
            &[upstream.address],
        );
        let output = Command::new("h2load")
            .args(["-n", "5000", "-c", "10", "-m", "10", &url(&gateway, "/")])
            .output()
            .expect("h2load is needed: apt-get install nghttp2-client");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("5000 succeeded, 0 failed, 0 errored"),
            "{protocol}: {text}"
        );
        assert!(
            text.contains("status codes: 5000 2xx"),
            "{protocol}: {text}"
        );
    }
}

/// One of the scripts in `tests/python`, which need the packages that are listed there.
pub(crate) fn script(name: &str, arguments: &[&str]) -> Command {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let python = std::env::var("OUTLAST_TEST_PYTHON")
        .unwrap_or_else(|_| format!("{root}/target/python/bin/python"));
    let mut command = Command::new(python);
    command
        .arg(format!(
            "{}/tests/python/{name}",
            env!("CARGO_MANIFEST_DIR")
        ))
        .args(arguments);
    command
}

pub(crate) const NEEDS_PYTHON: &str =
    "`cargo xtask test` makes the Python of the tests, with grpcio and websockets";

/// Runs a script to its end.
fn python(name: &str, arguments: &[&str]) {
    let output = script(name, arguments).output().expect(NEEDS_PYTHON);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[test]
fn grpcio_gets_what_it_expects() {
    let upstream = crate::support::free_address();
    let gateway = gateway(
        "
gateway: { admin: off, listen: 127.0.0.1:0, deadline: 10s }
routes: { all: { match: /**, upstream: up } }
upstreams:
  up:
    endpoints: http://{}
    protocol: http2
    retry: { attempts: 3, backoff: 10ms }
    budget: { reserve: 100 }
    bulkhead: 3
",
        &[upstream],
    );
    let address = gateway.addresses()[0].to_string();
    python("grpc_calls.py", &[&upstream.to_string(), &address]);
}

#[test]
fn a_websocket_echoes_through_a_route_that_allows_it() {
    let upstream = crate::support::free_address();
    let gateway = gateway(
        "
gateway: { admin: off, listen: 127.0.0.1:0 }
routes:
  socket: { match: /socket, upstream: up, upgrade: true }
  plain: { match: /plain, upstream: up }
upstreams: { up: { endpoints: http://{}, bulkhead: 1 } }
",
        &[upstream],
    );
    let address = gateway.addresses()[0].to_string();
    python("web_socket.py", &[&upstream.to_string(), &address]);
}
