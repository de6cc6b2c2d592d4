//! What a saga does: steps in order, some of them at once, each with what undoes it.
//!
//! A definition is data: code that acts is found by the names of its steps. It has a name, a version
//! and a hash, and a saga keeps the version it began with.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::time::Duration;

use outlast_core::backoff::Backoff;
use outlast_core::budget;
use outlast_core::ratio::Ratio;
use sha2::{Digest, Sha256};

use crate::bounds::Bounds;

/// The steps of a saga.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    name: String,
    version: u32,
    /// Steps of one item run at once.
    stages: Vec<Vec<Step>>,
    deadline: Option<Duration>,
    source: Option<String>,
    hashed: Hashed,
}

/// The hash of a definition, once somebody has asked for it: every saga that begins does, and it is made
/// from a text that may be long. It says nothing that the rest does not.
#[derive(Clone, Default)]
struct Hashed(OnceLock<String>);

impl PartialEq for Hashed {
    fn eq(&self, _: &Hashed) -> bool {
        true
    }
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get().map_or("?", String::as_str))
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    name: String,
    timeout: Duration,
    tries: Tries,
    undo: Option<Undo>,
    best_effort: bool,
    pivot: bool,
    on_unknown: OnUnknown,
    budget: budget::Config,
}

/// What undoes a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Undo {
    timeout: Duration,
    tries: Tries,
    retries_a_second: NonZeroU32,
}

/// How often something is tried, and how long it waits in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tries {
    attempts: u32,
    backoff: Backoff,
}

/// How somebody is asked whether a step was done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Query {
    timeout: Duration,
    tries: Tries,
}

/// What is done about an attempt of which nobody knows whether it did its work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum OnUnknown {
    /// It is tried again with the same key.
    #[default]
    Retry,
    /// It is given up, and undone as if it had been done.
    Compensate,
    /// Somebody who knows is asked. Was it done, the saga goes on as if the attempt had succeeded; was it
    /// not, it is tried again if there are attempts left, and otherwise given up without need of an undo.
    /// If the question stays open it is given up, and undone as if it had been done.
    Query(Query),
}

impl Definition {
    /// A definition without steps. Its name and those of steps are up to 64 letters, digits, `-`, `_`.
    pub fn new(name: impl Into<String>, version: u32) -> Definition {
        Definition {
            name: name.into(),
            version,
            stages: Vec::new(),
            deadline: None,
            source: None,
            hashed: Hashed::default(),
        }
    }

    /// Adds a step that begins when those before have ended.
    pub fn step(self, step: Step) -> Definition {
        self.at_once([step])
    }

    /// Adds steps that run at once, when those before have ended.
    pub fn at_once(mut self, steps: impl IntoIterator<Item = Step>) -> Definition {
        self.stages.push(steps.into_iter().collect());
        self.changed()
    }

    /// When it is given up and compensated, from its start on. After the pivot it has no meaning.
    /// Default: never.
    pub fn deadline(mut self, deadline: Duration) -> Definition {
        self.deadline = Some(deadline);
        self.changed()
    }

    /// What the code of its steps was made from, if that is a text: another one makes another hash.
    /// Default: nothing.
    pub fn source(mut self, source: impl Into<String>) -> Definition {
        self.source = Some(source.into());
        self.changed()
    }

    /// With another hash than before.
    fn changed(mut self) -> Definition {
        self.hashed = Hashed::default();
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Its steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flatten()
    }

    /// The steps of each stage, as numbers.
    pub(crate) fn stages(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut from = 0;
        self.stages.iter().map(move |stage| {
            let range = from..from + stage.len();
            from = range.end;
            range
        })
    }

    pub(crate) fn time(&self) -> Option<Duration> {
        self.deadline
    }

    /// A hash of all that matters: the same name and version with another hash is another definition.
    /// How many retries all of its sagas may make together does not matter: it may be changed at any time.
    pub fn hash(&self) -> String {
        self.hashed.0.get_or_init(|| self.digest()).clone()
    }

    fn digest(&self) -> String {
        let mut text = format!("{}/{}/{}", self.name, self.version, said(self.deadline));
        for (number, stage) in self.stages.iter().enumerate() {
            for step in stage {
                text.push_str(&format!("\n{number}: {}", step.said()));
            }
        }
        if let Some(source) = &self.source {
            text.push_str("\n\n");
            text.push_str(source);
        }
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether it can work.
    ///
    /// # Errors
    /// What cannot, and what to change.
    pub fn check(&self) -> Result<(), DefinitionError> {
        let refuse = |what: String| Err(DefinitionError(what));
        if !is_name(&self.name) {
            return refuse(format!("`{}` is no name of a saga: {NAMES}", self.name));
        }
        let steps: Vec<&Step> = self.steps().collect();
        if steps.is_empty() || self.stages.iter().any(Vec::is_empty) {
            return refuse(format!(
                "`{}` has a stage without steps: add some",
                self.name
            ));
        }
        if steps.len() > MOST_STEPS {
            return refuse(format!("`{}` has more than {MOST_STEPS} steps", self.name));
        }
        for (number, step) in steps.iter().enumerate() {
            if !is_name(&step.name) {
                return refuse(format!("`{}` is no name of a step: {NAMES}", step.name));
            }
            if steps[..number].iter().any(|other| other.name == step.name) {
                return refuse(format!("two steps are called `{}`: rename one", step.name));
            }
            step.check().or_else(refuse)?;
        }
        let shared = self
            .stages
            .iter()
            .find(|stage| stage.len() > 1 && stage.iter().any(|step| step.pivot));
        if let Some(pivot) = shared.and_then(|stage| stage.iter().find(|step| step.pivot)) {
            return refuse(format!(
                "`{}` is a pivot and runs alone: another one at once could fail when it is done",
                pivot.name
            ));
        }
        let pivots = steps.iter().filter(|step| step.pivot).count();
        if pivots > 1 {
            return refuse(
                "there are two pivots: what is behind the first cannot be undone".into(),
            );
        }
        Bounds::of(self).map(drop)
    }
}

impl Step {
    /// A step that is tried three times, 30 s each, and has nothing that undoes it.
    pub fn new(name: impl Into<String>) -> Step {
        Step {
            name: name.into(),
            timeout: Duration::from_secs(30),
            tries: Tries::new(3),
            undo: None,
            best_effort: false,
            pivot: false,
            on_unknown: OnUnknown::Retry,
            budget: usual_budget(),
        }
    }

    /// How long one attempt may take; what comes later is not known. Default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Step {
        self.timeout = timeout;
        self
    }

    /// How often it is tried. Default: three times, with the default backoff of retries.
    pub fn tries(mut self, tries: Tries) -> Step {
        self.tries = tries;
        self
    }

    /// How many retries all sagas of the definition may make of it together; one that finds nothing left
    /// waits until there is, and is given up only if the step is best effort. Default: a fifth of what
    /// succeeded in the last 10 s, and 100 more.
    pub fn budget(mut self, budget: budget::Config) -> Step {
        self.budget = budget;
        self
    }

    /// What undoes it, if a later step fails. Default: nothing has to be undone.
    pub fn undo(mut self, undo: Undo) -> Step {
        self.undo = Some(undo);
        self
    }

    /// Its failure never fails the saga. Default: it does.
    pub fn best_effort(mut self) -> Step {
        self.best_effort = true;
        self
    }

    /// When it is done there is no way back: later steps that fail wait for somebody. It runs alone.
    /// Default: there is.
    pub fn pivot(mut self) -> Step {
        self.pivot = true;
        self
    }

    /// What is done when nobody knows whether it was done. Default: it is tried again.
    pub fn on_unknown(mut self, what: OnUnknown) -> Step {
        self.on_unknown = what;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long an attempt may take.
    pub fn time(&self) -> Duration {
        self.timeout
    }

    /// How long an attempt to undo it may take; `None` if nothing has to be undone.
    pub fn undo_time(&self) -> Option<Duration> {
        self.undo.as_ref().map(|undo| undo.timeout)
    }

    pub(crate) fn own_tries(&self) -> Tries {
        self.tries
    }

    pub(crate) fn undo_tries(&self) -> Option<Tries> {
        self.undo.as_ref().map(|undo| undo.tries)
    }

    pub(crate) fn retry_budget(&self) -> budget::Config {
        self.budget
    }

    pub(crate) fn undo_rate(&self) -> Option<NonZeroU32> {
        self.undo.as_ref().map(|undo| undo.retries_a_second)
    }

    /// All that matters of it, in words that no later version of this program says otherwise: hashes of
    /// them are kept for years.
    fn said(&self) -> String {
        let undo = self.undo.as_ref().map_or("-".to_owned(), |undo| {
            format!("{} {}", undo.tries.said(), said(Some(undo.timeout)))
        });
        let unknown = match self.on_unknown {
            OnUnknown::Retry => "retry".to_owned(),
            OnUnknown::Compensate => "compensate".to_owned(),
            OnUnknown::Query(query) => {
                format!("query {} {}", query.tries.said(), said(Some(query.timeout)))
            }
        };
        format!(
            "{} {} {} undo {undo} best_effort {} pivot {} unknown {unknown}",
            self.name,
            self.tries.said(),
            said(Some(self.timeout)),
            self.best_effort,
            self.pivot
        )
    }

    /// Whether its failure never fails the saga.
    pub fn is_best_effort(&self) -> bool {
        self.best_effort
    }

    /// Whether there is no way back when it is done.
    pub fn is_pivot(&self) -> bool {
        self.pivot
    }

    pub(crate) fn compensates_unknown(&self) -> bool {
        self.on_unknown == OnUnknown::Compensate
    }

    /// How long a question whether it was done may take; `None` if nobody is asked.
    pub fn query_time(&self) -> Option<Duration> {
        self.query().map(|query| query.timeout)
    }

    pub(crate) fn query_tries(&self) -> Option<Tries> {
        self.query().map(|query| query.tries)
    }

    fn query(&self) -> Option<Query> {
        match self.on_unknown {
            OnUnknown::Query(query) => Some(query),
            OnUnknown::Retry | OnUnknown::Compensate => None,
        }
    }

    /// Whether there is code for what it says.
    #[cfg(feature = "runner")]
    pub(crate) fn check_code(&self, undoes: bool, asks: bool) -> Result<(), DefinitionError> {
        let name = &self.name;
        let refuse = |what: &str| Err(DefinitionError(format!("`{name}` {what}")));
        match (self.undo.is_some(), undoes) {
            (true, true) | (false, false) => {}
            (true, false) => {
                return refuse(
                    "says how it is undone, and has no code for it: use `step_with_undo`",
                );
            }
            (false, true) => {
                return refuse("has code that undoes it: say how with `Step::undo`");
            }
        }
        match (self.query().is_some(), asks) {
            (true, true) | (false, false) => Ok(()),
            (true, false) => refuse(
                "asks when nobody knows whether it was done, and has no code for it: add `Flow::query` behind it",
            ),
            (false, true) => {
                refuse("has code that asks whether it was done: say how with `OnUnknown::Query`")
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let undo = self.undo.iter().map(|undo| (undo.timeout, undo.tries));
        let query = self.query().map(|query| (query.timeout, query.tries));
        let own = std::iter::once((self.timeout, self.tries));
        for (timeout, tries) in own.chain(undo).chain(query) {
            if timeout.is_zero() {
                return Err(format!("`{name}` has no time: give it a timeout"));
            }
            if !(1..=MOST_ATTEMPTS).contains(&tries.attempts) {
                return Err(format!("`{name}` is tried 1 to {MOST_ATTEMPTS} times"));
            }
        }
        if self.best_effort && self.pivot {
            return Err(format!(
                "`{name}` is a pivot, so its failure matters: leave one out"
            ));
        }
        Ok(())
    }
}

impl Undo {
    /// Tried thirty times, 30 s each, with waits that grow from a second to a minute: an outage of 24
    /// minutes leaves nothing to somebody's hand.
    pub fn new() -> Undo {
        let backoff = Backoff::exponential(Duration::from_secs(1)).max(Duration::from_secs(60));
        Undo {
            timeout: Duration::from_secs(30),
            tries: Tries::new(30).backoff(backoff),
            retries_a_second: UNDOES,
        }
    }

    /// How long one attempt may take. Default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Undo {
        self.timeout = timeout;
        self
    }

    /// How often it is tried before somebody has to look. Default: thirty times.
    pub fn tries(mut self, tries: Tries) -> Undo {
        self.tries = tries;
        self
    }

    /// How many retries a second all sagas of the definition may make of it together; they take turns.
    /// Default 100.
    pub fn retries_a_second(mut self, retries: NonZeroU32) -> Undo {
        self.retries_a_second = retries;
        self
    }
}

impl Default for Undo {
    fn default() -> Undo {
        Undo::new()
    }
}

impl Query {
    /// Asked three times, 30 s each, with the default waits of [`Tries`].
    pub fn new() -> Query {
        Query {
            timeout: Duration::from_secs(30),
            tries: Tries::new(3),
        }
    }

    /// How long one question may take. Default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Query {
        self.timeout = timeout;
        self
    }

    /// How often it is asked before the step is given up and undone as if it had been done. Default:
    /// three times.
    pub fn tries(mut self, tries: Tries) -> Query {
        self.tries = tries;
        self
    }
}

impl Default for Query {
    fn default() -> Query {
        Query::new()
    }
}

impl Tries {
    /// So many attempts in all, the first included: 1 to 1,000; with waits that grow quadratically from
    /// 50 ms to 5 s.
    pub fn new(attempts: u32) -> Tries {
        Tries {
            attempts,
            backoff: Backoff::quadratic(Duration::from_millis(50)).max(Duration::from_secs(5)),
        }
    }

    /// The waits between attempts.
    pub fn backoff(mut self, backoff: impl Into<Backoff>) -> Tries {
        self.backoff = backoff.into();
        self
    }

    pub(crate) fn attempts(self) -> u32 {
        self.attempts
    }

    /// A backoff is told by its first waits, the shortest and the longest.
    fn said(self) -> String {
        let wait = |attempt, unit| self.backoff.delay(attempt, Duration::ZERO, unit).as_nanos();
        let waits =
            (0..SAID_WAITS).map(|attempt| format!("{}-{}", wait(attempt, 0.0), wait(attempt, 1.0)));
        let waits: Vec<String> = waits.collect();
        format!("{}x {}", self.attempts, waits.join(","))
    }

    /// The wait after so many attempts; `unit` is a random number between 0 and 1.
    pub(crate) fn wait(self, attempts: u32, unit: f64) -> Duration {
        self.backoff
            .delay(attempts.saturating_sub(1), Duration::ZERO, unit)
    }
}

/// Why a definition cannot work, and what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionError(String);

impl DefinitionError {
    pub(crate) fn of_step(step: &Step, error: &dyn fmt::Display) -> DefinitionError {
        DefinitionError(format!("`{}`: {error}", step.name))
    }

    #[cfg(feature = "runner")]
    pub(crate) fn stray_query(name: &str) -> DefinitionError {
        DefinitionError(format!(
            "`{name}` has a query before its first step: write it behind the step that it asks about"
        ))
    }

    #[cfg(feature = "runner")]
    pub(crate) fn twice(name: &str, version: u32) -> DefinitionError {
        DefinitionError(format!(
            "version {version} of `{name}` is there twice: give one another"
        ))
    }
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DefinitionError {}

/// The usual one of proxies (Finagle's and Linkerd's): a fifth of what succeeds, and ten retries a second.
fn usual_budget() -> budget::Config {
    budget::Config::new(Ratio::percent(20))
        .window(Duration::from_secs(10))
        .reserve(100)
}

fn said(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| format!("{}ns", time.as_nanos()))
}

fn is_name(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(fine)
}

const NAMES: &str = "use up to 64 letters, digits, `-` and `_`";
/// Ten thousand refunds that wait for their service are done within two minutes.
const UNDOES: NonZeroU32 = NonZeroU32::new(100).expect("it is not zero");
/// A saga with more is several.
const MOST_STEPS: usize = 100;
const MOST_ATTEMPTS: u32 = 1000;

/// Two backoffs that differ do so by then.
const SAID_WAITS: u32 = 10;
