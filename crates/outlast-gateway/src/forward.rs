//! Headers on their way through: what belongs to one hop stays there.
//!
//! Hop-by-hop fields (RFC 9110, 7.6.1) are removed in both directions, with those that `Connection`
//! names, except that it may not name what belongs to the whole way: `Connection: authorization`
//! would make a proxy drop a credential that the upstream relies on. What clients may not say of
//! themselves (`X-Forwarded-*`, `Forwarded`, `X-Degraded`, `X-Outlast-*`) is replaced unless the client is a
//! trusted proxy. Maps are changed in place, after one pass over their names; nothing is copied.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Version, request, response};
use outlast::headers::{GRPC_TIMEOUT, X_DEADLINE, X_DEGRADED, X_TIER};
use outlast_config::plan::{Network, Tier, Underscores};

use crate::refusal::Refusal;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What is known of the other end of a client's connection.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    text: HeaderValue,
    tls: bool,
    trusted: bool,
    /// What was last said in `Forwarded`, and of which host: a client hardly ever changes it.
    forwarded: RefCell<Option<(HeaderValue, HeaderValue)>>,
}

impl Origin {
    pub(crate) fn new(address: SocketAddr, tls: bool, trusted: &[Network]) -> Origin {
        let text = address.ip().to_canonical().to_string();
        Origin {
            address,
            text: HeaderValue::from_str(&text).expect("an address is a header value"),
            tls,
            forwarded: RefCell::default(),
            trusted: trusted
                .iter()
                .any(|network| contains(network, address.ip())),
        }
    }

    fn forwarded(&self, authority: &HeaderValue) -> HeaderValue {
        let mut last = self.forwarded.borrow_mut();
        match &*last {
            Some((of, said)) if of == authority => said.clone(),
            _ => {
                let said = forwarded(self, authority);
                *last = Some((authority.clone(), said.clone()));
                said
            }
        }
    }

    /// How much a request matters: as its route says, or as a trusted proxy does.
    pub(crate) fn tier(&self, headers: &HeaderMap, route: Tier) -> Tier {
        let said = headers.get(&X_TIER).filter(|_| self.trusted);
        let said = said.and_then(|value| value.to_str().ok()?.parse().ok());
        said.unwrap_or(route)
    }

    /// The address of the client itself: its own, or what the trusted proxies on the way say it is.
    pub(crate) fn client(&self, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
        let mut known = self.address.ip().to_canonical();
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| contains(network, address));
        let values = headers.get_all(&X_FORWARDED_FOR).iter().rev();
        let mut said = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.rsplit(','));
        while is_trusted(known) {
            let Some(Ok(next)) = said.next().map(|text| text.trim().parse::<IpAddr>()) else {
                break;
            };
            known = next.to_canonical();
        }
        known
    }

    /// Its address and port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What of a request's head the proxy itself has to know, once it has been cleaned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    /// `TE: trailers`.
    pub(crate) trailers: bool,
    /// `Connection: upgrade` with an `Upgrade` that is not `h2c`.
    pub(crate) upgrade: bool,
}

/// Prepares a request's head for the upstream, by what was found in it.
pub(crate) fn request(
    parts: &mut request::Parts,
    found: &Found,
    origin: &Origin,
    authority: &HeaderValue,
    tier: Tier,
    underscores: Underscores,
) -> Result<Wishes, Refusal> {
    let headers = &mut parts.headers;
    headers.reserve(ADDED);
    let mut wishes = Wishes::default();
    if found.rare {
        wishes = clean(headers, underscores)?;
    }
    if origin.trusted {
        let chain = match headers.get(&X_FORWARDED_FOR) {
            None => origin.text.clone(),
            Some(before) => joined(before, &origin.text),
        };
        headers.insert(&X_FORWARDED_FOR, chain);
        headers
            .entry(&X_FORWARDED_PROTO)
            .or_insert_with(|| scheme(origin.tls));
        headers
            .entry(&X_FORWARDED_HOST)
            .or_insert_with(|| authority.clone());
    } else {
        if found.forwarded {
            for name in [&header::FORWARDED, &X_FORWARDED_PORT, &X_REAL_IP] {
                headers.remove(name);
            }
        }
        if found.degraded {
            headers.remove(&X_DEGRADED);
        }
        headers.insert(&X_FORWARDED_FOR, origin.text.clone());
        headers.insert(&X_FORWARDED_PROTO, scheme(origin.tls));
        headers.insert(&X_FORWARDED_HOST, authority.clone());
    }
    headers.append(&header::FORWARDED, origin.forwarded(authority));
    headers.append(&header::VIA, via(parts.version));
    headers.insert(&X_TIER, HeaderValue::from_static(tier.name()));
    Ok(wishes)
}

/// Prepares a response's head for the client.
pub(crate) fn response(parts: &mut response::Parts) {
    let headers = &mut parts.headers;
    remove_hop_by_hop(headers);
    headers.append(&header::VIA, via(parts.version));
    // The version is that of a hop, too (RFC 9110, 2.5): an old upstream must not make the client's
    // connection an old one.
    parts.version = Version::HTTP_11;
}

/// What a trailer may not say, because it was decided by the head.
pub(crate) fn trailers(trailers: &mut HeaderMap) {
    for name in ENDS_TO_END.iter().chain(HOP_BY_HOP) {
        trailers.remove(name);
    }
}

/// What a request's head has that most have not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    /// Something that has to be cleaned away.
    rare: bool,
    /// What only a trusted proxy may say of a client.
    forwarded: bool,
    /// How long its client will wait.
    pub(crate) deadline: bool,
    /// The mode that its client is in.
    degraded: bool,
}

/// One pass over the names of a request.
pub(crate) fn scan(headers: &HeaderMap, underscores: Underscores) -> Result<Found, Refusal> {
    let mut found = Found::default();
    for name in headers.keys() {
        let text = name.as_str();
        match text.as_bytes()[0] {
            b'x' if text.starts_with("x-forwarded-") || name == X_REAL_IP => found.forwarded = true,
            b'x' if text.starts_with("x-outlast-") => found.rare = true,
            b'x' if *name == X_DEGRADED => found.degraded = true,
            b'x' if text.starts_with(X_DEADLINE.as_str()) => found.deadline = true,
            b'g' if *name == GRPC_TIMEOUT => found.deadline = true,
            _ if *name == header::FORWARDED => found.forwarded = true,
            _ if is_hop_by_hop(name) || *name == header::EXPECT => found.rare = true,
            _ => {}
        }
        if text.contains('_') && underscores != Underscores::Keep {
            if underscores == Underscores::Reject {
                return Err(Refusal::Malformed("a header name has an underscore"));
            }
            found.rare = true;
        }
    }
    Ok(found)
}

fn clean(headers: &mut HeaderMap, underscores: Underscores) -> Result<Wishes, Refusal> {
    if let Some(expect) = headers.remove(header::EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Refusal::ExpectationFailed);
    }
    let lists = |name: &HeaderName, word: &str| {
        let values = headers.get_all(name).iter();
        let mut words = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','));
        words.any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let wishes = Wishes {
        trailers: lists(&header::TE, "trailers"),
        upgrade: lists(&header::CONNECTION, "upgrade")
            && headers.contains_key(header::UPGRADE)
            && !lists(&header::UPGRADE, "h2c"),
    };
    let upgrade = headers.get(header::UPGRADE).cloned();
    let named = headers.get_all(header::CONNECTION).iter();
    let names_of_all = named
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .any(|name| {
            ENDS_TO_END
                .iter()
                .any(|whole| whole.as_str().eq_ignore_ascii_case(name.trim()))
        });
    if names_of_all {
        return Err(Refusal::Malformed(
            "Connection names a field that is not its own",
        ));
    }
    remove_hop_by_hop(headers);
    if wishes.upgrade
        && let Some(upgrade) = upgrade
    {
        headers.insert(header::UPGRADE, upgrade);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if wishes.trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let dropped = headers.keys().filter(|name| {
        let text = name.as_str();
        text.starts_with("x-outlast-") || (underscores == Underscores::Drop && text.contains('_'))
    });
    for name in dropped.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    Ok(wishes)
}

/// Removes what belongs to one hop, with what `Connection` names, except what belongs to the whole
/// way.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let mut there = [false; HOP_BY_HOP.len()];
    for name in headers.keys() {
        if let Some(at) = HOP_BY_HOP.iter().position(|known| *known == name) {
            there[at] = true;
        }
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(str::trim)
        // What most connections say names no field.
        .filter(|name| !["keep-alive", "close"].contains(name))
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .filter(|name| !ENDS_TO_END.contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for (name, _) in HOP_BY_HOP.iter().zip(there).filter(|(_, there)| *there) {
        headers.remove(*name);
    }
}

/// Whether a field belongs to one hop.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name)
}

static HOP_BY_HOP: [&HeaderName; 9] = [
    &header::CONNECTION,
    &header::TRANSFER_ENCODING,
    &header::TE,
    &header::UPGRADE,
    &header::PROXY_AUTHORIZATION,
    &header::PROXY_AUTHENTICATE,
    &KEEP_ALIVE,
    &PROXY_CONNECTION,
    &HTTP2_SETTINGS,
];

/// Fields that frame, route or authorise a message: no hop may declare them its own.
static ENDS_TO_END: [HeaderName; 14] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::CACHE_CONTROL,
    header::AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    header::EXPECT,
    header::VIA,
    header::FORWARDED,
    header::TRAILER,
];

/// How many fields a request gets on its way: those made here, and the deadline's and the key of its
/// attempts.
const ADDED: usize = 10;

fn scheme(tls: bool) -> HeaderValue {
    HeaderValue::from_static(if tls { "https" } else { "http" })
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2.0 outlast",
        Version::HTTP_10 => "1.0 outlast",
        _ => "1.1 outlast",
    })
}

/// RFC 7239.
fn forwarded(origin: &Origin, authority: &HeaderValue) -> HeaderValue {
    let proto = if origin.tls { "https" } else { "http" };
    let mut text = Vec::with_capacity(64);
    text.extend_from_slice(b"for=");
    let quoted = origin.address.ip().to_canonical().is_ipv6();
    if quoted {
        text.extend_from_slice(b"\"[");
    }
    text.extend_from_slice(origin.text.as_bytes());
    if quoted {
        text.extend_from_slice(b"]\"");
    }
    text.extend_from_slice(b";host=\"");
    text.extend_from_slice(authority.as_bytes());
    text.extend_from_slice(b"\";proto=");
    text.extend_from_slice(proto.as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
        .expect("an authority is a header value, and so is what is put around it")
}

fn joined(before: &HeaderValue, last: &HeaderValue) -> HeaderValue {
    let all = [before.as_bytes(), b", ", last.as_bytes()].concat();
    HeaderValue::from_bytes(&all).expect("two header values and a comma are a header value")
}

fn contains(network: &Network, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((own, width), (given, given_width)) =
        (bits(network.address), bits(address.to_canonical()));
    let prefix = u32::from(network.prefix).min(width);
    let mask = if prefix == 0 {
        0
    } else {
        u128::MAX << (128 - prefix)
    };
    width == given_width && (own ^ given) & mask == 0
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn origin(trusted: bool) -> Origin {
        let networks = [Network {
            address: "10.0.0.0".parse().unwrap(),
            prefix: 8,
        }];
        let address = "10.1.2.3:50000".parse().unwrap();
        Origin::new(address, false, if trusted { &networks } else { &[] })
    }

    fn sent(pairs: &[(&str, &str)], trusted: bool) -> Result<(HeaderMap, Wishes), Refusal> {
        let mut builder = Request::builder();
        for (name, value) in pairs {
            builder = builder.header(*name, *value);
        }
        let mut parts = builder.body(()).unwrap().into_parts().0;
        let host = HeaderValue::from_static("shop.test");
        let found = scan(&parts.headers, Underscores::Drop)?;
        let wishes = request(
            &mut parts,
            &found,
            &origin(trusted),
            &host,
            Tier::Critical,
            Underscores::Drop,
        )?;
        Ok((parts.headers, wishes))
    }

    #[test]
    fn a_client_is_who_the_trusted_proxies_say() {
        let networks = ["10.0.0.0", "fd00::"].map(|address| Network {
            address: address.parse().unwrap(),
            prefix: 8,
        });
        let check = |address: &str, said: &[&str], expected: &str| {
            let origin = Origin::new(address.parse().unwrap(), false, &networks);
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(&X_FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
            }
            let client = origin.client(&headers, &networks).to_string();
            assert_eq!(client, expected, "{address} {said:?}");
        };
        check("9.9.9.9:1", &["1.1.1.1"], "9.9.9.9");
        check("10.0.0.1:1", &["1.1.1.1"], "1.1.1.1");
        check("[::ffff:10.0.0.1]:1", &["1.1.1.1"], "1.1.1.1");
        check("10.0.0.1:1", &["6.6.6.6, 1.1.1.1,10.0.0.2"], "1.1.1.1");
        check("10.0.0.1:1", &["6.6.6.6", "1.1.1.1, fd00::2"], "1.1.1.1");
        check("10.0.0.1:1", &["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1:1", &["10.0.0.3"], "10.0.0.3");
        check("10.0.0.1:1", &[], "10.0.0.1");
    }

    #[test]
    fn what_belongs_to_a_hop_stays_there() {
        let (headers, wishes) = sent(
            &[
                ("connection", "close, x-priv"),
                ("x-priv", "1"),
                ("keep-alive", "5"),
                ("proxy-connection", "close"),
                ("te", "gzip, trailers"),
                ("upgrade", "h2c"),
                ("http2-settings", "AA"),
                ("x-outlast-secret", "1"),
                ("x_under", "1"),
                ("x-kept", "1"),
            ],
            false,
        )
        .unwrap();
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "forwarded",
                "te",
                "via",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto",
                "x-kept",
                "x-tier"
            ]
        );
        assert_eq!(headers[header::TE], "trailers");
        assert!(wishes.trailers && !wishes.upgrade);
    }

    #[test]
    fn connection_may_not_name_what_belongs_to_the_whole_way() {
        for name in ["Authorization", "host", "content-length"] {
            let refused = sent(&[("connection", name), ("authorization", "x")], false);
            assert!(matches!(refused, Err(Refusal::Malformed(_))), "{name}");
        }
    }

    #[test]
    fn clients_do_not_say_who_they_are_unless_they_are_trusted() {
        let forged = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
        ];
        let (headers, _) = sent(&forged, false).unwrap();
        assert_eq!(headers[&X_FORWARDED_FOR], "10.1.2.3");
        assert_eq!(headers[&X_FORWARDED_PROTO], "http");
        assert_eq!(headers.get(&X_REAL_IP), None);
        assert_eq!(
            headers
                .get_all(header::FORWARDED)
                .iter()
                .collect::<Vec<_>>(),
            ["for=10.1.2.3;host=\"shop.test\";proto=http"]
        );
        let (headers, _) = sent(&forged, true).unwrap();
        assert_eq!(headers[&X_FORWARDED_FOR], "1.1.1.1, 10.1.2.3");
        assert_eq!(headers[&X_FORWARDED_PROTO], "https");
        assert_eq!(headers.get_all(header::FORWARDED).iter().count(), 2);
    }

    #[test]
    fn only_a_trusted_proxy_says_how_much_a_request_matters() {
        let said = |tier: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(&X_TIER, HeaderValue::from_static(tier));
            headers
        };
        let check = |trusted, tier, expected| {
            assert_eq!(
                origin(trusted).tier(&said(tier), Tier::Important),
                expected,
                "{tier}"
            );
        };
        check(true, "critical", Tier::Critical);
        check(true, "optional", Tier::Optional);
        check(true, "urgent", Tier::Important);
        check(false, "critical", Tier::Important);
    }

    #[test]
    fn expectations_are_met_or_refused() {
        let (headers, _) = sent(&[("expect", "100-Continue")], false).unwrap();
        assert!(!headers.contains_key(header::EXPECT));
        let refused = sent(&[("expect", "tea")], false);
        assert!(matches!(refused, Err(Refusal::ExpectationFailed)));
    }

    #[test]
    fn an_upgrade_keeps_its_two_fields() {
        let (headers, wishes) = sent(
            &[
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", "websocket"),
            ],
            false,
        )
        .unwrap();
        assert!(wishes.upgrade);
        assert_eq!(headers[header::UPGRADE], "websocket");
        assert_eq!(headers[header::CONNECTION], "upgrade");
    }

    #[test]
    fn networks_hold_their_addresses() {
        let check = |network: (&str, u8), address: &str, expected: bool| {
            let network = Network {
                address: network.0.parse().unwrap(),
                prefix: network.1,
            };
            assert_eq!(
                contains(&network, address.parse().unwrap()),
                expected,
                "{address}"
            );
        };
        check(("10.0.0.0", 8), "10.255.0.1", true);
        check(("10.0.0.0", 8), "11.0.0.1", false);
        check(("10.0.0.0", 8), "::ffff:10.0.0.1", true);
        check(("0.0.0.0", 0), "1.2.3.4", true);
        check(("0.0.0.0", 0), "::1", false);
        check(("fd00::", 8), "fd12::1", true);
        check(("::1", 128), "::2", false);
    }
}
