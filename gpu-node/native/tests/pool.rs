//! Threads: each gets its part, a panic is an error, and the pool lives on.

use copal_native::pool::Pool;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const ROUNDS: usize = if cfg!(miri) { 20 } else { 2_000 };

#[test]
fn every_thread_runs_every_task_once() {
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
        std::thread::sleep(Duration::from_millis(5));
        pool.run(&|part| {
            // Now the caller waits long enough to fall asleep.
            if part == 1 {
                std::thread::sleep(Duration::from_millis(5));
            }
            count.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    }
    assert_eq!(count.load(Ordering::Relaxed), 10);
}

#[test]
fn a_panic_on_any_thread_becomes_an_error_and_the_pool_lives_on() {
    let mut pool = Pool::new(2).unwrap();
    for broken in 0..2 {
        let error = pool.run(&|part| assert!(part != broken, "thread {part} is broken")).unwrap_err();
        assert_eq!(error.message, format!("thread {broken} is broken"));
        pool.run(&|_| ()).unwrap();
    }
}
