//! A guard in front of hyper: what clients and the service see.

use std::convert::Infallible;
use std::error::Error as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use outlast_config::plan::{Limits, Underscores};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
};
use tokio::time::timeout;

use super::super::Guarded;
use super::http2::*;

/// What the service has seen: the target and body of each request, `None` for a body that failed.
type Requests = Arc<Mutex<Vec<(String, Option<Bytes>)>>>;

/// Answers 200 with the request's body, or 400 if that fails.
async fn echo(
    requests: Requests,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.uri().to_string();
    let body = request.into_body().collect().await;
    let (status, body) = match body {
        Ok(body) => (StatusCode::OK, Some(body.to_bytes())),
        Err(error) => {
            let cause = error
                .source()
                .and_then(|cause| cause.downcast_ref::<io::Error>());
            match cause.map(io::Error::kind) {
                // The latter is hyper's own, for what it reads of a line before its end is there.
                Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                    (StatusCode::BAD_REQUEST, None)
                }
                _ => (StatusCode::IM_A_TEAPOT, None),
            }
        }
    };
    requests.lock().unwrap().push((target, body.clone()));
    let mut response = Response::new(Full::new(body.unwrap_or_default()));
    *response.status_mut() = status;
    Ok(response)
}

fn limits() -> Limits {
    Limits {
        connections: 10,
        streams: 100,
        headers: 20,
        header_bytes: 16 << 10,
        uri_bytes: 8 << 10,
        body_bytes: None,
        header_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        upgrade_idle_timeout: Duration::from_secs(10),
        underscores: Underscores::Drop,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn serve1<IO>(io: IO, already: Bytes, requests: Requests)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let service = hyper::service::service_fn(|request| echo(requests.clone(), request));
    let limits = limits();
    let guarded = Guarded::http1(io, &limits, already);
    let served = hyper::server::conn::http1::Builder::new()
        // The clients of these tests say at once that they have nothing more to send.
        .half_close(true)
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(guarded), service)
        .await;
    // A refused connection is an error, too.
    drop(served);
}

async fn serve2(io: DuplexStream, requests: Requests) {
    let service = hyper::service::service_fn(|request| echo(requests.clone(), request));
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(64 << 10)
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(Guarded::http2(io, Bytes::new())), service);
    drop(served.await);
}

/// What comes back for these bytes, written in these pieces, until the connection ends. `None` if
/// it stays open.
fn exchange(pieces: &[&[u8]]) -> (String, Vec<(String, Option<Bytes>)>) {
    let requests = Requests::default();
    let output = runtime().block_on(async {
        let (client, server) = tokio::io::duplex(1 << 20);
        let serving = serve1(server, Bytes::new(), requests.clone());
        let talking = async {
            let (mut read, mut write) = tokio::io::split(client);
            for piece in pieces {
                // Once the server has closed, the rest is not wanted.
                if write.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(write.shutdown().await);
            let mut output = Vec::new();
            let read = timeout(Duration::from_secs(20), read.read_to_end(&mut output));
            read.await.expect("the connection closes").unwrap();
            output
        };
        both(serving, talking).await
    });
    let requests = std::mem::take(&mut *requests.lock().unwrap());
    (String::from_utf8_lossy(&output).into_owned(), requests)
}

/// Drives both to their ends.
async fn both<T>(serving: impl Future<Output = ()>, talking: impl Future<Output = T>) -> T {
    let mut serving = std::pin::pin!(serving);
    let mut talking = std::pin::pin!(talking);
    let mut is_serving = true;
    let mut said = None;
    std::future::poll_fn(move |context| {
        if is_serving && serving.as_mut().poll(context).is_ready() {
            is_serving = false;
        }
        if said.is_none()
            && let Poll::Ready(value) = talking.as_mut().poll(context)
        {
            said = Some(value);
        }
        match (is_serving, said.take()) {
            (false, Some(value)) => Poll::Ready(value),
            (_, value) => {
                said = value;
                Poll::Pending
            }
        }
    })
    .await
}

fn statuses(output: &str) -> Vec<u16> {
    let heads = output
        .match_indices("HTTP/1.1 ")
        .chain(output.match_indices("HTTP/1.0 "));
    heads
        .map(|(at, _)| output[at + 9..at + 12].parse().unwrap())
        .collect()
}

#[track_caller]
fn check(input: impl AsRef<[u8]>, expected: &[u16], served: usize) {
    let input = input.as_ref();
    let bytes: Vec<_> = input
        .chunks(if input.len() > 4000 { 1000 } else { 1 })
        .collect();
    let middle = input.split_at(input.len() / 2);
    for pieces in [&[input][..], &[middle.0, middle.1], &bytes] {
        let (output, requests) = exchange(pieces);
        let shown = String::from_utf8_lossy(&input[..input.len().min(300)]);
        assert_eq!(statuses(&output), expected, "{shown:?} -> {output:?}");
        assert_eq!(requests.len(), served, "{shown:?} -> {requests:?}");
    }
}

#[test]
fn a_refused_head_is_answered_and_never_served() {
    for fields in [
        "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Host: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n",
        "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "",
        "Host: a/b\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\nX: b\r\n",
        "Host: a\rb\r\n",
        "Host: a\r\n b\r\n",
        "Host: a\r\nConnection: authorization\r\n",
    ] {
        let bad = format!("POST /bad HTTP/1.1\r\n{fields}\r\n0\r\n\r\n");
        check(&bad, &[400], 0);
        let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
        check(format!("{good}{good}{bad}{good}"), &[200, 200, 400], 2);
    }
    for line in [
        "G ET / HTTP/1.1",
        "GET / HTTP/1.2",
        "GET /#a HTTP/1.1",
        "GET /%00 HTTP/1.1",
    ] {
        check(format!("{line}\r\nHost: a\r\n\r\n"), &[400], 0);
    }
    check("GET / HTTP/1.1\nHost: a\n\n", &[400], 0);
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400], 0);
}

#[test]
fn hyper_answers_heads_that_are_too_large() {
    let fields = "X-A: b\r\n".repeat(21);
    check(
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"),
        &[431],
        0,
    );
    let field = "b".repeat(70 << 10);
    check(
        format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {field}\r\n\r\n"),
        &[431],
        0,
    );
    let fields = format!("X-A: {}\r\n", "b".repeat(4096)).repeat(5);
    check(
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"),
        &[431],
        0,
    );
    let target = "a".repeat(10 << 10);
    check(
        format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        &[200],
        1,
    );
}

#[test]
fn a_malformed_body_fails_in_the_service_which_still_answers() {
    let long = "x".repeat(100 << 10);
    for rest in [
        "z\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        &format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
    ] {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let input = format!("{head}{rest}{smuggled}");
        check(&input, &[400], 1);
        let (_, requests) = exchange(&[input.as_bytes()]);
        assert_eq!(requests, [("/".to_owned(), None)]);
    }
}

#[test]
fn what_was_read_before_comes_first() {
    let requests = Requests::default();
    runtime().block_on(async {
        let (mut client, server) = tokio::io::duplex(1024);
        client
            .write_all(b"T /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let already = Bytes::from_static(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGE");
        both(serve1(server, already, requests.clone()), async move {
            let mut output = String::new();
            client.read_to_string(&mut output).await.unwrap();
            assert_eq!(statuses(&output), [200, 200]);
        })
        .await;
    });
    let targets: Vec<_> = requests
        .lock()
        .unwrap()
        .iter()
        .map(|(target, _)| target.clone())
        .collect();
    assert_eq!(targets, ["/a", "/b"]);
}

#[test]
fn an_upgraded_stream_is_taken_out_and_no_longer_examined() {
    runtime().block_on(async {
        let (mut client, server) = tokio::io::duplex(1024);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sender = Mutex::new(Some(sender));
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let sender = sender.lock().unwrap().take().expect("there is one request");
            drop(sender.send(hyper::upgrade::on(&mut request)));
            async {
                let response = Response::builder()
                    .status(StatusCode::SWITCHING_PROTOCOLS)
                    .header("connection", "upgrade")
                    .header("upgrade", "echo");
                Ok::<_, Infallible>(response.body(Full::<Bytes>::default()).unwrap())
            }
        });
        let guarded = Guarded::http1(server, &limits(), Bytes::new());
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(guarded), service)
            .with_upgrades();
        let serving = async {
            serving.await.unwrap();
            let upgraded = receiver.await.unwrap().await.unwrap();
            let parts = upgraded
                .downcast::<TokioIo<Guarded<DuplexStream>>>()
                .unwrap();
            let (mut io, already) = parts.io.into_inner().into_inner();
            assert!(already.is_empty());
            let mut bytes = [0; 6];
            io.read_exact(&mut bytes).await.unwrap();
            io.write_all(&bytes).await.unwrap();
        };
        let talking = async move {
            let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
            client.write_all(head).await.unwrap();
            let mut output = Vec::new();
            while !output.ends_with(b"\r\n\r\n") {
                output.push(client.read_u8().await.unwrap());
            }
            assert!(output.starts_with(b"HTTP/1.1 101 "));
            client.write_all(b"\0\n\r\0 :").await.unwrap();
            let mut echo = [0; 6];
            client.read_exact(&mut echo).await.unwrap();
            assert_eq!(&echo, b"\0\n\r\0 :");
        };
        both(serving, talking).await;
    });
}

/// A stream that counts what is read from it.
struct Counted {
    io: DuplexStream,
    read: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        self.read
            .fetch_add(buffer.filled().len() - before, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[test]
fn a_client_that_is_still_sending_is_read_to_its_end() {
    let read = Arc::new(AtomicUsize::new(0));
    let (client, server) = tokio::io::duplex(4096);
    let counted = Counted {
        io: server,
        read: read.clone(),
    };
    let input = [
        b"GET / HTTP/1.1\nHost: a\n\n".as_slice(),
        &[b'x'; 300 << 10],
    ]
    .concat();
    let length = input.len();
    runtime().block_on(both(
        serve1(counted, Bytes::new(), Requests::default()),
        async move {
            let (mut read, mut write) = tokio::io::split(client);
            write
                .write_all(&input)
                .await
                .expect("the server goes on reading");
            write.shutdown().await.unwrap();
            let mut output = String::new();
            read.read_to_string(&mut output).await.unwrap();
            assert_eq!(statuses(&output), [400]);
        },
    ));
    assert_eq!(read.load(Ordering::Relaxed), length);
}

/// What a server says to these frames: the kinds of its frames, and the code of its GOAWAY.
fn answers(frames: &[Vec<u8>]) -> (Vec<u8>, Option<u32>) {
    runtime().block_on(async {
        let (client, server) = tokio::io::duplex(1 << 20);
        let input = [
            PREFACE.to_vec(),
            frame(SETTINGS, 0, 0, &[]),
            frames.concat(),
        ]
        .concat();
        both(serve2(server, Requests::default()), async move {
            let (mut read, mut write) = tokio::io::split(client);
            // The server may close before it has read all.
            drop(write.write_all(&input).await);
            let mut output = Vec::new();
            let read = timeout(Duration::from_secs(5), read.read_to_end(&mut output));
            drop(read.await);
            drop(write);
            parse(&output)
        })
        .await
    })
}

fn parse(mut output: &[u8]) -> (Vec<u8>, Option<u32>) {
    let (mut kinds, mut code) = (Vec::new(), None);
    while let Some((header, rest)) = output.split_at_checked(9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        kinds.push(header[3]);
        if header[3] == GOAWAY {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        output = rest;
    }
    (kinds, code)
}

/// `GET https://a/` by the static table of HPACK.
pub(super) const GET: &[u8] = &[0x82, 0x87, 0x84, 0x41, 1, b'a'];

#[test]
fn floods_are_answered_with_enhance_your_calm() {
    const ENHANCE_YOUR_CALM: Option<u32> = Some(11);
    let get = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, GET);
    let post = frame(HEADERS, END_HEADERS, 1, GET);
    for (name, flood) in [
        ("ping", vec![frame(PING, 0, 0, &[0; 8]); 5000]),
        ("settings", vec![frame(SETTINGS, 0, 0, &[]); 5000]),
        (
            "priority",
            vec![frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]); 5000],
        ),
        (
            "priority of many",
            (0..5000)
                .map(|n| frame(PRIORITY, 0, 2 * n + 1, &[0; 5]))
                .collect(),
        ),
        (
            "window",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]); 5000],
        ),
        (
            "empty data",
            [vec![post], vec![frame(DATA, 0, 1, &[]); 5000]].concat(),
        ),
        (
            "rapid reset",
            (0..10_000)
                .flat_map(|n| {
                    [
                        get(2 * n + 1),
                        frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]),
                    ]
                })
                .collect(),
        ),
        (
            "empty continuation",
            [
                vec![frame(HEADERS, 0, 1, &[])],
                vec![frame(CONTINUATION, 0, 1, &[]); 5000],
            ]
            .concat(),
        ),
    ] {
        let (kinds, code) = answers(&flood);
        assert_eq!(code, ENHANCE_YOUR_CALM, "{name}");
        assert!(kinds.len() < 1300, "{name}: {}", kinds.len());
    }
}

#[test]
fn honest_streams_are_served() {
    let (kinds, code) = answers(&[
        frame(HEADERS, END_HEADERS, 1, GET),
        frame(DATA, END_STREAM, 1, b"hello"),
        frame(PING, 0, 0, &[0; 8]),
        frame(GOAWAY, 0, 0, &[0; 8]),
    ]);
    assert!(kinds.contains(&HEADERS) && kinds.contains(&DATA) && kinds.contains(&PING));
    assert!(matches!(code, None | Some(0)), "{code:?}");
}

#[derive(Clone, Debug)]
struct Sent {
    head: Vec<u8>,
    body: Vec<u8>,
    framed: Vec<u8>,
}

fn request() -> impl Strategy<Value = Sent> {
    let body = vec(any::<u8>(), 0..300);
    let chunks = vec((vec(any::<u8>(), 1..200), ";[a-z]{0,9}|"), 0..5);
    let trailers = "(X-[A-Z]{1,5}: [ -~]{0,9}\r\n){0,2}";
    let value = "[ -~]{0,40}";
    prop_oneof![
        (value, body.clone()).prop_map(|(value, body)| {
            let head = format!("X-A:{value}\r\nContent-Length: {}\r\n", body.len());
            Sent {
                head: head.into_bytes(),
                framed: body.clone(),
                body,
            }
        }),
        (value, chunks, trailers).prop_map(|(value, chunks, trailers)| {
            let mut framed = Vec::new();
            for (chunk, extension) in &chunks {
                framed.extend(format!("{:x}{extension}\r\n", chunk.len()).into_bytes());
                framed.extend(chunk);
                framed.extend(b"\r\n");
            }
            framed.extend(format!("0\r\n{trailers}\r\n").into_bytes());
            let head = format!("Transfer-Encoding: chunked\r\nX-A:{value}\r\n").into_bytes();
            let body = chunks.into_iter().flat_map(|(chunk, _)| chunk).collect();
            Sent { head, framed, body }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn guard_and_hyper_agree_on_framing(
        sent in vec(request(), 1..6),
        sizes in vec(1..900_usize, 1..20),
    ) {
        let mut input = Vec::new();
        for (index, request) in sent.iter().enumerate() {
            let line = format!("POST /{index} HTTP/1.1\r\nHost: a\r\n");
            input.extend([line.as_bytes(), &request.head, b"\r\n", &request.framed].concat());
        }
        let mut rest = input.as_slice();
        let pieces: Vec<_> = sizes.iter().cycle().map_while(|size| {
            let (piece, later) = rest.split_at(rest.len().min(*size));
            rest = later;
            (!piece.is_empty()).then_some(piece)
        }).collect();
        let (_, requests) = exchange(&pieces);
        let expected: Vec<_> = sent.iter().enumerate()
            .map(|(index, sent)| (format!("/{index}"), Some(Bytes::from(sent.body.clone()))))
            .collect();
        prop_assert_eq!(requests, expected);
    }
}
