//! What a request asks for: its path in one spelling, and its host.
//!
//! A route must not be escaped by another spelling of the same path, so paths are normalised before
//! they are compared, and forwarded as they were compared: unreserved characters are decoded
//! (RFC 3986, 6.2.2.2), `.` and `..` are resolved, runs of slashes become one. What an upstream
//! might read in two ways is refused: `%00`, an encoded slash that is followed by dots is kept as it
//! is and never decoded, and a fragment or a raw byte beyond ASCII does not come this far.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Version};

use crate::refusal::Refusal;

/// What a request asks for.
#[derive(Debug)]
pub(crate) struct Target {
    /// The path in its one spelling, and the query as it came.
    pub(crate) path_and_query: PathAndQuery,
    /// How much of the authority is the host.
    host: usize,
    /// As the upstream gets it.
    pub(crate) authority: HeaderValue,
}

impl Target {
    /// Reads a request's target; refuses what is malformed, ambiguous or too long.
    pub(crate) fn read(parts: &Parts, longest: usize) -> Result<Target, Refusal> {
        if parts.method == Method::CONNECT {
            return Err(Refusal::NotSupported("CONNECT is not supported"));
        }
        let spelled = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        if spelled.len() > longest {
            return Err(Refusal::TargetTooLong);
        }
        if spelled == "*" {
            return Err(Refusal::Malformed("only OPTIONS asks for *"));
        }
        let (path, query) = match spelled.find('?') {
            Some(at) => spelled.split_at(at),
            None => (spelled, ""),
        };
        if !path.starts_with('/') {
            return Err(Refusal::Malformed("the path has to start with a slash"));
        }
        if query.contains("%00") || spelled.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(Refusal::Malformed("the target has a forbidden character"));
        }
        let path_and_query = match (normal(path)?, parts.uri.path_and_query()) {
            (Cow::Borrowed(_), Some(given)) => given.clone(),
            (normal, _) => PathAndQuery::try_from(format!("{normal}{query}"))
                .map_err(|_| Refusal::Malformed("the target is malformed"))?,
        };
        let authority = authority(parts)?;
        let host = host_of(&authority)?.len();
        Ok(Target {
            path_and_query,
            host,
            authority,
        })
    }

    /// The host as it was spelled, without port.
    pub(crate) fn host(&self) -> &str {
        let authority = self.authority.to_str().unwrap_or_default();
        &authority[..self.host]
    }

    /// The normalised path.
    pub(crate) fn path(&self) -> &str {
        self.path_and_query.path()
    }
}

/// The host that counts: that of the target if it has one (RFC 9112, 3.2.2). With HTTP/2 a `host`
/// beside it must agree.
fn authority(parts: &Parts) -> Result<HeaderValue, Refusal> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::Malformed("there is more than one Host"));
    }
    match (parts.uri.authority(), host) {
        (Some(named), host) => {
            if parts.version == Version::HTTP_2
                && host.is_some_and(|host| {
                    !host
                        .as_bytes()
                        .eq_ignore_ascii_case(named.as_str().as_bytes())
                })
            {
                return Err(Refusal::Malformed("Host differs from :authority"));
            }
            HeaderValue::from_str(named.as_str())
                .map_err(|_| Refusal::Malformed("the host is malformed"))
        }
        (None, Some(host)) => Ok(host.clone()),
        (None, None) if parts.version < Version::HTTP_11 => Ok(HeaderValue::from_static("")),
        (None, None) => Err(Refusal::Malformed("there is no Host")),
    }
}

/// The host without its port.
fn host_of(authority: &HeaderValue) -> Result<&str, Refusal> {
    let malformed = Refusal::Malformed("the host is malformed");
    let text = authority
        .to_str()
        .map_err(|_| Refusal::Malformed("the host is malformed"))?;
    if text.is_empty() {
        return Ok("");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed);
    }
    if !host.is_empty() && host.bytes().all(plain) {
        return Ok(host);
    }
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match inside.map(str::parse::<Ipv6Addr>) {
        Some(Ok(_)) => Ok(host),
        Some(Err(_)) | None => Err(malformed),
    }
}

/// The one spelling of a path.
fn normal(path: &str) -> Result<Cow<'_, str>, Refusal> {
    let dubious = |pair: &[u8]| pair[0] == b'/' && (pair[1] == b'/' || pair[1] == b'.');
    let bytes = path.as_bytes();
    if !bytes.contains(&b'%') && !bytes.contains(&b'\\') && !bytes.windows(2).any(dubious) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path)?;
    let mut segments: Vec<&str> = Vec::new();
    let all: Vec<&str> = decoded.split('/').skip(1).collect();
    let last = all.len() - 1;
    for (at, &segment) in all.iter().enumerate() {
        match segment {
            "" | "." if at < last => {}
            "." => segments.push(""),
            ".." => {
                segments.pop();
                if at == last {
                    segments.push("");
                }
            }
            segment => segments.push(segment),
        }
    }
    Ok(Cow::Owned(
        segments.iter().flat_map(|segment| ["/", segment]).collect(),
    ))
}

/// Decodes what need not be encoded, and writes the rest in upper case.
fn decode_unreserved(path: &str) -> Result<String, Refusal> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'\\' {
            return Err(Refusal::Malformed("a path has no backslash"));
        }
        if byte != b'%' {
            decoded.push(char::from(byte));
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(Refusal::Malformed("a percent sign without two hex digits"));
        };
        let value = u8::try_from(high * 16 + low).expect("two hex digits fit a byte");
        match value {
            0 => return Err(Refusal::Malformed("a path has no NUL")),
            value if value.is_ascii_alphanumeric() || b"-._~".contains(&value) => {
                decoded.push(char::from(value));
            }
            value => decoded.push_str(&format!("%{value:02X}")),
        }
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(uri: &str, host: Option<&str>) -> Result<Target, Refusal> {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        Target::read(&request.body(()).unwrap().into_parts().0, 100)
    }

    #[test]
    fn a_path_has_one_spelling() {
        for (spelled, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a/%2e%2E/b", "/b"),
            ("/%61dmin", "/admin"),
            ("/a%2fb", "/a%2Fb"),
            ("/a/", "/a/"),
            ("//", "/"),
            ("/a/...", "/a/..."),
            ("/.well-known", "/.well-known"),
        ] {
            let target = read(spelled, Some("h")).unwrap();
            assert_eq!(target.path(), normal, "{spelled}");
            let again = read(target.path(), Some("h")).unwrap();
            assert_eq!(again.path(), normal, "normal twice: {spelled}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for spelled in ["/%00", "/a%", "/a%2", "/a%zz", "/a?b=%00", "/a\\b"] {
            assert!(
                matches!(read(spelled, Some("h")), Err(Refusal::Malformed(_))),
                "{spelled}"
            );
        }
        let long = format!("/{}", "a".repeat(100));
        assert!(matches!(
            read(&long, Some("h")),
            Err(Refusal::TargetTooLong)
        ));
    }

    #[test]
    fn the_host_is_that_of_the_target_if_it_has_one() {
        let target = read("http://Shop.test:81/a?b=c", Some("other")).unwrap();
        assert_eq!(target.host(), "Shop.test");
        assert_eq!(target.path_and_query, "/a?b=c");
        assert_eq!(target.authority, "Shop.test:81");
        assert_eq!(read("/", Some("[::1]:80")).unwrap().host(), "[::1]");
        for host in ["a/b", "a b", "u@h", ":80", "h:8x", "[::1", "a,b"] {
            assert!(read("/", Some(host)).is_err(), "{host}");
        }
        assert!(read("/", None).is_err());
    }
}
