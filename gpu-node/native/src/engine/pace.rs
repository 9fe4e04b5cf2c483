//! Slows down the packing and the trial of weights while steps are requested, run, or reported.

use crate::processor::thread_time;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Beside a step, a packing thread rests for this many times as long as it has worked, times the number of packing threads:
/// time that it takes from one thread of the step is time that all threads of the step wait.
const REST: u32 = 2;
/// Work between two rests. Longer than packing a block, shorter than a step, so that a piece of work delays at most one step.
const WORK: Duration = Duration::from_micros(300);

/// Whether a step is under way. Shared by an engine and the threads that pack weights for it.
#[derive(Debug, Default)]
pub struct Pace {
    steps: AtomicUsize,
}

impl Pace {
    /// A step is under way until the value that this returns is dropped. Call it when the step is requested, and drop the
    /// value when its results are on their way: threads that pack also hold up the thread that is about to begin a step,
    /// and the one that is about to report it.
    pub fn step(self: &Arc<Pace>) -> StepUnderWay {
        self.steps.fetch_add(1, Ordering::SeqCst);
        StepUnderWay(Arc::clone(self))
    }

    fn is_step_under_way(&self) -> bool {
        self.steps.load(Ordering::SeqCst) > 0
    }

    /// For the calling thread, one of `threads` that pack; it starts to work now.
    pub(super) fn packer(self: &Arc<Pace>, threads: usize) -> Packer {
        Packer { pace: Arc::clone(self), rest: REST * threads as u32, since: Mutex::new(thread_time()) }
    }
}

/// See [`Pace::step`].
#[derive(Debug)]
pub struct StepUnderWay(Arc<Pace>);

impl Drop for StepUnderWay {
    fn drop(&mut self) {
        self.0.steps.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The clock of a thread that packs or tries weights.
pub(super) struct Packer {
    pace: Arc<Pace>,
    rest: u32,
    /// The thread's [`thread_time`] at the end of its last rest.
    since: Mutex<Duration>,
}

impl Packer {
    /// Call it on its thread between pieces of work: it rests when a rest is due.
    ///
    /// Work is what the thread has used of a processor: neither waiting for one, nor less than a new page of memory takes. That
    /// can be milliseconds in a virtual machine whose host takes unused memory back.
    ///
    /// A rest does not end with the step, because the thread of the step would have to wake up the threads that rest, just
    /// when it wakes up the event loop. Between steps, when the event loop draws tokens, threads let others run.
    pub(super) fn pause(&self) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let worked = thread_time().saturating_sub(*since);
        if worked < WORK {
            return;
        }
        if self.pace.is_step_under_way() {
            thread::sleep(worked * self.rest);
        } else {
            thread::yield_now();
        }
        *since = thread_time();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// The time for which a thread rests that has worked for [`WORK`] or more, and the time that it has worked.
    fn paused(pace: &Arc<Pace>, threads: usize) -> (Duration, Duration) {
        let packer = pace.packer(threads);
        let before = thread_time();
        while thread_time() - before < WORK {}
        let worked = thread_time() - before;
        let start = Instant::now();
        packer.pause();
        (start.elapsed(), worked)
    }

    #[test]
    fn who_has_worked_beside_a_step_rests_in_proportion() {
        let pace = Arc::new(Pace::default());
        let step = pace.step();
        let (rested, worked) = paused(&pace, 20);
        assert!(rested >= worked * REST * 20);
        drop(step);
        let (rested, _) = paused(&pace, 1_000_000);
        assert!(rested < Duration::from_secs(60), "no step was under way");
    }

    #[test]
    fn who_has_waited_beside_a_step_does_not_rest() {
        let pace = Arc::new(Pace::default());
        let _step = pace.step();
        let packer = pace.packer(1_000_000);
        thread::sleep(2 * WORK);
        let start = Instant::now();
        packer.pause();
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
