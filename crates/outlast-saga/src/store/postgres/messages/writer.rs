//! A task that writes messages.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::oneshot::Sender;
use tokio::time::Instant;

use super::super::lease::{Lease, Owned};
use super::super::link::{Failure, Link};
use super::super::{LONGEST_WAIT, PATIENCE, SHORTEST_WAIT};
use super::{Change, NewMessage, Put, Stamp, StoreError};

/// What is to be written, and who is told.
pub(super) enum Work {
    Put(Box<NewMessage>, Told<Put>),
    Change(String, Owned, i64, Change, Told<bool>),
    /// What somebody does about a dead letter.
    Hand(String, i64, Change, Told<bool>),
    Forget(String, Stamp, usize, Told<usize>),
    Own(String, Told<bool>),
    Disown(String, Owned),
}

type Told<T> = Sender<Result<T, StoreError>>;

/// What came of a piece of work that was committed.
#[derive(Debug)]
pub(super) enum Came {
    Put(Put),
    /// Of a change, a hand, and of owning.
    Is(bool),
    /// Nothing was written: another runner delivers the queue.
    Lost,
    Forgotten(usize),
    Done,
}

/// What goes into one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Put,
    Change(Owned),
}

/// What is there once in a batch.
#[derive(PartialEq, Eq, Hash)]
enum Name {
    Id(String, String),
    Place(i64),
}

pub(super) struct Writer {
    queue: mpsc::Sender<Work>,
    /// Queues that were given up; no more than there are.
    given_up: Arc<Mutex<Vec<Work>>>,
}

impl Writer {
    /// Starts the task. It ends when nobody can give it work any more.
    pub(super) fn start(link: Link, lease: Arc<Lease>, runtime: &Handle) -> Writer {
        let (queue, work) = mpsc::channel(MOST_QUEUED);
        let given_up = Arc::default();
        let task = Task {
            link,
            lease,
            work,
            given_up: Arc::clone(&given_up),
            later: VecDeque::new(),
        };
        runtime.spawn(task.run());
        Writer { queue, given_up }
    }

    /// Waits for a place in the queue.
    pub(super) async fn take(&self, work: Work) -> Result<(), StoreError> {
        let sent = self.queue.send(work).await;
        sent.map_err(|_| StoreError::Failed("its writer has ended".to_owned()))
    }

    /// Without waiting: it is done with what the task does next.
    pub(super) fn give_up(&self, work: Work) {
        let lock = self.given_up.lock();
        if let Err(mpsc::error::TrySendError::Full(work)) = self.queue.try_send(work) {
            lock.unwrap_or_else(PoisonError::into_inner).push(work);
        }
    }
}

pub(super) struct Task {
    pub(super) link: Link,
    pub(super) lease: Arc<Lease>,
    work: mpsc::Receiver<Work>,
    given_up: Arc<Mutex<Vec<Work>>>,
    /// What came while something of the same message was in the batch.
    later: VecDeque<Work>,
}

impl Task {
    async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            for group in sorted(batch) {
                self.write(group).await;
            }
        }
    }

    /// All that waits, up to a number and to a size; of each message only the first.
    async fn gather(&mut self) -> Option<Vec<Work>> {
        let (mut batch, mut names, mut bytes) = (Vec::new(), HashSet::new(), 0);
        let given_up = std::mem::take(&mut *self.given_up());
        let earlier = std::mem::take(&mut self.later);
        for work in given_up.into_iter().chain(earlier) {
            self.sort(work, &mut batch, &mut names, &mut bytes);
        }
        if batch.is_empty() {
            let work = self.work.recv().await?;
            self.sort(work, &mut batch, &mut names, &mut bytes);
        }
        while batch.len() < MOST_AT_ONCE && self.later.len() < MOST_AT_ONCE && bytes < MOST_BYTES {
            match self.work.try_recv() {
                Ok(work) => self.sort(work, &mut batch, &mut names, &mut bytes),
                Err(TryRecvError::Disconnected | TryRecvError::Empty) => break,
            }
        }
        Some(batch)
    }

    fn given_up(&self) -> std::sync::MutexGuard<'_, Vec<Work>> {
        let given_up = self.given_up.lock();
        given_up.unwrap_or_else(PoisonError::into_inner)
    }

    fn sort(
        &mut self,
        work: Work,
        batch: &mut Vec<Work>,
        names: &mut HashSet<Name>,
        bytes: &mut usize,
    ) {
        if work.name().is_some_and(|name| !names.insert(name)) {
            self.later.push_back(work);
            return;
        }
        *bytes += work.bytes();
        batch.push(work);
    }

    /// Writes a group in one transaction. If that is refused, each in its own, so that what cannot be
    /// written holds up nothing else.
    async fn write(&mut self, group: Vec<Work>) {
        let mut again = false;
        match self.insist(&group, &mut again).await {
            Ok(came) => {
                for (work, came) in group.into_iter().zip(came) {
                    work.tell(came);
                }
            }
            Err(Failure::Refused(_)) if group.len() > 1 => {
                for work in group {
                    match self.insist(std::slice::from_ref(&work), &mut again).await {
                        Ok(mut came) => work.tell(came.remove(0)),
                        Err(failure) => work.fail(failure.into()),
                    }
                }
            }
            Err(failure) => {
                for work in group {
                    work.fail(failure.clone().into());
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
    async fn insist(&mut self, group: &[Work], again: &mut bool) -> Result<Vec<Came>, Failure> {
        let end = Instant::now() + PATIENCE;
        let mut wait = SHORTEST_WAIT;
        loop {
            let failure = match self.transact(group, *again).await {
                Ok(came) => return Ok(came),
                Err(Failure::Refused(error)) => return Err(Failure::Refused(error)),
                Err(failure) => failure,
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
}

/// What goes into one transaction together, in the order in which it came.
fn sorted(batch: Vec<Work>) -> Vec<Vec<Work>> {
    let mut groups: Vec<Vec<Work>> = Vec::new();
    let mut known = HashMap::new();
    for work in batch {
        let next = groups.len();
        let group = work.kind().map(|kind| *known.entry(kind).or_insert(next));
        match group.and_then(|group| groups.get_mut(group)) {
            Some(group) => group.push(work),
            None => groups.push(vec![work]),
        }
    }
    groups
}

impl Work {
    /// Of what goes together with others.
    fn kind(&self) -> Option<(Kind, String)> {
        match self {
            Work::Put(message, _) => Some((Kind::Put, message.queue.clone())),
            Work::Change(queue, owned, ..) => Some((Kind::Change(*owned), queue.clone())),
            _ => None,
        }
    }

    fn name(&self) -> Option<Name> {
        match self {
            Work::Put(message, _) => Some(Name::Id(message.queue.clone(), message.id.clone())),
            Work::Change(_, _, place, ..) | Work::Hand(_, place, ..) => Some(Name::Place(*place)),
            Work::Forget(..) | Work::Own(..) | Work::Disown(..) => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Work::Put(message, _) => message.payload.len(),
            _ => 0,
        }
    }

    /// Whoever does not wait any more need not be told.
    fn tell(self, came: Came) {
        match (self, came) {
            (Work::Put(_, told), Came::Put(put)) => drop(told.send(Ok(put))),
            (Work::Change(_, _, _, _, told), Came::Is(is_so)) => drop(told.send(Ok(is_so))),
            (Work::Hand(_, _, _, told), Came::Is(is_so)) => drop(told.send(Ok(is_so))),
            (Work::Own(_, told), Came::Is(is_so)) => drop(told.send(Ok(is_so))),
            (Work::Forget(_, _, _, told), Came::Forgotten(count)) => drop(told.send(Ok(count))),
            (Work::Change(id, _, _, _, told), Came::Lost) => {
                drop(told.send(Err(StoreError::Lost { id })));
            }
            (Work::Disown(..), _) => {}
            (_, came) => unreachable!("{came:?} comes of another kind of work"),
        }
    }

    fn fail(self, error: StoreError) {
        match self {
            Work::Put(_, told) => drop(told.send(Err(error))),
            Work::Change(_, _, _, _, told) => drop(told.send(Err(error))),
            Work::Hand(_, _, _, told) | Work::Own(_, told) => drop(told.send(Err(error))),
            Work::Forget(_, _, _, told) => drop(told.send(Err(error))),
            // Its lease ends when this process does, and it owns the queue again when it wants to.
            Work::Disown(..) => {}
        }
    }
}

const MOST_QUEUED: usize = 4096;
/// Messages of one transaction, and bytes of their payloads.
const MOST_AT_ONCE: usize = 1000;
const MOST_BYTES: usize = 8 << 20;
