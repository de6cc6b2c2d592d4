//! The same operations through the library: what a user of `outlast` pays in all.
//!
//! Its rows stand in the tables of the other modules, beside the core that they drive.

use outlast::{Clock, Config, Setup, Upstream};
use tower::{Layer, Service, ServiceExt};

use crate::measure::Bench;
use crate::memory::size;
use crate::peers::{self, Failed, answer};
use crate::runtime::{self, wall};
use crate::stack::{self, RESILIENCE, full_config};
use crate::table::{Goal, Group, Row};

/// A breaker alone, around a call in the library.
pub(crate) fn add_breaker(bench: &Bench, group: Group) -> Group {
    let only_breaker = Config::new("benchmark")
        .breaker(outlast::breaker::Config::default())
        .budget(None);
    let upstream = upstream(only_breaker, Clock::Coarse);
    group.row(Row::ours(
        "library, consecutive, coarse clock",
        bench.future(|| upstream.call(|_| answer(false))),
    ))
}

/// The full stack, as a future, on the current thread and as a layer.
pub(crate) fn add_stack(bench: &Bench, group: Group) -> Group {
    let coarse = full(Clock::Coarse);
    let precise = full(Clock::Precise);
    let layered = coarse.layer().layer(peers::ready());
    let blocking = || coarse.call_blocking(|_| Ok::<(), Failed>(()));
    group
        .row(
            Row::ours(
                "library, coarse clock",
                bench.future(|| coarse.call(|_| answer(false))),
            )
            .goals(stack::goals()),
        )
        .row(
            Row::ours(
                "library, precise clock",
                bench.future(|| precise.call(|_| answer(false))),
            )
            .goals(stack::precise_goals()),
        )
        .row(
            Row::ours("library, coarse clock, blocking", bench.shared(blocking))
                .goals(stack::goals()),
        )
        .row(
            Row::ours(
                "library, coarse clock, tower layer",
                bench.service(&layered, true),
            )
            .goals([Goal::Allocations(1.0), Goal::part(12.0, RESILIENCE)]),
        )
}

/// The full stack in a runtime.
pub(crate) fn add_runtime(bench: &Bench, group: Group) -> Group {
    let upstream = full(Clock::Coarse);
    let layered = upstream.layer().layer(peers::ready());
    let direct = wall(bench, |calls| {
        let upstream = upstream.clone();
        async move {
            for _ in 0..calls {
                let result = upstream.call(|_| answer(false)).await;
                result.expect("it lets everything pass");
            }
        }
    });
    let layer = wall(bench, |calls| {
        let mut service = layered.clone();
        async move {
            for _ in 0..calls {
                let service = service.ready().await.expect("it lets everything pass");
                service.call(false).await.expect("it lets everything pass");
            }
        }
    });
    group
        .row(Row::ours("library, coarse clock", direct).goals(runtime::goals()))
        .row(Row::ours("library, coarse clock, tower layer", layer).goals(runtime::goals()))
}

/// An upstream as an application holds it.
pub(crate) fn add_memory(group: Group) -> Group {
    // What is made once per process belongs to no upstream.
    drop(full(Clock::Coarse));
    let full = size(|| full(Clock::Coarse));
    group.row(Row::ours("library, full stack", full).goals([Goal::Whole(8.0 * 1024.0)]))
}

fn full(clock: Clock) -> Upstream {
    upstream(full_config("benchmark"), clock)
}

fn upstream(config: Config, clock: Clock) -> Upstream {
    Upstream::with(config, Setup::default().clock(clock)).expect("the settings are sound")
}
