//! Scenario files: a world to try a policy file in.
//!
//! A scenario names upstreams and endpoints of a policy file and says what they lead to, who calls,
//! what happens, and what has to hold. It is as strict as a policy file: all errors are told at
//! once, each with its place and the edit that mends it. What names refer to is known only together
//! with a policy file, and checked by [`Draft::bind`].

mod bind;
mod clients;
mod data;
mod places;
mod promise;
mod read;
mod sagas;
mod timeline;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use outlast_core::tier::Tier;

pub(crate) use self::promise::promise;
pub use self::promise::{Limit, Measure, Promise, Span, Window};
use crate::has_only;
use crate::plan::Saga;
use crate::problem::{Problem, Problems};
use crate::yaml::{self, Node};
use crate::{sections, shape};

/// A scenario file by itself, before it is known which policies it is for.
#[derive(Debug)]
pub struct Draft {
    file: String,
    text: String,
    folder: PathBuf,
    root: Node,
}

/// A world to try policies in; what it refers to is there.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How long the world runs, in its own time.
    pub lasts: Duration,
    /// What begins before this is not counted. Default 0 s.
    pub warm_up: Duration,
    /// Whether it has to be found out first how long queues take to settle. Default: no.
    pub settles: bool,
    /// How many worlds, which differ by chance alone; `None` for as many as it takes. Default 20.
    pub runs: Option<u32>,
    /// What chance is drawn from. Default 1.
    pub seed: u64,
    /// A run in which more happens is given up. Default 10^9.
    pub most_events: u64,
    /// A run with more calls and requests at once is given up. Default 10^6.
    pub most_present: usize,
    /// In an order in which each comes after those that it calls.
    pub services: Vec<Service>,
    /// Where the endpoints of the plan's upstreams lead; `None` for those that nobody uses.
    pub upstreams: Vec<Option<Vec<Place>>>,
    /// In the order of the file.
    pub clients: Vec<Client>,
    /// Sagas that begin, in the order of the file.
    pub sagas: Vec<Beginning>,
    /// What goes on with them.
    pub runner: Runner,
    /// In the order of the file.
    pub timeline: Vec<Change>,
    /// In the order of the file.
    pub promises: Vec<Promise>,
    network: Duration,
    zones: Vec<(String, String, Duration)>,
}

/// A service, as it is modelled.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name: that of an upstream, or of an endpoint.
    pub name: String,
    /// How long a request takes a worker.
    pub work: Law,
    /// Requests at once per replica. Default: any number.
    pub workers: Option<u32>,
    /// How many may wait per replica. Default: any number.
    pub queue: Option<u32>,
    /// Whether who came last is served next. Default: who came first.
    pub lifo: bool,
    /// Machines that are alike, at least 1.
    pub replicas: u32,
    /// Which share fails. Default 0.
    pub failures: f64,
    /// Which share is declined for good. Default 0.
    pub declines: f64,
    /// Of which share the answer is lost. Default 0.
    pub lost: f64,
    /// Whether it does the work of a saga's step once for its key. Default: it does.
    pub idempotent: bool,
    /// What it does with a request whose caller has gone.
    pub gone: Gone,
    /// What those hear who are refused.
    pub refusal: Refusal,
    /// What it calls for its requests, by their kind; a request that nothing is said of calls nothing.
    pub calls: Vec<Calls>,
    /// Where its replicas are, in turn; empty for nowhere in particular.
    pub zones: Vec<String>,
    /// Services without which it is not ready.
    pub ready_with: Vec<usize>,
    /// When its replicas are restarted. Default: never.
    pub liveness: Option<Liveness>,
}

/// What a service calls for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls {
    /// The upstream of the plan that the request came through; any, if there is none.
    pub through: Option<usize>,
    /// Upstreams of the plan: one item after the other, those of an item at once.
    pub steps: Vec<Vec<usize>>,
}

impl Service {
    /// Which of its `calls` are those of requests that come through an upstream; as many as there are
    /// if it calls nothing for them.
    pub fn kind(&self, upstream: usize) -> u32 {
        let of_it = |calls: &Calls| calls.through.is_none_or(|through| through == upstream);
        let found = self.calls.iter().position(of_it);
        found.unwrap_or(self.calls.len()) as u32
    }

    /// All upstreams of the plan that it calls.
    pub(crate) fn called(&self) -> impl Iterator<Item = usize> {
        self.calls
            .iter()
            .flat_map(|calls| calls.steps.iter().flatten().copied())
    }

    /// Where a replica is.
    pub fn zone(&self, replica: u32) -> Option<&str> {
        let count = self.zones.len().max(1);
        self.zones.get(replica as usize % count).map(String::as_str)
    }
}

/// How long something takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Law {
    /// Always the same.
    Fixed(Duration),
    /// Exponential with this mean.
    Exponential(Duration),
    /// Anything between two alike.
    Uniform(Duration, Duration),
    /// Its logarithm is normal.
    Lognormal {
        /// Half take longer.
        median: Duration,
        /// Between 0 and 10.
        sigma: f64,
    },
    /// Exponential with one of two means.
    TwoKinds {
        /// How many are of the first kind.
        share: f64,
        /// Their mean.
        first: Duration,
        /// The mean of the others.
        second: Duration,
    },
    /// As it was measured: upper bounds, which rise, and how many there were below each.
    Measured(Vec<(Duration, u64)>),
}

/// What becomes of a request whose caller has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It is worked on.
    WorksOn,
    /// It is skipped when its turn comes.
    Skips,
    /// It ends at once.
    Stops,
}

/// What those hear who are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing.
    Unsent,
    /// That it is too much.
    Overload,
    /// When to come back.
    ComeBack {
        /// Not before this.
        after: Duration,
        /// Up to so much later.
        spread: Duration,
    },
}

/// When replicas are restarted.
#[derive(Clone, Debug, PartialEq)]
pub struct Liveness {
    /// Services without which a replica seems to be dead.
    pub needs: Vec<usize>,
    /// How often it is asked.
    pub every: Duration,
    /// How many noes in a row restart it.
    pub failures: u32,
    /// How long that takes.
    pub restart: Duration,
    /// How it comes back. Default: at full speed.
    pub warms: Option<Warms>,
}

/// A speed that rises in a line to all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warms {
    /// The share it begins with.
    pub from: f64,
    /// How long it takes.
    pub over: Duration,
}

/// Where an endpoint leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// A service of the scenario.
    pub service: usize,
    /// One replica of it; or any in turn.
    pub replica: Option<u32>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// The upstream of the plan.
    pub upstream: usize,
    /// How often it calls.
    pub load: Load,
    /// Processes with policies of their own that share the load, at least 1.
    pub copies: u32,
    /// How long it waits. Default: as long as its upstream's policies say.
    pub deadline: Option<Duration>,
    /// How critical its calls are.
    pub tier: Tier,
    /// Whether they may be made twice.
    pub repeatable: bool,
    /// Where it is.
    pub zone: Option<String>,
    /// The process whose policies it shares with others. Default: those are its own.
    pub process: Option<String>,
}

/// Sagas that begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Beginning {
    /// What they do: the newest version of the name.
    pub saga: Saga,
    /// How often one begins; never [`Load::Closed`].
    pub load: Load,
    /// Which share is cancelled. Default 0.
    pub cancels: f64,
    /// How long after it began. Default 1 s.
    pub cancels_after: Law,
}

/// The process that goes on with sagas.
#[derive(Clone, Debug, PartialEq)]
pub struct Runner {
    /// At which share of instants it crashes. Default 0.
    pub crashes: f64,
    /// After so many instants it crashes. Default: never.
    pub crashes_every: Option<u32>,
    /// How long it is away then. Default 1 s.
    pub restart: Duration,
    /// How long until somebody has tried again what waits for somebody. Default: nobody does.
    pub hands: Option<Duration>,
    /// Where it is.
    pub zone: Option<String>,
    /// Sagas in flight at once, as the policy file says.
    pub running: NonZeroUsize,
    /// Sagas a second with which it goes on after a crash, as the policy file says.
    pub resumed_a_second: NonZeroUsize,
    /// Records of a saga's log on its way forward, and as many again on its way back, as the policy file
    /// says.
    pub records: NonZeroU64,
}

/// How often a client calls, or a saga begins.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// At random, with these calls a second at these times, and lines between them.
    Open(Vec<(Duration, f64)>),
    /// At this interval.
    Steady(Duration),
    /// So many users, who think in between.
    Closed(u32, Law),
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// When it begins.
    pub from: Duration,
    /// When it is over. Default: never.
    pub to: Option<Duration>,
    /// To whom.
    pub target: Target,
    /// What it is.
    pub effects: Vec<Effect>,
    /// How replicas come back.
    pub warms: Option<Warms>,
}

impl Change {
    /// What it is, in a few words, for pictures and messages.
    pub fn name(&self, scenario: &Scenario) -> String {
        let whom = match &self.target {
            Target::Client(client) => scenario.clients[*client].name.clone(),
            Target::Runner => "the runner".to_owned(),
            Target::Sagas(sagas) => scenario.sagas[*sagas].saga.name.clone(),
            Target::Replicas { said, .. } => said.clone(),
        };
        let effects: Vec<_> = self.effects.iter().map(Effect::name).collect();
        format!("{whom} {}", effects.join(", "))
    }
}

/// To whom it happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Services and replicas of them.
    Replicas {
        /// Each of them.
        all: Vec<(usize, u32)>,
        /// How the file names them.
        said: String,
    },
    /// A client.
    Client(usize),
    /// The runner of sagas.
    Runner,
    /// Sagas of a name: those of this number in [`Scenario::sagas`].
    Sagas(usize),
}

/// What it is that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// They refuse, and lose what they had.
    Away,
    /// Nothing comes through.
    Hangs,
    /// This share fails.
    Failures(f64),
    /// This share is declined for good.
    Declines(f64),
    /// This share of answers is lost.
    Lost(f64),
    /// This share of the speed is left.
    Speed(f64),
    /// So many times the load comes.
    Load(f64),
    /// It is away, and what it had in memory is lost.
    Crashes,
    /// No attempt of a step begins.
    Paused,
}

impl Effect {
    fn name(&self) -> String {
        let percent = |share: f64| (share * 1000.0).round() / 10.0;
        match self {
            Effect::Away => "away".to_owned(),
            Effect::Hangs => "hangs".to_owned(),
            Effect::Failures(share) => format!("fails {}%", percent(*share)),
            Effect::Declines(share) => format!("declines {}%", percent(*share)),
            Effect::Lost(share) => format!("loses {}% of answers", percent(*share)),
            Effect::Crashes => "crashes".to_owned(),
            Effect::Paused => "paused".to_owned(),
            Effect::Speed(share) => format!("at {}% speed", percent(*share)),
            Effect::Load(times) => format!("at {}% load", percent(*times)),
        }
    }
}

impl Scenario {
    /// How long a request is under way from one zone to another.
    pub fn distance(&self, from: Option<&str>, to: Option<&str>) -> Duration {
        let (Some(from), Some(to)) = (from, to) else {
            return self.network;
        };
        let ends =
            |one: &str, other: &str| (one, other) == (from, to) || (one, other) == (to, from);
        let found = self.zones.iter().find(|(one, other, _)| ends(one, other));
        found.map_or(self.network, |(_, _, distance)| *distance)
    }

    /// When the last thing that happens is over, if something does and is.
    pub fn over(&self) -> Option<Duration> {
        self.timeline.iter().filter_map(|change| change.to).max()
    }

    /// When the first thing happens.
    pub fn begins(&self) -> Option<Duration> {
        self.timeline.iter().map(|change| change.from).min()
    }
}

/// Reads a scenario file.
///
/// # Errors
/// All that is wrong with its form, or that it cannot be read.
pub fn load(path: &Path) -> Result<Draft, Problems> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let mend = "name a scenario file that exists, is UTF-8, and may be read";
        Problems::unreadable(path, &error, mend)
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse_in(&path.display().to_string(), &text, folder)
}

/// Reads a text; `file` is its name in messages. Paths in it are relative to the current folder.
///
/// # Errors
/// All that is wrong with its form.
pub fn parse(file: &str, text: &str) -> Result<Draft, Problems> {
    parse_in(file, text, Path::new(""))
}

fn parse_in(file: &str, text: &str, folder: &Path) -> Result<Draft, Problems> {
    let mut problems = Vec::new();
    let root = yaml::parse(text, &mut problems);
    if let Some(root) = &root {
        if has_only(root, &sections::FILE, &sections::SCENARIO) {
            let mend = "check it with `outlast check`; it is tried in a scenario with \
                        `outlast sim SCENARIO --policy FILE`";
            let problem = Problem::new(root.place, "this looks like a policy file", mend);
            return Err(Problems::new(file, text, vec![problem]));
        }
        shape::check(root, &sections::SCENARIO, &mut problems);
    }
    match root {
        Some(root) if problems.is_empty() => Ok(Draft {
            file: file.to_owned(),
            text: text.to_owned(),
            folder: folder.to_owned(),
            root,
        }),
        _ => Err(Problems::new(file, text, problems)),
    }
}
