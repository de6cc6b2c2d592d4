//! A plain HTTP/1.1 GET.
//!
//! It reads the head of the answer and no body, at most 16 KiB, and takes only what is exactly an
//! HTTP/1 status line. Redirects are not followed: what a probe asks must answer itself.

use std::sync::Arc;

use ::http::Uri;
use outlast_core::config::ConfigError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::Probing;
use super::target::Target;

/// Whether `GET` of an `http://` URL is answered with a status from 200 to 299. For `https://`, give
/// a closure with your client.
///
/// # Errors
/// If `url` has another form.
pub fn http(url: &str) -> Result<impl Fn() -> Probing + Send + Sync + use<>, ConfigError> {
    let wrong = ConfigError::new(
        "health.http",
        "must be like http://host:8080/path, without user and password",
    );
    let uri: Uri = url.parse().map_err(|_| wrong)?;
    let authority = uri.authority().ok_or(wrong)?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong);
    }
    let target = Target::of(authority, Some(80)).ok_or(wrong)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: outlast\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    let shared = Arc::new((target, request));
    Ok(move || -> Probing {
        let shared = Arc::clone(&shared);
        Box::pin(async move {
            let (target, request) = &*shared;
            let mut stream = target.connect().await?;
            let sent = stream.write_all(request.as_bytes()).await;
            sent.map_err(|error| format!("sending the request: {error}"))?;
            match status(&mut stream).await? {
                200..=299 => Ok(()),
                status => Err(format!("it answered {status}")),
            }
        })
    })
}

/// The status of the answer, after interim ones.
async fn status(stream: &mut (impl AsyncRead + Unpin)) -> Result<u16, String> {
    let mut head = Vec::with_capacity(1024);
    let mut read = 0;
    loop {
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let status = status_of(&head).ok_or("its answer is not HTTP/1")?;
            if !matches!(status, 100 | 102..=199) {
                return Ok(status);
            }
            head.drain(..end + 4);
            continue;
        }
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await;
        let count = count.map_err(|error| format!("reading the answer: {error}"))?;
        read += count;
        if count == 0 {
            return Err("it closed the connection before the end of its answer's head".to_owned());
        }
        if read > LONGEST {
            return Err("the head of its answer is longer than 16 KiB".to_owned());
        }
        head.extend_from_slice(&bytes[..count]);
    }
}

/// `HTTP/1.1 200`, and then a space or the end of the line.
fn status_of(head: &[u8]) -> Option<u16> {
    let rest = head
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, rest) = rest.split_at_checked(3)?;
    let is_code = digits.iter().all(u8::is_ascii_digit) && digits[0] != b'0';
    let has_ended = rest.starts_with(b" ") || rest.starts_with(b"\r\n");
    let code = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (is_code && has_ended).then_some(code)
}

/// Everything that is read.
const LONGEST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(answer: &[u8]) -> Result<u16, String> {
        let mut answer = answer;
        status(&mut answer).await
    }

    #[tokio::test]
    async fn only_a_status_line_of_http_1_is_a_status() {
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody").await, Ok(200));
        assert_eq!(read(b"HTTP/1.0 503 \r\n\r\n").await, Ok(503));
        assert_eq!(read(b"HTTP/1.1 204\r\n\r\n").await, Ok(204));
        let interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(read(interim).await, Ok(200));
        for wrong in [
            &b"HTTP/2 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 2000\r\n\r\n",
            b"HTTP/1.1 20\r\n\r\n",
            b"HTTP/1.1  200\r\n\r\n",
            b"HTTP/1.1 +20 OK\r\n\r\n",
            b"HTTP/1.1 020 OK\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno end",
            b"",
        ] {
            assert!(read(wrong).await.is_err(), "{}", wrong.escape_ascii());
        }
    }

    #[tokio::test]
    async fn an_endless_head_is_cut() {
        let mut endless = b"HTTP/1.1 200 OK\r\n".to_vec();
        endless.resize(100_000, b'x');
        assert!(read(&endless).await.unwrap_err().contains("16 KiB"));
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
        assert!(read(&interim).await.unwrap_err().contains("16 KiB"));
    }

    #[test]
    fn other_urls_are_refused() {
        for wrong in [
            "https://a/",
            "a:80/x",
            "/x",
            "http://u:p@a/",
            "http:///x",
            "http://a:0/",
        ] {
            assert!(http(wrong).is_err(), "{wrong}");
        }
        assert!(http("http://a/x?y=z").is_ok());
    }
}
