//! What is counted, so that it costs nothing visible.
//!
//! Routes and endpoints have numbers, resolved when the table is built: no label is hashed on the
//! path of a request. Each worker counts in a shard of its own, padded to its own cache lines, so
//! an addition is one uncontended instruction; reading adds the shards up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::histogram::{Histogram, Summary};

/// What is counted of a route.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    shards: Box<[RouteShard]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct RouteShard {
    classes: [AtomicU64; CLASSES.len()],
    degraded: [AtomicU64; Instead::ALL.len()],
    whole: Histogram,
}

/// What was answered in place of a request's own answer, because of a mode.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Instead {
    /// A fixed answer of the feature.
    Fixed,
    /// A stale copy.
    Stale,
    /// 503.
    Refused,
}

impl Instead {
    pub(crate) const ALL: [Instead; 3] = [Instead::Fixed, Instead::Stale, Instead::Refused];

    /// Its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Instead::Fixed => "instead",
            Instead::Stale => "stale",
            Instead::Refused => "refused",
        }
    }
}

/// Classes of statuses, by their first digit; the last are requests whose client went away.
pub(crate) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "gone"];

impl RouteMetrics {
    pub(crate) fn new(workers: usize) -> RouteMetrics {
        RouteMetrics {
            shards: (0..workers).map(|_| RouteShard::default()).collect(),
        }
    }

    /// Counts a request: its status, unless the client went away before there was one, and how long
    /// it took as a whole.
    pub(crate) fn record(&self, worker: usize, status: Option<StatusCode>, took: Duration) {
        let shard = &self.shards[worker];
        let class = status.map_or(CLASSES.len() - 1, |status| {
            usize::from(status.as_u16() / 100).clamp(1, 5) - 1
        });
        shard.classes[class].fetch_add(1, Ordering::Relaxed);
        shard.whole.record(took);
    }

    /// Counts an answer that was given because of a mode.
    pub(crate) fn degraded(&self, worker: usize, instead: Instead) {
        self.shards[worker].degraded[instead as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Answers given because of a mode, in the order of [`Instead::ALL`].
    pub(crate) fn degradations(&self) -> [u64; Instead::ALL.len()] {
        std::array::from_fn(|at| sum(self.shards.iter().map(|shard| &shard.degraded[at])))
    }

    /// Requests by class.
    pub(crate) fn requests(&self) -> [u64; CLASSES.len()] {
        std::array::from_fn(|class| sum(self.shards.iter().map(|shard| &shard.classes[class])))
    }

    /// How long requests took as a whole.
    pub(crate) fn durations(&self) -> Summary {
        Summary::of(self.shards.iter().map(|shard| &shard.whole))
    }
}

/// What is counted of an endpoint beside its policies' own statistics.
#[derive(Debug)]
pub(crate) struct EndpointMetrics {
    shards: Box<[EndpointShard]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct EndpointShard {
    /// From the start of an attempt that answered to the head of its answer.
    pub(crate) head: Histogram,
    /// How long attempts had run that were cut off before that.
    pub(crate) cut: Histogram,
    /// Connections made.
    pub(crate) connected: AtomicU64,
    /// Attempts at a connection that failed.
    pub(crate) unconnected: AtomicU64,
    /// Idle connections that turned out to be closed.
    pub(crate) stale: AtomicU64,
}

impl EndpointMetrics {
    pub(crate) fn new(workers: usize) -> EndpointMetrics {
        EndpointMetrics {
            shards: (0..workers).map(|_| EndpointShard::default()).collect(),
        }
    }

    /// Where this worker counts.
    pub(crate) fn shard(&self, worker: usize) -> &EndpointShard {
        &self.shards[worker]
    }

    /// From the start of attempts to the heads of their answers.
    pub(crate) fn heads(&self) -> Summary {
        Summary::of(self.shards.iter().map(|shard| &shard.head))
    }

    /// How long attempts had run that were cut off before an answer began.
    pub(crate) fn cuts(&self) -> Summary {
        Summary::of(self.shards.iter().map(|shard| &shard.cut))
    }

    /// Connections made, those that failed, and idle ones that turned out to be closed.
    pub(crate) fn connections(&self) -> [u64; 3] {
        [
            sum(self.shards.iter().map(|shard| &shard.connected)),
            sum(self.shards.iter().map(|shard| &shard.unconnected)),
            sum(self.shards.iter().map(|shard| &shard.stale)),
        ]
    }
}

/// The latest errors of an upstream.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    latest: Mutex<VecDeque<LastError>>,
}

/// An error, for people.
#[derive(Clone, Debug)]
pub(crate) struct LastError {
    pub(crate) at: SystemTime,
    pub(crate) endpoint: String,
    pub(crate) error: String,
}

impl Errors {
    pub(crate) fn note(&self, endpoint: &str, error: String, at: SystemTime) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == KEPT_ERRORS {
            latest.pop_front();
        }
        latest.push_back(LastError {
            at,
            endpoint: endpoint.to_owned(),
            error,
        });
    }

    /// The latest ones, oldest first.
    pub(crate) fn latest(&self) -> Vec<LastError> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.iter().cloned().collect()
    }
}

/// Enough to see what is going on.
const KEPT_ERRORS: usize = 8;

fn sum<'a>(counts: impl Iterator<Item = &'a AtomicU64>) -> u64 {
    counts.map(|count| count.load(Ordering::Relaxed)).sum()
}
