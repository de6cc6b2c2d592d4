//! Every key of a policy file.

mod canary;
mod degrade;
mod discover;
mod endpoint;
mod gateway;
mod health;
mod queue;
mod redundancy;
mod saga;
mod scenario;
mod shed;
mod store;
mod upstream;

pub(crate) use self::canary::CANARY;
pub(crate) use self::degrade::{DEGRADE, FEATURE, MODE};
pub(crate) use self::discover::{DISCOVER, MEMBER, MEMBERS};
pub(crate) use self::endpoint::{ENDPOINT, EXCLUSIVE};
pub(crate) use self::gateway::{GATEWAY, SECRET};
pub(crate) use self::health::{CHECK, HEALTH};
pub(crate) use self::queue::{PACE, QUEUE, QUEUE_RETRY};
pub(crate) use self::redundancy::{ACTIVE_CHECK, BALANCE, EJECT};
pub(crate) use self::saga::{
    BUDGET as SAGA_BUDGET, QUERY, QUERY_RETRY, RETRY as SAGA_RETRY, SAGA, SAGAS, STEP, UNDO,
    UNDO_RETRY,
};
pub(crate) use self::scenario::{
    BEGINNING, CHANGE, CLIENT, LAW, LIVENESS, RUNNER, SCENARIO, SERVICE, WARMS,
};
pub(crate) use self::shed::{SHED, THROTTLE};
pub(crate) use self::store::STORE;
pub(crate) use self::upstream::{BACKOFF, BREAKER, UPSTREAM};
use crate::shape::Default::{Is, Means, Required};
use crate::shape::{Default, Key, Kind, Section};

const fn key(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        doc,
    }
}

pub(crate) static FILE: Section = Section {
    name: "the file",
    doc: "How calls go from clients to the services they depend on, and what protects them.",
    keys: &[
        key(
            "gateway",
            Kind::Part(&GATEWAY),
            Means("its defaults"),
            "how the gateway listens, and what it allows",
        ),
        key(
            "routes",
            Kind::Names(&Kind::Part(&ROUTE)),
            Means("none"),
            "which requests go where; the first that matches is taken",
        ),
        key(
            "upstreams",
            Kind::Names(&Kind::Part(&UPSTREAM)),
            Means("none"),
            "the services that are depended on, and their policies",
        ),
        key(
            "health",
            Kind::Part(&HEALTH),
            Means("its defaults"),
            "what the gateway says of itself",
        ),
        key(
            "degrade",
            Kind::Part(&DEGRADE),
            Means("everything is always on"),
            "which features are given up under stress, and what is answered instead",
        ),
        key(
            "store",
            Kind::Part(&STORE),
            Means("`sqlite: outlast.db`"),
            "where sagas are kept",
        ),
        key(
            "sagas",
            Kind::Part(&SAGAS),
            Means("none"),
            "business actions over several upstreams, done or undone; started at the admin listener",
        ),
        key(
            "queues",
            Kind::Names(&Kind::Part(&QUEUE)),
            Means("none"),
            "where requests wait on the disk that an upstream did not do",
        ),
    ],
};

pub(crate) static ROUTE: Section = Section {
    name: "a route",
    doc: "Which requests go where, and what is promised to them.",
    keys: &[
        key(
            "match",
            Kind::AnyOf(&[Kind::Pattern, Kind::Part(&MATCH)]),
            Required,
            "which requests take it: `METHOD,METHOD host/path`, or a mapping",
        ),
        key(
            "upstream",
            Kind::Text,
            Required,
            "the name of the upstream that answers",
        ),
        key(
            "rewrite",
            Kind::Text,
            Means("the path stays"),
            "what replaces the fixed start of the path",
        ),
        key(
            "deadline",
            Kind::AnyOf(&[Kind::Duration, Kind::Choice(&["none"])]),
            Means("that of the gateway"),
            "when its requests end at the latest",
        ),
        key(
            "tier",
            Kind::Choice(&["critical", "important", "optional"]),
            Is("important"),
            "how critical it is; sent on as X-Tier",
        ),
        key(
            "retry",
            Kind::Choice(&["safe", "always", "never"]),
            Is("safe"),
            "which requests may be made twice: idempotent ones and those with a key, all, or none",
        ),
        key(
            "idempotency_key",
            Kind::Choice(&["take", "make"]),
            Is("take"),
            "`make`: requests that come without one get one",
        ),
        key(
            "upgrade",
            Kind::Truth,
            Is("false"),
            "whether protocol upgrades (WebSocket) pass",
        ),
        key(
            "shield",
            Kind::Truth,
            Is("false"),
            "whether a request goes on, until its deadline, although its client has gone",
        ),
        key(
            "canary",
            Kind::Part(&CANARY),
            Means("none"),
            "a new version that takes its traffic over in steps",
        ),
    ],
};

static MATCH: Section = Section {
    name: "match",
    doc: "Which requests; all that is given must hold.",
    keys: &[
        key(
            "method",
            Kind::AnyOf(&[Kind::Text, Kind::List(&Kind::Text)]),
            Means("any"),
            "the method, or several",
        ),
        key(
            "host",
            Kind::Text,
            Means("any"),
            "the host, or `*.` and what it lies below",
        ),
        key(
            "path",
            Kind::Text,
            Is("/**"),
            "the path: segments, `*` for any one, `/**` at the end for anything",
        ),
        key(
            "headers",
            Kind::Names(&Kind::Text),
            Means("any"),
            "header fields and their exact values; `*` for any",
        ),
    ],
};
