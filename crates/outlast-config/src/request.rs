//! Texts that describe requests and addresses: patterns, networks, URLs of endpoints.

use crate::plan::{Dialect, Endpoint, Host, Match, Network, Path, Segment};

/// `METHOD[,METHOD] [host]/path`, or a path alone.
pub(crate) fn pattern(text: &str) -> Result<Match, String> {
    let (methods, target) = match text.split_once(' ') {
        Some((methods, target)) => (
            methods.split(',').map(method).collect::<Result<_, _>>()?,
            target.trim(),
        ),
        None => (Vec::new(), text),
    };
    let slash = target
        .find('/')
        .ok_or("write a path that starts with a slash, such as `GET /stock/**`")?;
    let (given_host, given_path) = target.split_at(slash);
    Ok(Match {
        methods,
        host: if given_host.is_empty() {
            None
        } else {
            Some(host(given_host)?)
        },
        path: path(given_path)?,
        headers: Vec::new(),
    })
}

/// A method in upper case.
pub(crate) fn method(text: &str) -> Result<String, String> {
    if text.is_empty()
        || !text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
    {
        let better = text.to_ascii_uppercase();
        return Err(format!(
            "methods are written in upper case, such as `GET`, not `{text}`; did you mean `{better}`?"
        ));
    }
    Ok(text.to_owned())
}

/// A host name, or `*.` and the name it lies below.
pub(crate) fn host(text: &str) -> Result<Host, String> {
    let lower = text.to_ascii_lowercase();
    let name = |name: &str| {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        let has_port = !name.starts_with('[') && name.contains(':');
        !name.is_empty() && name.bytes().all(fine) && !has_port
    };
    let (host, plain) = match lower.strip_prefix("*.") {
        Some(suffix) => (Host::Below(suffix.to_owned()), suffix),
        None => (Host::Is(lower.clone()), lower.as_str()),
    };
    if name(plain) {
        Ok(host)
    } else {
        Err(format!(
            "`{text}` is no host; write a name without port, such as `shop.test` or `*.shop.test`"
        ))
    }
}

/// Segments, `*` for any one, `/**` at the end for anything.
pub(crate) fn path(text: &str) -> Result<Path, String> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err("a path starts with a slash".to_owned());
    };
    let mut path = Path::default();
    let given: Vec<&str> = rest.split('/').collect();
    let last = given.len() - 1;
    for (at, &text) in given.iter().enumerate() {
        match text {
            "**" if at == last => path.open = true,
            "**" => {
                return Err(
                    "`**` stands at the end of a path only; `*` is for one segment".to_owned(),
                );
            }
            "*" => path.segments.push(Segment::Any),
            "" if rest.is_empty() => {}
            "" => {
                return Err(
                    "a path pattern has no empty segment; leave the extra slash out".to_owned(),
                );
            }
            "." | ".." => return Err("a path pattern has no `.` and `..`".to_owned()),
            text if text.contains('*') => {
                return Err("`*` stands for a whole segment".to_owned());
            }
            text if !text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#') =>
            {
                return Err(
                    "a path is ASCII without blanks, `?` and `#`; encode others as `%20`"
                        .to_owned(),
                );
            }
            text => path.segments.push(Segment::Is(text.to_owned())),
        }
    }
    Ok(path)
}

/// A network in CIDR notation, or a single address.
pub(crate) fn network(text: &str) -> Result<Network, String> {
    let mend = || "write a network such as `10.0.0.0/8`, or an address".to_owned();
    let (address, prefix) = text
        .split_once('/')
        .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: std::net::IpAddr = address.parse().map_err(|_| mend())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => most,
        Some(prefix) => prefix
            .parse()
            .ok()
            .filter(|&prefix| prefix <= most)
            .ok_or_else(mend)?,
    };
    Ok(Network { address, prefix })
}

/// The URL of an endpoint.
pub(crate) fn endpoint(name: &str, text: &str) -> Result<Endpoint, String> {
    let mend =
        || "write a URL such as `http://127.0.0.1:7001` or `https://pay.example/base`".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(mend)?;
    let tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err("an endpoint is `http://...` or `https://...`".to_owned()),
    };
    if rest.contains(['?', '#', '@']) || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the URL of an endpoint has no user, query or fragment".to_owned());
    }
    let (authority, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|&port| port > 0);
            (host, port.ok_or("a port is a number from 1 to 65535")?)
        }
        _ => (authority, if tls { 443 } else { 80 }),
    };
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    if host.is_empty() || !host.bytes().all(fine) || (host.contains(':') && !host.starts_with('['))
    {
        return Err(mend());
    }
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte);
    if !prefix.bytes().all(in_path) {
        return Err("a path has letters, digits, `/` and `-._~`; write others as `%3C`".to_owned());
    }
    Ok(Endpoint {
        name: name.to_owned(),
        tls,
        host: host.to_owned(),
        port,
        prefix: prefix.trim_end_matches('/').to_owned(),
        weight: 1,
        priority: 0,
        zone: None,
        dialect: Dialect::default(),
        address: None,
    })
}

/// Whether `name` can be a header's.
pub(crate) fn is_header_name(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.len() < 256 && name.bytes().all(fine)
}

/// Whether `value` can be a header's.
pub(crate) fn is_header_value(value: &str) -> bool {
    value
        .bytes()
        .all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_methods_hosts_and_paths() {
        let checkout = pattern("POST,PUT *.Shop.test/checkout/*/**").unwrap();
        assert_eq!(checkout.methods, ["POST", "PUT"]);
        assert_eq!(checkout.host, Some(Host::Below("shop.test".to_owned())));
        assert_eq!(
            checkout.path.segments,
            [Segment::Is("checkout".to_owned()), Segment::Any]
        );
        assert!(checkout.path.open);
        assert_eq!(pattern("/").unwrap(), Match::default());
        for text in [
            "",
            "GET",
            "get /",
            "/a/**/b",
            "/a//b",
            "/a*",
            "GET h:80/",
            "/a b",
            "/../a",
        ] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }

    #[test]
    fn endpoints_are_plain_urls() {
        let pay = endpoint("pay", "https://pay.example/base/").unwrap();
        assert_eq!(
            (pay.tls, pay.port, pay.prefix.as_str()),
            (true, 443, "/base")
        );
        assert_eq!(endpoint("a", "http://[::1]:81").unwrap().host, "[::1]");
        for text in [
            "127.0.0.1:80",
            "ftp://a",
            "http://",
            "http://a:0",
            "http://a:99999",
            "http://u@a",
            "http://a/?b",
            "http://::1",
        ] {
            assert!(endpoint("a", text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_cidr() {
        assert_eq!(network("10.0.0.0/8").unwrap().prefix, 8);
        assert_eq!(network("::1").unwrap().prefix, 128);
        assert!(network("10.0.0.0/33").is_err() && network("x").is_err());
    }
}
