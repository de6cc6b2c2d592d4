//! One saga in flight.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinSet};

use super::*;
use crate::flow::{Acting, Attempt, StepError};
use crate::machine::{Acted, Phase};

pub(super) struct Driver<S> {
    runner: Runner<S>,
    saga: Saga,
    flow: Arc<Flow>,
    inbox: mpsc::Receiver<Control>,
    attempts: JoinSet<Ended>,
    /// Who wants to know when it rests.
    waiting: Vec<oneshot::Sender<State>>,
    /// Who is told when what was asked for is on the disk.
    asked: Vec<oneshot::Sender<Result<(), ControlError>>>,
    _seat: OwnedSemaphorePermit,
}

/// What came of an attempt.
struct Ended {
    step: usize,
    attempt: u32,
    undoes: bool,
    acted: Acted,
}

impl<S: Store> Driver<S> {
    pub(super) fn new(
        runner: Runner<S>,
        saga: Saga,
        flow: Arc<Flow>,
        inbox: mpsc::Receiver<Control>,
        seat: OwnedSemaphorePermit,
    ) -> Driver<S> {
        Driver {
            runner,
            saga,
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
        let rests = matches!(self.saga.phase(), Phase::Ended(_)) || self.saga.is_at_rest();
        if rests && self.attempts.is_empty() {
            // Whoever has just found it in flight is still heard.
            let control = self.inbox.try_recv().ok()?;
            return Some(self.control(control));
        }
        let now = || self.runner.inner.clock.now();
        let due = self.saga.wakes().map(|due| self.runner.inner.clock.at(due));
        tokio::select! {
            Some(ended) = self.attempts.join_next() => Some(self.ended(ended)),
            Some(control) = self.inbox.recv() => Some(self.control(control)),
            () = sleep_until(due) => {
                let now = now();
                Some(self.saga.wake(now))
            }
        }
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) -> Vec<Event> {
        let now = self.runner.inner.clock.now();
        match ended {
            Ok(Ended {
                step,
                attempt,
                undoes: false,
                acted,
            }) => self.saga.acted(step, attempt, acted, now),
            Ok(Ended {
                step,
                attempt,
                undoes: true,
                acted,
            }) => self.saga.undid(step, attempt, acted, now),
            // Panics are caught within, and nobody aborts attempts.
            Err(_) => Vec::new(),
        }
    }

    fn control(&mut self, control: Control) -> Vec<Event> {
        let now = self.runner.inner.clock.now();
        let (result, done) = match control {
            Control::Cancel { by, reason, done } => (self.saga.cancel(&by, &reason, now), done),
            Control::Handle {
                step,
                how,
                by,
                reason,
                done,
            } => (self.saga.handle(step, how, &by, &reason, now), done),
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
                        Err(_) => {}
                    }
                }
                Err(_) => {}
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "a store that fails is asked again"
            )]
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        self.perform(&events).await
    }

    /// Does what events say that are on the disk, when it may.
    async fn perform(&mut self, events: &[Event]) -> Result<(), StoreError> {
        for event in events {
            let (step, attempt, undoes) = match event {
                Event::Started { step, attempt } => (*step, *attempt, false),
                Event::UndoStarted { step, attempt } => (*step, *attempt, true),
                _ => continue,
            };
            let store = &self.runner.inner.store;
            store.ready(self.saga.id(), self.saga.length()).await?;
            self.attempt(step, attempt, undoes);
        }
        Ok(())
    }

    fn attempt(&mut self, step: usize, attempt: u32, undoes: bool) {
        let definition = Arc::clone(self.saga.definition());
        let described = definition
            .steps()
            .nth(step)
            .expect("a step of the definition");
        let code = &self.flow.codes[step];
        let (act, timeout) = if undoes {
            let undo = code.undo.as_ref().expect("it was checked at the start");
            (undo, described.undo_time().unwrap_or_default())
        } else {
            (&code.act, described.time())
        };
        let given = Attempt {
            saga: self.saga.id().to_owned(),
            step: described.name().to_owned(),
            undoes,
            number: attempt,
            input: Arc::new(self.saga.input().clone()),
            outputs: Arc::new(outputs_of(&self.saga)),
        };
        let bytes = self.runner.inner.limits.bytes;
        let act = Arc::clone(act);
        self.attempts.spawn(async move {
            let made = std::panic::catch_unwind(AssertUnwindSafe(|| act(given)));
            let acted = match made {
                Ok(acting) => acted(acting, timeout, bytes).await,
                Err(panic) => Acted::Unknown(words_of(panic.as_ref())),
            };
            Ended {
                step,
                attempt,
                undoes,
                acted,
            }
        });
    }
}

/// What comes of an attempt within its time.
async fn acted(acting: Acting, timeout: Duration, bytes: usize) -> Acted {
    let result = tokio::time::timeout(timeout, caught(acting)).await;
    match result {
        Err(_) => Acted::Unknown(format!("no answer within {timeout:?}")),
        Ok(Err(StepError(acted))) => acted,
        Ok(Ok(output)) => {
            let length = output.to_string().len();
            if length > bytes {
                let message = format!("its output has {length} bytes, and {bytes} are allowed");
                return Acted::Unknown(message);
            }
            Acted::Done(output)
        }
    }
}

/// A panic is an outcome that nobody knows.
async fn caught(mut acting: Acting) -> Result<Value, StepError> {
    std::future::poll_fn(move |cx| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| acting.as_mut().poll(cx)));
        polled.unwrap_or_else(|panic| {
            std::task::Poll::Ready(Err(StepError::unknown(words_of(panic.as_ref()))))
        })
    })
    .await
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

const SHORTEST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
