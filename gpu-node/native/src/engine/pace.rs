//! How fast weights are packed while steps run.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// During a step packing rests so many times as long as it has worked, on all its threads together: what it takes
/// from one thread of the step is what all of them wait for. Between steps, while tokens are drawn, it goes on.
const REST: u32 = 5;
/// Longer than a block, shorter than a step: a step is held up by one piece of work at most.
const WORK: Duration = Duration::from_micros(300);
/// How often a resting thread looks whether the step has ended.
const LOOK: Duration = Duration::from_micros(100);

/// Whether a step runs: shared by an engine and the weights that are packed for it.
#[derive(Debug, Default)]
pub struct Pace {
    running: AtomicBool,
}

impl Pace {
    /// A step runs until what this returns is dropped.
    pub(super) fn step(&self) -> RunningStep<'_> {
        self.running.store(true, Ordering::Relaxed);
        RunningStep(self)
    }

    fn runs(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Of one of `threads` threads that pack; it begins to work.
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

/// A thread that packs.
pub(super) struct Packer<'a> {
    pace: &'a Pace,
    rest: u32,
    since: Cell<Instant>,
}

impl Packer<'_> {
    /// To be called between pieces of work: rests where it is time to.
    pub(super) fn pause(&self) {
        let worked = self.since.get().elapsed();
        if self.pace.runs() {
            if worked < WORK {
                return;
            }
            // What is more was not work: another thread had the processor.
            let end = Instant::now() + worked.min(2 * WORK) * self.rest;
            while self.pace.runs() && Instant::now() < end {
                thread::sleep(LOOK);
            }
        }
        self.since.set(Instant::now());
    }
}
