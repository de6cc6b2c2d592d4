//! All policies around one call: the machine driven by hand, without a library around it.

use std::future::{Ready, ready};
use std::hint::black_box;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use outlast_core::call::{Call, Request, Step};
use outlast_core::outcome::Outcome;
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Upstream};
use outlast_core::{bulkhead, deadline};
use tower::retry::Policy;
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::{BoxError, ServiceBuilder};

use crate::clock::{coarse, passed_in, precise};
use crate::library;
use crate::measure::Bench;
use crate::peers::{self, SEATS};
use crate::rate;
use crate::table::{Goal, Group, Row};

pub(crate) fn groups(bench: &Bench) -> Vec<Group> {
    let upstream = Arc::new(full("benchmark"));
    let by_reference = |clock: fn() -> Time| {
        // One for each clock: they do not share an epoch.
        let upstream = &full("benchmark");
        bench.shared(move || succeed(upstream, clock))
    };
    let own = bench.measure(|| {
        let upstream = full("benchmark");
        move || succeed(&upstream, coarse)
    });
    let resilience = peers::resilience_stack();
    let group = Group::new(OPERATION)
        .row(Row::ours("core, coarse clock", by_reference(coarse)).goals(goals()))
        .row(Row::ours("core, time passed in", by_reference(passed_in)).goals(goals()))
        .row(Row::ours("core, precise clock", by_reference(precise)).goals(precise_goals()))
        .row(Row::ours(
            "core, coarse clock, by `Arc`",
            bench.shared(|| succeed(Arc::clone(&upstream), coarse)),
        ))
        .row(Row::ours("core, coarse clock, an upstream per thread", own));
    let group = library::add_stack(bench, group)
        .row(Row::peer(
            "tower: concurrency, timeout, retry with budget only",
            bench.service(&tower(), true),
        ))
        .row(Row::peer(RESILIENCE, bench.service(&resilience, true)));
    vec![group]
}

/// What a full stack must keep to, whoever drives it.
pub(crate) fn goals() -> [Goal; 4] {
    [
        Goal::Single(60.0),
        Goal::Contended(110.0),
        Goal::Allocations(0.0),
        Goal::part(12.0, RESILIENCE),
    ]
}

/// The same with a clock that takes its time.
pub(crate) fn precise_goals() -> [Goal; 4] {
    [
        Goal::Single(90.0),
        Goal::Contended(110.0),
        Goal::Allocations(0.0),
        Goal::part(12.0, RESILIENCE),
    ]
}

/// An upstream with deadline, retry and its budget, breaker, bulkhead and rate limit.
pub(crate) fn full(name: &str) -> Upstream {
    Upstream::new(full_config(name), 1).expect("the settings are sound")
}

/// The settings of [`full`].
pub(crate) fn full_config(name: &str) -> Config {
    Config::standard(name)
        .deadline(deadline::Config::call(Duration::from_secs(60)))
        .bulkhead(bulkhead::Config::new(SEATS))
        .rate(rate::plenty())
}

/// One call whose only attempt succeeds at once. As a driver does, it reads the clock when the
/// call arrives and when the attempt has ended.
#[inline]
pub(crate) fn succeed<U: Deref<Target = Upstream>>(upstream: U, clock: impl Fn() -> Time) {
    let now = clock();
    let mut call = Call::new(upstream, Request::new(now.as_nanos()), now);
    let Step::Attempt(attempt) = call.step(now) else {
        panic!("the first step is an attempt");
    };
    let now = clock();
    call.outcome(attempt.id, black_box(Outcome::Success), now);
    assert!(matches!(call.step(now), Step::Done { .. }));
}

/// What tower offers of the same: no breaker, no deadline, and its rate limit cannot be shared.
fn tower() -> impl peers::Peer<BoxError> {
    ServiceBuilder::new()
        .concurrency_limit(SEATS as usize)
        .timeout(Duration::from_secs(30))
        .retry(Budgeted(Arc::new(peers::tower_budget())))
        .service(peers::ready())
}

/// The retry policy that every user of tower has to write.
#[derive(Clone)]
struct Budgeted(Arc<TpsBudget>);

impl<E> Policy<bool, (), E> for Budgeted {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut bool, result: &mut Result<(), E>) -> Option<Ready<()>> {
        match result {
            Ok(()) => {
                self.0.deposit();
                None
            }
            Err(_) => self.0.withdraw().then(|| ready(())),
        }
    }

    fn clone_request(&mut self, request: &bool) -> Option<bool> {
        Some(*request)
    }
}

const OPERATION: &str = "full stack: deadline, retry, budget, breaker, bulkhead, rate";
pub(crate) const RESILIENCE: &str = "tower-resilience";
