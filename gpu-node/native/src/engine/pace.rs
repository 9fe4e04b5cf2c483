//! Slows down the packing and the trial of weights while steps run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// During a step, packing rests this many times as long as it has worked, counted over all its threads: time that it takes
/// from one thread of the step is time that all threads of the step wait. Between steps, while tokens are drawn, it does
/// not rest.
const REST: u32 = 5;
/// Work between two rests. Longer than packing a block, shorter than a step, so that a piece of work delays at most one step.
const WORK: Duration = Duration::from_micros(300);

/// Whether a step is running. Shared by an engine and the threads that pack weights for it.
#[derive(Debug, Default)]
pub struct Pace {
    running: AtomicBool,
    /// Threads that rest until the step ends.
    resting: AtomicUsize,
    gate: Mutex<()>,
    ended: Condvar,
}

impl Pace {
    /// Marks a step as running until the value that this returns is dropped.
    pub(super) fn step(&self) -> RunningStep<'_> {
        self.running.store(true, Ordering::SeqCst);
        RunningStep(self)
    }

    fn is_step_running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }

    /// For one of `threads` threads that pack; it starts to work now.
    pub(super) fn packer(self: &Arc<Pace>, threads: usize) -> Packer {
        Packer { pace: Arc::clone(self), rest: REST * threads as u32, since: Mutex::new(Instant::now()) }
    }

    /// Waits until no step runs, but no longer than until `end`.
    ///
    /// It sleeps once instead of looking again and again: a processor on which a thread wakes up every now and then is
    /// busy in the eyes of the system, which then leaves two threads of a step on the other one.
    fn rest_until(&self, end: Instant) {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.resting.fetch_add(1, Ordering::SeqCst);
        while self.is_step_running()
            && let Some(left) = end.checked_duration_since(Instant::now())
        {
            gate = self.ended.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.resting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// See [`Pace::step`].
pub(super) struct RunningStep<'a>(&'a Pace);

impl Drop for RunningStep<'_> {
    fn drop(&mut self) {
        let Pace { running, resting, gate, ended } = self.0;
        running.store(false, Ordering::SeqCst);
        if resting.load(Ordering::SeqCst) > 0 {
            let _gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            ended.notify_all();
        }
    }
}

/// The clock of a thread that packs or tries weights.
pub(super) struct Packer {
    pace: Arc<Pace>,
    rest: u32,
    since: Mutex<Instant>,
}

impl Packer {
    /// Call it between pieces of work: it rests when a rest is due.
    pub(super) fn pause(&self) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let worked = since.elapsed();
        if self.pace.is_step_running() {
            if worked < WORK {
                return;
            }
            // Longer than that was not work: another thread had the processor.
            self.pace.rest_until(Instant::now() + worked.min(2 * WORK) * self.rest);
        }
        *since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn who_has_worked_beside_a_step_rests_until_it_ends() {
        let pace = Arc::new(Pace::default());
        let step = pace.step();
        let packer = pace.packer(1_000_000);
        thread::sleep(2 * WORK);
        let resting = thread::spawn(move || packer.pause());
        while pace.resting.load(Ordering::SeqCst) == 0 {
            assert!(!resting.is_finished(), "it did not rest");
            thread::yield_now();
        }
        drop(step);
        resting.join().unwrap();
    }
}
