//! One worker: a thread with a runtime, listening sockets and connections of its own.
//!
//! Connections never move between workers, and nothing but the upstreams' policies and counters is
//! shared, so there is no lock on the path of a request. A worker takes a new table when one is
//! published, keeps its pools for the upstreams that stay, and ends when the gateway drains and its
//! last connection is gone.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use outlast::Clock;
use outlast::ratio::Ratio;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::LocalSet;

use crate::check::Checking;
use crate::connection;
use crate::discover::Discovering;
use crate::health::Vitals;
use crate::peers::Peers;
use crate::queues::Queues;
use crate::sagas::call::{self, Asked};
use crate::table::{Listener, Sockets, Table, Upstream};
use crate::times::{TICK, Times, Verdict};

/// What all workers share beside the table.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Connections of clients, at once.
    pub(crate) connections: AtomicUsize,
    /// Connections turned away because there were too many.
    pub(crate) turned_away: AtomicUsize,
    /// Log lines about requests that were left out because there were too many.
    pub(crate) unlogged: AtomicUsize,
    /// Idle connections to upstreams, at the last sweep, over all workers.
    pub(crate) pooled: AtomicUsize,
    /// The queues of the plan that it began with.
    pub(crate) queues: Option<Arc<Queues>>,
}

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Serve.
    Serving,
    /// Accept nothing new, finish what is in flight, and end.
    Draining,
    /// End now.
    Stopped,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    tick: Arc<AtomicU32>,
    local: RefCell<Rc<Local>>,
    phase: Cell<Phase>,
    connections: RefCell<HashMap<u64, Rc<Watched>>>,
    /// Calls of sagas and queues that are in flight.
    calls: Cell<usize>,
    next_connection: Cell<u64>,
    all_gone: Notify,
    sampled: Cell<f64>,
    lines: Cell<u32>,
    pooled: Cell<usize>,
}

/// A table with this worker's own connections to the upstreams in it.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) table: Arc<Table>,
    pub(crate) upstreams: Vec<Rc<LocalUpstream>>,
}

/// An upstream with this worker's connections to it.
#[derive(Debug)]
pub(crate) struct LocalUpstream {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) peers: Rc<Peers>,
    _checking: Option<Checking>,
    _discovering: Option<Discovering>,
}

/// A connection that the sweep looks after.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) times: Arc<Times>,
    waker: RefCell<Option<Waker>>,
}

impl Watched {
    /// Whom to wake when there is a verdict.
    pub(crate) fn wakes(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Runs a worker on this thread until it is stopped or drained.
pub(crate) fn run(
    index: usize,
    shared: Arc<Shared>,
    mut tables: watch::Receiver<Arc<Table>>,
    phases: watch::Receiver<Phase>,
    calls: mpsc::Receiver<Asked>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let table = Arc::clone(&tables.borrow_and_update());
    let tasks = LocalSet::new();
    let inside = tasks.enter();
    let worker = Rc::new(Worker {
        index,
        shared,
        tick: Arc::new(AtomicU32::new(1)),
        local: RefCell::new(Rc::new(Local::new(table, None, index))),
        phase: Cell::new(Phase::Serving),
        connections: RefCell::default(),
        calls: Cell::new(0),
        next_connection: Cell::new(0),
        all_gone: Notify::new(),
        sampled: Cell::new(0.0),
        lines: Cell::new(0),
        pooled: Cell::new(0),
    });
    drop(inside);
    tasks.block_on(&runtime, worker.work(tables, phases, calls));
    Ok(())
}

impl Worker {
    async fn work(
        self: Rc<Worker>,
        mut tables: watch::Receiver<Arc<Table>>,
        mut phases: watch::Receiver<Phase>,
        mut calls: mpsc::Receiver<Asked>,
    ) {
        let mut accepting = HashMap::new();
        self.accept_from(&mut accepting);
        let mut watched = None;
        self.watch_by(&mut watched);
        let mut sweep = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                changed = tables.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let table = Arc::clone(&tables.borrow_and_update());
                    let local = Rc::new(Local::new(table, Some(&self.local()), self.index));
                    *self.local.borrow_mut() = local;
                    self.accept_from(&mut accepting);
                    self.watch_by(&mut watched);
                }
                changed = phases.changed() => {
                    let phase = *phases.borrow_and_update();
                    if changed.is_err() || phase == Phase::Stopped {
                        return;
                    }
                    self.phase.set(phase);
                    accepting.clear();
                    if self.is_idle() {
                        return;
                    }
                }
                Some(call) = calls.recv() => {
                    self.calls.set(self.calls.get() + 1);
                    tokio::task::spawn_local(call::serve(Rc::clone(&self), call));
                }
                _ = sweep.tick() => self.sweep(),
                () = self.all_gone.notified(), if self.is_draining() => {
                    if self.is_idle() {
                        return;
                    }
                }
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.connections.borrow().is_empty() && self.calls.get() == 0
    }

    /// A call of a saga or a queue has ended.
    pub(crate) fn has_called(&self) {
        self.calls.set(self.calls.get() - 1);
        if self.is_draining() {
            self.all_gone.notify_one();
        }
    }

    /// The table as it is now.
    pub(crate) fn local(&self) -> Rc<Local> {
        Rc::clone(&self.local.borrow())
    }

    /// Whether answers should close their connections.
    pub(crate) fn is_draining(&self) -> bool {
        self.phase.get() != Phase::Serving
    }

    /// Whether a request is in the sample that is logged, or failed and there is room for it.
    pub(crate) fn logs(&self, failed: bool, share: Ratio) -> bool {
        let sum = self.sampled.get() + share.as_f64();
        self.sampled.set(sum.fract());
        if sum < 1.0 && !failed {
            return false;
        }
        let lines = self.lines.get();
        self.lines.set(lines.saturating_add(1));
        if lines >= LINES_PER_TICK {
            self.shared.unlogged.fetch_add(1, Ordering::Relaxed);
        }
        lines < LINES_PER_TICK
    }

    /// Begins to accept on sockets that are new in the table, and stops on those that are not in it
    /// any more.
    fn accept_from(self: &Rc<Worker>, accepting: &mut HashMap<*const Sockets, Accepting>) {
        let local = self.local();
        let listeners = &local.table.listeners;
        accepting.retain(|&sockets, _| {
            listeners
                .iter()
                .any(|listener| Arc::as_ptr(&listener.sockets) == sockets)
        });
        for listener in listeners {
            let Some(socket) = listener.sockets.take(self.index) else {
                continue;
            };
            match TcpListener::from_std(socket) {
                Ok(socket) => {
                    let stop = Rc::new(Notify::new());
                    let sockets = Arc::clone(&listener.sockets);
                    accepting.insert(Arc::as_ptr(&sockets), Accepting(Rc::clone(&stop)));
                    tokio::task::spawn_local(Rc::clone(self).accept(socket, sockets, stop));
                }
                Err(error) => tracing::error!(%error, "a listening socket could not be used"),
            }
        }
    }

    /// Lets what the gateway says of itself watch this worker, unless it does.
    fn watch_by(&self, watched: &mut Option<Arc<Vitals>>) {
        let vitals = self.local().table.vitals.clone();
        let same = match (&vitals, &*watched) {
            (Some(vitals), Some(watched)) => Arc::ptr_eq(vitals, watched),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if let Some(vitals) = vitals.filter(|_| !same) {
            vitals.watch_worker(self.index);
            *watched = Some(vitals);
        }
    }

    async fn accept(
        self: Rc<Worker>,
        socket: TcpListener,
        sockets: Arc<Sockets>,
        stop: Rc<Notify>,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = stop.notified() => break,
            };
            match accepted {
                Ok((stream, _)) => self.admit(stream, &sockets),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    pause(ACCEPT_PAUSE).await;
                }
            }
        }
        // Connections that the kernel has accepted already are served.
        std::future::poll_fn(|cx| {
            while let std::task::Poll::Ready(Ok((stream, _))) = socket.poll_accept(cx) {
                self.admit(stream, &sockets);
            }
            std::task::Poll::Ready(())
        })
        .await;
    }

    fn admit(self: &Rc<Worker>, stream: TcpStream, sockets: &Arc<Sockets>) {
        let local = self.local();
        let mut all = local.table.listeners.iter();
        let listener = all.find(|listener| Arc::ptr_eq(&listener.sockets, sockets));
        let tls = listener.and_then(|listener: &Listener| listener.tls.clone());
        let before = self.shared.connections.fetch_add(1, Ordering::Relaxed);
        if before >= local.table.gateway.limits.connections {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            self.shared.turned_away.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let number = self.next_connection.get();
        self.next_connection.set(number + 1);
        let watched = Rc::new(Watched {
            times: Arc::new(Times::new(Arc::clone(&self.tick))),
            waker: RefCell::default(),
        });
        self.connections
            .borrow_mut()
            .insert(number, Rc::clone(&watched));
        let place = Place {
            worker: Rc::clone(self),
            number,
        };
        tokio::task::spawn_local(connection::serve(place, watched, stream, tls));
    }

    /// Looks for clients that are too slow, and for connections that are too old.
    fn sweep(&self) {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed);
        self.lines.set(0);
        let local = self.local();
        let limits = &local.table.gateway.limits;
        for watched in self.connections.borrow().values() {
            if self.is_draining() && watched.times.may_retire() {
                watched.times.judge(Verdict::Retire);
            }
            if watched.times.sweep(limits) {
                watched.wake();
            }
        }
        let canaries = local.table.routes.iter();
        for canary in canaries.filter_map(|route| route.canary.as_ref()) {
            canary.rollout.step(Clock::Precise.now());
        }
        if let Some(degrade) = &local.table.degrade {
            degrade.state.tick();
        }
        if tick.is_multiple_of(POOL_TICKS) {
            let peers = local.upstreams.iter().map(|upstream| &upstream.peers);
            let open = peers.map(|peers| peers.sweep()).sum();
            let before = self.pooled.replace(open);
            self.shared.pooled.fetch_add(open, Ordering::Relaxed);
            self.shared.pooled.fetch_sub(before, Ordering::Relaxed);
        }
    }
}

/// Stops a task that accepts, when it is dropped.
#[derive(Debug)]
struct Accepting(Rc<Notify>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A connection's place among those of its worker; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) worker: Rc<Worker>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().remove(&self.number);
        self.worker
            .shared
            .connections
            .fetch_sub(1, Ordering::Relaxed);
        if self.worker.is_draining() {
            self.worker.all_gone.notify_one();
        }
    }
}

impl Local {
    fn new(table: Arc<Table>, before: Option<&Local>, worker: usize) -> Local {
        let upstream = |upstream: &Arc<Upstream>| {
            let kept = before.and_then(|before| {
                let mut all = before.upstreams.iter();
                all.find(|former| Arc::ptr_eq(&former.upstream, upstream))
            });
            kept.cloned()
                .unwrap_or_else(|| Rc::new(LocalUpstream::new(Arc::clone(upstream), worker)))
        };
        Local {
            upstreams: table
                .upstreams
                .iter()
                .map(|entry| upstream(&entry.upstream))
                .collect(),
            table,
        }
    }
}

impl LocalUpstream {
    fn new(upstream: Arc<Upstream>, worker: usize) -> LocalUpstream {
        let peers = Rc::new(Peers::new(Arc::clone(&upstream)));
        // One worker asks for all.
        let checking = (worker == 0).then(|| Checking::start(&upstream, &peers));
        let discovering = (worker == 0).then(|| Discovering::start(&upstream));
        LocalUpstream {
            _checking: checking.flatten(),
            _discovering: discovering.flatten(),
            peers,
            upstream,
        }
    }
}

/// Runs hyper's tasks on the thread they come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the listener waits for file descriptors"
)]
async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

/// How long accepting pauses when the system has no more to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Lines of the access log per worker and tick.
const LINES_PER_TICK: u32 = 50;
/// Pools are looked after every second.
const POOL_TICKS: u32 = 4;
