//! Durable sagas: a business action over several services ends in one of two states, done or undone,
//! whatever dies on the way.
//!
//! ```
//! use outlast_saga::store::{Memory, State};
//! use outlast_saga::{Attempt, Flow, Limits, Runner, Step, StepError, Undo};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let order = Flow::new("order", 1)
//!     .step_with_undo(
//!         Step::new("charge").undo(Undo::new()),
//!         |attempt: Attempt| async move { Ok(format!("charged with key {}", attempt.key())) },
//!         |attempt: Attempt| async move {
//!             let charged: Option<String> = attempt.output("charge")?;
//!             println!("given back: {charged:?}");
//!             Ok(())
//!         },
//!     )
//!     .step(Step::new("ship"), |_| async { Err::<(), _>(StepError::permanent("out of stock")) });
//! let runner = Runner::new(Memory::new(), [order], Limits::default())?;
//! runner.start("order", "order-4711", "a book").await?;
//! assert_eq!(runner.rests("order-4711").await?, State::Compensated);
//! # Ok(())
//! # }
//! ```
//!
//! Work that cannot be done now goes to a durable `queue`.
//!
//! Without the feature `runner` there is no task, timer or file: the machine of a saga ([`Saga`]), its
//! log and [`store::Memory`], for whoever drives it by other means, as the simulator does.

mod bounds;
mod definition;
mod event;
#[cfg(feature = "runner")]
mod flow;
mod machine;
#[cfg(feature = "runner")]
pub mod queue;
#[cfg(feature = "runner")]
mod runner;
pub mod store;

pub use crate::bounds::{Bounds, Left};
pub use crate::definition::{Definition, DefinitionError, OnUnknown, Query, Step, Tries, Undo};
pub use crate::event::{Cause, Event, Hand, Outcome, Record, Stamp};
#[cfg(feature = "runner")]
pub use crate::flow::{Attempt, Flow, StepError, Was};
pub use crate::machine::{Acted, At, Found, Illegal, Phase, Saga, StepState};
#[cfg(feature = "runner")]
pub use crate::runner::{
    Blocked, ControlError, Done, Durations, Limits, Overview, Resumed, Runner, StartError, Started,
    StepDone, Ways,
};

/// Runs the code of the guide.
#[cfg(all(doctest, feature = "runner"))]
#[doc = include_str!("../../../docs/sagas.md")]
struct Guide;

/// Runs the code of the guide to queues.
#[cfg(all(doctest, feature = "runner"))]
#[doc = include_str!("../../../docs/queues.md")]
struct QueuesGuide;
