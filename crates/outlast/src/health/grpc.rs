//! The standard gRPC health service.
//!
//! The messages and the server are those of `tonic-health`; its own reporter is not used, because it
//! ends a `Watch` of an unknown service with an error, where the protocol wants `SERVICE_UNKNOWN`
//! until the service is there.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tonic::codegen::tokio_stream::Stream;
use tonic::codegen::tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health as Protocol, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::{Health, State};

impl Health {
    /// The service `grpc.health.v1.Health`, with `Check` and `Watch`. The empty service name is this
    /// instance's readiness, the name of a group that group's. Once the registry has ended, nothing
    /// is serving. It does not keep the registry.
    pub fn grpc_service(&self) -> HealthServer<impl Protocol> {
        HealthServer::new(Service {
            state: Arc::clone(&self.shared.state),
        })
    }
}

struct Service {
    state: Arc<State>,
}

#[tonic::async_trait]
impl Protocol for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.state.serving(&request.get_ref().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("there is no such service")),
            status => Ok(Response::new(answer(status))),
        }
    }

    type WatchStream = Watch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        Ok(Response::new(Watch {
            state: Arc::clone(&self.state),
            changes: WatchStream::new(self.state.changes.subscribe()),
            service: request.into_inner().service,
            told: None,
        }))
    }
}

impl State {
    fn serving(&self, service: &str) -> ServingStatus {
        let registry = self.registry();
        let is_ready = match service {
            "" => Some(registry.is_ready()),
            group => registry.is_group_ready(group),
        };
        match is_ready {
            Some(true) => ServingStatus::Serving,
            Some(false) => ServingStatus::NotServing,
            None => ServingStatus::ServiceUnknown,
        }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

/// The status of a service now, and whenever it has changed.
struct Watch {
    state: Arc<State>,
    changes: WatchStream<bool>,
    service: String,
    told: Option<ServingStatus>,
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while ready!(Pin::new(&mut self.changes).poll_next(cx)).is_some() {
            let status = self.state.serving(&self.service);
            if self.told.replace(status) != Some(status) {
                return Poll::Ready(Some(Ok(answer(status))));
            }
        }
        Poll::Ready(None)
    }
}
