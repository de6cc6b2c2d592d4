//! Runs of candidates, on several threads.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Score;

/// Runs candidates with seeds, and tells how it went in the same order. `done` is told when one is
/// done, by any thread.
///
/// # Errors
/// The error of the first run that has one; the others are given up then.
pub fn measure<E: Send>(
    jobs: &[(usize, u64)],
    threads: NonZeroUsize,
    run: &(dyn Fn(usize, u64) -> Result<Score, E> + Sync),
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Score>, E> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let mut empty = Vec::new();
    empty.resize_with(jobs.len(), || None);
    let results = Mutex::new(empty);
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((candidate, seed)) = jobs.get(number) else {
                break;
            };
            let result = run(*candidate, *seed);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            results.lock().expect("nobody panics with them")[number] = Some(result);
            done();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get().min(jobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    let results = results.into_inner().expect("nobody panics with them");
    results.into_iter().flatten().collect()
}
