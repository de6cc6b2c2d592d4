//! Notices executors that run nothing any more.
//!
//! A task on every watched executor counts up; a thread looks whether the numbers still change. The
//! thread counts its own looks and not the clock: a process that was stopped as a whole, or got no
//! processor, has missed them, too, and is not stuck.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use outlast_core::config::ConfigError;

use super::{Event, State, lock};

pub(super) struct Watchdog {
    watched: Arc<Mutex<Vec<Watched>>>,
    limit: Duration,
    /// Dropping it ends the thread.
    running: Mutex<Option<Sender<()>>>,
}

struct Watched {
    beat: Arc<Beat>,
    seen: u64,
    /// Looks in a row without a beat.
    silent: u32,
}

struct Beat {
    executor: String,
    count: AtomicU64,
    ended: AtomicBool,
}

impl Watchdog {
    pub(super) fn start(limit: Duration, state: &Arc<State>) -> Result<Watchdog, ConfigError> {
        if !(SHORTEST..=LONGEST).contains(&limit) {
            let mend = "must be from 100 ms to 1 h";
            return Err(ConfigError::new("health.stuck_after", mend));
        }
        let (running, stops) = channel();
        let watched = Arc::new(Mutex::new(Vec::new()));
        let (looked_at, told) = (Arc::clone(&watched), Arc::downgrade(state));
        thread::Builder::new()
            .name("outlast-watchdog".to_owned())
            .spawn(move || watch(&looked_at, &told, &stops, limit / LOOKS))
            .map_err(|_| {
                ConfigError::new("health", "could not start its thread; start fewer threads")
            })?;
        Ok(Watchdog {
            watched,
            limit,
            running: Mutex::new(Some(running)),
        })
    }

    /// The task that shows that the executor it runs on is alive.
    pub(super) fn heartbeat(&self, executor: &str) -> impl Future<Output = ()> + Send + use<> {
        let beat = Arc::new(Beat {
            executor: executor.to_owned(),
            count: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        lock(&self.watched).push(Watched {
            beat: Arc::clone(&beat),
            seen: 0,
            silent: 0,
        });
        let beats = Beats(beat);
        // A few beats between two looks, so that a late one is no silence.
        let mut rhythm = self.limit / (LOOKS * 4);
        rhythm = rhythm.max(Duration::from_millis(1));
        async move {
            loop {
                beats.0.count.fetch_add(1, Ordering::Relaxed);
                pause(rhythm).await;
            }
        }
    }

    pub(super) fn stuck(&self) -> Vec<String> {
        let watched = lock(&self.watched);
        let stuck = watched.iter().filter(|watched| watched.is_stuck());
        stuck.map(|watched| watched.beat.executor.clone()).collect()
    }

    pub(super) fn stop(&self) {
        lock(&self.running).take();
    }
}

/// Marks the end of a heartbeat, also of one that is dropped with its runtime.
struct Beats(Arc<Beat>);

impl Drop for Beats {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Watched {
    fn is_stuck(&self) -> bool {
        self.silent >= LOOKS
    }

    /// Looks at it; whether it was and whether it is stuck.
    fn look(&mut self) -> (bool, bool) {
        let before = self.is_stuck();
        let count = self.beat.count.load(Ordering::Relaxed);
        let alive = count != self.seen || self.beat.ended.load(Ordering::Relaxed);
        self.silent = if alive {
            0
        } else {
            self.silent.saturating_add(1)
        };
        self.seen = count;
        (before, self.is_stuck())
    }
}

/// The thread.
fn watch(
    watched: &Mutex<Vec<Watched>>,
    state: &Weak<State>,
    stops: &Receiver<()>,
    pause: Duration,
) {
    while stops.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let Some(state) = state.upgrade() else { return };
        let mut changed = Vec::new();
        let mut all = lock(watched);
        for one in all.iter_mut() {
            let (before, after) = one.look();
            if before != after {
                changed.push((one.beat.executor.clone(), after));
            }
        }
        all.retain(|one| !one.beat.ended.load(Ordering::Relaxed));
        let any = all.iter().any(Watched::is_stuck);
        drop(all);
        if changed.is_empty() {
            continue;
        }
        state.registry().set_stuck(any);
        state.changed();
        for (executor, is_stuck) in &changed {
            state.tell(&match is_stuck {
                true => Event::Stuck { executor },
                false => Event::Unstuck { executor },
            });
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the heartbeat is a driver: it waits on the executor that it watches"
)]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// So many looks in a row without a beat are needed.
const LOOKS: u32 = 4;

/// Below, a busy machine looks stuck.
const SHORTEST: Duration = Duration::from_millis(100);
/// Above, nobody is helped any more.
const LONGEST: Duration = Duration::from_secs(60 * 60);
