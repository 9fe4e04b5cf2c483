//! Slows down the packing of weights while steps run.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// During a step, packing rests this many times as long as it has worked, counted over all its threads: time that it takes
/// from one thread of the step is time that all threads of the step wait. Between steps, while tokens are drawn, it does
/// not rest.
const REST: u32 = 5;
/// Work between two rests. Longer than packing a block, shorter than a step, so that a piece of work delays at most one step.
const WORK: Duration = Duration::from_micros(300);
/// How often a resting thread checks whether the step has ended.
const POLL: Duration = Duration::from_micros(100);

/// Whether a step is running. Shared by an engine and the threads that pack weights for it.
#[derive(Debug, Default)]
pub struct Pace {
    running: AtomicBool,
}

impl Pace {
    /// Marks a step as running until the value that this returns is dropped.
    pub(super) fn step(&self) -> RunningStep<'_> {
        self.running.store(true, Ordering::Relaxed);
        RunningStep(self)
    }

    fn is_step_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// For one of `threads` threads that pack; it starts to work now.
    pub(super) fn packer(&self, threads: usize) -> Packer<'_> {
        Packer { pace: self, rest: REST * threads as u32, since: Cell::new(Instant::now()) }
    }
}

/// See [`Pace::step`].
pub(super) struct RunningStep<'a>(&'a Pace);

impl Drop for RunningStep<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Relaxed);
    }
}

/// The clock of a thread that packs.
pub(super) struct Packer<'a> {
    pace: &'a Pace,
    rest: u32,
    since: Cell<Instant>,
}

impl Packer<'_> {
    /// Call it between pieces of work: it rests when a rest is due.
    pub(super) fn pause(&self) {
        let worked = self.since.get().elapsed();
        if self.pace.is_step_running() {
            if worked < WORK {
                return;
            }
            // Longer than that was not work: another thread had the processor.
            let end = Instant::now() + worked.min(2 * WORK) * self.rest;
            while self.pace.is_step_running() && Instant::now() < end {
                thread::sleep(POLL);
            }
        }
        self.since.set(Instant::now());
    }
}
