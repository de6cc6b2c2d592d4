//! How many attempts upstreams are asked for in a second, second by second.
//!
//! The thread of the admin listener looks at the counters once a second, so requests pay nothing. An
//! attempt counts when it ends, or when it is denied a seat: how much is wanted, whether or not
//! there is room for it. An upstream that stalls shows nothing until its attempts end, and then all
//! of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use outlast::reject::Reason;
use outlast::time::Time;
use outlast::{Clock, Stats};
use tokio::time::{MissedTickBehavior, interval};

use crate::State;
use crate::histogram::{Histogram, Summary};

/// Seconds by what was asked for in them.
#[derive(Debug)]
pub(crate) struct Arrivals {
    since: SystemTime,
    seconds: Histogram,
    busiest: AtomicU64,
    last: Mutex<Option<Seen>>,
}

/// The counters at a time.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Time,
    ended: u64,
    denied: u64,
}

impl Arrivals {
    pub(crate) fn new(since: SystemTime) -> Arrivals {
        Arrivals {
            since,
            seconds: Histogram::default(),
            busiest: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// Since when counters of the upstream count.
    pub(crate) fn since(&self) -> SystemTime {
        self.since
    }

    /// Seconds by their arrivals.
    pub(crate) fn seconds(&self) -> Summary {
        Summary::of([&self.seconds])
    }

    /// The most attempts that ended in a second.
    pub(crate) fn busiest(&self) -> u64 {
        self.busiest.load(Ordering::Relaxed)
    }

    fn look(&self, stats: &Stats, at: Time) {
        let denied = [Reason::Full, Reason::QueueTimeout];
        let seen = Seen {
            at,
            ended: stats.attempts(),
            denied: denied.map(|reason| stats.rejected(reason)).iter().sum(),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = last.replace(seen) else {
            return;
        };
        let passed = at.since(before.at);
        // After a pause of the machine, or when an endpoint left with what it had counted.
        if passed > LONGEST || seen.ended < before.ended {
            return;
        }
        let per_second = |count: u64| (count as f64 / passed.as_secs_f64()).round() as u64;
        let ended = seen.ended - before.ended;
        let denied = seen.denied.saturating_sub(before.denied);
        self.seconds.add(per_second(ended + denied));
        self.busiest.fetch_max(per_second(ended), Ordering::Relaxed);
    }
}

/// Looks at all upstreams once a second, for ever.
pub(crate) async fn watch(state: Arc<State>) {
    let mut ticks = interval(SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let table = Arc::clone(&state.tables.borrow());
        let now = Clock::Precise.now();
        for entry in &table.upstreams {
            let upstream = &entry.upstream;
            upstream.arrivals.look(&upstream.policies.stats(), now);
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// A second that took longer was none.
const LONGEST: Duration = Duration::from_secs(2);
