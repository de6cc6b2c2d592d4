//! What answers when the upstream does not.

use axum::body::Body;
use axum::http::Response;

use crate::support::{Upstream, curl, free_address, gateway, status, upstream_status, url};

#[test]
fn a_stale_answer_is_marked_and_honours_what_forbids_it() {
    let upstream = Upstream::answering(|seen| {
        let mut response = Response::new(Body::from(format!("fresh {}", seen.target)));
        if seen.target.contains("secret") {
            response
                .headers_mut()
                .insert("cache-control", "no-store".parse().unwrap());
        }
        response
    });
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{}, fallback: { stale: 5m } } }
",
        &[upstream.address],
    );
    let authorized = ["-H", "Authorization: Bearer x"];
    curl(&[&url(&gateway, "/a?b")]);
    curl(&[&url(&gateway, "/secret")]);
    curl(&[&authorized[..], &[&url(&gateway, "/mine")]].concat());
    upstream.answers(|_| status(503));
    let stale = curl(&[&url(&gateway, "/a?b")]);
    assert_eq!((stale.status, stale.text().as_str()), (200, "fresh /a?b"));
    assert_eq!(stale.headers["x-degraded"], "stale");
    assert!(stale.headers["warning"].starts_with("110"));
    assert!(stale.headers["age"].parse::<u64>().unwrap() < 60);
    for target in ["/a", "/secret", "/mine"] {
        assert_eq!(curl(&[&url(&gateway, target)]).status, 503, "{target}");
    }
    assert_eq!(curl(&["-d", "x", &url(&gateway, "/a?b")]).status, 503);
    let status = upstream_status(&gateway, "up");
    assert_eq!((status.fallbacks, status.stale.unwrap().answers), (1, 1));
}

#[test]
fn another_upstream_and_then_a_fixed_answer() {
    let mut second = Upstream::start();
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: first } }
upstreams:
  first:
    endpoints: http://{}
    fallback:
      upstream: second
      static: { status: 203, headers: { content-type: application/json }, body: '[]' }
  second: { endpoints: http://{} }
",
        &[free_address(), second.address],
    );
    let answer = curl(&["-d", "x", &url(&gateway, "/")]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.headers["x-degraded"], "fallback");
    second.stop();
    let answer = curl(&[&url(&gateway, "/")]);
    assert_eq!((answer.status, answer.text().as_str()), (203, "[]"));
    assert_eq!(answer.headers["x-degraded"], "static");
    assert_eq!(answer.headers["content-type"], "application/json");
    let fallbacks = |name| upstream_status(&gateway, name).fallbacks;
    assert_eq!((fallbacks("first"), fallbacks("second")), (2, 0));
}

#[test]
fn a_fallback_that_fails_too_has_not_answered() {
    let chain = |enforce: &str| {
        gateway(
            &format!(
                "
gateway: {{ listen: 127.0.0.1:0, admin: off }}
routes: {{ all: {{ match: /**, upstream: first }} }}
upstreams:
  first: {{ endpoints: http://{{}}, fallback: {{ upstream: second }} }}
  second: {{ endpoints: http://{{}}, fallback: {{ upstream: third }} }}
  third: {{ endpoints: http://{{}}, fallback: {{ stale: 1m, static: {{ body: x }}, enforce: {enforce} }} }}
"
            ),
            &[free_address(), free_address(), free_address()],
        )
    };
    let fallbacks = |gateway: &_| {
        ["first", "second", "third"].map(|name| upstream_status(gateway, name).fallbacks)
    };
    let shadow = chain("false");
    assert_eq!(curl(&[&url(&shadow, "/")]).status, 502);
    assert_eq!(fallbacks(&shadow), [0; 3]);
    let enforced = chain("true");
    assert_eq!(curl(&[&url(&enforced, "/")]).text(), "x");
    assert_eq!(fallbacks(&enforced), [1; 3]);
}

#[test]
fn a_post_that_may_have_been_done_is_not_done_by_another() {
    let (first, second) = (Upstream::answering(|_| status(500)), Upstream::start());
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off }
routes: { all: { match: /**, upstream: first } }
upstreams:
  first: { endpoints: http://{}, fallback: { upstream: second } }
  second: { endpoints: http://{} }
",
        &[first.address, second.address],
    );
    assert_eq!(curl(&["-d", "x", &url(&gateway, "/")]).status, 500);
    assert!(second.seen().is_empty());
    assert_eq!(curl(&[&url(&gateway, "/")]).status, 200);
}
