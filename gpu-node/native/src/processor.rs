//! The processor that a thread runs on.
//!
//! On two busy processors Linux often lets a thread that wakes up wait behind the thread that woke it, until the next tick
//! (4 milliseconds at 250 Hz), although the other processor is idle: see `docs/measurements/engine-zen5.md`.

#![allow(unsafe_code)]

/// The number of the processor that runs the calling thread; `None` where that is not known.
#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) fn current() -> Option<usize> {
    unsafe extern "C" {
        fn sched_getcpu() -> i32;
    }
    // SAFETY: it takes no arguments and has no preconditions.
    usize::try_from(unsafe { sched_getcpu() }).ok()
}

/// Moves the calling thread to another processor that it may run on. Does nothing if there is none.
#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) fn leave(processor: usize) {
    /// A bit for each of 1024 processors, as in `cpu_set_t`.
    type Set = [u64; 16];
    unsafe extern "C" {
        fn sched_getaffinity(thread: i32, bytes: usize, set: *mut Set) -> i32;
        fn sched_setaffinity(thread: i32, bytes: usize, set: *const Set) -> i32;
    }
    let bytes = size_of::<Set>();
    let mut allowed: Set = [0; 16];
    // SAFETY: 0 is the calling thread, and `allowed` has so many bytes.
    if processor >= 8 * bytes || unsafe { sched_getaffinity(0, bytes, &mut allowed) } < 0 {
        return;
    }
    let mut others = allowed;
    others[processor / 64] &= !(1 << (processor % 64));
    if others != [0; 16] {
        // SAFETY: as above. The first call moves the thread, the second one lets it run everywhere again.
        unsafe {
            sched_setaffinity(0, bytes, &others);
            sched_setaffinity(0, bytes, &allowed);
        }
    }
}

#[cfg(any(not(target_os = "linux"), miri))]
pub(crate) fn current() -> Option<usize> {
    None
}

#[cfg(any(not(target_os = "linux"), miri))]
pub(crate) fn leave(_processor: usize) {}
