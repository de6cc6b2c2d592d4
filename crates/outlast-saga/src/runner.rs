//! Running sagas: their records to the store, and what these say to the world.
//!
//! Each saga in flight is a task that owns its machine. What happens is written first, and done when it
//! is on the disk; a store that fails is asked again, with what came of attempts held meanwhile. After a
//! crash [`Runner::resume`] goes on with whatever had not ended, at a bounded pace.

mod clock;
mod drive;
mod errors;
mod look;
mod pause;
mod resume;
mod served;
mod tally;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

pub(crate) use self::clock::Clock;
use self::drive::Driver;
pub(crate) use self::drive::words_of;
pub use self::errors::{ControlError, StartError};
pub use self::pause::Overview;
pub use self::resume::{Blocked, Resumed};
use self::served::{Gate, Served};
use self::tally::Buckets;
pub use self::tally::{Done, Durations, StepDone, Ways};
use crate::definition::DefinitionError;
use crate::event::{Event, Hand, Record, Stamp};
use crate::flow::Flow;
use crate::machine::{Illegal, Saga};
use crate::store::{Begun, Listed, NewSaga, State, Store, StoreError};

/// Runs sagas on a store. Clones share everything.
pub struct Runner<S> {
    inner: Arc<Inner<S>>,
}

struct Inner<S> {
    store: S,
    flows: HashMap<(String, u32), Arc<Served>>,
    /// Whether definitions go on, by their names.
    gates: BTreeMap<String, Arc<Gate>>,
    /// Whether it was looked what was said of that before.
    knows_words: OnceCell<()>,
    /// One hears or says a word at a time: what is heard is never older than what was said.
    words: tokio::sync::Mutex<()>,
    writes: Buckets,
    limits: Limits,
    seats: Arc<Semaphore>,
    running: Mutex<HashMap<String, mpsc::Sender<Control>>>,
    clock: Clock,
    /// Why the last record of a saga could not be written, until one can.
    fails: Mutex<Option<StoreError>>,
}

/// Bounds on what runs.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sagas in flight at once; more are not begun. Default 10,000.
    pub running: NonZeroUsize,
    /// Bytes of an input, and of an output. Default 1 MiB.
    pub bytes: usize,
    /// Sagas a second that are resumed after a crash. Default 20,000, so that a hundred thousand are under
    /// way within ten seconds; less spares services that have no limits of their own.
    pub resumed_a_second: NonZeroUsize,
    /// Records of a saga's log on its way forward, and as many again on its way back; a saga that needs
    /// more waits for somebody. Two of them are an attempt that fails. Default 1,000.
    pub records: NonZeroU64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            running: NonZeroUsize::new(10_000).expect("it is not zero"),
            bytes: 1 << 20,
            resumed_a_second: NonZeroUsize::new(20_000).expect("it is not zero"),
            records: NonZeroU64::new(1000).expect("it is not zero"),
        }
    }
}

/// What somebody wants of a saga in flight.
enum Control {
    Cancel {
        by: String,
        reason: String,
        done: oneshot::Sender<Result<(), ControlError>>,
    },
    Handle {
        step: usize,
        how: Hand,
        output: Option<Value>,
        by: String,
        reason: String,
        done: oneshot::Sender<Result<(), ControlError>>,
    },
    /// To be told when it has ended, or waits for somebody.
    Rests { done: oneshot::Sender<State> },
    /// To be told whenever there is more on its log.
    Watch {
        done: oneshot::Sender<mpsc::Receiver<()>>,
    },
}

impl<S: Store> Runner<S> {
    /// A runner of these flows. Nothing goes on until [`Runner::resume`] is called, or a saga is started.
    ///
    /// # Errors
    /// If a definition cannot work, or two have the same name and version.
    pub fn new(
        store: S,
        flows: impl IntoIterator<Item = Flow>,
        limits: Limits,
    ) -> Result<Runner<S>, DefinitionError> {
        let mut known: HashMap<_, Arc<Served>> = HashMap::new();
        let mut gates: BTreeMap<String, Arc<Gate>> = BTreeMap::new();
        for flow in flows {
            let name = flow.definition.name().to_owned();
            let version = flow.definition.version();
            let other = known.values().find(|other| other.definition.name() == name);
            let tally = other.map_or_else(Arc::default, |other| Arc::clone(&other.tally));
            let gate = gates.entry(name.clone());
            let gate = Arc::clone(gate.or_insert_with(|| Arc::new(Gate::new(&limits))));
            let served = Arc::new(Served::new(flow, gate, tally)?);
            if known.insert((name.clone(), version), served).is_some() {
                return Err(DefinitionError::twice(&name, version));
            }
        }
        Ok(Runner {
            inner: Arc::new(Inner {
                clock: Clock::new(store.time()),
                store,
                flows: known,
                gates,
                knows_words: OnceCell::new(),
                words: tokio::sync::Mutex::default(),
                writes: Buckets::default(),
                seats: Arc::new(Semaphore::new(limits.running.get())),
                limits,
                running: Mutex::default(),
                fails: Mutex::default(),
            }),
        })
    }

    /// Begins a saga with the newest version of a flow; it is on the disk when this returns. The same id
    /// with the same input begins nothing new.
    ///
    /// # Errors
    /// If there is no such flow, too many run, the input is too large, the id has another input, or the
    /// store fails.
    pub async fn start(
        &self,
        flow: &str,
        id: &str,
        input: impl Serialize,
    ) -> Result<Started, StartError> {
        let inner = &self.inner;
        let input =
            serde_json::to_value(input).map_err(|error| StartError::Input(error.to_string()))?;
        let text = input.to_string();
        if text.len() > inner.limits.bytes {
            let message = format!(
                "it has {} bytes, and {} are allowed",
                text.len(),
                inner.limits.bytes
            );
            return Err(StartError::Input(message));
        }
        if id.is_empty() || id.len() > MOST_ID {
            return Err(StartError::Input(format!("an id has 1 to {MOST_ID} bytes")));
        }
        let newest = inner.flows.iter().filter(|((name, _), _)| name == flow);
        let newest = newest.max_by_key(|((_, version), _)| *version);
        let Some((_, flow)) = newest else {
            let mut known: Vec<_> = inner.flows.keys().map(|(name, _)| name.clone()).collect();
            known.sort();
            known.dedup();
            return Err(StartError::NoFlow { known });
        };
        let seats = Arc::clone(&inner.seats);
        let Ok(seat) = seats.try_acquire_owned() else {
            return self.begun_before(flow, id, &hash_of(&text)).await;
        };
        self.know_pauses().await.map_err(StartError::Store)?;
        let definition = Arc::clone(&flow.definition);
        let now = inner.clock.now();
        let mut saga = Saga::new(id, Arc::clone(&definition)).bounded(inner.limits.records);
        flow.adopt(&mut saga);
        let events = saga.begin(input, now).expect("it is new");
        let record = saga.record(events.clone(), now);
        let new = NewSaga {
            id: id.to_owned(),
            definition: definition.name().to_owned(),
            version: definition.version(),
            hash: flow.hash.clone(),
            input_hash: hash_of(&text),
            record,
            state: State::from(&saga),
        };
        let (runner, flow) = (self.clone(), Arc::clone(flow));
        let begin = async move {
            let begun = runner.inner.store.begin(new).await?;
            if begun == Begun::New {
                flow.tally.started.fetch_add(1, Ordering::Relaxed);
                runner.drive(saga, flow, (events, Vec::new()), seat, None);
            }
            Ok(begun)
        };
        let begun = to_its_end(begin).await.and_then(|begun| begun);
        match begun.map_err(StartError::Store)? {
            Begun::New => Ok(Started::New),
            Begun::Same => Ok(Started::Same),
            Begun::Other => Err(StartError::Other),
        }
    }

    /// The saga of a log.
    fn replay(&self, id: &str, flow: &Served, log: &[Record]) -> Result<Saga, Illegal> {
        let saga = Saga::replay(id, Arc::clone(&flow.definition), log)?;
        Ok(saga.bounded(self.inner.limits.records))
    }

    /// What goes on with a saga; `None` if it is not here any more, or is another one now.
    fn flow_of(&self, listed: &Listed) -> Option<Arc<Served>> {
        let key = (listed.definition.clone(), listed.version);
        let flow = self.inner.flows.get(&key);
        flow.filter(|flow| flow.hash == listed.hash).cloned()
    }

    /// Cancels a saga: what was done is undone. It is on the disk when this returns.
    ///
    /// # Errors
    /// If there is none, it has ended, or there is no way back; [`ControlError::Slow`] if it is not on the
    /// disk after 5 s.
    pub async fn cancel(&self, id: &str, by: &str, reason: &str) -> Result<(), ControlError> {
        let (by, reason) = (by.to_owned(), reason.to_owned());
        self.control(id, |done| Control::Cancel { by, reason, done })
            .await
    }

    /// Does something about a step that needs somebody: has it tried again, leaves it as it is, or takes
    /// it for done (or undone) by other means.
    ///
    /// # Errors
    /// If there is no such saga or step, the step needs nobody, or that cannot be done about it;
    /// [`ControlError::Slow`] if it is not on the disk after 5 s.
    pub async fn handle(
        &self,
        id: &str,
        step: &str,
        how: Hand,
        by: &str,
        reason: &str,
    ) -> Result<(), ControlError> {
        self.handle_giving(id, step, how, None, by, reason).await
    }

    /// As [`Runner::handle`], with what the step gave, for later ones: for a step that is skipped, or
    /// resolved as done.
    ///
    /// # Errors
    /// As [`Runner::handle`], and if the output is too large, or none can be.
    pub async fn handle_giving(
        &self,
        id: &str,
        step: &str,
        how: Hand,
        output: Option<Value>,
        by: &str,
        reason: &str,
    ) -> Result<(), ControlError> {
        let bytes = output.as_ref().map_or(0, |output| output.to_string().len());
        if bytes > self.inner.limits.bytes {
            let most = self.inner.limits.bytes;
            return Err(ControlError::TooLarge { bytes, most });
        }
        let listed = self
            .inner
            .store
            .find(id)
            .await
            .map_err(ControlError::Store)?;
        let listed = listed.ok_or(ControlError::NoSaga)?;
        let flow = self.inner.flows.get(&(listed.definition, listed.version));
        let flow = flow.ok_or(ControlError::Blocked)?;
        let mut steps = flow.definition.steps();
        let step = steps
            .position(|known| known.name() == step)
            .ok_or(ControlError::NoStep)?;
        let (by, reason) = (by.to_owned(), reason.to_owned());
        let handle = |done| Control::Handle {
            step,
            how,
            output,
            by,
            reason,
            done,
        };
        self.control(id, handle).await
    }

    /// Waits until a saga has ended, or waits for somebody. If another runner goes on with it, says where
    /// it is now.
    ///
    /// # Errors
    /// If there is none.
    pub async fn rests(&self, id: &str) -> Result<State, ControlError> {
        let sender = self.running().get(id).cloned();
        if let Some(sender) = sender {
            let (done, told) = oneshot::channel();
            if sender.send(Control::Rests { done }).await.is_ok()
                && let Ok(state) = told.await
            {
                return Ok(state);
            }
        }
        let listed = self
            .inner
            .store
            .find(id)
            .await
            .map_err(ControlError::Store)?;
        Ok(listed.ok_or(ControlError::NoSaga)?.state)
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.inner.store
    }

    /// How many sagas are in flight.
    pub fn in_flight(&self) -> usize {
        self.running().len()
    }

    async fn control(
        &self,
        id: &str,
        control: impl FnOnce(oneshot::Sender<Result<(), ControlError>>) -> Control,
    ) -> Result<(), ControlError> {
        let end = Instant::now() + LONGEST_CONTROL;
        let known = self.running().get(id).cloned();
        let (done, told) = oneshot::channel();
        let mut wanted = Some(control(done));
        let ask = async {
            if let Some(sender) = known {
                let sent = sender
                    .send(wanted.take().expect("it was made just now"))
                    .await;
                // It has come to rest just now.
                wanted = sent.err().map(|unsent| unsent.0);
            }
            match wanted {
                Some(control) => self.wake_up(id, control).await,
                None => Ok(()),
            }
        };
        // Whether it was heard is not known then: what has begun goes on without whoever asked.
        let asked = tokio::time::timeout_at(end, ask).await;
        asked.unwrap_or_else(|_| Err(self.slow()))?;
        match tokio::time::timeout_at(end, told).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(self.elsewhere(id).await),
            Err(_) => Err(self.slow()),
        }
    }

    fn slow(&self) -> ControlError {
        ControlError::Slow {
            store: self.fails().clone(),
        }
    }

    fn fails(&self) -> MutexGuard<'_, Option<StoreError>> {
        let fails = &self.inner.fails;
        fails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn elsewhere(&self, id: &str) -> ControlError {
        match self.inner.store.runner_of(id).await {
            Ok(runner) => ControlError::Elsewhere { runner },
            Err(error) => ControlError::Store(error),
        }
    }

    /// A saga that waits for somebody, or with which nobody goes on, is in flight again, and told that.
    async fn wake_up(&self, id: &str, control: Control) -> Result<(), ControlError> {
        let inner = &self.inner;
        let listed = inner.store.find(id).await.map_err(ControlError::Store)?;
        let listed = listed.ok_or(ControlError::NoSaga)?;
        if !listed.has_log {
            return Err(ControlError::LogDropped);
        }
        let flow = self.flow_of(&listed).ok_or(ControlError::Blocked)?;
        let seats = Arc::clone(&inner.seats);
        let seat = seats.acquire_owned().await.expect("it is never closed");
        let runner = self.clone();
        let taken = async move { runner.take(&listed, flow, seat, control).await };
        to_its_end(taken).await.map_err(ControlError::Store)?
    }

    /// Takes one that has not ended from whoever goes on with it, if nobody does, and goes on with it.
    async fn take(
        &self,
        listed: &Listed,
        flow: Arc<Served>,
        seat: tokio::sync::OwnedSemaphorePermit,
        control: Control,
    ) -> Result<(), ControlError> {
        let (store, id) = (&self.inner.store, &listed.id);
        let has_ended = listed.state.has_ended();
        if !has_ended && !store.take(id).await.map_err(ControlError::Store)? {
            return Err(self.elsewhere(id).await);
        }
        let saga = self.read(id, &flow).await;
        if saga.is_err() {
            // Somebody else may be able to, or this one later.
            store.release(id).await;
        }
        let mut saga = saga?;
        flow.adopt(&mut saga);
        let events = if saga.is_at_rest() {
            Vec::new()
        } else {
            saga.recover(self.inner.clock.now())
        };
        self.drive(saga, flow, (Vec::new(), events), seat, Some(control));
        Ok(())
    }

    /// A saga as the store has it.
    async fn read(&self, id: &str, flow: &Served) -> Result<Saga, ControlError> {
        self.know_pauses().await.map_err(ControlError::Store)?;
        let log = self.inner.store.log(id).await;
        let log = log.map_err(ControlError::Store)?;
        self.replay(id, flow, &log).map_err(ControlError::Illegal)
    }

    /// Lets a saga go on, with events that are on the disk and events that are not, and tells it what
    /// somebody wants of it before anything else: one that has nothing to do is gone at once.
    #[expect(clippy::disallowed_methods, reason = "a saga in flight is a task")]
    fn drive(
        &self,
        saga: Saga,
        flow: Arc<Served>,
        (written, to_write): (Vec<Event>, Vec<Event>),
        seat: tokio::sync::OwnedSemaphorePermit,
        control: Option<Control>,
    ) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let mut running = self.running();
        let quicker = running.get(saga.id()).filter(|other| !other.is_closed());
        if let Some(control) = control {
            // One that hears too much at once says so by not answering.
            let _ = quicker.unwrap_or(&sender).try_send(control);
        }
        if quicker.is_some() {
            return;
        }
        running.insert(saga.id().to_owned(), sender);
        drop(running);
        let driver = Driver::new(self.clone(), saga, flow, inbox, seat);
        tokio::spawn(driver.run(written, to_write));
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Control>>> {
        self.inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Clone for Runner<S> {
    fn clone(&self) -> Runner<S> {
        Runner {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S> fmt::Debug for Runner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("limits", &self.inner.limits)
            .finish_non_exhaustive()
    }
}

/// What came of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It has begun.
    New,
    /// It had begun before, with the same input.
    Same,
}

/// Goes on when its caller goes away: what is written to the disk has to be known here.
#[expect(
    clippy::disallowed_methods,
    reason = "what is on the disk and what is known must not differ because a caller goes away"
)]
pub(crate) async fn to_its_end<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, StoreError> {
    let ended = tokio::spawn(future).await;
    ended.map_err(|error| StoreError::Failed(error.to_string()))
}

fn hash_of(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An output that is known.
pub(crate) fn outputs_of(saga: &Saga) -> Vec<(String, Value)> {
    let steps = saga.definition().steps().zip(saga.steps());
    let output =
        steps.filter_map(|(step, state)| Some((step.name().to_owned(), state.output.clone()?)));
    output.collect()
}

const INBOX: usize = 16;
/// Whoever asks for something hears by then what is known. A database that is restarted takes less.
const LONGEST_CONTROL: Duration = Duration::from_secs(5);
/// Ids are parts of keys, paths and headers.
const MOST_ID: usize = 200;
