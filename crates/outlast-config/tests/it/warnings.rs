//! What can work, but is likely not meant.

pub(crate) fn warnings_of(text: &str) -> String {
    let loaded = outlast_config::parse("test.yaml", text);
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    loaded
        .warnings()
        .iter()
        .map(|warning| format!("{warning}\n"))
        .collect()
}

#[test]
fn each_warning_is_given_where_it_belongs() {
    let check = |route: &str, upstream: &str, expected: &str| {
        let text = format!(
            "gateway: {{ listen: 127.0.0.1:8080, deadline: 3s }}
routes: {{ r: {{ match: /**, upstream: a{route} }} }}
upstreams:
  a: {{ endpoints: {{ x: http://h, y: http://i }}{upstream} }}
"
        );
        let told = warnings_of(&text);
        if expected.is_empty() {
            assert_eq!(told, "", "{text}");
        } else {
            assert!(told.contains(expected), "{text}: {told}");
        }
    };
    check("", "", "");
    check("", ", timeout: 1s, retry: { attempts: 2 }", "");
    check(
        "",
        ", timeout: 2s, retry: { attempts: 2 }",
        "do not fit in the deadline of 3s",
    );
    check(
        ", deadline: 10s",
        ", timeout: 2s, retry: { attempts: 2 }",
        "",
    );
    check(
        "",
        ", hedge: { after: p95 }, budget: off",
        "hedges without a budget",
    );
    check(
        "",
        ", hedge: { after: 1s }, timeout: 1s",
        "before its hedge starts",
    );
    check(
        "",
        ", hedge: { after: 50ms }, breaker: { slow: { after: 1s } }",
        "before they are slow",
    );
    check(
        "",
        ", timeout: 1s, breaker: { ratio: 50%, within: 1s }",
        "shorter than two attempts",
    );
    check(
        "",
        ", failover: [x, y], retry: { attempts: 1 }",
        "there is no failover",
    );
    check(", retry: always", "", "a POST may be made twice");
}

#[test]
fn routes_and_upstreams_that_do_nothing_are_found() {
    let told = warnings_of(
        "
gateway: { listen: 127.0.0.1:8080 }
routes:
  all: { match: GET /**, upstream: a }
  never: { match: GET /x/*, upstream: a }
  post: { match: POST /x, upstream: a }
upstreams:
  a: { endpoints: http://127.0.0.1:8080, retry: {}, fallback: { stale: 1m, upstream: b } }
  b: { endpoints: http://h, retry: {} }
  c: { endpoints: http://h }
",
    );
    for expected in [
        "no request takes this route: `all` takes them all before",
        "answers stale GETs only",
        "an endpoint is this gateway itself",
        "retries multiply",
        "nothing uses `c`",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert_eq!(told.matches("warning:").count(), 5, "{told}");
}
