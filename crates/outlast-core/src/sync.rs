//! The atomics and locks, swapped for loom's under `--cfg loom`, so that the model checker runs
//! the code that ships.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

/// Locks `mutex`; a panic of another holder does not spread, because nothing in this crate calls
/// foreign code or stops half-way while it holds a lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A value on cache lines of its own: 128 bytes, because x86 prefetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// How many copies a striped counter has. Eight keep the memory of an idle upstream small and
/// already make a collision of two busy threads unlikely on the machines one process fills.
pub(crate) const STRIPES: usize = if cfg!(loom) { 2 } else { 8 };

/// The stripe of the current thread. Where a thread counts never changes what is decided: every
/// decision reads the sum of all stripes.
#[inline]
pub(crate) fn stripe() -> usize {
    #[cfg(loom)]
    {
        // Loom numbers its threads anew in each execution.
        0
    }
    #[cfg(not(loom))]
    {
        use std::cell::Cell;
        static THREADS: AtomicU32 = AtomicU32::new(0);
        const UNSET: u32 = u32::MAX;
        thread_local! {
            static STRIPE: Cell<u32> = const { Cell::new(UNSET) };
        }
        STRIPE.with(|stripe| {
            if stripe.get() == UNSET {
                stripe.set(THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES as u32);
            }
            stripe.get() as usize
        })
    }
}
