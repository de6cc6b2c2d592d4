//! What a runner goes on with: a definition, the code of its steps, and what its sagas share.

use std::sync::Arc;

use outlast_core::rate::{self, Rate};
use outlast_core::time::Time;
use tokio::sync::watch;

use super::tally::{OfStep, Tally};
use super::{DefinitionError, Duration, Limits, Stamp};
use crate::bounds::Bounds;
use crate::definition::Definition;
use crate::flow::{Code, Flow};
use crate::machine::Saga;
use crate::store::Pause;

/// One version of a definition.
pub(crate) struct Served {
    pub(crate) definition: Arc<Definition>,
    pub(crate) hash: String,
    pub(crate) codes: Vec<Code>,
    pub(crate) bounds: Arc<Bounds>,
    /// Of all versions.
    pub(super) gate: Arc<Gate>,
    /// Of all versions.
    pub(super) tally: Arc<Tally>,
    /// Of steps of the same name in all versions.
    pub(super) steps: Vec<Arc<OfStep>>,
}

impl Served {
    /// A flow that can work.
    pub(super) fn new(
        flow: Flow,
        gate: Arc<Gate>,
        tally: Arc<Tally>,
    ) -> Result<Served, DefinitionError> {
        flow.check()?;
        let steps = flow.definition.steps();
        let steps = steps.map(|step| tally.step(step.name())).collect();
        Ok(Served {
            hash: flow.definition.hash(),
            bounds: Arc::new(Bounds::of(&flow.definition)?),
            definition: flow.definition,
            codes: flow.codes,
            gate,
            tally,
            steps,
        })
    }

    /// A saga that goes on here shares what there is to share.
    pub(super) fn adopt(&self, saga: &mut Saga) {
        saga.share(Arc::clone(&self.bounds));
        saga.pause(self.gate.is_closed());
    }
}

/// Whether sagas of a definition go on.
#[derive(Debug)]
pub(super) struct Gate {
    word: watch::Sender<Word>,
    /// In which those that waited go on.
    turns: Rate,
}

/// What was said of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Word {
    /// The last one on the disk, if there was one.
    pause: Option<Pause>,
    /// This process ends, and begins nothing any more.
    is_held: bool,
}

impl Word {
    /// Whether nothing begins.
    pub(super) fn closes(&self) -> bool {
        self.is_held || is_paused(&self.pause)
    }
}

impl Gate {
    pub(super) fn new(limits: &Limits) -> Gate {
        let a_second = u32::try_from(limits.resumed_a_second.get()).unwrap_or(MOST);
        let turns = rate::Config::new(a_second.min(MOST), Duration::from_secs(1));
        let turns = turns.burst(1).wait(LONGEST);
        Gate {
            word: watch::Sender::default(),
            turns: Rate::new(turns).expect("such a rate works"),
        }
    }

    pub(super) fn word(&self) -> Option<Pause> {
        self.word.borrow().pause.clone()
    }

    /// Tells the sagas, if it is news.
    pub(super) fn hear(&self, pause: Option<Pause>) {
        self.word.send_if_modified(|known| {
            let is_news = known.pause != pause;
            known.pause = pause;
            is_news
        });
    }

    /// Tells the sagas that this process ends.
    pub(super) fn hold(&self) {
        self.word.send_modify(|known| known.is_held = true);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.word.borrow().closes()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Word> {
        self.word.subscribe()
    }

    /// How long a saga that waited has to wait for its turn.
    pub(super) fn turn(&self, now: Stamp) -> Duration {
        let turn = self.turns.admit(Time::from_millis(now.0));
        turn.unwrap_or(LONGEST)
    }
}

pub(super) fn is_paused(word: &Option<Pause>) -> bool {
    word.as_ref().is_some_and(|word| word.is_paused)
}

/// More would be no bound.
const MOST: u32 = 1_000_000;
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
