//! A fixed number of threads that work on one task at a time.

use crate::processor;
use crate::scheduling::be_urgent;
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Iterations of a spin before a thread sleeps: some tens of microseconds, a little more than the gap between two
/// multiplications of a decode step.
const SPINS: usize = 2_000;

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// A fixed number of threads, including the caller's. Running a task allocates nothing.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// A task panicked; the pool can be used on.
#[derive(Debug)]
pub struct Panicked {
    /// The message of the panic.
    pub message: String,
}

struct Shared {
    /// Counts the tasks. A change signals that a task starts; [`STOP`] ends the threads.
    turn: AtomicUsize,
    /// For each part, the last task of which it was started, by its thread or by the caller in its place.
    started: Vec<AtomicUsize>,
    task: Mutex<Option<&'static Task<'static>>>,
    /// At first the threads that have not started yet; then the parts of the task that have not ended.
    running: AtomicUsize,
    sleeping: AtomicUsize,
    caller_sleeps: AtomicBool,
    /// The processor of the caller when the task started; [`UNKNOWN`] where that is not known.
    caller_processor: AtomicUsize,
    panic: Mutex<Option<Panicked>>,
    gate: Mutex<()>,
    start: Condvar,
    end: Condvar,
}

const STOP: usize = usize::MAX;
const UNKNOWN: usize = usize::MAX;

impl Pool {
    /// Starts `threads - 1` threads, named `copal-1` and so on, and waits until they run, so that no task waits for a
    /// thread to start. The caller's thread always works, also if `threads` is 0.
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            turn: AtomicUsize::new(0),
            started: (0..threads).map(|_| AtomicUsize::new(0)).collect(),
            task: Mutex::new(None),
            running: AtomicUsize::new(threads - 1),
            sleeping: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            caller_processor: AtomicUsize::new(UNKNOWN),
            panic: Mutex::new(None),
            gate: Mutex::new(()),
            start: Condvar::new(),
            end: Condvar::new(),
        });
        let mut pool = Pool { shared, workers: Vec::new() };
        for part in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new().name(format!("copal-{part}"));
            pool.workers.push(thread.spawn(move || shared.work(part))?);
        }
        pool.shared.await_end();
        Ok(pool)
    }

    /// The number of threads that work on a task.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task` once for every thread, with the numbers from 0 up, and returns when all calls have returned. If calls
    /// panic, the first panic becomes the error.
    ///
    /// When its own part is done, the caller does not wait for threads that have not started theirs, because other
    /// programs may have their processors: it runs those parts itself. Before that it lets a thread run that waits for the
    /// caller's processor, which then moves to another one.
    pub fn run(&mut self, task: &Task<'_>) -> Result<(), Panicked> {
        let shared = &*self.shared;
        let workers = self.workers.len();
        let turn = if workers > 0 { shared.begin(task, workers) } else { 0 };
        let own = catch_unwind(AssertUnwindSafe(|| task(0)));
        if workers > 0 {
            for part in 1..=workers {
                if !shared.is_started(part, turn) {
                    thread::yield_now();
                }
                if shared.claim(part, turn) {
                    shared.run_part(task, part);
                }
            }
            shared.await_end();
        }
        let others = lock(&shared.panic).take();
        match own {
            Err(panic) => Err(Panicked::from(panic)),
            Ok(()) => others.map_or(Ok(()), Err),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.turn.store(STOP, Ordering::SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // A worker cannot panic outside of a task.
            let _ = worker.join();
        }
    }
}

impl Shared {
    #[allow(unsafe_code)]
    fn begin(&self, task: &Task<'_>, workers: usize) -> usize {
        // SAFETY: only the lifetime changes. `run` does not return before every part was counted off in `running`,
        // which is the last use of the task. A worker reads the task only after it has claimed a part of it. `run`
        // borrows the pool exclusively, so there is one task at a time.
        let task = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        *lock(&self.task) = Some(task);
        self.caller_processor.store(processor::current().unwrap_or(UNKNOWN), Ordering::SeqCst);
        self.running.store(workers, Ordering::SeqCst);
        let turn = self.turn.fetch_add(1, Ordering::SeqCst) + 1;
        if self.sleeping.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
        turn
    }

    fn is_started(&self, part: usize, turn: usize) -> bool {
        self.started[part].load(Ordering::SeqCst) == turn
    }

    /// Moves the calling thread away from the processor of the caller of the task.
    fn leave_caller(&self) {
        if let Some(own) = processor::current()
            && own == self.caller_processor.load(Ordering::SeqCst)
        {
            processor::leave(own);
        }
    }

    /// Claims a part of a task. Succeeds once for each part, and not after the task has ended.
    fn claim(&self, part: usize, turn: usize) -> bool {
        // Every part of every task is started, so the last one started belongs to the task before.
        self.started[part].compare_exchange(turn - 1, turn, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Runs a claimed part and counts it off.
    fn run_part(&self, task: &Task<'_>, part: usize) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(part))) {
            lock(&self.panic).get_or_insert_with(|| Panicked::from(panic));
        }
        self.count_off();
    }

    fn count_off(&self) {
        let last = self.running.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.caller_sleeps.load(Ordering::SeqCst) {
            let _gate = lock(&self.gate);
            self.end.notify_all();
        }
    }

    fn wake(&self) {
        let _gate = lock(&self.gate);
        self.start.notify_all();
    }

    fn await_end(&self) {
        if !spin_until(|| self.running.load(Ordering::Acquire) == 0) {
            let mut gate = lock(&self.gate);
            self.caller_sleeps.store(true, Ordering::SeqCst);
            while self.running.load(Ordering::SeqCst) > 0 {
                gate = self.end.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            self.caller_sleeps.store(false, Ordering::SeqCst);
        }
        *lock(&self.task) = None;
    }

    fn work(&self, part: usize) {
        be_urgent();
        self.count_off();
        let mut seen = 0;
        loop {
            seen = self.await_turn(seen);
            if seen == STOP {
                return;
            }
            self.leave_caller();
            if self.claim(part, seen) {
                let task = *lock(&self.task);
                self.run_part(task.expect("the task is set until all of its parts have ended"), part);
            }
        }
    }

    fn await_turn(&self, seen: usize) -> usize {
        if !spin_until(|| self.turn.load(Ordering::Acquire) != seen) {
            let mut gate = lock(&self.gate);
            self.sleeping.fetch_add(1, Ordering::SeqCst);
            while self.turn.load(Ordering::SeqCst) == seen {
                gate = self.start.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleeping.fetch_sub(1, Ordering::SeqCst);
        }
        self.turn.load(Ordering::SeqCst)
    }
}

impl From<Box<dyn Any + Send>> for Panicked {
    fn from(panic: Box<dyn Any + Send>) -> Panicked {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Panicked { message: text.unwrap_or_else(|| "a panic without a message".to_owned()) }
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a kernel thread panicked: {}", self.message)
    }
}

impl std::error::Error for Panicked {}

/// Spins until `is_met` is true, for a limited time; returns whether it became true.
fn spin_until(is_met: impl Fn() -> bool) -> bool {
    for _ in 0..SPINS {
        if is_met() {
            return true;
        }
        std::hint::spin_loop();
    }
    is_met()
}

/// Takes a lock, also if a thread panicked while it held it: no lock here is held while code of a task runs.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_leaves_the_processor_of_the_caller_and_may_run_everywhere_afterwards() {
        let processors = thread::available_parallelism().unwrap();
        let shared = Arc::clone(&Pool::new(1).unwrap().shared);
        let left = || {
            let caller = processor::current().unwrap();
            shared.caller_processor.store(caller, Ordering::SeqCst);
            shared.leave_caller();
            processor::current() != Some(caller)
        };
        // The system may move it back at any time.
        assert_eq!((0..100).any(|_| left()), processors.get() > 1);
        assert_eq!(thread::available_parallelism().unwrap(), processors);
    }
}
