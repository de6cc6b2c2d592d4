//! A gRPC client: each attempt carries its deadline, statuses are judged by their code, and a
//! server that is not up yet is waited for. It brings its own server, so it runs by itself:
//!
//! ```text
//! cargo run --example tonic_client --features tonic
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "sleeping: the server starts late on purpose"
)]

use std::time::Duration;

use outlast::{Config, Error, Upstream, grpc, retry};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
    let client = HealthClient::new(channel);
    let retry = retry::Config::attempts(5).backoff(Duration::from_millis(100));
    let health = Upstream::new(Config::standard("health").retry(retry))?;

    let start = async {
        sleep(Duration::from_millis(250)).await;
        let listener = TcpListener::bind(address).await?;
        let (_, service) = tonic_health::server::health_reporter();
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Ok::<_, std::io::Error>(())
    };
    let (answer, started) = tokio::join!(check(&health, &client, ""), start);
    started?;
    println!("starting: {answer}");
    let stats = health.stats();
    println!(
        "          {} attempts, {} of them retries",
        stats.attempts(),
        stats.retries
    );
    println!("unknown:  {}", check(&health, &client, "nobody").await);
    let more = health.stats().attempts() - stats.attempts();
    println!("          {more} attempt: a definite answer is not retried");
    Ok(())
}

async fn check(health: &Upstream, client: &HealthClient<Channel>, service: &str) -> String {
    let call = health
        .caller()
        .classify(grpc::ByCode)
        .within(Duration::from_secs(2))
        .call(|attempt| {
            let mut client = client.clone();
            let request = grpc::request(
                HealthCheckRequest {
                    service: service.to_owned(),
                },
                &attempt,
            );
            async move { client.check(request).await }
        });
    match call.await {
        Ok(response) => format!("{:?}", response.into_inner().status()),
        Err(Error::Inner(status)) => format!("the server says {:?}", status.code()),
        Err(error) => error.to_string(),
    }
}
