//! Clients that are too slow, found without a timer per request.
//!
//! A timer for each request's head, body and answer would cost more than the policies do. Instead
//! every connection notes the worker's tick when bytes move, in a few plain numbers, and one sweep
//! per worker and tick looks for connections whose silence has lasted too long:
//!
//! | silence | bound |
//! |---|---|
//! | no request, nothing sent | `idle_timeout`: closed gracefully |
//! | a head begun and not finished | `header_timeout`: 408, closed |
//! | a body begun and not finished, or an answer not read | `body_timeout`: closed |
//!
//! A tick is a quarter of a second, so every bound is kept to that. What it does not bound is a
//! client that sends a byte now and then: the route's deadline does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use outlast_config::plan::Limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often silence is looked for.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// When what moved on a connection, in ticks. Written and read by one thread; atomic only because
/// an upgraded connection's halves have to be `Send`.
#[derive(Debug)]
pub(crate) struct Times {
    tick: Arc<AtomicU32>,
    read: AtomicU32,
    blocked: AtomicU32,
    head: AtomicU32,
    requests: AtomicU32,
    awaiting_body: AtomicU32,
    is_http1: AtomicBool,
    rests: AtomicBool,
    verdict: AtomicU8,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on.
    Alive,
    /// It ends after what is in flight.
    Retire,
    /// It ends with 408.
    HeadTooSlow,
    /// It ends now.
    Stuck,
}

impl Times {
    pub(crate) fn new(tick: Arc<AtomicU32>) -> Times {
        let now = tick.load(Ordering::Relaxed);
        Times {
            tick,
            read: AtomicU32::new(now),
            blocked: AtomicU32::new(0),
            head: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            awaiting_body: AtomicU32::new(0),
            is_http1: AtomicBool::new(true),
            rests: AtomicBool::new(false),
            verdict: AtomicU8::new(0),
        }
    }

    /// HTTP/2 has no heads that begin and stall; its frames do.
    pub(crate) fn is_http2(&self) {
        self.is_http1.store(false, Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
    }

    /// A request's head is complete.
    pub(crate) fn request_begins(&self) {
        bump(&self.requests, 1);
        self.head.store(0, Ordering::Relaxed);
    }

    /// Its answer is complete, or nobody waits for it.
    pub(crate) fn request_ends(&self) {
        bump(&self.requests, -1);
        self.read.store(self.now(), Ordering::Relaxed);
    }

    /// Somebody waits for a part of a request's body, or no longer does.
    pub(crate) fn awaits_body(&self, waits: bool) {
        bump(&self.awaiting_body, if waits { 1 } else { -1 });
        self.read.store(self.now(), Ordering::Relaxed);
    }

    /// Judges its silence; whether whoever drives it should know.
    pub(crate) fn sweep(&self, limits: &Limits) -> bool {
        let silence = self.silence(limits);
        if silence != Verdict::Alive {
            self.judge(silence);
        }
        self.verdict() != Verdict::Alive || self.may_rest()
    }

    /// What its silence deserves.
    fn silence(&self, limits: &Limits) -> Verdict {
        let now = self.now();
        let since = |then: u32| TICK * now.saturating_sub(then);
        let read = |cell: &AtomicU32| cell.load(Ordering::Relaxed);
        let (blocked, head) = (read(&self.blocked), read(&self.head));
        if blocked > 0 && since(blocked) > limits.body_timeout {
            Verdict::Stuck
        } else if read(&self.requests) > 0 {
            let waits = read(&self.awaiting_body) > 0;
            if waits && since(read(&self.read)) > limits.body_timeout {
                Verdict::Stuck
            } else {
                Verdict::Alive
            }
        } else if head > 0 {
            if since(head) > limits.header_timeout {
                Verdict::HeadTooSlow
            } else {
                Verdict::Alive
            }
        } else if since(read(&self.read)) > limits.idle_timeout {
            Verdict::Retire
        } else {
            Verdict::Alive
        }
    }

    /// Whether a gateway that drains may end the connection now: HTTP/2 says goodbye, and
    /// HTTP/1.1 has had a second to send the request that was under way.
    pub(crate) fn may_retire(&self) -> bool {
        let quiet = self.now().saturating_sub(self.read.load(Ordering::Relaxed));
        !self.is_http1.load(Ordering::Relaxed) || quiet >= FAREWELL_TICKS
    }

    /// Whether it has been quiet for so long that it had better give its buffers back. HTTP/2 has
    /// none that could be found again.
    pub(crate) fn may_rest(&self) -> bool {
        let is_zero = |cell: &AtomicU32| cell.load(Ordering::Relaxed) == 0;
        let quiet = self.now().saturating_sub(self.read.load(Ordering::Relaxed));
        quiet > REST_TICKS
            && self.is_http1.load(Ordering::Relaxed)
            && !self.rests.load(Ordering::Relaxed)
            && [&self.requests, &self.head, &self.blocked]
                .into_iter()
                .all(is_zero)
    }

    /// It has given them back, or has new ones.
    pub(crate) fn rests(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }

    pub(crate) fn judge(&self, verdict: Verdict) {
        self.verdict.fetch_max(verdict as u8, Ordering::Relaxed);
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Relaxed) {
            0 => Verdict::Alive,
            1 => Verdict::Retire,
            2 => Verdict::HeadTooSlow,
            _ => Verdict::Stuck,
        }
    }

    /// Bytes have been read.
    #[inline]
    pub(crate) fn has_read(&self) {
        let now = self.now();
        self.read.store(now, Ordering::Relaxed);
        if self.requests.load(Ordering::Relaxed) == 0
            && self.is_http1.load(Ordering::Relaxed)
            && self.head.load(Ordering::Relaxed) == 0
        {
            self.head.store(now, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }
}

/// One thread writes, so there is nothing to lose between load and store.
fn bump(cell: &AtomicU32, by: i32) {
    let value = cell.load(Ordering::Relaxed);
    cell.store(value.saturating_add_signed(by), Ordering::Relaxed);
}

/// A stream whose bytes are noted in its connection's [`Times`], and which ends by its verdict.
#[derive(Debug)]
pub(crate) struct Timed<IO> {
    io: IO,
    times: Arc<Times>,
    told: bool,
}

impl<IO> Timed<IO> {
    pub(crate) fn new(io: IO, times: Arc<Times>) -> Timed<IO> {
        Timed {
            io,
            times,
            told: false,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Timed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.times.verdict() {
            Verdict::HeadTooSlow => {
                // Nothing is being answered, so nothing is mixed up with this.
                if !std::mem::replace(&mut self.told, true) {
                    let _ = Pin::new(&mut self.io).poll_write(cx, TOO_SLOW);
                }
                return Poll::Ready(Ok(()));
            }
            // Whoever drives the connection ends it.
            Verdict::Alive | Verdict::Retire | Verdict::Stuck => {}
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.times.has_read();
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> Timed<IO> {
    fn noted<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let blocked = &self.times.blocked;
        if polled.is_ready() {
            blocked.store(0, Ordering::Relaxed);
        } else if blocked.load(Ordering::Relaxed) == 0 {
            blocked.store(self.times.now(), Ordering::Relaxed);
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Timed<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.noted(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.noted(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.noted(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.noted(polled)
    }
}

/// A second.
const FAREWELL_TICKS: u32 = 4;
/// A second: a client that asks more often than that gains nothing by new buffers.
const REST_TICKS: u32 = 4;
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let loaded = outlast_config::parse("t", "").expect("an empty file");
        loaded.into_plan().gateway.limits
    }

    fn check(script: &[&str], expected: Verdict) {
        let tick = Arc::new(AtomicU32::new(1));
        let times = Times::new(Arc::clone(&tick));
        for &event in script {
            match event {
                "read" => times.has_read(),
                "begin" => times.request_begins(),
                "end" => times.request_ends(),
                "await" => times.awaits_body(true),
                "blocked" => times.blocked.store(times.now(), Ordering::Relaxed),
                seconds => {
                    let seconds: u32 = seconds.parse().expect("seconds");
                    tick.fetch_add(seconds * 4, Ordering::Relaxed);
                }
            }
        }
        times.sweep(&limits());
        assert_eq!(times.verdict(), expected, "{script:?}");
    }

    #[test]
    fn each_silence_has_its_bound() {
        check(&["74"], Verdict::Alive);
        check(&["76"], Verdict::Retire);
        check(&["read", "9"], Verdict::Alive);
        check(&["read", "9", "read", "2"], Verdict::HeadTooSlow);
        check(&["read", "begin", "500"], Verdict::Alive);
        check(&["read", "begin", "await", "31"], Verdict::Stuck);
        check(
            &["read", "begin", "await", "20", "read", "20"],
            Verdict::Alive,
        );
        check(&["read", "begin", "500", "end", "74"], Verdict::Alive);
        check(&["read", "begin", "500", "end", "76"], Verdict::Retire);
        check(&["read", "begin", "blocked", "31"], Verdict::Stuck);
    }
}
