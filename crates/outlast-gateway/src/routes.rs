//! Which route a request takes: the first of the file whose conditions all hold.
//!
//! Paths are compared by segments, after they have been normalised (see [`crate::target`]), so that
//! no spelling of a path escapes a route. The literal start of each pattern is kept as text: most
//! routes are told apart by one comparison of bytes.

use http::{HeaderMap, HeaderName, Method};
use outlast_config::plan;

/// A route with its conditions in the form they are compared in.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) plan: plan::Route,
    methods: Vec<Method>,
    headers: Vec<(HeaderName, Option<String>)>,
    /// What every path of this route starts with.
    literal: String,
    /// Whether the literal start is all there is to the pattern.
    is_literal: bool,
}

impl Route {
    /// An error names what the plan holds that is no HTTP.
    pub(crate) fn new(plan: plan::Route) -> Result<Route, String> {
        let matching = &plan.matching;
        let method = |name: &String| {
            Method::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no method"))
        };
        let header = |header: &plan::HeaderMatch| {
            let name = HeaderName::from_bytes(header.name.as_bytes())
                .map_err(|_| format!("{:?} is no header name", header.name))?;
            Ok::<_, String>((name, header.value.clone()))
        };
        let segments = &matching.path.segments;
        let literals = segments.iter().map_while(|segment| match segment {
            plan::Segment::Is(text) => Some(text.as_str()),
            plan::Segment::Any => None,
        });
        let literals: Vec<_> = literals.collect();
        let literal: String = literals.iter().flat_map(|text| ["/", text]).collect();
        Ok(Route {
            methods: matching
                .methods
                .iter()
                .map(method)
                .collect::<Result<_, _>>()?,
            headers: matching
                .headers
                .iter()
                .map(header)
                .collect::<Result<_, _>>()?,
            is_literal: literals.len() == segments.len(),
            literal,
            plan,
        })
    }

    /// Whether it takes this request. `host` is without port.
    pub(crate) fn matches(
        &self,
        method: &Method,
        host: &str,
        path: &str,
        headers: &HeaderMap,
    ) -> bool {
        self.takes_path(path)
            && (self.methods.is_empty() || self.methods.contains(method))
            && self.takes_host(host)
            && self.headers.iter().all(|(name, value)| {
                let mut values = headers.get_all(name).iter();
                match value {
                    None => values.next().is_some(),
                    Some(value) => values.any(|given| given.as_bytes() == value.as_bytes()),
                }
            })
    }

    /// The path as the upstream gets it.
    pub(crate) fn rewritten<'a>(&self, path: &'a str) -> (&str, &'a str) {
        match &self.plan.rewrite {
            None => ("", path),
            Some(prefix) => (prefix, &path[self.literal.len()..]),
        }
    }

    fn takes_host(&self, host: &str) -> bool {
        match &self.plan.matching.host {
            None => true,
            Some(plan::Host::Is(name)) => name.eq_ignore_ascii_case(host),
            Some(plan::Host::Below(suffix)) => host
                .len()
                .checked_sub(suffix.len())
                .and_then(|below| host.split_at_checked(below))
                .is_some_and(|(below, end)| {
                    end.eq_ignore_ascii_case(suffix) && below.len() > 1 && below.ends_with('.')
                }),
        }
    }

    fn takes_path(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(self.literal.as_str()) else {
            return false;
        };
        if !(rest.is_empty() || rest.starts_with('/')) {
            return false;
        }
        let open = self.plan.matching.path.open;
        if self.is_literal {
            return open || rest.is_empty() || (self.literal.is_empty() && rest == "/");
        }
        let literals = self.literal.bytes().filter(|&byte| byte == b'/').count();
        let mut given = rest.split('/').skip(1);
        for segment in &self.plan.matching.path.segments[literals..] {
            let Some(given) = given.next().filter(|given| !given.is_empty()) else {
                return false;
            };
            if matches!(segment, plan::Segment::Is(text) if text != given) {
                return false;
            }
        }
        open || given.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use outlast_config::plan::{HeaderMatch, Host, Match, Path, Repeat, Segment, Tier};

    use super::*;

    fn route(matching: Match) -> Route {
        Route::new(plan::Route {
            name: "r".to_owned(),
            matching,
            upstream: 0,
            rewrite: Some("/new".to_owned()),
            deadline: None,
            tier: Tier::Important,
            repeat: Repeat::Safe,
            make_idempotency_key: false,
            upgrade: false,
            shield: false,
            canary: None,
        })
        .unwrap()
    }

    fn path(pattern: &str) -> Match {
        let (pattern, open) = match pattern.strip_suffix("/**") {
            Some(start) => (start, true),
            None => (pattern, false),
        };
        let segment = |text: &str| match text {
            "*" => Segment::Any,
            text => Segment::Is(text.to_owned()),
        };
        let segments = pattern.split('/').skip(1).filter(|text| !text.is_empty());
        Match {
            path: Path {
                segments: segments.map(segment).collect(),
                open,
            },
            ..Match::default()
        }
    }

    #[test]
    fn paths_match_by_whole_segments() {
        let check = |pattern: &str, given: &str, expected: bool| {
            let route = route(path(pattern));
            let none = HeaderMap::new();
            let found = route.matches(&Method::GET, "h", given, &none);
            assert_eq!(found, expected, "{pattern} takes {given}");
        };
        for (pattern, given, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a", "/a/", false),
            ("/a", "/a/b", false),
            ("/a/**", "/a", true),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/ab", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/", false),
            ("/a/*", "/a", false),
            ("/a/*", "/a/b/c", false),
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/d", false),
            ("/*/c/**", "/a/c/d/e", true),
            ("/*/c/**", "/a/d", false),
        ] {
            check(pattern, given, expected);
        }
    }

    #[test]
    fn methods_hosts_and_headers_narrow_it_down() {
        let matching = Match {
            methods: vec!["GET".to_owned()],
            host: Some(Host::Below("shop.test".to_owned())),
            headers: vec![
                HeaderMatch {
                    name: "x-a".to_owned(),
                    value: Some("1".to_owned()),
                },
                HeaderMatch {
                    name: "x-b".to_owned(),
                    value: None,
                },
            ],
            ..path("/**")
        };
        let route = route(matching);
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("0"));
        headers.append("x-a", HeaderValue::from_static("1"));
        assert!(!route.matches(&Method::GET, "eu.shop.test", "/", &headers));
        headers.append("x-b", HeaderValue::from_static(""));
        assert!(route.matches(&Method::GET, "eu.shop.test", "/", &headers));
        assert!(!route.matches(&Method::POST, "eu.shop.test", "/", &headers));
        for host in ["shop.test", ".shop.test", "eushop.test", "test"] {
            assert!(!route.matches(&Method::GET, host, "/", &headers), "{host}");
        }
    }

    #[test]
    fn a_rewrite_replaces_the_literal_start() {
        assert_eq!(route(path("/a/b/**")).rewritten("/a/b/c"), ("/new", "/c"));
        assert_eq!(route(path("/a/*/c")).rewritten("/a/x/c"), ("/new", "/x/c"));
        assert_eq!(route(path("/a")).rewritten("/a"), ("/new", ""));
    }
}
