//! More load than an upstream can take.

use std::time::Duration;

use crate::support::{Load, Upstream, curl, gateway, upstream_status, url, wait_until};

/// Ten at once, each for twenty milliseconds: five hundred a second.
fn busy() -> Upstream {
    let seats = std::sync::Arc::new((std::sync::Mutex::new(10), std::sync::Condvar::new()));
    Upstream::threaded(move |_| {
        let (free, changed) = &*seats;
        let mut free_now = changed
            .wait_while(free.lock().unwrap(), |free| *free == 0)
            .unwrap();
        *free_now -= 1;
        drop(free_now);
        std::thread::sleep(Duration::from_millis(20));
        *free.lock().unwrap() += 1;
        changed.notify_one();
        axum::http::Response::new("ok".into())
    })
}

#[test]
fn the_lowest_tier_is_shed_first_and_the_critical_one_served() {
    let upstream = busy();
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: 127.0.0.1:0, workers: 1 }
routes:
  pay: { match: /pay, upstream: up, tier: critical, deadline: 1s }
  read: { match: /read, upstream: up, deadline: 1s }
  hint: { match: /hint, upstream: up, tier: optional, deadline: 1s }
upstreams: { up: { endpoints: http://{}, shed: { limit: 10, queue: 30 } } }
",
        &[upstream.address],
    );
    let loads = ["/hint", "/read", "/pay"].map(|path| {
        let clients = if path == "/pay" { 8 } else { 40 };
        Load::start(&url(&gateway, path), clients)
    });
    let shed = |tier: &str| upstream_status(&gateway, "up").shed.unwrap().shed[tier];
    wait_until("the lowest tier is shed", || shed("optional") > 200);
    let status = upstream_status(&gateway, "up").shed.unwrap();
    assert_eq!(status.limit, 10);
    assert!(status.in_flight <= 10, "{}", status.in_flight);
    let page = curl(&[&format!(
        "http://{}/metrics",
        gateway.admin_address().unwrap()
    )])
    .text();
    for sample in [
        "outlast_concurrency_limit{upstream=\"up\"} 10",
        "outlast_instances_wanted{",
    ] {
        assert!(page.contains(sample), "{sample}: {page}");
    }
    let [hint, _, pay] = loads.map(Load::end);
    let share = |results: &[(u16, Duration)]| {
        let good = results.iter().filter(|(status, _)| *status == 200).count();
        good as f64 / results.len() as f64
    };
    assert!(share(&pay) > 0.99, "{} of {}", share(&pay), pay.len());
    assert!(share(&hint) < share(&pay) / 2.0, "{}", share(&hint));
    assert_eq!(shed("critical"), 0);
}

#[test]
fn what_is_shed_is_told_when_to_come_back() {
    let upstream = Upstream::start();
    upstream.hangs(true);
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, deadline: 2s }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{}, shed: { limit: 1, queue: 0 } } }
",
        &[upstream.address],
    );
    let address = url(&gateway, "/");
    let first = std::thread::spawn(move || curl(&[&address]));
    let in_flight = || upstream_status(&gateway, "up").shed.unwrap().in_flight;
    wait_until("the one is in flight", || in_flight() == 1);
    let refused = curl(&[&url(&gateway, "/")]);
    assert_eq!(
        (refused.status, refused.json()["reason"].as_str()),
        (503, Some("shed"))
    );
    assert_eq!(first.join().unwrap().status, 504);
    wait_until("it has been returned", || in_flight() == 0);
}

#[test]
fn each_client_is_told_what_is_left_of_its_rate() {
    let upstream = Upstream::start();
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{}, rate: { calls: 2, per: 1h, per_key: { header: X-Tenant } } } }
",
        &[upstream.address],
    );
    let ask = |tenant: &str| curl(&["-H", &format!("X-Tenant: {tenant}"), &url(&gateway, "/")]);
    let told = |answer: &crate::support::Curled| {
        let field = |name: &str| answer.headers[name].parse::<u64>().unwrap();
        (
            answer.status,
            field("ratelimit-limit"),
            field("ratelimit-remaining"),
        )
    };
    assert_eq!(told(&ask("ann")), (200, 2, 1));
    assert_eq!(told(&ask("ann")), (200, 2, 0));
    let refused = ask("ann");
    assert_eq!(told(&refused), (429, 2, 0));
    let wait: u64 = refused.headers["retry-after"].parse().unwrap();
    assert!((1790..=1800).contains(&wait), "{wait}");
    let reset: u64 = refused.headers["ratelimit-reset"].parse().unwrap();
    assert!((3590..=3600).contains(&reset), "{reset}");
    assert_eq!(told(&ask("bob")), (200, 2, 1));
}
