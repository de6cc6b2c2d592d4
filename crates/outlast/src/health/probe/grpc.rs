//! The gRPC health protocol, as a client.

use std::sync::Arc;

use outlast_core::config::ConfigError;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Probing, chain};

/// Whether `grpc.health.v1.Health/Check` at `http://HOST:PORT` says that `service` is serving; the
/// empty service is the server as a whole. For TLS, give a closure with your channel.
///
/// # Errors
/// If `url` has another form.
pub fn grpc(
    url: &str,
    service: &str,
) -> Result<impl Fn() -> Probing + Send + Sync + use<>, ConfigError> {
    let wrong = ConfigError::new("health.grpc", "must be like http://host:50051");
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong)?;
    if endpoint.uri().scheme_str() != Some("http") {
        return Err(wrong);
    }
    let shared = Arc::new((endpoint, service.to_owned()));
    Ok(move || -> Probing {
        let shared = Arc::clone(&shared);
        Box::pin(async move {
            let (endpoint, service) = &*shared;
            let channel = endpoint.connect().await.map_err(|error| chain(&error))?;
            let service = service.clone();
            let mut client = HealthClient::new(channel);
            let answer = client.check(HealthCheckRequest { service }).await;
            let answer = answer
                .map_err(|status| format!("it answered {}: {}", status.code(), status.message()))?;
            match answer.into_inner().status {
                SERVING => Ok(()),
                other => Err(format!("it is not serving (status {other})")),
            }
        })
    })
}

const SERVING: i32 = ServingStatus::Serving as i32;
