//! The connections of one worker to one endpoint.
//!
//! HTTP/1.1: a stack of idle connections, last in first out, so that those not needed grow old and
//! are closed. A connection comes back when its answer has been read to the end. HTTP/2: one
//! connection carries up to a hundred calls; then a second one is made. Nothing is shared between
//! workers, so nothing is locked.
//!
//! A connection that the endpoint closed while it lay idle is found out in three steps: it is seen
//! closed here; or hyper hands the request back unsent; or it breaks before the first byte of an
//! answer. The first two cost nothing and are repaired at once with another connection, without any
//! policy knowing; the third only if the request may be made twice.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use outlast::Clock;
use outlast::time::Time;
use outlast_config::plan::{self, Protocol};

use crate::connect::{ConnectError, Dial, Stream};
use crate::replay::Copy;
use crate::worker::LocalExecutor;

/// The connections to one endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    dial: Dial,
    protocol: Protocol,
    plan: plan::Pool,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Shared>>,
    /// Whether the other end agreed on HTTP/2, or is told to speak it.
    is_http2: Cell<bool>,
    /// Only one HTTP/2 connection is made at a time: its successors in line will share it.
    handshake: tokio::sync::Mutex<()>,
}

/// An HTTP/1.1 connection that nobody uses.
#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Copy>,
    born: Time,
    since: Time,
}

/// An HTTP/2 connection.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<Copy>,
    born: Time,
    used: Cell<Time>,
    streams: Rc<Cell<usize>>,
}

/// A connection for one request.
#[derive(Debug)]
pub(crate) enum Connection {
    Http1 {
        sender: http1::SendRequest<Copy>,
        born: Time,
        reused: bool,
    },
    Http2 {
        sender: http2::SendRequest<Copy>,
        stream: Stream2,
    },
}

/// A place among a connection's streams; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Stream2(Rc<Cell<usize>>);

impl Stream2 {
    fn take(streams: &Rc<Cell<usize>>) -> Stream2 {
        streams.set(streams.get() + 1);
        Stream2(Rc::clone(streams))
    }
}

impl Drop for Stream2 {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Pool {
    pub(crate) fn new(dial: Dial, protocol: Protocol, plan: plan::Pool) -> Pool {
        Pool {
            dial,
            protocol,
            plan,
            idle: RefCell::default(),
            shared: RefCell::default(),
            is_http2: Cell::new(protocol == Protocol::Http2),
            handshake: tokio::sync::Mutex::default(),
        }
    }

    /// A connection: an idle one, or a new one. With `fresh` a new one in any case.
    pub(crate) async fn connection(&self, fresh: bool) -> Result<Connection, ConnectError> {
        if self.is_http2.get() {
            if !fresh && let Some(stream) = self.free_stream() {
                return Ok(stream);
            }
            return Box::pin(self.stream(fresh)).await;
        }
        if !fresh && let Some(idle) = self.take_idle().await {
            return Ok(idle);
        }
        Box::pin(self.connect()).await
    }

    /// A new connection. Its future is large, and boxed by who calls it: most requests need none.
    async fn connect(&self) -> Result<Connection, ConnectError> {
        let stream = self.dial.connect().await?;
        if stream.agreed_on_http2() {
            self.is_http2.set(true);
            return self.share(stream).await;
        }
        let io = TokioIo::new(stream);
        let handshake = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .max_header_size(MAX_HEAD)
            .handshake(io)
            .await;
        let (sender, connection) = handshake.map_err(broken)?;
        let upgradable = connection.with_upgrades();
        tokio::task::spawn_local(async move {
            // Its error is the error of the request that it carries.
            let _ = upgradable.await;
        });
        Ok(Connection::Http1 {
            sender,
            born: Clock::Coarse.now(),
            reused: false,
        })
    }

    /// Whether a new connection can be made. It is closed again.
    pub(crate) async fn reaches(&self) -> bool {
        self.dial.connect().await.is_ok()
    }

    /// Takes a connection back whose answer has been read.
    pub(crate) fn give_back(&self, sender: http1::SendRequest<Copy>, born: Time) {
        let now = Clock::Coarse.now();
        let mut idle = self.idle.borrow_mut();
        let welcome = idle.len() < self.plan.idle
            && !sender.is_closed()
            && now.since(born) < self.plan.max_lifetime;
        if welcome {
            idle.push(Idle {
                sender,
                born,
                since: now,
            });
        }
    }

    /// Closes what has been idle, or alive, for too long.
    pub(crate) fn sweep(&self) {
        let now = Clock::Coarse.now();
        self.idle.borrow_mut().retain(|idle| {
            !idle.sender.is_closed()
                && now.since(idle.since) < self.plan.idle_timeout
                && now.since(idle.born) < self.plan.max_lifetime
        });
        self.shared.borrow_mut().retain(|shared| {
            let busy = shared.streams.get() > 0;
            !shared.sender.is_closed()
                && now.since(shared.born) < self.plan.max_lifetime
                && (busy || now.since(shared.used.get()) < self.plan.idle_timeout)
        });
    }

    /// How many connections it holds that can be used.
    pub(crate) fn size(&self) -> usize {
        self.idle.borrow().len() + self.shared.borrow().len()
    }

    async fn take_idle(&self) -> Option<Connection> {
        loop {
            let Idle {
                mut sender, born, ..
            } = self.idle.borrow_mut().pop()?;
            // One that has just been given back may have a last byte of bookkeeping to do.
            if !sender.is_closed() && (sender.is_ready() || sender.ready().await.is_ok()) {
                return Some(Connection::Http1 {
                    sender,
                    born,
                    reused: true,
                });
            }
        }
    }

    /// A stream of a new connection, or of one that somebody else has just made.
    async fn stream(&self, fresh: bool) -> Result<Connection, ConnectError> {
        let _turn = self.handshake.lock().await;
        if !fresh && let Some(stream) = self.free_stream() {
            return Ok(stream);
        }
        let stream = self.dial.connect().await?;
        if self.protocol == Protocol::Auto && !stream.agreed_on_http2() {
            self.is_http2.set(false);
            return Err(ConnectError::Tls(std::io::Error::other(
                "the endpoint no longer agrees on HTTP/2",
            )));
        }
        self.share(stream).await
    }

    fn free_stream(&self) -> Option<Connection> {
        let now = Clock::Coarse.now();
        let shared = self.shared.borrow();
        let free = shared.iter().find(|shared| {
            !shared.sender.is_closed()
                && shared.streams.get() < MAX_STREAMS
                && now.since(shared.born) < self.plan.max_lifetime
        })?;
        free.used.set(now);
        Some(Connection::Http2 {
            sender: free.sender.clone(),
            stream: Stream2::take(&free.streams),
        })
    }

    async fn share(&self, stream: Stream) -> Result<Connection, ConnectError> {
        let handshake = http2::Builder::new(LocalExecutor)
            .adaptive_window(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD as u32)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake.map_err(broken)?;
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        let now = Clock::Coarse.now();
        let streams = Rc::new(Cell::new(0));
        let taken = Stream2::take(&streams);
        self.shared.borrow_mut().push(Shared {
            sender: sender.clone(),
            born: now,
            used: Cell::new(now),
            streams,
        });
        Ok(Connection::Http2 {
            sender,
            stream: taken,
        })
    }
}

fn broken(error: hyper::Error) -> ConnectError {
    ConnectError::Tcp(std::io::Error::other(error))
}

/// Bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
/// What hyper may hold of a connection that is read faster than it is written.
const MAX_BUFFER: usize = 128 * 1024;
/// The least that RFC 9113 (6.5.2) recommends to allow, and enough for one congestion window.
const MAX_STREAMS: usize = 100;
/// Large enough for 64 KiB answers at a round trip of milliseconds: small windows cost a frame and
/// a wake-up each.
pub(crate) const STREAM_WINDOW: u32 = 1024 * 1024;
/// For sixteen such streams at once.
pub(crate) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// What a stream may buffer for a peer that does not read.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;
