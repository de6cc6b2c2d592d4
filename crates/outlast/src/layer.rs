//! The whole pipeline as one tower layer.
//!
//! `poll_ready` polls the inner service only. Admission happens when the call is made, on the
//! state that all clones share, so no permit is ever parked in an idle clone, any clone may be
//! called, and a call's deadline covers its wait in the queue. The service that was polled ready is the
//! one that makes the first attempt; further attempts make their own clone ready.

use std::mem;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use outlast_core::call::Call;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::attempt::{Attempt, Raw};
use crate::caller::Options;
use crate::classify::{ByResult, Classify};
use crate::error::Error;
use crate::run::{Run, Start};
use crate::upstream::{Held, Upstream};

/// How the requests of a layer are repeated.
pub trait Repeat<Request> {
    /// A copy to make another attempt with; `None` if it may not be made, or cannot be. A
    /// request that was copied once can be copied again.
    fn copy(&self, request: &Request) -> Option<Request>;

    /// Tells the dependency about the attempt, for example its deadline. Default: nothing.
    fn prepare(&self, request: &mut Request, attempt: &Attempt) {
        let _ = (request, attempt);
    }
}

/// Every request may be repeated: the default of a layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cloned;

impl<Request: Clone> Repeat<Request> for Cloned {
    fn copy(&self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}

/// No request is repeated: for requests that cannot be cloned (streams, tonic's bodies). The
/// other policies work as ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Once;

impl<Request> Repeat<Request> for Once {
    fn copy(&self, _request: &Request) -> Option<Request> {
        None
    }
}

/// Puts an upstream's policies around a service. See [`Upstream::layer`].
#[derive(Clone, Debug)]
pub struct Layer<C = ByResult, R = Cloned> {
    upstream: Upstream,
    classify: C,
    repeat: R,
}

impl Upstream {
    /// All policies of this upstream as one tower layer: around a hyper, reqwest or tonic client,
    /// or any other service. Its error stays one flat [`Error`] of the service's own.
    pub fn layer(&self) -> Layer {
        Layer {
            upstream: self.clone(),
            classify: ByResult,
            repeat: Cloned,
        }
    }
}

impl<C, R> Layer<C, R> {
    /// What results mean. Default: `Ok` is a success, `Err` a transient failure.
    pub fn classify<D>(self, classify: D) -> Layer<D, R> {
        Layer {
            upstream: self.upstream,
            classify,
            repeat: self.repeat,
        }
    }

    /// How requests are repeated. Default: [`Cloned`].
    pub fn repeat<Q>(self, repeat: Q) -> Layer<C, Q> {
        Layer {
            upstream: self.upstream,
            classify: self.classify,
            repeat,
        }
    }
}

impl<S, C: Clone, R: Clone> tower_layer::Layer<S> for Layer<C, R> {
    type Service = Protected<S, C, R>;

    fn layer(&self, service: S) -> Protected<S, C, R> {
        Protected {
            service,
            upstream: self.upstream.clone(),
            classify: self.classify.clone(),
            repeat: self.repeat.clone(),
        }
    }
}

/// A service behind an upstream's policies.
#[derive(Clone, Debug)]
pub struct Protected<S, C = ByResult, R = Cloned> {
    service: S,
    upstream: Upstream,
    classify: C,
    repeat: R,
}

impl<S, C, R, Request> Service<Request> for Protected<S, C, R>
where
    S: Service<Request> + Clone,
    C: Classify<Result<S::Response, S::Error>> + Clone,
    R: Repeat<Request> + Clone,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = Protecting<S, Request, C, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<S::Error>>> {
        self.service.poll_ready(cx).map_err(Error::Inner)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let clone = self.service.clone();
        let ready = mem::replace(&mut self.service, clone);
        let upstream = self.upstream.clone();
        let wants_copy = upstream.inner.core.makes_extra_attempts();
        let spare = if wants_copy {
            self.repeat.copy(&request)
        } else {
            None
        };
        let options = Options::default().repeatable(spare.is_some());
        let clock = upstream.inner.clock;
        let start = Attempts {
            upstream: upstream.clone(),
            service: ready,
            is_ready: true,
            first: Some(request),
            spare,
            repeat: self.repeat.clone(),
        };
        let classify = self.classify.clone();
        Protecting {
            run: Run::new(Held(upstream), clock, start, classify, options),
        }
    }
}

pin_project! {
    /// The future of a call through a [`Protected`] service.
    #[must_use = "futures do nothing unless awaited"]
    pub struct Protecting<S, Request, C, R>
    where
        S: Service<Request>,
    {
        #[pin]
        run: Run<Held, Attempts<S, Request, R>, Attempting<S, Request>, S::Response, S::Error, C>,
    }
}

impl<S, Request, C, R> Future for Protecting<S, Request, C, R>
where
    S: Service<Request> + Clone,
    C: Classify<Result<S::Response, S::Error>>,
    R: Repeat<Request>,
{
    type Output = Result<S::Response, Error<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().run.poll(cx).map(|ending| ending.result)
    }
}

/// Makes attempts by calling a service.
struct Attempts<S, Request, R> {
    upstream: Upstream,
    service: S,
    is_ready: bool,
    first: Option<Request>,
    spare: Option<Request>,
    repeat: R,
}

impl<S, Request, R> Start for Attempts<S, Request, R>
where
    S: Service<Request> + Clone,
    R: Repeat<Request>,
{
    type Future = Attempting<S, Request>;

    fn start<U>(&mut self, raw: Raw<'_>, call: &mut Call<U>) -> Attempting<S, Request>
    where
        U: Deref<Target = outlast_core::upstream::Upstream>,
    {
        let copy = || {
            self.spare
                .as_ref()
                .and_then(|spare| self.repeat.copy(spare))
        };
        let mut request = self.first.take().or_else(copy).expect("it was copied once");
        let attempt = Attempt::new(&self.upstream.inner, raw, call);
        self.repeat.prepare(&mut request, &attempt);
        if mem::take(&mut self.is_ready) {
            let clone = self.service.clone();
            let mut ready = mem::replace(&mut self.service, clone);
            return Attempting::Runs {
                future: ready.call(request),
            };
        }
        Attempting::Readies {
            service: self.service.clone(),
            request: Some(request),
        }
    }
}

pin_project! {
    /// One attempt: make the service ready, then call it.
    #[project = AttemptingProject]
    enum Attempting<S, Request>
    where
        S: Service<Request>,
    {
        Readies { service: S, request: Option<Request> },
        Runs { #[pin] future: S::Future },
    }
}

impl<S: Service<Request>, Request> Future for Attempting<S, Request> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let future = match self.as_mut().project() {
                AttemptingProject::Runs { future } => return future.poll(cx),
                AttemptingProject::Readies { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    service.call(request.take().expect("it is called once"))
                }
            };
            self.set(Attempting::Runs { future });
        }
    }
}
