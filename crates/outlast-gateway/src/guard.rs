//! What clients send is looked at before hyper reads it.
//!
//! hyper accepts shapes of requests that a proxy must refuse, because the next parser on the way
//! may read them differently (request smuggling), and after its parse some of them can no longer
//! be seen: it removes `Content-Length` beside `Transfer-Encoding`. HTTP/2 has floods of cheap
//! frames that h2 answers faithfully for as long as they come. [`Guarded`] therefore wraps the
//! stream between the socket and hyper. Bytes are read into hyper's own buffer and examined
//! there; nothing is copied but a line that is split over two reads.
//!
//! The law: as long as the client keeps to the protocol, hyper gets exactly the bytes that were
//! sent. From the first violation on it gets none of them. It gets [`Ending`] instead, which its
//! parser is certain to refuse, so that hyper itself answers (400 and close; GOAWAY) in its own
//! order behind the responses that are still to be written; a request whose head was refused never
//! reaches the service, and the body of one whose framing broke ends in an error, never cleanly.
//!
//! A client that is still sending when the connection closes would have its last response
//! destroyed by the reset that closing over unread bytes causes. So after a shutdown the guard
//! reads and discards for a bounded while.
//!
//! A connection that has been upgraded is no longer HTTP: take the stream out with
//! [`Guarded::into_inner`]. There is no raw mode; what a client sends before its 101 is
//! examined as HTTP.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use outlast_config::plan::Limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

mod field;
mod http1;
mod http2;
#[cfg(test)]
mod tests;

/// A stream whose inbound bytes have been found to keep to the protocol.
pub(crate) struct Guarded<IO> {
    io: IO,
    /// What was read before the guard was there; it comes first.
    already: Bytes,
    watch: Watch,
    /// Once there is one, it is all that is still read.
    ending: Option<Ending>,
    linger: Linger,
}

enum Watch {
    Http1(http1::Watch),
    Http2 { watch: http2::Watch, start: Instant },
}

/// What hyper reads in place of what the client sent.
enum Ending {
    /// These bytes, then the end of the stream.
    Bytes(&'static [u8]),
    /// An error. hyper answers nothing to it, but the body that is being read fails with it, and
    /// the service answers.
    Error(&'static str),
}

/// What a look at freshly read bytes says.
enum Verdict {
    /// They may pass.
    Pass,
    /// The first `keep` may pass; the ending takes the place of the others.
    End { keep: usize, ending: Ending },
    /// The first `keep` may pass; the others count, but their content is erased.
    Erase { keep: usize },
}

/// Reading on after the shutdown, so that the last response survives.
enum Linger {
    Open,
    Lingering { until: Pin<Box<Sleep>>, left: usize },
    Over,
}

impl<IO> Guarded<IO> {
    /// Guards an HTTP/1 connection. `already` has been read from it and is delivered first.
    pub(crate) fn http1(io: IO, limits: &Limits, already: Bytes) -> Self {
        Self::new(
            io,
            already,
            Watch::Http1(http1::Watch::new(limits.header_bytes)),
        )
    }

    /// Guards an HTTP/2 connection, from its preface on. `already` has been read from it and is
    /// delivered first.
    pub(crate) fn http2(io: IO, already: Bytes) -> Self {
        let watch = Watch::Http2 {
            watch: http2::Watch::default(),
            start: Instant::now(),
        };
        Self::new(io, already, watch)
    }

    /// The bare stream of a connection that has been upgraded, and what has been read from it but
    /// not been delivered.
    pub(crate) fn into_inner(self) -> (IO, Bytes) {
        (self.io, self.already)
    }

    fn new(io: IO, already: Bytes, watch: Watch) -> Self {
        Guarded {
            io,
            already,
            watch,
            ending: None,
            linger: Linger::Open,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(ending) = &mut this.ending {
            return Poll::Ready(ending.deliver(buffer));
        }
        let start = buffer.filled().len();
        if this.already.is_empty() {
            ready!(Pin::new(&mut this.io).poll_read(context, buffer))?;
        } else {
            let count = this.already.len().min(buffer.remaining());
            buffer.put_slice(&this.already.split_to(count));
        }
        match this.watch.look(&buffer.filled()[start..]) {
            Verdict::Pass => {}
            Verdict::Erase { keep } => buffer.filled_mut()[start + keep..].fill(ERASED),
            Verdict::End { keep, mut ending } => {
                buffer.set_filled(start + keep);
                // An error must not take away the good bytes before it, and no bytes at all would
                // look like the end of the stream.
                let delivered = match ending {
                    Ending::Error(_) if keep > 0 => Ok(()),
                    _ => ending.deliver(buffer),
                };
                this.ending = Some(ending);
                return Poll::Ready(delivered);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(context, buffer))?;
        this.watch.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(context, buffers))?;
        this.watch.sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Linger::Open = this.linger {
            ready!(Pin::new(&mut this.io).poll_shutdown(context))?;
            this.linger = match this.ending.is_some() || this.watch.is_mid_message() {
                true => Linger::begin(),
                false => Linger::Over,
            };
        }
        ready!(this.linger.poll(&mut this.io, context));
        this.linger = Linger::Over;
        Poll::Ready(Ok(()))
    }
}

impl Watch {
    fn look(&mut self, bytes: &[u8]) -> Verdict {
        match self {
            Watch::Http1(watch) => watch.look(bytes),
            Watch::Http2 { watch, start } => watch.look(bytes, || start.elapsed()),
        }
    }

    fn sent(&mut self, bytes: usize) {
        match self {
            Watch::Http1(_) => {}
            Watch::Http2 { watch, .. } => watch.sent(bytes),
        }
    }

    /// Whether the client is known to have more to send.
    fn is_mid_message(&self) -> bool {
        match self {
            Watch::Http1(watch) => watch.is_mid_message(),
            Watch::Http2 { .. } => false,
        }
    }
}

impl Ending {
    fn deliver(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        match self {
            Ending::Bytes(bytes) => {
                let (now, later) = bytes.split_at(bytes.len().min(buffer.remaining()));
                buffer.put_slice(now);
                *bytes = later;
                Ok(())
            }
            Ending::Error(why) => Err(io::Error::new(io::ErrorKind::InvalidData, *why)),
        }
    }
}

impl Linger {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the driver of the guards"
    )]
    fn begin() -> Self {
        Linger::Lingering {
            until: Box::pin(tokio::time::sleep(LINGER)),
            left: LINGER_BYTES,
        }
    }

    fn poll<IO>(&mut self, io: &mut IO, context: &mut Context<'_>) -> Poll<()>
    where
        IO: AsyncRead + Unpin,
    {
        let Linger::Lingering { until, left } = self else {
            return Poll::Ready(());
        };
        if until.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut scratch = [0; 4096];
        while *left > 0 {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut *io).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    *left = left.saturating_sub(buffer.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

/// What stands for bytes whose content is erased: good in a method, a target, a name and a value,
/// and never the end of any of them.
const ERASED: u8 = b'x';

/// How long a client may go on sending after the shutdown: long enough for a response to cross any
/// network and be read, short enough not to be worth an attack.
const LINGER: Duration = Duration::from_secs(1);

/// How much it may send: more than fits into the buffers on the way.
const LINGER_BYTES: usize = 4 << 20;
