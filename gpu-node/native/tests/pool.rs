//! The pool: every thread gets its part, and after a panic, which becomes an error, the pool still works.

use copal_native::pool::Pool;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const ROUNDS: usize = if cfg!(miri) { 20 } else { 2_000 };

#[test]
fn every_part_of_every_task_runs_once() {
    let mut pool = Pool::new(3).unwrap();
    assert_eq!(pool.threads(), 3);
    let counts = [const { AtomicUsize::new(0) }; 3];
    for round in 1..=ROUNDS {
        pool.run(&|part| {
            counts[part].fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == round));
    }
}

#[test]
fn threads_that_fell_asleep_wake_up() {
    let mut pool = Pool::new(2).unwrap();
    let count = AtomicUsize::new(0);
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(5));
        let both = Barrier::new(2);
        pool.run(&|part| {
            both.wait();
            // Now the caller waits so long that it falls asleep.
            if part == 1 {
                thread::sleep(Duration::from_millis(5));
            }
            count.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    }
    assert_eq!(count.load(Ordering::Relaxed), 10);
}

#[test]
fn the_caller_runs_the_parts_of_threads_that_have_not_started() {
    let mut pool = Pool::new(16).unwrap();
    let caller = thread::current().id();
    let by_caller = AtomicUsize::new(0);
    let count = AtomicUsize::new(0);
    // On a machine with many idle processors all threads may wake in time, even in several rounds.
    for round in 1..=500 {
        // The threads are asleep, and waking so many takes longer than running their parts.
        thread::sleep(Duration::from_millis(20));
        pool.run(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
            by_caller.fetch_add(usize::from(thread::current().id() == caller), Ordering::Relaxed);
        })
        .unwrap();
        assert_eq!(count.load(Ordering::Relaxed), round * 16);
        // The caller's own part counts once per round.
        if by_caller.load(Ordering::Relaxed) > round {
            return;
        }
    }
    panic!("the caller ran only its own parts");
}

#[test]
fn a_panic_on_any_thread_becomes_an_error_and_the_pool_still_works() {
    let mut pool = Pool::new(2).unwrap();
    for broken in 0..2 {
        let error = pool.run(&|part| assert!(part != broken, "thread {part} is broken")).unwrap_err();
        assert_eq!(error.message, format!("thread {broken} is broken"));
        pool.run(&|_| ()).unwrap();
    }
}
