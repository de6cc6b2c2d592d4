//! Real clients and servers on sockets: reqwest and axum, tonic on both sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use outlast::reject::Reason;
use outlast::{Config, Error, Once, Upstream};
use outlast::{bulkhead, deadline, grpc, retry};
use tokio::net::TcpListener;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::{Service, ServiceBuilder, ServiceExt};

const MS: Duration = Duration::from_millis(1);

fn upstream(config: Config) -> Upstream {
    Upstream::new(config).unwrap()
}

pub async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Fails twice, then succeeds; every answer shows what the caller sent.
async fn flaky(State(calls): State<Arc<AtomicU32>>, headers: HeaderMap) -> Response {
    let call = calls.fetch_add(1, Ordering::SeqCst);
    let sent = headers.contains_key("x-deadline") && headers.contains_key("x-deadline-sent");
    if call < 2 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    format!("deadline: {sent}").into_response()
}

#[tokio::test]
async fn reqwest_behind_the_layer_retries_what_may_be_retried() {
    let calls = Arc::new(AtomicU32::new(0));
    let router = Router::new().route("/", get(flaky)).route("/", post(flaky));
    let url = serve(router.with_state(Arc::clone(&calls))).await;
    let shop = upstream(Config::new("shop").retry(retry::Config::attempts(3).backoff(MS)));
    let layer = shop
        .layer()
        .classify(outlast::reqwest::ByStatus)
        .repeat(outlast::reqwest::Idempotent);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut service = ServiceBuilder::new().layer(layer).service(client.clone());

    let post = client.post(&url).build().unwrap();
    let response = service.ready().await.unwrap().call(post).await.unwrap();
    assert_eq!(response.status(), 503, "a POST without a key is made once");
    assert_eq!(calls.swap(0, Ordering::SeqCst), 1);

    let keyed = client
        .post(&url)
        .header("idempotency-key", "order-17")
        .build()
        .unwrap();
    let response = service.ready().await.unwrap().call(keyed).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "deadline: true");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn hyper_behind_the_layer_repeats_a_get_and_not_a_post() {
    let calls = Arc::new(AtomicU32::new(0));
    let router = Router::new().route("/", get(flaky)).route("/", post(flaky));
    let url = serve(router.with_state(Arc::clone(&calls))).await;
    let shop = upstream(Config::new("shop").retry(retry::Config::attempts(3).backoff(MS)));
    let client: Client<_, String> = Client::builder(TokioExecutor::new()).build_http();
    let mut service = ServiceBuilder::new()
        .layer(shop.http_layer())
        .service(client);

    let post = http::Request::post(&url).body("order".to_owned()).unwrap();
    let response = service.ready().await.unwrap().call(post).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), calls.swap(0, Ordering::SeqCst)),
        (503, 1)
    );

    let get = http::Request::get(&url).body(String::new()).unwrap();
    let response = service.ready().await.unwrap().call(get).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), calls.load(Ordering::SeqCst)),
        (200, 3)
    );
}

#[tokio::test]
async fn a_refused_connection_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let shop = upstream(Config::new("shop").retry(retry::Config::attempts(2).backoff(MS)));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = shop
        .caller()
        .classify(outlast::reqwest::ByStatus)
        .call(|_| client.get(&url).send());
    let error = call.await.unwrap_err();
    assert!(matches!(&error, Error::Exhausted { attempts: 2, last, .. } if last.is_connect()));
}

/// Answers after the seat has been taken, with how long it may still take.
async fn remaining() -> String {
    let end = deadline::current().expect("the middleware set one");
    let left = end.saturating_duration_since(tokio::time::Instant::now().into_std());
    left.as_millis().to_string()
}

async fn rejected() -> Result<(), Error<&'static str>> {
    let shop = Upstream::new(Config::new("shop").bulkhead(bulkhead::Config::new(1))).unwrap();
    let hung = shop.call(|_| async {
        let inner = shop.call(|_| async { Ok::<_, &'static str>(()) }).await;
        Err::<(), _>(match inner {
            Err(Error::Rejected(rejection)) if rejection.reason == Reason::Full => "full",
            _ => "not full",
        })
    });
    assert_eq!(hung.await, Err(Error::Inner("full")));
    let limited =
        Config::new("limited").rate(outlast::rate::Config::new(1, Duration::from_secs(60)));
    let limited = Upstream::new(limited).unwrap();
    limited
        .call(|_| async { Ok::<_, &'static str>(()) })
        .await?;
    limited.call(|_| async { Ok(()) }).await
}

async fn failed() -> Result<(), Error<&'static str>> {
    let retry = retry::Config::attempts(2).backoff(MS);
    let shop = Upstream::new(Config::new("shop").retry(retry)).unwrap();
    shop.call(|_| async { Err("GET /internal?api_key=SECRET failed") })
        .await
}

#[tokio::test]
async fn axum_services_get_deadlines_bulkheads_and_problem_documents() {
    let shop = upstream(Config::new("shop").bulkhead(bulkhead::Config::new(10).queue(5)));
    let longest = Duration::from_secs(3);
    let router = Router::new()
        .route("/remaining", get(remaining))
        .route("/rejected", get(rejected))
        .route("/failed", get(failed))
        .merge(outlast::axum::routes(vec![shop.clone()]))
        .layer(middleware::from_fn_with_state(
            vec![shop.clone()],
            outlast::axum::with_bulkheads,
        ))
        .layer(middleware::from_fn_with_state(
            longest,
            outlast::axum::with_deadline,
        ));
    let url = serve(router).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();

    let plain = client.get(format!("{url}/remaining")).send().await.unwrap();
    assert_eq!(plain.headers()["x-bulkhead-active"], "shop=0/10");
    let left: u64 = plain.text().await.unwrap().parse().unwrap();
    assert!((1..=3000).contains(&left), "{left}");

    let sooner = client
        .get(format!("{url}/remaining"))
        .header("grpc-timeout", "500m");
    let left: u64 = sooner
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
        .parse()
        .unwrap();
    assert!(left <= 500, "{left}");

    let late = client.get(format!("{url}/remaining"));
    let late = late
        .header("x-deadline", "100.0")
        .header("x-deadline-sent", "100.0");
    let late = late.send().await.unwrap();
    assert_eq!(late.status(), 504);
    assert_eq!(late.headers()["content-type"], "application/problem+json");
    let problem: serde_json::Value = serde_json::from_str(&late.text().await.unwrap()).unwrap();
    assert_eq!(problem["reason"], "deadline");

    let rejected = client.get(format!("{url}/rejected")).send().await.unwrap();
    assert_eq!(rejected.status(), 429);
    assert_eq!(rejected.headers()["retry-after"], "60");

    let failed = client.get(format!("{url}/failed")).send().await.unwrap();
    assert_eq!(failed.status(), 502);
    assert!(!failed.text().await.unwrap().contains("SECRET"));

    let _ = shop.call(|_| async { Ok::<_, ()>(()) }).await;
    let text = client
        .get(format!("{url}/metrics/bulkheads"))
        .send()
        .await
        .unwrap();
    let shown: serde_json::Value = serde_json::from_str(&text.text().await.unwrap()).unwrap();
    let expected = serde_json::json!([{
        "upstream": "shop", "concurrency": 10, "accepted": 1, "rejected": 0, "active": 0,
        "peak": 1, "queued": 0, "average_wait": 0.0, "longest_wait": 0.0, "rejection_rate": 0.0
    }]);
    assert_eq!(shown, expected);
}

async fn health_server() -> tonic::transport::Endpoint {
    let (_, service) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(incoming));
    tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap()
}

#[tokio::test]
async fn tonic_calls_are_judged_by_their_code() {
    let channel = health_server().await.connect().await.unwrap();
    let client = HealthClient::new(channel);
    let health = upstream(Config::standard("health"));
    let client = &client;
    let check = |service: &'static str| {
        health.caller().classify(grpc::ByCode).call(move |attempt| {
            let mut client = client.clone();
            async move {
                let message = HealthCheckRequest {
                    service: service.to_owned(),
                };
                client.check(grpc::request(message, &attempt)).await
            }
        })
    };
    assert_eq!(check("").await.unwrap().into_inner().status, 1);
    let error = check("nobody").await.unwrap_err();
    assert_eq!(error.inner().unwrap().code(), tonic::Code::NotFound);
    let stats = health.stats();
    assert_eq!(
        (stats.endpoints[0].successes, stats.retries),
        (2, 0),
        "{stats:?}"
    );
}

#[tokio::test]
async fn a_tonic_channel_works_behind_the_layer() {
    let channel = health_server().await.connect_lazy();
    let health = upstream(Config::standard("health"));
    let layer = health.layer().classify(grpc::ByResponse).repeat(Once);
    let service = ServiceBuilder::new().layer(layer).service(channel);
    let mut client = HealthClient::new(service);
    let answer = client
        .check(HealthCheckRequest {
            service: String::new(),
        })
        .await
        .unwrap();
    assert_eq!(answer.into_inner().status, 1);
    assert_eq!(health.stats().endpoints[0].successes, 1);
}
