//! The machine of a queue: which message is delivered next, and when.
//!
//! It knows of each message that waits its place, its key and when it is due, and not what it says. A
//! driver asks [`Machine::next`] what to do and tells [`Machine::ended`] what came of a delivery; the
//! verdict goes to the disk, and only then [`Machine::apply`] lets the key go on. Nothing here sleeps,
//! writes or reads a clock.
//!
//! The laws: of one key one message is under way at a time, and the one with the lowest place first, so
//! a message is never begun before what became of the former is on the disk; a message that is not
//! delivered is always here, or a dead letter; one whose verdict was applied is never begun again; no
//! more deliveries begin than the [pace](super::pace) allows, and none while the gate is closed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use outlast_core::rng::{Rng, mix};

use super::message::DeliveryError;
use super::pace::Pace;
use crate::definition::Tries;
use crate::event::Stamp;

/// A queue, as its driver sees it.
#[derive(Clone, Debug)]
pub struct Machine {
    tries: Tries,
    concurrency: usize,
    pace: Pace,
    /// In the order of pushes.
    entries: BTreeMap<i64, Entry>,
    lanes: HashMap<Arc<str>, Lane>,
    /// Those that may be begun when they are due: one of each key, and all without one.
    line: BTreeSet<(Stamp, i64)>,
    /// When messages that wait are too old.
    ages: BTreeSet<(Stamp, i64)>,
    /// How many are under way.
    busy: usize,
    /// Of all payloads.
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Option<Arc<str>>,
    size: usize,
    attempts: u32,
    pushed: Stamp,
    due: Stamp,
    expires: Stamp,
    is_busy: bool,
}

/// The messages of one key.
#[derive(Clone, Debug, Default)]
struct Lane {
    waiting: BTreeSet<i64>,
    busy: Option<i64>,
    /// What it has in the line.
    listed: Option<(Stamp, i64)>,
}

/// A message that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the order of pushes.
    pub place: i64,
    /// The key of its order.
    pub key: Option<Arc<str>>,
    /// How many bytes its payload has.
    pub size: usize,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When it was pushed.
    pub pushed: Stamp,
    /// The next one begins no sooner.
    pub due: Stamp,
    /// No delivery begins later.
    pub expires: Stamp,
}

/// What a driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It writes that this attempt begins, delivers, and tells [`Machine::ended`].
    Begin {
        /// The message.
        place: i64,
        /// Which attempt, from 1 on.
        attempt: u32,
    },
    /// It writes that this message is dead because it is too old, and tells [`Machine::apply`].
    Expire {
        /// The message.
        place: i64,
        /// How many attempts were begun.
        attempts: u32,
    },
    /// It writes that this message is dead because it has had its attempts, and tells
    /// [`Machine::apply`]: nobody knows what came of the last one, whose process died.
    GiveUp {
        /// The message.
        place: i64,
        /// How many attempts were begun.
        attempts: u32,
    },
    /// It asks again then, or after anything else has happened.
    Wait(Option<Stamp>),
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was acknowledged.
    Delivered,
    /// It is tried again.
    Again {
        /// How many attempts it has had: one that was not made is none.
        attempts: u32,
        /// No sooner than this.
        due: Stamp,
        /// Why.
        error: String,
    },
    /// It is a dead letter.
    Dead {
        /// Why.
        error: String,
    },
}

impl Machine {
    /// Without messages.
    pub fn new(tries: Tries, concurrency: usize, pace: Pace) -> Machine {
        Machine {
            tries,
            concurrency,
            pace,
            entries: BTreeMap::new(),
            lanes: HashMap::new(),
            line: BTreeSet::new(),
            ages: BTreeSet::new(),
            busy: 0,
            bytes: 0,
        }
    }

    /// A message is on the disk and waits. Nothing happens if it is known; `false` if it is under way, so
    /// that it may be gone when that has ended.
    pub fn insert(&mut self, message: Waiting) -> bool {
        let Waiting {
            place,
            key,
            size,
            attempts,
            pushed,
            due,
            expires,
        } = message;
        if let Some(known) = self.entries.get(&place) {
            return !known.is_busy;
        }
        self.bytes += size;
        let entry = Entry {
            key,
            size,
            attempts,
            pushed,
            due,
            expires,
            is_busy: false,
        };
        self.entries.insert(place, entry);
        self.wait(place);
        true
    }

    /// What to do now. `is_open` says whether the receiver takes anything.
    pub fn next(&mut self, now: Stamp, is_open: bool) -> Next {
        let oldest = self.ages.first().copied();
        // What is written at once is bounded, too; when it is, this is asked again.
        let oldest = oldest.filter(|_| self.busy < self.concurrency + MOST_EXPIRING);
        if let Some((_, place)) = oldest.filter(|(expires, _)| *expires < now) {
            self.leave(place);
            let attempts = self.entries[&place].attempts;
            return Next::Expire { place, attempts };
        }
        let too_old = oldest.map(|(expires, _)| expires.after(INSTANT));
        let first = self.line.first().copied();
        let Some((due, place)) = first.filter(|_| is_open && self.busy < self.concurrency) else {
            return Next::Wait(too_old);
        };
        let attempts = self.entries[&place].attempts;
        if due <= now && attempts >= self.tries.attempts() {
            self.leave(place);
            return Next::GiveUp { place, attempts };
        }
        let may_begin = if due > now {
            Err(due)
        } else {
            self.pace.take(now)
        };
        if let Err(later) = may_begin {
            return Next::Wait(Some(too_old.map_or(later, |too_old| too_old.min(later))));
        }
        self.leave(place);
        let entry = self.entries.get_mut(&place).expect("it was in the line");
        entry.attempts = entry.attempts.saturating_add(1);
        let attempt = entry.attempts;
        Next::Begin { place, attempt }
    }

    /// A delivery has ended; what that means. Nothing changes but the pace until [`Machine::apply`].
    pub fn ended(&mut self, place: i64, came: Result<(), DeliveryError>, now: Stamp) -> Verdict {
        let Some(entry) = self.entries.get(&place) else {
            let error = "it is not in the queue any more".to_owned();
            return Verdict::Dead { error };
        };
        let (error, after) = match came {
            Ok(()) => {
                self.pace.succeeded(now);
                return Verdict::Delivered;
            }
            // The receiver has looked at it: it is the message that is wrong.
            Err(DeliveryError::Permanent(error)) => return Verdict::Dead { error },
            Err(DeliveryError::Transient { error, after }) => (error, after),
            Err(DeliveryError::Unknown(error)) => (error, None),
            Err(DeliveryError::NotMade { error, after }) => {
                self.pace.turned_away(now);
                let due = self.due(place, entry.attempts, after, now);
                let attempts = entry.attempts.saturating_sub(1);
                return Verdict::Again {
                    attempts,
                    due,
                    error,
                };
            }
        };
        self.pace.failed(now);
        let attempts = entry.attempts;
        if attempts >= self.tries.attempts() {
            let error = format!("given up after {attempts} attempts: {error}");
            return Verdict::Dead { error };
        }
        let due = self.due(place, attempts, after, now);
        Verdict::Again {
            attempts,
            due,
            error,
        }
    }

    /// When an attempt follows this one.
    fn due(&self, place: i64, attempt: u32, after: Option<Duration>, now: Stamp) -> Stamp {
        // The same for the same attempt, and another one for each message.
        let unit = Rng::new(mix(place as u64) ^ u64::from(attempt)).unit();
        let wait = self.tries.wait(attempt, unit);
        now.after(wait.max(after.unwrap_or_default()).min(LONGEST_WAIT))
    }

    /// What became of an attempt is on the disk: its key goes on. Nothing happens if it is not the one
    /// that is under way.
    pub fn apply(&mut self, place: i64, attempt: u32, verdict: &Verdict) {
        let entry = self.entries.get_mut(&place);
        let Some(entry) = entry.filter(|entry| entry.is_busy && entry.attempts == attempt) else {
            return;
        };
        match verdict {
            Verdict::Delivered | Verdict::Dead { .. } => {
                self.come_back(place);
                self.forget(place);
            }
            Verdict::Again { attempts, due, .. } => {
                (entry.attempts, entry.due) = (*attempts, *due);
                self.come_back(place);
            }
        }
    }

    /// Nobody delivers any more: what was under way waits again, and has had its attempt.
    pub fn abandon(&mut self) {
        let busy = self.entries.iter().filter(|(_, entry)| entry.is_busy);
        let busy: Vec<i64> = busy.map(|(place, _)| *place).collect();
        busy.into_iter().for_each(|place| self.come_back(place));
    }

    /// How many are not delivered, those under way included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes the payloads of all have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the first of those that are not delivered was pushed.
    pub fn oldest(&self) -> Option<Stamp> {
        self.entries
            .first_key_value()
            .map(|(_, entry)| entry.pushed)
    }

    /// Whether a message of this key is not delivered.
    pub fn has(&self, key: &str) -> bool {
        self.lanes.contains_key(key)
    }

    /// How many are under way.
    pub fn busy(&self) -> usize {
        self.busy
    }

    /// The pace.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// It waits: by its age, and in its lane or in the line.
    fn wait(&mut self, place: i64) {
        let entry = &self.entries[&place];
        self.ages.insert((entry.expires, place));
        match entry.key.clone() {
            None => {
                self.line.insert((entry.due, place));
            }
            Some(key) => {
                let lane = self.lanes.entry(Arc::clone(&key)).or_default();
                lane.waiting.insert(place);
                self.list(&key);
            }
        }
    }

    /// It is under way.
    fn leave(&mut self, place: i64) {
        let Some(entry) = self.entries.get_mut(&place).filter(|entry| !entry.is_busy) else {
            return;
        };
        entry.is_busy = true;
        self.busy += 1;
        self.ages.remove(&(entry.expires, place));
        match entry.key.clone() {
            None => {
                self.line.remove(&(entry.due, place));
            }
            Some(key) => {
                let lane = self.lanes.entry(Arc::clone(&key)).or_default();
                lane.waiting.remove(&place);
                // One that is too old may leave while another one is under way.
                lane.busy = lane.busy.or(Some(place));
                self.list(&key);
            }
        }
    }

    /// It is under way no more.
    fn come_back(&mut self, place: i64) {
        let Some(entry) = self.entries.get_mut(&place).filter(|entry| entry.is_busy) else {
            return;
        };
        entry.is_busy = false;
        self.busy -= 1;
        if let Some(lane) = entry.key.as_ref().and_then(|key| self.lanes.get_mut(key)) {
            lane.busy = lane.busy.filter(|busy| *busy != place);
        }
        self.wait(place);
    }

    fn forget(&mut self, place: i64) {
        let Some(entry) = self.entries.remove(&place) else {
            return;
        };
        self.bytes -= entry.size;
        self.ages.remove(&(entry.expires, place));
        self.line.remove(&(entry.due, place));
        let Some(key) = entry.key else {
            return;
        };
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.waiting.remove(&place);
            if lane.waiting.is_empty() && lane.busy.is_none() {
                self.lanes.remove(&key);
                return;
            }
        }
        self.list(&key);
    }

    /// Puts the first message of a key into the line, if none of it is under way.
    fn list(&mut self, key: &Arc<str>) {
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        let first = lane.waiting.first().filter(|_| lane.busy.is_none());
        let listed = first.map(|place| (self.entries[place].due, *place));
        if lane.listed == listed {
            return;
        }
        if let Some(before) = lane.listed.take() {
            self.line.remove(&before);
        }
        lane.listed = listed;
        self.line.extend(listed);
    }
}

/// A receiver may ask for any wait; a mistake in its units must not be for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);
/// Messages that are too old and written as dead at once.
const MOST_EXPIRING: usize = 1000;
/// Stamps are no finer.
const INSTANT: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
