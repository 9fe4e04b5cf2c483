//! How fast weights are packed while steps run.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Packing rests so many times as long as it has worked, on all its threads together, while steps run: what it
/// takes from one of them is what all of them wait for.
const REST: u32 = 4;
/// Longer than a block, shorter than a step: a step is held up by one piece of work at most.
const WORK: Duration = Duration::from_micros(300);
/// Steps follow one another with less between them; after this long none is running.
const IDLE: Duration = Duration::from_millis(20);

/// Whether steps run: shared by an engine and the weights that are packed for it.
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    running: AtomicBool,
    /// When the last step ended, in nanoseconds from the start.
    ended: AtomicU64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { start: Instant::now(), running: AtomicBool::new(false), ended: AtomicU64::new(0) }
    }
}

impl Pace {
    /// A step runs until what this returns is dropped.
    pub(super) fn step(&self) -> RunningStep<'_> {
        self.running.store(true, Ordering::Relaxed);
        RunningStep(self)
    }

    fn is_idle(&self) -> bool {
        let ended = Duration::from_nanos(self.ended.load(Ordering::Relaxed));
        !self.running.load(Ordering::Relaxed) && self.start.elapsed().saturating_sub(ended) > IDLE
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
        let now = u64::try_from(self.0.start.elapsed().as_nanos());
        self.0.ended.store(now.unwrap_or(u64::MAX), Ordering::Relaxed);
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
        if worked < WORK {
            return;
        }
        if !self.pace.is_idle() {
            // What is more was not work: another thread had the processor.
            thread::sleep(worked.min(2 * WORK) * self.rest);
        }
        self.since.set(Instant::now());
    }
}
