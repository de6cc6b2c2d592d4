//! The keys of `health`.

use super::gateway::SECRET;
use super::key;
use crate::shape::Default::{Is, Means};
use crate::shape::{Kind, Section};

pub(crate) static HEALTH: Section = Section {
    name: "health",
    doc: "What the gateway says of itself on its admin listener.",
    keys: &[
        key(
            "checks",
            Kind::Names(&Kind::Part(&CHECK)),
            Means("none"),
            "dependencies that are probed in the background",
        ),
        key(
            "upstreams",
            Kind::Truth,
            Is("true"),
            "whether each upstream with breakers is shown as an informative check, by its name",
        ),
        key(
            "stuck_after",
            Kind::Duration,
            Is("10s"),
            "a worker that has run nothing for so long is stuck, and the gateway not alive",
        ),
    ],
};

pub(crate) static CHECK: Section = Section {
    name: "a check",
    doc: "One dependency, and how it is probed: exactly one of `tcp`, `http`, `grpc`, `redis`, `postgres`, `disk`.",
    keys: &[
        key(
            "tcp",
            Kind::Text,
            Means("not by TCP"),
            "`HOST:PORT` takes a connection",
        ),
        key(
            "http",
            Kind::Text,
            Means("not by HTTP"),
            "a GET of `http://HOST:PORT/PATH` is answered with 2xx",
        ),
        key(
            "grpc",
            Kind::Text,
            Means("not by gRPC"),
            "the health service at `http://HOST:PORT` says that it is serving",
        ),
        key(
            "service",
            Kind::Text,
            Means("the server as a whole"),
            "which service `grpc` asks for",
        ),
        key(
            "redis",
            Kind::AnyOf(&[Kind::Text, Kind::Part(&SECRET)]),
            Means("not by Redis"),
            "`redis://HOST:PORT` answers PING; with a password, where its URL is kept",
        ),
        key(
            "postgres",
            Kind::AnyOf(&[Kind::Text, Kind::Part(&SECRET)]),
            Means("not by PostgreSQL"),
            "`host=HOST user=NAME` answers `SELECT 1`; with a password, where its settings are kept",
        ),
        key(
            "disk",
            Kind::Text,
            Means("not the disk"),
            "the file system of this path has room",
        ),
        key(
            "free",
            Kind::Share,
            Is("10%"),
            "how much of it has to be free for `disk`",
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
            "a probe without an answer by then has failed",
        ),
        key(
            "up_after",
            Kind::Count(1, 1000),
            Is("1"),
            "successes in a row that make it up",
        ),
        key(
            "down_after",
            Kind::Count(1, 1000),
            Is("3"),
            "failures in a row that make it down",
        ),
        key(
            "jitter",
            Kind::Share,
            Is("20%"),
            "by how much intervals are longer, at random",
        ),
        key(
            "critical",
            Kind::Truth,
            Is("true"),
            "whether the gateway is not ready without it",
        ),
        key(
            "on_demand",
            Kind::Truth,
            Is("false"),
            "`true`: probed only when somebody asks for `/health/deep`",
        ),
        key(
            "groups",
            Kind::AnyOf(&[Kind::Text, Kind::List(&Kind::Text)]),
            Means("none"),
            "groups of dependencies with a readiness of their own, at `/health/ready/GROUP`",
        ),
    ],
};
