//! Reloading, draining and handing over, under load.

use std::sync::Mutex;
use std::time::Duration;

use outlast_gateway::{Gateway, Options};

use crate::support::{
    Load, Upstream, curl, free_address, gateway, read, resident_bytes, upstream_status, url,
    wait_until,
};

#[test]
fn a_thousand_reloads_fail_no_request_and_keep_state() {
    let upstream = Upstream::start();
    let address = free_address();
    let plan = |more: &str| {
        format!(
            "
gateway: {{ listen: {address}, admin: off, workers: 2 }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams:
  up: {{ endpoints: http://{{}}, breaker: {{ consecutive: 5 }} }}
  other: {{ endpoints: http://127.0.0.1:1{more} }}
"
        )
    };
    let plans = [
        read(&plan(""), &[upstream.address]),
        read(&plan(", timeout: 1s"), &[upstream.address]),
    ];
    let gateway = Gateway::start(plans[0].clone(), Options::default()).unwrap();
    let load = Load::start(&url(&gateway, "/"), 4);
    let reload = |number: usize| {
        let reloaded = gateway.reload(plans[number % 2].clone()).unwrap();
        assert_eq!((reloaded.kept(), reloaded.new_upstreams()), (1, 1));
    };
    (1..200).for_each(reload);
    let before = resident_bytes();
    (200..1000).for_each(reload);
    let grown = resident_bytes().saturating_sub(before);
    let served = upstream.seen().len() as u64;
    wait_until("requests go on", || {
        upstream.seen().len() as u64 > served + 100
    });
    let results = load.end();
    assert!(results.iter().all(|(status, _)| *status == 200));
    let successes = upstream_status(&gateway, "up").endpoints[0].successes;
    assert_eq!(successes, results.len() as u64, "its statistics were kept");
    // The upstream's own notes of its requests are in this process, too.
    let noted = upstream.seen().len() * 1200;
    assert!(grown < 20_000_000 + noted, "grew by {grown}");
}

#[test]
fn a_plan_that_cannot_be_served_changes_nothing() {
    let upstream = Upstream::start();
    let text = "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{} } }
";
    let gateway = gateway(text, &[upstream.address]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bad = text.replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    let error = gateway.reload(read(&bad, &[upstream.address])).unwrap_err();
    assert!(
        error.to_string().starts_with("could not listen on"),
        "{error}"
    );
    let bad = text.replace(
        "listen: 127.0.0.1:0",
        "listen: { address: '127.0.0.1:0', tls: { certificate: /nowhere.pem, key: /nowhere.key } }",
    );
    let error = gateway.reload(read(&bad, &[upstream.address])).unwrap_err();
    assert!(error.to_string().contains("/nowhere.pem"), "{error}");
    assert_eq!(curl(&[&url(&gateway, "/")]).status, 200);
}

#[test]
fn draining_finishes_what_is_in_flight() {
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let upstream = Upstream::threaded(move |_| {
        gate.lock().unwrap().recv().unwrap();
        axum::http::Response::new("done".into())
    });
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: 127.0.0.1:0 }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{} } }
",
        &[upstream.address],
    );
    let address = url(&gateway, "/");
    let waiting: Vec<_> = ["--http1.1", "--http2-prior-knowledge"]
        .into_iter()
        .map(|version| {
            let address = address.clone();
            std::thread::spawn(move || curl(&[version, &address]))
        })
        .collect();
    wait_until("both are in flight", || upstream.seen().len() == 2);
    let status = gateway.status();
    assert!(status.ready);
    assert_eq!(status.connections, 2);
    gateway.drain();
    assert!(!gateway.status().ready);
    open.send(()).unwrap();
    open.send(()).unwrap();
    for client in waiting {
        let answer = client.join().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    }
    wait_until("nothing new is accepted", || curl(&[&address]).status == 0);
    assert!(
        gateway.stop(Duration::from_secs(10)),
        "all ended by themselves"
    );
}

#[test]
fn what_does_not_end_is_ended() {
    let upstream = Upstream::start();
    upstream.hangs(true);
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, deadline: none }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{} } }
",
        &[upstream.address],
    );
    let address = url(&gateway, "/");
    let client = std::thread::spawn(move || curl(&[&address]));
    wait_until("it is in flight", || upstream.seen().len() == 1);
    assert!(!gateway.stop(Duration::from_millis(300)));
    assert_eq!(client.join().unwrap().status, 0);
}

#[test]
fn a_port_is_handed_over_without_a_failed_request() {
    let upstream = Upstream::start();
    let address = free_address();
    let plan = format!(
        "
gateway: {{ listen: {address}, admin: off, workers: 1 }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams: {{ up: {{ endpoints: http://{{}} }} }}
"
    );
    let start = || gateway(&plan, &[upstream.address]);
    let mut old = start();
    let load = Load::start(&url(&old, "/"), 4);
    for _ in 0..3 {
        let served = upstream.seen().len();
        wait_until("it serves", || upstream.seen().len() > served + 200);
        let new = start();
        assert!(old.stop(Duration::from_secs(10)));
        old = new;
    }
    let results = load.end();
    let failed = results.iter().filter(|(status, _)| *status != 200).count();
    assert_eq!(failed, 0, "of {}", results.len());
}
