//! The keys of `degrade`.

use super::key;
use crate::shape::Default::{Is, Means, Required};
use crate::shape::{Key, Kind, Section};

pub(crate) static DEGRADE: Section = Section {
    name: "degrade",
    doc: "What is served less, in which order, and at which signs.",
    keys: &[
        key(
            "modes",
            Kind::Names(&Kind::Part(&MODE)),
            Means("none"),
            "modes from the mildest to the most severe: each disables at least what those before it do",
        ),
        key(
            "features",
            Kind::Names(&Kind::Part(&FEATURE)),
            Means("none"),
            "what modes can switch off, by its tier or by its name",
        ),
        key(
            "window",
            Kind::Duration,
            Is("10s"),
            "how far latencies and errors look back, 100ms to 1h",
        ),
        key(
            "min_calls",
            Kind::Count(1, 1_000_000),
            Is("20"),
            "of fewer calls in the window nothing is said; p99 needs 100, p99.9 needs 1000",
        ),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: modes are switched and told, and only those forced by hand disable anything",
        ),
    ],
};

pub(crate) static MODE: Section = Section {
    name: "a mode",
    doc: "A named way to serve less.",
    keys: &[
        key(
            "when",
            Kind::Part(&WHEN),
            Means("only by hand"),
            "what begins it: any one of these, for a time",
        ),
        key(
            "off",
            Kind::Part(&OFF),
            Means("the opposite of `when`, a fifth beyond its thresholds"),
            "what ends it: all of these, for a time, and nothing of `when`",
        ),
        key(
            "disable",
            Kind::List(&DISABLED),
            Means("none"),
            "tiers: their features are off, and so are routes of the tier that belong to no feature",
        ),
        key(
            "switch_off",
            Kind::List(&Kind::Text),
            Means("none"),
            "single features, whatever their tier",
        ),
        key(
            "serve_stale",
            Kind::Truth,
            Is("false"),
            "whether stale copies stand in for failed calls where `fallback.enforce` is `false`, too",
        ),
    ],
};

static DISABLED: Kind = Kind::Choice(&["optional", "important"]);

static WHEN: Section = Section {
    name: "when",
    doc: "What begins a mode. Any one of these is enough.",
    keys: &[
        P50,
        P90,
        P95,
        P99,
        P999,
        ERRORS,
        LOAD,
        key(
            "breaker",
            Kind::Part(&OPEN),
            Means("not looked at"),
            "a breaker that is open",
        ),
        key(
            "budget",
            Kind::Choice(&["exhausted"]),
            Means("not looked at"),
            "the budget for extra attempts of any upstream is used up",
        ),
        key(
            "for",
            Kind::Duration,
            Is("10s"),
            "how long one of them must hold; at most 24h, and 0s is at the first sign",
        ),
    ],
};

static OFF: Section = Section {
    name: "off",
    doc: "What ends a mode. All of these must hold; what cannot be told counts as calm.",
    keys: &[
        P50,
        P90,
        P95,
        P99,
        P999,
        ERRORS,
        LOAD,
        key(
            "breaker",
            Kind::Part(&CLOSED),
            Means("not looked at"),
            "breakers that are not open",
        ),
        key(
            "budget",
            Kind::Choice(&["available"]),
            Means("not looked at"),
            "the budgets for extra attempts have some left",
        ),
        key(
            "for",
            Kind::Duration,
            Means("three times that of `when`, and at least 10s"),
            "how long it must be calm, 1s to 24h; twice as long after each relapse, up to 16 times",
        ),
    ],
};

const P50: Key = quantile("p50", "the median of the latencies");
const P90: Key = quantile("p90", "the latency that nine of ten calls keep to");
const P95: Key = quantile("p95", "the latency that 19 of 20 calls keep to");
const P99: Key = quantile("p99", "the latency that 99 of 100 calls keep to");
const P999: Key = quantile("p99.9", "the latency that 999 of 1000 calls keep to");
const ERRORS: Key = share("errors", "the share of calls that failed");
const LOAD: Key = share(
    "load",
    "what is in flight as a share of what may be, in the fullest upstream with a shedder or a bulkhead",
);

const fn quantile(name: &'static str, doc: &'static str) -> Key {
    key(
        name,
        Kind::Limit(&Kind::Duration),
        Means("not looked at"),
        doc,
    )
}

const fn share(name: &'static str, doc: &'static str) -> Key {
    key(name, Kind::Limit(&Kind::Share), Means("not looked at"), doc)
}

static OPEN: Section = Section {
    name: "breaker of when",
    doc: "A breaker that is open.",
    keys: &[key(
        "open",
        Kind::AnyOf(&[Kind::Text, Kind::List(&Kind::Text)]),
        Required,
        "the name of an upstream, or several, or `any`",
    )],
};

static CLOSED: Section = Section {
    name: "breaker of off",
    doc: "Breakers that are not open.",
    keys: &[key(
        "closed",
        Kind::AnyOf(&[Kind::Text, Kind::List(&Kind::Text)]),
        Required,
        "the name of an upstream, or several, or `all`",
    )],
};

pub(crate) static FEATURE: Section = Section {
    name: "a feature",
    doc: "Something that users can do without for a while. Its routes are those to `upstream` that no other feature names, and those in `routes`.",
    keys: &[
        key(
            "tier",
            Kind::Choice(&["critical", "important", "optional"]),
            Is("important"),
            "how critical it is; routes of it that do not say otherwise have the same",
        ),
        key(
            "upstream",
            Kind::Text,
            Means("none"),
            "the upstream that serves nothing else",
        ),
        key(
            "routes",
            Kind::List(&Kind::Text),
            Means("none"),
            "single routes",
        ),
        key(
            "instead",
            Kind::Part(&INSTEAD),
            Means("a stale copy, or 503"),
            "what is answered while it is off",
        ),
    ],
};

static INSTEAD: Section = Section {
    name: "instead",
    doc: "A fixed answer in place of a feature.",
    keys: &[
        key("status", Kind::Count(200, 599), Is("200"), "its status"),
        key(
            "headers",
            Kind::Names(&Kind::Text),
            Means("the content type that the file's name suggests"),
            "its header fields",
        ),
        key("body", Kind::Text, Means("empty"), "its body"),
        key(
            "body_file",
            Kind::Text,
            Means("none"),
            "a file of text with its body, at most 1MiB, read with the policy file",
        ),
    ],
};
