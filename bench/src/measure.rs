//! Timing one operation, alone and contended, and counting what it allocates.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::runtime::{Builder, Runtime};

use crate::parker::Parker;
use crate::peers::Peer;

/// How long to measure, and the runtime that keeps the timers of the peers.
pub(crate) struct Bench {
    runs: usize,
    length: Duration,
    runtime: Runtime,
}

/// What one operation costs. A part that was not measured is `None`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Nanoseconds, alone.
    pub(crate) single: Option<f64>,
    /// Nanoseconds per thread, with two of them on one policy.
    pub(crate) contended: Option<f64>,
    /// Allocations.
    pub(crate) allocations: Option<f64>,
    /// Bytes, or nanoseconds of wall time in a runtime; the operation says which.
    pub(crate) whole: Option<f64>,
}

impl Bench {
    /// As the results are measured.
    pub(crate) fn thorough() -> io::Result<Bench> {
        Bench::new(9, Duration::from_millis(60))
    }

    /// Too short to mean anything.
    pub(crate) fn quick() -> io::Result<Bench> {
        Bench::new(1, Duration::from_millis(1))
    }

    fn new(runs: usize, length: Duration) -> io::Result<Bench> {
        // One worker: somebody has to fire the timers on which contended peers sleep.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()?;
        Ok(Bench {
            runs,
            length,
            runtime,
        })
    }

    /// How long each run takes.
    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// All figures of an operation. `operation` is called on each thread that will run what it
    /// returns; what the threads contend for lies outside of it.
    pub(crate) fn measure<F: FnMut()>(&self, operation: impl Fn() -> F + Sync) -> Figures {
        Figures {
            contended: Some(self.contended(&operation)),
            ..self.alone(operation)
        }
    }

    /// All figures of an operation that needs nothing per thread.
    pub(crate) fn shared<T>(&self, operation: impl Fn() -> T + Sync) -> Figures {
        self.measure(|| || drop(black_box(operation())))
    }

    /// All figures of a future that each thread makes anew and runs to its end.
    pub(crate) fn future<F: Future>(&self, future: impl Fn() -> F + Sync) -> Figures {
        self.measure(|| {
            let parker = Parker::new();
            let future = &future;
            move || drop(black_box(parker.run(future())))
        })
    }

    /// All figures of calling a service, of which each thread has a clone that it calls again
    /// and again. `passes` is what the policies in it are expected to do.
    pub(crate) fn service<E>(&self, service: &impl Peer<E>, passes: bool) -> Figures {
        self.measure(|| {
            let parker = Parker::new();
            let mut service = service.clone();
            move || {
                let result = black_box(parker.call(&mut service, black_box(false)));
                assert_eq!(result.is_ok(), passes);
            }
        })
    }

    /// The figures of what threads cannot share.
    pub(crate) fn alone<F: FnMut()>(&self, operation: impl Fn() -> F) -> Figures {
        let _timers = self.runtime.enter();
        let mut operation = operation();
        let allocations = allocations(&mut operation);
        let batch = self.batch(&mut operation);
        let time = || nanoseconds_of_batches(&mut operation, batch, self.length);
        Figures {
            single: Some(self.median_of(time)),
            allocations: Some(allocations),
            ..Figures::default()
        }
    }

    /// The median of so many runs as the bench makes.
    pub(crate) fn median_of(&self, run: impl FnMut() -> f64) -> f64 {
        let mut figures: Vec<f64> = std::iter::repeat_with(run).take(self.runs).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    }

    fn contended<F: FnMut()>(&self, operation: &(impl Fn() -> F + Sync)) -> f64 {
        self.median_of(|| {
            let start = Barrier::new(THREADS);
            let work = || {
                let _timers = self.runtime.enter();
                let mut operation = operation();
                let batch = self.batch(&mut operation);
                start.wait();
                nanoseconds_of_batches(&mut operation, batch, self.length)
            };
            thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
                let times = threads
                    .into_iter()
                    .map(|thread| thread.join().expect("an operation panicked"));
                times.sum::<f64>() / THREADS as f64
            })
        })
    }

    /// So many operations that reading the clock after them does not show: a tenth of a
    /// millisecond, so that a contended batch of something that parks stays short as well.
    fn batch(&self, operation: &mut impl FnMut()) -> u64 {
        let mut batch = 8;
        loop {
            let started = now();
            for _ in 0..batch {
                operation();
            }
            if started.elapsed() >= Duration::from_micros(100) {
                return batch;
            }
            batch *= 2;
        }
    }
}

/// Nanoseconds per operation of `count` operations, timed once.
pub(crate) fn nanoseconds_of(count: u64, mut operation: impl FnMut()) -> f64 {
    uncounted(|| {
        let started = now();
        for _ in 0..count {
            operation();
        }
        started.elapsed().as_nanos() as f64 / count as f64
    })
}

/// Runs `work` without the cost of counting its allocations.
pub(crate) fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let mut result = None;
    allocation_counter::opt_out(|| result = Some(work()));
    result.expect("it ran")
}

/// The precise clock.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is about real time; the policies are still handed theirs"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn nanoseconds_of_batches(operation: &mut impl FnMut(), batch: u64, length: Duration) -> f64 {
    uncounted(|| {
        let started = now();
        let mut count = 0;
        loop {
            for _ in 0..batch {
                operation();
            }
            count += batch;
            let elapsed = started.elapsed();
            if elapsed >= length {
                return elapsed.as_nanos() as f64 / count as f64;
            }
        }
    })
}

/// Allocations per operation, after a few that may set something up.
fn allocations(operation: &mut impl FnMut()) -> f64 {
    for _ in 0..100 {
        operation();
    }
    let counted = allocation_counter::measure(|| {
        for _ in 0..COUNTED {
            operation();
        }
    });
    counted.count_total as f64 / COUNTED as f64
}

const THREADS: usize = 2;
const COUNTED: u64 = 1_000;
