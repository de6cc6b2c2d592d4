//! From a result to its meaning.

use outlast_core::outcome::Outcome;

/// Judges the result of an attempt, once; every policy reads the same judgement.
///
/// Any `Fn(&R) -> Outcome` is one.
pub trait Classify<R> {
    /// What `result` means.
    fn classify(&self, result: &R) -> Outcome;
}

impl<R, F: Fn(&R) -> Outcome> Classify<R> for F {
    fn classify(&self, result: &R) -> Outcome {
        self(result)
    }
}

/// The default: `Ok` is a success, `Err` a transient failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByResult;

impl<T, E> Classify<Result<T, E>> for ByResult {
    fn classify(&self, result: &Result<T, E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Transient,
        }
    }
}
