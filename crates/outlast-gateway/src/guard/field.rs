//! What a line of an HTTP/1 message may look like, by the grammar of RFC 9112 and 9110.
//!
//! Pure functions over one whole line without its CRLF. They read the grammar strictly where
//! parsers are known to disagree (white space, line ends, control characters, hosts), and let
//! everything pass that cannot be misread, such as `"` or `|` in a query.

use std::net::Ipv6Addr;

/// What a request line says about what follows.
pub(super) struct RequestLine {
    /// HTTP/1.1, not 1.0.
    pub(super) is_1_1: bool,
}

/// Reads `GET /path HTTP/1.1`.
pub(super) fn request_line(line: &[u8]) -> Option<RequestLine> {
    let (start, version) = line.split_at_checked(line.len().checked_sub(b" HTTP/1.1".len())?)?;
    let is_1_1 = match version {
        b" HTTP/1.1" => true,
        b" HTTP/1.0" => false,
        _ => return None,
    };
    let space = start.iter().position(|&byte| byte == b' ')?;
    let (method, target) = (&start[..space], &start[space + 1..]);
    (is_token(method) && is_target(method, target)).then_some(RequestLine { is_1_1 })
}

/// Splits `name: value`, the white space around the value taken off. `None` for a folded line, an
/// empty or malformed name, white space before the colon, and control characters.
pub(super) fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| !TOKEN[usize::from(byte)])?;
    if colon == 0 || line[colon] != b':' || !is_text(&line[colon + 1..]) {
        return None;
    }
    Some((&line[..colon], trim(&line[colon + 1..])))
}

/// Whether these are the characters of a field value: visible ones, white space and, as ever,
/// bytes beyond ASCII.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words
        .iter()
        .all(|word| !has_control(u64::from_le_bytes(*word)) || word.iter().all(is_text_byte))
        && rest.iter().all(is_text_byte)
}

/// Whether this is one or more characters of a token.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| TOKEN[usize::from(byte)])
}

/// Reads a decimal number that fits into 63 bits, as lengths have to.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.iter().map(|&byte| char::from(byte).to_digit(10));
    number(bytes, digits, 10)
}

/// Reads a hexadecimal number that fits into 63 bits.
pub(super) fn hexadecimal(bytes: &[u8]) -> Option<u64> {
    // Leading zeros are no reason to read on for ever.
    if bytes.len() > 16 {
        return None;
    }
    let digits = bytes.iter().map(|&byte| char::from(byte).to_digit(16));
    number(bytes, digits, 16)
}

/// Whether this is `host[:port]`: a name or an address, no user, no path, no list. Percent
/// encoding and commas, which the grammar of URIs would allow, occur in no name that exists.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (host_is_good, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else {
                return false;
            };
            let address = str::from_utf8(&rest[..end]).ok();
            (
                address.is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()),
                &rest[end + 1..],
            )
        }
        None => {
            let end = value
                .iter()
                .position(|&byte| byte == b':')
                .unwrap_or(value.len());
            let host = &value[..end];
            (
                !host.is_empty() && host.iter().all(is_host_byte),
                &value[end..],
            )
        }
    };
    host_is_good && (port.is_empty() || is_port(port))
}

/// Whether every option that `Connection` names concerns the connection. To name a field here asks
/// the next proxy to remove it: whoever could name `Authorization` or `Host` would choose what
/// the next one sees (hop-by-hop abuse).
pub(super) fn is_connection(value: &[u8]) -> bool {
    value
        .split(|&byte| byte == b',')
        .map(trim)
        .filter(|option| !option.is_empty())
        .all(|option| {
            is_token(option)
                && !is_one_of(option, END_TO_END)
                && !FORWARDED
                    .eq_ignore_ascii_case(option.get(..FORWARDED.len()).unwrap_or_default())
        })
}

/// Whether a field may come after the body: not if it says how to frame, route, authenticate or
/// read the request, which has been decided by then.
pub(super) fn is_trailer(name: &[u8]) -> bool {
    !is_one_of(name, NOT_IN_TRAILERS) && !is_one_of(name, END_TO_END)
}

/// Where the line ends, counting its line feed.
pub(super) fn line_end(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = zero_bytes(u64::from_le_bytes(*word) ^ repeat(b'\n'));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8 + 1);
        }
    }
    let line_feed = rest.iter().position(|&byte| byte == b'\n')?;
    Some(words.len() * 8 + line_feed + 1)
}

fn is_target(method: &[u8], target: &[u8]) -> bool {
    if !target.iter().all(|&byte| TARGET[usize::from(byte)]) {
        return false;
    }
    match target {
        [b'/', ..] => method != b"CONNECT" && !has_encoded_nul(target),
        b"*" => method == b"OPTIONS",
        _ if method == b"CONNECT" => is_host(target) && target.contains(&b':'),
        _ => is_absolute(target) && !has_encoded_nul(target),
    }
}

fn is_absolute(target: &[u8]) -> bool {
    let Some(colon) = target.iter().position(|&byte| byte == b':') else {
        return false;
    };
    let Some(rest) = target[colon..].strip_prefix(b"://") else {
        return false;
    };
    let end = rest
        .iter()
        .position(|byte| b"/?".contains(byte))
        .unwrap_or(rest.len());
    is_one_of(&target[..colon], &[b"http", b"https"]) && is_host(&rest[..end])
}

fn has_encoded_nul(target: &[u8]) -> bool {
    target
        .iter()
        .enumerate()
        .any(|(index, &byte)| byte == b'%' && target[index..].starts_with(b"%00"))
}

fn is_port(port: &[u8]) -> bool {
    port[0] == b':' && (port.len() == 1 || decimal(&port[1..]).is_some_and(|port| port < 1 << 16))
}

fn is_host_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte)
}

fn is_text_byte(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

fn is_one_of(name: &[u8], names: &[&[u8]]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other))
}

fn number(bytes: &[u8], digits: impl Iterator<Item = Option<u32>>, base: u64) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for digit in digits {
        number = number.checked_mul(base)?.checked_add(u64::from(digit?))?;
    }
    (number < 1 << 63).then_some(number)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether one of eight bytes is below the space or DEL. See "Bit Twiddling Hacks": exact as a
/// yes or no.
const fn has_control(word: u64) -> bool {
    let below_space = word.wrapping_sub(repeat(b' ')) & !word & repeat(0x80);
    below_space | zero_bytes(word ^ repeat(0x7f)) != 0
}

/// The high bit of each zero byte; exact up to the first one, from the low end.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(repeat(1)) & !word & repeat(0x80)
}

const fn repeat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

const TOKEN: [bool; 256] = table(true);
const TARGET: [bool; 256] = table(false);

const fn table(token: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte < 0x7f {
        table[byte as usize] = match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => true,
            b'!' | b'$'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                true
            }
            // In a target: no fragment, and no backslash, which some servers take for a slash.
            b'#' => token,
            b'\\' => false,
            _ => !token,
        };
        byte += 1;
    }
    table
}

const FORWARDED: &[u8] = b"x-forwarded-";

/// Fields that are meant for whoever answers the request, or that frame it.
const END_TO_END: &[&[u8]] = &[
    b"accept",
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"idempotency-key",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"origin",
    b"pragma",
    b"range",
    b"referer",
    b"set-cookie",
    b"traceparent",
    b"transfer-encoding",
    b"via",
    b"x-deadline",
    b"x-deadline-sent",
    b"x-real-ip",
    b"x-tier",
];

const NOT_IN_TRAILERS: &[&[u8]] = &[
    b"connection",
    b"keep-alive",
    b"max-forwards",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"upgrade",
];
