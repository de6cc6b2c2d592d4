//! Durable queues: work that cannot be done now is not lost, and is done when it can be.
//!
//! [`Queue::push`] returns when the message is on the disk. [`Queue::run`] gives each to a handler: at
//! least once, one after the other in the order of pushes where they have the same key, at a
//! [pace](Pace) that follows what the receiver takes. What cannot be delivered is tried again, and after
//! its attempts or its time it is a dead letter, which somebody has tried again or drops.
//!
//! On a store that several processes share any of them pushes, and one at a time delivers: the others wait
//! until it ends, or is not heard of any more.
//!
//! What it does not do: a message whose acknowledgement was not written when the process died is
//! delivered again. A receiver that does its work once for an id has each effect once.

mod config;
mod errors;
mod machine;
mod message;
mod pace;
mod run;
pub mod store;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

pub use self::config::{Config, ConfigError};
pub use self::errors::{HandError, OpenError, PushError, Runs};
pub use self::machine::{Machine, Next, Verdict, Waiting};
pub use self::message::{Delivery, DeliveryError, Hand, Kept, Message, Note, State};
pub use self::pace::{BURST_SECONDS, FAILURES_OF_AN_OUTAGE, LINEAR_SECONDS, Pace};
use self::store::{Change, Counts, NewMessage, Put, Store};
use crate::definition::Tries;
use crate::event::Stamp;
use crate::runner::{Clock, to_its_end};
use crate::store::StoreError;

/// A durable queue. Clones share it.
pub struct Queue<S: Store> {
    inner: Arc<Inner<S>>,
}

struct Inner<S: Store> {
    store: S,
    config: Config,
    clock: Clock,
    held: Mutex<Held>,
    /// How many are not delivered, to be read without a lock.
    waiting: AtomicUsize,
    /// There may be something to do.
    changed: Notify,
    /// Nothing waits any more.
    emptied: Notify,
    runs: AtomicBool,
    closed: AtomicBool,
    /// Another process delivers it, or may.
    lost: AtomicBool,
    /// Who counts a message that has died shares it; whoever takes a dead letter in hand is alone, so that
    /// what is counted is what is on the disk.
    hands: tokio::sync::RwLock<()>,
}

/// What is in it. If others push into it, too: what this process delivers of it.
struct Held {
    machine: Machine,
    /// Over all processes, when that was last asked.
    counts: Option<Counts>,
    dead: Room,
    /// What is being pushed.
    reserved: Room,
    totals: Totals,
}

/// What has happened since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that came in.
    pub pushed: u64,
    /// Messages that were delivered.
    pub delivered: u64,
    /// Messages that became dead letters.
    pub died: u64,
}

/// So many messages, and bytes of theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Room {
    messages: usize,
    bytes: usize,
}

/// What is in a queue. If several processes share it, the numbers are those of the last look, which
/// [`Queue::run`] takes every second; `busy` and `pace` are this process's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// Messages that are not delivered, those under way included.
    pub waiting: usize,
    /// Those under way.
    pub busy: usize,
    /// Dead letters.
    pub dead: usize,
    /// Bytes of the payloads of all of them.
    pub bytes: usize,
    /// When the first of those that are not delivered was pushed.
    pub oldest: Option<Stamp>,
    /// Deliveries a second that may begin now.
    pub pace: f64,
    /// What has happened since it was opened.
    pub totals: Totals,
}

/// What came of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the queue.
    New,
    /// It was pushed before.
    Same,
}

impl<S: Store> Queue<S> {
    /// Opens a queue of a store, with what the last process has left in it. Nothing is delivered until
    /// [`Queue::run`].
    ///
    /// # Errors
    /// If the configuration cannot be, somebody has it open, or the store fails.
    pub async fn open(store: S, config: Config) -> Result<Queue<S>, OpenError> {
        config.check().map_err(OpenError::Config)?;
        if !store.claim(&config.name) {
            return Err(OpenError::Taken);
        }
        let clock = Clock::new(store.time());
        let held = Held {
            machine: config.machine(clock.now()),
            counts: None,
            dead: Room::default(),
            reserved: Room::default(),
            totals: Totals::default(),
        };
        let queue = Queue {
            inner: Arc::new(Inner {
                store,
                config,
                clock,
                held: Mutex::new(held),
                waiting: AtomicUsize::new(0),
                changed: Notify::new(),
                emptied: Notify::new(),
                runs: AtomicBool::new(false),
                closed: AtomicBool::new(false),
                lost: AtomicBool::new(false),
                hands: tokio::sync::RwLock::default(),
            }),
        };
        let loaded = match queue.inner.store.is_shared() {
            true => queue.inner.count().await,
            false => queue.load().await,
        };
        loaded.map_err(OpenError::Store)?;
        Ok(queue)
    }

    async fn load(&self) -> Result<(), StoreError> {
        for state in [State::Waiting, State::Dead] {
            let mut after = 0;
            loop {
                let page = self.messages(Some(state), after, PAGE).await?;
                let Some(last) = page.last() else {
                    break;
                };
                after = last.place;
                let mut held = self.inner.held();
                let now = self.inner.clock.now();
                for kept in page {
                    // None is under way yet.
                    let _ = held.take(&as_of(kept, now, self.inner.config.tries));
                }
                self.inner.recount(&held);
            }
        }
        Ok(())
    }

    /// Takes a message; it is on the disk when this returns. The same id with the same key and payload is
    /// the same message, also when it was delivered long ago, up to [`Config::remember`]. A push that
    /// begins when another one has returned comes after it, whichever process it was.
    ///
    /// # Errors
    /// If there is no room, the message is too large, its id is another message's, or the store fails.
    pub async fn push(&self, message: Message) -> Result<Pushed, PushError> {
        let inner = &self.inner;
        inner.config.takes(&message).map_err(PushError::Message)?;
        let room = Room::of(message.payload.len());
        let is_shared = inner.store.is_shared();
        let reserved = inner.held().reserve(room, &inner.config, is_shared);
        if let Err(full) = reserved {
            return self.is_known(&message).await?.ok_or(full);
        }
        let inner = Arc::clone(inner);
        let put = async move {
            let put = inner.put(message).await;
            inner.held().reserved.take_away(room);
            put
        };
        to_its_end(put).await.map_err(PushError::Store)?
    }

    /// A message that is there needs no room.
    async fn is_known(&self, message: &Message) -> Result<Option<Pushed>, PushError> {
        let inner = &self.inner;
        let known = inner.store.message(&inner.config.name, &message.id).await;
        match known.map_err(PushError::Store)? {
            None => Ok(None),
            // It writes nothing: it is there.
            Some(_) => inner.put(message.clone()).await.map(Some),
        }
    }

    /// A message, wherever it is; `None` if it was never pushed, or is forgotten.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn find(&self, id: &str) -> Result<Option<Kept>, StoreError> {
        let inner = &self.inner;
        inner.store.message(&inner.config.name, id).await
    }

    /// Messages behind a place, in the order of pushes; in one state, or in any. Dead letters are those
    /// in [`State::Dead`].
    ///
    /// # Errors
    /// If the store fails.
    pub async fn messages(
        &self,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Kept>, StoreError> {
        let inner = &self.inner;
        let name = &inner.config.name;
        inner.store.messages(name, state, after, most).await
    }

    /// Has a dead letter tried again, as often as at first and for as long. It comes before what waits
    /// of its key. Who did it and why is on its record.
    ///
    /// # Errors
    /// If it is no dead letter, nobody or nothing is given, or the store fails.
    pub async fn retry(&self, id: &str, by: &str, reason: &str) -> Result<(), HandError> {
        self.handle(id, Hand::Retry, by, reason).await
    }

    /// Drops a dead letter. Who did it and why is on its record, which is kept for
    /// [`Config::remember`].
    ///
    /// # Errors
    /// If it is no dead letter, nobody or nothing is given, or the store fails.
    pub async fn discard(&self, id: &str, by: &str, reason: &str) -> Result<(), HandError> {
        self.handle(id, Hand::Drop, by, reason).await
    }

    async fn handle(&self, id: &str, how: Hand, by: &str, reason: &str) -> Result<(), HandError> {
        let is_said = |text: &str| (1..=MOST_WORDS).contains(&text.len());
        if !is_said(by) || !is_said(reason) {
            return Err(HandError::Note);
        }
        let kept = self.find(id).await.map_err(HandError::Store)?;
        let kept = kept.ok_or(HandError::NoMessage)?;
        let note = Note {
            at: self.inner.clock.now(),
            how,
            by: by.to_owned(),
            reason: reason.to_owned(),
        };
        let inner = Arc::clone(&self.inner);
        let handled = async move { inner.handled(kept, note).await };
        to_its_end(handled).await.map_err(HandError::Store)?
    }

    /// What is in it.
    pub fn stats(&self) -> Stats {
        let held = self.inner.held();
        let counts = held.counts.unwrap_or(Counts {
            waiting: held.machine.len(),
            dead: held.dead.messages,
            bytes: held.machine.bytes() + held.dead.bytes,
        });
        Stats {
            waiting: counts.waiting,
            busy: held.machine.busy(),
            dead: counts.dead,
            bytes: counts.bytes,
            oldest: held.machine.oldest(),
            pace: held.machine.pace().rate(),
            totals: held.totals,
        }
    }

    /// Whether no message waits or is under way. Takes no lock.
    pub fn is_idle(&self) -> bool {
        self.inner.waiting.load(Ordering::Acquire) == 0
    }

    /// Whether a message of this key is not delivered: what comes later and goes another way would
    /// overtake it. Of a queue that several processes share: whether any is not, as of the last look.
    pub fn has(&self, key: &str) -> bool {
        let inner = &self.inner;
        if inner.store.is_shared() {
            return !self.is_idle();
        }
        inner.held().machine.has(key)
    }

    /// How it was opened.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Waits until no message waits or is under way, in any process.
    pub async fn drained(&self) {
        let inner = &self.inner;
        while inner.store.is_shared() {
            let counted = inner.count().await;
            if counted.is_ok() && inner.held().counts.unwrap_or_default().waiting == 0 {
                return;
            }
            pause(BETWEEN_COUNTS).await;
        }
        let mut emptied = std::pin::pin!(inner.emptied.notified());
        loop {
            emptied.as_mut().enable();
            if inner.held().machine.is_empty() {
                return;
            }
            emptied.as_mut().await;
            emptied.set(inner.emptied.notified());
        }
    }

    /// Begins no more deliveries: [`Queue::run`] returns when those under way have ended. Pushes are
    /// still taken, and delivered by the next process.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.changed.notify_one();
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.inner.store
    }
}

impl<S: Store> Inner<S> {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks what is in it.
    async fn count(&self) -> Result<(), StoreError> {
        let counts = self.store.counts(&self.config.name).await?;
        let mut held = self.held();
        held.counts = counts;
        self.recount(&held);
        Ok(())
    }

    /// Something came in, or was delivered or dead.
    fn recount(&self, held: &Held) {
        let waiting = held
            .counts
            .map_or(held.machine.len(), |counts| counts.waiting);
        self.waiting.store(waiting, Ordering::Release);
    }

    /// One came into a queue that is shared: it waits, before that is counted the next time.
    fn has_pushed(&self) {
        let mut held = self.held();
        held.totals.pushed += 1;
        if let Some(counts) = &mut held.counts {
            counts.waiting += 1;
        }
        self.recount(&held);
    }

    async fn put(&self, message: Message) -> Result<Pushed, PushError> {
        let now = self.clock.now();
        let most = self.config.max_age;
        let age = message.within.map_or(most, |within| within.min(most));
        let (hash, size) = (message.hash(), message.payload.len());
        let waiting = |place| Waiting {
            place,
            key: message.key.as_deref().map(Arc::from),
            size,
            attempts: 0,
            pushed: now,
            due: now,
            expires: now.after(age),
        };
        let new = NewMessage {
            queue: self.config.name.clone(),
            id: message.id.clone(),
            key: message.key.clone(),
            hash,
            payload: message.payload,
            pushed: now,
            expires: now.after(age),
            most: self.config.most,
            most_bytes: self.config.bytes,
        };
        let is_shared = self.store.is_shared();
        match self.store.put(new).await.map_err(PushError::Store)? {
            // It comes with the arrivals, so that it is not before what another process has pushed.
            Put::New(_) if is_shared => {
                self.has_pushed();
                Ok(Pushed::New)
            }
            Put::Same(_) if is_shared => Ok(Pushed::Same),
            Put::Full(counts) => Err(PushError::Full {
                messages: counts.waiting + counts.dead,
                bytes: counts.bytes,
            }),
            Put::New(place) => {
                let mut held = self.held();
                held.machine.insert(waiting(place));
                held.totals.pushed += 1;
                self.recount(&held);
                drop(held);
                self.changed.notify_one();
                Ok(Pushed::New)
            }
            Put::Same(kept) => {
                // The store may have failed after it had written it.
                if kept.state == State::Waiting {
                    // It is known, unless the store has failed.
                    let mut held = self.held();
                    let _ = held.take(&kept);
                    self.recount(&held);
                    drop(held);
                    self.changed.notify_one();
                }
                Ok(Pushed::Same)
            }
            Put::Other => Err(PushError::Other),
        }
    }

    async fn handled(&self, kept: Kept, note: Note) -> Result<(), HandError> {
        let life = kept.expires.since(kept.pushed);
        let (at, how, expires) = (note.at, note.how, note.at.after(life));
        let change = match how {
            Hand::Retry => Change::Retried { note, expires },
            Hand::Drop => Change::Dropped { note },
        };
        let alone = tokio::time::timeout(LONGEST_HAND, self.hands.write()).await;
        let away = || StoreError::Failed("messages that die wait for it".to_owned());
        let _alone = alone.map_err(|_| HandError::Store(away()))?;
        let name = &self.config.name;
        let changed = self.store.change(name, kept.place, change).await;
        if !changed.map_err(HandError::Store)? {
            let now = self.store.message(&self.config.name, &kept.id).await;
            let now = now.map_err(HandError::Store)?;
            return Err(now.map_or(HandError::NoMessage, |now| HandError::NotDead(now.state)));
        }
        if self.store.is_shared() {
            return Ok(());
        }
        self.held().dead.take_away(Room::of(kept.size));
        let again = Kept {
            state: State::Waiting,
            attempts: 0,
            due: at,
            expires,
            ..kept
        };
        // That it is dead is on the disk, and may not be known here yet.
        while how == Hand::Retry && !self.held().take(&again) {
            pause(SOON).await;
        }
        self.recount(&self.held());
        self.changed.notify_one();
        Ok(())
    }
}

/// A store that fails holds up messages that die, and whoever waits for them is told so.
const LONGEST_HAND: std::time::Duration = std::time::Duration::from_secs(5);

/// A message of another process, whose clock may have been put back since: it is no younger than it is,
/// and waits no longer than after a failure of this process.
fn as_of(kept: Kept, now: Stamp, tries: Tries) -> Kept {
    let back = kept.pushed.since(now);
    let longest = now.after(tries.wait(kept.attempts, 1.0));
    Kept {
        due: kept.due.before(back).min(longest),
        expires: kept.expires.before(back),
        ..kept
    }
}

impl Held {
    /// One that is on the disk; `false` if it waits, and is known to be under way.
    fn take(&mut self, kept: &Kept) -> bool {
        match kept.state {
            State::Waiting => self.machine.insert(Waiting {
                place: kept.place,
                key: kept.key.as_deref().map(Arc::from),
                size: kept.size,
                attempts: kept.attempts,
                pushed: kept.pushed,
                due: kept.due,
                expires: kept.expires,
            }),
            State::Dead => {
                self.dead.add(Room::of(kept.size));
                true
            }
            State::Delivered | State::Dropped => true,
        }
    }

    /// Room for one that is pushed. Of a queue that is shared only what is being pushed here is counted;
    /// the store counts the rest.
    fn reserve(&mut self, room: Room, config: &Config, is_shared: bool) -> Result<(), PushError> {
        let (mut messages, mut bytes) = (self.reserved.messages, self.reserved.bytes);
        if !is_shared {
            messages += self.machine.len() + self.dead.messages;
            bytes += self.machine.bytes() + self.dead.bytes;
        }
        if messages + room.messages > config.most || bytes + room.bytes > config.bytes {
            return Err(PushError::Full { messages, bytes });
        }
        self.reserved.add(room);
        Ok(())
    }
}

impl Totals {
    fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Delivered => self.delivered += 1,
            Verdict::Dead { .. } => self.died += 1,
            Verdict::Again { .. } => {}
        }
    }
}

impl Room {
    fn of(bytes: usize) -> Room {
        Room { messages: 1, bytes }
    }

    fn add(&mut self, other: Room) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    fn take_away(&mut self, other: Room) {
        self.messages = self.messages.saturating_sub(other.messages);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

impl<S: Store> Drop for Inner<S> {
    fn drop(&mut self) {
        self.store.release(&self.config.name);
    }
}

impl<S: Store> Clone for Queue<S> {
    fn clone(&self) -> Queue<S> {
        Queue {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S: Store> fmt::Debug for Queue<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("config", &self.inner.config)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a queue waits for stores that fail, for others, and between sweeps"
)]
async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

const PAGE: usize = 1000;
/// Somebody who waits for the end of a queue asks so often.
const BETWEEN_COUNTS: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_millis(10);
/// Of who did something, and why.
const MOST_WORDS: usize = 1000;
