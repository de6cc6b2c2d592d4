//! The keys of `gateway`.

use super::key;
use crate::shape::Default::{Is, Means, Required};
use crate::shape::{Kind, Section};

pub(crate) static GATEWAY: Section = Section {
    name: "gateway",
    doc: "How the gateway listens, and what it allows.",
    keys: &[
        key(
            "listen",
            Kind::AnyOf(&[
                Kind::Address,
                Kind::Part(&LISTENER),
                Kind::List(&Kind::AnyOf(&[Kind::Address, Kind::Part(&LISTENER)])),
            ]),
            Is("127.0.0.1:8080"),
            "where clients connect",
        ),
        key(
            "admin",
            Kind::AnyOf(&[Kind::Address, Kind::Choice(&["off"]), Kind::Part(&ADMIN)]),
            Is("127.0.0.1:9900"),
            "where operators connect: health, metrics, status",
        ),
        key(
            "deadline",
            Kind::AnyOf(&[Kind::Duration, Kind::Choice(&["none"])]),
            Is("30s"),
            "when requests end at the latest, unless their route says otherwise",
        ),
        key(
            "workers",
            Kind::Count(1, 1024),
            Means("one per processor"),
            "threads that serve",
        ),
        key(
            "limits",
            Kind::Part(&LIMITS),
            Means("its defaults"),
            "bounds on what clients may send and hold",
        ),
        key(
            "drain",
            Kind::Duration,
            Is("30s"),
            "how long requests in flight may go on when the gateway stops",
        ),
        key(
            "trusted_proxies",
            Kind::List(&Kind::Network),
            Means("none"),
            "whose X-Forwarded-* are believed; what others send is replaced",
        ),
        key(
            "access_log",
            Kind::Share,
            Is("0%"),
            "the share of requests that is logged; failed ones always are",
        ),
    ],
};

static LISTENER: Section = Section {
    name: "a listener",
    doc: "One listening address.",
    keys: &[
        key("address", Kind::Address, Required, "where it listens"),
        key(
            "tls",
            Kind::Part(&SERVER_TLS),
            Means("clear text"),
            "its certificate",
        ),
    ],
};

static SERVER_TLS: Section = Section {
    name: "tls of a listener",
    doc: "What the listener shows, and asks for. The files are read anew on reload.",
    keys: &[
        key(
            "certificate",
            Kind::Text,
            Required,
            "the file with the certificate chain (PEM)",
        ),
        key(
            "key",
            Kind::Text,
            Required,
            "the file with its private key (PEM)",
        ),
        key(
            "client_roots",
            Kind::Text,
            Means("clients need no certificate"),
            "the file with the roots of client certificates (PEM)",
        ),
        key(
            "client_certificate",
            Kind::Choice(&["required", "optional"]),
            Means("required, if there are roots"),
            "whether a client without one is turned away",
        ),
    ],
};

static ADMIN: Section = Section {
    name: "admin",
    doc: "The operators' listener.",
    keys: &[
        key("address", Kind::Address, Required, "where it listens"),
        key(
            "token",
            Kind::Part(&SECRET),
            Means("none; only a loopback address may go without"),
            "what an operator has to show to change something",
        ),
    ],
};

pub(crate) static SECRET: Section = Section {
    name: "token",
    doc: "Where a secret is kept: one of both.",
    keys: &[
        key(
            "file",
            Kind::Text,
            Means("not in a file"),
            "a file whose first line it is",
        ),
        key(
            "env",
            Kind::Text,
            Means("not in the environment"),
            "an environment variable",
        ),
    ],
};

static LIMITS: Section = Section {
    name: "limits",
    doc: "Bounds on what clients may send and hold.",
    keys: &[
        key(
            "connections",
            Kind::Count(1, 10_000_000),
            Is("20000"),
            "connections at once",
        ),
        key(
            "streams",
            Kind::Count(1, 10_000),
            Is("100"),
            "streams at once per HTTP/2 connection",
        ),
        key(
            "headers",
            Kind::Count(1, 1000),
            Is("100"),
            "header fields of a request",
        ),
        key(
            "header_bytes",
            Kind::Size,
            Is("64KiB"),
            "bytes of a request's head, 1KiB to 1MiB",
        ),
        key(
            "uri_bytes",
            Kind::Size,
            Is("8KiB"),
            "bytes of a request target",
        ),
        key(
            "body_bytes",
            Kind::AnyOf(&[Kind::Size, Kind::Choice(&["none"])]),
            Is("none"),
            "bytes of a request's body",
        ),
        key(
            "header_timeout",
            Kind::Duration,
            Is("10s"),
            "for a request's head, and for a TLS handshake",
        ),
        key(
            "body_timeout",
            Kind::Duration,
            Is("30s"),
            "for a pause within a body that a client sends or reads",
        ),
        key(
            "idle_timeout",
            Kind::Duration,
            Is("75s"),
            "for a connection without requests",
        ),
        key(
            "upgrade_idle_timeout",
            Kind::Duration,
            Is("5m"),
            "for an upgraded connection on which nothing moves",
        ),
        key(
            "underscores",
            Kind::Choice(&["drop", "reject", "keep"]),
            Is("drop"),
            "what to do with header names that have an underscore",
        ),
    ],
};
