//! The keys of a route's canary.

use super::key;
use crate::shape::Default::{Is, Means, Required};
use crate::shape::{Kind, Section};

pub(crate) static CANARY: Section = Section {
    name: "canary",
    doc: "A new version that takes the route's traffic over in steps, and gives it back if it is worse than the old one, which is the route's upstream.",
    keys: &[
        key(
            "upstream",
            Kind::Text,
            Required,
            "the name of the upstream that is the new version",
        ),
        key(
            "kind",
            Kind::Choice(&["steps", "blue_green"]),
            Is("steps"),
            "`blue_green`: from nothing to everything at once",
        ),
        key(
            "steps",
            Kind::List(&Kind::Share),
            Means("1%, 5%, 10%, 25%, 50%, 100%; 0%, 100% for blue_green"),
            "the shares of the traffic, rising, the last of them 100%",
        ),
        key(
            "sticky",
            Kind::AnyOf(&[Kind::Choice(&["client", "off"]), Kind::Part(&STICKY)]),
            Is("client"),
            "what stays with one version: a client's address, the value of a header, or nothing",
        ),
        key(
            "min_time",
            Kind::Duration,
            Is("60s"),
            "a step takes at least this long",
        ),
        key(
            "min_calls",
            Kind::Count(1, 1_000_000_000),
            Is("100"),
            "calls of the new version that a step takes, beside what the analysis needs",
        ),
        key(
            "limit",
            Kind::Duration,
            Is("1h"),
            "a step without a clear answer pauses after this time",
        ),
        key(
            "watch",
            Kind::Duration,
            Means("5m; 10m for blue_green"),
            "with all traffic at the new version, how long the way back stays open",
        ),
        key(
            "worsening",
            Kind::Part(&WORSENING),
            Means("its defaults"),
            "the error ratio that is too much",
        ),
        key(
            "slower",
            Kind::AnyOf(&[Kind::Factor, Kind::Choice(&["off"])]),
            Is("1.25"),
            "how many times as long answers may take, up to 100; `off` does not look",
        ),
        key(
            "alpha",
            Kind::Share,
            Is("5%"),
            "how often a version that is no worse may be rolled back, over its whole life",
        ),
        key(
            "beta",
            Kind::Share,
            Is("5%"),
            "how often one that fails too much may pass a step",
        ),
        key(
            "promote",
            Kind::Choice(&["auto", "manual"]),
            Means("auto; manual for blue_green"),
            "`manual`: each step waits for a hand",
        ),
        key(
            "roll_back",
            Kind::Choice(&["auto", "manual"]),
            Is("auto"),
            "`manual`: a bad version is paused where it is, and waits for a hand",
        ),
        key(
            "permanent_fails",
            Kind::Truth,
            Is("false"),
            "whether a definite no (see `outcomes`) counts as an error",
        ),
    ],
};

static STICKY: Section = Section {
    name: "sticky",
    doc: "What a canary tells users apart by.",
    keys: &[key(
        "header",
        Kind::Text,
        Required,
        "a header; requests without it go by the client's address",
    )],
};

static WORSENING: Section = Section {
    name: "worsening",
    doc: "The error ratio that is too much: so many times the old version's, but at least so much more.",
    keys: &[
        key(
            "factor",
            Kind::Factor,
            Is("2"),
            "so many times the old version's",
        ),
        key("absolute", Kind::Share, Is("0.5%"), "at least so much more"),
    ],
};
