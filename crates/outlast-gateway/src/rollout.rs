//! The canary of a route: which version a request goes to, and what its end says of it.
//!
//! What is decided is the library's ([`outlast::canary`]). Here each request gets its side by what
//! it sticks to, before it is called; its end is reported; once a second the analysis looks at what
//! ended; and every decision is logged with its evidence. A rollout is shared by all workers and
//! takes no lock on the path of a request. A reload keeps it while its section is the same.
//!
//! Judged is the version's own doing, as the client felt it: after its retries, hedges and
//! failovers, but before anything that stood in for it.
//!
//! | what became of a request | counts as |
//! |---|---|
//! | the version's answer ended | what its upstream's policies say of it |
//! | the answer broke off, or missed the deadline | an error |
//! | attempts were made, and none had an answer | an error |
//! | the version failed, and a fallback answered | an error |
//! | it was rejected before an attempt: rate, bulkhead, open breaker | nothing |
//! | the client left before an answer, after a second at least | an error |
//! | the client left earlier, or within the answer; its body broke | nothing |
//!
//! A rejection of our own says how much there is to do and how full things are, not which version
//! is better; and what opened a breaker was counted before it was open. A client that leaves says
//! something: else a version that hangs would never be noticed where clients wait less than the
//! deadline. Clients of both versions leave, so it is no false alarm.

pub(crate) mod status;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use outlast::Clock;
use outlast::canary::{Canary, Decision, Side, State, Stats, What, Why};
use outlast::fallback;
use outlast::outcome::Outcome;
use outlast::time::Time;
use outlast_config::plan::{self, Sticky};
use serde::Deserialize;

use crate::table::Table;

/// The canary of a route and its state.
#[derive(Debug)]
pub(crate) struct Rollout {
    route: String,
    /// The name of the new version.
    version: String,
    canary: Canary,
    key: Key,
    source: String,
    /// Counts restarts, so that what began before one says nothing of what came after.
    life: AtomicU32,
    /// When the analysis last looked, in nanoseconds.
    stepped: AtomicU64,
    /// Decisions ever, in the order of [`WHATS`].
    decided: [AtomicU64; WHATS.len()],
}

/// What a request sticks by.
#[derive(Debug)]
enum Key {
    Client,
    Header(HeaderName),
    /// The nanosecond of its arrival, which nobody chooses.
    Arrival,
}

/// A request on its way to one of both versions.
#[derive(Debug)]
pub(crate) struct Trial {
    side: Side,
    life: u32,
    /// What came of it, once that is known.
    outcome: Option<Outcome>,
    /// When the head of its answer came, counted from that of the request.
    head: Option<Duration>,
}

/// What an operator can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Promote,
    Pause,
    Resume,
    Abort,
    Restart,
}

impl Rollout {
    /// Begins a rollout; `version` is the name of the new version.
    pub(crate) fn new(route: &str, version: &str, plan: &plan::Canary) -> Result<Rollout, String> {
        // Every instance that reads the same file sends the same users first.
        let seed = hash(route.bytes().chain(*b" ").chain(plan.source.bytes()));
        let now = Clock::Precise.now();
        let canary = Canary::new(plan.policy.clone(), seed, now);
        Ok(Rollout {
            route: route.to_owned(),
            version: version.to_owned(),
            canary: canary.map_err(|error| error.to_string())?,
            key: match &plan.sticky {
                Sticky::Client => Key::Client,
                Sticky::Off => Key::Arrival,
                Sticky::Header(name) => Key::Header(
                    HeaderName::from_bytes(name.as_bytes())
                        .map_err(|_| format!("{name:?} is no header name"))?,
                ),
            },
            source: plan.source.clone(),
            life: AtomicU32::new(0),
            stepped: AtomicU64::new(now.as_nanos()),
            decided: Default::default(),
        })
    }

    /// Whether this is the rollout that a plan asks for.
    pub(crate) fn is(&self, plan: &plan::Canary) -> bool {
        self.source == plan.source
    }

    /// The side of a request.
    pub(crate) fn choose(
        &self,
        headers: &HeaderMap,
        client: impl FnOnce() -> IpAddr,
        arrived: Time,
    ) -> Trial {
        let value = match &self.key {
            Key::Header(name) => headers.get(name),
            Key::Client | Key::Arrival => None,
        };
        let key = match (&self.key, value) {
            (Key::Arrival, _) => arrived.as_nanos(),
            (_, Some(value)) => hash(value.as_bytes().iter().copied()),
            (Key::Client | Key::Header(_), None) => match client() {
                IpAddr::V4(address) => hash(address.octets()),
                IpAddr::V6(address) => hash(address.octets()),
            },
        };
        let life = self.life.load(Ordering::Relaxed);
        Trial {
            side: self.canary.route(key),
            life,
            outcome: None,
            head: None,
        }
    }

    /// A request is over that waited for so long; `was_sent` is whether its body was read to the
    /// end.
    pub(crate) fn record(&self, trial: &Trial, waited: Duration, was_sent: bool) {
        if trial.life == self.life.load(Ordering::Relaxed) {
            let outcome = trial.verdict(waited, was_sent);
            let took = trial.head.unwrap_or(waited);
            self.canary.record(trial.side, outcome, took);
        }
    }

    /// Looks at what ended, if the last look was a second ago. Any worker may call it at any time.
    pub(crate) fn step(&self, now: Time) {
        let last = self.stepped.load(Ordering::Relaxed);
        let due = now.since(Time::from_nanos(last)) >= STEP;
        let is_mine = || {
            let next = now.as_nanos();
            let taken =
                self.stepped
                    .compare_exchange(last, next, Ordering::Relaxed, Ordering::Relaxed);
            taken.is_ok()
        };
        if due
            && is_mine()
            && let Some(decision) = self.canary.step(now)
        {
            self.tell(&decision);
        }
    }

    /// Does what an operator asks for; if that makes no sense now, why not.
    pub(crate) fn act(&self, action: Action) -> Result<Decision, &'static str> {
        let now = Clock::Precise.now();
        let decision = match action {
            Action::Promote => self.canary.promote(now),
            Action::Pause => self.canary.pause(now),
            Action::Resume => self.canary.resume(now),
            Action::Abort => self.canary.abort(now),
            Action::Restart if self.is_over() => {
                self.life.fetch_add(1, Ordering::Relaxed);
                self.canary.restart(now)
            }
            Action::Restart => None,
        };
        match decision {
            Some(decision) => {
                self.tell(&decision);
                Ok(decision)
            }
            None => Err(self.objection(action)),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.canary.stats()
    }

    /// The kinds of decisions, and how often each was made.
    pub(crate) fn decided(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.decided.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        WHATS.into_iter().zip(counts)
    }

    fn is_over(&self) -> bool {
        matches!(self.canary.state(), State::Done | State::RolledBack)
    }

    fn objection(&self, action: Action) -> &'static str {
        match (action, self.canary.state()) {
            (Action::Restart, _) => "it is not over; `abort` it first",
            (Action::Pause, State::Paused { .. }) => "it is paused already",
            (Action::Resume, State::Running { .. } | State::Promoting) => "it is not paused",
            _ => "it is over; `restart` begins again",
        }
    }

    /// What a hand has to look at is a warning.
    fn tell(&self, decision: &Decision) {
        let name = decision.what.name();
        if let Some(at) = WHATS.iter().position(|known| *known == name) {
            self.decided[at].fetch_add(1, Ordering::Relaxed);
        }
        let (route, canary) = (&self.route, &self.version);
        match decision.what {
            What::RolledBack => tracing::warn!(route, canary, "{decision}"),
            What::Paused if decision.why != Why::Manual => {
                tracing::warn!(route, canary, "{decision}");
            }
            What::Promoted { .. } | What::Done | What::Paused | What::Resumed | What::Restarted => {
                tracing::info!(route, canary, "{decision}");
            }
        }
    }
}

impl Trial {
    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// The call of its version ended. A good answer is judged when it has been read.
    pub(crate) fn called(&mut self, why: Option<fallback::Why>, attempts: u32, took: Duration) {
        self.head = Some(took);
        match why {
            None => {}
            Some(fallback::Why::Failed(outcome)) => self.settle(outcome),
            Some(fallback::Why::Rejected(_)) if attempts > 0 => self.settle(Outcome::Transient),
            Some(fallback::Why::Rejected(_)) => self.settle(Outcome::Ignored),
        }
    }

    /// What came of it; the first word counts, because later ones are about what stood in.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    fn verdict(&self, waited: Duration, was_sent: bool) -> Outcome {
        let hung = self.head.is_none() && was_sent && waited >= PATIENCE;
        match self.outcome {
            Some(outcome) => outcome,
            None if hung => Outcome::Transient,
            None => Outcome::Ignored,
        }
    }
}

/// Says which rollouts begin, begin anew or end with a table.
pub(crate) fn announce(before: Option<&Table>, table: &Table) {
    let former = |name: &str| before?.route_named(name)?.canary.as_ref();
    for route in &table.routes {
        let (name, canary) = (route.name(), route.canary.as_ref());
        match (former(name), canary) {
            (Some(old), Some(new)) if std::sync::Arc::ptr_eq(&old.rollout, &new.rollout) => {}
            (None, None) => {}
            (None, Some(new)) => {
                let share = new.rollout.share();
                let canary = &new.rollout.version;
                tracing::info!(route = name, canary, "a rollout begins at {share}%");
            }
            (Some(_), Some(new)) => {
                let share = new.rollout.share();
                let canary = &new.rollout.version;
                tracing::warn!(
                    route = name,
                    canary,
                    "its section has changed: the rollout begins anew at {share}%"
                );
            }
            (Some(old), None) => {
                let state = old.rollout.canary.state().name();
                let canary = &old.rollout.version;
                tracing::info!(
                    route = name,
                    canary,
                    "a rollout was taken out of the file; it was {state}"
                );
            }
        }
    }
}

/// FNV-1a (Fowler, Noll, Vo): the same in every process and version, so that instances that share
/// traffic agree. What it lacks in spreading, the canary adds.
fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let bytes = bytes.into_iter();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The kinds of decisions.
const WHATS: [&str; 6] = [
    "promoted",
    "done",
    "rolled_back",
    "paused",
    "resumed",
    "restarted",
];
/// What ends between two looks is compared as having run at the same time.
const STEP: Duration = Duration::from_secs(1);
/// After which a client that left had waited too long; as core has it for attempts without limits.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
