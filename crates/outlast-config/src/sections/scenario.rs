//! The keys of a scenario: a world to try policies in.

use super::key;
use crate::shape::Default::{Is, Means, Required};
use crate::shape::{Kind, Section};

pub(crate) static SCENARIO: Section = Section {
    name: "the scenario",
    doc: "A world to try a policy file in: services, who calls them, what happens, and what is promised.",
    keys: &[
        key(
            "policy",
            Kind::Text,
            Means("given on the command line"),
            "the policy file, relative to this one",
        ),
        key(
            "for",
            Kind::Duration,
            Required,
            "how long the world runs, in its own time",
        ),
        key(
            "warm_up",
            Kind::AnyOf(&[Kind::Duration, Kind::Choice(&["auto"])]),
            Is("0s"),
            "what begins before this is not counted; `auto` finds out when queues have settled (MSER-5)",
        ),
        key(
            "runs",
            Kind::AnyOf(&[Kind::Count(1, 10_000), Kind::Choice(&["auto"])]),
            Is("20"),
            "how many worlds, which differ by chance alone; `auto`: until means are known to 2%, at most 64",
        ),
        key(
            "seed",
            Kind::Count(0, u64::MAX),
            Is("1"),
            "what chance is drawn from: equal seeds, equal worlds",
        ),
        key(
            "most_events",
            Kind::Count(1, 100_000_000_000),
            Is("1000000000"),
            "a run in which more happens is given up",
        ),
        key(
            "most_present",
            Kind::Count(1, 100_000_000),
            Is("1000000"),
            "a run with more calls and requests at once is given up",
        ),
        key(
            "network",
            Kind::Duration,
            Is("0s"),
            "one way between any two, unless `zones` says otherwise",
        ),
        key(
            "zones",
            Kind::Names(&Kind::Names(&Kind::Duration)),
            Means("none"),
            "one way from a zone to others, and back",
        ),
        key(
            "services",
            Kind::Names(&Kind::Part(&SERVICE)),
            Required,
            "what is called: by the name of an upstream, or of an endpoint",
        ),
        key(
            "clients",
            Kind::Names(&Kind::Part(&CLIENT)),
            Means("nobody, where `sagas` begin"),
            "who calls",
        ),
        key(
            "sagas",
            Kind::Names(&Kind::Part(&BEGINNING)),
            Means("none begin"),
            "which sagas of the policy file begin, by their names; the newest version does",
        ),
        key(
            "runner",
            Kind::Part(&RUNNER),
            Means("it does not crash"),
            "the process that goes on with sagas",
        ),
        key(
            "timeline",
            Kind::List(&Kind::Part(&CHANGE)),
            Means("nothing happens"),
            "what happens, and when",
        ),
        key(
            "promises",
            Kind::List(&Kind::Promise),
            Means("none"),
            "what has to hold",
        ),
    ],
};

pub(crate) static SERVICE: Section = Section {
    name: "a service",
    doc: "What is called, as it is modelled.",
    keys: &[
        key(
            "work",
            Kind::AnyOf(&[Kind::Duration, Kind::Part(&LAW)]),
            Required,
            "how long a request takes a worker: always the same, or by a law",
        ),
        key(
            "workers",
            Kind::Count(1, 1_000_000),
            Means("any number"),
            "requests at once, per replica",
        ),
        key(
            "queue",
            Kind::Count(0, 10_000_000),
            Means("any number"),
            "how many may wait for a worker, per replica; more are refused",
        ),
        key(
            "order",
            Kind::Choice(&["fifo", "lifo"]),
            Is("fifo"),
            "who is served next: who came first, or last",
        ),
        key(
            "replicas",
            Kind::Count(1, 10_000),
            Means("as many as its upstream has endpoints"),
            "machines that are alike",
        ),
        key(
            "failures",
            Kind::Share,
            Is("0%"),
            "which share fails after it was worked on",
        ),
        key(
            "declines",
            Kind::Share,
            Is("0%"),
            "which share it declines for good, as what is out of stock; never what undoes a step",
        ),
        key(
            "lost",
            Kind::Share,
            Is("0%"),
            "of which share the work is done and the answer lost: the connection is cut",
        ),
        key(
            "idempotent",
            Kind::Truth,
            Is("true"),
            "whether it does the work of a saga's step once, however often it is asked with its key",
        ),
        key(
            "gone",
            Kind::Choice(&["works_on", "skips", "stops"]),
            Is("works_on"),
            "what it does with a request whose caller has gone: it works on, skips it when its turn comes, or stops at once",
        ),
        key(
            "refusal",
            Kind::AnyOf(&[
                Kind::Choice(&["unsent", "overload"]),
                Kind::Part(&COME_BACK),
            ]),
            Is("unsent"),
            "what those hear who are refused: nothing, 503, or when to come back",
        ),
        key(
            "calls",
            Kind::AnyOf(&[CALLS, Kind::Names(&CALLS)]),
            Means("none"),
            "upstreams it calls for each request, one after the other, those of an inner list at once; or, by the upstream that a request came through, those for such requests",
        ),
        key(
            "zones",
            Kind::List(&Kind::Text),
            Means("as its endpoints say"),
            "where its replicas are, in turn",
        ),
        key(
            "ready_with",
            Kind::List(&Kind::Text),
            Means("itself alone"),
            "services without which it says to active checks that it is not ready",
        ),
        key(
            "liveness",
            Kind::Part(&LIVENESS),
            Means("nobody restarts it"),
            "when an orchestrator restarts its replicas",
        ),
    ],
};

const CALLS: Kind = Kind::List(&Kind::AnyOf(&[Kind::Text, Kind::List(&Kind::Text)]));

pub(crate) static LAW: Section = Section {
    name: "a law of durations",
    doc: "How long something takes: exactly one of these.",
    keys: &[
        key(
            "exponential",
            Kind::Duration,
            Means("not exponential"),
            "exponential with this mean",
        ),
        key(
            "uniform",
            Kind::Part(&UNIFORM),
            Means("not uniform"),
            "anything between two alike",
        ),
        key(
            "lognormal",
            Kind::Part(&LOGNORMAL),
            Means("not lognormal"),
            "lognormal, as latencies of real services are",
        ),
        key(
            "two_kinds",
            Kind::Part(&TWO_KINDS),
            Means("not of two kinds"),
            "exponential with one of two means",
        ),
        key(
            "measured",
            Kind::Text,
            Means("not measured"),
            "a file of lines `UPPER BOUND,COUNT` such as `12ms,340`, relative to this one",
        ),
    ],
};

static UNIFORM: Section = Section {
    name: "uniform",
    doc: "Anything between two durations alike.",
    keys: &[
        key("from", Kind::Duration, Required, "the shortest"),
        key("to", Kind::Duration, Required, "the longest"),
    ],
};

static LOGNORMAL: Section = Section {
    name: "lognormal",
    doc: "Its logarithm is normal.",
    keys: &[
        key("median", Kind::Duration, Required, "half take longer"),
        key(
            "sigma",
            Kind::Number(0.0, 10.0),
            Required,
            "how wide it is; real services have 0.3 to 1",
        ),
    ],
};

static TWO_KINDS: Section = Section {
    name: "two kinds",
    doc: "A few slow ones among many fast ones, or the other way round.",
    keys: &[
        key(
            "share",
            Kind::Share,
            Required,
            "how many are of the first kind",
        ),
        key("first", Kind::Duration, Required, "their mean"),
        key("second", Kind::Duration, Required, "the mean of the others"),
    ],
};

static COME_BACK: Section = Section {
    name: "come back",
    doc: "A refusal says when to come back (Retry-After).",
    keys: &[
        key("after", Kind::Duration, Required, "not before this"),
        key(
            "spread",
            Kind::Duration,
            Is("0s"),
            "up to so much later, at random",
        ),
    ],
};

pub(crate) static LIVENESS: Section = Section {
    name: "liveness",
    doc: "What an orchestrator does with replicas that seem to be dead.",
    keys: &[
        key(
            "needs",
            Kind::List(&Kind::Text),
            Means("only itself"),
            "services without which a replica says that it is dead",
        ),
        key(
            "every",
            Kind::Duration,
            Is("10s"),
            "how often it is asked, at least 1ms",
        ),
        key(
            "failures",
            Kind::Count(1, 1000),
            Is("3"),
            "how many noes in a row restart it",
        ),
        key("restart", Kind::Duration, Is("30s"), "how long that takes"),
        key(
            "warms",
            Kind::Part(&WARMS),
            Means("at full speed"),
            "how it comes back",
        ),
    ],
};

pub(crate) static WARMS: Section = Section {
    name: "warms",
    doc: "A replica that comes back is slow at first.",
    keys: &[
        key(
            "from",
            Kind::Share,
            Required,
            "the share of its speed that it begins with, at least 1%",
        ),
        key(
            "over",
            Kind::Duration,
            Required,
            "how long it takes to get to all of it",
        ),
    ],
};

const RATE: Kind = Kind::AnyOf(&[
    Kind::Rate,
    Kind::List(&Kind::Part(&POINT)),
    Kind::Part(&LOAD_FILE),
]);

pub(crate) static CLIENT: Section = Section {
    name: "a client",
    doc: "Who calls: exactly one of `rate`, `every`, `users`.",
    keys: &[
        key(
            "upstream",
            Kind::Text,
            Means("that of its route"),
            "the upstream of the policy file it calls through",
        ),
        key(
            "route",
            Kind::Text,
            Means("none"),
            "the route it takes instead: its upstream, deadline and tier hold",
        ),
        key(
            "rate",
            RATE,
            Means("not by a rate"),
            "calls at random, independent of answers (a Poisson process): the rate, points of it with lines between, or a file",
        ),
        key(
            "every",
            Kind::Duration,
            Means("not at intervals"),
            "a call at each of these intervals",
        ),
        key(
            "users",
            Kind::Count(1, 1_000_000),
            Means("no users"),
            "each waits for an answer, thinks, and calls again",
        ),
        key(
            "thinks",
            Kind::AnyOf(&[Kind::Duration, Kind::Part(&LAW)]),
            Is("1s"),
            "how long a user thinks",
        ),
        key(
            "copies",
            Kind::Count(1, 10_000),
            Is("1"),
            "processes with policies of their own that share the load",
        ),
        key(
            "process",
            Kind::Text,
            Means("one of its own"),
            "clients that name the same process share its policies, as behind one gateway",
        ),
        key(
            "deadline",
            Kind::Duration,
            Means("that of its route or upstream"),
            "how long it waits for an answer",
        ),
        key(
            "tier",
            Kind::Choice(&["critical", "important", "optional"]),
            Means("that of its route, or important"),
            "how critical its calls are",
        ),
        key(
            "repeatable",
            Kind::Truth,
            Means("that of its route, or true"),
            "whether its calls may be made twice",
        ),
        key("zone", Kind::Text, Means("none"), "where it is"),
    ],
};

pub(crate) static BEGINNING: Section = Section {
    name: "a saga that begins",
    doc: "How often a saga of the policy file begins: exactly one of `rate`, `every`.",
    keys: &[
        key(
            "rate",
            RATE,
            Means("not by a rate"),
            "at random, independent of what becomes of them (a Poisson process): the rate, points of it with lines between, or a file",
        ),
        key(
            "every",
            Kind::Duration,
            Means("not at intervals"),
            "one at each of these intervals",
        ),
        key(
            "cancels",
            Kind::Share,
            Is("0%"),
            "which share somebody cancels, if it has not ended by then and there is a way back",
        ),
        key(
            "cancels_after",
            Kind::AnyOf(&[Kind::Duration, Kind::Part(&LAW)]),
            Is("1s"),
            "how long after it began",
        ),
    ],
};

pub(crate) static RUNNER: Section = Section {
    name: "the runner",
    doc: "The process that goes on with sagas; the upstreams of their steps are its own. A transition of a saga has two instants at which it may crash: before its record is written, and when it is, before anything is done about it.",
    keys: &[
        key(
            "crashes",
            Kind::Share,
            Is("0%"),
            "at which share of those instants it crashes, at most 50%",
        ),
        key(
            "crashes_every",
            Kind::Count(2, 1_000_000_000),
            Means("never"),
            "after so many of those instants it crashes, again and again",
        ),
        key(
            "restart",
            Kind::Duration,
            Is("1s"),
            "how long it is away then",
        ),
        key(
            "hands",
            Kind::Duration,
            Means("nobody does"),
            "how long until somebody has a step tried again that waits for somebody",
        ),
        key("zone", Kind::Text, Means("none"), "where it is"),
    ],
};

static POINT: Section = Section {
    name: "a point",
    doc: "The rate at a time.",
    keys: &[
        key(
            "at",
            Kind::Duration,
            Required,
            "when; two points at one time are a jump",
        ),
        key("rate", Kind::Rate, Required, "calls a second"),
    ],
};

static LOAD_FILE: Section = Section {
    name: "a load file",
    doc: "The rate over time, from a file.",
    keys: &[key(
        "file",
        Kind::Text,
        Required,
        "lines `TIME,RATE` such as `90s,200/s`, relative to this file",
    )],
};

pub(crate) static CHANGE: Section = Section {
    name: "what happens",
    doc: "To one of `service`, `zone`, `client`, `runner`, `pause`: what is so from one time to another.",
    keys: &[
        key(
            "service",
            Kind::Text,
            Means("no service"),
            "the service it happens to",
        ),
        key(
            "replica",
            Kind::Count(0, 9_999),
            Means("all of them"),
            "only to this replica, counted from 0",
        ),
        key(
            "zone",
            Kind::Text,
            Means("no zone"),
            "all replicas in this zone, of all services",
        ),
        key(
            "client",
            Kind::Text,
            Means("no client"),
            "the client it happens to",
        ),
        key(
            "runner",
            Kind::Choice(&["crashes"]),
            Means("not to the runner"),
            "the runner of sagas crashes at `from`, and goes on with them at `to`",
        ),
        key(
            "pause",
            Kind::Text,
            Means("not to sagas"),
            "somebody pauses the sagas of this name at `from`, and lets them go on at `to`",
        ),
        key("from", Kind::Duration, Required, "when it begins"),
        key(
            "to",
            Kind::Duration,
            Means("it stays so"),
            "when it is over",
        ),
        key(
            "fault",
            Kind::Choice(&["away", "hangs"]),
            Means("none"),
            "`away`: refuses, and loses what it had; `hangs`: nothing comes through until it is over",
        ),
        key(
            "failures",
            Kind::Share,
            Means("as before"),
            "which share fails",
        ),
        key(
            "declines",
            Kind::Share,
            Means("as before"),
            "which share is declined for good",
        ),
        key(
            "lost",
            Kind::Share,
            Means("as before"),
            "which share of answers is lost",
        ),
        key(
            "speed",
            Kind::Share,
            Means("as before"),
            "which share of its speed is left",
        ),
        key(
            "load",
            Kind::Percent,
            Means("as before"),
            "how much of its load comes, with `client`: `300%` is three times as much",
        ),
        key(
            "warms",
            Kind::Part(&WARMS),
            Means("at full speed"),
            "how it comes back when it is over",
        ),
    ],
};
