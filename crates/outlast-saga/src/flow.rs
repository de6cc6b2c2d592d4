//! A definition with the code of its steps.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::definition::{Definition, DefinitionError, Step};
use crate::machine::{Acted, Found};

/// A definition with the code of its steps: asynchronous functions from what is known to an output.
#[derive(Clone)]
pub struct Flow {
    pub(crate) definition: Arc<Definition>,
    pub(crate) codes: Vec<Code>,
    /// Whether there was a query before any step.
    has_stray_query: bool,
}

/// The code of a step.
#[derive(Clone)]
pub(crate) struct Code {
    pub(crate) act: Act,
    pub(crate) undo: Option<Act>,
    pub(crate) query: Option<Ask>,
}

pub(crate) type Act = Making<Value>;
pub(crate) type Ask = Making<Was<Value>>;
type Making<T> = Arc<dyn Fn(Attempt) -> Made<T> + Send + Sync>;
pub(crate) type Made<T> = Pin<Box<dyn Future<Output = Result<T, StepError>> + Send>>;

impl Flow {
    /// Without steps.
    pub fn new(name: impl Into<String>, version: u32) -> Flow {
        Flow {
            definition: Arc::new(Definition::new(name, version)),
            codes: Vec::new(),
            has_stray_query: false,
        }
    }

    /// Adds a step that nothing has to undo.
    pub fn step<T, F>(
        mut self,
        step: Step,
        act: impl Fn(Attempt) -> F + Send + Sync + 'static,
    ) -> Flow
    where
        T: Serialize,
        F: Future<Output = Result<T, StepError>> + Send + 'static,
    {
        self = self.with(|definition| definition.step(step));
        self.codes.push(Code {
            act: boxed(act),
            undo: None,
            query: None,
        });
        self
    }

    /// Adds a step, and what undoes it; [`Step::undo`] of the step says how.
    pub fn step_with_undo<T, F, G>(
        self,
        step: Step,
        act: impl Fn(Attempt) -> F + Send + Sync + 'static,
        undo: impl Fn(Attempt) -> G + Send + Sync + 'static,
    ) -> Flow
    where
        T: Serialize,
        F: Future<Output = Result<T, StepError>> + Send + 'static,
        G: Future<Output = Result<(), StepError>> + Send + 'static,
    {
        let mut flow = self.step(step, act);
        if let Some(code) = flow.codes.last_mut() {
            code.undo = Some(boxed(undo));
        }
        flow
    }

    /// Adds to the last step what asks whether it was done, when nobody knows;
    /// [`OnUnknown::Query`](crate::OnUnknown::Query) of the step says how. It is given the attempt that
    /// it asks about: its key is what the work was to be done by. An error leaves the question open, a
    /// permanent one for good.
    ///
    /// The trap: [`Was::NotDone`] has to hold for attempts that are still under way, too. Whoever answers
    /// it must not do the work of this key later, but for another attempt.
    pub fn query<T, F>(mut self, query: impl Fn(Attempt) -> F + Send + Sync + 'static) -> Flow
    where
        T: Serialize,
        F: Future<Output = Result<Was<T>, StepError>> + Send + 'static,
    {
        let ask: Ask = Arc::new(move |attempt| {
            let asking = query(attempt);
            Box::pin(async move {
                Ok(match asking.await? {
                    Was::Done(output) => Was::Done(as_json(output)?),
                    Was::NotDone => Was::NotDone,
                })
            })
        });
        match self.codes.last_mut() {
            Some(code) => code.query = Some(ask),
            None => self.has_stray_query = true,
        }
        self
    }

    /// Adds steps that run at once, when those before have ended: those that `add` adds to the flow it
    /// is given. Nothing but steps is taken from it.
    pub fn at_once(mut self, add: impl FnOnce(Flow) -> Flow) -> Flow {
        let added = add(Flow::new("", 0));
        let steps = added.definition.steps().cloned();
        self = self.with(|definition| definition.at_once(steps));
        self.codes.extend(added.codes);
        self.has_stray_query |= added.has_stray_query;
        self
    }

    /// Whether it can work.
    ///
    /// # Errors
    /// What cannot, and what to change.
    pub(crate) fn check(&self) -> Result<(), DefinitionError> {
        self.definition.check()?;
        if self.has_stray_query {
            return Err(DefinitionError::stray_query(self.definition.name()));
        }
        for (step, code) in self.definition.steps().zip(&self.codes) {
            step.check_code(code.undo.is_some(), code.query.is_some())?;
        }
        Ok(())
    }

    /// What its code was made from, if that is a text: with another one it is another definition.
    /// Default: nothing.
    pub fn source(self, source: impl Into<String>) -> Flow {
        self.with(|definition| definition.source(source))
    }

    /// When sagas of it are given up and compensated. Default: never.
    pub fn deadline(self, deadline: Duration) -> Flow {
        self.with(|definition| definition.deadline(deadline))
    }

    fn with(mut self, change: impl FnOnce(Definition) -> Definition) -> Flow {
        self.definition = Arc::new(change(Arc::unwrap_or_clone(self.definition)));
        self
    }

    /// Its definition.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("definition", &self.definition)
            .finish_non_exhaustive()
    }
}

fn boxed<T, F>(act: impl Fn(Attempt) -> F + Send + Sync + 'static) -> Act
where
    T: Serialize,
    F: Future<Output = Result<T, StepError>> + Send + 'static,
{
    Arc::new(move |attempt| {
        let acting = act(attempt);
        Box::pin(async move { as_json(acting.await?) })
    })
}

fn as_json(output: impl Serialize) -> Result<Value, StepError> {
    let output = serde_json::to_value(output);
    output.map_err(|error| StepError::unknown(format!("its output is no JSON: {error}")))
}

/// What whoever is asked says of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was<T> {
    /// It was done, and gave this.
    Done(T),
    /// It was not done, and no attempt that is still under way will do it.
    NotDone,
}

/// What a step is given: which attempt it is, and what is known.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub(crate) saga: String,
    pub(crate) step: String,
    pub(crate) undoes: bool,
    pub(crate) number: u32,
    pub(crate) input: Arc<Value>,
    pub(crate) outputs: Arc<Vec<(String, Value)>>,
}

impl Attempt {
    /// The id of its saga.
    pub fn saga(&self) -> &str {
        &self.saga
    }

    /// Which attempt it is, from 1 on; of a query, how often it was asked.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether it undoes the step.
    pub fn undoes(&self) -> bool {
        self.undoes
    }

    /// The same for all attempts, also after a crash: `SAGA/STEP`, or `SAGA/STEP/undo`. Whoever does
    /// the work must do it once for one key. A query has the key of what it asks about.
    pub fn key(&self) -> String {
        let undo = if self.undoes { "/undo" } else { "" };
        format!("{}/{}{undo}", self.saga, self.step)
    }

    /// What the saga began with.
    ///
    /// # Errors
    /// A permanent one, if it is something else.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        let read = serde_json::from_value(Value::clone(&self.input));
        read.map_err(|error| StepError::permanent(format!("the input is something else: {error}")))
    }

    /// What an earlier step gave; while a step is undone also what it gave itself. `None` if it is not
    /// known: the step was not done, or nobody knows.
    ///
    /// # Errors
    /// A permanent one, if it is something else.
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Result<Option<T>, StepError> {
        let Some((_, output)) = self.outputs.iter().find(|(name, _)| name == step) else {
            return Ok(None);
        };
        let read = serde_json::from_value(output.clone()).map(Some);
        read.map_err(|error| StepError::permanent(format!("`{step}` gave something else: {error}")))
    }
}

/// Why a step did not do its work, or may not have.
#[derive(Clone, Debug, PartialEq)]
pub struct StepError(pub(crate) Acted);

impl StepError {
    /// It did not, and may the next time.
    pub fn transient(error: impl Into<String>) -> StepError {
        let (error, after) = (error.into(), None);
        StepError(Acted::Transient { error, after })
    }

    /// It did not, and may after a while.
    pub fn transient_after(error: impl Into<String>, after: Duration) -> StepError {
        let (error, after) = (error.into(), Some(after));
        StepError(Acted::Transient { error, after })
    }

    /// It did not, and never will.
    pub fn permanent(error: impl Into<String>) -> StepError {
        StepError(Acted::Permanent(error.into()))
    }

    /// Nobody knows whether it did: a connection was cut after something was sent, an answer did not
    /// come.
    pub fn unknown(error: impl Into<String>) -> StepError {
        StepError(Acted::Unknown(error.into()))
    }

    /// What it says of a question that was asked.
    pub(crate) fn found(self) -> Found {
        match self.0 {
            Acted::Transient { error, after } => Found::Open { error, after },
            Acted::Unknown(error) => Found::Open { error, after: None },
            Acted::Permanent(error) => Found::Never(error),
            // No error is made of it.
            Acted::Done(output) => Found::Done(output),
        }
    }
}
