//! The one task that writes.

mod batch;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::oneshot::Sender;
use tokio::time::Instant;

use super::super::{Begun, Known, Listed, NewSaga, Pause, State, StoreError};
use super::lease::Lease;
use super::link::{Failure, Link};
use super::{LONGEST_WAIT, PATIENCE, SHORTEST_WAIT, statements};
use crate::event::{Record, Stamp};

/// What is to be written, and who is told.
pub(super) enum Work {
    Begin(Box<NewSaga>, Told<Begun>),
    Append(String, Record, State, Told<()>),
    Forget(Stamp, usize, Told<usize>),
    Compact(Stamp, usize, Told<usize>),
    Claim(Vec<Known>, i64, usize, Told<Vec<Listed>>),
    Take(String, Told<bool>),
    Release(String, Told<()>),
    Pause(Box<Pause>, Told<()>),
    Leave(Told<()>),
}

type Told<T> = Sender<Result<T, StoreError>>;

/// What came of a piece of work that was committed.
#[derive(Clone, Debug)]
enum Came {
    Begun(Begun),
    /// Of an append, a release, a pause, and a leave.
    Done,
    /// Nothing was written: the log has another length.
    Conflict,
    /// Nothing was written: it is somebody else's.
    Lost,
    /// Nothing was written, and nothing is begun here any more.
    Left,
    Forgotten(usize),
    Claimed(Vec<Listed>),
    Taken(bool),
}

pub(super) struct Writer {
    queue: mpsc::Sender<Work>,
}

impl Writer {
    /// Starts the task. It ends, and leaves, when nobody can give it work any more.
    #[expect(clippy::disallowed_methods, reason = "the writer is a task")]
    pub(super) fn start(link: Link, lease: Arc<Lease>) -> Writer {
        let (queue, work) = mpsc::channel(MOST_QUEUED);
        let task = Task {
            link,
            lease,
            work,
            later: VecDeque::new(),
            expected: 0,
            sync: Duration::ZERO,
            is_unsure: false,
        };
        tokio::spawn(task.run());
        Writer { queue }
    }

    /// Waits for a place in the queue.
    pub(super) async fn take(&self, work: Work) -> Result<(), StoreError> {
        let sent = self.queue.send(work).await;
        sent.map_err(|_| StoreError::Failed("its writer has ended".to_owned()))
    }
}

struct Task {
    link: Link,
    lease: Arc<Lease>,
    work: mpsc::Receiver<Work>,
    /// What came while something of the same saga was in the batch.
    later: VecDeque<Work>,
    /// How many come back with their next record soon.
    expected: usize,
    /// How long the last commit took.
    sync: Duration,
    /// There may be sagas of this runner that it does not know of: nobody heard what came of it.
    is_unsure: bool,
}

impl Task {
    async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            let (together, alone): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(Work::goes_together);
            if !together.is_empty() {
                self.expected = together.len();
                self.write(together).await;
            }
            for work in alone {
                self.write(vec![work]).await;
            }
        }
        if !self.lease.has_left() {
            // If it fails its lease ends.
            let _ = self.leave().await;
        }
    }

    /// All that waits, and, if some are expected, what comes within a part of a commit; of each saga
    /// only the first.
    async fn gather(&mut self) -> Option<Vec<Work>> {
        let mut sagas = HashSet::new();
        let mut batch = Vec::new();
        for work in std::mem::take(&mut self.later) {
            self.sort(work, &mut batch, &mut sagas);
        }
        if batch.is_empty() {
            let work = self.work.recv().await?;
            self.sort(work, &mut batch, &mut sagas);
        }
        let until = Instant::now() + (self.sync / LINGER).min(LONGEST_LINGER);
        while batch.len() < MOST_AT_ONCE && self.later.len() < MOST_AT_ONCE {
            match self.work.try_recv() {
                Ok(work) => self.sort(work, &mut batch, &mut sagas),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    if batch.len() >= self.expected || Instant::now() >= until {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
        Some(batch)
    }

    fn sort(&mut self, work: Work, batch: &mut Vec<Work>, sagas: &mut HashSet<String>) {
        match work.saga() {
            Some(id) if !sagas.insert(id.to_owned()) => self.later.push_back(work),
            _ => batch.push(work),
        }
    }

    /// Writes all of it in one transaction. If that is refused, each in its own, so that what cannot be
    /// written holds up nothing else.
    async fn write(&mut self, batch: Vec<Work>) {
        let mut again = false;
        match self.insist(&batch, &mut again).await {
            Ok(came) => {
                for (work, came) in batch.into_iter().zip(came) {
                    self.tell(work, Ok(came));
                }
            }
            Err(Failure::Refused(_)) if batch.len() > 1 => {
                for work in batch {
                    let came = self.insist(std::slice::from_ref(&work), &mut again).await;
                    self.tell(work, came.map(|mut came| came.remove(0)));
                }
            }
            Err(failure) => {
                for work in batch {
                    self.tell(work, Err(failure.clone()));
                }
            }
        }
    }

    /// Writes it, and if the connection is cut once more, for a time. Nobody knows then whether it was
    /// written at first, so it is `again`.
    #[expect(
        clippy::disallowed_methods,
        reason = "a database that is away is asked again"
    )]
    async fn insist(&mut self, batch: &[Work], again: &mut bool) -> Result<Vec<Came>, Failure> {
        let end = Instant::now() + PATIENCE;
        let mut wait = SHORTEST_WAIT;
        loop {
            let before = Instant::now();
            let failure = match self.transact(batch, *again).await {
                Err(Failure::Refused(error)) => return Err(Failure::Refused(error)),
                Err(failure) => failure,
                Ok(came) => {
                    self.sync = before.elapsed();
                    return Ok(came);
                }
            };
            if let Failure::Cut(_) = failure {
                self.link.cut();
                *again = true;
            }
            if Instant::now() >= end {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn leave(&mut self) -> Result<(), Failure> {
        let runner = self.lease.runner();
        let open = self.link.open().await?;
        open.rows(statements::LEAVE, &[&runner]).await?;
        self.lease.left();
        Ok(())
    }

    /// Tells whoever waits. If nobody does, what this runner has got is nobody's.
    fn tell(&mut self, work: Work, came: Result<Came, Failure>) {
        if let Err(Failure::Cut(_)) = came {
            self.is_unsure = true;
        }
        let came = came.map_err(StoreError::from);
        let unheard = match (work, came) {
            (Work::Begin(saga, told), came) => {
                let begun = came.and_then(|came| match came {
                    Came::Begun(begun) => Ok(begun),
                    _ => Err(StoreError::Failed("this runner has left".to_owned())),
                });
                let is_new = begun == Ok(Begun::New);
                let unheard = told.send(begun).is_err() && is_new;
                Vec::from_iter(unheard.then_some(saga.id))
            }
            (Work::Append(id, _, _, told), came) => {
                drop(told.send(came.and_then(|came| match came {
                    Came::Conflict => Err(StoreError::Conflict { id }),
                    Came::Lost => Err(StoreError::Lost { id }),
                    _ => Ok(()),
                })));
                Vec::new()
            }
            (Work::Claim(_, _, _, told), Ok(Came::Claimed(claimed))) => {
                let unheard = told.send(Ok(claimed));
                let claimed = unheard.err().and_then(Result::ok).unwrap_or_default();
                claimed.into_iter().map(|listed| listed.id).collect()
            }
            (Work::Take(id, told), Ok(Came::Taken(taken))) => {
                let unheard = told.send(Ok(taken)).is_err() && taken;
                Vec::from_iter(unheard.then_some(id))
            }
            (Work::Forget(_, _, told) | Work::Compact(_, _, told), Ok(Came::Forgotten(count))) => {
                drop(told.send(Ok(count)));
                Vec::new()
            }
            (Work::Release(_, told) | Work::Pause(_, told) | Work::Leave(told), Ok(_)) => {
                drop(told.send(Ok(())));
                Vec::new()
            }
            (work, Err(error)) => return work.fail(error),
            (_, Ok(came)) => unreachable!("{came:?} comes of another kind of work"),
        };
        if !unheard.is_empty() {
            unheard.iter().for_each(|id| self.lease.let_go(id));
            self.is_unsure = true;
            self.lease.hear();
        }
    }
}

impl Work {
    /// One transaction carries many of its kind.
    fn goes_together(&self) -> bool {
        matches!(self, Work::Begin(..) | Work::Append(..))
    }

    fn saga(&self) -> Option<&str> {
        match self {
            Work::Begin(saga, _) => Some(&saga.id),
            Work::Append(id, ..) | Work::Take(id, _) | Work::Release(id, _) => Some(id),
            Work::Forget(..)
            | Work::Compact(..)
            | Work::Claim(..)
            | Work::Pause(..)
            | Work::Leave(_) => None,
        }
    }

    fn fail(self, error: StoreError) {
        match self {
            Work::Begin(_, told) => drop(told.send(Err(error))),
            Work::Append(_, _, _, told)
            | Work::Release(_, told)
            | Work::Pause(_, told)
            | Work::Leave(told) => drop(told.send(Err(error))),
            Work::Forget(_, _, told) | Work::Compact(_, _, told) => drop(told.send(Err(error))),
            Work::Claim(_, _, _, told) => drop(told.send(Err(error))),
            Work::Take(_, told) => drop(told.send(Err(error))),
        }
    }
}

const MOST_QUEUED: usize = 4096;
/// Records of one transaction.
const MOST_AT_ONCE: usize = 2000;
/// It lingers for this part of a commit.
const LINGER: u32 = 6;
const LONGEST_LINGER: Duration = Duration::from_micros(500);
