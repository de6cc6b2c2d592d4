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
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use outlast::Clock;
use outlast::time::Time;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use crate::exchange::Exchange;

/// A tunnel whose client has yet to be told that it may speak another protocol.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) upstream: OnUpgrade,
    /// How long it may be silent.
    pub(crate) idle: Duration,
    /// Over when the tunnel is.
    pub(crate) exchange: Box<Exchange>,
}

impl Tunnel {
    /// Copies between both ends. `client` is the bare stream: what it sends now is not HTTP, and
    /// nothing for a guard; `first` has been read from it already.
    pub(crate) async fn run<IO>(self, client: IO, first: Bytes)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut exchange = self.exchange;
        let upstream = match self.upstream.await {
            Ok(upstream) => TokioIo::new(upstream),
            Err(error) => {
                tracing::debug!(%error, "an upgrade was not completed");
                return;
            }
        };
        let moved = Rc::new(Cell::new(Clock::Coarse.now()));
        let mut client = Noted::new(client, first, &moved);
        let mut upstream = Noted::new(upstream, Bytes::new(), &moved);
        let mut copied = pin!(copy_bidirectional(&mut client, &mut upstream));
        loop {
            let quiet_at = moved.get() + self.idle;
            let wait = quiet_at.since(Clock::Coarse.now()).max(GRAIN);
            match tokio::time::timeout(wait, copied.as_mut()).await {
                Ok(_) => break,
                Err(_) if Clock::Coarse.now() < moved.get() + self.idle => {}
                Err(_) => {
                    exchange.because("idle");
                    break;
                }
            }
        }
        exchange.complete();
    }
}

/// An end of a tunnel that notes when bytes move.
struct Noted<IO> {
    io: IO,
    /// What has been read already.
    first: Bytes,
    moved: Rc<Cell<Time>>,
}

impl<IO> Noted<IO> {
    fn new(io: IO, first: Bytes, moved: &Rc<Cell<Time>>) -> Noted<IO> {
        Noted {
            io,
            first,
            moved: Rc::clone(moved),
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Noted<IO> {
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

impl<IO: AsyncWrite + Unpin> AsyncWrite for Noted<IO> {
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
