//! The checks of an instance, and what follows from them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::check::{Change, Check, Status};
use super::config::Config;
use crate::config::{ConfigError, ensure};
use crate::time::Time;

/// Everything one instance knows about its health.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    checks: Vec<Check>,
    warmup: Warmup,
    draining: bool,
    stuck: bool,
    started: bool,
}

/// A check's place in its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

/// Whether the application has prepared itself: caches filled, code paths run, pools connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Warmup {
    /// It is at it.
    Running,
    /// It has, or there is nothing to prepare.
    #[default]
    Complete,
}

impl Registry {
    /// Without checks: alive, started and ready.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Adds a check without a result.
    ///
    /// # Errors
    /// If `config` or the name cannot work, or there is no place left (256 checks).
    pub fn add(&mut self, name: impl Into<String>, config: Config) -> Result<Id, ConfigError> {
        let check = Check::new(name, config)?;
        ensure(
            !RESERVED.contains(&check.name()),
            "health.name",
            "must not be warmup, drain or runtime: those lines are the instance's own",
        )?;
        ensure(
            self.checks.iter().all(|other| other.name() != check.name()),
            "health.name",
            "must not be used by two checks",
        )?;
        ensure(
            self.checks.len() < MOST_CHECKS,
            "health.checks",
            "may be at most 256; check fewer things, or several in one",
        )?;
        self.checks.push(check);
        Ok(Id(self.checks.len() - 1))
    }

    /// Takes the result of a probe; see [`Check::record`].
    pub fn record(
        &mut self,
        id: Id,
        result: Result<(), &str>,
        latency: Duration,
        now: Time,
    ) -> Option<Change> {
        let change = self.checks[id.0].record(result, latency, now);
        self.look();
        change
    }

    /// What the application says of its warm-up. Default [`Warmup::Complete`].
    pub fn set_warmup(&mut self, warmup: Warmup) {
        self.warmup = warmup;
        self.look();
    }

    /// Whether the instance is on its way out: it serves what it has and wants nothing new.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// Whether an executor of the instance is stuck.
    pub fn set_stuck(&mut self, stuck: bool) {
        self.stuck = stuck;
    }

    /// All checks, in the order in which they were added.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The check at `id`.
    pub fn check(&self, id: Id) -> &Check {
        &self.checks[id.0]
    }

    /// The names of all groups, sorted.
    pub fn groups(&self) -> BTreeSet<&str> {
        let names = self.checks.iter().flat_map(Check::groups);
        names.map(String::as_str).collect()
    }

    /// The application's warm-up.
    pub fn warmup(&self) -> Warmup {
        self.warmup
    }

    /// Whether the instance is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether it is alive: no executor is stuck.
    pub fn is_alive(&self) -> bool {
        !self.stuck
    }

    /// Whether it has once been warm, with a result for every critical check.
    pub fn is_started(&self) -> bool {
        self.started || self.starts_now()
    }

    /// Whether it wants traffic.
    pub fn is_ready(&self) -> bool {
        let is_up = |check: &Check| check.status() == Status::Up;
        let mut critical = self.checks.iter().filter(|check| check.is_critical());
        self.is_available() && critical.all(is_up)
    }

    /// Whether what depends on a group can work; `None` if no check belongs to it.
    pub fn is_group_ready(&self, group: &str) -> Option<bool> {
        let mut members = self.members(group).peekable();
        members.peek()?;
        let all_up = members.all(|check| check.status() == Status::Up);
        Some(self.is_available() && all_up)
    }

    /// The checks of a group.
    pub fn members<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Check> {
        let belongs = move |check: &&Check| check.groups().iter().any(|name| name == group);
        self.checks.iter().filter(belongs)
    }

    /// Whether no check at all is down, critical or not.
    pub fn is_sound(&self) -> bool {
        let is_down = |check: &Check| check.status() == Status::Down;
        !self.checks.iter().any(is_down)
    }

    /// What the instance itself says, whatever it depends on.
    fn is_available(&self) -> bool {
        self.warmup == Warmup::Complete && !self.draining && !self.stuck
    }

    /// Remembers that it has started. Adding a check does not look, so that a registry can be
    /// filled one by one.
    fn look(&mut self) {
        self.started = self.started || self.starts_now();
    }

    fn starts_now(&self) -> bool {
        let mut critical = self.checks.iter().filter(|check| check.is_critical());
        self.warmup == Warmup::Complete && critical.all(|check| check.last().is_some())
    }
}

impl Warmup {
    /// A stable name for logs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Warmup::Running => "running",
            Warmup::Complete => "complete",
        }
    }
}

/// Lines of the documents that are no checks.
const RESERVED: [&str; 3] = ["warmup", "drain", "runtime"];

/// Every document names all checks, so a registry is a page and not a database.
const MOST_CHECKS: usize = 256;
