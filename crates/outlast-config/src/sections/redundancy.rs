//! The keys of `balance`, `check` and `eject` of an upstream.

use super::key;
use crate::shape::Default::{Is, Means};
use crate::shape::{Kind, Section};

pub(crate) static BALANCE: Section = Section {
    name: "balance",
    doc: "Which of several endpoints gets an attempt. Not with `failover`, whose order is fixed.",
    keys: &[
        key(
            "kind",
            Kind::Choice(&[
                "peak_ewma",
                "least_requests",
                "round_robin",
                "weighted",
                "hash",
            ]),
            Is("peak_ewma"),
            "the quicker and idler of two, the idler of two, in turn, at random by weight, or by `by`",
        ),
        key(
            "by",
            Kind::AnyOf(&[Kind::Choice(&["client"]), Kind::Part(&BY)]),
            Is("client"),
            "what `hash` keeps at one endpoint: a client, or a value of a header",
        ),
        key(
            "bound",
            Kind::Factor,
            Is("1.25"),
            "with `hash`: no endpoint gets more than this multiple of its share",
        ),
        key(
            "decay",
            Kind::Duration,
            Is("10s"),
            "with `peak_ewma`: how long a slow answer is remembered",
        ),
        key(
            "choices",
            Kind::Count(2, 32),
            Is("2"),
            "with `peak_ewma` and `least_requests`: how many are compared",
        ),
        key(
            "zones",
            Kind::List(&Kind::Text),
            Means("all zones are alike"),
            "zones in the order of preference, the own one first",
        ),
        key(
            "spill_above",
            Kind::Count(1, 1_000_000),
            Means("no load is too much"),
            "attempts in flight above which the next zone or priority is asked",
        ),
        key(
            "panic",
            Kind::Share,
            Is("50%"),
            "with fewer usable endpoints than that, all are used",
        ),
        key(
            "slow_start",
            Kind::Duration,
            Means("newcomers get their full share at once"),
            "over which a newcomer's share grows",
        ),
        key(
            "fail_back_after",
            Kind::Duration,
            Is("10s"),
            "how long a preferred group has to be well before it gets traffic again",
        ),
        key(
            "fail_back_over",
            Kind::Duration,
            Is("30s"),
            "over which its share grows",
        ),
    ],
};

static BY: Section = Section {
    name: "by",
    doc: "What keeps a request at an endpoint.",
    keys: &[key(
        "header",
        Kind::Text,
        Means("the client's address"),
        "the header whose value counts; requests without it go anywhere",
    )],
};

pub(crate) static ACTIVE_CHECK: Section = Section {
    name: "check",
    doc: "Each endpoint is asked from time to time whether it is well: by one of `http`, `grpc`, or a connection.",
    keys: &[
        key(
            "http",
            Kind::Text,
            Means("not by HTTP"),
            "a GET of this path is answered with 2xx",
        ),
        key(
            "grpc",
            Kind::Text,
            Means("not by gRPC"),
            "the health service says that this service is serving; `\"\"` for the server as a whole",
        ),
        key(
            "interval",
            Kind::Duration,
            Is("5s"),
            "from one probe to the next",
        ),
        key(
            "timeout",
            Kind::Duration,
            Is("1s"),
            "a probe that takes longer has failed",
        ),
        key(
            "jitter",
            Kind::Share,
            Is("20%"),
            "by how much intervals are longer or shorter, at random",
        ),
        key(
            "healthy_after",
            Kind::Count(1, 1000),
            Is("2"),
            "successes in a row that bring an endpoint back",
        ),
        key(
            "unhealthy_after",
            Kind::Count(1, 1000),
            Is("3"),
            "failures in a row that take it out",
        ),
        key(
            "initial",
            Kind::Choice(&["up", "down"]),
            Is("up"),
            "what a newcomer counts as before its first probe",
        ),
    ],
};

pub(crate) static EJECT: Section = Section {
    name: "eject",
    doc: "An endpoint whose attempts go worse than those of the others gets none for a while.",
    keys: &[
        key(
            "consecutive",
            Kind::AnyOf(&[Kind::Count(1, 1_000_000), Kind::Choice(&["off"])]),
            Is("5"),
            "failures in a row",
        ),
        key(
            "success_rate",
            Kind::AnyOf(&[Kind::Factor, Kind::Choice(&["off"])]),
            Is("1.9"),
            "standard deviations below the mean success rate of all, up to 10",
        ),
        key(
            "margin",
            Kind::Share,
            Is("5%"),
            "and at least so far below it",
        ),
        key(
            "latency",
            Kind::AnyOf(&[Kind::Factor, Kind::Choice(&["off"])]),
            Is("off"),
            "times the median latency of all",
        ),
        key(
            "min_endpoints",
            Kind::Count(3, 1024),
            Is("5"),
            "endpoints to compare, for `success_rate` and `latency`",
        ),
        key(
            "min_attempts",
            Kind::Count(1, 1_000_000),
            Is("100"),
            "attempts of an endpoint to compare it by",
        ),
        key(
            "interval",
            Kind::Duration,
            Is("10s"),
            "how often endpoints are compared",
        ),
        key(
            "base",
            Kind::Duration,
            Is("30s"),
            "for how long, times how often it was before",
        ),
        key("max", Kind::Duration, Is("5m"), "for how long at the most"),
        key(
            "max_share",
            Kind::Share,
            Is("50%"),
            "the largest share of the endpoints that may be out",
        ),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: it counts whom it would eject, and ejects nobody",
        ),
    ],
};
