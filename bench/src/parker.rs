//! Polling futures by hand.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tower::Service;

/// Polls futures on the thread that made it, and parks that thread while one is pending.
pub(crate) struct Parker(Waker);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker(Waker::from(Arc::new(Unpark(thread::current()))))
    }

    /// Runs a future to its end.
    #[inline]
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut context = Context::from_waker(&self.0);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }

    /// Waits until a service is ready and calls it.
    #[inline]
    pub(crate) fn call<S: Service<R>, R>(
        &self,
        service: &mut S,
        request: R,
    ) -> Result<S::Response, S::Error> {
        self.run(poll_fn(|context| service.poll_ready(context)))?;
        self.run(service.call(request))
    }
}
