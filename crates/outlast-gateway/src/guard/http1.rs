//! Follows the framing of HTTP/1 requests, and refuses what RFC 9112 does not allow.
//!
//! The intuition: whoever can make two parsers on one path disagree on where a request ends can
//! put a request of his own in front of somebody else's. So each request has exactly one reading
//! here, or none: one length or one `chunked`, lines that end in CRLF, no folding, no white space
//! where a lenient parser might cut a name, one valid host.
//!
//! Verdicts are given on whole lines, at their line feed and before it is passed on. hyper ends
//! heads, chunk sizes and trailers at line feeds, too, so that it can complete nothing that has not
//! been judged; and a verdict cannot depend on how the bytes were split into reads, because a
//! split line is put together (it is the only thing that is ever copied).
//!
//! Left to hyper and the service, which can answer them better: the number of fields (431), the
//! length of the target (414), `Expect` (417), methods and paths. A head that is too long gets its
//! 431 from hyper: the guard erases the content of what comes beyond the limit, so that it
//! counts and can never complete a head.

use super::{Ending, Verdict, field};

/// The state of one connection.
pub(super) struct Watch {
    state: State,
    /// The line that has begun but not ended in what was read before.
    held: Vec<u8>,
    header_bytes: usize,
}

enum State {
    /// In or before a head.
    Head(Head),
    /// In a body with so many bytes to come.
    Length(u64),
    /// In a chunked body.
    Chunked { at: Chunk, overhead: usize },
    /// In a head that is longer than allowed. Nothing else follows.
    TooLong,
}

/// What the lines of a head have said so far.
#[derive(Default)]
struct Head {
    bytes: usize,
    request: Option<field::RequestLine>,
    has_host: bool,
    framing: Framing,
}

#[derive(Clone, Copy, Default)]
enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
}

enum Chunk {
    /// Before a chunk: in the line of its size.
    Size,
    Data(u64),
    /// Behind the data, before the carriage return.
    DataEnd,
    /// Behind the data, before the line feed.
    DataLineFeed,
    Trailers,
}

struct Violation;

impl Watch {
    pub(super) fn new(header_bytes: usize) -> Self {
        Watch {
            state: State::Head(Head::default()),
            held: Vec::new(),
            header_bytes,
        }
    }

    /// Looks at what has been read.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Verdict {
        let mut position = 0;
        while position < bytes.len() {
            let rest = &bytes[position..];
            let taken = match &mut self.state {
                State::Length(left)
                | State::Chunked {
                    at: Chunk::Data(left),
                    ..
                } => Ok(take(left, rest.len())),
                State::Chunked {
                    at: at @ (Chunk::DataEnd | Chunk::DataLineFeed),
                    ..
                } => at.data_end(rest[0]),
                State::Head(_) | State::Chunked { .. } => self.line(rest),
                State::TooLong => return Verdict::Erase { keep: position },
            };
            match taken {
                Ok(taken) => position += taken,
                Err(Violation) => return self.refuse(position),
            }
            self.advance();
        }
        Verdict::Pass
    }

    /// Whether the client has begun what it has not ended.
    pub(super) fn is_mid_message(&self) -> bool {
        match &self.state {
            State::Head(head) => head.bytes > 0 || !self.held.is_empty(),
            State::Length(_) | State::Chunked { .. } | State::TooLong => true,
        }
    }

    /// Leaves a part that has come to its end.
    fn advance(&mut self) {
        match &mut self.state {
            State::Length(0) => self.state = State::Head(Head::default()),
            State::Chunked {
                at: at @ Chunk::Data(0),
                ..
            } => *at = Chunk::DataEnd,
            _ => {}
        }
    }

    fn refuse(&mut self, keep: usize) -> Verdict {
        let ending = match self.state {
            // No method, target, name, value or line end may contain a NUL. The empty line makes
            // hyper parse: it looks at a head that was incomplete again only when it sees one.
            State::Head(_) | State::TooLong => Ending::Bytes(b"\0\r\n\r\n"),
            // hyper's decoders read an error as one, wherever in the body they are.
            State::Length(_) | State::Chunked { .. } => Ending::Error("malformed chunked body"),
        };
        Verdict::End { keep, ending }
    }

    /// Judges the line that these bytes begin with or continue, if they have its end. Says how
    /// many of them belong to it.
    fn line(&mut self, rest: &[u8]) -> Result<usize, Violation> {
        let end = field::line_end(rest);
        match end {
            None => {
                self.held.extend_from_slice(rest);
                self.bound(self.held.len())?;
            }
            Some(end) if self.held.is_empty() => self.whole_line(&rest[..end])?,
            Some(end) => {
                let mut line = std::mem::take(&mut self.held);
                line.extend_from_slice(&rest[..end]);
                self.whole_line(&line)?;
            }
        }
        match self.state {
            // A head that has become too long is erased from this line on.
            State::TooLong => Ok(0),
            _ => Ok(end.unwrap_or(rest.len())),
        }
    }

    /// Whether so many bytes of a line may still come, or have come.
    fn bound(&mut self, line: usize) -> Result<(), Violation> {
        match &self.state {
            State::Head(head) if head.bytes + line > self.header_bytes => {
                self.state = State::TooLong;
                self.held = Vec::new();
                Ok(())
            }
            State::Chunked { overhead, .. } if overhead + line > OVERHEAD + SIZE_DIGITS => {
                Err(Violation)
            }
            _ => Ok(()),
        }
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.bound(line.len())?;
        if let State::TooLong = self.state {
            return Ok(());
        }
        let text = line.strip_suffix(b"\r\n").ok_or(Violation)?;
        match &mut self.state {
            State::Head(head) => {
                head.bytes += line.len();
                if let Some(framing) = head.line(text)? {
                    self.state = framing.body();
                }
            }
            State::Chunked { at, overhead } => {
                if let (Chunk::Trailers, []) = (&at, text) {
                    self.state = State::Head(Head::default());
                    return Ok(());
                }
                *overhead += at.line(text)?;
                if *overhead > OVERHEAD {
                    return Err(Violation);
                }
            }
            State::Length(_) | State::TooLong => {}
        }
        Ok(())
    }
}

impl Head {
    /// Reads the next line. At the empty line behind the fields, says how the body is framed.
    fn line(&mut self, text: &[u8]) -> Result<Option<Framing>, Violation> {
        let Some(request) = &self.request else {
            // An empty line or some before the request line are to be ignored (RFC 9112 2.2).
            if !text.is_empty() {
                self.request = Some(field::request_line(text).ok_or(Violation)?);
            }
            return Ok(None);
        };
        if text.is_empty() {
            let complete = self.has_host || !request.is_1_1;
            return if complete {
                Ok(Some(self.framing))
            } else {
                Err(Violation)
            };
        }
        let is_1_1 = request.is_1_1;
        let (name, value) = field::field(text).ok_or(Violation)?;
        self.field(is_1_1, name, value)
            .then_some(None)
            .ok_or(Violation)
    }

    fn field(&mut self, is_1_1: bool, name: &[u8], value: &[u8]) -> bool {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                !std::mem::replace(&mut self.has_host, true) && field::is_host(value)
            }
            10 if name.eq_ignore_ascii_case(b"connection") => field::is_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                field::decimal(value).is_some_and(|length| self.frame(Framing::Length(length)))
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                is_1_1 && value.eq_ignore_ascii_case(b"chunked") && self.frame(Framing::Chunked)
            }
            _ => true,
        }
    }

    /// Whether this is the first word on the framing, as it has to be.
    fn frame(&mut self, framing: Framing) -> bool {
        matches!(std::mem::replace(&mut self.framing, framing), Framing::None)
    }
}

impl Framing {
    fn body(self) -> State {
        match self {
            Framing::None | Framing::Length(0) => State::Head(Head::default()),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked {
                at: Chunk::Size,
                overhead: 0,
            },
        }
    }
}

impl Chunk {
    /// Reads a line with the size of a chunk, or a trailer. Says how much of it is neither size
    /// nor data.
    fn line(&mut self, text: &[u8]) -> Result<usize, Violation> {
        if let Chunk::Trailers = self {
            let (name, _) = field::field(text).ok_or(Violation)?;
            return if field::is_trailer(name) {
                Ok(text.len())
            } else {
                Err(Violation)
            };
        }
        let digits = text
            .iter()
            .position(|byte| !byte.is_ascii_hexdigit())
            .unwrap_or(text.len());
        let (size, extension) = text.split_at(digits);
        let is_good = extension.is_empty()
            || extension.trim_ascii_start().starts_with(b";") && field::is_text(extension);
        *self = match field::hexadecimal(size) {
            Some(0) if is_good => Chunk::Trailers,
            Some(size) if is_good => Chunk::Data(size),
            _ => return Err(Violation),
        };
        Ok(extension.len())
    }

    fn data_end(&mut self, byte: u8) -> Result<usize, Violation> {
        *self = match (&self, byte) {
            (Chunk::DataEnd, b'\r') => Chunk::DataLineFeed,
            (Chunk::DataLineFeed, b'\n') => Chunk::Size,
            _ => return Err(Violation),
        };
        Ok(1)
    }
}

/// Takes what belongs to the body from so many bytes.
fn take(left: &mut u64, available: usize) -> usize {
    // What does not fit into a word is more than is there.
    let taken = usize::try_from(*left).map_or(available, |left| left.min(available));
    *left -= taken as u64;
    taken
}

/// How many bytes of chunk extensions and trailers a body may have in all. No known client sends
/// extensions; trailers are checksums and timings.
const OVERHEAD: usize = 16 << 10;

/// The longest size of a chunk, and its line end.
const SIZE_DIGITS: usize = 18;
