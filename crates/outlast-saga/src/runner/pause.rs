//! Pausing a definition: nothing of it begins until somebody lets it go on.
//!
//! A pause is on the disk before it holds, and holds for all runners on the store: those that call
//! [`Runner::take_over`] look when they are told, and from time to time anyway. Attempts that run end and
//! are recorded; what has to be undone is undone; deadlines go on, so that nobody waits for longer than
//! was promised. Sagas that are started meanwhile begin, are kept, and wait.

use std::sync::Arc;

use super::served::{Served, is_paused};
use super::tally::{Done, Durations};
use super::{ControlError, Runner};
use crate::bounds::Left;
use crate::machine::Illegal;
use crate::store::{Pause, Store, StoreError};

/// A definition as a runner has it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Overview {
    /// Its name.
    pub name: String,
    /// Its versions with their hashes, the newest last.
    pub versions: Vec<(u32, String)>,
    /// The last word on whether it goes on, if there was one.
    pub pause: Option<Pause>,
    /// What its sagas did here.
    pub done: Done,
    /// What is left of the bounds of the newest version's steps, in their order.
    pub left: Vec<(String, Left)>,
}

impl Overview {
    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        is_paused(&self.pause)
    }
}

impl<S: Store> Runner<S> {
    /// Pauses a definition, in all its versions: no attempt of a step begins any more but those that undo.
    /// It holds when this returns, also after a restart; other runners on the store heed it when they
    /// have looked. To pause what is paused says who and why anew.
    ///
    /// # Errors
    /// If there is no such definition, nobody or no reason is named, or the store fails.
    pub async fn pause(&self, name: &str, by: &str, reason: &str) -> Result<(), ControlError> {
        self.say(name, true, by, reason).await
    }

    /// Lets a definition go on that was paused, at the pace of
    /// [`Limits::resumed_a_second`](super::Limits::resumed_a_second).
    ///
    /// # Errors
    /// As [`Runner::pause`], and if it is not paused.
    pub async fn unpause(&self, name: &str, by: &str, reason: &str) -> Result<(), ControlError> {
        self.say(name, false, by, reason).await
    }

    /// This process is about to end: no attempt of a step begins any more but those that undo, in all
    /// definitions. What runs ends and is recorded; the next process goes on with it. It is not on the disk.
    pub fn hold(&self) {
        for gate in self.inner.gates.values() {
            gate.hold();
        }
    }

    async fn say(
        &self,
        name: &str,
        pause: bool,
        by: &str,
        reason: &str,
    ) -> Result<(), ControlError> {
        let inner = &self.inner;
        let Some(gate) = inner.gates.get(name) else {
            let known = inner.gates.keys().cloned().collect();
            return Err(ControlError::NoDefinition { known });
        };
        let is_named = |text: &str, most| !text.trim().is_empty() && text.len() <= most;
        if !is_named(by, MOST_BY) || !is_named(reason, MOST_REASON) {
            let message = format!(
                "say who does it, in up to {MOST_BY} bytes, and why, in up to {MOST_REASON}"
            );
            return Err(ControlError::Illegal(Illegal(message)));
        }
        self.know_pauses().await.map_err(ControlError::Store)?;
        let _alone = inner.words.lock().await;
        // Somebody else may have had the last word just now.
        self.hear_words().await.map_err(ControlError::Store)?;
        if !pause && !is_paused(&gate.word()) {
            let message = "it is not paused".to_owned();
            return Err(ControlError::Illegal(Illegal(message)));
        }
        let word = Pause {
            definition: name.to_owned(),
            is_paused: pause,
            by: by.to_owned(),
            reason: reason.to_owned(),
            at: inner.clock.now(),
        };
        let kept = inner.store.pause(word.clone()).await;
        kept.map_err(ControlError::Store)?;
        gate.hear(Some(word));
        Ok(())
    }

    /// Looks at what the store says of pauses, if nobody has yet.
    pub(super) async fn know_pauses(&self) -> Result<(), StoreError> {
        let known = &self.inner.knows_words;
        known.get_or_try_init(|| self.look_at_pauses()).await?;
        Ok(())
    }

    /// Looks at what the store says of pauses.
    pub(super) async fn look_at_pauses(&self) -> Result<(), StoreError> {
        let _alone = self.inner.words.lock().await;
        self.hear_words().await
    }

    async fn hear_words(&self) -> Result<(), StoreError> {
        let words = self.inner.store.pauses().await?;
        for (name, gate) in &self.inner.gates {
            let word = words.iter().find(|word| word.definition == *name);
            gate.hear(word.cloned());
        }
        Ok(())
    }

    /// All definitions in the order of their names.
    ///
    /// # Errors
    /// If the store fails, and it is not known yet which are paused.
    pub async fn definitions(&self) -> Result<Vec<Overview>, StoreError> {
        self.know_pauses().await?;
        Ok(self.overview())
    }

    /// The same, with pauses as far as they are known.
    pub fn overview(&self) -> Vec<Overview> {
        let inner = &self.inner;
        let served = inner.gates.iter().map(|(name, gate)| {
            let of_name = |served: &&Arc<Served>| served.definition.name() == name;
            let mut all: Vec<_> = inner.flows.values().filter(of_name).collect();
            all.sort_by_key(|served| served.definition.version());
            let newest = all.last().expect("a name has a version");
            let now = inner.clock.now();
            let steps = newest.definition.steps().enumerate();
            let left = steps.map(|(at, step)| {
                let left = newest.bounds.left(at, now);
                (step.name().to_owned(), left)
            });
            Overview {
                name: name.clone(),
                versions: all
                    .iter()
                    .map(|served| (served.definition.version(), served.hash.clone()))
                    .collect(),
                pause: gate.word(),
                done: newest.tally.done(),
                left: left.collect(),
            }
        });
        served.collect()
    }

    /// How long records took to be on the disk, since the process began.
    pub fn writes(&self) -> Durations {
        self.inner.writes.read()
    }
}

const MOST_BY: usize = 200;
const MOST_REASON: usize = 2000;
