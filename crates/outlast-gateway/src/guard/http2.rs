//! Counts the frames of an HTTP/2 connection that cost the server something and the client
//! nothing.
//!
//! The intuition: HTTP/2 obliges the receiver to answer PING and SETTINGS, and to do bookkeeping
//! for frames of nine bytes; flow control limits none of them. h2 bounds some floods (resets,
//! CONTINUATION, empty DATA), but answers pings for as long as they come. Here every such kind has
//! a bucket of tokens, which fills with time and, where the protocol makes honest clients send more
//! of a kind the more they are served, with what the server sends.
//!
//! The law: a client that stays within the rates has all its bytes passed on unchanged; one that
//! does not gets GOAWAY with ENHANCE_YOUR_CALM behind the frame that was one too many. The watch
//! reads no payload: that frames are well formed, in order and within size is h2's business.
//!
//! Time is only asked for when a bucket is empty, so that it costs nothing in peace.

use std::time::Duration;

use super::{Ending, Verdict};

/// The state of one connection.
pub(super) struct Watch {
    state: State,
    buckets: [Bucket; KINDS.len()],
    /// Of the block of header fields that is being sent.
    block: Block,
    /// Bytes that were sent and have not been turned into tokens yet.
    sent: usize,
}

enum State {
    /// So many bytes to come of the preface or of a frame's payload.
    Skip(usize),
    /// In a frame's header.
    Header { bytes: [u8; HEADER], count: usize },
    /// A limit was exceeded; at the end of the frame, so many bytes away, the connection ends.
    Last(usize),
}

#[derive(Default)]
struct Block {
    frames: usize,
    bytes: usize,
}

/// What is rationed, and how.
struct Kind {
    counts: fn(&Frame) -> bool,
    burst: u32,
    per_second: u32,
    /// How many bytes the server has to send to be owed one more, if that counts.
    per_bytes: Option<usize>,
    /// How many more every request earns.
    per_request: u32,
}

struct Bucket {
    tokens: u32,
    filled: Duration,
}

struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Default for Watch {
    fn default() -> Self {
        let full = |kind: &Kind| Bucket {
            tokens: kind.burst,
            filled: Duration::ZERO,
        };
        Watch {
            state: State::Skip(PREFACE),
            buckets: KINDS.each_ref().map(full),
            block: Block::default(),
            sent: 0,
        }
    }
}

impl Watch {
    /// Looks at what has been read. `now` counts from any fixed moment.
    pub(super) fn look(&mut self, bytes: &[u8], now: impl Fn() -> Duration) -> Verdict {
        let mut position = 0;
        loop {
            let rest = &bytes[position..];
            match &mut self.state {
                State::Last(left) if *left <= rest.len() => {
                    let keep = position + *left;
                    return Verdict::End {
                        keep,
                        ending: Ending::Bytes(CALM_DOWN),
                    };
                }
                State::Skip(0) => {
                    self.state = State::Header {
                        bytes: [0; HEADER],
                        count: 0,
                    };
                }
                _ if rest.is_empty() => return Verdict::Pass,
                State::Skip(left) | State::Last(left) => {
                    let taken = rest.len().min(*left);
                    *left -= taken;
                    position += taken;
                }
                State::Header {
                    bytes: header,
                    count,
                } => {
                    let taken = rest.len().min(HEADER - *count);
                    header[*count..*count + taken].copy_from_slice(&rest[..taken]);
                    *count += taken;
                    position += taken;
                    if *count == HEADER {
                        let frame = Frame::read(*header);
                        let is_fair = self.is_fair(&frame, &now);
                        let next = if is_fair { State::Skip } else { State::Last };
                        self.state = next(frame.length);
                    }
                }
            }
        }
    }

    /// Counts what the server sends: who is served much has more to acknowledge.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes);
        if self.sent >= CREDIT {
            for (bucket, kind) in self.buckets.iter_mut().zip(&KINDS) {
                if let Some(per_bytes) = kind.per_bytes {
                    bucket.add(kind, (self.sent / per_bytes) as u64);
                }
            }
            self.sent = 0;
        }
    }

    fn is_fair(&mut self, frame: &Frame, now: &impl Fn() -> Duration) -> bool {
        if frame.kind == HEADERS {
            self.block = Block::default();
            for (bucket, kind) in self.buckets.iter_mut().zip(&KINDS) {
                bucket.add(kind, u64::from(kind.per_request));
            }
        }
        if let HEADERS | CONTINUATION = frame.kind {
            self.block.frames += 1;
            self.block.bytes = self.block.bytes.saturating_add(frame.length);
            return self.block.frames <= BLOCK_FRAMES && self.block.bytes <= BLOCK_BYTES;
        }
        let rationed = self
            .buckets
            .iter_mut()
            .zip(&KINDS)
            .find(|(_, kind)| (kind.counts)(frame));
        rationed.is_none_or(|(bucket, kind)| bucket.take(kind, now))
    }
}

impl Bucket {
    fn take(&mut self, kind: &Kind, now: impl Fn() -> Duration) -> bool {
        if self.tokens == 0 {
            let now = now();
            let earned = now.saturating_sub(self.filled).as_millis() * u128::from(kind.per_second);
            // What is less than a token goes on being earned.
            if earned >= 1000 {
                self.filled = now;
                self.add(kind, u64::try_from(earned / 1000).unwrap_or(u64::MAX));
            }
        }
        let is_left = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        is_left
    }

    fn add(&mut self, kind: &Kind, tokens: u64) {
        let full = u64::from(kind.burst);
        let tokens = u64::from(self.tokens).saturating_add(tokens).min(full);
        self.tokens = u32::try_from(tokens).unwrap_or(kind.burst);
    }
}

impl Frame {
    fn read(header: [u8; HEADER]) -> Self {
        let [high, middle, low, kind, flags, ..] = header;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        Frame {
            length,
            kind,
            flags,
        }
    }
}

const PREFACE: usize = 24;
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// How often outbound bytes are turned into tokens.
const CREDIT: usize = 4 << 10;

/// The most frames and bytes of one block of header fields. h2 has bounds of its own, which
/// depend on how it is configured.
const BLOCK_FRAMES: usize = 64;
const BLOCK_BYTES: usize = 64 << 10;

/// What is rationed. The bursts are what an honest client may have saved up, the rates what it
/// needs in the long run; both are far below what costs the server a noticeable share of a core.
const KINDS: [Kind; 6] = [
    // Some clients measure the bandwidth with one per round trip while they receive.
    Kind {
        counts: |frame| frame.kind == PING,
        burst: 200,
        per_second: 100,
        per_bytes: Some(1 << 10),
        per_request: 0,
    },
    Kind {
        counts: |frame| frame.kind == SETTINGS,
        burst: 200,
        per_second: 100,
        per_bytes: None,
        per_request: 0,
    },
    // Deprecated, but browsers send some at the start and one per request.
    Kind {
        counts: |frame| frame.kind == PRIORITY,
        burst: 200,
        per_second: 100,
        per_bytes: None,
        per_request: 2,
    },
    // Padding counts as content: flow control limits it.
    Kind {
        counts: |frame| frame.kind == DATA && frame.length == 0 && frame.flags & END_STREAM == 0,
        burst: 200,
        per_second: 100,
        per_bytes: None,
        per_request: 0,
    },
    // Two for each stream and, at the least, two for what a small window holds.
    Kind {
        counts: |frame| frame.kind == WINDOW_UPDATE,
        burst: 1000,
        per_second: 100,
        per_bytes: Some(128),
        per_request: 2,
    },
    // Clients that hedge or that time out reset honestly, and many at once. h2 ends the
    // connection much earlier if streams are reset before they were served (rapid reset).
    Kind {
        counts: |frame| frame.kind == RST_STREAM,
        burst: 1000,
        per_second: 200,
        per_bytes: Some(1 << 10),
        per_request: 0,
    },
];

/// Opens a block of header fields and goes on with empty CONTINUATION frames until h2 has had
/// enough, which is what makes it say ENHANCE_YOUR_CALM. Where that is not enough for a large
/// configured size, the end of the stream behind it closes the connection.
const CALM_DOWN: &[u8] = &calm_down();

const fn calm_down() -> [u8; HEADER * 32] {
    let mut bytes = [0; HEADER * 32];
    let mut frame = 0;
    while frame < 32 {
        bytes[frame * HEADER + 3] = if frame == 0 { HEADERS } else { CONTINUATION };
        // A stream of its own: the highest there is, which is a client's.
        bytes[frame * HEADER + 5] = 0x7f;
        bytes[frame * HEADER + 6] = 0xff;
        bytes[frame * HEADER + 7] = 0xff;
        bytes[frame * HEADER + 8] = 0xff;
        frame += 1;
    }
    bytes
}
