//! Queues of the policy file: requests on the disk that wait for their upstream.
//!
//! A delivery goes through its upstream's policies as a client's request would, on one of the workers. It
//! begins when a breaker lets it pass, and while the gateway serves; while no breaker is closed, one at a
//! time, so that a trial that fails costs one request an attempt. What a policy turns away has lost none. What is in a queue stays there over
//! restarts, and over reloads that take its upstream away.

mod deliver;
pub(crate) mod keep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outlast_config::plan::{self, Plan};
use outlast_saga::Tries;
use outlast_saga::queue::{Config, Queue};
use tokio::runtime::Handle;
use tokio::sync::watch;

use self::deliver::Receiver;
use crate::sagas::step::Callers;
use crate::store::{Chosen, Opened};
use crate::table::Table;
use crate::worker::Phase;

/// The queues of a gateway.
#[derive(Debug)]
pub(crate) struct Queues {
    plan: Vec<plan::Queue>,
    pub(crate) lines: Vec<Arc<Line>>,
    /// Where they are delivered.
    handle: Handle,
}

/// A queue that is open.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) plan: plan::Queue,
    pub(crate) queue: Queue<Chosen>,
    pub(crate) counts: LineCounts,
}

/// What has happened at a queue, beside what the queue itself counts.
#[derive(Debug, Default)]
pub(crate) struct LineCounts {
    attempts: [AtomicU64; Came::ALL.len()],
    refused: [AtomicU64; Refused::ALL.len()],
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Delivered,
    Transient,
    Permanent,
    Unknown,
    /// A policy turned it away.
    NotMade,
}

/// Why a request was not queued that would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no room.
    Full,
    /// The disk has none.
    DiskFull,
    /// It could not be written.
    Unwritten,
    /// Its key is another request's.
    KeyReused,
    /// It is larger than the queue takes.
    TooLarge,
    /// It may have been done, and could be done twice.
    InDoubt,
}

impl Queues {
    /// Opens the queues of a plan, with what the last process has left in them. An error names what is
    /// wrong.
    pub(crate) fn open(plan: &Plan, opened: &Opened) -> Result<Queues, String> {
        let mut lines = Vec::new();
        for queue in &plan.queues {
            let failed = |error: String| format!("queue {}: {error}", queue.name);
            let config = config(queue);
            let store = opened.store.clone();
            let (sender, receiver) = std::sync::mpsc::sync_channel(1);
            opened.handle.spawn(async move {
                // Whoever waits for it is there.
                let _ = sender.send(Queue::open(store, config).await);
            });
            let came = receiver.recv();
            let came = came.map_err(|_| failed("its thread has ended".to_owned()))?;
            lines.push(Arc::new(Line {
                queue: came.map_err(|error| failed(error.to_string()))?,
                plan: queue.clone(),
                counts: LineCounts::default(),
            }));
        }
        Ok(Queues {
            plan: plan.queues.clone(),
            lines,
            handle: opened.handle.clone(),
        })
    }

    /// Delivers until the gateway drains.
    pub(crate) fn run(
        &self,
        callers: &Arc<Callers>,
        tables: &watch::Sender<Arc<Table>>,
        phases: &watch::Sender<Phase>,
    ) {
        for line in &self.lines {
            let Some(upstream) = line.plan.upstream.clone() else {
                continue;
            };
            let waiting = line.queue.stats().waiting;
            if waiting > 0 {
                tracing::info!(queue = line.plan.name, waiting, "requests wait in a queue");
            }
            let gate = gate(
                line,
                upstream.clone(),
                tables.subscribe(),
                phases.subscribe(),
            );
            let receiver = Receiver::new(line, upstream, callers);
            self.handle.spawn(run(Arc::clone(line), gate, receiver));
            self.handle
                .spawn(close(Arc::clone(line), phases.subscribe()));
        }
    }

    /// What they were made from.
    pub(crate) fn plan(&self) -> &[plan::Queue] {
        &self.plan
    }

    /// The queue with this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Line>> {
        self.lines.iter().find(|line| line.plan.name == name)
    }

    /// Does something where queues are delivered; `None` if the gateway has stopped.
    pub(crate) async fn run_there<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.handle.spawn(work).await.ok()
    }
}

async fn run(line: Arc<Line>, gate: impl Fn() -> bool + Send + Sync + 'static, to: Receiver) {
    let to = Arc::new(to);
    let delivered = line.queue.run_when(gate, move |delivery| {
        let to = Arc::clone(&to);
        async move { to.deliver(delivery).await }
    });
    if let Err(error) = delivered.await {
        tracing::error!(queue = line.plan.name, %error, "a queue is not delivered");
    }
}

/// Begins no more deliveries when the gateway does not serve any more.
async fn close(line: Arc<Line>, mut phases: watch::Receiver<Phase>) {
    // It is told in vain only when the gateway is gone.
    let _ = phases.wait_for(|phase| *phase != Phase::Serving).await;
    line.queue.close();
}

/// Whether a delivery may begin now.
fn gate(
    line: &Arc<Line>,
    upstream: String,
    tables: watch::Receiver<Arc<Table>>,
    phases: watch::Receiver<Phase>,
) -> impl Fn() -> bool + Send + Sync + 'static {
    let queue = line.queue.clone();
    move || {
        if *phases.borrow() != Phase::Serving {
            return false;
        }
        let table = tables.borrow();
        let upstream = table.upstream_named(&upstream);
        upstream.is_some_and(|upstream| {
            let policies = &upstream.policies;
            policies.is_settled() || (policies.is_willing() && queue.stats().busy == 0)
        })
    }
}

fn config(plan: &plan::Queue) -> Config {
    Config::new(&plan.name)
        .most(plan.messages)
        .bytes(plan.bytes)
        .message_bytes(plan.message_bytes)
        .concurrency(plan.concurrency)
        // The call ends in time by itself, and knows better what became of it.
        .timeout(plan.timeout + GRACE)
        .tries(Tries::new(plan.attempts).backoff(plan.backoff))
        .max_age(plan.max_age)
        .slowest(plan.slowest)
        .fastest(plan.fastest)
        .remember(plan.remember)
}

impl LineCounts {
    pub(crate) fn came(&self, came: Came) {
        self.attempts[came as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// In the order of [`Came::ALL`].
    pub(crate) fn attempts(&self) -> [u64; Came::ALL.len()] {
        std::array::from_fn(|at| self.attempts[at].load(Ordering::Relaxed))
    }

    /// In the order of [`Refused::ALL`].
    pub(crate) fn refusals(&self) -> [u64; Refused::ALL.len()] {
        std::array::from_fn(|at| self.refused[at].load(Ordering::Relaxed))
    }
}

impl Came {
    pub(crate) const ALL: [Came; 5] = [
        Came::Delivered,
        Came::Transient,
        Came::Permanent,
        Came::Unknown,
        Came::NotMade,
    ];

    /// A stable snake_case name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Came::Delivered => "delivered",
            Came::Transient => "transient",
            Came::Permanent => "permanent",
            Came::Unknown => "unknown",
            Came::NotMade => "not_made",
        }
    }
}

impl Refused {
    pub(crate) const ALL: [Refused; 6] = [
        Refused::Full,
        Refused::DiskFull,
        Refused::Unwritten,
        Refused::KeyReused,
        Refused::TooLarge,
        Refused::InDoubt,
    ];

    /// A stable snake_case name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Refused::Full => "queue_full",
            Refused::DiskFull => "disk_full",
            Refused::Unwritten => "queue_unwritten",
            Refused::KeyReused => "key_reused",
            Refused::TooLarge => "too_large",
            Refused::InDoubt => "in_doubt",
        }
    }

    /// A sentence for the client.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Refused::Full => "it is full; try again later",
            Refused::DiskFull => "its disk is full; try again later",
            Refused::Unwritten => {
                "whether it was written is not known; try again with the same idempotency key"
            }
            Refused::KeyReused => "another request has this idempotency key; send a new key",
            Refused::TooLarge => "it is larger than the queue takes",
            Refused::InDoubt => "it may have been done",
        }
    }
}

/// Beyond the time of a call.
const GRACE: Duration = Duration::from_secs(1);
