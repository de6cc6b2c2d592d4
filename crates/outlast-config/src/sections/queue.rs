//! The keys of queues.

use super::saga::{OUTCOMES, OUTCOMES_MEANING};
use super::{BACKOFF, key};
use crate::shape::Default::{Is, Means, Required};
use crate::shape::{Kind, Section};

pub(crate) static QUEUE: Section = Section {
    name: "a queue",
    doc: "Requests that are kept on the disk because their upstream did not do them, and delivered to it when it does: at least once, with the same idempotency key at every attempt. An upstream names it in `fallback.queue` or in `failover.hold`. It takes effect at the next start.",
    keys: &[
        key(
            "key",
            Kind::AnyOf(&[
                Kind::Choice(&["none", "client", "path"]),
                Kind::Part(&QUEUE_KEY),
            ]),
            Is("none"),
            "what is delivered in the order in which it came: nothing, what comes from one client, to one path, or with one value of a header",
        ),
        key(
            "max_age",
            Kind::Duration,
            Is("7d"),
            "no delivery begins later than this; a client makes it shorter with `Outlast-Queue-Within: 10m`",
        ),
        key(
            "retry",
            Kind::Part(&QUEUE_RETRY),
            Means("its defaults"),
            "how often one request is tried before it is a dead letter",
        ),
        key(
            "pace",
            Kind::Part(&PACE),
            Means("its defaults"),
            "how many deliveries begin in a second",
        ),
        key(
            "concurrency",
            Kind::Count(1, 10_000),
            Is("16"),
            "deliveries at once",
        ),
        key(
            "timeout",
            Kind::Duration,
            Is("30s"),
            "how long an attempt may take; what comes later is not known",
        ),
        key(
            "messages",
            Kind::Count(1, 10_000_000),
            Is("100000"),
            "requests that wait or are dead letters; more are refused (503)",
        ),
        key(
            "bytes",
            Kind::Size,
            Is("1GiB"),
            "of all of them, with their header fields",
        ),
        key(
            "message_bytes",
            Kind::Size,
            Is("1MiB"),
            "of one request, with its header fields; what is larger is not queued",
        ),
        key(
            "remember",
            Kind::Duration,
            Is("24h"),
            "how long the id of a request is known that was delivered or dropped",
        ),
        key(
            "headers",
            Kind::AnyOf(&[Kind::Choice(&["all"]), Kind::List(&Kind::Text)]),
            Is("all"),
            "the header fields that are kept: all, or these with Content-Type, Host and the idempotency key",
        ),
        key(
            "credentials",
            Kind::Truth,
            Is("false"),
            "whether Authorization and Cookie are kept on the disk, too",
        ),
        key(
            "outcomes",
            OUTCOMES,
            Means(OUTCOMES_MEANING),
            "what statuses say of a delivery; one that is called `transient` here is a definite no of the upstream, so that a POST without a key may be queued after it",
        ),
        key(
            "status_path",
            Kind::Text,
            Means("/queues/NAME"),
            "where clients ask what became of a request, before all routes: `PATH/ID`; `off`: nowhere",
        ),
    ],
};

static QUEUE_KEY: Section = Section {
    name: "key of a queue",
    doc: "What is delivered in the order in which it came.",
    keys: &[key(
        "header",
        Kind::Text,
        Required,
        "a header; requests without it wait for no other",
    )],
};

pub(crate) static QUEUE_RETRY: Section = Section {
    name: "retry of a queue",
    doc: "How often a request is tried by its queue. What its upstream retries is one attempt.",
    keys: &[
        key(
            "attempts",
            Kind::Count(1, 1000),
            Is("24"),
            "attempts in all; then it is a dead letter",
        ),
        key(
            "backoff",
            Kind::AnyOf(&[Kind::Duration, Kind::Part(&BACKOFF)]),
            Means("exponential from 1s to 10m, half of it random"),
            "the waits between them",
        ),
    ],
};

pub(crate) static PACE: Section = Section {
    name: "pace",
    doc: "Deliveries a second: from the slowest, quicker with every success, down with failures.",
    keys: &[
        key(
            "slowest",
            Kind::Rate,
            Is("10/s"),
            "where it begins, and to which it falls in an outage",
        ),
        key("fastest", Kind::Rate, Is("1000/s"), "never more than this"),
    ],
};
