//! One connection of a client: which protocol it speaks, and its requests.
//!
//! In clear text the first bytes tell HTTP/2 with prior knowledge from HTTP/1.1; over TLS, ALPN
//! does. All bytes pass through [`Timed`], which notes when they move, and through the guard of
//! their protocol, which refuses what hyper would let pass.
//!
//! An HTTP/1.1 connection that has been quiet for a second gives its parser and its buffers back,
//! and gets new ones with its next byte: of ten thousand idle connections only the sockets remain.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use outlast_config::plan::Limits;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::forward::Origin;
use crate::guard::Guarded;
use crate::pool::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW};
use crate::proxy;
use crate::times::{Timed, Times, Verdict};
use crate::tls::H2;
use crate::tunnel::Tunnel;
use crate::worker::{LocalExecutor, Place, Watched, Worker};

/// The client's end of a connection, known to all its requests.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) origin: Origin,
    pub(crate) times: Arc<Times>,
    /// Where its connection looks for a tunnel after a 101, for as long as there is a connection.
    switch: Weak<Switch>,
}

/// What a connection becomes when the answer that goes out is a change of protocol.
type Switch = RefCell<Option<Tunnel>>;

impl Client {
    /// After the answer that is on its way, the connection is an end of this tunnel.
    pub(crate) fn switches(&self, tunnel: Tunnel) {
        if let Some(switch) = self.switch.upgrade() {
            switch.replace(Some(tunnel));
        }
    }
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
    let switch = Rc::default();
    let connection = Connection {
        client: Rc::new(Client {
            worker: Rc::clone(&place.worker),
            origin: Origin::new(address, tls.is_some(), &gateway.trusted_proxies),
            times: Arc::clone(&watched.times),
            switch: Rc::downgrade(&switch),
        }),
        switch,
        watched,
        limits: gateway.limits.clone(),
    };
    drop(local);
    match tls {
        None => connection.clear(stream).await,
        Some(config) => Box::pin(connection.secure(stream, config, address)).await,
    }
}

/// A connection, whatever is spoken over it.
struct Connection {
    client: Rc<Client>,
    switch: Rc<Switch>,
    watched: Rc<Watched>,
    limits: Limits,
}

// Each protocol's future is boxed: a connection has the size of what it does now, not of the
// largest thing that it could do.
impl Connection {
    async fn clear(self, mut stream: TcpStream) {
        match sniff(&mut stream, &self.limits).await {
            None => {}
            Some((true, first)) => Box::pin(self.speak_http2(stream, first)).await,
            Some((false, first)) => self.speak_http1(stream, first).await,
        }
    }

    async fn secure(self, stream: TcpStream, config: Arc<ServerConfig>, address: SocketAddr) {
        let accepted = Box::pin(TlsAcceptor::from(config).accept(stream));
        let stream = match tokio::time::timeout(self.limits.header_timeout, accepted).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(client = %address, %error, "a TLS handshake failed");
                return;
            }
            Err(_) => return,
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
        if is_http2 {
            Box::pin(self.speak_http2(Box::new(stream), Bytes::new())).await;
        } else {
            self.speak_http1(Box::new(stream), Bytes::new()).await;
        }
    }

    async fn speak_http1<IO>(self, io: IO, mut first: Bytes)
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        if !first.is_empty() {
            self.client.times.has_read();
        }
        let mut timed = Timed::new(io, Arc::clone(&self.client.times));
        loop {
            let (next, unread) = match Box::pin(self.converse(timed, first)).await {
                Conversation::Over => return,
                Conversation::Switched(tunnel, io, unread) => {
                    return tunnel.run(io, unread).await;
                }
                Conversation::Quiet(io, unread) => (io, unread),
            };
            timed = next;
            first = unread;
            if first.is_empty() {
                let Some(bytes) = self.rest(&mut timed).await else {
                    return;
                };
                first = bytes;
            }
        }
    }

    /// Answers requests until the connection ends, changes its protocol or falls silent.
    async fn converse<IO>(&self, io: Timed<IO>, first: Bytes) -> Conversation<Timed<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let client = Rc::clone(&self.client);
        let mut connection = http1::Builder::new()
            .max_headers(self.limits.headers)
            .max_header_size(self.limits.header_bytes)
            .max_buf_size(MAX_BUFFER.max(self.limits.header_bytes + 8192))
            .serve_connection(
                TokioIo::new(Guarded::http1(io, &self.limits, first)),
                service_fn(move |request| answer(Rc::clone(&client), request)),
            );
        let end = self.drive(|cx, retire| {
            if retire {
                Pin::new(&mut connection).graceful_shutdown();
            }
            Pin::new(&mut connection).poll(cx).map(drop)
        });
        let end = end.await;
        let tunnel = self.switch.take();
        if end == End::Over && tunnel.is_none() {
            return Conversation::Over;
        }
        let parts = connection.into_parts();
        let (io, unguarded) = parts.io.into_inner().into_inner();
        let unread = if unguarded.is_empty() {
            parts.read_buf
        } else {
            Bytes::from([parts.read_buf, unguarded].concat())
        };
        match tunnel {
            Some(tunnel) => Conversation::Switched(tunnel, io, unread),
            None => Conversation::Quiet(io, unread),
        }
    }

    /// Waits for the next bytes; `None` if there will be none.
    async fn rest<IO>(&self, io: &mut Timed<IO>) -> Option<Bytes>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let times = &self.watched.times;
        times.rests(true);
        let bytes = poll_fn(|cx| {
            self.watched.wakes(cx.waker());
            if times.verdict() != Verdict::Alive {
                return Poll::Ready(None);
            }
            let mut scratch = [0; 4096];
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer));
            let some = read.is_ok() && !buffer.filled().is_empty();
            Poll::Ready(some.then(|| Bytes::copy_from_slice(buffer.filled())))
        });
        let bytes = bytes.await;
        times.rests(false);
        if bytes.is_none() {
            // TLS says goodbye, if it can at once.
            poll_fn(|cx| {
                let _ = Pin::new(&mut *io).poll_shutdown(cx);
                Poll::Ready(())
            })
            .await;
        }
        bytes
    }

    async fn speak_http2<IO>(self, io: IO, first: Bytes)
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        self.client.times.is_http2();
        let timed = Timed::new(io, Arc::clone(&self.client.times));
        let io = TokioIo::new(Guarded::http2(timed, first));
        let client = Rc::clone(&self.client);
        let service = service_fn(move |request| answer(Rc::clone(&client), request));
        let connection = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .adaptive_window(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(self.limits.streams)
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(LOCAL_RESETS)
            .serve_connection(io, service);
        let mut connection = pin!(connection);
        self.drive(|cx, retire| {
            if retire {
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx).map(drop)
        })
        .await;
    }

    /// Polls to the end of what is spoken, or until the sweep says that it is stuck, or that it has
    /// been quiet for long. `poll` is told when it is to retire.
    async fn drive(&self, mut poll: impl FnMut(&mut Context<'_>, bool) -> Poll<()>) -> End {
        let mut retired = false;
        poll_fn(|cx| {
            self.watched.wakes(cx.waker());
            let retire = match self.watched.times.verdict() {
                Verdict::Stuck => return Poll::Ready(End::Over),
                Verdict::Retire => !std::mem::replace(&mut retired, true),
                Verdict::Alive | Verdict::HeadTooSlow => false,
            };
            match poll(cx, retire) {
                Poll::Ready(()) => Poll::Ready(End::Over),
                Poll::Pending if self.watched.times.may_rest() => Poll::Ready(End::Quiet),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

/// How a conversation ended.
enum Conversation<IO> {
    /// So did the connection.
    Over,
    /// Nothing has been said for a while. What was read and not understood yet comes with it.
    Quiet(IO, Bytes),
    /// The client has been told that it may speak another protocol, and may have begun to.
    Switched(Tunnel, IO, Bytes),
}

/// Why a connection is no longer polled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Over,
    Quiet,
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
