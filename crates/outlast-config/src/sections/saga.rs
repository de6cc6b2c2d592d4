//! The keys of sagas.

use super::{BACKOFF, key};
use crate::shape::Default::{Is, Means, Required};
use crate::shape::{Kind, Section};

pub(crate) static SAGAS: Section = Section {
    name: "sagas",
    doc: "Business actions over several upstreams that end done or undone, whatever dies on the way. They are started and looked at at the admin listener, under `/sagas`.",
    keys: &[
        key(
            "limits",
            Kind::Part(&LIMITS),
            Means("its defaults"),
            "bounds on what runs",
        ),
        key(
            "keep",
            Kind::Duration,
            Is("30d"),
            "how long after its end a saga is known; its id is free then",
        ),
        key(
            "keep_log",
            Kind::Duration,
            Is("7d"),
            "how long after its end the log of a saga is kept, with its input and outputs, within `keep`; later only where and when it ended is known",
        ),
        key(
            "definitions",
            Kind::Names(&Kind::AnyOf(&[
                Kind::Part(&SAGA),
                Kind::List(&Kind::Part(&SAGA)),
            ])),
            Required,
            "the sagas by name; a list for several versions, of which the highest is started and the others finish",
        ),
    ],
};

static LIMITS: Section = Section {
    name: "limits of sagas",
    doc: "Bounds on what runs.",
    keys: &[
        key(
            "running",
            Kind::Count(1, 1_000_000),
            Is("10000"),
            "sagas in flight at once; more are not begun (429)",
        ),
        key(
            "bytes",
            Kind::Size,
            Is("1MiB"),
            "the size of an input, and of an answer",
        ),
        key(
            "resumed_a_second",
            Kind::Count(1, 1_000_000),
            Is("20000"),
            "sagas a second that go on after a crash",
        ),
        key(
            "records",
            Kind::Count(10, 1_000_000),
            Is("1000"),
            "entries of a saga's log on its way forward, and as many again on its way back; a failed attempt is two of them. A saga that needs more waits for somebody",
        ),
    ],
};

pub(crate) static SAGA: Section = Section {
    name: "a saga",
    doc: "What is done in which order. In its texts stand `{{ input.x }}`, `{{ steps.NAME.output.x }}` and `{{ saga.id }}`, in quotes; a text that is nothing else is the value itself, with its type. What is not there is an error, unless `?` follows: `{{ input.note? }}`.",
    keys: &[
        key(
            "version",
            Kind::Count(1, 1_000_000_000),
            Required,
            "raised with every change: sagas end with the version that they began with",
        ),
        key(
            "deadline",
            Kind::Duration,
            Means("none"),
            "when it is given up and undone, unless its pivot is done",
        ),
        key(
            "steps",
            Kind::List(&Kind::AnyOf(&[
                Kind::Part(&STEP),
                Kind::List(&Kind::Part(&STEP)),
            ])),
            Required,
            "the steps in order; those of an inner list run at once",
        ),
    ],
};

pub(crate) static STEP: Section = Section {
    name: "a step",
    doc: "A request. It carries the idempotency key `SAGA/STEP` at every attempt: who does the work has to do it once for one key.",
    keys: &[
        key(
            "name",
            Kind::Text,
            Required,
            "up to 64 letters, digits, `-` and `_`",
        ),
        key(
            "upstream",
            Kind::Text,
            Required,
            "the name of the upstream that does it; all its policies hold",
        ),
        key(
            "request",
            Kind::Text,
            Required,
            "`METHOD /path`; what is put into the path is percent-encoded",
        ),
        key("body", Kind::Json, Means("none"), "what is sent, as JSON"),
        key(
            "headers",
            Kind::Names(&Kind::Text),
            Means("none"),
            "header fields to send",
        ),
        key(
            "timeout",
            Kind::Duration,
            Is("30s"),
            "how long an attempt may take; what comes later is not known",
        ),
        key(
            "retry",
            Kind::Part(&RETRY),
            Means("its defaults"),
            "how often it is tried",
        ),
        key(
            "outcomes",
            OUTCOMES,
            Means(OUTCOMES_MEANING),
            "what statuses say of it",
        ),
        key(
            "undo",
            Kind::Part(&UNDO),
            Means("nothing has to be undone"),
            "what undoes it when a later step fails",
        ),
        key(
            "best_effort",
            Kind::Truth,
            Is("false"),
            "whether the saga goes on although it has failed",
        ),
        key(
            "pivot",
            Kind::Truth,
            Is("false"),
            "whether there is no way back once it is done: what fails behind it waits for somebody",
        ),
        key(
            "on_unknown",
            Kind::Choice(&["retry", "query", "compensate"]),
            Is("retry"),
            "what to do when nobody knows whether it was done: try again with the same key, ask with `query`, or give up and undo it as if it were",
        ),
        key(
            "query",
            Kind::Part(&QUERY),
            Means("nobody is asked"),
            "with `on_unknown: query`, the request that asks whether it was done",
        ),
    ],
};

pub(crate) static QUERY: Section = Section {
    name: "query",
    doc: "A request that asks whether a step was done; it carries the step's own key `SAGA/STEP`. If it was, the answer is the step's output. If it was not, the step is tried again, or given up without undoing it, and who answered that never does the work of an earlier attempt. If nobody can say until the attempts are used up, the step is undone as if it were done.",
    keys: &[
        key(
            "upstream",
            Kind::Text,
            Means("that of the step"),
            "the name of the upstream that knows it",
        ),
        key(
            "request",
            Kind::Text,
            Required,
            "`GET /path` or `HEAD /path`; what is put into the path is percent-encoded",
        ),
        key(
            "headers",
            Kind::Names(&Kind::Text),
            Means("none"),
            "header fields to send",
        ),
        key(
            "timeout",
            Kind::Duration,
            Is("30s"),
            "how long an answer may take",
        ),
        key(
            "retry",
            Kind::Part(&QUERY_RETRY),
            Means("that of the step"),
            "how often it is asked until somebody knows",
        ),
        key(
            "outcomes",
            Kind::Statuses(&Kind::Choice(&["done", "not_done", "unknown"])),
            Means("2xx done; 404, 410 not done; others unknown"),
            "what statuses say of the step",
        ),
    ],
};

pub(crate) static UNDO: Section = Section {
    name: "undo",
    doc: "A request that undoes a step, with the key `SAGA/STEP/undo`. It may be asked to undo what was never done.",
    keys: &[
        key(
            "upstream",
            Kind::Text,
            Means("that of the step"),
            "the name of the upstream that does it",
        ),
        key(
            "request",
            Kind::Text,
            Required,
            "`METHOD /path`; what is put into the path is percent-encoded",
        ),
        key("body", Kind::Json, Means("none"), "what is sent, as JSON"),
        key(
            "headers",
            Kind::Names(&Kind::Text),
            Means("none"),
            "header fields to send",
        ),
        key(
            "timeout",
            Kind::Duration,
            Is("30s"),
            "how long an attempt may take",
        ),
        key(
            "retry",
            Kind::Part(&UNDO_RETRY),
            Means("its defaults"),
            "how often it is tried before somebody has to look",
        ),
        key(
            "outcomes",
            OUTCOMES,
            Means(OUTCOMES_MEANING),
            "what statuses say of it",
        ),
    ],
};

pub(crate) static RETRY: Section = Section {
    name: "retry of a step",
    doc: "How often a step is tried by the saga. What its upstream retries is one attempt.",
    keys: &[
        key("attempts", ATTEMPTS, Is("3"), "attempts in all"),
        key(
            "backoff",
            WAITS,
            Means("quadratic from 50ms to 5s"),
            "the waits between them",
        ),
        key(
            "budget",
            Kind::AnyOf(&[Kind::Share, Kind::Choice(&["off"]), Kind::Part(&BUDGET)]),
            Means("20%, and 100 in 10s"),
            "retries of all sagas together, as a share of what succeeds; what finds it empty waits, and is given up if it is best effort. It may be changed without a new version",
        ),
    ],
};

pub(crate) static BUDGET: Section = Section {
    name: "budget of a step",
    doc: "The bound on retries that all sagas of a definition make of a step together.",
    keys: &[
        key(
            "ratio",
            Kind::Share,
            Is("20%"),
            "of what succeeded in the window",
        ),
        key(
            "window",
            Kind::Duration,
            Is("10s"),
            "how long successes and retries are remembered",
        ),
        key(
            "reserve",
            Kind::Count(0, 10_000),
            Is("100"),
            "retries per window that need no success",
        ),
    ],
};

pub(crate) static QUERY_RETRY: Section = Section {
    name: "retry of asking",
    doc: "How often it is asked whether a step was done. Who asks repeats no work, so no budget bounds it.",
    keys: &[
        key(
            "attempts",
            ATTEMPTS,
            Means("as many as the step has"),
            "questions in all",
        ),
        key(
            "backoff",
            WAITS,
            Means("that of the step"),
            "the waits between them",
        ),
    ],
};

pub(crate) static UNDO_RETRY: Section = Section {
    name: "retry of undoing",
    doc: "How often it is tried to undo a step. What its upstream retries is one attempt.",
    keys: &[
        key("attempts", ATTEMPTS, Is("30"), "attempts in all"),
        key(
            "backoff",
            WAITS,
            Means("exponential from 1s to 60s"),
            "the waits between them",
        ),
        key(
            "rate",
            Kind::Count(1, 1_000_000),
            Is("100"),
            "retries a second of all sagas together; they take turns. It may be changed without a new version",
        ),
    ],
};

const ATTEMPTS: Kind = Kind::Count(1, 1000);
const WAITS: Kind = Kind::AnyOf(&[Kind::Duration, Kind::Part(&BACKOFF)]);
pub(super) const OUTCOMES: Kind = Kind::Statuses(&Kind::Choice(&[
    "success",
    "transient",
    "permanent",
    "unknown",
]));
pub(super) const OUTCOMES_MEANING: &str =
    "2xx success; 408, 425, 429, 5xx transient; 502, 504 unknown; others permanent";
