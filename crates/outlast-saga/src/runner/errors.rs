//! Why a saga could not be started, or nothing could be done about one.

use std::fmt;

use crate::machine::Illegal;
use crate::store::StoreError;

/// Why a saga could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// There is no such flow.
    NoFlow {
        /// Those that there are.
        known: Vec<String>,
    },
    /// As many run as may.
    Busy,
    /// The input or the id cannot be.
    Input(String),
    /// The id has begun with another input, or another flow.
    Other,
    /// The store failed. It may have begun all the same: start it again with the same id.
    Store(StoreError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoFlow { known } => {
                write!(
                    f,
                    "there is no such definition; there are: {}",
                    known.join(", ")
                )
            }
            StartError::Busy => f.write_str("as many sagas run as may; try again later"),
            StartError::Input(why) => write!(f, "the input cannot be taken: {why}"),
            StartError::Other => f.write_str("a saga with this id has begun with another input"),
            StartError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// Why nothing could be done about a saga.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlError {
    /// There is none with this id.
    NoSaga,
    /// It has no step of this name.
    NoStep,
    /// Its definition is not there any more, or is another one now.
    Blocked,
    /// There is no such definition.
    NoDefinition {
        /// Those that there are.
        known: Vec<String>,
    },
    /// Another runner goes on with it: ask there.
    Elsewhere {
        /// What it is called, if that is known.
        runner: Option<String>,
    },
    /// What a step gave, by hand, is larger than an output may be.
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        most: usize,
    },
    /// It has ended, and its log was dropped since ([`crate::store::Store::compact`]).
    LogDropped,
    /// It is not in a state for that.
    Illegal(Illegal),
    /// What was asked for is not on the disk in time. It may still take effect.
    Slow {
        /// What the store says, if it fails.
        store: Option<StoreError>,
    },
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::NoSaga => f.write_str("there is no saga with this id"),
            ControlError::NoStep => f.write_str("the saga has no step of this name"),
            ControlError::Blocked => {
                f.write_str("the definition it began with is not there: bring that version back")
            }
            ControlError::NoDefinition { known } => {
                let known = known.join(", ");
                write!(f, "there is no such definition; there are: {known}")
            }
            ControlError::Elsewhere { runner: None } => {
                f.write_str("another runner goes on with it: ask there")
            }
            ControlError::Elsewhere {
                runner: Some(runner),
            } => write!(f, "another runner goes on with it: ask {runner}"),
            ControlError::TooLarge { bytes, most } => {
                write!(f, "the output has {bytes} bytes, and {most} are allowed")
            }
            ControlError::LogDropped => f.write_str(
                "it has ended, and its log was dropped since: only where it ended is still known",
            ),
            ControlError::Illegal(illegal) => illegal.fmt(f),
            ControlError::Slow { store } => {
                match store {
                    Some(store) => write!(f, "it is not written yet, because {store}. ")?,
                    None => f.write_str("it is not written yet. ")?,
                }
                f.write_str(
                    "It may still take effect when it can be written: look at the saga before you \
                     ask again",
                )
            }
            ControlError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ControlError {}
