//! One saga in flight.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::{JoinError, JoinSet};

use super::served::Word;
use super::tally::InFlight;
use super::*;
use crate::flow::{Attempt, Made, StepError, Was};
use crate::machine::{Acted, Found, Phase};

pub(super) struct Driver<S> {
    runner: Runner<S>,
    saga: Saga,
    flow: Arc<Served>,
    inbox: mpsc::Receiver<Control>,
    attempts: JoinSet<Ended>,
    /// The last word on whether its definition goes on.
    word: watch::Receiver<Word>,
    /// It was paused, and goes on then.
    goes_on: Option<Instant>,
    /// Who is told of new records.
    watching: Vec<mpsc::Sender<()>>,
    /// Who wants to know when it rests.
    waiting: Vec<oneshot::Sender<State>>,
    /// Who is told when what was asked for is on the disk.
    asked: Vec<oneshot::Sender<Result<(), ControlError>>>,
    _seat: OwnedSemaphorePermit,
    _in_flight: InFlight,
}

/// What happens to a saga in flight.
enum Happens {
    Ended(Result<Ended, JoinError>),
    Asked(Control),
    /// Time passes, or somebody has said something of its definition.
    Goes,
}

/// What is done in the world for a step.
#[derive(Clone, Copy)]
enum Work {
    Act,
    Query,
    Undo,
}

/// What came of an attempt.
struct Ended {
    step: usize,
    attempt: u32,
    came: Came,
    took: Duration,
}

pub(super) enum Came {
    Acted(Acted),
    Found(Found),
    Undid(Acted),
}

impl<S: Store> Driver<S> {
    pub(super) fn new(
        runner: Runner<S>,
        saga: Saga,
        flow: Arc<Served>,
        inbox: mpsc::Receiver<Control>,
        seat: OwnedSemaphorePermit,
    ) -> Driver<S> {
        Driver {
            runner,
            saga,
            word: flow.gate.watch(),
            goes_on: None,
            watching: Vec::new(),
            _in_flight: InFlight::new(&flow.tally),
            flow,
            inbox,
            attempts: JoinSet::new(),
            waiting: Vec::new(),
            asked: Vec::new(),
            _seat: seat,
        }
    }

    /// Goes on until it has ended or waits for somebody. `written` is on the disk, `to_write` is not.
    pub(super) async fn run(mut self, written: Vec<Event>, to_write: Vec<Event>) {
        let went = self.go_on(written, to_write).await;
        self.runner.running().remove(self.saga.id());
        self.runner.inner.store.release(self.saga.id()).await;
        let state = State::from(&self.saga);
        let waiting = std::mem::take(&mut self.waiting);
        // Whoever is told finds its seat free, and may be the last to have the store.
        drop(self);
        if went.is_ok() {
            for done in waiting {
                let _ = done.send(state);
            }
        }
    }

    /// An error if somebody else goes on with it. What is thought of it here is not true then.
    async fn go_on(&mut self, written: Vec<Event>, to_write: Vec<Event>) -> Result<(), StoreError> {
        self.perform(&written).await?;
        self.commit(to_write).await?;
        while let Some(events) = self.next().await {
            self.commit(events).await?;
            for done in self.asked.drain(..) {
                let _ = done.send(Ok(()));
            }
        }
        Ok(())
    }

    /// What happens next; `None` if nothing does.
    async fn next(&mut self) -> Option<Vec<Event>> {
        if self.heed() {
            return Some(self.saga.wake(self.runner.inner.clock.now()));
        }
        let rests = matches!(self.saga.phase(), Phase::Ended(_)) || self.saga.is_at_rest();
        if rests && self.attempts.is_empty() {
            // Whoever has just found it in flight is still heard.
            let control = self.inbox.try_recv().ok()?;
            return Some(self.control(control));
        }
        let due = self.saga.wakes().map(|due| self.runner.inner.clock.at(due));
        let due = due.into_iter().chain(self.goes_on).min();
        let happens = tokio::select! {
            Some(ended) = self.attempts.join_next() => Happens::Ended(ended),
            Some(control) = self.inbox.recv() => Happens::Asked(control),
            () = sleep_until(due) => Happens::Goes,
            Ok(()) = self.word.changed() => Happens::Goes,
        };
        // Nothing begins after somebody has said that nothing does.
        let goes_on = self.heed();
        let (mut events, wakes) = match happens {
            Happens::Ended(ended) => (self.ended(ended), goes_on),
            Happens::Asked(control) => (self.control(control), goes_on),
            Happens::Goes => (Vec::new(), true),
        };
        if wakes {
            events.extend(self.saga.wake(self.runner.inner.clock.now()));
        }
        Some(events)
    }

    /// Heeds the last word on whether its definition goes on. Sagas that were paused go on one after the
    /// other, and not all at once. Whether it goes on from now on, so that something may begin.
    fn heed(&mut self) -> bool {
        let is_paused = self.word.borrow_and_update().closes();
        let waits = self.saga.is_paused() && *self.saga.phase() == Phase::Forward;
        if is_paused || !waits {
            self.goes_on = None;
            self.saga.pause(is_paused);
            return false;
        }
        let now = Instant::now();
        let clock = &self.runner.inner.clock;
        let turn = || now + self.flow.gate.turn(clock.now());
        if *self.goes_on.get_or_insert_with(turn) > now {
            return false;
        }
        self.goes_on = None;
        self.saga.pause(false);
        true
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) -> Vec<Event> {
        let now = self.runner.inner.clock.now();
        // Panics are caught within, and nobody aborts attempts.
        let Ok(ended) = ended else {
            return Vec::new();
        };
        let (step, attempt) = (ended.step, ended.attempt);
        self.flow.steps[step].record(&ended.came, ended.took);
        match ended.came {
            Came::Acted(acted) => self.saga.acted(step, attempt, acted, now),
            Came::Found(found) => self.saga.asked(step, attempt, found, now),
            Came::Undid(acted) => self.saga.undid(step, attempt, acted, now),
        }
    }

    fn control(&mut self, control: Control) -> Vec<Event> {
        let now = self.runner.inner.clock.now();
        let (result, done) = match control {
            Control::Cancel { by, reason, done } => (self.saga.cancel(&by, &reason, now), done),
            Control::Handle {
                step,
                how,
                output,
                by,
                reason,
                done,
            } => {
                let handled = self
                    .saga
                    .handle_giving(step, how, output, &by, &reason, now);
                (handled, done)
            }
            Control::Watch { done } => {
                self.watching.retain(|watching| !watching.is_closed());
                if self.watching.len() < MOST_WATCHING {
                    let (tell, told) = mpsc::channel(1);
                    self.watching.push(tell);
                    let _ = done.send(told);
                }
                return Vec::new();
            }
            Control::Rests { done } => {
                self.waiting.push(done);
                return Vec::new();
            }
        };
        match result {
            Ok(events) => {
                self.asked.push(done);
                events
            }
            Err(illegal) => {
                drop(done.send(Err(ControlError::Illegal(illegal))));
                Vec::new()
            }
        }
    }

    /// Puts events on the disk, however long that takes, and then does what they say. An error if
    /// somebody else writes this log.
    async fn commit(&mut self, events: Vec<Event>) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let now = self.runner.inner.clock.now();
        let record = self.saga.record(events.clone(), now);
        let state = State::from(&self.saga);
        let mut wait = SHORTEST_WAIT;
        let before = Instant::now();
        loop {
            let store = &self.runner.inner.store;
            match store.append(self.saga.id(), record.clone(), state).await {
                Ok(()) => break,
                Err(lost @ StoreError::Lost { .. }) => return Err(lost),
                Err(conflict @ StoreError::Conflict { .. }) => {
                    // It may be this record, whose first try was told to have failed.
                    match store.log(self.saga.id()).await {
                        Ok(log) if log.last() == Some(&record) => break,
                        Ok(_) => {
                            self.attempts.detach_all();
                            return Err(conflict);
                        }
                        Err(error) => *self.runner.fails() = Some(error),
                    }
                }
                Err(error) => *self.runner.fails() = Some(error),
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "a store that fails is asked again"
            )]
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        self.runner.inner.writes.add(before.elapsed());
        self.runner.fails().take();
        let age = now.since(self.saga.began());
        self.flow.tally.record(&events, age);
        // Who has not heard of the last one yet hears of both.
        self.watching
            .retain(|tell| !matches!(tell.try_send(()), Err(TrySendError::Closed(()))));
        self.perform(&events).await
    }

    /// Does what events say that are on the disk, when it may.
    async fn perform(&mut self, events: &[Event]) -> Result<(), StoreError> {
        for event in events {
            let (step, attempt, work) = match event {
                Event::Started { step, attempt } => (*step, *attempt, Work::Act),
                Event::QueryStarted { step, attempt } => (*step, *attempt, Work::Query),
                Event::UndoStarted { step, attempt } => (*step, *attempt, Work::Undo),
                _ => continue,
            };
            let store = &self.runner.inner.store;
            store.ready(self.saga.id(), self.saga.length()).await?;
            self.attempt(step, attempt, work);
        }
        Ok(())
    }

    fn attempt(&mut self, step: usize, attempt: u32, work: Work) {
        let definition = Arc::clone(self.saga.definition());
        let described = definition
            .steps()
            .nth(step)
            .expect("a step of the definition");
        let given = Attempt {
            saga: self.saga.id().to_owned(),
            step: described.name().to_owned(),
            undoes: matches!(work, Work::Undo),
            number: attempt,
            input: Arc::new(self.saga.input().clone()),
            outputs: Arc::new(outputs_of(&self.saga)),
        };
        let bytes = self.runner.inner.limits.bytes;
        let code = self.flow.codes[step].clone();
        let timeout = match work {
            Work::Act => Some(described.time()),
            Work::Query => described.query_time(),
            Work::Undo => described.undo_time(),
        };
        let timeout = timeout.expect(CHECKED);
        self.attempts.spawn(async move {
            let before = Instant::now();
            let came = match work {
                Work::Act => Came::Acted(acted(|| (code.act)(given), timeout, bytes).await),
                Work::Query => {
                    let query = code.query.expect(CHECKED);
                    Came::Found(found(|| query(given), timeout, bytes).await)
                }
                Work::Undo => {
                    let undo = code.undo.expect(CHECKED);
                    Came::Undid(acted(|| undo(given), timeout, bytes).await)
                }
            };
            Ended {
                step,
                attempt,
                came,
                took: before.elapsed(),
            }
        });
    }
}

/// What comes of an attempt within its time.
async fn acted(make: impl FnOnce() -> Made<Value>, timeout: Duration, bytes: usize) -> Acted {
    let made = within(make, timeout).await;
    match made.and_then(|output| fitting(output, bytes)) {
        Ok(output) => Acted::Done(output),
        Err(StepError(acted)) => acted,
    }
}

/// What comes of a question within its time.
async fn found(make: impl FnOnce() -> Made<Was<Value>>, timeout: Duration, bytes: usize) -> Found {
    match within(make, timeout).await {
        Ok(Was::NotDone) => Found::NotDone,
        Ok(Was::Done(output)) => fitting(output, bytes).map_or_else(StepError::found, Found::Done),
        Err(error) => error.found(),
    }
}

fn fitting(output: Value, bytes: usize) -> Result<Value, StepError> {
    let length = output.to_string().len();
    if length > bytes {
        let message = format!("its output has {length} bytes, and {bytes} are allowed");
        return Err(StepError::unknown(message));
    }
    Ok(output)
}

/// A panic is an outcome that nobody knows, and so is none in time.
async fn within<T>(make: impl FnOnce() -> Made<T>, timeout: Duration) -> Result<T, StepError> {
    let unknown = |panic: Box<dyn Any + Send>| StepError::unknown(words_of(panic.as_ref()));
    let mut made = std::panic::catch_unwind(AssertUnwindSafe(make)).map_err(unknown)?;
    let caught = std::future::poll_fn(move |cx| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| made.as_mut().poll(cx)));
        polled.unwrap_or_else(|panic| std::task::Poll::Ready(Err(unknown(panic))))
    });
    let in_time = tokio::time::timeout(timeout, caught).await;
    in_time.unwrap_or_else(|_| Err(StepError::unknown(format!("no answer within {timeout:?}"))))
}

pub(crate) fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned());
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", words.unwrap_or_default())
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// A definition whose code is not there is refused when the runner is made.
const CHECKED: &str = "it was checked at the start";
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// More look for themselves.
const MOST_WATCHING: usize = 32;
const LONGEST_WAIT: Duration = Duration::from_secs(1);
