//! The gRPC health service and the probe that asks one.

use outlast::Health;
use outlast::health::probe;
use tokio::net::TcpListener;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{SECOND, eventually, quick, status};
use outlast::health::Status;

const SERVING: i32 = ServingStatus::Serving as i32;
const NOT_SERVING: i32 = ServingStatus::NotServing as i32;
const SERVICE_UNKNOWN: i32 = ServingStatus::ServiceUnknown as i32;

async fn serve(health: &Health) -> String {
    let service = health.grpc_service();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(incoming));
    format!("http://{address}")
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
    let url = serve(&health).await;
    let channel = tonic::transport::Endpoint::from_shared(url).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let mut all = client.watch(asks("")).await.unwrap().into_inner();
    let mut group = client.watch(asks("shop.Stock")).await.unwrap().into_inner();
    let mut unknown = client.watch(asks("nobody")).await.unwrap().into_inner();
    let next = async |stream: &mut tonic::Streaming<_>| {
        let message: Result<Option<tonic_health::pb::HealthCheckResponse>, _> =
            tokio::time::timeout(30 * SECOND, stream.message())
                .await
                .unwrap();
        message.unwrap().unwrap().status
    };
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
async fn the_probe_asks_another_registry() {
    let behind = Health::new().unwrap();
    let works = || async { Ok::<_, String>(()) };
    behind
        .check("db", quick().group("shop.Stock"), works)
        .unwrap();
    let url = serve(&behind).await;
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
