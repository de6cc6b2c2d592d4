//! The keys of an endpoint that is more than its URL.

use super::key;
use crate::shape::Default::{Is, Means, Required};
use crate::shape::{Kind, Section};

pub(crate) static ENDPOINT: Section = Section {
    name: "an endpoint",
    doc: "One address of an upstream.",
    keys: &[
        key("url", Kind::Url, Required, "where it is"),
        key(
            "weight",
            Kind::Count(1, 1000),
            Is("1"),
            "how much it carries in comparison with the others",
        ),
        key(
            "priority",
            Kind::Count(0, 255),
            Is("0"),
            "those of larger numbers are used when the smaller ones are not enough",
        ),
        key(
            "zone",
            Kind::Text,
            Means("nowhere in particular"),
            "where it is; by zones traffic is preferred and evacuated",
        ),
    ],
};
