//! The gRPC health service and the probe that asks one.

use outlast::Health;
use outlast::health::{Latest, probe};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health as Protocol, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::{SECOND, eventually, quick, status};
use outlast::health::Status;

const SERVING: i32 = ServingStatus::Serving as i32;
const NOT_SERVING: i32 = ServingStatus::NotServing as i32;
const SERVICE_UNKNOWN: i32 = ServingStatus::ServiceUnknown as i32;

async fn serve(service: HealthServer<impl Protocol>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(incoming));
    format!("http://{address}")
}

async fn connect(url: String) -> HealthClient<Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(url).unwrap();
    HealthClient::new(endpoint.connect().await.unwrap())
}

async fn next(stream: &mut Streaming<HealthCheckResponse>) -> i32 {
    let message = tokio::time::timeout(30 * SECOND, stream.message()).await;
    message.unwrap().unwrap().unwrap().status
}

fn asks(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn check_and_watch_follow_the_registry() {
    let health = Health::new().unwrap();
    let works = || async { Ok::<_, String>(()) };
    health
        .check("db", quick().group("shop.Stock"), works)
        .unwrap();
    let url = serve(health.grpc_service()).await;
    let mut client = connect(url).await;
    let mut all = client.watch(asks("")).await.unwrap().into_inner();
    let mut group = client.watch(asks("shop.Stock")).await.unwrap().into_inner();
    let mut unknown = client.watch(asks("nobody")).await.unwrap().into_inner();
    // The stream may begin before or after the first result.
    while next(&mut all).await != SERVING {}
    while next(&mut group).await != SERVING {}
    assert_eq!(next(&mut unknown).await, SERVICE_UNKNOWN);
    let answer = client.check(asks("shop.Stock")).await.unwrap();
    assert_eq!(answer.into_inner().status, SERVING);
    let error = client.check(asks("nobody")).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);

    health
        .check("late", quick().critical(false).group("nobody"), works)
        .unwrap();
    while next(&mut unknown).await != SERVING {}

    health.set_draining(true);
    assert_eq!(next(&mut all).await, NOT_SERVING);
    assert_eq!(next(&mut group).await, NOT_SERVING);
    health.set_draining(false);
    assert_eq!(next(&mut all).await, SERVING);
    drop(health);
    assert_eq!(next(&mut all).await, NOT_SERVING, "nobody knows any more");
}

#[tokio::test]
async fn a_service_follows_the_registries_that_replace_each_other() {
    let works = || async { Ok::<_, String>(()) };
    let first = Health::new().unwrap();
    first.check("db", quick().group("stock"), works).unwrap();
    let latest = Latest::new(&first);
    let mut client = connect(serve(latest.grpc_service()).await).await;
    let mut all = client.watch(asks("")).await.unwrap().into_inner();
    let mut group = client.watch(asks("stock")).await.unwrap().into_inner();
    let mut later = client.watch(asks("later")).await.unwrap().into_inner();
    while next(&mut all).await != SERVING {}
    while next(&mut group).await != SERVING {}
    assert_eq!(next(&mut later).await, SERVICE_UNKNOWN);

    let second = Health::new().unwrap();
    let config = quick().group("later");
    let fails = || async { Err::<(), _>("no route") };
    second.check("search", config, fails).unwrap();
    latest.replace(&second);
    latest.replace(&second);
    drop(first);
    assert_eq!(next(&mut all).await, NOT_SERVING);
    assert_eq!(next(&mut group).await, SERVICE_UNKNOWN);
    assert_eq!(next(&mut later).await, NOT_SERVING);
    let error = client.check(asks("stock")).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);

    let third = Health::new().unwrap();
    latest.replace(&third);
    drop((second, latest));
    assert_eq!(next(&mut all).await, SERVING, "and nothing in between");
    let answer = client.check(asks("")).await.unwrap();
    assert_eq!(answer.into_inner().status, SERVING);
    third.set_draining(true);
    assert_eq!(next(&mut all).await, NOT_SERVING);
}

#[tokio::test]
async fn the_probe_asks_another_registry() {
    let behind = Health::new().unwrap();
    let works = || async { Ok::<_, String>(()) };
    behind
        .check("db", quick().group("shop.Stock"), works)
        .unwrap();
    let url = serve(behind.grpc_service()).await;
    let health = Health::new().unwrap();
    let config = || quick().interval(SECOND / 20).timeout(SECOND / 20);
    for (name, service) in [("all", ""), ("stock", "shop.Stock"), ("typo", "nobody")] {
        health
            .check(name, config(), probe::grpc(&url, service).unwrap())
            .unwrap();
    }
    eventually("the services are up", || {
        status(&health, "all") == Status::Up && status(&health, "stock") == Status::Up
    })
    .await;
    eventually("the unknown one says so", || {
        super::error(&health, "typo").contains("no such service")
    })
    .await;
    behind.set_draining(true);
    let text = "it is not serving (status 2)";
    eventually("it drains", || super::error(&health, "all") == text).await;
    for wrong in ["https://a:1", "a b", "/x"] {
        assert!(probe::grpc(wrong, "").is_err(), "{wrong}");
    }
}
