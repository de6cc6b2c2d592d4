//! The standard gRPC health service.
//!
//! The messages and the server are those of `tonic-health`; its own reporter is not used, because it
//! ends a `Watch` of an unknown service with an error, where the protocol wants `SERVICE_UNKNOWN`
//! until the service is there.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::watch;
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
    pub fn grpc_service(&self) -> HealthServer<impl Protocol + use<>> {
        Latest::new(self).grpc_service()
    }
}

/// The last of several registries that follow each other, for a program that makes a new one when
/// its configuration changes: a registry cannot lose checks.
pub struct Latest {
    states: watch::Sender<Arc<State>>,
}

impl Latest {
    /// Begins with this registry. It is not kept, here and later.
    pub fn new(health: &Health) -> Latest {
        Latest {
            states: watch::Sender::new(Arc::clone(&health.shared.state)),
        }
    }

    /// From now on this one holds. Replace before the former one ends: then nobody is told of that.
    pub fn replace(&self, health: &Health) {
        let next = &health.shared.state;
        self.states.send_if_modified(|state| {
            let is_new = !Arc::ptr_eq(state, next);
            if is_new {
                *state = Arc::clone(next);
            }
            is_new
        });
    }

    /// As [`Health::grpc_service`], of the registry that holds when it is asked. A `Watch` goes on
    /// with the next registry, and tells what that changes.
    pub fn grpc_service(&self) -> HealthServer<impl Protocol + use<>> {
        HealthServer::new(Service {
            states: self.states.subscribe(),
        })
    }
}

impl fmt::Debug for Latest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latest").finish_non_exhaustive()
    }
}

struct Service {
    states: watch::Receiver<Arc<State>>,
}

#[tonic::async_trait]
impl Protocol for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.states.borrow().serving(&request.get_ref().service);
        match status {
            ServingStatus::ServiceUnknown => Err(Status::not_found("there is no such service")),
            status => Ok(Response::new(answer(status))),
        }
    }

    type WatchStream = Watch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let mut states = self.states.clone();
        let state = Arc::clone(&states.borrow_and_update());
        Ok(Response::new(Watch {
            changes: WatchStream::new(state.changes.subscribe()),
            states: WatchStream::from_changes(states),
            state,
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
    /// The registries that come after this one.
    states: WatchStream<Arc<State>>,
    service: String,
    told: Option<ServingStatus>,
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let changed = Pin::new(&mut self.changes).poll_next(cx);
            // After the changes: the end of a registry that was replaced before is none.
            if let Poll::Ready(Some(next)) = Pin::new(&mut self.states).poll_next(cx) {
                self.changes = WatchStream::new(next.changes.subscribe());
                self.state = next;
                continue;
            }
            match changed {
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
            let status = self.state.serving(&self.service);
            if self.told.replace(status) != Some(status) {
                return Poll::Ready(Some(Ok(answer(status))));
            }
        }
    }
}
