//! What the gateway says of itself.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use outlast_gateway::Gateway;

use crate::clients::{NEEDS_PYTHON, script};
use crate::support::{Process, Upstream, curl, free_address, gateway, read, url, wait_until};

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

/// What the gRPC health service says of a service: a status, or why there is none.
pub(crate) fn grpc_check(gateway: &Gateway, service: &str) -> String {
    let address = gateway.admin_address().unwrap().to_string();
    let output = script("health_service.py", &[&address, "Check", service]).output();
    let said = String::from_utf8(output.expect(NEEDS_PYTHON).stdout).unwrap();
    said.lines().next().unwrap_or_default().to_owned()
}

/// A client that watches a service.
struct Watch {
    told: Arc<Mutex<Vec<String>>>,
    _client: Process,
}

impl Watch {
    fn of(gateway: &Gateway, service: &str) -> Watch {
        let address = gateway.admin_address().unwrap().to_string();
        let mut client = script("health_service.py", &[&address, "Watch", service])
            .stdout(Stdio::piped())
            .spawn()
            .expect(NEEDS_PYTHON);
        let lines = BufReader::new(client.stdout.take().unwrap()).lines();
        let told = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&told);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                noted.lock().unwrap().push(line);
            }
        });
        Watch {
            told,
            _client: Process(client),
        }
    }

    /// Waits until the last that it was told is this; all that it was told until then.
    fn until(&self, last: &str) -> Vec<String> {
        wait_until(last, || {
            self.told
                .lock()
                .unwrap()
                .last()
                .is_some_and(|told| told == last)
        });
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

#[test]
fn the_grpc_health_service_says_what_the_documents_say() {
    let upstream = Upstream::start();
    let dependency = free_address();
    let checks = format!(
        "store: {{ tcp: '{dependency}', interval: 50ms, timeout: 50ms, down_after: 1, groups: shop }}"
    );
    let gateway = gateway(&plan(&checks), &[upstream.address]);
    wait_until("the store was asked", || {
        ask(&gateway, "/health/startup").0 == 200
    });
    assert_eq!(grpc_check(&gateway, ""), "NOT_SERVING");
    assert_eq!(grpc_check(&gateway, "nobody"), "NOT_FOUND");
    let (all, shop) = (Watch::of(&gateway, ""), Watch::of(&gateway, "shop"));
    assert_eq!(all.until("NOT_SERVING").len(), 1);
    assert_eq!(shop.until("NOT_SERVING").len(), 1);

    let mut listener = None;
    wait_until("the store is there", || {
        listener = TcpListener::bind(dependency).ok();
        listener.is_some()
    });
    assert_eq!(all.until("SERVING").len(), 1);
    assert_eq!(shop.until("SERVING").len(), 1);
    assert_eq!(grpc_check(&gateway, ""), "SERVING");
    assert_eq!(grpc_check(&gateway, "shop"), "SERVING");

    drop(listener);
    assert_eq!(all.until("NOT_SERVING").len(), 1);
    // The other documents are there over HTTP/2, too.
    let live = format!("http://{}/health/live", gateway.admin_address().unwrap());
    let read = curl(&["--http2-prior-knowledge", &live]);
    assert_eq!((read.status, read.version.as_str()), (200, "2"));
}

#[test]
fn who_watches_goes_on_over_a_reload_and_is_told_of_the_drain() {
    let upstream = Upstream::start();
    let gateway = gateway(&plan(""), &[upstream.address]);
    let (all, shop) = (Watch::of(&gateway, ""), Watch::of(&gateway, "shop"));
    assert_eq!(all.until("SERVING").len(), 1);
    assert_eq!(shop.until("SERVICE_UNKNOWN").len(), 1);

    // A registry of its own, in which the store is down.
    let check = format!("store: {{ tcp: '{}', groups: shop }}", free_address());
    gateway
        .reload(read(&plan(&check), &[upstream.address]))
        .unwrap();
    all.until("NOT_SERVING");
    shop.until("NOT_SERVING");
    assert_eq!(grpc_check(&gateway, ""), "NOT_SERVING");
    gateway
        .reload(read(&plan(""), &[upstream.address]))
        .unwrap();
    assert_eq!(all.until("SERVING").len(), 1);
    assert_eq!(shop.until("SERVICE_UNKNOWN").len(), 1);

    gateway.drain();
    assert_eq!(all.until("NOT_SERVING").len(), 1);
    assert_eq!(grpc_check(&gateway, ""), "NOT_SERVING");
    drop(gateway);
    all.until("UNAVAILABLE");
}
