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

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use outlast::Clock;
use outlast::time::Time;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use crate::exchange::Exchange;

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
        let mut client = Noted::new(client, &moved);
        let mut upstream = Noted::new(upstream, &moved);
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

/// An end of a tunnel that notes when bytes move.
struct Noted {
    io: TokioIo<Upgraded>,
    moved: Rc<Cell<Time>>,
}

impl Noted {
    fn new(io: Upgraded, moved: &Rc<Cell<Time>>) -> Noted {
        Noted {
            io: TokioIo::new(io),
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
