//! One connection of a client: which protocol it speaks, and its requests.
//!
//! In clear text the first bytes tell HTTP/2 with prior knowledge from HTTP/1.1; over TLS, ALPN
//! does. All bytes pass through [`Timed`], which notes when they move, and through the guard of
//! their protocol, which refuses what hyper would let pass.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use outlast_config::plan::Limits;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::forward::Origin;
use crate::guard::Guarded;
use crate::pool::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW};
use crate::proxy;
use crate::times::{Timed, Times, Verdict};
use crate::tls::H2;
use crate::worker::{LocalExecutor, Place, Watched, Worker};

/// The client's end of a connection, known to all its requests.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) origin: Origin,
    pub(crate) times: Arc<Times>,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    place: Place,
    watched: Rc<Watched>,
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
) {
    let local = place.worker.local();
    let gateway = &local.table.gateway;
    let Ok(address) = stream.peer_addr() else {
        return;
    };
    let _ = stream.set_nodelay(true);
    let client = Rc::new(Client {
        worker: Rc::clone(&place.worker),
        origin: Origin::new(address, tls.is_some(), &gateway.trusted_proxies),
        times: Arc::clone(&watched.times),
    });
    let limits = gateway.limits.clone();
    drop(local);
    match tls {
        None => clear(stream, client, &watched, &limits).await,
        Some(config) => secure(stream, config, client, &watched, &limits, address).await,
    }
}

async fn clear(mut stream: TcpStream, client: Rc<Client>, watched: &Watched, limits: &Limits) {
    let Some((is_http2, first)) = sniff(&mut stream, limits).await else {
        return;
    };
    if is_http2 {
        speak_http2(stream, first, client, watched, limits).await;
    } else {
        speak_http1(stream, first, client, watched, limits).await;
    }
}

async fn secure(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    client: Rc<Client>,
    watched: &Watched,
    limits: &Limits,
    address: SocketAddr,
) {
    let accepted = TlsAcceptor::from(config).accept(stream);
    let stream = match tokio::time::timeout(limits.header_timeout, accepted).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(client = %address, %error, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
    if is_http2 {
        speak_http2(stream, Bytes::new(), client, watched, limits).await;
    } else {
        speak_http1(stream, Bytes::new(), client, watched, limits).await;
    }
}

/// Reads until it is certain whether a client begins with HTTP/2's preface.
async fn sniff(stream: &mut TcpStream, limits: &Limits) -> Option<(bool, Bytes)> {
    let mut first = BytesMut::new();
    let mut patience = limits.idle_timeout;
    loop {
        let read = stream.read_buf(&mut first);
        match tokio::time::timeout(patience, read).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) | Err(_) => return None,
        }
        let known = first.len().min(PREFACE.len());
        if first[..known] != PREFACE[..known] {
            return Some((false, first.freeze()));
        }
        if known == PREFACE.len() {
            return Some((true, first.freeze()));
        }
        patience = limits.header_timeout;
    }
}

async fn speak_http1<IO>(
    io: IO,
    first: Bytes,
    client: Rc<Client>,
    watched: &Watched,
    limits: &Limits,
) where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if !first.is_empty() {
        client.times.has_read();
    }
    let timed = Timed::new(io, Arc::clone(&client.times));
    let io = TokioIo::new(Guarded::http1(timed, limits, first));
    let service = service_fn(move |request| answer(Rc::clone(&client), request));
    let connection = http1::Builder::new()
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        .max_buf_size(MAX_BUFFER.max(limits.header_bytes + 8192))
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    drive(watched, |cx, retire| {
        if retire {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx).map(drop)
    })
    .await;
}

async fn speak_http2<IO>(
    io: IO,
    first: Bytes,
    client: Rc<Client>,
    watched: &Watched,
    limits: &Limits,
) where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    client.times.is_http2();
    let timed = Timed::new(io, Arc::clone(&client.times));
    let io = TokioIo::new(Guarded::http2(timed, first));
    let service = service_fn(move |request| answer(Rc::clone(&client), request));
    let connection = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .adaptive_window(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    drive(watched, |cx, retire| {
        if retire {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx).map(drop)
    })
    .await;
}

/// Polls a connection to its end, or until the sweep says that it is stuck. `poll` is told when it
/// is to retire.
async fn drive(watched: &Watched, mut poll: impl FnMut(&mut Context<'_>, bool) -> Poll<()>) {
    let mut retired = false;
    poll_fn(|cx| {
        watched.wakes(cx.waker());
        let retire = match watched.times.verdict() {
            Verdict::Stuck => return Poll::Ready(()),
            Verdict::Retire => !std::mem::replace(&mut retired, true),
            Verdict::Alive | Verdict::HeadTooSlow => false,
        };
        poll(cx, retire)
    })
    .await;
}

async fn answer(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<http::Response<crate::answer::Body>, Infallible> {
    Ok(proxy::serve(client, request).await)
}

/// How every HTTP/2 connection begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What hyper may hold of a connection that is read faster than it is written.
const MAX_BUFFER: usize = 128 * 1024;
/// Streams that are reset before they were served (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Streams that we have to reset (CVE-2025-8671).
const LOCAL_RESETS: usize = 1024;
