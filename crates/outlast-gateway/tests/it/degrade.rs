//! Modes: what begins and ends them, who is told, and what is answered instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use outlast_gateway::{DegradeStatus, Gateway};

use crate::support::{Client, Curled, Upstream, curl, gateway, read, status, url, wait_until};

const ROUTES: &str = "
gateway: { listen: 127.0.0.1:0, admin: 127.0.0.1:0, workers: 2, deadline: 5s }
routes:
  checkout: { match: /checkout, upstream: up, tier: critical }
  recs: { match: /recs/**, upstream: up }
  extras: { match: /extras, upstream: up, tier: optional }
upstreams: { up: { endpoints: { main: http://{} }, fallback: { stale: 5m, enforce: false } } }
";

/// Recommendations are a feature with an answer of its own.
const FEATURES: &str = "
  features:
    recommendations:
      tier: optional
      routes: [recs]
      instead: { status: 203, headers: { content-type: application/json }, body: '[\"bestseller\"]' }
";

fn with(modes: &str) -> String {
    format!("{ROUTES}degrade:\n  window: 2s\n  min_calls: 5\n  modes: {modes}\n{FEATURES}")
}

fn state(gateway: &Gateway) -> DegradeStatus {
    gateway.status().degrade.expect("the plan has modes")
}

fn mode(gateway: &Gateway) -> String {
    state(gateway).mode
}

fn force(gateway: &Gateway, body: &str) -> Curled {
    let admin = gateway.admin_address().unwrap();
    curl(&["-d", body, &format!("http://{admin}/degrade")])
}

fn page(gateway: &Gateway) -> String {
    let admin = gateway.admin_address().unwrap();
    curl(&[&format!("http://{admin}/metrics")]).text()
}

/// Clients that ask for a path again and again, with a pause.
struct Visitors {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Vec<u16>>>,
}

impl Visitors {
    fn come(gateway: &Gateway, path: &str) -> Visitors {
        let stop = Arc::new(AtomicBool::new(false));
        let visitor = |_| {
            let (stop, url) = (Arc::clone(&stop), url(gateway, path));
            std::thread::spawn(move || {
                let mut client = Client::new(&url);
                let mut statuses = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    statuses.push(client.ask());
                    std::thread::sleep(Duration::from_millis(20));
                }
                statuses
            })
        };
        Visitors {
            threads: (0..6).map(visitor).collect(),
            stop,
        }
    }

    fn go(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        threads.flat_map(|thread| thread.join().unwrap()).collect()
    }
}

#[test]
fn a_slow_upstream_turns_a_mode_on_and_its_recovery_turns_it_off() {
    let upstream = Upstream::start();
    let plan = with(
        "{ lean: { when: { p50: '> 300ms', for: 1s }, off: { p50: '< 200ms', for: 2s }, disable: [optional] } }",
    );
    let gateway = gateway(&plan, &[upstream.address]);
    let visitors = Visitors::come(&gateway, "/checkout");
    assert_eq!(curl(&[&url(&gateway, "/recs/7")]).text(), "ok");
    assert_eq!(mode(&gateway), "normal");

    upstream.takes(Duration::from_millis(600));
    wait_until("the mode is lean", || mode(&gateway) == "lean");
    let evidence = state(&gateway).evidence.unwrap();
    assert!(evidence.starts_with("p50 > 300ms for "), "{evidence}");

    let instead = curl(&[&url(&gateway, "/recs/7")]);
    assert_eq!(
        (instead.status, instead.text().as_str()),
        (203, "[\"bestseller\"]")
    );
    assert_eq!(instead.headers["x-degraded"], "lean");
    assert_eq!(instead.headers["content-type"], "application/json");
    let refused = curl(&[&url(&gateway, "/extras")]);
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["reason"], "degraded");
    assert_eq!(refused.headers["x-degraded"], "lean");
    let wait: u64 = refused.headers["retry-after"].parse().unwrap();
    assert!(
        (2..=4).contains(&wait),
        "the calm it takes and up to half as much: {wait}"
    );
    let before = upstream.seen().len();
    wait_until("the upstream is told of the mode", || {
        let seen = upstream.seen();
        let mut later = seen[before..].iter();
        later.any(|seen| seen.headers.get("x-degraded").map(String::as_str) == Some("lean"))
    });
    assert!(upstream.seen().iter().all(|seen| seen.target != "/extras"));

    upstream.takes(Duration::ZERO);
    wait_until("the mode is over", || mode(&gateway) == "normal");
    assert_eq!(curl(&[&url(&gateway, "/recs/7")]).text(), "ok");
    let statuses = visitors.go();
    assert!(
        statuses.iter().all(|&status| status == 200),
        "what is critical goes on"
    );
    let switches: Vec<_> = state(&gateway)
        .switches
        .into_iter()
        .map(|switch| (switch.from, switch.to))
        .collect();
    let switch = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(
        switches,
        [switch("normal", "lean"), switch("lean", "normal")]
    );
    let page = page(&gateway);
    for line in [
        "outlast_mode{mode=\"normal\"} 1\n",
        "outlast_mode{mode=\"lean\"} 0\n",
        "outlast_mode_switches_total{mode=\"lean\"} 1\n",
        "outlast_degraded_total{route=\"recs\",answer=\"instead\"} 1\n",
        "outlast_degraded_total{route=\"extras\",answer=\"refused\"} 1\n",
        "outlast_degraded_total{route=\"checkout\",answer=\"refused\"} 0\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
}

#[test]
fn answers_given_in_place_of_a_feature_do_not_end_the_mode() {
    let upstream = Upstream::answering(|_| status(500));
    let plan = with(
        "{ lean: { when: { errors: '> 50%', for: 0s }, off: { for: 1s }, disable: [optional] } }",
    );
    let gateway = gateway(&plan, &[upstream.address]);
    let failing = Visitors::come(&gateway, "/checkout");
    wait_until("the mode is lean", || mode(&gateway) == "lean");
    let instead = Visitors::come(&gateway, "/recs/7");
    wait_until("many have been answered otherwise", || {
        let page = page(&gateway);
        let line = page.lines().find(|line| {
            line.starts_with("outlast_degraded_total{route=\"recs\",answer=\"instead\"}")
        });
        let count: u64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        count > 300
    });
    let signals = state(&gateway).signals;
    assert!(
        signals.errors.is_none_or(|errors| errors > 0.9),
        "{signals:?}"
    );
    assert!(instead.go().iter().all(|&status| status == 203));
    drop(failing.go());
}

#[test]
fn a_hand_decides_until_it_gives_back_or_its_time_is_over() {
    let upstream =
        Upstream::answering(|seen| Response::new(Body::from(format!("fresh {}", seen.target))));
    let gateway = gateway(
        &with("{ lean: { disable: [optional] } }"),
        &[upstream.address],
    );
    let forged = ["-H", "X-Degraded: forged"];
    curl(&[&forged[..], &[&url(&gateway, "/checkout")]].concat());
    assert_eq!(upstream.seen()[0].headers.get("x-degraded"), None);

    let answer = force(&gateway, "{\"mode\":\"lean\",\"for\":\"10m\"}");
    assert_eq!(
        (answer.status, answer.json()["mode"].as_str()),
        (200, Some("lean"))
    );
    assert!(answer.json()["forced_until"].is_number());
    assert_eq!(
        answer.json()["modes"][1]["features"]["recommendations"],
        false
    );
    assert_eq!(answer.json()["modes"][1]["tiers"]["critical"], true);
    assert_eq!(curl(&[&url(&gateway, "/recs/7")]).status, 203);
    assert_eq!(
        curl(&["-d", "x", &url(&gateway, "/recs/7")]).status,
        203,
        "a POST, too"
    );
    assert_eq!(force(&gateway, "{\"mode\":\"auto\"}").status, 200);
    assert_eq!(curl(&[&url(&gateway, "/recs/7")]).text(), "fresh /recs/7");

    force(&gateway, "{\"mode\":\"lean\",\"for\":\"1s\"}");
    assert_eq!(mode(&gateway), "lean");
    wait_until("the mode has expired", || mode(&gateway) == "normal");
    let latest = state(&gateway).switches.pop().unwrap();
    assert_eq!(latest.why, "what was forced by hand has expired");

    for (body, code, detail) in [
        ("{\"mode\":\"fat\"}", 404, "the modes are: normal, lean"),
        ("{\"mode\":\"lean\",\"for\":\"10\"}", 400, "needs a unit"),
        (
            "{\"mode\":\"lean\",\"for\":\"48h\"}",
            400,
            "between 1s and 24h",
        ),
        ("{\"mode\":\"auto\",\"for\":\"1h\"}", 400, "leave `for` out"),
        ("{\"mood\":\"lean\"}", 400, "\"for\": \"10m\""),
    ] {
        let refused = force(&gateway, body);
        assert_eq!(refused.status, code, "{body}");
        assert!(
            refused.text().contains(&detail.replace('"', "\\\"")),
            "{}",
            refused.text()
        );
    }
    let admin = format!("http://{}/degrade", gateway.admin_address().unwrap());
    let page = curl(&[
        "-H",
        "Origin: http://evil.test",
        "-d",
        "{\"mode\":\"lean\"}",
        &admin,
    ]);
    assert_eq!(page.status, 403);
}

#[test]
fn a_stale_copy_comes_before_a_refusal_and_grpc_is_refused_in_its_own_words() {
    let upstream =
        Upstream::answering(|seen| Response::new(Body::from(format!("fresh {}", seen.target))));
    let gateway = gateway(
        &with("{ lean: { disable: [optional] } }"),
        &[upstream.address],
    );
    curl(&[&url(&gateway, "/extras")]);
    force(&gateway, "{\"mode\":\"lean\"}");
    let asked = upstream.seen().len();
    let stale = curl(&[&url(&gateway, "/extras")]);
    assert_eq!(
        (stale.status, stale.text().as_str()),
        (200, "fresh /extras")
    );
    assert_eq!(stale.headers["x-degraded"], "lean");
    assert!(stale.headers["warning"].starts_with("110"));
    assert_eq!(curl(&[&url(&gateway, "/extras?other")]).status, 503);
    let grpc = [
        "--http2-prior-knowledge",
        "-H",
        "Content-Type: application/grpc",
        "-d",
        "x",
    ];
    for path in ["/extras", "/recs/7"] {
        let refused = curl(&[&grpc[..], &[&url(&gateway, path)]].concat());
        assert_eq!(
            refused.status, 200,
            "a gRPC client does not understand JSON: {path}"
        );
        assert_eq!(refused.headers["grpc-status"], "14");
        assert!(
            refused.headers["grpc-retry-pushback-ms"]
                .parse::<u64>()
                .unwrap()
                >= 1000
        );
    }
    assert_eq!(upstream.seen().len(), asked);
}

#[test]
fn stale_copies_stand_in_for_failures_but_not_for_a_definite_no() {
    let upstream =
        Upstream::answering(|seen| Response::new(Body::from(format!("fresh {}", seen.target))));
    let plan = with("{ survival: { serve_stale: true } }")
        .replace("fallback:", "outcomes: { 402: permanent }, fallback:");
    let gateway = gateway(&plan, &[upstream.address]);
    curl(&[&url(&gateway, "/checkout")]);
    upstream.answers(|_| status(500));
    assert_eq!(
        curl(&[&url(&gateway, "/checkout")]).status,
        500,
        "`fallback.enforce` is false"
    );
    force(&gateway, "{\"mode\":\"survival\"}");
    let stale = curl(&[&url(&gateway, "/checkout")]);
    assert_eq!(
        (stale.status, stale.text().as_str()),
        (200, "fresh /checkout")
    );
    assert_eq!(stale.headers["x-degraded"], "survival");
    upstream.answers(|_| status(402));
    assert_eq!(curl(&[&url(&gateway, "/checkout")]).status, 402);
    upstream.answers(|_| Response::new(Body::from("new")));
    assert_eq!(curl(&[&url(&gateway, "/checkout")]).text(), "new");
}

#[test]
fn a_reload_keeps_the_mode_unless_what_decides_about_it_has_changed() {
    let upstream = Upstream::answering(|_| status(500));
    let modes =
        "{ lean: { when: { errors: '> 50%', for: 0s }, off: { for: 1h }, disable: [optional] } }";
    let plan = with(modes);
    let gateway = gateway(&plan, &[upstream.address]);
    let visitors = Visitors::come(&gateway, "/checkout");
    wait_until("the mode is lean", || mode(&gateway) == "lean");
    drop(visitors.go());
    let reload = |plan: &str| gateway.reload(read(plan, &[upstream.address])).unwrap();
    let renamed = plan
        .replace("bestseller", "evergreen")
        .replace("extras:", "more:");
    reload(&renamed);
    assert_eq!(mode(&gateway), "lean", "by its own evidence");
    assert!(
        state(&gateway)
            .evidence
            .unwrap()
            .starts_with("errors > 50%")
    );
    assert_eq!(curl(&[&url(&gateway, "/recs/7")]).text(), "[\"evergreen\"]");

    reload(&with("{ lean: { disable: [optional] } }"));
    assert_eq!(mode(&gateway), "normal", "other modes begin anew");
    force(&gateway, "{\"mode\":\"lean\"}");
    reload(&plan);
    assert_eq!(mode(&gateway), "lean", "what a hand decided stays");
    reload(ROUTES);
    assert!(gateway.status().degrade.is_none());
    assert_eq!(force(&gateway, "{\"mode\":\"lean\"}").status, 404);
    assert_eq!(curl(&[&url(&gateway, "/recs/7")]).status, 500);
}

#[test]
fn an_open_breaker_is_a_sign_and_in_shadow_nothing_is_switched_off() {
    let upstream = Upstream::start();
    let modes = "{ lean: { when: { breaker: { open: up }, for: 0s }, off: { for: 1s }, disable: [optional] } }";
    let plan = with(modes)
        .replace("degrade:\n", "degrade:\n  enforce: false\n")
        .replace("fallback:", "breaker: on, fallback:");
    let gateway = gateway(&plan, &[upstream.address]);
    let admin = gateway.admin_address().unwrap();
    let breaker = format!("http://{admin}/upstreams/up/breaker");
    curl(&["-d", "{\"force\":\"open\"}", &breaker]);
    wait_until("the sign was seen", || state(&gateway).automatic == "lean");
    let seen = state(&gateway);
    assert_eq!((seen.mode.as_str(), seen.enforce), ("normal", false));
    assert_eq!(seen.signals.open, ["up"]);
    let latest = seen.switches.last().unwrap();
    assert!(
        latest.why.starts_with("breaker of up open"),
        "{}",
        latest.why
    );
    assert_eq!(curl(&[&url(&gateway, "/recs/7")]).json()["reason"], "open");
    curl(&["-d", "{\"force\":\"auto\"}", &breaker]);
    wait_until("the sign is gone", || state(&gateway).automatic == "normal");
    force(&gateway, "{\"mode\":\"lean\"}");
    assert_eq!(
        curl(&[&url(&gateway, "/recs/7")]).status,
        203,
        "a hand is not in shadow"
    );
}
