//! Going on with sagas that no runner goes on with: what the last process has left, and what others leave.
//!
//! They are taken a page at a time and go on at a bounded pace. Those whose definition is not here are left
//! as they are, and told with the first of their ids.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Runner;
use crate::store::{Known, Listed, State, Store, StoreError};

/// What came of going on after a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// So many go on.
    pub sagas: usize,
    /// Those whose definition is not there any more, or is another one now, by their definitions: they
    /// wait for these.
    pub blocked: Vec<Blocked>,
}

/// Sagas of one definition that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Which it is.
    pub definition: Known,
    /// How many there are.
    pub sagas: u64,
    /// The ids of the first of them, 20 at most.
    pub first: Vec<String>,
}

impl<S: Store> Runner<S> {
    /// Goes on with all that had not ended when the last process did, and that no other runner goes on
    /// with. Call it once, at the start; it returns when all of them go on, and those that cannot are
    /// counted. The first go on before the others are looked at.
    ///
    /// # Errors
    /// If the store fails, or the log of a saga cannot be; the others go on all the same.
    pub async fn resume(&self) -> Result<Resumed, StoreError> {
        self.know_pauses().await?;
        let mut sagas = 0;
        let (claimed, blocked) = tokio::join!(self.claim(&mut sagas), self.blocked());
        claimed?;
        Ok(Resumed {
            sagas,
            blocked: blocked?,
        })
    }

    /// Goes on with what other runners on the same store leave, when they end or stand still, and heeds
    /// what they say of pauses. It never returns: give it a task of its own. `tell` hears how many sagas were taken, or what failed; it
    /// is tried again then.
    pub async fn take_over(&self, mut tell: impl FnMut(Result<usize, StoreError>)) {
        loop {
            self.inner.store.freed().await;
            let mut taken = 0;
            let claimed = match self.look_at_pauses().await {
                Ok(()) => self.claim(&mut taken).await,
                Err(error) => Err(error),
            };
            if taken > 0 {
                tell(Ok(taken));
            }
            if let Err(error) = claimed {
                tell(Err(error));
            }
        }
    }

    /// Those that have not ended and whose definition is not here.
    async fn blocked(&self) -> Result<Vec<Blocked>, StoreError> {
        let mut blocked = Vec::new();
        for state in [State::Open, State::Waiting] {
            let mut after = 0;
            loop {
                let page = self.inner.store.list(Some(state), after, PAGE).await?;
                let Some(last) = page.last() else {
                    break;
                };
                after = last.place;
                for listed in page {
                    if self.flow_of(&listed).is_none() {
                        count_blocked(&mut blocked, listed);
                    }
                }
                // What goes on comes first: a file is read without ever waiting.
                tokio::task::yield_now().await;
            }
        }
        Ok(blocked)
    }

    /// Takes what is free and goes on with it, at a bounded pace.
    async fn claim(&self, taken: &mut usize) -> Result<(), StoreError> {
        let inner = &self.inner;
        let known = inner.flows.values().map(|flow| Known {
            definition: flow.definition.name().to_owned(),
            version: flow.definition.version(),
            hash: flow.hash.clone(),
        });
        let known: Vec<Known> = known.collect();
        let (mut after, mut corrupt) = (0, Ok(()));
        loop {
            let most = inner.seats.available_permits().clamp(1, PAGE);
            let page = inner.store.claim(&known, after, most).await?;
            let Some(last) = page.last() else {
                return corrupt;
            };
            after = last.place;
            let next = Instant::now() + self.time_for(page.len());
            let mut page = page.iter();
            while let Some(listed) = page.next() {
                match self.resume_one(listed).await {
                    Ok(goes_on) => *taken += usize::from(goes_on),
                    // It stays here, so that nobody tries again and again.
                    Err(error @ StoreError::Corrupt(_)) => corrupt = Err(error),
                    Err(error) => {
                        for listed in std::iter::once(listed).chain(page) {
                            inner.store.release(&listed.id).await;
                        }
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep_until(next).await;
        }
    }

    fn time_for(&self, sagas: usize) -> Duration {
        let pace = self.inner.limits.resumed_a_second.get();
        Duration::from_secs_f64(sagas as f64 / pace as f64)
    }

    /// Whether it goes on.
    async fn resume_one(&self, listed: &Listed) -> Result<bool, StoreError> {
        let inner = &self.inner;
        if self.running().contains_key(&listed.id) {
            return Ok(false);
        }
        let Some(flow) = self.flow_of(listed) else {
            return Ok(false);
        };
        let seats = Arc::clone(&inner.seats);
        let seat = seats.acquire_owned().await.expect("it is never closed");
        let log = inner.store.log(&listed.id).await?;
        let saga = self.replay(&listed.id, &flow, &log);
        let mut saga =
            saga.map_err(|error| StoreError::Corrupt(format!("{}: {error}", listed.id)))?;
        if saga.is_at_rest() {
            return Ok(false);
        }
        flow.adopt(&mut saga);
        flow.tally.resumed.fetch_add(1, Ordering::Relaxed);
        let events = saga.recover(inner.clock.now());
        self.drive(saga, flow, (Vec::new(), events), seat, None);
        Ok(true)
    }
}

fn count_blocked(blocked: &mut Vec<Blocked>, listed: Listed) {
    let definition = Known {
        definition: listed.definition,
        version: listed.version,
        hash: listed.hash,
    };
    let known = blocked.iter().position(|one| one.definition == definition);
    let known = known.unwrap_or_else(|| {
        blocked.push(Blocked {
            definition,
            sagas: 0,
            first: Vec::new(),
        });
        blocked.len() - 1
    });
    let one = &mut blocked[known];
    one.sagas += 1;
    if one.first.len() < MOST_NAMED {
        one.first.push(listed.id);
    }
}

const PAGE: usize = 256;
/// Of sagas that are blocked; the others are counted.
const MOST_NAMED: usize = 20;
