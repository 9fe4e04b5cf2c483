//! The time that outputs of a grammar may take to look ahead in it. All streams of a weight set wait for it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Time for each look, microseconds.
const EACH: i64 = 1_000;
/// Time that is saved up for a look, microseconds.
const MAX_SAVED: i64 = 50_000;

/// Time that is left, microseconds; less than 0 after looks that took longer.
pub struct LookAhead(AtomicI64);

/// When a look should end.
pub struct Deadline(Instant);

impl Default for LookAhead {
    fn default() -> LookAhead {
        LookAhead(AtomicI64::new(MAX_SAVED))
    }
}

impl LookAhead {
    /// Looks ahead, unless looks before took longer than they may. Each look that is left out makes up for some of that.
    pub fn run<T>(&self, look: impl FnOnce(Deadline) -> T) -> Option<T> {
        let start = Instant::now();
        let left = u64::try_from(self.left()).ok().filter(|&left| left > 0);
        let result = left.map(|left| look(Deadline(start + Duration::from_micros(left))));
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

impl Deadline {
    pub fn is_past(&self) -> bool {
        Instant::now() >= self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_takes_too_long_is_made_up_for_by_those_left_out() {
        let ahead = LookAhead::default();
        ahead.pay(Duration::from_micros((MAX_SAVED + 20 * EACH) as u64));
        assert_eq!((0..100).take_while(|_| ahead.run(|_| ()).is_none()).count(), 20);
    }

    #[test]
    fn short_looks_save_up_no_more_than_the_most() {
        let ahead = LookAhead::default();
        (0..1000).for_each(|_| ahead.pay(Duration::ZERO));
        assert_eq!(ahead.left(), MAX_SAVED);
    }

    #[test]
    fn a_look_should_end_when_the_time_that_is_left_has_passed() {
        assert!(Deadline(Instant::now()).is_past());
        assert!(!Deadline(Instant::now() + Duration::from_secs(3600)).is_past());
    }
}
