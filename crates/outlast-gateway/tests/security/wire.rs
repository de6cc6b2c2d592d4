//! The two ends beside the gateway: an upstream that records, and a client that writes raw bytes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A server that records every complete request.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
}

/// A request as the upstream got it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    /// Counts the upstream's connections.
    pub(crate) connection: usize,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

impl Recorded {
    /// Its target.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The values of a field, in order; the name in lower case.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        values(&self.head, name)
    }
}

type Replies = &'static [(&'static str, &'static str)];

impl Upstream {
    pub(crate) fn start(replies: Replies) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = requests.clone();
        // It ends with the process: tests do not wait for it.
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                let record = record.clone();
                thread::spawn(move || drop(serve(stream, connection, replies, &record)));
            }
        });
        Upstream { address, requests }
    }

    /// What it got since it was asked last.
    pub(crate) fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn serve(
    stream: TcpStream,
    connection: usize,
    replies: Replies,
    record: &Mutex<Vec<Recorded>>,
) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let Some(request) = read_request(&mut reader, connection)? else {
            return Ok(());
        };
        let target = request.target().to_owned();
        let upgrades = !request.values("upgrade").is_empty();
        record.lock().unwrap().push(request);
        if let Some((_, reply)) = replies.iter().find(|(path, _)| *path == target) {
            return writer.write_all(reply.as_bytes());
        }
        if upgrades && target == "/ws/echo" {
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo";
            writer.write_all(format!("{head}\r\n\r\n").as_bytes())?;
            return io::copy(&mut reader, &mut writer).map(drop);
        }
        let length = target.len();
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{target}");
        writer.write_all(reply.as_bytes())?;
    }
}

fn read_request(reader: &mut impl BufRead, connection: usize) -> io::Result<Option<Recorded>> {
    let head = read_fields(reader)?;
    if head.is_empty() {
        return Ok(None);
    }
    let mut request = Recorded {
        connection,
        head,
        ..Recorded::default()
    };
    if !request.values("transfer-encoding").is_empty() {
        (request.body, request.trailers) = read_chunks(reader)?;
    } else if let Some(length) = request.values("content-length").first() {
        request.body = vec![0; length.parse().map_err(|_| io::ErrorKind::InvalidData)?];
        reader.read_exact(&mut request.body)?;
    }
    Ok(Some(request))
}

/// Reads up to and without the empty line. Empty at the end of the stream.
fn read_fields(reader: &mut impl BufRead) -> io::Result<String> {
    let mut fields = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 && !fields.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim_end().is_empty() {
            return Ok(fields);
        }
        fields.push_str(&line);
    }
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<(Vec<u8>, String)> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            return Ok((body, read_fields(reader)?));
        }
        let start = body.len();
        body.resize(start + size + 2, 0);
        reader.read_exact(&mut body[start..])?;
        body.truncate(start + size);
    }
}

fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let named = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim()).collect()
}

/// What came back on a connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) responses: Vec<Response>,
    /// Whether the gateway closed it in time.
    pub(crate) closed: bool,
}

/// A response as the client got it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

impl Response {
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        values(&self.head, name)
    }
}

/// How long the gateway may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends these bytes while it reads, until the gateway closes.
pub(crate) fn send(address: SocketAddr, input: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = connect(address);
    let mut writer = stream.try_clone().unwrap();
    let mut output = Vec::new();
    let read = thread::scope(|scope| {
        // A gateway that refuses need not read all.
        scope.spawn(move || drop(writer.write_all(input)));
        stream.read_to_end(&mut output)
    });
    let is_late = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        )
    };
    let closed = !read.is_err_and(|error| is_late(&error));
    (output, closed)
}

pub(crate) fn exchange(address: SocketAddr, input: &[u8]) -> Exchange {
    let (output, closed) = send(address, input);
    Exchange {
        responses: responses(&output),
        closed,
    }
}

/// Reads responses until nothing is left that looks like one. Interim ones are left out.
pub(crate) fn responses(output: &[u8]) -> Vec<Response> {
    let mut reader = BufReader::new(output);
    let mut responses = Vec::new();
    while let Ok(Some(response)) = read_response(&mut reader) {
        if response.status >= 200 {
            responses.push(response);
        }
    }
    responses
}

pub(crate) fn read_response(reader: &mut impl BufRead) -> io::Result<Option<Response>> {
    let head = read_fields(reader)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let Some(status) = status else {
        return Ok(None);
    };
    let (mut body, mut trailers) = (Vec::new(), String::new());
    if !values(&head, "transfer-encoding").is_empty() {
        (body, trailers) = read_chunks(reader)?;
    } else if let Some(length) = values(&head, "content-length").first() {
        body = vec![0; length.parse().map_err(|_| io::ErrorKind::InvalidData)?];
        reader.read_exact(&mut body)?;
    }
    Ok(Some(Response {
        status,
        head,
        body,
        trailers,
    }))
}
