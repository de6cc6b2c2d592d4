//! A client over HTTP: one connection for each of those at once, which it keeps.
//!
//! It is as small as can be, because its processor time counts for every engine: it knows answers with a
//! length and answers in chunks, and looks for a word in them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::load::{Load, Slot};

/// Posts an order to a path again and again; each answer has to be 200 and say `completed`.
pub(crate) async fn load(address: &str, path: &str, load: &Load) -> Result<(), String> {
    let mut slots = Vec::new();
    for _ in 0..load.at_once {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|error| format!("{address}: {error}"))?;
        let _ = stream.set_nodelay(true);
        let body = r#"{"item":"a book"}"#;
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        slots.push(Connection {
            stream,
            request: request.into_bytes(),
            read: Vec::new(),
        });
    }
    load.run(slots).await
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    read: Vec<u8>,
}

impl Slot for Connection {
    async fn once(&mut self, _number: u64) -> Result<(), String> {
        let failed = |error: std::io::Error| error.to_string();
        self.stream.write_all(&self.request).await.map_err(failed)?;
        self.read.clear();
        while !is_whole(&self.read)? {
            let read = self.stream.read_buf(&mut self.read).await.map_err(failed)?;
            if read == 0 || self.read.len() > LONGEST {
                return Err("the connection was closed, or its answer has no end".to_owned());
            }
        }
        let text = String::from_utf8_lossy(&self.read);
        if text.starts_with("HTTP/1.1 200") && text.contains("completed") {
            return Ok(());
        }
        Err(format!("a saga was answered {text}"))
    }
}

/// Whether all of an answer is there.
fn is_whole(read: &[u8]) -> Result<bool, String> {
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let field = |name: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let body = &read[end + 4..];
    if let Some(length) = field("content-length:") {
        let length: usize = length
            .parse()
            .map_err(|_| format!("a length is {length:?}"))?;
        return Ok(body.len() >= length);
    }
    match field("transfer-encoding:").as_deref() {
        Some("chunked") => Ok(body.ends_with(b"0\r\n\r\n")),
        _ => Err(format!("an answer has no length: {head}")),
    }
}

const LONGEST: usize = 64 * 1024;
