//! Tells Linux which threads are urgent.
//!
//! Its scheduler (EEVDF) interrupts a thread for another one that wakes up only by certain rules; else the other one waits for
//! the next tick, 4 milliseconds at 250 Hz, which is longer than a step of a small model. Threads of steps ask for short
//! slices (`sched_runtime` of `sched_setattr(2)`, since Linux 6.12): then they interrupt threads with longer ones. Threads
//! that pack weights interrupt nobody by waking up (`SCHED_BATCH`); they keep the usual slices, because they yield now and
//! then: with slices of 100 milliseconds a thread that yields got 0.6 % of a processor beside a busy one.
//! Measured in `docs/measurements/engine-zen5.md`, *Swaps*.
//!
//! Nothing happens where the system does not know or allow this: only waits are longer then.

#![allow(unsafe_code)]

/// The slices of urgent threads, nanoseconds: the shortest that Linux grants.
#[cfg(all(target_os = "linux", not(miri)))]
const URGENT_SLICE: u64 = 100_000;

/// Gives the calling thread short slices, so that it interrupts threads with longer ones when it wakes up. Threads and
/// processes that it starts do not inherit them. Does nothing in a niced process.
#[cfg(all(target_os = "linux", not(miri)))]
pub fn be_urgent() {
    if let Some(mut attributes) = attributes()
        && attributes.sched_policy == libc::SCHED_OTHER as u32
        && attributes.sched_nice <= 0
    {
        attributes.sched_runtime = URGENT_SLICE;
        attributes.sched_flags |= libc::SCHED_FLAG_RESET_ON_FORK as u64;
        set(&attributes);
    }
}

/// Lets the calling thread, and threads that it starts, interrupt nobody, until the value that this returns is dropped.
#[cfg(all(target_os = "linux", not(miri)))]
pub fn be_patient() -> Patience {
    let before = attributes();
    if let Some(mut attributes) = before
        && attributes.sched_policy == libc::SCHED_OTHER as u32
    {
        attributes.sched_policy = libc::SCHED_BATCH as u32;
        set(&attributes);
    }
    Patience { before }
}

/// See [`be_patient`].
#[cfg(all(target_os = "linux", not(miri)))]
pub struct Patience {
    before: Option<libc::sched_attr>,
}

#[cfg(all(target_os = "linux", not(miri)))]
impl Drop for Patience {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            set(before);
        }
    }
}

/// The attributes of the calling thread.
#[cfg(all(target_os = "linux", not(miri)))]
fn attributes() -> Option<libc::sched_attr> {
    let bytes = size_of::<libc::sched_attr>() as u32;
    // SAFETY: zeros are valid attributes. The call writes at most so many bytes to them; 0 is the calling thread.
    unsafe {
        let mut attributes: libc::sched_attr = std::mem::zeroed();
        let result = libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, bytes, 0_u32);
        (result == 0).then_some(attributes)
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn set(attributes: &libc::sched_attr) {
    // SAFETY: the call reads as many bytes as `attributes` says that it has; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const *attributes, 0_u32) };
}

#[cfg(any(not(target_os = "linux"), miri))]
pub fn be_urgent() {}

#[cfg(any(not(target_os = "linux"), miri))]
pub fn be_patient() -> Patience {
    Patience
}

/// See [`be_patient`].
#[cfg(any(not(target_os = "linux"), miri))]
pub struct Patience;

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;
    use std::thread;

    fn on_a_thread(test: impl FnOnce() + Send + 'static) {
        thread::spawn(test).join().unwrap();
    }

    /// Slices are zero before Linux 6.12.
    fn slice_if_known(before: u64, slice: u64) -> u64 {
        if before == 0 { 0 } else { slice }
    }

    #[test]
    fn a_patient_thread_and_those_that_it_starts_are_batch_work_until_it_ends() {
        on_a_thread(|| {
            let found =
                || attributes().map(|found| (found.sched_policy as i32, found.sched_runtime)).unwrap();
            let before = found();
            let patient = (libc::SCHED_BATCH, before.1);
            let patience = be_patient();
            assert_eq!(found(), patient);
            assert_eq!(thread::spawn(found).join().unwrap(), patient);
            drop(patience);
            assert_eq!(found(), before);
        });
    }

    #[test]
    fn an_urgent_thread_has_short_slices_which_others_do_not_inherit() {
        on_a_thread(|| {
            let slice = || attributes().unwrap().sched_runtime;
            let before = slice();
            be_urgent();
            assert_eq!(slice(), slice_if_known(before, URGENT_SLICE));
            assert_eq!(thread::spawn(slice).join().unwrap(), before, "what it starts is not urgent");
        });
    }

    #[test]
    fn a_niced_thread_keeps_its_slices() {
        on_a_thread(|| {
            let before = attributes().unwrap();
            // SAFETY: 0 is the calling thread.
            assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 5) }, 0);
            be_urgent();
            let after = attributes().unwrap();
            assert_eq!((after.sched_nice, after.sched_runtime), (5, before.sched_runtime));
        });
    }
}
