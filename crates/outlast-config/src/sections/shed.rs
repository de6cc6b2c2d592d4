//! The keys of `shed` and `throttle` of an upstream.

use super::key;
use crate::shape::Default::{Is, Means};
use crate::shape::{Kind, Section};

pub(crate) static SHED: Section = Section {
    name: "shed",
    doc: "Calls at once, by a limit that is measured; under load the lowest tier is refused first.",
    keys: &[
        key(
            "limit",
            Kind::AnyOf(&[
                Kind::Choice(&["capacity", "vegas", "aimd", "gradient2"]),
                Kind::Count(1, 1_048_575),
            ]),
            Is("capacity"),
            "how the limit is found, or the limit itself",
        ),
        key(
            "initial",
            Kind::Count(1, 1_048_575),
            Means("10 for `capacity`, 20 for the others"),
            "the limit to begin with",
        ),
        key(
            "min",
            Kind::Count(1, 1_048_575),
            Means("1 for `capacity` and `vegas`, 20 for the others"),
            "the least that the limit may become",
        ),
        key(
            "max",
            Kind::Count(1, 1_048_575),
            Means("10000 for `capacity`, 1000 for `vegas`, 200 for the others"),
            "the most that the limit may become",
        ),
        key(
            "important",
            Kind::Share,
            Is("100%"),
            "the share of the limit below which important calls begin",
        ),
        key(
            "optional",
            Kind::Share,
            Is("100%"),
            "the share of the limit below which optional calls begin",
        ),
        key(
            "reserve",
            Kind::Share,
            Is("2%"),
            "the share of what becomes free that each lower tier gets although higher ones wait",
        ),
        key(
            "queue",
            Kind::Count(0, 1_048_575),
            Is("100"),
            "calls that may wait",
        ),
        key(
            "target",
            Kind::Duration,
            Is("5ms"),
            "how long a call may wait in a queue that does not empty",
        ),
        key(
            "interval",
            Kind::Duration,
            Is("100ms"),
            "a queue that has not been empty for so long is one; the latest comes first then",
        ),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: it counts what it would refuse, and refuses nothing",
        ),
    ],
};

pub(crate) static THROTTLE: Section = Section {
    name: "throttle",
    doc: "Calls that the dependency would probably refuse are not sent.",
    keys: &[
        key(
            "k",
            Kind::Factor,
            Is("2"),
            "how many times the accepted may be sent, up to 100",
        ),
        key(
            "window",
            Kind::Duration,
            Is("2m"),
            "how long calls are remembered",
        ),
        key(
            "most",
            Kind::Share,
            Is("90%"),
            "the largest share of calls that is held back",
        ),
        key(
            "min_calls",
            Kind::Count(1, 1_000_000),
            Is("10"),
            "calls before any is held back",
        ),
        key(
            "enforce",
            Kind::Truth,
            Is("true"),
            "`false`: it counts what it would hold back, and sends everything",
        ),
    ],
};
