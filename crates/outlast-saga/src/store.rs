//! Where logs are kept.
//!
//! A store does one thing: it puts records on the disk, each at its place in its saga's log, and says
//! when they are there. It knows nothing of what they mean but for what is looked for: which sagas
//! have not ended, and which need somebody.

mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "runner")]
pub mod sqlite;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::event::{Outcome, Record, Stamp};
use crate::machine::{Phase, Saga};

pub use self::memory::Memory;

/// A saga as it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSaga {
    /// Its id, chosen by whoever begins it: the key of idempotent starts.
    pub id: String,
    /// The name of its definition.
    pub definition: String,
    /// The version of that.
    pub version: u32,
    /// The hash of that.
    pub hash: String,
    /// The hash of its input.
    pub input_hash: String,
    /// Its first record.
    pub record: Record,
    /// Where it is then.
    pub state: State,
}

/// What came of a beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It has begun.
    New,
    /// It had begun before, with the same input.
    Same,
    /// Another one has this id: with another input, or of another definition.
    Other,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It goes on or back by itself.
    Open,
    /// Somebody has to look.
    Waiting,
    /// Everything was done.
    Completed,
    /// Everything that was done is undone.
    Compensated,
}

impl State {
    /// A stable snake_case name.
    pub const fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Waiting => "waiting",
            State::Completed => "completed",
            State::Compensated => "compensated",
        }
    }

    /// Whether nothing happens to it any more.
    pub const fn has_ended(self) -> bool {
        match self {
            State::Completed | State::Compensated => true,
            State::Open | State::Waiting => false,
        }
    }

    #[cfg(feature = "runner")]
    pub(crate) const fn number(self) -> i64 {
        match self {
            State::Open => 0,
            State::Waiting => 1,
            State::Completed => 20,
            State::Compensated => 21,
        }
    }

    #[cfg(feature = "runner")]
    pub(crate) fn of(number: i64) -> Option<State> {
        let all = [
            State::Open,
            State::Waiting,
            State::Completed,
            State::Compensated,
        ];
        all.into_iter().find(|state| state.number() == number)
    }
}

impl From<&Saga> for State {
    fn from(saga: &Saga) -> State {
        match saga.phase() {
            Phase::Ended(Outcome::Completed) => State::Completed,
            Phase::Ended(Outcome::Compensated) => State::Compensated,
            Phase::New | Phase::Forward | Phase::Back(_) if saga.is_at_rest() => State::Waiting,
            Phase::New | Phase::Forward | Phase::Back(_) => State::Open,
        }
    }
}

/// A saga in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its place in the list: lists go on behind it.
    pub place: i64,
    /// The name of its definition.
    pub definition: String,
    /// The version of that.
    pub version: u32,
    /// The hash of that.
    pub hash: String,
    /// The hash of its input.
    pub input_hash: String,
    /// Where it is.
    pub state: State,
    /// When it began.
    pub began: Stamp,
    /// When it ended, if it has and that is known.
    pub ended: Option<Stamp>,
    /// Whether its log is there: [`Store::compact`] drops those of sagas that ended.
    pub has_log: bool,
}

/// A definition that a runner has: it goes on with the sagas of these and of no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub definition: String,
    /// Its version.
    pub version: u32,
    /// Its hash.
    pub hash: String,
}

/// The last word on whether sagas of a definition go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The name of the definition.
    pub definition: String,
    /// Whether it is paused; it was, if not.
    pub is_paused: bool,
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Stamp,
}

/// How many sagas of one version have not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The name of their definition.
    pub definition: String,
    /// The version of that.
    pub version: u32,
    /// Where they are.
    pub state: State,
    /// How many.
    pub sagas: u64,
}

/// Where logs are kept. Everything is bounded by whoever calls: lists by their `most`.
///
/// A store that several runners write to at once also says whose a saga is: [`Store::claim`],
/// [`Store::take`], [`Store::release`], [`Store::ready`], [`Store::freed`] and [`Store::runner_of`].
/// Without them everything is the one runner's.
pub trait Store: Send + Sync + 'static {
    /// What time it is by the clock that records go by: the machine's, or one that all runners share.
    /// It is asked once, when a runner is made.
    fn time(&self) -> Stamp {
        wall()
    }

    /// Puts the first record of a saga there.
    fn begin(&self, saga: NewSaga) -> impl Future<Output = Result<Begun, StoreError>> + Send;

    /// Puts the next record of a saga there. It is an error if its log is not that long.
    fn append(
        &self,
        id: &str,
        record: Record,
        state: State,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The log of a saga; empty if there is none.
    fn log(&self, id: &str) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send;

    /// Records of a saga from a place of its log on, `most` of them. By default these are read with all
    /// that are before them.
    fn log_from(
        &self,
        id: &str,
        seq: u64,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send {
        async move {
            let log = self.log(id).await?;
            let behind = log.into_iter().filter(|record| record.seq >= seq);
            Ok(behind.take(most).collect())
        }
    }

    /// One saga.
    fn find(&self, id: &str) -> impl Future<Output = Result<Option<Listed>, StoreError>> + Send;

    /// Sagas behind a place, in the order in which they began; in one state, or in any.
    fn list(
        &self,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Listed>, StoreError>> + Send;

    /// How many have not ended, by definition, version and state. By default they are listed and counted.
    fn count(&self) -> impl Future<Output = Result<Vec<Count>, StoreError>> + Send {
        async {
            let mut counts = Vec::new();
            for state in [State::Open, State::Waiting] {
                count_one(self, state, &mut counts).await?;
            }
            Ok(counts)
        }
    }

    /// Keeps the last word on whether sagas of a definition go on, and tells other runners. By default a
    /// store keeps none, and says so.
    fn pause(&self, pause: Pause) -> impl Future<Output = Result<(), StoreError>> + Send {
        let _ = pause;
        let message = "it keeps no pauses: stop its runners instead";
        async move { Err(StoreError::Failed(message.to_owned())) }
    }

    /// The last word on each definition of which there was one, in the order of their names.
    fn pauses(&self) -> impl Future<Output = Result<Vec<Pause>, StoreError>> + Send {
        async { Ok(Vec::new()) }
    }

    /// Deletes sagas that ended before a time, with their logs; how many. Their ids are free then.
    fn forget(
        &self,
        before: Stamp,
        most: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Drops the logs of sagas that ended before a time, with inputs and outputs; of how many. The sagas
    /// stay in lists, and starts of the same ids begin nothing. By default none is dropped: logs are kept
    /// as long as their sagas.
    fn compact(
        &self,
        before: Stamp,
        most: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send {
        let _ = (before, most);
        async { Ok(0) }
    }

    /// Takes open sagas behind a place that no runner goes on with, in the order of their places. Those
    /// of definitions that are not `known` may be left out. By default these are all that are open.
    fn claim(
        &self,
        known: &[Known],
        after: i64,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Listed>, StoreError>> + Send {
        let _ = known;
        self.list(Some(State::Open), after, most)
    }

    /// Takes one saga that has not ended; `false` if another runner goes on with it.
    fn take(&self, id: &str) -> impl Future<Output = Result<bool, StoreError>> + Send {
        let _ = id;
        async { Ok(true) }
    }

    /// Nothing goes on with a saga here any more. It is another runner's, or this one's again.
    fn release(&self, id: &str) -> impl Future<Output = ()> + Send {
        let _ = id;
        async {}
    }

    /// Waits until something may be done in the world for a saga whose log has this length.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if another runner may go on with it.
    fn ready(&self, id: &str, length: u64) -> impl Future<Output = Result<(), StoreError>> + Send {
        let _ = (id, length);
        async { Ok(()) }
    }

    /// Waits until there may be something to claim, or a definition was paused elsewhere: for ever, unless
    /// runners come and go.
    fn freed(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// What the runner is called that goes on with a saga; `None` if there is none, or none is known.
    fn runner_of(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Option<String>, StoreError>> + Send {
        let _ = id;
        async { Ok(None) }
    }
}

/// The machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "runners and queues read the clock for what they keep"
)]
pub(crate) fn wall() -> Stamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Stamp(since.as_millis() as u64)
}

/// Counts all sagas of a state.
async fn count_one<S: Store + ?Sized>(
    store: &S,
    state: State,
    counts: &mut Vec<Count>,
) -> Result<(), StoreError> {
    let mut after = 0;
    loop {
        let page = store.list(Some(state), after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.place;
        for listed in page {
            let is_it = |count: &&mut Count| {
                let same = count.definition == listed.definition && count.state == state;
                same && count.version == listed.version
            };
            match counts.iter_mut().find(is_it) {
                Some(count) => count.sagas += 1,
                None => counts.push(Count {
                    definition: listed.definition,
                    version: listed.version,
                    state,
                    sagas: 1,
                }),
            }
        }
    }
}

const PAGE: usize = 1000;

/// A record as tables keep it.
#[cfg(feature = "runner")]
fn read_record(id: &str, seq: i64, at: i64, events: &str) -> Result<Record, StoreError> {
    let events = serde_json::from_str(events);
    let damaged = |error| StoreError::Corrupt(format!("record {seq} of {id}: {error}"));
    Ok(Record {
        seq: seq as u64,
        at: Stamp(at as u64),
        events: events.map_err(damaged)?,
    })
}

/// Why a store could not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no room. Nothing is lost: it works again when there is.
    Full(String),
    /// The log of this saga is not as long as it was taken to be: somebody else writes it.
    Conflict {
        /// The saga.
        id: String,
    },
    /// Another runner goes on with this saga, or may: this one was not heard of for too long.
    Lost {
        /// The saga.
        id: String,
    },
    /// The file is not what it should be.
    Corrupt(String),
    /// Something else, which may pass.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Full(what) => {
                write!(f, "the store is full: {what}; make room and it goes on")
            }
            StoreError::Conflict { id } => {
                write!(f, "somebody else has written to the log of {id}")
            }
            StoreError::Lost { id } => write!(f, "another runner has taken {id} over"),
            StoreError::Corrupt(what) => write!(
                f,
                "the store is damaged: {what}; put a copy back, or move the file away to begin anew"
            ),
            StoreError::Failed(what) => write!(f, "the store failed: {what}"),
        }
    }
}

impl std::error::Error for StoreError {}
