//! A bulkhead by itself.

use std::fmt;
use std::sync::Arc;

pub use outlast_core::bulkhead::{Config, Stats};
use outlast_core::config::ConfigError;
#[cfg(feature = "tokio")]
use outlast_core::reject::Rejection;

#[cfg(feature = "tokio")]
use crate::Clock;

/// A bulkhead without any other policy: acquire a seat, hold it while you work, drop it. Clones
/// share the seats.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let bulkhead = outlast::Bulkhead::new(outlast::bulkhead::Config::new(1)).unwrap();
/// let seat = bulkhead.acquire().await.unwrap();
/// assert!(bulkhead.acquire().await.is_err());
/// drop(seat);
/// assert!(bulkhead.acquire().await.is_ok());
/// # }
/// ```
#[derive(Clone)]
pub struct Bulkhead {
    core: Arc<outlast_core::bulkhead::Bulkhead>,
    #[cfg(feature = "tokio")]
    clock: Clock,
}

impl Bulkhead {
    /// An empty bulkhead.
    ///
    /// # Errors
    /// If `config` cannot work.
    pub fn new(config: Config) -> Result<Bulkhead, ConfigError> {
        let core = Arc::new(outlast_core::bulkhead::Bulkhead::new(config)?);
        Ok(Bulkhead {
            core,
            #[cfg(feature = "tokio")]
            clock: Clock::Precise,
        })
    }

    /// Takes a seat, or waits for one in the order of arrival, at most the queue's timeout and
    /// never beyond the current deadline.
    ///
    /// # Errors
    /// When the queue is full, or the wait was too long.
    #[cfg(feature = "tokio")]
    pub async fn acquire(&self) -> Result<Seat, Rejection> {
        Waiting::new(self)?.await
    }

    /// Takes a seat that is free now.
    ///
    /// # Errors
    /// When none is.
    pub fn try_acquire(&self) -> Result<Seat, outlast_core::reject::Rejection> {
        Ok(self.seat(self.core.try_admit()?))
    }

    /// A snapshot for people and metrics.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Changes the number of seats; fewer take effect as seats are returned.
    pub fn resize(&self, concurrency: u32) {
        self.core.resize(concurrency);
    }

    fn seat(&self, seat: outlast_core::bulkhead::Seat) -> Seat {
        Seat {
            core: Arc::clone(&self.core),
            seat: Some(seat),
        }
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// A taken seat; it is returned when this is dropped.
#[must_use = "dropping a seat returns it"]
pub struct Seat {
    core: Arc<outlast_core::bulkhead::Bulkhead>,
    seat: Option<outlast_core::bulkhead::Seat>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.core.release(seat);
        }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").finish_non_exhaustive()
    }
}

#[cfg(feature = "tokio")]
use waiting::Waiting;

#[cfg(feature = "tokio")]
mod waiting {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use outlast_core::bulkhead::{Admission, Ticket};
    use outlast_core::reject::Rejection;
    use outlast_core::time::Time;
    use tokio::time::{Instant, Sleep, sleep_until};

    use super::{Bulkhead, Seat};
    use crate::clock::instant_of;
    use crate::deadline::current_time;

    /// Waits for a seat; leaves the queue when it is dropped.
    pub(super) struct Waiting<'a> {
        bulkhead: &'a Bulkhead,
        state: State,
        until: Time,
        timer: Option<Pin<Box<Sleep>>>,
    }

    enum State {
        Seated(Seat),
        Queued(Ticket),
        Over,
    }

    impl<'a> Waiting<'a> {
        pub(super) fn new(bulkhead: &'a Bulkhead) -> Result<Waiting<'a>, Rejection> {
            let now = bulkhead.clock.now();
            let state = match bulkhead.core.admit(now)? {
                Admission::Seat(seat) => State::Seated(bulkhead.seat(seat)),
                Admission::Queued(ticket) => State::Queued(ticket),
            };
            let until = (now + bulkhead.core.queue_timeout()).min(current_time());
            Ok(Waiting {
                bulkhead,
                state,
                until,
                timer: None,
            })
        }

        fn poll_ticket(
            &mut self,
            ticket: Ticket,
            cx: &mut Context<'_>,
        ) -> Poll<Result<Seat, Rejection>> {
            let Bulkhead { core, clock } = self.bulkhead;
            ticket.wake(cx.waker());
            let ticket = match core.redeem(ticket, clock.now()) {
                Ok(seat) => return Poll::Ready(Ok(self.bulkhead.seat(seat))),
                Err(ticket) => ticket,
            };
            let timer = self.timer.get_or_insert_with(|| {
                let end = instant_of(self.until).expect("a queue's timeout is at most a day");
                Box::pin(sleep_until(Instant::from_std(end)))
            });
            if timer.as_mut().poll(cx).is_ready() {
                let rejection = core.leave(ticket, true).expect("it timed out");
                return Poll::Ready(Err(rejection));
            }
            self.state = State::Queued(ticket);
            Poll::Pending
        }
    }

    impl Future for Waiting<'_> {
        type Output = Result<Seat, Rejection>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Seat, Rejection>> {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Seated(seat) => Poll::Ready(Ok(seat)),
                State::Queued(ticket) => self.poll_ticket(ticket, cx),
                State::Over => panic!("a wait for a seat was polled after it had ended"),
            }
        }
    }

    impl Drop for Waiting<'_> {
        fn drop(&mut self) {
            if let State::Queued(ticket) = std::mem::replace(&mut self.state, State::Over) {
                self.bulkhead.core.leave(ticket, false);
            }
        }
    }
}
