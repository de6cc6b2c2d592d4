//! What the gateway says of itself.

use std::net::TcpListener;

use outlast_gateway::Gateway;

use crate::support::{Upstream, curl, free_address, gateway, read, url, wait_until};

fn plan(checks: &str) -> String {
    format!(
        "
gateway: {{ listen: 127.0.0.1:0, admin: 127.0.0.1:0, workers: 1 }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams: {{ up: {{ endpoints: http://{{}}, breaker: {{ consecutive: 3, cooldown: 1m }} }} }}
health: {{ checks: {{ {checks} }} }}
"
    )
}

fn ask(gateway: &Gateway, path: &str) -> (u16, serde_json::Value) {
    let url = format!("http://{}{path}", gateway.admin_address().unwrap());
    let answer = curl(&[&url]);
    (answer.status, answer.json())
}

#[test]
fn it_is_ready_when_what_it_needs_is_there() {
    let upstream = Upstream::start();
    let dependency = free_address();
    let checks = "store: { tcp: '{}', interval: 100ms, timeout: 100ms, down_after: 2 }";
    let checks = checks.replace("{}", &dependency.to_string());
    let gateway = gateway(&plan(&checks), &[upstream.address]);
    let ready = || ask(&gateway, "/health/ready");
    wait_until("it knows of the dependency", || {
        ready().1["checks"]["store"]
            .as_str()
            .is_some_and(|said| said.starts_with("error: "))
    });
    assert_eq!(
        (ready().0, ready().1["status"].as_str()),
        (503, Some("not ready"))
    );
    assert_eq!(
        ask(&gateway, "/health/startup").0,
        200,
        "it has started: everything has been asked once"
    );
    assert_eq!(
        ask(&gateway, "/health/live").0,
        200,
        "a dependency is no reason to restart"
    );
    let mut listener = None;
    wait_until("the dependency is there", || {
        listener = TcpListener::bind(dependency).ok();
        listener.is_some()
    });
    wait_until("it is ready", || ready().0 == 200);
    assert_eq!(ready().1["checks"]["store"], "ok");
    drop(listener);
    wait_until("it is not ready again", || ready().0 == 503);
    assert_eq!(
        curl(&[&url(&gateway, "/")]).status,
        200,
        "and serves who asks"
    );
}

#[test]
fn the_deep_document_shows_breakers_and_draining_is_not_ready() {
    let gateway = gateway(&plan(""), &[free_address()]);
    assert_eq!(ask(&gateway, "/health/ready").0, 200);
    for _ in 0..4 {
        curl(&[&url(&gateway, "/")]);
    }
    wait_until("the breaker is seen", || {
        ask(&gateway, "/health/deep").0 == 503
    });
    let (_, deep) = ask(&gateway, "/health/deep");
    assert_eq!(deep["up"]["status"], "error", "{deep}");
    assert_eq!(
        ask(&gateway, "/health/ready").0,
        200,
        "its upstreams are informative"
    );
    assert_eq!(ask(&gateway, "/health/nothing").0, 404);
    gateway.drain();
    assert_eq!(ask(&gateway, "/health/ready").0, 503);
    assert_eq!(ask(&gateway, "/health/live").0, 200);
}

#[test]
fn checks_that_stay_the_same_go_on_over_a_reload() {
    let upstream = Upstream::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let check = |name: &str| {
        let address = listener.local_addr().unwrap();
        plan(&format!(
            "{name}: {{ tcp: '{address}', interval: 1h, jitter: 0% }}"
        ))
    };
    let gateway = gateway(&check("one"), &[upstream.address]);
    let says = |name: &str| {
        let (_, ready) = ask(&gateway, "/health/ready");
        ready["checks"][name].as_str().map(str::to_owned)
    };
    wait_until("it was probed", || says("one").as_deref() == Some("ok"));
    gateway
        .reload(read(&check("one"), &[upstream.address]))
        .unwrap();
    assert_eq!(
        says("one").as_deref(),
        Some("ok"),
        "not probed anew, which takes a while"
    );
    gateway
        .reload(read(&check("two"), &[upstream.address]))
        .unwrap();
    assert_eq!(says("one"), None);
    wait_until("the new one is probed", || {
        says("two").as_deref() == Some("ok")
    });
    let bad = plan("three: { http: 'https://127.0.0.1:1/' }");
    let error = gateway.reload(read(&bad, &[upstream.address])).unwrap_err();
    assert!(
        error.to_string().starts_with("health.checks.three: "),
        "{error}"
    );
    assert_eq!(says("two").as_deref(), Some("ok"));
}
