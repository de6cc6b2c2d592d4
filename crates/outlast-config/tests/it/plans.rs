//! What files mean.

use std::time::Duration;

use outlast_config::plan::{Host, Meaning, Path, RateKey, Segment, Tier};

use crate::plan;

#[test]
fn an_empty_file_is_a_plan_with_defaults() {
    let gateway = plan("").gateway;
    assert_eq!(gateway.listen[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(gateway.admin.unwrap().address.to_string(), "127.0.0.1:9900");
    assert_eq!(
        (gateway.limits.headers, gateway.limits.header_bytes),
        (100, 65536)
    );
    assert_eq!(gateway.drain, Duration::from_secs(30));
}

#[test]
fn the_whole_of_a_file_is_understood() {
    let plan = plan(
        "
gateway: { deadline: 3s, admin: off, trusted_proxies: [10.0.0.0/8] }
routes:
  checkout: { match: 'POST *.shop.test/checkout/*/**', upstream: payment, tier: critical, deadline: none }
  other: { match: { headers: { X-Canary: '*' } }, upstream: stock }
upstreams:
  payment:
    endpoints: { stripe: https://pay.test/v1, adyen: http://127.0.0.1:7002 }
    failover: [adyen, stripe]
    outcomes: { 402: permanent, 400-499: success }
    rate: { calls: 10, per_key: { header: X-Tenant } }
    fallback: { upstream: stock, static: { status: 202, body: later } }
  stock: { endpoints: [http://a:1, http://b:2], rate: { calls: 1, per_key: client } }
",
    );
    let route = &plan.routes[0];
    assert_eq!(
        route.matching.host,
        Some(Host::Below("shop.test".to_owned()))
    );
    let path = Path {
        segments: vec![Segment::Is("checkout".to_owned()), Segment::Any],
        open: true,
    };
    assert_eq!(
        (&route.matching.path, route.tier, route.deadline),
        (&path, Tier::Critical, None)
    );
    let other = &plan.routes[1];
    assert_eq!(
        (other.upstream, other.deadline),
        (1, Some(Duration::from_secs(3)))
    );
    assert!(other.matching.path.open, "every path");
    assert_eq!(other.matching.headers[0].name, "x-canary");
    let payment = &plan.upstreams[0];
    let names: Vec<_> = payment
        .endpoints
        .iter()
        .map(|endpoint| endpoint.name.as_str())
        .collect();
    assert_eq!(names, ["adyen", "stripe"], "in the order of preference");
    assert_eq!(payment.endpoints[1].prefix, "/v1");
    assert_eq!(
        payment.outcomes[0].means,
        Meaning::Permanent,
        "the narrowest first"
    );
    assert_eq!(payment.rate_key, RateKey::Header("x-tenant".to_owned()));
    assert_eq!(
        (
            payment.fallback.upstream,
            plan.upstreams[1].rate_key == RateKey::Client
        ),
        (Some(1), true)
    );
}

#[test]
fn every_setting_of_an_upstream_makes_it_another_one() {
    let source = |more: &str| {
        let text =
            format!("upstreams: {{ a: {{ endpoints: {{ x: http://h, y: http://i }}{more} }} }}");
        let upstream = plan(&text).upstreams.remove(0);
        (
            upstream.source.clone(),
            format!(
                "{:?}",
                (
                    upstream.policies,
                    upstream.pool,
                    upstream.protocol,
                    upstream.outcomes,
                    upstream.fallback,
                    upstream.replay_bytes,
                    upstream.connect_timeout,
                    upstream.idempotency_key,
                    upstream.rate_key
                )
            ),
        )
    };
    let plain = source("");
    for setting in [
        "deadline: 1s",
        "timeout: 1s",
        "enforce_deadline: false",
        "rate: { calls: 5 }",
        "rate: { calls: 5, per: 2s }",
        "rate: { calls: 5, burst: 2 }",
        "rate: { calls: 5, wait: 1s }",
        "rate: { calls: 5, per_key: client }",
        "rate: { calls: 5, enforce: false }",
        "retry: {}",
        "retry: { attempts: 4 }",
        "retry: { backoff: 1s }",
        "retry: { backoff: { kind: linear } }",
        "retry: { backoff: { base: 1ms } }",
        "retry: { backoff: { max: 1s } }",
        "retry: { backoff: { factor: 3 } }",
        "retry: { backoff: { jitter: equal } }",
        "retry: { backoff: { jitter: 20% } }",
        "retry: { longest_hint: 1s }",
        "retry: { enforce: false }",
        "hedge: { after: p95 }",
        "hedge: { after: 1s }",
        "hedge: { after: p95, floor: 5ms }",
        "hedge: { after: p95, min_samples: 7 }",
        "hedge: { after: p95, hedges: 2 }",
        "hedge: { after: p95, enforce: false }",
        "failover: [x, y]",
        "failover: { order: [x, y], enforce: false }",
        "fallback: { stale: 1m }",
        "fallback: { stale: { max_age: 1m, bytes: 1MiB } }",
        "fallback: { static: {} }",
        "fallback: { static: { status: 201 } }",
        "fallback: { permanent: true }",
        "fallback: { enforce: false }",
        "budget: off",
        "budget: 20%",
        "budget: { window: 10s }",
        "budget: { reserve: 9 }",
        "budget: { enforce: false }",
        "breaker: on",
        "breaker: { consecutive: 7 }",
        "breaker: { failures: 7 }",
        "breaker: { ratio: 10% }",
        "breaker: { slow: { after: 1s } }",
        "breaker: { failures: 7, within: 10s }",
        "breaker: { failures: 7, within: 50 }",
        "breaker: { ratio: 10%, min_calls: 5 }",
        "breaker: { cooldown: 1s }",
        "breaker: { cooldown: { base: 1s, max: 1m } }",
        "breaker: { trials: 1 }",
        "breaker: { successes: 1 }",
        "breaker: { tolerate: 1 }",
        "breaker: { lease: 1s }",
        "breaker: { patience: 1s }",
        "breaker: { enforce: false }",
        "bulkhead: 5",
        "bulkhead: { concurrency: 5, queue: 1 }",
        "bulkhead: { concurrency: 5, queue_timeout: 1s }",
        "bulkhead: { concurrency: 5, enforce: false }",
        "outcomes: { 404: permanent }",
        "fault: { error: true }",
        "fault: { hang: true, rate: 5% }",
        "fault: { delay: 1s, on: false }",
        "protocol: http2",
        "pool: { idle: 1 }",
        "pool: { idle_timeout: 1s }",
        "pool: { max_lifetime: 1s }",
        "connect_timeout: 1s",
        "replay: 1KiB",
        "idempotency_key: X-Key",
    ] {
        let changed = source(&format!(", {setting}"));
        assert_ne!(changed.0, plain.0, "{setting}");
        assert_ne!(changed.1, plain.1, "{setting}");
    }
}

#[test]
fn order_style_and_comments_leave_an_upstream_the_same() {
    let one = plan("upstreams: { a: { endpoints: http://h, timeout: 1s } }");
    let other =
        plan("upstreams:\n  # the same\n  a:\n    timeout: '1s'\n    endpoints: \"http://h\"\n");
    assert_eq!(one.upstreams[0].source, other.upstreams[0].source);
}

#[test]
fn a_default_that_is_written_changes_nothing() {
    let policies = |more: &str| {
        let text = format!("upstreams: {{ a: {{ endpoints: http://h{more} }} }}");
        format!("{:?}", plan(&text).upstreams.remove(0).policies)
    };
    for (left_out, written) in [
        (
            ", retry: {}",
            ", retry: { attempts: 3, backoff: { kind: quadratic, base: 50ms, max: 5s, jitter: full }, enforce: true }",
        ),
        (
            "",
            ", budget: { ratio: 10%, window: 30s, reserve: 3, enforce: true }",
        ),
        ("", ", budget: 10%, enforce_deadline: true"),
        (
            ", breaker: on",
            ", breaker: { consecutive: 5, within: 30s, cooldown: { kind: constant, base: 2s, jitter: 25% }, trials: 3, successes: 3, tolerate: 0, enforce: true }",
        ),
        (
            ", breaker: { ratio: 50% }",
            ", breaker: { ratio: 50%, min_calls: 20 }",
        ),
        (
            ", bulkhead: 5",
            ", bulkhead: { concurrency: 5, queue: 0, queue_timeout: 500ms, enforce: true }",
        ),
        (
            ", hedge: { after: p95 }",
            ", hedge: { after: p95, floor: 1ms, min_samples: 100, hedges: 1, enforce: true }",
        ),
        (
            ", rate: { calls: 5 }",
            ", rate: { calls: 5, per: 1s, wait: 0s, enforce: true }",
        ),
    ] {
        assert_eq!(policies(left_out), policies(written), "{written}");
    }
}
