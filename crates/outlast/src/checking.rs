//! Active checks of an upstream's endpoints, by a probe that the application brings.
//!
//! One future probes all endpoints, each on its own jittered schedule, and follows the membership:
//! newcomers are probed, those that left are not. A probe that does not answer in time, or panics,
//! has failed; it delays nobody else's.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use outlast_core::check;
use outlast_core::config::ConfigError;
use outlast_core::rng::Rng;
use outlast_core::time::Time;
use outlast_core::upstream::Membership;
use tokio::time::{Sleep, sleep};

use crate::Clock;
use crate::clock::instant_of;
use crate::seed::Seed;
use crate::upstream::Upstream;

impl Upstream {
    /// Probes the endpoints for as long as the future is polled: spawn it. `probe` makes one probe;
    /// `true` says that the endpoint answered well. How often and how long is
    /// [`check::Config`]'s.
    ///
    /// It also lets time pass where there are no calls: ejections end when they are over. Run it
    /// once per upstream; two would count each result twice.
    ///
    /// # Errors
    /// If no checks are configured ([`balance::Config::check`](crate::balance::Config::check)).
    ///
    /// ```
    /// # use outlast::{Config, Upstream, balance, check};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let checked = balance::Config::default().check(check::Config::default());
    /// let db = Upstream::new(Config::new("db").endpoint("a").endpoint("b").balance(checked))?;
    /// tokio::spawn(db.check_endpoints(|probe| async move {
    ///     tokio::net::TcpStream::connect((probe.endpoint(), 5432)).await.is_ok()
    /// })?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn check_endpoints<P, F>(
        &self,
        probe: P,
    ) -> Result<impl Future<Output = Infallible> + use<P, F>, ConfigError>
    where
        P: FnMut(Probe) -> F,
        F: Future<Output = bool>,
    {
        let Some(checks) = self.inner.core.checks() else {
            return Err(ConfigError::new(
                "balance.check",
                "must be set, or nobody looks at what a probe says",
            ));
        };
        Ok(check_for_ever(self.clone(), checks, probe))
    }

    /// When to probe this endpoint next, for those that probe without a runtime: ask once at the
    /// start and after each probe. `None` if there are no checks or no such endpoint.
    pub fn next_check(&self, endpoint: &str) -> Option<Instant> {
        let number = self.members().number(endpoint)?;
        let core = &self.inner.core;
        instant_of(core.next_check(number, Clock::Precise.now(), random())?)
    }

    /// The result of a probe of this endpoint. `false` if there are no checks or no such endpoint.
    pub fn checked(&self, endpoint: &str, ok: bool) -> bool {
        let number = self.members().number(endpoint);
        let now = Clock::Precise.now();
        number.is_some_and(|number| self.inner.core.checked(number, ok, now))
    }
}

/// One probe of one endpoint, given to the closure that makes it.
#[derive(Clone, Debug)]
pub struct Probe {
    endpoint: Arc<str>,
    number: usize,
    timeout: Duration,
}

impl Probe {
    /// The name of the endpoint to probe.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its number; see [`Attempt::endpoint_index`](crate::Attempt::endpoint_index).
    pub fn endpoint_index(&self) -> usize {
        self.number
    }

    /// The probe is dropped, and has failed, when it takes longer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

#[expect(clippy::disallowed_methods, reason = "waiting is what it is for")]
async fn check_for_ever<P, F>(upstream: Upstream, checks: check::Config, probe: P) -> Infallible
where
    P: FnMut(Probe) -> F,
    F: Future<Output = bool>,
{
    let inner = Arc::clone(&upstream.inner);
    let mut rounds = Rounds {
        upstream,
        timeout: checks.longest(),
        probe,
        endpoints: Vec::new(),
    };
    let mut timer = pin!(sleep(Duration::ZERO));
    loop {
        // Before the endpoints are looked at, so that no change is missed.
        let mut changed = pin!(inner.changed.notified());
        changed.as_mut().enable();
        rounds.follow(&inner.core.members());
        poll_fn(|cx| match changed.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => rounds.poll(timer.as_mut(), cx),
        })
        .await;
    }
}

/// The schedules of all endpoints.
struct Rounds<P, F> {
    upstream: Upstream,
    timeout: Duration,
    probe: P,
    endpoints: Vec<Schedule<F>>,
}

/// One endpoint.
struct Schedule<F> {
    number: usize,
    name: Arc<str>,
    stage: Stage<F>,
}

enum Stage<F> {
    Waits { until: Time },
    Runs { future: Pin<Box<F>>, cut: Time },
}

impl<P, F> Rounds<P, F>
where
    P: FnMut(Probe) -> F,
    F: Future<Output = bool>,
{
    /// Forgets those that have left, and plans the first probe of newcomers.
    fn follow(&mut self, members: &Membership) {
        let known = self.endpoints.drain(..);
        let mut known: HashMap<_, _> = known.map(|one| (one.number, one)).collect();
        let now = Clock::Precise.now();
        for (number, name) in members.iter() {
            let schedule = known.remove(&number).unwrap_or_else(|| Schedule {
                number,
                name: name.into(),
                stage: Stage::Waits {
                    until: self.next(number, now),
                },
            });
            self.endpoints.push(schedule);
        }
    }

    /// Does what there is to do now, and sees to it that the task is woken for the rest.
    fn poll(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Clock::Precise.now();
            let mut next = Time::MAX;
            for at in 0..self.endpoints.len() {
                next = next.min(self.poll_one(at, now, cx));
            }
            let core = &self.upstream.inner.core;
            if core.wakes() <= now {
                core.timeout(now);
            }
            next = next.min(core.wakes());
            let Some(instant) = instant_of(next) else {
                return Poll::Pending;
            };
            timer.as_mut().reset(instant.into());
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Goes on with one endpoint; when to look at it again if nothing wakes before.
    fn poll_one(&mut self, at: usize, now: Time, cx: &mut Context<'_>) -> Time {
        let schedule = &mut self.endpoints[at];
        if let Stage::Waits { until } = schedule.stage {
            if now < until {
                return until;
            }
            let probe = Probe {
                endpoint: Arc::clone(&schedule.name),
                number: schedule.number,
                timeout: self.timeout,
            };
            let made = catch_unwind(AssertUnwindSafe(|| Box::pin((self.probe)(probe))));
            let Ok(future) = made else {
                return self.record(at, false, now);
            };
            let cut = now + self.timeout;
            schedule.stage = Stage::Runs { future, cut };
        }
        let Stage::Runs { future, cut } = &mut schedule.stage else {
            return now;
        };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) if now < *cut => *cut,
            Ok(Poll::Ready(ok)) => self.record(at, ok, now),
            Ok(Poll::Pending) | Err(_) => self.record(at, false, now),
        }
    }

    /// Reports a result and plans the next probe.
    fn record(&mut self, at: usize, ok: bool, now: Time) -> Time {
        let number = self.endpoints[at].number;
        self.upstream.inner.core.checked(number, ok, now);
        let until = self.next(number, now);
        let done = std::mem::replace(&mut self.endpoints[at].stage, Stage::Waits { until });
        // Whatever a probe does when it is dropped is its own affair.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(done)));
        until
    }

    fn next(&self, number: usize, now: Time) -> Time {
        let next = self.upstream.inner.core.next_check(number, now, random());
        // It has left; the membership says so next.
        next.unwrap_or(Time::MAX)
    }
}

/// A random number from `[0, 1)`.
fn random() -> f64 {
    Rng::new(Seed::draw().call).unit()
}
