//! Sixty-four tasks on one upstream, in a tokio runtime with two workers: wall time per call.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tower::{Service, ServiceExt};

use crate::clock::coarse;
use crate::library;
use crate::measure::{Bench, Figures, now, uncounted};
use crate::peers;
use crate::stack::{RESILIENCE, full, succeed};
use crate::table::{Goal, Group, Row};

pub(crate) fn groups(bench: &Bench) -> Vec<Group> {
    let upstream = Arc::new(full("benchmark"));
    let resilience = peers::resilience_stack();
    let core = wall(bench, |calls| {
        let upstream = Arc::clone(&upstream);
        async move {
            for _ in 0..calls {
                succeed(&*upstream, coarse);
            }
        }
    });
    let peer = wall(bench, |calls| {
        let mut service = resilience.clone();
        async move {
            for _ in 0..calls {
                let service = service.ready().await.expect("it lets everything pass");
                service.call(false).await.expect("it lets everything pass");
            }
        }
    });
    let group = Group::new(OPERATION).row(Row::ours("core, coarse clock", core).goals(goals()));
    vec![library::add_runtime(bench, group).row(Row::peer(RESILIENCE, peer))]
}

/// What a stack in a runtime must keep to, whoever drives it.
pub(crate) fn goals() -> [Goal; 1] {
    [Goal::part(20.0, RESILIENCE)]
}

/// Wall time per call. `task` makes what one task runs: so many calls, one after the other.
pub(crate) fn wall<F: Future<Output = ()> + Send + 'static>(
    bench: &Bench,
    task: impl Fn(u64) -> F,
) -> Figures {
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_time()
        .build()
        .expect("threads can be started");
    let mut calls = 16;
    while run(&runtime, calls, &task) < bench.length() {
        calls *= 2;
    }
    let per_call = || run(&runtime, calls, &task).as_nanos() as f64 / (calls * TASKS) as f64;
    Figures {
        whole: Some(bench.median_of(per_call)),
        ..Figures::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "the tasks are awaited below")]
fn run<F: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    calls: u64,
    task: impl Fn(u64) -> F,
) -> Duration {
    runtime.block_on(async {
        let started = now();
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| tokio::spawn(without_counting(task(calls))))
            .collect();
        for task in tasks {
            task.await.expect("a task panicked");
        }
        started.elapsed()
    })
}

/// A future that is polled without the cost of counting its allocations.
async fn without_counting<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|context| uncounted(|| future.as_mut().poll(context))).await
}

const OPERATION: &str = "full stack, tokio with 2 workers, 64 tasks, wall ns per call";
const WORKERS: usize = 2;
const TASKS: u64 = 64;
