//! Which endpoint a call has to stay at.
//!
//! Two providers behind one upstream must not both do the work of one call. Whoever makes the
//! attempts knows what each of them has sent, and what its answer says; the call only has to know
//! where the next one may go. A binding carries that from one to the other: bound before something
//! is sent, released by a definite refusal. What happens in between (a timeout, a broken
//! connection, a cancellation) leaves it bound, so that forgetting to say something is safe.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The endpoint that a call is bound to, if any. Clones are the same binding.
#[derive(Clone, Debug)]
pub struct Binding(Arc<AtomicUsize>);

impl Binding {
    /// Bound to this endpoint, or to none yet.
    pub fn new(endpoint: Option<usize>) -> Binding {
        Binding(Arc::new(AtomicUsize::new(endpoint.unwrap_or(NONE))))
    }

    /// From now on, attempts go to this endpoint alone.
    pub fn bind(&self, endpoint: usize) {
        self.0.store(endpoint, Ordering::Release);
    }

    /// Attempts may go to any endpoint again.
    pub fn release(&self) {
        self.0.store(NONE, Ordering::Release);
    }

    /// The endpoint that it is bound to.
    pub fn endpoint(&self) -> Option<usize> {
        let endpoint = self.0.load(Ordering::Acquire);
        (endpoint != NONE).then_some(endpoint)
    }
}

/// No upstream has so many endpoints.
const NONE: usize = usize::MAX;
