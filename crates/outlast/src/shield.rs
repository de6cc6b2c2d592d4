//! Work that outlives its caller, and is still awaited at shutdown.

use std::fmt;
use std::time::Duration;

use tokio::task::JoinError;
use tokio_util::task::TaskTracker;

use crate::deadline::Entered;
use outlast_core::time::Time;

/// Runs work that must not be cut in the middle: a write to two places, a compensation. When its
/// caller goes away, or its deadline comes, it goes on; [`Shield::drain`] awaits it at shutdown.
///
/// Clones share their work.
#[derive(Clone, Default)]
pub struct Shield {
    running: TaskTracker,
}

impl Shield {
    /// A shield with nothing behind it.
    pub fn new() -> Shield {
        Shield::default()
    }

    /// Starts `work` at once, without the current deadline, on a task of its own. Awaiting gives
    /// its result; dropping the future leaves it running.
    ///
    /// # Panics
    /// Outside of a tokio runtime; and when `work` panics, the await does too.
    pub fn run<F>(&self, work: F) -> impl Future<Output = F::Output> + use<F>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = self.running.spawn(Undated {
            work: Box::pin(work),
        });
        async move { task.await.unwrap_or_else(give_up) }
    }

    /// How much work is running.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Waits until all work has ended, at most `within`.
    ///
    /// # Errors
    /// What is still running then.
    pub async fn drain(&self, within: Duration) -> Result<(), StillRunning> {
        self.running.close();
        let ended = tokio::time::timeout(within, self.running.wait()).await;
        self.running.reopen();
        ended.map_err(|_| StillRunning {
            tasks: self.running(),
        })
    }
}

impl fmt::Debug for Shield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shield")
            .field("running", &self.running())
            .finish()
    }
}

/// Shielded work did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StillRunning {
    /// How much of it is left.
    pub tasks: usize,
}

impl fmt::Display for StillRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} shielded tasks are still running", self.tasks)
    }
}

impl std::error::Error for StillRunning {}

/// A future without the current deadline.
struct Undated<F> {
    work: std::pin::Pin<Box<F>>,
}

impl<F: Future> Future for Undated<F> {
    type Output = F::Output;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<F::Output> {
        let _entered = Entered::new(Time::MAX);
        self.work.as_mut().poll(cx)
    }
}

fn give_up<T>(error: JoinError) -> T {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => panic!("the runtime shut down under shielded work: {error}"),
    }
}
