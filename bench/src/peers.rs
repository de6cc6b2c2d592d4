//! The peers, configured to do what our policies do.
//!
//! All of them wrap [`ready`], a service that answers at once, and none of them ever rejects:
//! limits lie far above what a benchmark reaches.

use std::future::{Ready, ready as at_once};
use std::num::NonZeroU32;
use std::time::Duration;

use failsafe::StateMachine;
use failsafe::backoff::{Constant, constant};
use failsafe::failure_policy::{ConsecutiveFailures, consecutive_failures};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use recloser::Recloser;
use tower::retry::budget::TpsBudget;
use tower::{Service, ServiceBuilder, service_fn};
use tower_acc::{Algorithm, ConcurrencyLimitLayer};
use tower_resilience::bulkhead::{BulkheadLayer, BulkheadServiceError};
use tower_resilience::circuitbreaker::{
    CircuitBreakerError, CircuitBreakerLayer, SlidingWindowType,
};
use tower_resilience::ratelimiter::{RateLimiterLayer, RateLimiterServiceError};
use tower_resilience::retry::{RetryBudgetBuilder, RetryLayer};
use tower_resilience::timelimiter::{TimeLimiterError, TimeLimiterLayer};

/// The error of a dependency.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the dependency failed")
    }
}

impl std::error::Error for Failed {}

/// A shared peer: something each thread clones a handle of.
pub(crate) trait Peer<E>:
    Service<bool, Response = (), Error = E, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<E, S> Peer<E> for S where
    S: Service<bool, Response = (), Error = E, Future: Send> + Clone + Send + Sync + 'static
{
}

/// A service that answers at once: with a failure, if the request says so.
pub(crate) fn ready() -> impl Peer<Failed> {
    service_fn(answer)
}

/// The answer to `fails`.
pub(crate) fn answer(fails: bool) -> Ready<Result<(), Failed>> {
    at_once(if fails { Err(Failed) } else { Ok(()) })
}

pub(crate) fn failsafe_consecutive(
    failures: u32,
) -> StateMachine<ConsecutiveFailures<Constant>, ()> {
    failsafe::Config::new()
        .failure_policy(consecutive_failures(failures, constant(HOUR)))
        .build()
}

/// A ring of 100 calls.
pub(crate) fn recloser() -> Recloser {
    Recloser::custom()
        .error_rate(0.5)
        .closed_len(100)
        .open_wait(HOUR)
        .build()
}

pub(crate) fn governor() -> DefaultDirectRateLimiter {
    let plenty = NonZeroU32::new(PLENTY as u32).expect("not zero");
    RateLimiter::direct(Quota::per_second(plenty).allow_burst(NonZeroU32::MAX))
}

/// As tower's own documentation configures it: 10 s, 10 per second, 10 %.
pub(crate) fn tower_budget() -> TpsBudget {
    TpsBudget::new(Duration::from_secs(10), 10, 0.1)
}

/// tower-resilience's default breaker: half of 100 calls.
pub(crate) fn resilience_breaker() -> impl Peer<CircuitBreakerError<Failed>> {
    let breaker = CircuitBreakerLayer::builder().wait_duration_in_open(HOUR);
    let layer = breaker.build().expect("the settings are sound");
    ServiceBuilder::new().layer(layer).service(ready())
}

pub(crate) fn resilience_consecutive(failures: usize) -> impl Peer<CircuitBreakerError<Failed>> {
    let breaker = CircuitBreakerLayer::builder()
        .consecutive_failures(failures)
        .wait_duration_in_open(HOUR);
    let layer = breaker.build().expect("the settings are sound");
    ServiceBuilder::new().layer(layer).service(ready())
}

/// Half of the calls of an hour, so that nothing leaves the window while it is measured.
pub(crate) fn resilience_time_window() -> impl Peer<CircuitBreakerError<Failed>> {
    let breaker = CircuitBreakerLayer::builder()
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(HOUR)
        .minimum_number_of_calls(20);
    let layer = breaker.build().expect("the settings are sound");
    ServiceBuilder::new().layer(layer).service(ready())
}

pub(crate) fn resilience_bulkhead() -> impl Peer<BulkheadServiceError<Failed>> {
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(SEATS as usize);
    let layer = bulkhead.build().expect("the settings are sound");
    ServiceBuilder::new().layer(layer).service(ready())
}

pub(crate) fn resilience_rate() -> impl Peer<RateLimiterServiceError<Failed>> {
    let rate = RateLimiterLayer::builder()
        .limit_for_period(PLENTY)
        .refresh_period(Duration::from_secs(1));
    let layer = rate.build().expect("the settings are sound");
    ServiceBuilder::new().layer(layer).service(ready())
}

/// tower-acc's limit with this algorithm.
pub(crate) fn adaptive<A>(layer: ConcurrencyLimitLayer<A>) -> impl Peer<Failed>
where
    A: Algorithm + Clone + Send + Sync + 'static,
{
    ServiceBuilder::new().layer(layer).service(ready())
}

/// Time limit, retry with a budget, breaker, bulkhead and rate limit: the same five policies.
pub(crate) fn resilience_stack() -> impl Peer<TimeLimiterError<Within>> {
    let budget = RetryBudgetBuilder::new().token_bucket();
    let retry = RetryLayer::<bool, (), Within>::builder()
        .max_attempts(3)
        .exponential_backoff(Duration::from_millis(50))
        .budget(budget.build().expect("the settings are sound"));
    let time = TimeLimiterLayer::builder().timeout_duration(Duration::from_secs(30));
    let breaker = CircuitBreakerLayer::builder();
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(SEATS as usize);
    let rate = RateLimiterLayer::builder()
        .limit_for_period(PLENTY)
        .refresh_period(Duration::from_secs(1));
    ServiceBuilder::new()
        .layer(time.build())
        .layer(retry.build())
        .layer(breaker.build().expect("the settings are sound"))
        .layer(bulkhead.build().expect("the settings are sound"))
        .layer(rate.build().expect("the settings are sound"))
        .service(ready())
}

/// The error below the retry policy, which has to name it.
pub(crate) type Within = CircuitBreakerError<BulkheadServiceError<RateLimiterServiceError<Failed>>>;

/// More seats than there are threads.
pub(crate) const SEATS: u32 = 1_000;
/// More calls per second than a benchmark makes.
pub(crate) const PLENTY: usize = 1_000_000_000;
/// Longer than a benchmark.
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
