//! The keys of endpoints that are found while the gateway runs, and of those that are told to it.

use super::key;
use crate::shape::Default::{Is, Means, Required};
use crate::shape::{Key, Kind, Section};

pub(crate) static DISCOVER: Section = Section {
    name: "discover",
    doc: "Where the endpoints come from while the gateway runs.",
    keys: &[
        key(
            "from",
            Kind::Choice(&["dns", "srv", "file", "admin"]),
            Required,
            "the addresses of the endpoints' names, their SRV records, a watched file, or `PUT /upstreams/NAME/endpoints`",
        ),
        key(
            "path",
            Kind::Text,
            Means("none"),
            "`file`: the JSON file that has them",
        ),
        key(
            "every",
            Kind::Duration,
            Is("5s"),
            "`dns` and `srv`: how often names are looked up, spread by a tenth both ways",
        ),
        key(
            "server",
            Kind::Address,
            Means("those of the system"),
            "`dns` and `srv`: the name server",
        ),
    ],
};

/// What the file and the admin listener may say of an endpoint. It has no secrets and no paths: who
/// may name endpoints may not read files.
pub(crate) static MEMBER: Section = Section {
    name: "an endpoint",
    doc: "One address of an upstream.",
    keys: &[
        key("url", Kind::Url, Required, "where it is"),
        WEIGHT,
        PRIORITY,
        ZONE,
    ],
};

pub(super) const WEIGHT: Key = key(
    "weight",
    Kind::Count(1, 1000),
    Is("1"),
    "how much it carries in comparison with the others",
);

pub(super) const PRIORITY: Key = key(
    "priority",
    Kind::Count(0, 255),
    Is("0"),
    "those of larger numbers are used when the smaller ones are not enough",
);

pub(super) const ZONE: Key = key(
    "zone",
    Kind::Text,
    Means("nowhere in particular"),
    "where it is; by zones traffic is preferred and evacuated",
);

/// All endpoints of an upstream at once.
pub(crate) static MEMBERS: Kind = Kind::AnyOf(&[
    Kind::List(&Kind::Url),
    Kind::Names(&Kind::AnyOf(&[Kind::Url, Kind::Part(&MEMBER)])),
]);
