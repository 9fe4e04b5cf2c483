//! The time that outputs of a grammar may take to look ahead in it. All streams of a weight set wait for it.

use llguidance::{CancellationHandle, Matcher};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Time for each look, microseconds.
const EACH: i64 = 1_000;
/// Time that is saved up for a look, microseconds.
const MAX_SAVED: i64 = 5_000;

/// Time that is left, microseconds; less than 0 after looks that took longer.
pub struct LookAhead(AtomicI64);

impl Default for LookAhead {
    fn default() -> LookAhead {
        LookAhead(AtomicI64::new(MAX_SAVED))
    }
}

impl LookAhead {
    /// Looks ahead with a copy of a parser, unless looks before took longer than they may. Each look that is left out makes up
    /// for some of that. When the time that is left has passed, the copy is cancelled: all that is asked of it fails.
    pub fn run<T>(&self, parser: &Matcher, look: impl FnOnce(Matcher) -> T) -> Option<T> {
        let start = Instant::now();
        let left = self.left();
        let result = (left >= EACH).then(|| {
            let copy = parser.deep_clone().into_cancellable();
            let handle = copy.cancellation_handle().expect("the copy can be cancelled");
            cancel_at(start + Duration::from_micros(left.unsigned_abs()), handle);
            look(copy)
        });
        self.pay(if result.is_some() { start.elapsed() } else { Duration::ZERO });
        result
    }

    fn left(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn pay(&self, time: Duration) {
        let change = EACH - i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 2);
        let update = |left: i64| Some((left + change).min(MAX_SAVED));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }
}

type Due = (Instant, CancellationHandle);

/// Cancels a parser at a time, on a thread of its own. Parsers that are gone by then may be cancelled too.
fn cancel_at(at: Instant, handle: CancellationHandle) {
    static TIMER: LazyLock<mpsc::Sender<Due>> = LazyLock::new(|| {
        let (sender, due) = mpsc::channel();
        // Without the thread looks are not ended, and others make up for their time.
        let _ = thread::Builder::new().name("look-ahead".to_owned()).spawn(move || cancel_due(&due));
        sender
    });
    let _ = TIMER.send((at, handle));
}

fn cancel_due(due: &mpsc::Receiver<Due>) {
    // The times that are left differ by at most MAX_SAVED, so waiting for them in turn is late by no more than that.
    while let Ok((at, handle)) = due.recv() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        handle.cancel();
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::grammar::{Language, Vocabulary};

    fn parser() -> Matcher {
        let tokens = (0..=255u8).map(|byte| vec![byte]).chain([Vec::new()]).collect();
        let vocabulary = Vocabulary::new(tokens, &[false; 257], &[256]).unwrap();
        vocabulary.compile(Language::Lark, r#"start: "abc""#).unwrap().parser
    }

    #[test]
    fn a_look_that_takes_too_long_is_made_up_for_by_those_left_out() {
        let (ahead, parser) = (LookAhead::default(), parser());
        ahead.pay(Duration::from_micros((MAX_SAVED + 20 * EACH) as u64));
        assert_eq!((0..100).take_while(|_| ahead.run(&parser, |_| ()).is_none()).count(), 20);
    }

    #[test]
    fn short_looks_save_up_no_more_than_the_most() {
        let ahead = LookAhead::default();
        (0..1000).for_each(|_| ahead.pay(Duration::ZERO));
        assert_eq!(ahead.left(), MAX_SAVED);
    }

    #[test]
    fn a_look_is_ended_when_the_time_that_is_left_has_passed_and_the_parser_goes_on() {
        let (ahead, mut parser) = (LookAhead::default(), parser());
        let start = Instant::now();
        let bytes = ahead.run(&parser, |mut copy| {
            while !copy.is_cancelled() {
                assert!(start.elapsed() < Duration::from_secs(60), "the look is not ended");
                thread::yield_now();
            }
            copy.compute_ff_bytes()
        });
        assert_eq!(bytes, Some(Vec::new()));
        assert_eq!(parser.compute_ff_bytes(), b"abc");
    }
}
