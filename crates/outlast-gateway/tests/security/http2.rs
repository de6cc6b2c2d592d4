//! HTTP/2: floods that cost the client nothing, and what is malformed.

use std::io::Write;
use std::thread;

use crate::Bench;
use crate::wire::connect;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Where the static table of HPACK has the statuses that a hyper server sends as one byte.
const STATUS_200: u8 = 0x88;
const STATUS_400: u8 = 0x8c;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals without indexing.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // One byte suffices below 127 (RFC 7541, 5.1).
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "a.test"),
    (":path", "/"),
];

/// A GET with these fields behind its own.
fn get(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        stream,
        &block(&[&GET, more].concat()),
    )
}

fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [&[(":method", "POST")], &GET[1..], more].concat();
    frame(HEADERS, END_HEADERS, stream, &block(&fields))
}

/// What the gateway said.
#[derive(Debug, Default)]
struct Answer {
    /// The first byte of each response's head.
    statuses: Vec<u8>,
    resets: Vec<u32>,
    goaway: Option<u32>,
    frames: usize,
}

impl Answer {
    fn parse(mut output: &[u8]) -> Self {
        let mut answer = Answer::default();
        let code = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        while let Some((header, rest)) = output.split_at_checked(9) {
            let length = code(&[0, header[0], header[1], header[2]]) as usize;
            let Some((payload, rest)) = rest.split_at_checked(length) else {
                break;
            };
            answer.frames += 1;
            match header[3] {
                HEADERS => answer.statuses.push(payload[0]),
                RST_STREAM => answer.resets.push(code(payload)),
                GOAWAY => answer.goaway = Some(code(&payload[4..8])),
                _ => {}
            }
            output = rest;
        }
        answer
    }
}

/// Sends these frames behind the preface, and then a GOAWAY, so that the gateway closes once it
/// has answered what it wants to answer.
fn ask(bench: &Bench, frames: &[u8]) -> Answer {
    let settings = frame(SETTINGS, 0, 0, &[]);
    let end = frame(GOAWAY, 0, 0, &[0; 8]);
    let (output, closed) = crate::wire::send(
        bench.address(),
        &[PREFACE, &settings, frames, &end].concat(),
    );
    assert!(
        closed,
        "the gateway does not close: {:?}",
        Answer::parse(&output)
    );
    Answer::parse(&output)
}

#[track_caller]
fn check_flood(bench: &Bench, name: &str, flood: &[u8]) {
    let answer = ask(bench, flood);
    assert_eq!(answer.goaway, Some(ENHANCE_YOUR_CALM), "{name}: {answer:?}");
    assert!(answer.frames < 1500, "{name}: {answer:?}");
}

#[test]
fn an_honest_request_is_served() {
    let bench = Bench::start(&[]);
    let answer = ask(&bench, &[get(1, &[]), get(3, &[("x-a", "b")])].concat());
    assert_eq!(answer.statuses, [STATUS_200; 2], "{answer:?}");
    assert_eq!(bench.upstream.take().len(), 2);
}

#[test]
fn floods_end_the_connection() {
    let bench = Bench::start(&[]);
    let open = post(1, &[]);
    for (name, frames) in [
        ("PING", frame(PING, 0, 0, &[0; 8]).repeat(50_000)),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[]).repeat(50_000)),
        (
            "PRIORITY",
            frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]).repeat(50_000),
        ),
        (
            "WINDOW_UPDATE",
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(50_000),
        ),
        (
            "empty DATA",
            [open, frame(DATA, 0, 1, &[]).repeat(50_000)].concat(),
        ),
        (
            "empty CONTINUATION",
            [
                frame(HEADERS, 0, 1, &[]),
                frame(CONTINUATION, 0, 1, &[]).repeat(50_000),
            ]
            .concat(),
        ),
    ] {
        check_flood(&bench, name, &frames);
    }
    assert!(bench.upstream.take().is_empty());
}

#[test]
fn rapid_resets_end_the_connection() {
    let bench = Bench::start(&[]);
    let streams = (0..10_000).map(|number| 2 * number + 1);
    let frames = streams
        .flat_map(|stream| {
            [
                get(stream, &[]),
                frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ]
        })
        .collect::<Vec<_>>();
    check_flood(&bench, "rapid reset", &frames.concat());
    assert!(bench.upstream.take().len() <= 1000);
}

#[test]
fn resets_that_the_client_provokes_end_the_connection() {
    let bench = Bench::start(&[]);
    let streams = (0..5_000).map(|number| 2 * number + 1);
    let frames = streams
        .flat_map(|stream| [post(stream, &[]), frame(WINDOW_UPDATE, 0, stream, &[0; 4])])
        .collect::<Vec<_>>();
    let answer = ask(&bench, &frames.concat());
    assert!(answer.goaway.is_some_and(|code| code != 0), "{answer:?}");
    assert!(answer.resets.len() <= 1100, "{}", answer.resets.len());
}

#[test]
fn a_flood_of_fields_ends_the_connection() {
    let bench = Bench::start(&[]);
    let field = block(&[("x-a", &"b".repeat(100))]).repeat(150);
    let start = frame(HEADERS, 0, 1, &block(&GET));
    let mut stream = connect(bench.address());
    stream
        .write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &start].concat())
        .unwrap();
    let flood = frame(CONTINUATION, 0, 1, &field);
    // 20 MB, of which the gateway takes a little.
    let answer = thread::scope(|scope| {
        let mut writer = stream.try_clone().unwrap();
        scope.spawn(move || {
            for _ in 0..1200 {
                if writer.write_all(&flood).is_err() {
                    return;
                }
            }
        });
        let mut output = Vec::new();
        drop(std::io::Read::read_to_end(&mut stream, &mut output));
        Answer::parse(&output)
    });
    // The gateway may have been reset by what the client had sent already.
    assert!(answer.goaway.is_none_or(|code| code != 0), "{answer:?}");
    assert!(
        answer.statuses.iter().all(|status| *status != STATUS_200),
        "{answer:?}"
    );
    assert!(bench.upstream.take().is_empty());
}

#[test]
fn a_bomb_of_indexed_fields_does_not_go_off() {
    let bench = Bench::start(&[]);
    // A field of 4000 bytes is put into the dynamic table and then named 8000 times: 32 MB.
    let mut fields = block(&GET);
    fields.extend([0x40, 1, b'a', 0x7f]);
    fields.extend([0xa1, 0x1e]); // 4000 - 127
    fields.extend([b'b'; 4000]);
    fields.extend([0xbe; 8000]);
    let answer = ask(
        &bench,
        &frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields),
    );
    assert!(
        answer.statuses.iter().all(|status| *status != STATUS_200),
        "{answer:?}"
    );
    assert!(bench.upstream.take().is_empty());
}

#[test]
fn malformed_requests_are_reset() {
    let bench = Bench::start(&[]);
    let head =
        |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields));
    let late = [("x-a", "b"), GET[0], GET[1], GET[2], GET[3]];
    let no_slash = [GET[0], GET[1], GET[2], (":path", "x")];
    let protocol = [PROTOCOL_ERROR].as_slice();
    let vectors: &[(&str, Vec<u8>, &[u32])] = &[
        ("upper-case name", get(1, &[("X-A", "b")]), protocol),
        ("CRLF in value", get(1, &[("x-a", "b\r\nc: d")]), protocol),
        ("NUL in value", get(1, &[("x-a", "b\0")]), protocol),
        ("no path", head(&GET[..3]), protocol),
        ("two paths", get(1, &[(":path", "/b")]), protocol),
        ("late pseudo field", head(&late), protocol),
        ("unknown pseudo field", get(1, &[(":a", "b")]), protocol),
        ("connection", get(1, &[("connection", "close")]), protocol),
        (
            "transfer-encoding",
            get(1, &[("transfer-encoding", "chunked")]),
            protocol,
        ),
        ("te", get(1, &[("te", "gzip")]), protocol),
        ("path without slash", head(&no_slash), protocol),
        ("even stream", get(2, &[]), protocol),
        ("stream 0", get(0, &[]), protocol),
        (
            "window overflow",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            &[FLOW_CONTROL_ERROR],
        ),
        (
            "frame too large",
            [post(1, &[]), frame(DATA, 0, 1, &[0; 16_385])].concat(),
            &[FRAME_SIZE_ERROR],
        ),
        (
            "less DATA than content-length",
            [
                post(1, &[("content-length", "5")]),
                frame(DATA, END_STREAM, 1, b"1234"),
            ]
            .concat(),
            protocol,
        ),
        (
            "more DATA than content-length",
            [
                post(1, &[("content-length", "5")]),
                frame(DATA, END_STREAM, 1, b"123456"),
            ]
            .concat(),
            protocol,
        ),
    ];
    let mut wrong = Vec::new();
    for (name, frames, codes) in vectors {
        let answer = ask(&bench, frames);
        let refused = answer
            .resets
            .iter()
            .chain(&answer.goaway)
            .any(|code| codes.contains(code));
        // The path is what only the service sees.
        let answered = *name == "path without slash" && answer.statuses == [STATUS_400];
        let seen = bench.upstream.take();
        if !(refused || answered) || answer.statuses.contains(&STATUS_200) || !seen.is_empty() {
            wrong.push(format!("{name}: {answer:?}, upstream got {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn authority_and_host_have_to_agree() {
    let bench = Bench::start(&[]);
    let answer = ask(&bench, &get(1, &[("host", "b.test")]));
    assert_eq!(answer.statuses, [STATUS_400], "{answer:?}");
    assert!(bench.upstream.take().is_empty());
    let answer = ask(&bench, &get(1, &[("host", "a.test")]));
    assert_eq!(answer.statuses, [STATUS_200], "{answer:?}");
    assert_eq!(bench.upstream.take().len(), 1);
}

#[test]
fn the_preface_of_http2_is_all_or_nothing() {
    let bench = Bench::start(&[]);
    let (output, closed) = crate::wire::send(bench.address(), b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    assert!(closed && output.starts_with(b"HTTP/1.1 400 "), "{output:?}");
}
