//! Queues of a file: what they become, and every way to write them wrongly.

use std::time::Duration;

use outlast_config::plan::{QueueKey, SagaMeaning};
use outlast_core::backoff::{Backoff, Jitter};

use crate::{errors_of, plan};

const FILE: &str = "
routes: { all: { match: POST /**, upstream: shop } }
upstreams:
  shop:
    endpoints: { a: http://127.0.0.1:1, b: http://127.0.0.1:2 }
    breaker: on
    failover: { order: [a, b], hold: orders }
    fallback: { queue: receipts }
queues:
  orders: {}
  receipts:
";

fn with(keys: &str) -> String {
    let lines = keys.lines().map(|line| format!("    {line}\n"));
    FILE.to_owned() + &lines.collect::<String>()
}

#[test]
fn queues_are_read_with_their_defaults() {
    let text = with(
        "key: { header: X-Customer }
max_age: 1h
retry: { attempts: 3, backoff: 2s }
pace: { slowest: 30/m, fastest: 5/s }
concurrency: 2
timeout: 1s
messages: 7
bytes: 1MiB
message_bytes: 2KiB
remember: 2h
headers: [X-Customer, Content-Type]
credentials: true
outcomes: { 503: transient, 400-499: unknown }
status_path: /queued",
    );
    let loaded = outlast_config::parse("test.yaml", &text).unwrap();
    assert_eq!(loaded.warnings(), []);
    let plan = loaded.plan();
    let shop = &plan.upstreams[0];
    assert_eq!(shop.hold.as_deref(), Some("orders"));
    assert_eq!(shop.fallback.queue.as_deref(), Some("receipts"));
    let [orders, receipts] = plan.queues.as_slice() else {
        panic!("two queues, not {:?}", plan.queues);
    };
    assert_eq!(orders.upstream.as_deref(), Some("shop"));
    assert_eq!((orders.key.clone(), orders.attempts), (QueueKey::None, 24));
    assert_eq!(orders.max_age, Duration::from_secs(7 * 86_400));
    assert_eq!((orders.slowest, orders.fastest), (10.0, 1000.0));
    assert_eq!((orders.messages, orders.bytes), (100_000, 1 << 30));
    assert_eq!(orders.message_bytes, 1 << 20);
    assert_eq!((orders.headers.as_ref(), orders.credentials), (None, false));
    assert_eq!(orders.status_path.as_deref(), Some("/queues/orders"));
    let waits = Backoff::exponential(Duration::from_secs(1)).jitter(Jitter::Equal);
    assert_eq!(orders.backoff, waits.max(Duration::from_secs(600)));
    assert_eq!(receipts.key, QueueKey::Header("x-customer".to_owned()));
    let waits = Backoff::constant(Duration::from_secs(2));
    assert_eq!((receipts.attempts, receipts.backoff), (3, waits));
    assert_eq!((receipts.slowest, receipts.fastest), (0.5, 5.0));
    assert_eq!((receipts.messages, receipts.message_bytes), (7, 2048));
    let fields = receipts.headers.as_deref().unwrap();
    assert_eq!(fields, ["x-customer", "content-type"]);
    assert!(receipts.credentials);
    assert_eq!(receipts.status_path.as_deref(), Some("/queued"));
    for (status, means, told) in [
        (503, SagaMeaning::Transient, true),
        (404, SagaMeaning::Unknown, true),
        (500, SagaMeaning::Transient, false),
        (502, SagaMeaning::Unknown, false),
    ] {
        let rules = &receipts.outcomes;
        assert_eq!(SagaMeaning::of(rules, status), means, "{status}");
        assert_eq!(SagaMeaning::told(rules, status).is_some(), told, "{status}");
    }
    let off = crate::plan(&with("status_path: off\nkey: path"));
    assert_eq!(off.queues[1].status_path, None);
    assert_eq!(off.queues[1].key, QueueKey::Path);
}

#[test]
fn what_cannot_work_is_told_with_its_mend() {
    let check = |text: &str, parts: &[&str]| {
        let told = errors_of(text);
        for part in parts {
            assert!(told.contains(part), "{part}: {told}");
        }
    };
    for (keys, part) in [
        ("max_ag: 1h", "did you mean `max_age`?"),
        ("max_age: 0s", "nothing ends in no time"),
        ("retry: { attempts: 0 }", "whole number"),
        ("pace: { slowest: 10 }", "write a rate"),
        ("pace: { slowest: 1/h }", "at least `4/h`"),
        ("pace: { fastest: 5/s }", "quicker than the fastest"),
        ("concurrency: 0", "whole number"),
        ("message_bytes: 1B", "from `1KiB` to `64MiB`"),
        ("bytes: 2KiB", "no more than `bytes`"),
        ("key: clint", "did you mean `client`?"),
        ("key: { header: 'a b' }", "no header name"),
        ("headers: [a b]", "no header name"),
        ("status_path: queued", "no path for a status"),
        ("status_path: /", "no path for a status"),
        ("status_path: /queues/orders", "of `orders`, too"),
        ("status_path: /queues/orders/x", "of `orders`, too"),
        ("outcomes: { 503: overload }", "transient"),
    ] {
        check(&with(keys), &[part]);
    }
    let file = with("");
    check(
        &file.replace("queue: receipts", "queue: reciepts"),
        &["there is no queue `reciepts`", "did you mean `receipts`?"],
    );
    check(
        &file.replace("hold: orders", "hold: elsewhere"),
        &["there is no queue `elsewhere`", "queues: { elsewhere: {} }"],
    );
    check(
        &file.replace("hold: orders", "hold: orders, enforce: false"),
        &["nothing is held where no failover is made"],
    );
    check(
        &file.replace("  orders: {}", "  or.ders: {}"),
        &["`or.ders` cannot be a name"],
    );
    check(
        &format!("gateway: {{ admin: off }}{file}"),
        &["dead letters are handled at the admin listener"],
    );
    let second = "upstreams:\n  bank: { endpoints: http://127.0.0.1:3, breaker: on, fallback: { queue: orders } }";
    check(
        &file.replace("upstreams:", second),
        &["`orders` is delivered to `bank` already"],
    );
}

#[test]
fn what_is_likely_not_meant_is_a_warning() {
    let check = |from: &str, to: &str, part: &str| {
        let text = with("").replace(from, to);
        let loaded = outlast_config::parse("test.yaml", &text).unwrap();
        let told: Vec<_> = loaded.warnings().iter().map(ToString::to_string).collect();
        assert!(
            told.iter().any(|told| told.contains(part)),
            "{part}: {told:?}"
        );
    };
    check("    breaker: on\n", "", "it has no breaker");
    check("match: POST /**", "match: GET /**", "reads are not queued");
    check(", hold: orders", "", "no upstream has the queue `orders`");
    check(
        "queue: receipts",
        "queue: receipts, permanent: true",
        "never queued",
    );
    assert_eq!(plan(&with("")).queues.len(), 2);
}

#[test]
fn the_queue_of_an_upstream_is_explained() {
    let loaded = outlast_config::parse("test.yaml", &with("key: path")).unwrap();
    let page = loaded.explain(Some("shop")).unwrap();
    for line in [
        "      queue: receipts",
        "      hold: orders",
        "queue receipts",
        "  delivers to: shop",
        "  key: path",
        "  max_age: 7d (default)",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    assert_eq!(
        loaded.explain(None).unwrap().matches("delivers to").count(),
        2
    );
}
