//! Questions to the operating system that may block their thread for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks on a thread for blocking work, one question at a time. A question that is no longer waited
/// for keeps its thread until it is answered, so a hung file system or resolver costs one thread and
/// not one per probe.
#[derive(Clone, Default)]
pub(super) struct Blocking {
    busy: Arc<AtomicBool>,
}

impl Blocking {
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err("the operating system has not answered the last probe yet".to_owned());
        }
        let free = Free(Arc::clone(&self.busy));
        let asked = tokio::task::spawn_blocking(move || {
            let _free = free;
            question()
        });
        asked
            .await
            .map_err(|_| "the question to the operating system ended early".to_owned())
    }
}

struct Free(Arc<AtomicBool>);

impl Drop for Free {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_question_that_hangs_is_not_asked_again() {
        let blocking = Blocking::default();
        let (answer, hangs) = channel::<()>();
        let (asked, begun) = channel();
        let question = blocking.ask(move || {
            asked.send(()).unwrap();
            hangs.recv().unwrap();
        });
        let cut = tokio::time::timeout(Duration::from_millis(1), question).await;
        assert!(cut.is_err());
        begun.recv().unwrap();
        assert!(
            blocking
                .ask(|| unreachable!("one at a time"))
                .await
                .is_err()
        );
        answer.send(()).unwrap();
        let free = async {
            while blocking.ask(|| 7).await != Ok(7) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), free)
            .await
            .expect("it is free once the question is answered");
    }
}
