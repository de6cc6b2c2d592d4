//! The keys of an upstream.

use super::discover::DISCOVER;
use super::endpoint::{ENDPOINT, EXCLUSIVE};
use super::key;
use super::redundancy::{ACTIVE_CHECK, BALANCE, EJECT};
use super::shed::{SHED, THROTTLE};
use crate::shape::Default::{Is, Means, Required};
use crate::shape::{Kind, Section};

pub(crate) static UPSTREAM: Section = Section {
    name: "an upstream",
    doc: "A service that is depended on, and what protects calls to it.",
    keys: &[
        key(
            "endpoints",
            Kind::AnyOf(&[
                Kind::Url,
                Kind::List(&Kind::Url),
                Kind::Names(&Kind::AnyOf(&[Kind::Url, Kind::Part(&ENDPOINT)])),
            ]),
            Means("those of `discover: { from: file }`"),
            "its URL, or several, or names with URLs or with more about each",
        ),
        key(
            "discover",
            Kind::AnyOf(&[
                Kind::Choice(&["dns", "srv", "admin"]),
                Kind::Part(&DISCOVER),
            ]),
            Means("the endpoints never change"),
            "where endpoints come from while the gateway runs",
        ),
        key(
            "exclusive",
            Kind::AnyOf(&[Kind::Truth, Kind::Part(&EXCLUSIVE)]),
            Is("false"),
            "whether an idempotency key stays with the endpoint that may have served it",
        ),
        key(
            "deadline",
            Kind::Duration,
            Means("that of the route"),
            "when calls to it end at the latest",
        ),
        key(
            "balance",
            Kind::AnyOf(&[
                Kind::Choice(&[
                    "peak_ewma",
                    "least_requests",
                    "round_robin",
                    "weighted",
                    "hash",
                ]),
                Kind::Part(&BALANCE),
            ]),
            Means("the quicker and idler of two, unless there is `failover`"),
            "which endpoint gets an attempt",
        ),
        key(
            "check",
            Kind::AnyOf(&[Kind::Choice(&["on"]), Kind::Part(&ACTIVE_CHECK)]),
            Means("none"),
            "whether endpoints are asked how they are; `on`: whether they take a connection",
        ),
        key(
            "eject",
            Kind::AnyOf(&[Kind::Choice(&["on"]), Kind::Part(&EJECT)]),
            Means("nobody is"),
            "whether an endpoint that does worse than the others gets no attempts for a while",
        ),
        key(
            "throttle",
            Kind::AnyOf(&[Kind::Choice(&["on"]), Kind::Part(&THROTTLE)]),
            Means("everything is sent"),
            "whether calls that would probably be refused are held back",
        ),
        key(
            "shed",
            Kind::AnyOf(&[Kind::Choice(&["on"]), Kind::Part(&SHED)]),
            Means("no bound"),
            "calls at once, by a limit that is measured, and by tier under load",
        ),
        key(
            "rate",
            Kind::Part(&RATE),
            Means("no limit"),
            "calls per time",
        ),
        key(
            "retry",
            Kind::Part(&RETRY),
            Means("no retries"),
            "further attempts after failed ones",
        ),
        key(
            "hedge",
            Kind::Part(&HEDGE),
            Means("no hedges"),
            "second attempts beside slow ones",
        ),
        key(
            "failover",
            Kind::AnyOf(&[Kind::List(&Kind::Text), Kind::Part(&FAILOVER)]),
            Means("endpoints are equals"),
            "the endpoints in order of preference",
        ),
        key(
            "fallback",
            Kind::Part(&FALLBACK),
            Means("none"),
            "what answers instead: stale, then another upstream, then a queue, then a fixed answer",
        ),
        key(
            "budget",
            Kind::AnyOf(&[Kind::Share, Kind::Choice(&["off"]), Kind::Part(&BUDGET)]),
            Is("10%"),
            "the bound on retries, hedges and failovers together, as a share of successes",
        ),
        key(
            "breaker",
            Kind::AnyOf(&[Kind::Choice(&["on"]), Kind::Part(&BREAKER)]),
            Means("no breaker"),
            "a circuit breaker per endpoint",
        ),
        key(
            "bulkhead",
            Kind::AnyOf(&[Kind::Count(1, 1_048_575), Kind::Part(&BULKHEAD)]),
            Means("no bound"),
            "attempts at once",
        ),
        key(
            "timeout",
            Kind::Duration,
            Is("30s"),
            "when an attempt ends at the latest",
        ),
        key(
            "enforce_deadline",
            Kind::Truth,
            Is("true"),
            "`false`: deadlines and timeouts are counted, and nothing is cut",
        ),
        key(
            "outcomes",
            Kind::Statuses(&OUTCOME),
            Means("as usual"),
            "what statuses mean",
        ),
        key(
            "fault",
            Kind::Part(&FAULT),
            Means("none"),
            "harm to do on purpose",
        ),
        key(
            "protocol",
            Kind::Choice(&["auto", "http1", "http2"]),
            Is("auto"),
            "what is spoken: `auto` is HTTP/1.1 in clear text, and what TLS agrees on",
        ),
        key(
            "tls",
            Kind::Part(&CLIENT_TLS),
            Means("the system's roots"),
            "whom to trust for https endpoints",
        ),
        key(
            "pool",
            Kind::Part(&POOL),
            Means("its defaults"),
            "connections, per worker and endpoint",
        ),
        key(
            "target_utilisation",
            Kind::Share,
            Is("70%"),
            "how busy its instances should be; what `instances_wanted` in the metrics is made for",
        ),
        key(
            "connect_timeout",
            Kind::Duration,
            Is("2s"),
            "for connecting, with the TLS handshake",
        ),
        key(
            "replay",
            Kind::Size,
            Is("64KiB"),
            "up to which size a request's body is kept for another attempt",
        ),
        key(
            "idempotency_key",
            Kind::Text,
            Is("Idempotency-Key"),
            "the header that makes a repeated request recognisable",
        ),
    ],
};

/// What a status can mean.
pub(super) static OUTCOME: Kind =
    Kind::Choice(&["success", "transient", "permanent", "overload", "ignored"]);

static RATE: Section = Section {
    name: "rate",
    doc: "Calls per time.",
    keys: &[
        key(
            "calls",
            Kind::Count(1, 1_000_000_000),
            Required,
            "so many calls",
        ),
        key("per", Kind::Duration, Is("1s"), "in this time"),
        key(
            "burst",
            Kind::Count(1, 1_000_000_000),
            Means("`calls`"),
            "so many may come at once after a pause",
        ),
        key(
            "wait",
            Kind::Duration,
            Is("0s"),
            "how long a call may wait for its turn",
        ),
        key(
            "per_key",
            Kind::AnyOf(&[Kind::Choice(&["client"]), Kind::Part(&PER_KEY)]),
            Means("one limit for all"),
            "a limit for each client, or for each value of a header",
        ),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: it counts what it would reject, and rejects nothing",
        ),
    ],
};

static PER_KEY: Section = Section {
    name: "per_key",
    doc: "What a rate limit counts by.",
    keys: &[
        key(
            "header",
            Kind::Text,
            Means("the client's address"),
            "a header; requests without it share a limit",
        ),
        key(
            "keys",
            Kind::Count(1, 1_048_576),
            Is("10000"),
            "so many keys are told apart at once",
        ),
    ],
};

static RETRY: Section = Section {
    name: "retry",
    doc: "Further attempts after failed ones, for requests that may be made twice.",
    keys: &[
        key(
            "attempts",
            Kind::Count(1, 1000),
            Is("3"),
            "attempts in all, the first included",
        ),
        key(
            "backoff",
            Kind::AnyOf(&[Kind::Duration, Kind::Part(&BACKOFF)]),
            Means("quadratic from 50ms with full jitter, at most 5s"),
            "the waits between attempts; a duration alone is a constant wait",
        ),
        key(
            "longest_hint",
            Kind::Duration,
            Means("the longest backoff, or 30s"),
            "the longest Retry-After that is waited for",
        ),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: it counts the retries it would make, and makes none",
        ),
    ],
};

pub(crate) static BACKOFF: Section = Section {
    name: "backoff",
    doc: "A series of waits.",
    keys: &[
        key(
            "kind",
            Kind::Choice(&[
                "quadratic",
                "exponential",
                "linear",
                "fibonacci",
                "constant",
                "decorrelated",
            ]),
            Means("quadratic; exponential for a cooldown, and with `factor`"),
            "how the waits grow",
        ),
        key("base", Kind::Duration, Is("50ms"), "the first wait"),
        key("max", Kind::Duration, Is("5s"), "no wait is longer"),
        key(
            "factor",
            Kind::Factor,
            Means("2"),
            "how fast exponential waits grow",
        ),
        key(
            "jitter",
            Kind::AnyOf(&[Kind::Choice(&["full", "equal", "none"]), Kind::Share]),
            Means("full, and 20% for a cooldown; none for constant and decorrelated"),
            "how waits are spread; a share spreads by so much both ways",
        ),
    ],
};

static HEDGE: Section = Section {
    name: "hedge",
    doc: "A second attempt beside a slow one, for requests that may be made twice.",
    keys: &[
        key(
            "after",
            Kind::AnyOf(&[Kind::Duration, Kind::Quantile]),
            Required,
            "a time, or a quantile of the latencies",
        ),
        key(
            "floor",
            Kind::Duration,
            Is("1ms"),
            "never sooner, for a quantile",
        ),
        key(
            "min_samples",
            Kind::Count(1, 1_000_000),
            Is("100"),
            "latencies to have seen before, for a quantile",
        ),
        key("hedges", Kind::Count(1, 3), Is("1"), "so many per call"),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: it counts the hedges it would start, and starts none",
        ),
    ],
};

static FAILOVER: Section = Section {
    name: "failover",
    doc: "The endpoints in order of preference.",
    keys: &[
        key(
            "order",
            Kind::List(&Kind::Text),
            Required,
            "the endpoints, the preferred one first",
        ),
        key(
            "hold",
            Kind::Text,
            Means("none"),
            "the queue that takes requests, answered with 202, when no endpoint took them",
        ),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: it counts the failovers it would make, and makes none",
        ),
    ],
};

static FALLBACK: Section = Section {
    name: "fallback",
    doc: "What answers instead of an upstream that does not.",
    keys: &[
        key(
            "stale",
            Kind::AnyOf(&[Kind::Duration, Kind::Part(&STALE)]),
            Means("off"),
            "its own last good answer to the same GET, up to this age",
        ),
        key("upstream", Kind::Text, Means("none"), "another upstream"),
        key(
            "queue",
            Kind::Text,
            Means("none"),
            "the queue that takes requests that change something, answered with 202",
        ),
        key(
            "static",
            Kind::Part(&STATIC),
            Means("none"),
            "a fixed answer",
        ),
        key(
            "permanent",
            Kind::Truth,
            Is("false"),
            "whether also a definite no is replaced",
        ),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: it counts the answers it would replace, and replaces none",
        ),
    ],
};

static STALE: Section = Section {
    name: "stale",
    doc: "A cache of good answers.",
    keys: &[
        key(
            "max_age",
            Kind::Duration,
            Required,
            "how old an answer may be",
        ),
        key("bytes", Kind::Size, Is("64MiB"), "for all answers together"),
        key("entry_bytes", Kind::Size, Is("1MiB"), "for one answer"),
    ],
};

static STATIC: Section = Section {
    name: "static",
    doc: "A fixed answer.",
    keys: &[
        key("status", Kind::Count(200, 599), Is("200"), "its status"),
        key(
            "headers",
            Kind::Names(&Kind::Text),
            Means("none"),
            "its header fields",
        ),
        key("body", Kind::Text, Means("empty"), "its body"),
    ],
};

static BUDGET: Section = Section {
    name: "budget",
    doc: "The bound on retries, hedges and failovers together.",
    keys: &[
        key(
            "ratio",
            Kind::Share,
            Is("10%"),
            "of the successes in the window",
        ),
        key(
            "window",
            Kind::Duration,
            Is("30s"),
            "how long successes and extra attempts are remembered",
        ),
        key(
            "reserve",
            Kind::Count(0, 10_000),
            Is("3"),
            "extra attempts per window that need no success",
        ),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: it counts what it would deny, and grants",
        ),
    ],
};

pub(crate) static BREAKER: Section = Section {
    name: "breaker",
    doc: "A circuit breaker per endpoint. It trips when any of its rules is met; without a rule, after five failures in a row.",
    keys: &[
        key(
            "consecutive",
            Kind::Count(1, 1_000_000),
            Means("5, if there is no other rule"),
            "rule: so many failures in a row",
        ),
        key(
            "failures",
            Kind::Count(1, 1_000_000),
            Means("off"),
            "rule: so many failures within the window",
        ),
        key(
            "ratio",
            Kind::Share,
            Means("off"),
            "rule: this share of the calls in the window failed",
        ),
        key(
            "slow",
            Kind::Part(&SLOW),
            Means("off"),
            "rule: this share of the calls in the window was slow",
        ),
        key(
            "within",
            Kind::AnyOf(&[Kind::Duration, Kind::Count(1, 10_000)]),
            Is("30s"),
            "the window: a time, or a number of calls",
        ),
        key(
            "min_calls",
            Kind::Count(1, 1_000_000),
            Is("20"),
            "calls that must be in the window before a share means anything",
        ),
        key(
            "cooldown",
            Kind::AnyOf(&[Kind::Duration, Kind::Part(&BACKOFF)]),
            Means("2s, give or take a quarter"),
            "how long it stays open; a backoff grows with every failed trial",
        ),
        key(
            "trials",
            Kind::Count(1, 100_000),
            Is("3"),
            "calls at once while it is half-open",
        ),
        key(
            "successes",
            Kind::Count(1, 100_000),
            Is("3"),
            "successful trials that close it",
        ),
        key(
            "tolerate",
            Kind::Count(0, 100_000),
            Is("0"),
            "failed trials that do not open it again",
        ),
        key(
            "lease",
            Kind::Duration,
            Means("30s, or the attempt timeout if that is longer"),
            "after which a hung trial is given up",
        ),
        key(
            "patience",
            Kind::Duration,
            Means("the slow threshold, or the limits that are set, or 1s"),
            "after which a cancelled attempt counts as failed",
        ),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: it decides and counts, and rejects nothing",
        ),
    ],
};

static SLOW: Section = Section {
    name: "slow",
    doc: "Which calls are slow, and how many are too many.",
    keys: &[
        key(
            "after",
            Kind::Duration,
            Required,
            "a call that takes longer is slow",
        ),
        key(
            "ratio",
            Kind::Share,
            Is("50%"),
            "the share of slow calls that trips it",
        ),
    ],
};

static BULKHEAD: Section = Section {
    name: "bulkhead",
    doc: "Attempts at once.",
    keys: &[
        key(
            "concurrency",
            Kind::Count(1, 1_048_575),
            Required,
            "so many seats",
        ),
        key(
            "queue",
            Kind::Count(0, 1_048_575),
            Is("0"),
            "so many attempts may wait for one",
        ),
        key(
            "queue_timeout",
            Kind::Duration,
            Is("500ms"),
            "how long each may wait",
        ),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: it counts what it would reject, and rejects nothing",
        ),
    ],
};

static FAULT: Section = Section {
    name: "fault",
    doc: "Harm to do on purpose: one of delay, error and hang.",
    keys: &[
        key(
            "delay",
            Kind::Duration,
            Means("off"),
            "attempts are held back for this long",
        ),
        key("error", Kind::Truth, Is("false"), "attempts fail at once"),
        key("hang", Kind::Truth, Is("false"), "attempts never answer"),
        key(
            "rate",
            Kind::Share,
            Is("100%"),
            "the share of attempts that is struck",
        ),
        key(
            "on",
            Kind::Truth,
            Is("true"),
            "whether it strikes from the start",
        ),
    ],
};

static CLIENT_TLS: Section = Section {
    name: "tls of an upstream",
    doc: "Whom to trust, and what to show.",
    keys: &[
        key(
            "roots",
            Kind::Text,
            Means("the system's"),
            "the file with the roots to trust (PEM)",
        ),
        key(
            "server_name",
            Kind::Text,
            Means("the endpoint's host"),
            "the name that the certificate must have",
        ),
        key(
            "certificate",
            Kind::Text,
            Means("none"),
            "the file with a certificate of our own (PEM)",
        ),
        key(
            "key",
            Kind::Text,
            Means("none"),
            "the file with its private key (PEM)",
        ),
    ],
};

static POOL: Section = Section {
    name: "pool",
    doc: "Connections, per worker and endpoint.",
    keys: &[
        key(
            "idle",
            Kind::Count(0, 100_000),
            Is("64"),
            "idle connections that are kept",
        ),
        key(
            "idle_timeout",
            Kind::Duration,
            Is("30s"),
            "how long one may lie idle",
        ),
        key(
            "max_lifetime",
            Kind::Duration,
            Is("10m"),
            "how old one may become",
        ),
    ],
};
