//! A small service whose behaviour can be changed while it runs.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use outlast_core::rng::Rng;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};

/// How a service behaves now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    /// The mean time it takes, exponentially distributed around half of it as a floor; as often as not
    /// its work is done at the beginning of it, so that whoever gives up does not know.
    pub(crate) latency: Duration,
    /// Whether it answers 500 instead.
    pub(crate) broken: bool,
}

/// What a service answers: a status, and JSON.
pub(crate) type Answer = (StatusCode, String);

/// What a service does to have an answer.
pub(crate) type Work =
    Arc<dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// A service on a port of its own.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    serving: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    rng: Mutex<Rng>,
    work: Work,
}

impl Service {
    /// One that listens at this address; with port 0, at a free one.
    pub(crate) fn start(
        at: SocketAddr,
        latency: Duration,
        seed: u64,
        work: Work,
    ) -> io::Result<Service> {
        let listener = listen(at)?;
        let service = Service {
            address: listener.local_addr()?,
            shared: Arc::new(Shared {
                behaviour: Mutex::new(Behaviour {
                    latency,
                    broken: false,
                }),
                rng: Mutex::new(Rng::new(seed)),
                work,
            }),
            serving: Mutex::default(),
        };
        service.serve(listener);
        Ok(service)
    }

    /// Changes how it behaves.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut lock(&self.shared.behaviour));
    }

    /// Refuses connections, and cuts those it has.
    pub(crate) fn down(&self) {
        if let Some(serving) = lock(&self.serving).take() {
            serving.abort();
        }
    }

    /// Takes connections again.
    pub(crate) fn up(&self) -> io::Result<()> {
        self.serve(listen(self.address)?);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "it runs until it is taken down")]
    fn serve(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let serving = tokio::spawn(async move {
            // Aborted with the task, so that a service that is down cuts its connections.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((stream, _)) = accepted {
                            let _ = stream.set_nodelay(true);
                            connections.spawn(connection(stream, Arc::clone(&shared)));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        *lock(&self.serving) = Some(serving);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.down();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn connection(stream: tokio::net::TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| answer(Arc::clone(&shared), request));
    // A client that goes away is no news.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[expect(clippy::disallowed_methods, reason = "this service takes its time")]
async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let behaviour = *lock(&shared.behaviour);
    let (unit, works_first) = {
        let mut rng = lock(&shared.rng);
        (rng.unit(), rng.unit() < 0.5)
    };
    let spread = 0.5 - 0.5 * (1.0 - unit).max(1e-3).ln();
    let pause = tokio::time::sleep(behaviour.latency.mul_f64(spread));
    let work = async {
        match behaviour.broken {
            true => (StatusCode::INTERNAL_SERVER_ERROR, "{}".to_owned()),
            false => (shared.work)(request).await,
        }
    };
    let (status, body) = if works_first {
        let answer = work.await;
        pause.await;
        answer
    } else {
        pause.await;
        work.await
    };
    let mut response = Response::new(Full::from(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    *response.status_mut() = status;
    Ok(response)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
