//! Upgraded connections: after a 101 both ends speak a protocol that is not ours.
//!
//! Bytes are copied both ways until one end closes, with back-pressure, and for as long as
//! something moves. The attempt is settled at the 101: a WebSocket may live for days, and a seat in
//! a bulkhead is for work. What bounds tunnels is the limit on connections.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;
use outlast::Clock;
use outlast::time::Time;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::exchange::Exchange;
use crate::guard::Guarded;
use crate::times::Timed;

/// Copies between both ends once both have been upgraded; the exchange is over when the tunnel is.
pub(crate) fn open(
    client: OnUpgrade,
    upstream: OnUpgrade,
    idle: Duration,
    mut exchange: Box<Exchange>,
) {
    tokio::task::spawn_local(async move {
        let (client, upstream) = match tokio::join!(client, upstream) {
            (Ok(client), Ok(upstream)) => (client, upstream),
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(%error, "an upgrade was not completed");
                return;
            }
        };
        let moved = Rc::new(Cell::new(Clock::Coarse.now()));
        let mut client = Noted::new(bare(client), &moved);
        let upstream: Box<dyn Stream> = Box::new(TokioIo::new(upstream));
        let mut upstream = Noted::new((Bytes::new(), upstream), &moved);
        let mut copied = pin!(copy_bidirectional(&mut client, &mut upstream));
        loop {
            let quiet_at = moved.get() + idle;
            let wait = quiet_at.since(Clock::Coarse.now()).max(GRAIN);
            match tokio::time::timeout(wait, copied.as_mut()).await {
                Ok(_) => break,
                Err(_) if Clock::Coarse.now() < moved.get() + idle => {}
                Err(_) => {
                    exchange.because("idle");
                    break;
                }
            }
        }
        exchange.complete();
    });
}

/// The bare stream of a client: what it sends now is not HTTP, and nothing for a guard.
fn bare(client: Upgraded) -> (Bytes, Box<dyn Stream>) {
    fn unguarded<IO: Stream>(parts: Parts<Spoken<IO>>) -> (Bytes, Box<dyn Stream>) {
        let (io, unread) = parts.io.into_inner().into_inner();
        let first = if unread.is_empty() {
            parts.read_buf
        } else {
            Bytes::from([parts.read_buf, unread].concat())
        };
        (first, Box::new(io))
    }
    match client.downcast::<Spoken<TcpStream>>() {
        Ok(parts) => unguarded(parts),
        Err(client) => match client.downcast::<Spoken<TlsStream<TcpStream>>>() {
            Ok(parts) => unguarded(parts),
            Err(client) => (Bytes::new(), Box::new(TokioIo::new(client))),
        },
    }
}

/// What HTTP/1.1 is spoken over.
type Spoken<IO> = TokioIo<Guarded<Timed<IO>>>;

trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<IO: AsyncRead + AsyncWrite + Unpin + 'static> Stream for IO {}

/// An end of a tunnel that notes when bytes move.
struct Noted {
    io: Box<dyn Stream>,
    /// What has been read already.
    first: Bytes,
    moved: Rc<Cell<Time>>,
}

impl Noted {
    fn new((first, io): (Bytes, Box<dyn Stream>), moved: &Rc<Cell<Time>>) -> Noted {
        Noted {
            io,
            first,
            moved: Rc::clone(moved),
        }
    }
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if polled.is_ready() {
            self.moved.set(Clock::Coarse.now());
        }
        polled
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The coarse clock's tick, about: waiting less would spin.
const GRAIN: Duration = Duration::from_millis(10);
