//! What the endpoints answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use http::Request;
use outlast::Health;
use outlast::health::{Config, Warmup};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};
use tower::ServiceExt;

use super::{MS, SECOND, eventually, quick, read};

#[tokio::test]
async fn ready_names_every_check_and_the_warmup() {
    let health = Health::new().unwrap();
    let works = Arc::new(AtomicBool::new(true));
    health
        .check("database", quick(), || async { Ok::<_, String>(()) })
        .unwrap();
    let asked = Arc::clone(&works);
    health
        .check("redis", quick(), move || {
            let works = asked.load(Ordering::SeqCst);
            async move { works.then_some(()).ok_or("connection \"refused\"") }
        })
        .unwrap();
    let first = read(&health, "/health/ready");
    let pending = json!({"database": "pending", "redis": "pending", "warmup": "complete"});
    assert_eq!(
        first,
        (503, json!({"status": "not ready", "checks": pending}))
    );

    health.until_ready().await;
    let checks = json!({"database": "ok", "redis": "ok", "warmup": "complete"});
    let ready = (200, json!({"status": "ready", "checks": checks}));
    assert_eq!(read(&health, "/health/ready"), ready);

    works.store(false, Ordering::SeqCst);
    eventually("redis is down", || !health.is_ready()).await;
    let checks = json!({
        "database": "ok",
        "redis": "error: connection \"refused\"",
        "warmup": "complete",
    });
    let not_ready = (503, json!({"status": "not ready", "checks": checks}));
    assert_eq!(read(&health, "/health/ready"), not_ready);
    assert_eq!(read(&health, "/health/live").0, 200);

    works.store(true, Ordering::SeqCst);
    health.until_ready().await;
    assert_eq!(read(&health, "/health/ready"), ready);
}

#[tokio::test]
async fn warmup_gates_start_and_readiness_and_draining_readiness_only() {
    let health = Health::new().unwrap();
    health.set_warmup(Warmup::Running);
    let down = || async { Err::<(), _>("down") };
    health.check("mail", quick().critical(false), down).unwrap();
    health
        .check("db", quick(), || async { Ok::<_, String>(()) })
        .unwrap();
    eventually("mail is down", || !health.snapshot().is_sound()).await;
    eventually("db is up", || {
        health.snapshot().checks()[1].last().is_some()
    })
    .await;
    let checks = json!({"mail": "error: down", "db": "ok", "warmup": "running"});
    assert_eq!(
        read(&health, "/health/startup"),
        (503, json!({"status": "starting", "checks": checks}))
    );
    assert_eq!(read(&health, "/health/ready").0, 503);

    health.set_warmup(Warmup::Complete);
    let started = (200, json!({"status": "started"}));
    assert_eq!(read(&health, "/health/startup"), started);
    assert_eq!(read(&health, "/health/ready").0, 200);

    health.set_draining(true);
    let checks = json!({
        "mail": "error: down", "db": "ok", "warmup": "complete", "drain": "draining",
    });
    assert_eq!(
        read(&health, "/health/ready"),
        (503, json!({"status": "not ready", "checks": checks}))
    );
    assert_eq!(read(&health, "/health/live").0, 200);
    assert_eq!(read(&health, "/health/startup"), started);
    health.set_draining(false);
    assert_eq!(read(&health, "/health/ready").0, 200);
}

#[tokio::test]
async fn live_tells_the_time_and_unknown_paths_are_unknown() {
    let health = Health::new().unwrap();
    let (status, document) = read(&health, "/health/live");
    assert_eq!((status, &document["status"]), (200, &json!("alive")));
    assert!(document["timestamp"].as_f64().unwrap() > 1.7e9);
    for path in [
        "/health",
        "/health/",
        "/live",
        "/health/ready/nobody",
        "/health/liveness",
    ] {
        assert_eq!(health.answer(path), None, "{path}");
    }
}

#[tokio::test]
async fn a_group_has_a_readiness_of_its_own() {
    let health = Health::new().unwrap();
    let informative = || quick().critical(false);
    health
        .check("stripe", informative().group("payments"), || async {
            Err::<(), _>("down")
        })
        .unwrap();
    health
        .check("db", quick().group("stock"), || async {
            Ok::<_, String>(())
        })
        .unwrap();
    health.until_ready().await;
    eventually("stripe is down", || !health.snapshot().is_sound()).await;
    let checks = json!({"stripe": "error: down", "warmup": "complete"});
    assert_eq!(
        read(&health, "/health/ready/payments"),
        (503, json!({"status": "not ready", "checks": checks}))
    );
    let checks = json!({"db": "ok", "warmup": "complete"});
    assert_eq!(
        read(&health, "/health/ready/stock"),
        (200, json!({"status": "ready", "checks": checks}))
    );
}

#[tokio::test(start_paused = true)]
async fn deep_shows_latency_age_and_failures() {
    let health = Health::new().unwrap();
    let works = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&works);
    let config = Config::default()
        .interval(SECOND)
        .jitter(outlast::ratio::Ratio::ZERO);
    health
        .check("db", config, move || {
            let works = asked.load(Ordering::SeqCst);
            async move {
                sleep(20 * MS).await;
                works.then_some(()).ok_or("lost")
            }
        })
        .unwrap();
    health.until_ready().await;
    works.store(false, Ordering::SeqCst);
    sleep(1500 * MS).await;
    let (status, document) = read(&health, "/health/deep");
    assert_eq!(
        status, 200,
        "one failure of three takes nothing down: {document}"
    );
    let db = &document["db"];
    assert_eq!(
        (
            &db["status"],
            &db["failures"],
            &db["error"],
            &db["critical"]
        ),
        (&json!("ok"), &json!(1), &json!("lost"), &json!(true))
    );
    let millis = |key: &str| db[key].as_f64().unwrap();
    assert!((20.0..30.0).contains(&millis("latency_ms")), "{db}");
    assert!((490.0..510.0).contains(&millis("age_ms")), "{db}");
    sleep(2 * SECOND).await;
    let (status, document) = read(&health, "/health/deep");
    assert_eq!((status, &document["db"]["status"]), (503, &json!("error")));
}

/// A check whose probes are counted and take a while.
fn counted(health: &Health, name: &str, config: Config) -> Arc<AtomicU32> {
    let probes = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&probes);
    health
        .check(name, config, move || {
            count.fetch_add(1, Ordering::SeqCst);
            async {
                sleep(100 * MS).await;
                Ok::<_, String>(())
            }
        })
        .unwrap();
    probes
}

/// A thousand requests for the deep document, all at once; all are answered with 200.
async fn thousand(router: &Router) {
    let mut requests = JoinSet::new();
    for _ in 0..1000 {
        let request = Request::get("/health/deep").body(Body::empty()).unwrap();
        requests.spawn(router.clone().oneshot(request));
    }
    while let Some(response) = requests.join_next().await {
        let response = response.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .unwrap();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            document["export"]["status"], "ok",
            "everybody sees the result"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_deep_requests_cause_one_probe_per_check_and_interval() {
    let health = Health::new().unwrap();
    let config = || Config::default().jitter(outlast::ratio::Ratio::ZERO);
    let database = counted(&health, "database", config());
    let export = counted(&health, "export", config().critical(false).on_demand(true));
    let router = health.routes();
    let count = || {
        (
            database.load(Ordering::SeqCst),
            export.load(Ordering::SeqCst),
        )
    };
    sleep(4 * SECOND).await;
    assert_eq!(count(), (1, 0), "nobody has asked for the one on demand");
    thousand(&router).await;
    thousand(&router).await;
    assert_eq!(count(), (1, 1));
    sleep(3 * SECOND).await;
    thousand(&router).await;
    assert_eq!(
        count(),
        (2, 1),
        "the last result is younger than an interval"
    );
    sleep(3 * SECOND).await;
    thousand(&router).await;
    assert_eq!(count(), (3, 2));
    // Ten seconds at 1,000 requests per second.
    for _ in 0..10_000 {
        assert_eq!(health.answer("/health/deep").unwrap().status, 200);
        advance(MS).await;
    }
    let (database, export) = count();
    assert!(database <= 5 && export <= 4, "{database} {export}");
    assert!(database >= 4 && export >= 3, "{database} {export}");
}

#[tokio::test]
async fn a_service_serves_them_on_a_socket() {
    let health = Health::new().unwrap();
    health
        .check("db", quick().group("stock"), || async {
            Ok::<_, String>(())
        })
        .unwrap();
    health.until_ready().await;
    let nested = Router::new().nest("/internal", health.routes());
    let url = crate::services::serve(nested.merge(health.routes())).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let code = async |path: &str| {
        let response = client.get(format!("{url}{path}")).send().await.unwrap();
        response.status().as_u16()
    };
    for path in [
        "/health/live",
        "/health/startup",
        "/health/ready",
        "/health/ready/stock",
        "/health/deep",
        "/internal/health/ready",
    ] {
        assert_eq!(code(path).await, 200, "{path}");
    }
    assert_eq!(code("/health/ready/nobody").await, 404);
    health.set_draining(true);
    assert_eq!(code("/health/ready").await, 503);
    assert_eq!(code("/health/ready/stock").await, 503);
    assert_eq!(code("/health/live").await, 200);
}
