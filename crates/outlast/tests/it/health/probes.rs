//! The ready-made probes, on real servers.

use axum::Router;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::get;
use outlast::breaker::Manual;
use outlast::health::{Config, Status, probe};
use outlast::ratio::Ratio;
use outlast::{Config as Policies, Health, Upstream, breaker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::servers::{PASSWORD, Postgres, Redis};
use super::{MS, SECOND, eventually, status};

#[tokio::test]
async fn tcp_is_up_while_somebody_accepts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let by_name = probe::tcp(&format!("localhost:{}", address.port())).unwrap();
    let by_number = probe::tcp(&address.to_string()).unwrap();
    assert_eq!(by_number().await, Ok(()));
    assert_eq!(by_name().await, Ok(()));
    drop(listener);
    let error = by_number().await.unwrap_err();
    assert!(
        error.starts_with(&format!("connecting to {address}: ")),
        "{error}"
    );
    let nowhere = probe::tcp("no-such-host.invalid:1").unwrap();
    let error = nowhere().await.unwrap_err();
    assert!(
        error.starts_with("looking up no-such-host.invalid: "),
        "{error}"
    );
}

#[tokio::test]
async fn http_is_up_with_a_status_of_success() {
    let router = Router::new()
        .route("/ok", get(|| async { "x".repeat(100_000) }))
        .route("/empty", get(|| async { StatusCode::NO_CONTENT }))
        .route("/moved", get(|| async { Redirect::to("/ok") }))
        .route("/down", get(|| async { StatusCode::SERVICE_UNAVAILABLE }));
    let url = crate::services::serve(router).await;
    let ask = async |path: &str| probe::http(&format!("{url}{path}")).unwrap()().await;
    assert_eq!(ask("/ok").await, Ok(()));
    assert_eq!(ask("/empty?a=b").await, Ok(()));
    assert_eq!(ask("/moved").await, Err("it answered 303".to_owned()));
    assert_eq!(ask("/down").await, Err("it answered 503".to_owned()));
    assert_eq!(ask("/none").await, Err("it answered 404".to_owned()));
    assert_eq!(ask("").await, Err("it answered 404".to_owned()));
}

/// A server that accepts and then says this and nothing else.
async fn says(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.write_all(answer).await;
                // It stays connected until the other side goes.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_server_that_speaks_otherwise_or_not_at_all_is_down() {
    let port = says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    let http = probe::http(&format!("http://127.0.0.1:{port}/")).unwrap();
    assert_eq!(http().await, Err("its answer is not HTTP/1".to_owned()));
    let redis = probe::redis(&format!("redis://127.0.0.1:{port}")).unwrap();
    assert!(redis().await.unwrap_err().contains("which is not +PONG"));

    let silent = says(b"").await;
    let health = Health::new().unwrap();
    let config = || Config::default().interval(100 * MS).timeout(100 * MS);
    let http = probe::http(&format!("http://127.0.0.1:{silent}/")).unwrap();
    let redis = probe::redis(&format!("redis://127.0.0.1:{silent}")).unwrap();
    let postgres = probe::postgres(&format!("postgres://u@127.0.0.1:{silent}/d")).unwrap();
    let grpc = probe::grpc(&format!("http://127.0.0.1:{silent}"), "").unwrap();
    health.check("http", config(), http).unwrap();
    health.check("redis", config(), redis).unwrap();
    health.check("postgres", config(), postgres).unwrap();
    health.check("grpc", config(), grpc).unwrap();
    for name in ["http", "redis", "postgres", "grpc"] {
        eventually(name, || status(&health, name) == Status::Down).await;
        let error = super::error(&health, name);
        assert!(error.starts_with("no answer within"), "{name}: {error}");
    }
}

#[tokio::test]
async fn redis_answers_ping() {
    let mut redis = Redis::start(Some("s3cret")).await;
    let ping = probe::redis(&redis.url()).unwrap();
    assert_eq!(ping().await, Ok(()));
    let database = probe::redis(&format!("{}/3", redis.url())).unwrap();
    assert_eq!(database().await, Ok(()));
    let named = format!("redis://default:s3cret@127.0.0.1:{}", redis.port);
    assert_eq!(probe::redis(&named).unwrap()().await, Ok(()));
    let far = probe::redis(&format!("{}/999", redis.url())).unwrap();
    assert!(far().await.unwrap_err().contains("out of range"));
    let stranger = probe::redis(&format!("redis://127.0.0.1:{}", redis.port)).unwrap();
    assert!(stranger().await.unwrap_err().contains("NOAUTH"));
    let guess = format!("redis://:gue55@127.0.0.1:{}", redis.port);
    let error = probe::redis(&guess).unwrap()().await.unwrap_err();
    assert!(
        error.contains("WRONGPASS") && !error.contains("gue55"),
        "{error}"
    );
    redis.stop();
    assert!(ping().await.unwrap_err().starts_with("connecting to "));
    redis.start_again().await;
    assert_eq!(ping().await, Ok(()));
}

#[tokio::test]
async fn postgres_answers_select_1() {
    let mut postgres = Postgres::start().await;
    let select = probe::postgres(&postgres.url(PASSWORD)).unwrap();
    assert_eq!(select().await, Ok(()));
    let guess = probe::postgres(&postgres.url("gue55")).unwrap();
    let error = guess().await.unwrap_err();
    assert!(error.contains("password authentication failed"), "{error}");
    assert!(!error.contains("gue55"), "{error}");
    let health = Health::new().unwrap();
    let config = Config::default()
        .interval(200 * MS)
        .timeout(200 * MS)
        .down_after(1);
    health.check("database", config, select).unwrap();
    timeout(30 * SECOND, health.until_ready()).await.unwrap();
    postgres.stop();
    eventually("it is down", || !health.is_ready()).await;
    let error = super::error(&health, "database");
    assert!(error.contains("error connecting to server"), "{error}");
    assert!(probe::postgres("nonsense").is_err());
}

#[tokio::test]
async fn an_upstreams_breakers_speak_for_it() {
    let config = Policies::new("payments")
        .endpoint("stripe")
        .endpoint("adyen")
        .breaker(breaker::Config::consecutive(1));
    let payments = Upstream::new(config).unwrap();
    let ask = probe::upstream(&payments);
    assert_eq!(ask().await, Ok(()));
    payments.force_breaker("stripe", Manual::Open);
    assert_eq!(ask().await, Ok(()), "the other one takes calls");
    payments.force_breaker("adyen", Manual::Open);
    let error = ask().await.unwrap_err();
    assert_eq!(error, "the breakers of all 2 endpoints are open");
    payments.force_breaker("adyen", Manual::Trial);
    assert_eq!(ask().await, Ok(()), "only traffic can close it");
}

#[tokio::test]
async fn a_full_disk_is_an_error_with_its_numbers() {
    let health = Health::new().unwrap();
    let config = || Config::default().critical(false);
    let here = std::env::temp_dir().display().to_string();
    health
        .check("room", config(), probe::disk(&here, Ratio::ZERO))
        .unwrap();
    health
        .check("full", config(), probe::disk(&here, Ratio::ONE))
        .unwrap();
    eventually("there is some room", || {
        status(&health, "room") == Status::Up
    })
    .await;
    eventually("nothing is all free", || {
        status(&health, "full") == Status::Down
    })
    .await;
    assert!(super::error(&health, "full").contains("less than 100 %"));
}
