//! Which provider may have served which idempotency key.
//!
//! The endpoints of an exclusive upstream are different providers, and nothing that one of them may
//! have done is done by another. So a key belongs to the provider that was asked first, from before
//! anything is sent until that provider has definitely refused:
//!
//! | an attempt | the key |
//! |---|---|
//! | could not be sent | is free again, unless an earlier attempt is in doubt |
//! | was answered with a status that the endpoint's own `outcomes` call `overload` | the same: a provider that turns away does not look at keys |
//! | was answered with one that they call `transient` | is free again: the answer speaks for the key |
//! | succeeded, or was declined for good | stays, for as long as keys are kept |
//! | ended in any other way, or not at all | stays: it is in doubt |
//!
//! While another attempt with the same key is under way at the provider, a refusal frees nothing:
//! the other attempt may succeed. It speaks for the attempts that began before its own, and for no
//! later one. What was once served is never free again; that stands in the file before anybody is
//! told.
//!
//! Nothing is forgotten to make room. When all keys are in use, requests with a new one are
//! refused, because forgetting one could do its work twice.

mod file;
mod line;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use outlast_config::plan::Exclusive;
use tokio::sync::oneshot;

use self::file::File;
use self::line::{Happening, Line};
use crate::attempt::wall;

/// What is known of the keys of one upstream.
#[derive(Debug)]
pub(crate) struct Journal {
    keys: Mutex<Keys>,
    file: Option<File>,
}

/// How long and how many keys are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    keep: Duration,
    keys: usize,
}

impl Bounds {
    pub(crate) fn of(plan: &Exclusive) -> Bounds {
        Bounds {
            keep: plan.keep,
            keys: plan.keys,
        }
    }

    /// How many keys may be known.
    pub(crate) fn keys(self) -> usize {
        self.keys
    }
}

/// Why an attempt may not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another provider may have done it.
    Held,
    /// Nothing more can be remembered.
    Full,
    /// The file could not be written.
    Unwritten,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Held => "another provider may have done it already",
            Refused::Full => "the journal of keys is full",
            Refused::Unwritten => "the journal of keys could not be written",
        })
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was sent, or the provider did not look at it.
    Untried,
    /// The provider says that it did nothing, and will do nothing.
    Refused,
    /// It did its work, or declined for good.
    Served,
    /// Nobody knows.
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    known: HashMap<Arc<str>, Entry>,
    /// The keys in the order in which they were touched; one that was touched again, or freed, is
    /// there with a time that is not its own any more.
    order: VecDeque<(u64, Arc<str>)>,
}

/// Whom a key belongs to.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    provider: Arc<str>,
    /// When it was last touched, in milliseconds of Unix time.
    at: u64,
    under_way: u32,
    /// How many attempts this process has begun; the number of the last one.
    begun: u64,
    /// The last attempt that ended without anybody knowing how; 0 is one of an earlier process.
    in_doubt: Option<u64>,
    served: bool,
}

impl Journal {
    /// The journal of a plan, with what its file knows; without a file, an empty one.
    pub(crate) fn open(plan: &Exclusive) -> Result<Journal, String> {
        let Some(path) = &plan.journal else {
            return Ok(Journal::of_one_call());
        };
        let failed = |error| format!("journal {}: {error}", path.display());
        let oldest = oldest(Bounds::of(plan));
        let (file, keys) = File::open(path, oldest).map_err(failed)?;
        Ok(Journal {
            keys: Mutex::new(keys),
            file: Some(file),
        })
    }

    /// Where its file is.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(File::path)
    }

    /// The provider that a key belongs to.
    pub(crate) fn holder(&self, key: &str, bounds: Bounds) -> Option<Arc<str>> {
        let keys = self.lock();
        let entry = keys.known.get(key)?;
        let is_known = entry.under_way > 0 || entry.at >= oldest(bounds);
        is_known.then(|| Arc::clone(&entry.provider))
    }

    /// A journal for one call, whose request has no key.
    pub(crate) fn of_one_call() -> Journal {
        Journal {
            keys: Mutex::default(),
            file: None,
        }
    }

    /// How many keys are known.
    pub(crate) fn len(&self) -> usize {
        self.lock().known.len()
    }

    /// An attempt with this key is about to be made at a provider. When this returns, that is
    /// written down, also if the process or the machine ends at once.
    pub(crate) async fn begin(
        self: &Arc<Journal>,
        key: &Arc<str>,
        provider: &Arc<str>,
        bounds: Bounds,
    ) -> Result<Claim, Refused> {
        let (mut claim, written) = self.claim(key, provider, bounds)?;
        if let Some(written) = written
            && written.await != Ok(true)
        {
            return Err(Refused::Unwritten);
        }
        claim.dropped = Verdict::Unknown;
        Ok(claim)
    }

    /// As [`Journal::begin`], with the news of the file still to come.
    fn claim(
        self: &Arc<Journal>,
        key: &Arc<str>,
        provider: &Arc<str>,
        bounds: Bounds,
    ) -> Result<(Claim, Option<oneshot::Receiver<bool>>), Refused> {
        let now = millis(wall());
        let mut keys = self.lock();
        keys.forget(oldest(bounds));
        if !keys.known.contains_key(key) && keys.known.len() >= bounds.keys {
            return Err(Refused::Full);
        }
        let number = keys.begin(key, provider, now)?;
        // Under the lock, so that the lines of a key are in the order of what happened.
        let line = Line {
            at: now,
            key,
            provider,
            happening: Happening::Begins,
        };
        let written = match self.file.as_ref().map(|file| file.append(&line, true)) {
            Some(Ok(written)) => written,
            Some(Err(_)) => {
                keys.end(key, number, Verdict::Untried, now);
                return Err(Refused::Unwritten);
            }
            None => None,
        };
        if let Some(file) = &self.file {
            file.compact(&keys);
        }
        let claim = Claim {
            journal: Arc::clone(self),
            key: Arc::clone(key),
            provider: Arc::clone(provider),
            number,
            dropped: Verdict::Untried,
            ended: false,
        };
        Ok((claim, written))
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// A key that nothing is known of but whom it belongs to.
    fn of(provider: Arc<str>) -> Entry {
        Entry {
            provider,
            at: 0,
            under_way: 0,
            begun: 0,
            in_doubt: None,
            served: false,
        }
    }
}

impl Keys {
    /// An attempt begins; its number.
    fn begin(&mut self, key: &Arc<str>, provider: &Arc<str>, now: u64) -> Result<u64, Refused> {
        let entry = self
            .known
            .entry(Arc::clone(key))
            .or_insert_with(|| Entry::of(Arc::clone(provider)));
        if entry.provider != *provider {
            return Err(Refused::Held);
        }
        entry.under_way += 1;
        entry.begun += 1;
        entry.at = now;
        let number = entry.begun;
        self.order.push_back((now, Arc::clone(key)));
        Ok(number)
    }

    /// The attempt of this number has ended.
    fn end(&mut self, key: &str, number: u64, verdict: Verdict, now: u64) {
        let entry = self.known.get_mut(key);
        let entry = entry.expect("a key stays with its provider while an attempt is under way");
        entry.under_way -= 1;
        match verdict {
            Verdict::Untried => {}
            // The answer speaks for the key, and so for the attempts that began before this one. A
            // later one may reach the provider after it has said no.
            Verdict::Refused => entry.in_doubt = entry.in_doubt.filter(|&last| last > number),
            Verdict::Served => entry.served = true,
            Verdict::Unknown => entry.in_doubt = entry.in_doubt.max(Some(number)),
        }
        if entry.under_way == 0 && entry.in_doubt.is_none() && !entry.served {
            self.known.remove(key);
        } else if entry.at != now {
            entry.at = now;
            let key = self
                .known
                .get_key_value(key)
                .map(|(key, _)| Arc::clone(key));
            self.order.extend(key.map(|key| (now, key)));
        }
    }

    /// Forgets what was last touched before `oldest`. What is under way stays.
    fn forget(&mut self, oldest: u64) {
        while let Some((at, key)) = self.order.front() {
            let entry = self.known.get(key);
            let is_current = entry.is_some_and(|entry| entry.at == *at);
            let under_way = entry.is_some_and(|entry| entry.under_way > 0);
            if is_current && (*at >= oldest || under_way) {
                break;
            }
            if is_current {
                self.known.remove(&**key);
            }
            self.order.pop_front();
        }
        // Each key has one current place; the others are of the past.
        if self.order.len() > 2 * self.known.len() + MOST_STALE {
            let known = &self.known;
            self.order
                .retain(|(at, key)| known.get(key).is_some_and(|entry| entry.at == *at));
        }
    }
}

/// An attempt that is under way. Dropped, nobody knows what it did.
#[derive(Debug)]
#[must_use = "a claim says how its attempt ended"]
pub(crate) struct Claim {
    journal: Arc<Journal>,
    key: Arc<str>,
    provider: Arc<str>,
    /// Among the attempts with its key.
    number: u64,
    /// What it means if the attempt is given up: nothing is sent before the claim is written.
    dropped: Verdict,
    ended: bool,
}

impl Claim {
    /// The attempt has ended; whether the key is free for other providers.
    ///
    /// When this says that the work is done, that is written down, also if the process or the
    /// machine ends at once: the answer may be handed on. If the file cannot be written, the answer
    /// is still worth more than silence, and the key is in doubt for the next process.
    pub(crate) async fn end(mut self, verdict: Verdict) -> bool {
        let (is_free, written) = self.settle(verdict);
        if let Some(written) = written {
            // The thread that failed to write it has said so.
            let _ = written.await;
        }
        is_free
    }

    fn settle(&mut self, verdict: Verdict) -> (bool, Option<oneshot::Receiver<bool>>) {
        self.ended = true;
        let now = millis(wall());
        let mut keys = self.journal.lock();
        keys.end(&self.key, self.number, verdict, now);
        let is_free = !keys.known.contains_key(&self.key);
        let happening = Happening::Ends {
            verdict,
            free: is_free,
        };
        let line = Line {
            at: now,
            key: &self.key,
            provider: &self.provider,
            happening,
        };
        // Any other end may be lost: it leaves the key with the provider, in doubt.
        let tell = verdict == Verdict::Served;
        let file = self.journal.file.as_ref();
        let written = file.and_then(|file| file.append(&line, tell).ok().flatten());
        (is_free, written)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.ended {
            self.settle(self.dropped);
        }
    }
}

fn oldest(bounds: Bounds) -> u64 {
    millis(wall()).saturating_sub(bounds.keep.as_millis() as u64)
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// So many places of the past are not worth a walk through all.
const MOST_STALE: usize = 1024;

#[cfg(test)]
mod tests;
