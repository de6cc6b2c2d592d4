//! The keys of an endpoint that is more than its URL, and of an upstream whose endpoints are
//! different providers.

use super::discover::{PRIORITY, WEIGHT, ZONE};
use super::gateway::SECRET;
use super::key;
use super::upstream::OUTCOME;
use crate::shape::Default::{Is, Means, Required};
use crate::shape::{Kind, Section};

pub(crate) static ENDPOINT: Section = Section {
    name: "an endpoint",
    doc: "One address of an upstream, and how it is spoken to if that differs from the others.",
    keys: &[
        key("url", Kind::Url, Required, "where it is"),
        WEIGHT,
        PRIORITY,
        ZONE,
        key(
            "rewrite",
            Kind::AnyOf(&[Kind::Text, Kind::Part(&REWRITE)]),
            Means("the path stays"),
            "what replaces the path, or the start of it, after the route's `rewrite`",
        ),
        key(
            "headers",
            Kind::Part(&HEADERS),
            Means("those of the request"),
            "which header fields its requests have",
        ),
        key(
            "outcomes",
            Kind::Statuses(&OUTCOME),
            Means("those of the upstream"),
            "what its statuses mean; they go before the upstream's `outcomes`",
        ),
        key(
            "statuses",
            Kind::Statuses(&Kind::Count(200, 599)),
            Means("they stay"),
            "which status a client sees instead of this endpoint's",
        ),
    ],
};

static REWRITE: Section = Section {
    name: "rewrite",
    doc: "Replaces the start of a path by whole segments; other paths stay.",
    keys: &[
        key("from", Kind::Text, Required, "the start that is replaced"),
        key("to", Kind::Text, Required, "what replaces it"),
    ],
};

static HEADERS: Section = Section {
    name: "headers",
    doc: "How the header fields of a request change on the way to this endpoint.",
    keys: &[
        key(
            "set",
            Kind::Names(&Kind::AnyOf(&[Kind::Text, Kind::Part(&SECRET)])),
            Means("none"),
            "fields and their values; a secret is kept elsewhere: `{ env: NAME }` or `{ file: PATH }`",
        ),
        key(
            "remove",
            Kind::List(&Kind::Text),
            Means("none"),
            "fields that it does not get",
        ),
    ],
};

pub(crate) static EXCLUSIVE: Section = Section {
    name: "exclusive",
    doc: "The endpoints are different providers: what one of them may have done, no other does.",
    keys: &[
        key(
            "journal",
            Kind::Text,
            Means("memory only, forgotten at the end of the process"),
            "a file that says which provider was asked under which key",
        ),
        key(
            "keep",
            Kind::Duration,
            Is("24h"),
            "how long it is known which provider a key belongs to, from its last attempt on",
        ),
        key(
            "keys",
            Kind::Count(1, 1_000_000),
            Is("100000"),
            "how many keys may be known; when all are in use, requests with a new one are refused",
        ),
    ],
};
