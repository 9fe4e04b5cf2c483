//! Slices that threads share by ranges.

use std::marker::PhantomData;
use std::ops::Range;

/// A slice that several threads write, each a range of its own.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a shared reference gives out ranges of `T` that other threads write, which `T: Send` allows; the
// callers of `range` guarantee that ranges do not overlap.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Disjoint<'a, T> {
        Disjoint { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// Returns a range of the slice. Panics if it is out of bounds.
    ///
    /// # Safety
    ///
    /// No two ranges that are alive at the same time overlap.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn range(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length);
        // SAFETY: the range is within the slice, as asserted, and nothing else refers to it, as the caller
        // guarantees.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
