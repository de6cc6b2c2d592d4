//! The operators' listener.

use outlast_gateway::{Gateway, Options};

use crate::health::grpc_check;
use crate::support::{LISTEN, Upstream, curl, gateway, read, upstream_status, url, wait_until};

fn admin(gateway: &Gateway, path: &str) -> String {
    format!("http://{}{path}", gateway.admin_address().unwrap())
}

const UP: &str = "upstreams: { up: { endpoints: { main: http://{} }, breaker: on, bulkhead: 10 } }";

#[test]
fn health_status_and_metrics_are_told() {
    let upstream = Upstream::start();
    let gateway = gateway(&format!("{LISTEN}{UP}"), &[upstream.address]);
    assert_eq!(curl(&[&url(&gateway, "/")]).status, 200);
    assert_eq!(
        curl(&[&admin(&gateway, "/health/live")]).json()["status"],
        "alive"
    );
    assert_eq!(
        curl(&[&admin(&gateway, "/health/ready")]).json()["status"],
        "ready"
    );
    assert_eq!(curl(&[&admin(&gateway, "/health/startup")]).status, 200);
    let bulkheads = curl(&[&admin(&gateway, "/metrics/bulkheads")]).json();
    assert_eq!(bulkheads[0]["concurrency"], 10);
    let status = curl(&[&admin(&gateway, "/status")]).json();
    assert_eq!(status["routes"][0]["requests"]["2xx"], 1);
    assert_eq!(status["upstreams"][0]["endpoints"][0]["successes"], 1);
    let page = curl(&[&admin(&gateway, "/metrics")]).text();
    assert!(
        page.contains("outlast_requests_total{route=\"all\",status=\"2xx\"} 1\n"),
        "{page}"
    );
    check_exposition(&page);
}

#[test]
fn measurements_are_told_in_full_and_cut_attempts_are_among_them() {
    let upstream = Upstream::start();
    let plan = format!(
        "{LISTEN}upstreams: {{ up: {{ endpoints: {{ main: http://{{}} }}, timeout: 100ms, \
         breaker: {{ failures: 3, within: 14 }}, bulkhead: {{ concurrency: 10, queue: 5 }} }} }}"
    );
    let gateway = gateway(&plan, &[upstream.address]);
    let ask = || curl(&[&url(&gateway, "/")]).status;
    assert_eq!((ask(), ask()), (200, 200));
    upstream.hangs(true);
    assert_eq!(ask(), 504);
    let told = || curl(&[&admin(&gateway, "/status")]).json();
    let status = told();
    let up = &status["upstreams"][0];
    let sum = |buckets: &serde_json::Value| -> u64 {
        let buckets = buckets.as_array().unwrap().iter();
        buckets.map(|pair| pair[1].as_u64().unwrap()).sum()
    };
    assert_eq!(sum(&up["samples"]["answered"]), 2);
    assert_eq!(sum(&up["samples"]["cut"]), 1);
    let cut = up["samples"]["cut"][0][0].as_f64().unwrap();
    assert!((100.0..200.0).contains(&cut), "{cut}");
    let (at, since) = (&status["at"], &up["samples"]["since"]);
    assert!(at.as_f64() > since.as_f64(), "{at} {since}");
    let settings = serde_json::json!({
        "timeout_ms": 100.0, "deadline_ms": 5000.0, "concurrency": 10, "queue": 5,
        "hedge_ms": null, "hedge_quantile": null, "consecutive": null, "failures": 3,
        "failure_ratio": null, "slow_ms": null, "slow_ratio": null,
        "failures_within": 14, "failures_within_ms": null,
        "attempts": 1, "budget": 0.1,
    });
    assert_eq!(up["settings"], settings);
    wait_until("a second with attempts is told", || {
        let status = told();
        let samples = &status["upstreams"][0]["samples"];
        let seconds = samples["seconds"].as_array().unwrap().iter();
        // Whatever was asked before the first look belongs to no second.
        upstream.hangs(false);
        assert_eq!(ask(), 200);
        let busy = seconds.filter(|pair| pair[0].as_u64() > Some(0)).count();
        busy > 0 && samples["busiest"].as_u64() > Some(0)
    });
}

/// Every sample belongs to a family, has a number, and histograms only grow.
fn check_exposition(page: &str) {
    let mut family = "";
    let mut last: Option<(String, f64)> = None;
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(sample.starts_with(family), "{line} is not of {family}");
        if let Some((series, _)) = sample.split_once("le=\"") {
            if let Some((before, count)) = &last
                && before == series
            {
                assert!(value >= *count, "{line}");
            }
            last = Some((series.to_owned(), value));
        }
    }
}

#[test]
fn a_breaker_is_forced_and_given_back() {
    let upstream = Upstream::start();
    let gateway = gateway(&format!("{LISTEN}{UP}"), &[upstream.address]);
    let force = |body: &str| curl(&["-d", body, &admin(&gateway, "/upstreams/up/breaker")]);
    assert_eq!(force("{\"force\":\"open\"}").status, 200);
    let refused = curl(&[&url(&gateway, "/")]);
    assert_eq!(
        (refused.status, refused.json()["reason"].as_str()),
        (503, Some("open"))
    );
    assert_eq!(
        force("{\"force\":\"auto\",\"endpoint\":\"main\"}").status,
        200
    );
    assert_eq!(curl(&[&url(&gateway, "/")]).status, 200);
    assert_eq!(force("{\"force\":\"ajar\"}").status, 400);
    assert_eq!(
        force("{\"force\":\"open\",\"endpoint\":\"other\"}").status,
        404
    );
    let missing = admin(&gateway, "/upstreams/nobody/breaker");
    assert_eq!(curl(&["-d", "{\"force\":\"open\"}", &missing]).status, 404);
}

#[test]
fn changing_needs_the_token_and_no_web_page() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let plan = format!(
        "gateway: {{ listen: 127.0.0.1:0, admin: {{ address: '127.0.0.1:0', token: {{ file: {} }} }} }}",
        token.display()
    );
    let gateway = gateway(&plan, &[]);
    let drain = admin(&gateway, "/drain");
    assert_eq!(curl(&["-X", "POST", &drain]).status, 401);
    let ask = |token: &str, more: &[&str]| {
        let header = format!("Authorization: Bearer {token}");
        curl(&[&["-X", "POST", "-H", &header], more, &[&drain]].concat()).status
    };
    assert_eq!(ask("s3cre", &[]), 401);
    assert_eq!(ask("s3cret", &["-H", "Origin: http://evil.test"]), 403);
    assert_eq!(curl(&[&admin(&gateway, "/health/ready")]).status, 200);
    assert_eq!(grpc_check(&gateway, ""), "SERVING");
    assert_eq!(ask("s3cret", &[]), 202);
    assert_eq!(curl(&[&admin(&gateway, "/health/ready")]).status, 503);
    assert_eq!(curl(&[&admin(&gateway, "/health/live")]).status, 200);
}

#[test]
fn a_token_that_is_not_there_keeps_it_from_starting() {
    let plan = "gateway: { listen: 127.0.0.1:0, admin: { address: '127.0.0.1:0', token: { env: OUTLAST_NO_SUCH } } }";
    let error = Gateway::start(read(plan, &[]), Options::default()).unwrap_err();
    assert!(
        error.to_string().contains("OUTLAST_NO_SUCH is not set"),
        "{error}"
    );
    let public = "gateway: { listen: 127.0.0.1:0, admin: 0.0.0.0:0 }";
    let problems = outlast_config::parse("plan.yaml", public).unwrap_err();
    assert!(
        problems.to_string().contains("can be reached by others"),
        "{problems}"
    );
}

#[test]
fn reloading_by_request_says_what_changed() {
    let upstream = Upstream::start();
    let text = format!("{LISTEN}{UP}");
    let plan = read(&text, &[upstream.address]);
    let (again, bad) = (plan.clone(), std::sync::atomic::AtomicBool::new(false));
    let reload = move || match bad.fetch_not(std::sync::atomic::Ordering::Relaxed) {
        false => Ok(again.clone()),
        true => Err("line 3 is wrong".to_owned()),
    };
    let options = Options {
        reload: Some(std::sync::Arc::new(reload)),
        ..Options::default()
    };
    let gateway = Gateway::start(plan, options).unwrap();
    curl(&[&url(&gateway, "/")]);
    let reloaded = curl(&["-X", "POST", &admin(&gateway, "/reload")]);
    assert_eq!(
        reloaded.json()["reloaded"],
        "1 upstreams kept their state, 0 are new, 0 are gone"
    );
    assert_eq!(upstream_status(&gateway, "up").endpoints[0].successes, 1);
    let refused = curl(&["-X", "POST", &admin(&gateway, "/reload")]);
    assert_eq!(
        (refused.status, refused.json()["detail"].as_str()),
        (422, Some("line 3 is wrong"))
    );
    assert_eq!(curl(&[&url(&gateway, "/")]).status, 200);
}
