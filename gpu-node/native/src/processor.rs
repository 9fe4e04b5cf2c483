//! The processor that a thread runs on, and the time for which it did.
//!
//! On two busy processors Linux often lets a thread that wakes up wait behind the thread that woke it, until the next tick
//! (4 milliseconds at 250 Hz), although the other processor is idle: see `docs/measurements/engine-zen5.md`. The module
//! `scheduling` tells Linux which threads are urgent.

#![allow(unsafe_code)]

use std::time::Duration;

/// The number of the processor that runs the calling thread; `None` where that is not known.
#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) fn current() -> Option<usize> {
    // SAFETY: it takes no arguments and has no preconditions.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// The processor time of the calling thread; differences matter alone. The time since the first call, of whatever thread,
/// where the system does not tell.
#[cfg(all(unix, not(miri)))]
pub(crate) fn thread_time() -> Duration {
    // SAFETY: zeros are a valid time, which the call overwrites.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(any(not(unix), miri))]
pub(crate) fn thread_time() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// Moves the calling thread to another processor that it may run on. Does nothing if there is none.
#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) fn leave(processor: usize) {
    let bytes = size_of::<libc::cpu_set_t>();
    // SAFETY: no processors are a valid set. The call writes at most so many bytes; 0 is the calling thread.
    let allowed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, bytes, &raw mut set) < 0 {
            return;
        }
        set
    };
    let mut others = allowed;
    if processor >= libc::CPU_SETSIZE as usize {
        return;
    }
    // SAFETY: the processor is one of those that a set can have, and the sets have so many bytes. The first call moves
    // the thread, the second one lets it run everywhere again.
    unsafe {
        libc::CPU_CLR(processor, &mut others);
        if libc::CPU_COUNT(&others) > 0 {
            libc::sched_setaffinity(0, bytes, &raw const others);
            libc::sched_setaffinity(0, bytes, &raw const allowed);
        }
    }
}

#[cfg(any(not(target_os = "linux"), miri))]
pub(crate) fn current() -> Option<usize> {
    None
}

#[cfg(any(not(target_os = "linux"), miri))]
pub(crate) fn leave(_processor: usize) {}
