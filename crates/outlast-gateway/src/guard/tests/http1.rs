//! Every shape of request framing by itself, split into reads in every way.

use super::super::http1::Watch;
use super::super::{Ending, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;

const HEADER_BYTES: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// All of it passed, and it ends between two requests.
    Complete,
    /// All of it passed, and something is still to come.
    Open,
    BadHead,
    BadBody,
    TooLong,
}

/// What the guard says, and how many bytes it let pass.
fn watch<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Seen, usize) {
    let mut watch = Watch::new(HEADER_BYTES);
    let mut passed = 0;
    for piece in pieces {
        let (seen, keep) = match watch.look(piece) {
            Verdict::Pass => {
                passed += piece.len();
                continue;
            }
            Verdict::End {
                keep,
                ending: Ending::Bytes(_),
            } => (Seen::BadHead, keep),
            Verdict::End {
                keep,
                ending: Ending::Error(_),
            } => (Seen::BadBody, keep),
            Verdict::Erase { keep } => (Seen::TooLong, keep),
        };
        return (seen, passed + keep);
    }
    (
        if watch.is_mid_message() {
            Seen::Open
        } else {
            Seen::Complete
        },
        passed,
    )
}

#[track_caller]
fn check(input: impl AsRef<[u8]>, expected: Seen) {
    let input = input.as_ref();
    let shown = String::from_utf8_lossy(&input[..input.len().min(300)]);
    assert_eq!(watch([input]).0, expected, "in one read: {shown:?}");
    assert_eq!(
        watch(input.chunks(1)).0,
        expected,
        "byte by byte: {shown:?}"
    );
    for split in 0..input.len().min(600) {
        let (left, right) = input.split_at(split);
        assert_eq!(
            watch([left, right]).0,
            expected,
            "split at {split}: {shown:?}"
        );
    }
}

/// A POST with these fields behind its Host, and this after the head.
fn post(fields: &str, rest: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{rest}").into_bytes()
}

fn chunked(rest: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", rest)
}

#[test]
fn good_requests_pass() {
    for input in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost:a.test:8080\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: my_service-1.local\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a%20b?c=d|e&f=\"{g}\"%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a.test/b?c HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET HTTPS://a.test:1 HTTP/1.1\r\nHost: b\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
        "PURGE-IT /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A:\r\nX-B: \t a\tb c \t\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-mine,, TE\r\nTE: trailers\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        check(input, Seen::Complete);
    }
    check(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Latin: caf\xe9\r\n\r\n",
        Seen::Complete,
    );
    check("", Seen::Complete);
    check("GET / HTTP/1.1\r\nHost: a\r\n", Seen::Open);
}

#[test]
fn good_bodies_pass() {
    for input in [
        post("Content-Length: 0\r\n", ""),
        post("Content-Length: 5\r\n", "12345"),
        post(
            "content-length:\t005 \r\n",
            "1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        chunked("0\r\n\r\n"),
        chunked("5\r\nhello\r\n00a\r\n0123456789\r\n0\r\n\r\n"),
        chunked("5;a=b;c=\"d\"\r\nhello\r\n1 ; x\r\n-\r\n0;z\r\n\r\nGET / HTTP/1.0\r\n\r\n"),
        chunked("0\r\nX-Checksum: 1\r\nGrpc-Status: 0\r\n\r\n"),
        post(
            "TRANSFER-encoding:  Chunked \r\n",
            "F\r\n0123456789abcde\r\n0\r\n\r\n",
        ),
        post(
            "Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n",
            "\0\0",
        ),
    ] {
        check(input, Seen::Complete);
    }
    check(post("Content-Length: 5\r\n", "1234"), Seen::Open);
    check(chunked("5\r\nhello"), Seen::Open);
    check(
        post("Content-Length: 9223372036854775807\r\n", "1"),
        Seen::Open,
    );
}

#[test]
fn ambiguous_framing_is_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length: 2 2\r\n",
        "Content-Length: 2;\r\n",
        "Content-Length:\r\n",
        "Content-Length: 9223372036854775808\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 18446744073709551618\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "Transfer\rEncoding: chunked\r\n",
    ] {
        check(post(fields, "0\r\n\r\n"), Seen::BadHead);
    }
    check(
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        Seen::BadHead,
    );
}

#[test]
fn malformed_lines_are_refused() {
    for fields in [
        "X A: b\r\n",
        ": b\r\n",
        "X-A\r\n",
        "X-A: b\r\n folded\r\n",
        "X-A: b\r\n\tfolded\r\n",
        "X-A: b\n",
        "X-A: b\rc\r\n",
        "X-A: b\r\r\n",
        "X-A: b\0\r\n",
        "X-A: b\x7f\r\n",
        "X-A: b\x1b[0m\r\n",
        "X\u{e9}: b\r\n",
        "X-A(b): c\r\n",
        "\n",
    ] {
        check(post(fields, ""), Seen::BadHead);
    }
    check("GET / HTTP/1.1\nHost: a\n\n", Seen::BadHead);
    check("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Seen::BadHead);
    check(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Seen::BadHead);
    check(
        "GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n",
        Seen::BadHead,
    );
}

#[test]
fn bad_request_lines_are_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET /a b HTTP/1.1",
        "G ET / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /",
        "GET",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / http/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/01.1",
        "GET /#frag HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /a%00b HTTP/1.1",
        "GET /a\0b HTTP/1.1",
        "GET /a\x7fb HTTP/1.1",
        "GET /..\\b HTTP/1.1",
        "GET foo HTTP/1.1",
        "GET * HTTP/1.1",
        "GET a.test:443 HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http://user@a.test/ HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET ftp://a.test/ HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "CONNECT a.test HTTP/1.1",
        "CONNECT http://a.test:1/ HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        check(format!("{line}\r\nHost: a\r\n\r\n"), Seen::BadHead);
    }
}

#[test]
fn there_is_one_valid_host() {
    for fields in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhOST: b\r\n",
        "Host:\r\n",
        "Host: a/b\r\n",
        "Host: u@a\r\n",
        "Host: a b\r\n",
        "Host: a,b\r\n",
        "Host: a:b\r\n",
        "Host: a:65536\r\n",
        "Host: a:80:80\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a%00\r\n",
        "Host: [::1\r\n",
        "Host: [::g]\r\n",
        "Host: [a]\r\n",
        "Host: [::1]a\r\n",
        "Host: ::1\r\n",
        "Host: \u{e9}\r\n",
        "Host : a\r\n",
    ] {
        check(format!("GET / HTTP/1.1\r\n{fields}\r\n"), Seen::BadHead);
    }
    check(
        "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        Seen::BadHead,
    );
}

#[test]
fn connection_cannot_name_what_is_meant_for_the_end() {
    for option in [
        "Authorization",
        "close, authorization",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Cookie",
        "X-Forwarded-For",
        "x-forwarded-anything",
        "x-tier ",
        "a b",
        "\"close\"",
        "close;",
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {option}\r\n\r\n");
        check(input, Seen::BadHead);
    }
}

#[test]
fn malformed_chunks_end_in_an_error() {
    for rest in [
        "\r\n",
        "z\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\na\r\n",
        "1 \r\na\r\n",
        "1 a\r\na\r\n",
        "fffffffffffffffff\r\n",
        "ffffffffffffffff\r\n",
        "8000000000000000\r\n",
        "00000000000000001\r\na\r\n",
        "1\na\n0\n\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1\r\na\r0\r\n\r\n",
        "1\r\na\r\n\r\n0\r\n\r\n",
        "1;a\nb\r\na\r\n",
        "1;a\rb\r\na\r\n",
        "1;a\0\r\na\r\n",
        "1=a\r\na\r\n",
        "0\r\n\n",
        "0\nX: y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nContent-Length: 1\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nhost: b\r\n\r\n",
        "0\r\nAuthorization: b\r\n\r\n",
        "0\r\nTrailer: b\r\n\r\n",
    ] {
        check(chunked(rest), Seen::BadBody);
    }
}

#[test]
fn what_is_neither_size_nor_data_is_bounded() {
    let long = "x".repeat(17 << 10);
    check(
        chunked(&format!("1;{long}\r\na\r\n0\r\n\r\n")),
        Seen::BadBody,
    );
    check(chunked(&format!("1;{long}")), Seen::BadBody);
    check(chunked(&format!("0\r\nX-A: {long}")), Seen::BadBody);
    check(
        chunked(&"1;0123456789abcdef\r\na\r\n".repeat(1024)),
        Seen::BadBody,
    );
    let fields = "X-A: 0123456789ab\r\n".repeat(700);
    check(
        chunked(&format!("1;{}\r\na\r\n0\r\n{fields}\r\n", &long[..8000])),
        Seen::BadBody,
    );
    check(
        chunked(&format!("1;{}\r\na\r\n0\r\n\r\n", &long[..8000])),
        Seen::Complete,
    );
}

#[test]
fn a_head_beyond_the_limit_is_erased() {
    let fits = HEADER_BYTES - b"GET / HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n".len();
    let head = |length| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n",
            "b".repeat(length)
        )
        .into_bytes()
    };
    check(head(fits), Seen::Complete);
    check(head(fits + 1), Seen::TooLong);
    check(
        format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(HEADER_BYTES)),
        Seen::TooLong,
    );
    check("X".repeat(HEADER_BYTES + 1), Seen::TooLong);
    check("\r\n".repeat(HEADER_BYTES), Seen::TooLong);
    // Each head has the whole limit.
    check([head(fits), head(fits)].concat(), Seen::Complete);
}

#[test]
fn what_precedes_a_violation_passes() {
    let good = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let (seen, passed) = watch([format!("{good}GET /2 HTTP/1.1\r\nHost : a\r\n\r\n").as_bytes()]);
    assert_eq!(seen, Seen::BadHead);
    assert_eq!(passed, good.len() + "GET /2 HTTP/1.1\r\n".len());
}

/// Pieces that requests are made of, so that random ones get far.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => Just(b"POST / HTTP/1.1\r\n".to_vec()),
        2 => Just(b"Host: a\r\n".to_vec()),
        1 => Just(b"Content-Length: 7\r\n".to_vec()),
        2 => Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        4 => Just(b"\r\n".to_vec()),
        1 => Just(b"5;x\r\nhello\r\n".to_vec()),
        1 => Just(b"0\r\n".to_vec()),
        1 => Just(b"X-Long: ".repeat(300)),
        1 => Just(b"\n".to_vec()),
        1 => vec(any::<u8>(), 0..12),
    ]
}

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_the_reads(
        fragments in vec(fragment(), 0..24),
        sizes in vec(1..40_usize, 1..400),
    ) {
        let input = fragments.concat();
        let mut pieces = Vec::new();
        let mut rest = input.as_slice();
        for size in sizes.iter().cycle() {
            let (piece, later) = rest.split_at(rest.len().min(*size));
            pieces.push(piece);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let (seen, passed) = watch([input.as_slice()]);
        let (seen_in_pieces, passed_in_pieces) = watch(pieces);
        prop_assert_eq!(seen, seen_in_pieces);
        // In pieces, a line may have been passed on before its end is known to be bad.
        prop_assert!(passed <= passed_in_pieces);
        prop_assert!(!input[passed..passed_in_pieces].contains(&b'\n'));
    }

    #[test]
    fn no_bytes_panic(input in vec(any::<u8>(), 0..3000), split in 1..50_usize) {
        watch(input.chunks(split));
    }
}
