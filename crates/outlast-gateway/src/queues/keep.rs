//! A request as it is kept: an HTTP/1.1 message, so that people can read it in the store.
//!
//! What is kept is what the upstream would have been sent, without the fields of one hop, and without
//! credentials unless the queue is told to keep them: they would lie on a disk for days, and may be out
//! of date when they are used.

use bytes::Bytes;
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use outlast::headers::{GRPC_TIMEOUT, X_DEADLINE, X_DEADLINE_SENT, X_DEGRADED};
use outlast_config::plan;

use crate::forward::is_hop_by_hop;

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Kept {
    /// What a queue keeps of a request. The host that was asked for is kept as a field, and so is the
    /// idempotency key under its name.
    pub(crate) fn of(
        plan: &plan::Queue,
        (method, path): (&Method, &PathAndQuery),
        headers: &HeaderMap,
        authority: &HeaderValue,
        (key_name, key): (&HeaderName, HeaderValue),
        body: Bytes,
    ) -> Kept {
        let mut kept = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers {
            let is_wanted = || {
                let names = plan.headers.as_ref();
                names.is_none_or(|names| names.iter().any(|wanted| name == wanted.as_str()))
            };
            let is_secret = || !plan.credentials && CREDENTIALS.contains(name);
            let stays = name == header::CONTENT_TYPE || is_wanted();
            if stays && !is_secret() && !is_out_of_date(name) {
                kept.append(name, value.clone());
            }
        }
        kept.insert(header::HOST, authority.clone());
        kept.insert(key_name, key);
        Kept {
            method: method.clone(),
            path: path.clone(),
            headers: kept,
            body,
        }
    }

    /// What makes it the same request when it is sent again: not its fields, which have traces and
    /// times in them.
    pub(crate) fn identity(&self) -> Vec<u8> {
        let mut identity = format!("{} {}\n", self.method, self.path).into_bytes();
        identity.extend_from_slice(&self.body);
        identity
    }

    /// As it is written.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(&self.body);
        text
    }

    /// As it was written; `None` if it is something else.
    pub(crate) fn read(text: &[u8]) -> Option<Kept> {
        let (first, mut rest) = line(text)?;
        let mut words = first.split(|byte| *byte == b' ');
        let method = Method::from_bytes(words.next()?).ok()?;
        let path = PathAndQuery::try_from(words.next()?).ok()?;
        let mut headers = HeaderMap::new();
        loop {
            let (field, after) = line(rest)?;
            rest = after;
            if field.is_empty() {
                break;
            }
            let colon = field.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&field[..colon]).ok()?;
            let value = field[colon + 1..].strip_prefix(b" ")?;
            headers.append(name, HeaderValue::from_bytes(value).ok()?);
        }
        Some(Kept {
            method,
            path,
            headers,
            body: Bytes::copy_from_slice(rest),
        })
    }
}

fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&text[..end], &text[end + 2..]))
}

/// Fields that say nothing, or something wrong, when the request is sent another time.
fn is_out_of_date(name: &HeaderName) -> bool {
    is_hop_by_hop(name)
        || [header::CONTENT_LENGTH, header::EXPECT, header::TRAILER].contains(name)
        || name.as_str() == WITHIN
        || [&X_DEADLINE, &X_DEADLINE_SENT, &X_DEGRADED, &GRPC_TIMEOUT].contains(&name)
}

/// How long a client wants its request to wait at most.
pub(crate) const WITHIN: &str = "outlast-queue-within";

const CREDENTIALS: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(more: &str) -> plan::Queue {
        let text = format!(
            "upstreams: {{ a: {{ endpoints: http://127.0.0.1:1, fallback: {{ queue: q }} }} }}
queues: {{ q: {{ {more} }} }}"
        );
        let plan = outlast_config::parse("test.yaml", &text)
            .unwrap()
            .into_plan();
        plan.queues.into_iter().next().unwrap()
    }

    fn kept(more: &str, body: &'static [u8]) -> Kept {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("content-length", "3"),
            ("content-type", "text/plain"),
            ("outlast-queue-within", "1m"),
            ("x-deadline", "1"),
            ("x-many", "one"),
            ("x-many", "two: \u{e4}"),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        let path = PathAndQuery::from_static("/r/1?a=b");
        Kept::of(
            &plan(more),
            (&Method::POST, &path),
            &headers,
            &HeaderValue::from_static("shop.test"),
            (
                &HeaderName::from_static("idempotency-key"),
                HeaderValue::from_static("k"),
            ),
            Bytes::from_static(body),
        )
    }

    fn names(kept: &Kept) -> Vec<&str> {
        let mut names: Vec<_> = kept.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_kept_is_what_will_hold_later() {
        let own = ["content-type", "host", "idempotency-key", "x-many"];
        assert_eq!(names(&kept("", b"")), own);
        let mut all = [&["authorization"], &own[..1], &["cookie"], &own[1..]].concat();
        all.sort_unstable();
        assert_eq!(names(&kept("credentials: true", b"")), all);
        assert_eq!(names(&kept("headers: [cookie]", b"")), own[..3]);
        let both = kept("headers: [Cookie], credentials: true", b"");
        assert_eq!(
            names(&both),
            ["content-type", "cookie", "host", "idempotency-key"]
        );
    }

    #[test]
    fn what_was_written_is_read() {
        for body in [&b""[..], b"x", b"\r\n\r\n\xff\0"] {
            let kept = kept("credentials: true", body);
            let text = kept.write();
            assert!(text.starts_with(b"POST /r/1?a=b HTTP/1.1\r\n"));
            assert_eq!(Kept::read(&text), Some(kept));
            for end in 0..text.len() - body.len() {
                assert_eq!(Kept::read(&text[..end]), None, "{end}");
            }
        }
    }

    #[test]
    fn another_trace_is_the_same_request_and_another_body_is_not() {
        let one = kept("", b"1");
        assert_eq!(one.identity(), kept("credentials: true", b"1").identity());
        assert_ne!(one.identity(), kept("", b"2").identity());
    }
}
