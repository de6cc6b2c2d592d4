//! Upstreams that die, hang and come back, under load.

use std::time::Duration;

use crate::support::{
    BROKE_OFF, Load, Upstream, curl, free_address, gateway, nginx, python_server, upstream_status,
    url, wait_until,
};

#[test]
fn a_killed_endpoint_is_not_noticed_when_another_is_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (free_address(), free_address());
    let mut first = python_server(a, folder.path());
    let _second = python_server(b, folder.path());
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, deadline: 10s }
routes: { all: { match: /**, upstream: up } }
upstreams:
  up:
    endpoints: { a: 'http://{}', b: 'http://{}' }
    failover: [a, b]
    retry: { attempts: 4, backoff: 10ms }
    budget: { reserve: 1000 }
    breaker: { consecutive: 3, cooldown: 300ms, successes: 1 }
",
        &[a, b],
    );
    let load = Load::start(&url(&gateway, "/hello"), 4);
    let count = |at: usize| upstream_status(&gateway, "up").endpoints[at].successes;
    wait_until("the first endpoint serves", || count(0) > 100);
    first.kill();
    let before = count(1);
    wait_until("the second endpoint serves", || count(1) > before + 100);
    let state = || {
        upstream_status(&gateway, "up").endpoints[0]
            .breaker
            .as_ref()
            .unwrap()
            .state
    };
    wait_until("the breaker knows", || state() != "closed");
    let _first = python_server(a, folder.path());
    let before = count(0);
    wait_until("the first endpoint serves again", || {
        count(0) > before + 100 && state() == "closed"
    });
    let results = load.end();
    // Python sends a head and its body one after the other, and may be killed in between.
    let failed: Vec<_> = results
        .iter()
        .filter(|(status, _)| ![200, BROKE_OFF].contains(status))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed: {failed:?}",
        failed.len(),
        results.len()
    );
}

#[test]
fn a_stopped_upstream_does_not_slow_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let stuck = python_server(address, folder.path());
    let healthy = Upstream::start();
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, deadline: 2s }
routes:
  stuck: { match: /hello, upstream: stuck }
  fine: { match: /fine, upstream: fine }
upstreams:
  stuck: { endpoints: http://{}, timeout: 1s, bulkhead: 10 }
  fine: { endpoints: http://{} }
",
        &[address, healthy.address],
    );
    stuck.signal("-STOP");
    let victims = Load::start(&url(&gateway, "/hello"), 20);
    wait_until("the bulkhead is full", || {
        upstream_status(&gateway, "stuck").bulkhead.unwrap().active == 10
    });
    let others = Load::start(&url(&gateway, "/fine"), 2);
    wait_until("the others are served", || healthy.seen().len() > 500);
    let others = others.end();
    assert!(others.iter().all(|(status, _)| *status == 200));
    let mut times: Vec<_> = others.iter().map(|(_, took)| *took).collect();
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 < Duration::from_millis(500), "{p99:?}");
    stuck.signal("-CONT");
    let before = upstream_status(&gateway, "stuck").endpoints[0].successes;
    wait_until("it recovers by itself", || {
        upstream_status(&gateway, "stuck").endpoints[0].successes > before + 10
    });
    let victims = victims.end();
    let is_known = |status: &u16| [200, 503, 504].contains(status);
    assert!(victims.iter().all(|(status, _)| is_known(status)));
}

#[test]
fn with_all_endpoints_dead_only_trials_are_made() {
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: up } }
upstreams:
  up: { endpoints: ['http://{}', 'http://{}'], breaker: { consecutive: 3, cooldown: 1m } }
",
        &[free_address(), free_address()],
    );
    for _ in 0..20 {
        curl(&[&url(&gateway, "/")]);
    }
    let state = upstream_status(&gateway, "up");
    assert!(
        state
            .endpoints
            .iter()
            .all(|endpoint| endpoint.breaker.as_ref().unwrap().state == "open")
    );
    let attempts = |at: usize| upstream_status(&gateway, "up").endpoints[at].transient;
    assert_eq!((attempts(0), attempts(1)), (3, 3));
    let refused = curl(&[&url(&gateway, "/")]);
    let problem = refused.json();
    assert_eq!(refused.status, 503);
    assert_eq!(
        (problem["reason"].as_str(), problem["upstream"].as_str()),
        (Some("open"), Some("up"))
    );
    let wait: u64 = refused.headers["retry-after"].parse().unwrap();
    assert!((30..=60).contains(&wait), "{wait}");
    assert_eq!((attempts(0), attempts(1)), (3, 3), "nobody was asked");
}

#[test]
fn no_answer_comes_long_after_its_deadline() {
    let upstream = Upstream::start();
    upstream.hangs(true);
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: up, deadline: 300ms } }
upstreams: { up: { endpoints: http://{} } }
",
        &[upstream.address],
    );
    let late = curl(&[&url(&gateway, "/")]);
    assert_eq!(
        (late.status, late.json()["reason"].as_str()),
        (504, Some("deadline"))
    );
    assert!(late.took < Duration::from_millis(800), "{:?}", late.took);
    // The client's own deadline, told as a difference of its clock.
    let headers = ["-H", "X-Deadline: 1000.1", "-H", "X-Deadline-Sent: 1000.0"];
    let late = curl(&[&headers[..], &[&url(&gateway, "/")]].concat());
    assert_eq!(late.status, 504);
    assert!(late.took < Duration::from_millis(600), "{:?}", late.took);
    let headers = ["-H", "X-Deadline: 1000.0", "-H", "X-Deadline-Sent: 1000.0"];
    let before = upstream.seen().len();
    assert_eq!(
        curl(&[&headers[..], &[&url(&gateway, "/")]].concat()).status,
        504
    );
    assert_eq!(
        upstream.seen().len(),
        before,
        "nothing is asked when nothing is left"
    );
}

#[test]
fn a_client_that_leaves_frees_its_seat() {
    let upstream = Upstream::start();
    upstream.hangs(true);
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{}, bulkhead: 5 } }
",
        &[upstream.address],
    );
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let url = url(&gateway, "/");
        let (seen, before) = (upstream.seen().len(), upstream.cancelled());
        let mut client = std::process::Command::new("curl")
            .args(["--silent", protocol, &url])
            .spawn()
            .unwrap();
        let active = || upstream_status(&gateway, "up").bulkhead.unwrap().active;
        wait_until("the upstream works", || upstream.seen().len() > seen);
        assert_eq!(active(), 1, "the seat is taken");
        client.kill().unwrap();
        client.wait().unwrap();
        wait_until("the seat is free", || active() == 0);
        wait_until("the upstream's work is cancelled", || {
            upstream.cancelled() > before
        });
        assert_eq!(upstream_status(&gateway, "up").endpoints[0].transient, 0);
    }
}

#[test]
fn idle_connections_that_the_upstream_closed_cost_no_failure() {
    let mut upstream = Upstream::start();
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, workers: 1 }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{} } }
",
        &[upstream.address],
    );
    for _ in 0..10 {
        assert_eq!(curl(&[&url(&gateway, "/")]).status, 200);
        upstream.stop();
        upstream.restart();
    }
    let status = upstream_status(&gateway, "up");
    assert_eq!(
        (status.endpoints[0].successes, status.endpoints[0].transient),
        (10, 0)
    );
}

#[test]
fn nginx_is_restarted_under_load_and_nobody_notices() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (free_address(), free_address());
    let start = |address: std::net::SocketAddr| nginx(address, folder.path());
    let (mut first, _second) = (start(a), start(b));
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: up } }
upstreams:
  up:
    endpoints: ['http://{}', 'http://{}']
    retry: { attempts: 4, backoff: 10ms }
    budget: { reserve: 1000 }
    balance: round_robin # or who was slow once, on a busy machine, is spared for long
    breaker: { consecutive: 3, cooldown: 200ms, successes: 1 }
",
        &[a, b],
    );
    let load = Load::start(&url(&gateway, "/"), 4);
    let count = || upstream_status(&gateway, "up").endpoints[0].successes;
    for _ in 0..3 {
        let before = count();
        wait_until("it serves", || count() > before + 200);
        first.kill();
        first = start(a);
    }
    let results = load.end();
    let failed = results.iter().filter(|(status, _)| *status != 200).count();
    assert_eq!(failed, 0, "of {}", results.len());
}

#[test]
fn a_shielded_request_goes_on_without_its_client() {
    let upstream = Upstream::start();
    upstream.hangs(true);
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: up, shield: true, deadline: 3s } }
upstreams: { up: { endpoints: http://{}, bulkhead: 5 } }
",
        &[upstream.address],
    );
    let mut client = std::process::Command::new("curl")
        .args(["--silent", "-d", "x", &url(&gateway, "/")])
        .spawn()
        .unwrap();
    let active = || upstream_status(&gateway, "up").bulkhead.unwrap().active;
    wait_until("the upstream works", || !upstream.seen().is_empty());
    assert_eq!(active(), 1, "the seat is taken");
    client.kill().unwrap();
    client.wait().unwrap();
    wait_until("the client is gone", || gateway.status().connections == 0);
    assert_eq!((active(), upstream.cancelled()), (1, 0), "the work goes on");
    wait_until("the deadline ends it", || active() == 0);
    assert_eq!(curl(&["-d", "x", &url(&gateway, "/")]).status, 504);
}

#[test]
fn an_answer_that_breaks_behind_its_head_is_replaced() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let broken = listener.local_addr().unwrap();
    // It ends with the process: nobody waits for it.
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        }
    });
    let healthy = Upstream::start();
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, workers: 1 }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: ['http://{}', 'http://{}'], failover: ['1', '2'], budget: { reserve: 100 } } }
",
        &[broken, healthy.address],
    );
    // Head and end may come one after the other; then the head has been passed on.
    let mut client = crate::support::Client::new(&url(&gateway, "/"));
    let statuses: Vec<_> = (0..50).map(|_| client.ask()).collect();
    assert!(
        statuses
            .iter()
            .all(|status| [200, BROKE_OFF].contains(status)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&200), "{statuses:?}");
}
