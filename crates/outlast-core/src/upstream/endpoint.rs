//! One address: its breaker, its statistics, and the pause it asked for.
//!
//! It is shared by all memberships of which it is a part, so an attempt that began in an older one
//! settles on the same breaker as those of the newest.

use std::sync::Arc;
use std::time::Duration;

use super::stats::Outcomes;
use crate::breaker::{self, Breaker};
use crate::config::DAY;
use crate::event::{Event, Observer};
use crate::outcome::Outcome;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Time;

/// One address, with its own breaker and statistics.
pub(crate) struct Endpoint {
    /// No other endpoint of the upstream ever has the same.
    pub(crate) number: usize,
    pub(crate) name: Arc<str>,
    pub(crate) breaker: Option<Breaker>,
    /// Until when it asked to be spared of extra attempts, in nanoseconds.
    paused_until: AtomicU64,
    pub(super) outcomes: Outcomes,
}

impl Endpoint {
    pub(super) fn new(number: usize, name: Arc<str>, breaker: Option<Breaker>) -> Endpoint {
        Endpoint {
            number,
            name,
            breaker,
            paused_until: AtomicU64::new(0),
            outcomes: Outcomes::default(),
        }
    }

    #[inline]
    pub(crate) fn note(&self, outcome: Outcome) {
        self.outcomes.note(outcome);
    }

    /// Spares it of extra attempts for `wait`. A hint of more than a day is taken for a day: it is
    /// rather a mistake (a date where a duration belongs) than a plan.
    pub(crate) fn pause(&self, wait: Duration, now: Time) {
        let until = now + wait.min(DAY);
        self.paused_until
            .fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn paused_until(&self) -> Time {
        Time::from_nanos(self.paused_until.load(Ordering::Relaxed))
    }

    pub(super) fn end_pause(&self) {
        self.paused_until.store(0, Ordering::Relaxed);
    }

    /// Whether its breaker, if it has one, would let an attempt pass.
    #[inline]
    pub(crate) fn is_willing(&self, now: Time) -> bool {
        let breaker = self.breaker.as_ref();
        breaker.is_none_or(|breaker| breaker.is_willing(now))
    }

    /// Whether its breaker, if it has one, is closed.
    pub(crate) fn is_settled(&self) -> bool {
        self.breaker.as_ref().is_none_or(Breaker::is_closed)
    }
}

/// Lets the observer hear of the breaker's changes.
pub(super) fn observe(
    breaker: Breaker,
    upstream: &str,
    endpoint: &Arc<str>,
    observer: Option<&Arc<dyn Observer>>,
) -> Breaker {
    let Some(observer) = observer.cloned() else {
        return breaker;
    };
    let (upstream, endpoint): (Box<str>, _) = (upstream.into(), Arc::clone(endpoint));
    breaker.on_change(move |change: breaker::Change| {
        observer.event(
            &upstream,
            &Event::Breaker {
                endpoint: &endpoint,
                change,
            },
        );
    })
}
