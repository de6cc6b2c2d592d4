//! Sagas in a world: the machine that production runs, on a store in memory and in virtual time.
//!
//! A step is a call through an upstream's policies, as in the gateway: it may be retried by them, and
//! whether its work was done is not known if an attempt of it got no answer. Services keep a ledger by
//! the keys of steps. The runner may end at any time, or at any transition: what is in memory is lost
//! then, with its calls and the state of its policies, and it goes on from the log when it is back.
//!
//! What must hold for any definition, any luck and any crash is looked at in every run, not only in
//! tests: see [`SagasReport::broken`].

mod laws;
mod ledger;
mod report;

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use outlast_saga::Definition;

pub(crate) use self::laws::{AtRest, broken_at_rest, broken_in_the_end, has_record};
pub(crate) use self::ledger::{Ledger, Mark, Work};
pub use self::report::{SagaReport, SagaSecond, SagasReport, StepReport};
use crate::UpstreamId;
use crate::client::Load;
use crate::curve::Curve;
use crate::law::Law;

/// Sagas of one definition: through which upstreams their steps go, and how often they begin.
#[derive(Clone, Debug)]
pub struct Sagas {
    pub(crate) definition: Arc<Definition>,
    /// By its steps, and by [`Work`].
    pub(crate) through: Vec<[usize; 3]>,
    pub(crate) load: Load,
    pub(crate) cancels: f64,
    pub(crate) cancels_after: Law,
}

impl Sagas {
    /// Begins sagas at random, independently of each other (a Poisson process), so many a second. The
    /// upstreams are those of its steps, in their order, of what undoes them and of what asks about them.
    ///
    /// # Panics
    /// If the definition cannot work, or has not as many steps.
    pub fn open(definition: Definition, upstreams: &[UpstreamId], rate: Curve) -> Sagas {
        Sagas::new(definition, upstreams, Load::Open(rate))
    }

    /// As [`Sagas::open`], but begins one at each of these intervals.
    ///
    /// # Panics
    /// As [`Sagas::open`].
    pub fn steady(definition: Definition, upstreams: &[UpstreamId], interval: Duration) -> Sagas {
        Sagas::new(definition, upstreams, Load::Steady(interval))
    }

    fn new(definition: Definition, upstreams: &[UpstreamId], load: Load) -> Sagas {
        if let Err(error) = definition.check() {
            panic!("a definition that can work: {error}");
        }
        let steps = definition.steps().count();
        assert_eq!(steps, upstreams.len(), "an upstream for each step");
        Sagas {
            through: upstreams.iter().map(|one| [one.0; 3]).collect(),
            definition: Arc::new(definition),
            load,
            cancels: 0.0,
            cancels_after: Law::fixed(Duration::ZERO),
        }
    }

    /// What undoes a step goes through this upstream. Default: that of the step.
    ///
    /// # Panics
    /// If there is no such step.
    pub fn undone_through(self, step: &str, upstream: UpstreamId) -> Sagas {
        self.through(step, Work::Undo, upstream)
    }

    /// Whoever is asked whether a step was done is asked through this upstream. Default: that of the step.
    /// It matters to steps that ask.
    ///
    /// # Panics
    /// If there is no such step.
    pub fn asked_through(self, step: &str, upstream: UpstreamId) -> Sagas {
        self.through(step, Work::Query, upstream)
    }

    fn through(mut self, step: &str, work: Work, upstream: UpstreamId) -> Sagas {
        let is_it = |known: &outlast_saga::Step| known.name() == step;
        let found = self.definition.steps().position(is_it);
        self.through[found.expect("a step of the definition")][work as usize] = upstream.0;
        self
    }

    /// A share of them is cancelled, so long after they began; those that have ended or are behind
    /// their pivot then are not. Default: none.
    pub fn cancels(mut self, share: f64, after: Law) -> Sagas {
        (self.cancels, self.cancels_after) = (share.clamp(0.0, 1.0), after);
        self
    }

    pub(crate) fn upstreams(&self) -> impl Iterator<Item = usize> {
        self.through.iter().flatten().copied()
    }
}

/// The process that goes on with sagas. Its upstreams are those of the steps: its own, as they begin
/// anew when it does.
#[derive(Clone, Debug)]
pub struct Runner {
    pub(crate) running: NonZeroUsize,
    pub(crate) resumed_a_second: NonZeroUsize,
    pub(crate) records: NonZeroU64,
    pub(crate) restart: Duration,
    pub(crate) crashes: f64,
    pub(crate) crashes_every: Option<u64>,
    pub(crate) hands: Option<Duration>,
}

impl Default for Runner {
    fn default() -> Runner {
        Runner::new()
    }
}

impl Runner {
    /// Goes on with up to 10,000 sagas at once and 20,000 a second after a crash, whose logs have up to
    /// 1,000 records each way, is back after a second, and does not crash.
    pub fn new() -> Runner {
        let count = |count| NonZeroUsize::new(count).expect("it is not zero");
        Runner {
            running: count(10_000),
            resumed_a_second: count(20_000),
            records: NonZeroU64::new(1000).expect("it is not zero"),
            restart: Duration::from_secs(1),
            crashes: 0.0,
            crashes_every: None,
            hands: None,
        }
    }

    /// Sagas in flight at once; more are not begun. Default 10,000.
    pub fn running(mut self, most: NonZeroUsize) -> Runner {
        self.running = most;
        self
    }

    /// Sagas a second with which it goes on after a crash, and after a pause. Default 20,000.
    pub fn resumed_a_second(mut self, pace: NonZeroUsize) -> Runner {
        self.resumed_a_second = pace;
        self
    }

    /// Records of a saga's log on its way forward, and as many again on its way back; a saga that needs
    /// more waits for somebody. Default 1,000.
    pub fn records(mut self, most: NonZeroU64) -> Runner {
        self.records = most;
        self
    }

    /// How long it is away after a crash at a transition. Default 1 s.
    pub fn restart(mut self, takes: Duration) -> Runner {
        self.restart = takes;
        self
    }

    /// The share of instants at which it crashes; each transition has two, before its record is written
    /// and when it is, before anything is done about it. At most a half. Default: none.
    pub fn crashes(mut self, share: f64) -> Runner {
        self.crashes = share.clamp(0.0, 0.5);
        self
    }

    /// It crashes after so many of those instants, again and again; at least 2. Default: never.
    pub fn crashes_every(mut self, instants: u64) -> Runner {
        self.crashes_every = Some(instants.max(2));
        self
    }

    /// Whatever waits for somebody is tried again by somebody, so long after, as long as its log has room.
    /// Default: never.
    pub fn hands(mut self, after: Duration) -> Runner {
        self.hands = Some(after);
        self
    }
}
